//! What is kept of an observed object: enough to render every view, and nothing else.
//!
//! A record is made once, by the source that decoded the object, and never changed afterwards. Times are
//! whole seconds since the Unix epoch, the precision of Kubernetes' `metav1.Time`.

use gatehouse_apiservice::policy::Enforcement;

use crate::{
    State, Str,
    catalogue::KindId,
    flux::reason,
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

/// The outcome of a state rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the object is doing.
    pub state: State,
    /// The state it would be in if it were not Suspended or Progressing: its last finished attempt's.
    pub last_outcome: Option<State>,
    /// The deciding condition's reason, CamelCase; empty if nothing decided.
    pub reason: Str,
    /// For people; at most [`Verdict::MESSAGE_BYTES`] long.
    pub message: Str,
    /// When it entered this state, as far as its conditions tell.
    pub since: Option<Seconds>,
    /// Since when its [outcome](Verdict::outcome) has been a success, or a failure, of Flux's objects; over attempts.
    pub outcome_since: Option<Seconds>,
    /// When this verdict turns into another by the passing of time alone.
    pub deadline: Option<Box<Deadline>>,
}

impl Verdict {
    /// Controllers put whole build logs into messages; this much is kept, cut at a character.
    pub const MESSAGE_BYTES: usize = 512;

    /// Whether what depends on the object may go on: it is Ready, or was when it was suspended.
    pub fn satisfies_dependents(&self) -> bool {
        match self.state {
            State::Suspended => self.last_outcome == Some(State::Ready),
            state => state == State::Ready,
        }
    }

    /// Since when its outcome has been a success, or a failure; as far as is known, or else since when it has been in its
    /// state.
    pub fn outcome_since(&self) -> Option<Seconds> {
        self.outcome_since.or(self.since)
    }

    /// Keeps what was observed of the same object `before` and what it no longer tells: broken stays broken until it is
    /// seen to work. A controller takes back a failure as soon as it tries again, and not all leave a trace.
    pub(crate) fn remember(&mut self, before: &Verdict) {
        if self.still_waits(before) {
            *self = before.clone();
            return;
        }
        if matches!(self.state, State::Progressing | State::Suspended) {
            let known = before.known_outcome();
            let is_suspended = self.state == State::Suspended;
            // Nothing has begun since its condition was written, which is therefore the newest there is.
            let is_told = is_suspended || *self.reason == *reason::GENERATION_NOT_OBSERVED;
            // A success that was not seen itself: its time tells.
            let is_newer = self.last_outcome == Some(State::Ready)
                && self
                    .outcome_since
                    .zip(before.outcome_since())
                    .is_some_and(|(own, before)| own > before || is_told && own == before);
            let says_itself = is_suspended && self.last_outcome.is_some_and(State::is_failure);
            if known.is_some_and(State::is_failure) && !is_newer && !says_itself {
                self.last_outcome = known;
                self.outcome_since = before.outcome_since();
                if self.state == State::Progressing {
                    (self.reason, self.message) = (before.reason.clone(), before.message.clone());
                }
            } else if known == Some(State::Ready) && self.last_outcome.is_none() {
                (self.last_outcome, self.outcome_since) = (known, before.outcome_since());
            }
        }
        let is_same = match (self.known_outcome(), before.known_outcome()) {
            (Some(own), Some(before)) => own.is_failure() == before.is_failure(),
            _ => false,
        };
        if is_same && before.outcome_since.is_some() {
            self.outcome_since = before.outcome_since;
        }
    }

    /// How its last finished attempt ended.
    fn known_outcome(&self) -> Option<State> {
        match self.state {
            State::Progressing | State::Suspended => self.last_outcome,
            state if state == State::Ready || state.is_failure() => Some(state),
            _ => None,
        }
    }

    /// Whether a generation still waits for its controller that was seen to wait `before`: its time goes on.
    fn still_waits(&self, before: &Verdict) -> bool {
        let waits = |verdict: &Verdict| verdict.reason == self.reason && verdict.message == self.message;
        let own = self.deadline.as_ref();
        own.is_some_and(|own| own.reason == self.reason && own.message == self.message)
            && self.state == State::Progressing
            && waits(before)
    }

    /// The state without regard to an attempt under way, as long as there was one before: kustomize-controller
    /// goes through Progressing on every reconciliation, whatever comes of it.
    pub fn outcome(&self) -> State {
        match self.state {
            State::Progressing => self.last_outcome.unwrap_or(self.state),
            state => state,
        }
    }

    /// While something is under way, what was seen before it counts: a failure until it is seen to be over, a success where
    /// nothing else is known. So health changes once for each change, and not with each attempt.
    pub(crate) fn count_as_before(&mut self, before: &Self) {
        let outcome = before.outcome();
        if self.state == State::Progressing
            && (outcome.is_failure() || outcome == State::Ready && self.last_outcome.is_none())
        {
            self.last_outcome = Some(outcome);
        }
    }

    /// Goes on with the clock of the verdict before, where nothing has changed but the time of observation.
    pub(crate) fn continue_from(&mut self, before: &Self) {
        let (Some(deadline), Some(known)) = (&mut self.deadline, &before.deadline) else { return };
        let same =
            (&deadline.reason, &deadline.message, deadline.end) == (&known.reason, &known.message, known.end);
        if deadline.observed && known.observed && same {
            deadline.at -= deadline.since - known.since;
            deadline.since = known.since;
        }
    }
}

impl Deadline {
    /// The message once it has come: with the time since which it has been so, unless that is now.
    fn told(&self) -> Str {
        match jiff::Timestamp::from_second(self.since) {
            Ok(since) if self.since < self.at && self.message.is_empty() => format!("since {since}").into(),
            Ok(since) if self.since < self.at => format!("{}, since {since}", self.message).into(),
            _ => self.message.clone(),
        }
    }
}

/// A verdict that time alone brings about: a certificate expires, a backup grows too old, a rollout never ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// From this second on.
    pub at: Seconds,
    /// When that began which it ends: at most `at`.
    pub since: Seconds,
    /// Whether the object does not say so itself: `since` is then when it was first observed like this.
    pub observed: bool,
    /// What comes of it.
    pub end: End,
    /// CamelCase.
    pub reason: Str,
    /// For people.
    pub message: Str,
    /// Whether it has come.
    pub passed: bool,
}

/// What a deadline does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is in this state from then on.
    State(State),
    /// Its state is kept, and counts towards no layer any more.
    Forgotten,
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
    /// Lets its deadline decide, if it has come by `now`.
    pub(crate) fn let_pass(&mut self, now: Seconds) {
        let verdict = &mut self.verdict;
        let Some(deadline) =
            verdict.deadline.as_deref_mut().filter(|deadline| deadline.at <= now && !deadline.passed)
        else {
            return;
        };
        deadline.passed = true;
        match deadline.end {
            End::State(state) => {
                verdict.state = state;
                verdict.last_outcome = None;
                verdict.reason = deadline.reason.clone();
                verdict.message = deadline.told();
                verdict.since = Some(deadline.since);
                verdict.outcome_since = verdict.outcome_since.and(Some(deadline.at));
            }
            End::Forgotten => self.layer = None,
        }
        // What the object says itself it says again; what was observed would be lost.
        self.verdict.deadline.take_if(|deadline| !deadline.observed);
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
        let deadline = if self.verdict.deadline.is_some() { size_of::<Deadline>() } else { 0 };
        size_of::<Self>() + detail + deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand records are ten thousand times this: what only some kinds have goes behind a box.
    #[test]
    fn a_record_does_not_grow_with_the_kinds_there_are() {
        assert_eq!(size_of::<Detail>(), 24);
        assert_eq!(size_of::<Record>(), 160);
        assert_eq!(size_of::<FluxDetail>(), 144);
    }
}
