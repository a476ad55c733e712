//! What is kept of an observed object: enough to render every view, and nothing else.
//!
//! The source that decodes an object creates its record. Only the inventory changes it afterwards: it settles the
//! verdict and the layer by other objects and by the time. Times are whole seconds since the Unix epoch, the precision
//! of `metav1.Time` in Kubernetes.

use gatehouse_apiservice::policy::Enforcement;

use crate::{
    Above, Application, Applied, Deadline, End, History, Named, ObjectKey, State, Str, Verdict,
    game::GameNumbers, game_server::GameServer, relations::Links,
};

/// Seconds since the Unix epoch (`metav1.Time` has no more precision).
pub type Seconds = i64;

/// An observed object, compact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Kind, namespace and name.
    pub key: ObjectKey,
    /// `metadata.creationTimestamp`; 0 if a manifest has none.
    pub created: Seconds,
    /// The layer whose health the object counts towards; `None` if it does not count.
    pub layer: Option<Layer>,
    /// The state of the object, its reason and its time.
    pub verdict: Verdict,
    /// The fields that only some kinds have.
    pub detail: Detail,
    /// What owns or applies it, if it is not well or may cease to be.
    pub above: Option<Box<Above>>,
}

/// The fields that only some kinds have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// Nothing more.
    None,
    /// A Flux object.
    Flux(Box<FluxDetail>),
    /// A Namespace, with its tenant from the label `gatehouse.dev/tenant`.
    Namespace {
        /// The label's value.
        tenant: Option<Str>,
    },
    /// A Node.
    Node {
        /// `status.nodeInfo.kubeletVersion`.
        kubelet_version: Str,
    },
    /// A Fleet or GameServerSet: what it adds to the numbers of its namespace.
    Game(Box<GameNumbers>),
    /// A GameServer.
    GameServer(Box<GameServer>),
    /// An Application of Argo CD.
    Application(Box<Application>),
    /// A TenantQuota.
    TenantQuota(Box<TenantQuotaDetail>),
    /// An object with links to other objects, on which its verdict may depend.
    Linked(Box<Links>),
}

/// What the views show of a TenantQuota beyond a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantQuotaDetail {
    /// The tenant, from its own label or its selector's.
    pub tenant: Option<Str>,
    /// `spec.enforcement`.
    pub enforcement: Enforcement,
    /// The limits, sorted by name.
    pub limits: Box<[Limit]>,
    /// `status.namespaces`; `None` without a status.
    pub namespaces: Option<i64>,
    /// `status.denied`.
    pub denied: i64,
    /// `status.lastDenial`: its time and message.
    pub last_denial: Option<(Seconds, Str)>,
    /// `status.byNamespace`, sorted by namespace.
    pub by_namespace: Box<[NamespaceShare]>,
}

/// What a TenantQuota reports of one of its namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceShare {
    /// The namespace.
    pub namespace: Str,
    /// What it uses of each limit, in the order of [`TenantQuotaDetail::limits`]; `None` if nothing is reported.
    pub used: Box<[Option<Str>]>,
    /// The last denials, the newest first: time and message.
    pub last_denials: Box<[(Seconds, Str)]>,
}

/// A limit of a TenantQuota. Quantities are kept as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Key in `spec.hard`.
    pub name: Str,
    /// Value in `spec.hard`.
    pub hard: Str,
    /// Value in `status.used`.
    pub used: Option<Str>,
    /// Value in `status.reserved`.
    pub reserved: Option<Str>,
    /// Value in `status.overcommit`.
    pub overcommit: Option<Str>,
}

/// What the Flux views show beyond a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FluxDetail {
    /// `status.lastAppliedRevision`, the artifact's revision, or the last Helm snapshot's chart version.
    pub revision: Option<Str>,
    /// What its status tells of its last reconciliations or releases.
    pub history: History,
    /// What it has applied, if its kind has an inventory in its status.
    pub applied: Option<Box<Applied>>,
    /// Whether the object is suspended, whatever its state (a suspended object can be Terminating).
    pub suspended: bool,
    /// `spec.suspend` as written.
    pub suspend: Option<bool>,
    /// The status of the condition Ready.
    pub ready: Option<Readiness>,
    /// Texts that only metrics show, if the catalogue keeps them.
    pub texts: Option<Box<FluxTexts>>,
    /// The annotation `fluxcd.controlplane.io/suspendedBy`.
    pub suspended_by: Option<Str>,
    /// What its annotations request, and what of that was handled; `None` if nothing was ever requested.
    pub request: Option<Box<FluxRequest>>,
    /// Where its content comes from (`sourceRef`, `chart.spec.sourceRef`, `chartRef`).
    pub source: Option<Reference>,
    /// Links to other objects that only some kinds have.
    pub links: Option<Box<FluxLinks>>,
    /// `spec.dependsOn`, with kinds and namespaces filled in; at most [`FluxDetail::DEPENDENCIES`].
    pub depends_on: Box<[Reference]>,
    /// How many entries of `spec.dependsOn` are not kept.
    pub depends_on_omitted: u16,
    /// The index in [`FluxDetail::depends_on`] of the dependency that the controller names, if the object is Blocked.
    pub waits_for: Option<u8>,
}

/// What the annotations of a Flux object request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FluxRequest {
    /// The token of the last request to reconcile (`reconcile.fluxcd.io/requestedAt`).
    pub token: Option<Str>,
    /// The token that its controller has handled last (`status.lastHandledReconcileAt`).
    pub handled: Option<Str>,
    /// When its suspension ends by itself (`gatehouse.dev/suspended-until`).
    pub suspended_until: Option<Seconds>,
}

/// Links of a Flux object beside its source and its dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FluxLinks {
    /// The HelmChart that was created for a HelmRelease (`status.helmChart`), from which the release takes its content.
    pub chart: Option<ObjectKey>,
    /// The ExternalArtifacts that a generator creates (`spec.artifacts`).
    pub makes: Box<[ObjectKey]>,
    /// The Secret or ConfigMap with the address of the cluster that it applies to (`spec.kubeConfig`): kind and name.
    pub target: Option<(&'static str, Str)>,
    /// What its controller failed to delete, as its message names them.
    pub unpruned: Box<[Named]>,
    /// What its last attempt waited for in vain, as its controller's message names them.
    pub awaited: Box<[ObjectKey]>,
}

impl FluxDetail {
    /// How many dependencies of an object are kept. A tenant can write thirty thousand. Real objects have some dozens
    /// at most, and each takes memory and time that all tenants share.
    pub const DEPENDENCIES: usize = 256;

    /// The object that it takes its content from directly, if its kind is observed.
    pub fn fed_by(&self) -> Option<&ObjectKey> {
        let chart = self.links.as_ref().and_then(|links| links.chart.as_ref());
        chart.or(match &self.source {
            Some(Reference::Known(key)) => Some(key),
            _ => None,
        })
    }

    /// The objects that it creates for others to take their content from.
    pub(crate) fn makes(&self) -> &[ObjectKey] {
        self.links.as_ref().map_or(&[], |links| &links.makes)
    }
}

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It holds.
    True,
    /// It does not.
    False,
    /// The controller does not know yet.
    Unknown,
}

/// Up to two texts. Their meaning depends on the kind: `spec.url` of a GitRepository, HelmRepository or OCIRepository;
/// `spec.endpoint` and `spec.bucketName` of a Bucket; `spec.chart` and `spec.version` of a HelmChart; `spec.image` of
/// an ImageRepository; `status.webhookPath` of a Receiver; the `appVersion` of the newest release of a HelmRelease.
pub type FluxTexts = [Option<Str>; 2];

/// A reference to another object of the same cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// An object of a kind in the catalogue.
    Known(ObjectKey),
    /// An object of a kind that is not observed. Boxed, since there are few.
    Foreign(Box<ForeignName>),
}

/// What a reference to an object of a kind that is not observed says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForeignName {
    /// `apiVersion`, or empty.
    pub api_version: Str,
    /// `kind`.
    pub kind: Str,
    /// `namespace`; empty for cluster-scoped objects.
    pub namespace: Str,
    /// `name`.
    pub name: Str,
}

/// A part of the cluster whose health is reported as one value, in the order of display.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Layer {
    /// Nodes.
    Nodes,
    /// APIs behind kube-apiserver, and namespaces that are stuck in deletion.
    #[serde(rename = "API")]
    Api,
    /// The Deployments of the Flux controllers.
    FluxControllers,
    /// Flux objects.
    Flux,
    /// Deployments, StatefulSets, DaemonSets.
    Workloads,
    /// Volumes and claims, Longhorn.
    Storage,
    /// cert-manager's Certificates.
    Certificates,
    /// External and sealed secrets.
    Secrets,
    /// Databases and caches.
    Data,
    /// Gateways and routes.
    Network,
    /// Velero.
    Backup,
    /// Argo CD Applications.
    ArgoCD,
    /// Fleets and game servers.
    GameServers,
}

impl Layer {
    /// Every layer, in order.
    pub const ALL: [Layer; 13] = [
        Layer::Nodes,
        Layer::Api,
        Layer::FluxControllers,
        Layer::Flux,
        Layer::Workloads,
        Layer::Storage,
        Layer::Certificates,
        Layer::Secrets,
        Layer::Data,
        Layer::Network,
        Layer::Backup,
        Layer::ArgoCD,
        Layer::GameServers,
    ];

    /// The name used in the API (`status.layers[].name`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Layer::Nodes => "Nodes",
            Layer::Api => "API",
            Layer::FluxControllers => "FluxControllers",
            Layer::Flux => "Flux",
            Layer::Workloads => "Workloads",
            Layer::Storage => "Storage",
            Layer::Certificates => "Certificates",
            Layer::Secrets => "Secrets",
            Layer::Data => "Data",
            Layer::Network => "Network",
            Layer::Backup => "Backup",
            Layer::ArgoCD => "ArgoCD",
            Layer::GameServers => "GameServers",
        }
    }
}

impl Detail {
    /// The links to other objects that the catalogue's rules have found.
    pub(crate) fn links(&self) -> Option<&Links> {
        match self {
            Detail::Linked(links) => Some(links),
            Detail::Application(application) => application.links.as_deref(),
            _ => None,
        }
    }
}

impl Record {
    /// Applies the deadlines that have passed at `now`.
    pub(crate) fn let_pass(&mut self, now: Seconds) {
        if self.verdict.let_pass(now) == Some(End::Forgotten) {
            self.layer = None;
        }
    }

    /// Whether Flux reconciles objects that depend on this one. It must be Ready, or have been Ready when it was
    /// suspended. If it was suspended during an attempt, its condition Ready stays Unknown, and its dependents wait.
    pub fn satisfies_dependents(&self) -> bool {
        let is_held = self.verdict.state == State::Suspended;
        let waits = self.flux().is_some_and(|flux| flux.ready.is_some_and(|ready| ready != Readiness::True));
        self.verdict.is_well() && !(is_held && waits)
    }

    /// The Flux fields, if it is a Flux object.
    pub fn flux(&self) -> Option<&FluxDetail> {
        match &self.detail {
            Detail::Flux(detail) => Some(detail),
            _ => None,
        }
    }

    /// What it adds to the numbers of its namespace, if it is a game server or fleet.
    pub fn game(&self) -> Option<&GameNumbers> {
        match &self.detail {
            Detail::Game(numbers) => Some(numbers),
            Detail::GameServer(server) => server.numbers.as_deref(),
            _ => None,
        }
    }

    /// What it has applied, and whether to another cluster than its own.
    pub fn applied(&self) -> Option<(&Applied, bool)> {
        match &self.detail {
            Detail::Flux(flux) => {
                let elsewhere = flux.links.as_ref().is_some_and(|links| links.target.is_some());
                Some((flux.applied.as_deref()?, elsewhere))
            }
            detail => Some((detail.links()?.applied.as_deref()?, false)),
        }
    }

    /// What it has applied to its own cluster.
    pub(crate) fn applied_here(&self) -> Option<&Applied> {
        self.applied().filter(|(_, elsewhere)| !elsewhere).map(|(applied, _)| applied)
    }

    /// The links that the catalogue's rule for its kind has found.
    pub(crate) fn links(&self) -> Option<&Links> {
        self.detail.links()
    }

    pub(crate) fn own_verdict_mut(&mut self) -> &mut Verdict {
        let links = match &mut self.detail {
            Detail::Linked(links) => Some(links),
            Detail::Application(application) => application.links.as_mut(),
            _ => None,
        };
        match links {
            Some(links) => &mut links.own,
            None => &mut self.verdict,
        }
    }

    /// The fields of a TenantQuota.
    pub fn tenant_quota(&self) -> Option<&TenantQuotaDetail> {
        match &self.detail {
            Detail::TenantQuota(quota) => Some(quota),
            _ => None,
        }
    }

    /// The size of this record in bytes, without the shared text of its strings.
    pub fn size(&self) -> usize {
        let detail = match &self.detail {
            Detail::Flux(flux) => {
                let texts = if flux.texts.is_some() { size_of::<FluxTexts>() } else { 0 };
                let links = flux.links.as_ref();
                let links = links.map_or(0, |links| {
                    size_of::<FluxLinks>()
                        + size_of_val::<[_]>(&links.makes)
                        + size_of_val::<[_]>(&links.unpruned)
                        + size_of_val::<[_]>(&links.awaited)
                });
                let applied = flux.applied.as_ref();
                let applied = applied.map_or(0, |applied| size_of::<Applied>() + applied.size());
                let request = if flux.request.is_some() { size_of::<FluxRequest>() } else { 0 };
                size_of::<FluxDetail>()
                    + texts
                    + links
                    + applied
                    + request
                    + flux.history.size()
                    + flux.depends_on.len() * size_of::<Reference>()
            }
            Detail::Game(_) => size_of::<GameNumbers>(),
            Detail::GameServer(server) => server.size(),
            Detail::Application(application) => application.size(),
            Detail::TenantQuota(quota) => {
                let of =
                    |share: &NamespaceShare| size_of_val(&*share.used) + size_of_val(&*share.last_denials);
                size_of::<TenantQuotaDetail>()
                    + size_of_val(&*quota.limits)
                    + size_of_val(&*quota.by_namespace)
                    + quota.by_namespace.iter().map(of).sum::<usize>()
            }
            Detail::Linked(links) => links.size(),
            Detail::None | Detail::Namespace { .. } | Detail::Node { .. } => 0,
        };
        let above = if self.above.is_some() { size_of::<Above>() } else { 0 };
        size_of::<Self>() + detail + above + self.verdict.deadlines().count() * size_of::<Deadline>()
    }
}

#[cfg(test)]
mod tests;
