//! An immutable snapshot of the world. Cheap to clone, since the maps share structure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gatehouse_apiservice::{
    agones::{self, Claim},
    policy::{FieldError, QuotaLedger, ReconcilePolicy, TenantQuota},
};
use gatehouse_inventory::{KindStatus, Str};
use gatehouse_policy::{Dependencies, Kind, ObjectName, Policy};
use gatehouse_quota::{Amounts, CompiledQuota, GroupResource, Weight};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    kinds,
    live::Listed,
    object::{Held, ObjectKey},
};

/// A replica whose watch of policies has failed for this long is not ready. A kube-apiserver is replaced in far less
/// time. If it takes longer, this replica alone may be cut off, and others may know of a freeze that it does not.
pub(super) const UNHEARD: Duration = Duration::from_mins(1);

/// The observed state at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Increases with each change.
    pub sequence: u64,
    /// Whether readiness no longer waits for kinds that only quotas count.
    pub is_settled_in: bool,
    /// The namespaces that exist.
    pub namespaces: imbl::HashMap<Str, Arc<NamespaceInfo>>,
    /// The policies that compile, by name. Others are in `broken_policies`.
    pub policies: Arc<[Arc<Policy>]>,
    /// The quotas that compile, by name. Others are in `broken_quotas`.
    pub quotas: Arc<[Arc<CompiledQuota>]>,
    /// The policies that do not compile. They deny nothing.
    pub broken_policies: Arc<[Broken]>,
    /// The quotas that do not compile. They limit nothing.
    pub broken_quotas: Arc<[Broken]>,
    /// All ReconcilePolicies with their status.
    pub reconcile_policies: imbl::OrdMap<Str, Arc<ReconcilePolicy>>,
    /// All TenantQuotas with their status.
    pub tenant_quotas: imbl::OrdMap<Str, Arc<TenantQuota>>,
    /// The ledgers by name, which is that of their quota.
    pub ledgers: imbl::HashMap<Str, Arc<QuotaLedger>>,
    /// All kinds that are observed.
    pub kinds: imbl::HashMap<GroupResource, KindState>,
    pub(super) objects: imbl::HashMap<GroupResource, Objects>,
    pub(super) by_uid: imbl::HashMap<Str, Arc<Held>>,
    /// The usage of the objects in each namespace.
    pub(super) usage: imbl::HashMap<Str, Amounts>,
    /// The part of it that belongs to Agones objects without an owner, in each namespace.
    pub(super) standing: imbl::HashMap<Str, Weight>,
    /// Whether the ConfigMaps of policies are yet to be listed.
    pub(super) awaits_parameters: bool,
    /// The uids of the objects that were deleted last.
    pub(super) deleted: imbl::HashSet<Str>,
}

/// The objects of a resource.
pub type Objects = imbl::OrdMap<ObjectKey, Arc<Held>>;

/// A namespace.
#[derive(Debug, Clone, Default)]
pub struct NamespaceInfo {
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `metadata.creationTimestamp`.
    pub created: Option<String>,
    /// `metadata.deletionTimestamp`, if it is being deleted.
    pub deleted: Option<String>,
    /// The resourceVersion at which these labels were first observed.
    pub since: u64,
}

/// Whether the labels and the state of deletion are equal; other changes do not matter.
impl PartialEq for NamespaceInfo {
    fn eq(&self, other: &Self) -> bool {
        self.is_labelled_like(other) && self.annotations == other.annotations
    }
}

impl NamespaceInfo {
    /// Whether it is selected as `other` is.
    pub(super) fn is_labelled_like(&self, other: &Self) -> bool {
        self.labels == other.labels && self.deleted == other.deleted
    }

    /// As conditions see it: its metadata, without what changes with every write.
    pub fn object(&self, name: &str) -> Value {
        let mut metadata = Map::from_iter([("name".to_owned(), name.into())]);
        for (field, texts) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if !texts.is_empty() {
                metadata.insert(field.to_owned(), json!(texts));
            }
        }
        for (field, time) in [("creationTimestamp", &self.created), ("deletionTimestamp", &self.deleted)] {
            if let Some(time) = time {
                metadata.insert(field.to_owned(), json!(time));
            }
        }
        json!({"metadata": metadata})
    }
}

/// A policy or quota that does not compile.
#[derive(Debug, Clone)]
pub struct Broken {
    /// `metadata.name`.
    pub name: Str,
    /// `metadata.uid`.
    pub uid: Str,
    /// The generation that does not compile.
    pub generation: i64,
    /// The errors.
    pub errors: Arc<[FieldError]>,
}

/// The state of the observation of a kind.
#[derive(Debug, Clone, Default)]
pub struct KindState {
    /// The last status; `None` before the first.
    pub status: Option<KindStatus>,
    /// When its watch began to fail, if it fails.
    pub failing_since: Option<Instant>,
    /// The resourceVersion up to which all changes are included. `None` before the first list, and while the kind is
    /// not served.
    pub revision: Option<u64>,
    /// Whether the kind has been listed, or is known not to be served.
    pub is_synced: bool,
    /// Whether decisions need the kind. Kinds that only quotas count are not required.
    pub is_required: bool,
    /// The label selector of the objects that are observed; `None` if all are.
    pub labels: Option<&'static str>,
}

impl KindState {
    /// The version at which the kind is served.
    pub fn version(&self) -> Option<&str> {
        match &self.status {
            Some(KindStatus::Served { version }) => Some(version),
            _ => None,
        }
    }

    /// Why the kind's objects are unknown; `None` if they are known.
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
    /// An object by its key.
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

    /// All objects of all resources.
    pub fn all_objects(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.objects.values().flat_map(|objects| objects.values())
    }

    /// Whether this or a later state of a listed object has been observed, or its deletion.
    pub fn has_seen(&self, resource: &GroupResource, listed: &Listed) -> bool {
        if resource.group.is_empty() && *resource.resource == *"namespaces" {
            return self.namespaces.get(&*listed.name).is_some_and(|known| known.labels == listed.labels);
        }
        let known = self.object(resource, &listed.namespace, &listed.name);
        known.is_some_and(|held| held.resource_version >= listed.revision) || self.was_deleted(&listed.uid)
    }

    /// Whether the deletion of an object with this uid was observed recently.
    pub fn was_deleted(&self, uid: &str) -> bool {
        self.deleted.contains(uid)
    }

    /// The usage of the objects in a namespace.
    pub fn usage_of(&self, namespace: &str) -> Option<&Amounts> {
        self.usage.get(namespace)
    }

    /// The namespaces that a quota selects.
    pub fn namespaces_of<'a>(&'a self, quota: &'a CompiledQuota) -> impl Iterator<Item = &'a Str> {
        self.namespaces.iter().filter(|(_, info)| quota.selects(&info.labels)).map(|(name, _)| name)
    }

    /// The usage in the namespaces of a quota, of the limits that it has.
    pub fn used(&self, quota: &CompiledQuota) -> Amounts {
        let mut used = Amounts::default();
        for amounts in self.namespaces_of(quota).filter_map(|namespace| self.usage.get(namespace)) {
            used = used.saturating_add(&quota.relevant(amounts));
        }
        used
    }

    /// The part of it that belongs to Agones objects without an owner.
    pub fn standing(&self, quota: &CompiledQuota) -> Weight {
        let standing = self.namespaces_of(quota).filter_map(|namespace| self.standing.get(namespace));
        standing.fold(Weight::default(), |sum, one| sum.plus(one))
    }

    /// The usage of the pods of a GameServerSet of OpenKruiseGame.
    pub fn pods_of_set(&self, namespace: &str, set: &str) -> Amounts {
        let from = ObjectKey { namespace: namespace.into(), name: Str::default() };
        let Some(pods) = self.objects.get(&*kinds::PODS) else { return Amounts::default() };
        let pods = pods.range(from..);
        let inside = pods.take_while(|(key, _)| *key.namespace == *namespace);
        let usages = inside.map(|(_, held)| &held.alone);
        let own = usages.filter(|usage| usage.owner.as_ref().is_some_and(|owner| *owner.name == *set));
        own.fold(Amounts::default(), |sum, usage| sum.saturating_add(&usage.beside_count()))
    }

    /// The quotas that select a namespace with these labels, by name.
    pub fn quotas_over(&self, labels: &BTreeMap<String, String>) -> Vec<Arc<CompiledQuota>> {
        self.quotas.iter().filter(|quota| quota.selects(labels)).cloned().collect()
    }

    /// The policies that select a namespace with these labels, by name.
    pub fn policies_over(&self, labels: &BTreeMap<String, String>) -> Vec<Arc<Policy>> {
        self.policies.iter().filter(|policy| policy.selects(labels)).cloned().collect()
    }

    /// Whether the ConfigMap that one of these policies takes parameters from is not known yet.
    pub fn awaits_parameters_of(&self, policies: &[Arc<Policy>]) -> bool {
        self.awaits_parameters && policies.iter().any(|policy| policy.param_ref().is_some())
    }

    /// The kinds that a quota charges whose objects are unknown, with the reason.
    pub fn obstacles(&self, quota: &CompiledQuota) -> Vec<(GroupResource, String)> {
        let obstacle = |resource: &GroupResource| match self.kinds.get(resource) {
            Some(state) => state.obstacle(),
            None => Some("is not watched yet".to_owned()),
        };
        let resources = quota.resources();
        resources.into_iter().filter_map(|resource| Some((resource.clone(), obstacle(&resource)?))).collect()
    }

    /// The kinds that a quota counts and the cluster does not serve.
    pub fn not_served(&self, quota: &CompiledQuota) -> Vec<GroupResource> {
        let counted = quota.hard.keys().filter_map(gatehouse_quota::Dimension::counted);
        let is_absent = |resource: &&GroupResource| {
            self.kinds.get(*resource).is_some_and(|kind| kind.status == Some(KindStatus::Absent))
        };
        counted.filter(is_absent).cloned().collect()
    }

    /// Whether reviews can be answered; if not, the reasons.
    ///
    /// A required kind that the account may not watch is a permanent obstacle, since decisions without it would be
    /// wrong. A kind that only a quota counts is not: otherwise everybody who may write quotas could stop all
    /// admission. The status of such a quota shows the error, and requests that it limits are told to retry. At the
    /// start, readiness waits for these kinds, but for a limited time.
    ///
    /// While kube-apiserver is unavailable, the observed state is good enough, since nobody sends reviews then. But a
    /// replica that is cut off alone soon becomes unready.
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
        // Not for ever: requests under such policies are told to try again.
        if self.awaits_parameters && !self.is_settled_in {
            waiting.push("the ConfigMaps of policies".to_owned());
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

    /// The governed object with this name.
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
