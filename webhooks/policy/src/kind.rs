//! Lists the kinds that policies judge. Each rule says which of them it judges.

use gatehouse_inventory::Suspension;

/// A kind that policies judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is the kind of its name")]
pub enum Kind {
    Bucket,
    ExternalArtifact,
    GitRepository,
    HelmChart,
    HelmRepository,
    OciRepository,
    ArtifactGenerator,
    Kustomization,
    HelmRelease,
    Alert,
    Provider,
    Receiver,
    ImagePolicy,
    ImageRepository,
    ImageUpdateAutomation,
    FluxInstance,
    ResourceSet,
    ResourceSetInputProvider,
    /// Of Agones.
    Fleet,
    /// Of Agones.
    GameServer,
    /// Of Agones.
    GameServerSet,
    /// Of Agones.
    FleetAutoscaler,
    /// GameServerSet of OpenKruiseGame.
    KruiseGameServerSet,
}

/// Every kind that policies judge.
pub const GOVERNED: &[Kind] = &[
    Kind::Bucket,
    Kind::ExternalArtifact,
    Kind::GitRepository,
    Kind::HelmChart,
    Kind::HelmRepository,
    Kind::OciRepository,
    Kind::ArtifactGenerator,
    Kind::Kustomization,
    Kind::HelmRelease,
    Kind::Alert,
    Kind::Provider,
    Kind::Receiver,
    Kind::ImagePolicy,
    Kind::ImageRepository,
    Kind::ImageUpdateAutomation,
    Kind::FluxInstance,
    Kind::ResourceSet,
    Kind::ResourceSetInputProvider,
    Kind::Fleet,
    Kind::GameServer,
    Kind::GameServerSet,
    Kind::FleetAutoscaler,
    Kind::KruiseGameServerSet,
];

const SOURCE: &str = "source.toolkit.fluxcd.io";
const NOTIFICATION: &str = "notification.toolkit.fluxcd.io";
const IMAGE: &str = "image.toolkit.fluxcd.io";
const OPERATOR: &str = "fluxcd.controlplane.io";
const AGONES: &str = "agones.dev";

impl Kind {
    /// The kind of a resource (plural name), if policies judge it.
    pub fn of_resource(group: &str, resource: &str) -> Option<Self> {
        GOVERNED.iter().copied().find(|kind| kind.resource() == resource && kind.group() == group)
    }

    /// The kind of a manifest, if policies judge it.
    pub fn of_kind(group: &str, name: &str) -> Option<Self> {
        GOVERNED.iter().copied().find(|kind| kind.name() == name && kind.group() == group)
    }

    /// Its API group.
    pub fn group(self) -> &'static str {
        self.names().0
    }

    /// Its name, as in `kind`.
    pub fn name(self) -> &'static str {
        self.names().1
    }

    /// The plural name of its resource.
    pub fn resource(self) -> &'static str {
        self.names().2
    }

    /// Whether one of Flux's controllers, or the Flux operator, reconciles it.
    pub fn is_flux(self) -> bool {
        !matches!(
            self,
            Self::Fleet
                | Self::GameServer
                | Self::GameServerSet
                | Self::FleetAutoscaler
                | Self::KruiseGameServerSet
        )
    }

    /// How its controller is suspended.
    pub fn suspension(self) -> Suspension {
        if self.is_flux() { Suspension::of(self.group(), self.name()) } else { Suspension::Never }
    }

    /// Whether `spec.replicas` is its number of servers: with none, it does nothing.
    pub fn has_replicas(self) -> bool {
        matches!(self, Self::Fleet | Self::GameServerSet | Self::KruiseGameServerSet)
    }

    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Bucket => (SOURCE, "Bucket", "buckets"),
            Self::ExternalArtifact => (SOURCE, "ExternalArtifact", "externalartifacts"),
            Self::GitRepository => (SOURCE, "GitRepository", "gitrepositories"),
            Self::HelmChart => (SOURCE, "HelmChart", "helmcharts"),
            Self::HelmRepository => (SOURCE, "HelmRepository", "helmrepositories"),
            Self::OciRepository => (SOURCE, "OCIRepository", "ocirepositories"),
            Self::ArtifactGenerator => {
                ("source.extensions.fluxcd.io", "ArtifactGenerator", "artifactgenerators")
            }
            Self::Kustomization => ("kustomize.toolkit.fluxcd.io", "Kustomization", "kustomizations"),
            Self::HelmRelease => ("helm.toolkit.fluxcd.io", "HelmRelease", "helmreleases"),
            Self::Alert => (NOTIFICATION, "Alert", "alerts"),
            Self::Provider => (NOTIFICATION, "Provider", "providers"),
            Self::Receiver => (NOTIFICATION, "Receiver", "receivers"),
            Self::ImagePolicy => (IMAGE, "ImagePolicy", "imagepolicies"),
            Self::ImageRepository => (IMAGE, "ImageRepository", "imagerepositories"),
            Self::ImageUpdateAutomation => (IMAGE, "ImageUpdateAutomation", "imageupdateautomations"),
            Self::FluxInstance => (OPERATOR, "FluxInstance", "fluxinstances"),
            Self::ResourceSet => (OPERATOR, "ResourceSet", "resourcesets"),
            Self::ResourceSetInputProvider => {
                (OPERATOR, "ResourceSetInputProvider", "resourcesetinputproviders")
            }
            Self::Fleet => (AGONES, "Fleet", "fleets"),
            Self::GameServer => (AGONES, "GameServer", "gameservers"),
            Self::GameServerSet => (AGONES, "GameServerSet", "gameserversets"),
            Self::FleetAutoscaler => ("autoscaling.agones.dev", "FleetAutoscaler", "fleetautoscalers"),
            Self::KruiseGameServerSet => ("game.kruise.io", "GameServerSet", "gameserversets"),
        }
    }
}

/// Whether policies judge a resource.
pub fn governed(group: &str, resource: &str) -> bool {
    Kind::of_resource(group, resource).is_some()
}
