//! The world at one moment. Cheap to clone: the maps share structure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gatehouse_apiservice::{
    agones::{self, Claim},
    policy::{FieldError, QuotaLedger, ReconcilePolicy, TenantQuota},
};
use gatehouse_inventory::{KindStatus, Str};
use gatehouse_policy::{Dependencies, Kind, ObjectName, Policy};
use gatehouse_quota::{Amounts, CompiledQuota, GroupResource, Weight};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    held::{Held, ObjectKey},
    kinds,
    live::Listed,
};

/// How long policies may be judged by that are not heard of any more: far longer than a kube-apiserver takes to be
/// replaced. A replica for which it takes longer may be the only one, and others know of a freeze that it does not.
pub(super) const UNHEARD: Duration = Duration::from_mins(1);

/// What was observed, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Grows with every change.
    pub sequence: u64,
    /// Whether what quotas count was waited for long enough: readiness waits for it no more.
    pub is_settled_in: bool,
    /// Namespaces that exist.
    pub namespaces: imbl::HashMap<Str, Arc<NamespaceInfo>>,
    /// Policies, by name. Those that do not compile are among `broken_policies` instead.
    pub policies: Arc<[Arc<Policy>]>,
    /// Quotas, by name. Those that do not compile are among `broken_quotas` instead.
    pub quotas: Arc<[Arc<CompiledQuota>]>,
    /// Policies that do not compile: they deny nothing.
    pub broken_policies: Arc<[Broken]>,
    /// Quotas that do not compile: they limit nothing.
    pub broken_quotas: Arc<[Broken]>,
    /// Every ReconcilePolicy as it stands, with its status.
    pub reconcile_policies: imbl::OrdMap<Str, Arc<ReconcilePolicy>>,
    /// Every TenantQuota as it stands, with its status.
    pub tenant_quotas: imbl::OrdMap<Str, Arc<TenantQuota>>,
    /// Ledgers, by name, which is that of their quota.
    pub ledgers: imbl::HashMap<Str, Arc<QuotaLedger>>,
    /// Every kind that is observed.
    pub kinds: imbl::HashMap<GroupResource, KindState>,
    pub(super) objects: imbl::HashMap<GroupResource, Objects>,
    pub(super) by_uid: imbl::HashMap<Str, Arc<Held>>,
    /// What the objects of a namespace take up.
    pub(super) usage: imbl::HashMap<Str, Amounts>,
    /// What Agones' objects of a namespace have of it.
    pub(super) standing: imbl::HashMap<Str, Weight>,
    /// Of objects that are gone, the latest.
    pub(super) deleted: imbl::HashSet<Str>,
}

/// The objects of a resource.
pub type Objects = imbl::OrdMap<ObjectKey, Arc<Held>>;

/// A namespace.
#[derive(Debug, Clone, Default)]
pub struct NamespaceInfo {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is going.
    pub deleting: bool,
    /// The resourceVersion at which this was seen first.
    pub since: u64,
}

/// The same labels, whatever else has changed.
impl PartialEq for NamespaceInfo {
    fn eq(&self, other: &Self) -> bool {
        self.labels == other.labels && self.deleting == other.deleting
    }
}

/// Something that does not compile.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Its name.
    pub name: Str,
    /// Its uid.
    pub uid: Str,
    /// The generation that does not compile.
    pub generation: i64,
    /// What is wrong with it.
    pub errors: Arc<[FieldError]>,
}

/// How the observation of a kind stands.
#[derive(Debug, Clone, Default)]
pub struct KindState {
    /// What was said last; none before anything was.
    pub status: Option<KindStatus>,
    /// Since when its watch has failed without a break, if it does.
    pub failing_since: Option<Instant>,
    /// Every change up to this resourceVersion is in. None before the first list and while the kind is not served.
    pub revision: Option<u64>,
    /// Everything was told at least once, or the kind is known not to be served.
    pub is_synced: bool,
    /// Nothing may be decided without it. Kinds that only a quota counts are not.
    pub is_required: bool,
}

impl KindState {
    /// The version it is served at.
    pub fn version(&self) -> Option<&str> {
        match &self.status {
            Some(KindStatus::Served { version }) => Some(version),
            _ => None,
        }
    }

    /// Why nothing can be said of the kind's objects; none, if something can.
    pub fn obstacle(&self) -> Option<String> {
        match &self.status {
            Some(KindStatus::Forbidden { message }) => Some(format!("may not be watched: {message}")),
            _ if self.is_synced => None,
            Some(KindStatus::Failing { message }) => Some(format!("cannot be watched: {message}")),
            _ => Some("has not been listed yet".to_owned()),
        }
    }
}

impl Snapshot {
    /// An object.
    pub fn object(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<&Arc<Held>> {
        let key = ObjectKey { namespace: namespace.into(), name: name.into() };
        self.objects.get(resource)?.get(&key)
    }

    /// The object with this uid.
    pub fn object_of_uid(&self, uid: &str) -> Option<&Arc<Held>> {
        self.by_uid.get(uid)
    }

    /// The objects of a resource, by namespace and name.
    pub fn objects(&self, resource: &GroupResource) -> Option<&Objects> {
        self.objects.get(resource)
    }

    /// Every object of every resource.
    pub fn all_objects(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.objects.values().flat_map(|objects| objects.values())
    }

    /// Whether an object that a list has shown was seen in that state or a later one, or has gone since.
    pub fn has_seen(&self, resource: &GroupResource, listed: &Listed) -> bool {
        if resource.group.is_empty() && *resource.resource == *"namespaces" {
            return self.namespaces.get(&*listed.name).is_some_and(|known| known.labels == listed.labels);
        }
        let known = self.object(resource, &listed.namespace, &listed.name);
        known.is_some_and(|held| held.resource_version >= listed.revision) || self.was_deleted(&listed.uid)
    }

    /// Whether an object with this uid was seen to go, lately.
    pub fn was_deleted(&self, uid: &str) -> bool {
        self.deleted.contains(uid)
    }

    /// What the objects of a namespace take up.
    pub fn usage_of(&self, namespace: &str) -> Option<&Amounts> {
        self.usage.get(namespace)
    }

    /// The namespaces that a quota selects.
    pub fn namespaces_of<'a>(&'a self, quota: &'a CompiledQuota) -> impl Iterator<Item = &'a Str> {
        self.namespaces.iter().filter(|(_, info)| quota.selects(&info.labels)).map(|(name, _)| name)
    }

    /// What the objects of a quota's namespaces take up of what it limits.
    pub fn used(&self, quota: &CompiledQuota) -> Amounts {
        let mut used = Amounts::default();
        for amounts in self.namespaces_of(quota).filter_map(|namespace| self.usage.get(namespace)) {
            used = used.saturating_add(&quota.relevant(amounts));
        }
        used
    }

    /// What Agones' objects in a quota's namespaces have of what is used there.
    pub fn standing(&self, quota: &CompiledQuota) -> Weight {
        let standing = self.namespaces_of(quota).filter_map(|namespace| self.standing.get(namespace));
        standing.fold(Weight::default(), |sum, one| sum.plus(one))
    }

    /// The quotas over a namespace with these labels, by name.
    pub fn quotas_over(&self, labels: &BTreeMap<String, String>) -> Vec<Arc<CompiledQuota>> {
        self.quotas.iter().filter(|quota| quota.selects(labels)).cloned().collect()
    }

    /// The policies over a namespace with these labels, by name.
    pub fn policies_over(&self, labels: &BTreeMap<String, String>) -> Vec<Arc<Policy>> {
        self.policies.iter().filter(|policy| policy.selects(labels)).cloned().collect()
    }

    /// The kinds charged by a quota of whose objects nothing can be said, with the reason.
    pub fn obstacles(&self, quota: &CompiledQuota) -> Vec<(GroupResource, String)> {
        let obstacle = |resource: &GroupResource| match self.kinds.get(resource) {
            Some(state) => state.obstacle(),
            None => Some("is not watched yet".to_owned()),
        };
        let resources = quota.resources();
        resources.into_iter().filter_map(|resource| Some((resource.clone(), obstacle(&resource)?))).collect()
    }

    /// The kinds counted by a quota that the cluster does not serve.
    pub fn not_served(&self, quota: &CompiledQuota) -> Vec<GroupResource> {
        let counted = quota.hard.keys().filter_map(|dimension| match dimension {
            gatehouse_quota::Dimension::Count(resource) => Some(resource),
            _ => None,
        });
        let is_absent = |resource: &&GroupResource| {
            self.kinds.get(*resource).is_some_and(|kind| kind.status == Some(KindStatus::Absent))
        };
        counted.filter(is_absent).cloned().collect()
    }

    /// Whether reviews can be answered, and what stands in the way.
    ///
    /// A kind that the account may not watch is an obstacle for good: what would be decided without it would be
    /// decided wrongly. Not so a kind that only a quota counts, or whoever may write quotas could stop all
    /// admission: such a quota's own status tells, and requests that it limits are told to try again. It is waited
    /// for when the process begins, and not for ever.
    ///
    /// What was observed once stays good for decisions while kube-apiserver is away, which then asks nobody; but not for
    /// long on a replica that is cut off alone.
    pub fn readiness(&self) -> Result<(), String> {
        let mut obstacles: Vec<String> = Vec::new();
        let mut waiting = Vec::new();
        for (resource, state) in &self.kinds {
            let is_forbidden = matches!(state.status, Some(KindStatus::Forbidden { .. }));
            match state.obstacle() {
                Some(_) if !state.is_required && (is_forbidden || self.is_settled_in) => {}
                Some(_) if state.status.is_none() => waiting.push(resource.to_string()),
                Some(obstacle) => obstacles.push(format!("{resource} {obstacle}")),
                None => {}
            }
        }
        if self.kinds.is_empty() {
            return Err("nothing is watched yet".to_owned());
        }
        if !waiting.is_empty() {
            waiting.sort();
            obstacles.push(format!("waiting for {}", waiting.join(", ")));
        }
        let policies = self.kinds.get(&*kinds::POLICIES).and_then(|state| state.failing_since);
        if let Some(unheard) = policies.map(|since| since.elapsed()).filter(|unheard| *unheard > UNHEARD) {
            obstacles.push(format!("{} were last refreshed {} s ago", *kinds::POLICIES, unheard.as_secs()));
        }
        obstacles.sort();
        if obstacles.is_empty() { Ok(()) } else { Err(obstacles.join("; ")) }
    }

    /// The governed object of a name.
    pub fn named(&self, name: &ObjectName) -> Option<&Arc<Held>> {
        let kind = Kind::of_kind(&name.group, &name.kind)?;
        let key = ObjectKey { namespace: Str::clone(&name.namespace), name: Str::clone(&name.name) };
        self.objects.get(kinds::resource_of(kind))?.get(&key)
    }
}

impl Dependencies for Snapshot {
    fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>> {
        self.named(of).map(|held| held.depends_on.to_vec())
    }

    fn owns(&self, namespace: &str, claim: &Claim<'_>) -> bool {
        let owners = GroupResource::new(agones::GROUP, claim.member.owner_resource());
        self.object(&owners, namespace, claim.name)
            .is_some_and(|owner| claim.uid.map_or(owner.orphans, |uid| *owner.uid == *uid))
    }

    fn fleet(&self, namespace: &str, name: &str) -> Option<Value> {
        self.object(kinds::resource_of(Kind::Fleet), namespace, name)?.value()
    }
}
