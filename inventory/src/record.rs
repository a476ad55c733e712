//! What is kept of an observed object: enough to render every view, and nothing else.
//!
//! A record is made once, by the source that decoded the object, and never changed afterwards. Times are
//! whole seconds since the Unix epoch, the precision of Kubernetes' `metav1.Time`.

use gatehouse_apiservice::policy::Enforcement;

use crate::{
    Deadline, End, State, Str, Verdict,
    catalogue::KindId,
    game::GameNumbers,
    relations::{Case, Links, Use},
};

/// Seconds since the Unix epoch (`metav1.Time` has no more precision).
pub type Seconds = i64;

/// Names one object within a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The kind, as its row in the catalogue.
    pub kind: KindId,
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: Str,
    /// `metadata.name`.
    pub name: Str,
}

/// An observed object, compact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Kind, namespace and name.
    pub key: ObjectKey,
    /// `metadata.creationTimestamp`; 0 where a manifest has none.
    pub created: Seconds,
    /// The part of the cluster that this object's health counts towards.
    pub layer: Option<Layer>,
    /// What it is doing.
    pub verdict: Verdict,
    /// What only some kinds have.
    pub detail: Detail,
}

/// What only some kinds have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// Nothing more.
    None,
    /// A kind of Flux's.
    Flux(Box<FluxDetail>),
    /// A Namespace: its tenant, from the label `gatehouse.dev/tenant`.
    Namespace {
        /// The label's value.
        tenant: Option<Str>,
    },
    /// A Node.
    Node {
        /// `status.nodeInfo.kubeletVersion`.
        kubelet_version: Str,
    },
    /// A Fleet, GameServerSet or GameServer that adds to its namespace's numbers: what it adds.
    Game(Box<GameNumbers>),
    /// A TenantQuota.
    TenantQuota(Box<TenantQuotaDetail>),
    /// An object that others bear on.
    Linked(Box<Links>),
}

/// What the views show of a TenantQuota beyond a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantQuotaDetail {
    /// The tenant, from its own label or its selector's.
    pub tenant: Option<Str>,
    /// `spec.enforcement`.
    pub enforcement: Enforcement,
    /// The limits, by name.
    pub limits: Box<[Limit]>,
    /// `status.namespaces`; `None` without a status.
    pub namespaces: Option<i64>,
    /// `status.denied`.
    pub denied: i64,
    /// `status.lastDenial`: when, and what was said.
    pub last_denial: Option<(Seconds, Str)>,
}

/// A limit of a TenantQuota, as it is written.
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
    /// Whether it is suspended, whatever its state (a suspended object can be Terminating).
    pub suspended: bool,
    /// `spec.suspend`, as it is written.
    pub suspend: Option<bool>,
    /// What the condition Ready says, as it is written.
    pub ready: Option<Readiness>,
    /// What only metrics tell; kept where the catalogue says so.
    pub texts: Option<Box<FluxTexts>>,
    /// The annotation `fluxcd.controlplane.io/suspendedBy`.
    pub suspended_by: Option<Str>,
    /// Where its content comes from (`sourceRef`, `chart.spec.sourceRef`, `chartRef`).
    pub source: Option<Reference>,
    /// What only some kinds have to do with others.
    pub links: Option<Box<FluxLinks>>,
    /// `spec.dependsOn`, with kinds and namespaces filled in; at most [`FluxDetail::DEPENDENCIES`].
    pub depends_on: Box<[Reference]>,
    /// How many entries of `spec.dependsOn` are not kept.
    pub depends_on_omitted: u16,
    /// Which of [`FluxDetail::depends_on`] the controller says it waits for, of an object that is Blocked.
    pub waits_for: Option<u8>,
}

/// What a Flux object has to do with others beside its source and its dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FluxLinks {
    /// The HelmChart that was made from a HelmRelease's template (`status.helmChart`): what it takes its content from.
    pub chart: Option<ObjectKey>,
    /// The ExternalArtifacts that a generator makes (`spec.artifacts`).
    pub makes: Box<[ObjectKey]>,
}

impl FluxDetail {
    /// How many dependencies of an object are kept. A tenant may write thirty thousand; nobody means more than some
    /// dozens, and each costs everybody's memory and time.
    pub const DEPENDENCIES: usize = 256;

    /// The object that its content comes from directly, if its kind is observed.
    pub fn fed_by(&self) -> Option<&ObjectKey> {
        let chart = self.links.as_ref().and_then(|links| links.chart.as_ref());
        chart.or(match &self.source {
            Some(Reference::Known(key)) => Some(key),
            _ => None,
        })
    }

    /// What it makes that others take their content from.
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
    /// Nobody can tell yet.
    Unknown,
}

/// Up to two texts, whose meaning depends on the kind: `spec.url` of a GitRepository, HelmRepository or OCIRepository;
/// `spec.endpoint` and `spec.bucketName` of a Bucket; `spec.chart` and `spec.version` of a HelmChart; `spec.image` of an
/// ImageRepository; `status.webhookPath` of a Receiver; the newest release's `appVersion` of a HelmRelease.
pub type FluxTexts = [Option<Str>; 2];

/// A reference to another object of the same cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// An object of a kind the catalogue has.
    Known(ObjectKey),
    /// An object of a kind that is not observed.
    Foreign {
        /// `apiVersion`, or empty.
        api_version: Str,
        /// `kind`.
        kind: Str,
        /// `namespace`; empty for cluster-scoped objects.
        namespace: Str,
        /// `name`.
        name: Str,
    },
}

/// A part of the cluster whose health is told as one, in the order in which people look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Layer {
    /// Nodes.
    Nodes,
    /// APIs behind kube-apiserver, and namespaces that do not go away.
    #[serde(rename = "API")]
    Api,
    /// The Flux controllers' own Deployments.
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

impl Record {
    /// Lets its deadlines decide that have come by `now`.
    pub(crate) fn let_pass(&mut self, now: Seconds) {
        if self.verdict.let_pass(now) == Some(End::Forgotten) {
            self.layer = None;
        }
    }

    /// Whether what depends on the object may go on: it is well, and its controllers do not wait for its condition Ready,
    /// which nobody writes any more of an object that was suspended in the middle of an attempt.
    pub fn satisfies_dependents(&self) -> bool {
        let is_held = self.verdict.state == State::Suspended;
        let waits = self.flux().is_some_and(|flux| flux.ready.is_some_and(|ready| ready != Readiness::True));
        self.verdict.is_well() && !(is_held && waits)
    }

    /// The Flux part, for Flux's kinds.
    pub fn flux(&self) -> Option<&FluxDetail> {
        match &self.detail {
            Detail::Flux(detail) => Some(detail),
            _ => None,
        }
    }

    /// What it adds to its namespace's numbers, for game servers and their fleets.
    pub fn game(&self) -> Option<&GameNumbers> {
        match &self.detail {
            Detail::Game(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// How it is connected with others, as the catalogue says.
    pub(crate) fn links(&self) -> Option<&Links> {
        match &self.detail {
            Detail::Linked(links) => Some(links),
            _ => None,
        }
    }

    pub(crate) fn own_verdict_mut(&mut self) -> &mut Verdict {
        match &mut self.detail {
            Detail::Linked(links) => &mut links.own,
            _ => &mut self.verdict,
        }
    }

    /// What a TenantQuota says.
    pub fn tenant_quota(&self) -> Option<&TenantQuotaDetail> {
        match &self.detail {
            Detail::TenantQuota(quota) => Some(quota),
            _ => None,
        }
    }

    /// Bytes this record occupies, without the shared text of its strings.
    pub fn size(&self) -> usize {
        let detail = match &self.detail {
            Detail::Flux(flux) => {
                let texts = if flux.texts.is_some() { size_of::<FluxTexts>() } else { 0 };
                let links = flux.links.as_ref();
                let links =
                    links.map_or(0, |links| size_of::<FluxLinks>() + size_of_val::<[_]>(&links.makes));
                size_of::<FluxDetail>() + texts + links + flux.depends_on.len() * size_of::<Reference>()
            }
            Detail::Game(_) => size_of::<GameNumbers>(),
            Detail::TenantQuota(quota) => {
                size_of::<TenantQuotaDetail>() + quota.limits.len() * size_of::<Limit>()
            }
            Detail::Linked(links) => {
                let cases = links.uses.iter().map(|used| used.cases.len() * size_of::<Case>()).sum::<usize>();
                size_of::<Links>() + links.uses.len() * size_of::<Use>() + cases
            }
            Detail::None | Detail::Namespace { .. } | Detail::Node { .. } => 0,
        };
        size_of::<Self>() + detail + self.verdict.deadlines().count() * size_of::<Deadline>()
    }
}

#[cfg(test)]
mod tests;
