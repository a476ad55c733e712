//! Applies changes to the state of the world, without I/O. Only the writer calls this.
//!
//! The usage of objects is in [`super::sums`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use gatehouse_apiservice::policy::{FieldError, QuotaLedger, ReconcilePolicy, TenantQuota};
use gatehouse_inventory::{KindStatus, Str};
use gatehouse_policy::Policy;
use gatehouse_quota::{CompiledQuota, GroupResource};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    kinds::{self, Role},
    object::{Document, ObjectKey},
    parameters::Parameters,
    snapshot::{Broken, KindState, NamespaceInfo, Snapshot},
    usage_sums::Sums,
};

/// The current state of the world.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The part that readers get, as a clone.
    pub(super) snapshot: Snapshot,
    policies: BTreeMap<Str, Result<Arc<Policy>, Broken>>,
    quotas: BTreeMap<Str, Result<Arc<CompiledQuota>, Broken>>,
    /// The ConfigMaps that policies may take parameters from.
    parameters: Parameters,
    /// For each resource that is being listed, the objects seen so far.
    listing: HashMap<GroupResource, HashSet<ObjectKey>>,
    /// The uids of deleted objects, the oldest first.
    deleted: VecDeque<Str>,
    /// The usage of objects, and which part is charged.
    pub(super) sums: Sums,
}

/// A change of a kind.
#[derive(Debug)]
pub(super) enum Change {
    Status(KindStatus),
    Restart,
    Apply(Box<Applied>),
    Delete(ObjectKey),
    Synced,
    Reached(u64),
}

/// The current state of an object.
#[derive(Debug)]
pub(super) enum Applied {
    Namespace(ObjectKey, NamespaceInfo),
    Quota(ObjectKey, Arc<TenantQuota>),
    Policy(ObjectKey, Arc<ReconcilePolicy>),
    Parameters(ObjectKey, Arc<Value>),
    Ledger(ObjectKey, Arc<QuotaLedger>),
    Object(Box<Document>),
}

/// How many deleted uids are remembered. An entry of a ledger looks for one within seconds of the deletion. If a tenant
/// deletes more at once, a consistent read follows.
const DELETED: usize = 16_384;

impl State {
    /// Starts the observation of a kind, of the objects that match a label selector if there is one.
    pub(super) fn begin(
        &mut self,
        resource: &GroupResource,
        is_required: bool,
        labels: Option<&'static str>,
    ) {
        let state = KindState { is_required, labels, ..KindState::default() };
        self.snapshot.kinds.insert(resource.clone(), state);
    }

    /// Ends the observation of a kind. Its objects may still exist, but are not counted any more.
    pub(super) fn cease(&mut self, resource: &GroupResource) {
        for held in self.snapshot.objects.get(resource).cloned().unwrap_or_default().values() {
            self.remove(resource, &held.key);
        }
        self.snapshot.objects.remove(resource);
        self.snapshot.kinds.remove(resource);
        self.listing.remove(resource);
        self.sums.cease(resource);
    }

    /// The resources that quotas count, including those that are observed for other reasons, and pods if quotas limit what
    /// game servers use.
    pub(super) fn counted(&self) -> BTreeSet<GroupResource> {
        let dimensions = self.snapshot.quotas.iter().flat_map(|quota| quota.hard.keys());
        dimensions.map(|dimension| dimension.counted().unwrap_or(&kinds::PODS).clone()).collect()
    }

    /// The label selector of the objects of a resource that are observed.
    pub(super) fn labels_of(&self, resource: &GroupResource) -> Option<&'static str> {
        let counts_all = |quota: &CompiledQuota| {
            quota.hard.keys().any(|dimension| dimension.counted() == Some(&*kinds::PODS))
        };
        let are_some =
            *resource == *kinds::PODS && !self.snapshot.quotas.iter().any(|quota| counts_all(quota));
        are_some.then_some(kinds::PODS_OF_SETS)
    }

    /// Applies a change of a kind.
    pub(super) fn take(&mut self, resource: &GroupResource, role: Role, change: Change) {
        if role == Role::Parameters {
            for name in self.parameters.take(change) {
                self.rebind(&name);
            }
            self.snapshot.awaits_parameters = self.parameters.is_awaited();
            return;
        }
        match change {
            Change::Status(status) => self.set_kind_status(resource, status),
            Change::Restart => {
                self.listing.insert(resource.clone(), HashSet::new());
            }
            Change::Apply(applied) => self.apply(resource, *applied),
            Change::Delete(key) => self.delete(resource, role, &key),
            Change::Synced => {
                let listed = self.listing.remove(resource).unwrap_or_default();
                for key in self.known(resource, role) {
                    if !listed.contains(&key) {
                        self.delete(resource, role, &key);
                    }
                }
                self.kind(resource).is_synced = true;
            }
            Change::Reached(revision) => self.kind(resource).revision = Some(revision),
        }
    }

    fn set_kind_status(&mut self, resource: &GroupResource, status: KindStatus) {
        let kind = self.kind(resource);
        // The roles of earlier versions do not include the right to watch pods: those of sets are not counted then, and
        // all else is decided as ever.
        let status = match status {
            KindStatus::Forbidden { message } if kind.labels.is_some() => {
                tracing::warn!(%resource, %message, "pods of game server sets are not counted: apply the ClusterRole anew");
                kind.is_synced = true;
                KindStatus::Absent
            }
            status => status,
        };
        if status == KindStatus::Absent {
            // If the kind is served again, it is listed again.
            kind.revision = None;
        }
        kind.failing_since = match status {
            KindStatus::Failing { .. } => kind.failing_since.or_else(|| Some(Instant::now())),
            _ => None,
        };
        kind.status = Some(status);
    }

    fn kind(&mut self, resource: &GroupResource) -> &mut KindState {
        self.snapshot.kinds.entry(resource.clone()).or_default()
    }

    /// The known objects of a kind.
    fn known(&self, resource: &GroupResource, role: Role) -> Vec<ObjectKey> {
        let cluster_scoped = |name: &Str| ObjectKey { namespace: Str::default(), name: Str::clone(name) };
        match role {
            Role::Namespace => self.snapshot.namespaces.keys().map(cluster_scoped).collect(),
            Role::Quota => self.quotas.keys().map(cluster_scoped).collect(),
            Role::Policy => self.policies.keys().map(cluster_scoped).collect(),
            Role::Ledger => self.snapshot.ledgers.keys().map(cluster_scoped).collect(),
            _ => {
                self.snapshot.objects.get(resource).into_iter().flat_map(|all| all.keys().cloned()).collect()
            }
        }
    }

    fn apply(&mut self, resource: &GroupResource, applied: Applied) {
        let key = match applied {
            Applied::Namespace(key, info) => {
                // Most changes of a namespace affect none of these.
                let known = self.snapshot.namespaces.get(&key.name);
                if known.is_none_or(|known| **known != info) {
                    let same = known.filter(|known| known.is_labelled_like(&info)).map(|known| known.since);
                    let info = NamespaceInfo { since: same.unwrap_or(info.since), ..info };
                    self.snapshot.namespaces.insert(Str::clone(&key.name), Arc::new(info));
                }
                key
            }
            Applied::Quota(key, quota) => {
                let known = self.snapshot.tenant_quotas.insert(Str::clone(&key.name), Arc::clone(&quota));
                if known.is_none_or(|known| is_other(&known.metadata, &quota.metadata)) {
                    let compiled = CompiledQuota::compile(&quota).map(Arc::new);
                    let compiled = compiled.map_err(|errors| broken(&quota.metadata, errors));
                    self.quotas.insert(Str::clone(&key.name), compiled);
                    self.publish_quotas();
                }
                key
            }
            Applied::Policy(key, policy) => {
                let known =
                    self.snapshot.reconcile_policies.insert(Str::clone(&key.name), Arc::clone(&policy));
                if known.is_none_or(|known| is_other(&known.metadata, &policy.metadata)) {
                    self.compile(&key.name, &policy);
                    self.publish_policies();
                }
                key
            }
            // Taken apart from the other changes.
            Applied::Parameters(key, _) => key,
            Applied::Ledger(key, ledger) => {
                self.snapshot.ledgers.insert(Str::clone(&key.name), ledger);
                key
            }
            Applied::Object(document) => {
                let key = document.key.clone();
                self.insert(resource, *document);
                key
            }
        };
        if let Some(listed) = self.listing.get_mut(resource) {
            listed.insert(key);
        }
    }

    fn delete(&mut self, resource: &GroupResource, role: Role, key: &ObjectKey) {
        match role {
            Role::Namespace => {
                self.snapshot.namespaces.remove(&key.name);
            }
            Role::Quota => {
                self.quotas.remove(&key.name);
                self.snapshot.tenant_quotas.remove(&key.name);
                self.publish_quotas();
            }
            Role::Policy => {
                self.policies.remove(&key.name);
                self.snapshot.reconcile_policies.remove(&key.name);
                self.publish_policies();
            }
            Role::Ledger => {
                self.snapshot.ledgers.remove(&key.name);
            }
            _ => {
                if let Some(held) = self.remove(resource, key) {
                    self.remember(&held.uid);
                }
            }
        }
    }

    fn compile(&mut self, name: &Str, policy: &ReconcilePolicy) {
        let parameters = policy.spec.param_ref.as_ref().and_then(|of| self.parameters.get(of));
        let compiled = Policy::compile_with(policy, parameters).map(Arc::new);
        let compiled = compiled.map_err(|errors| broken(&policy.metadata, errors));
        self.policies.insert(Str::clone(name), compiled);
    }

    /// Compiles anew the policies that take parameters from a ConfigMap.
    fn rebind(&mut self, parameters: &str) {
        let is_bound = |policy: &ReconcilePolicy| {
            policy.spec.param_ref.as_ref().is_some_and(|of| of.name == *parameters)
        };
        let policies = self.snapshot.reconcile_policies.clone();
        for (name, policy) in policies.iter().filter(|(_, policy)| is_bound(policy)) {
            self.compile(name, policy);
        }
        self.publish_policies();
    }

    /// Whether a policy takes parameters from a ConfigMap.
    pub(super) fn asks_for_parameters(&self) -> bool {
        self.snapshot.reconcile_policies.values().any(|policy| policy.spec.param_ref.is_some())
    }

    /// Begins to observe ConfigMaps in a namespace.
    pub(super) fn begin_parameters(&mut self, namespace: &str) {
        self.parameters = Parameters::begun(namespace);
        self.snapshot.awaits_parameters = true;
    }

    /// Ceases to observe ConfigMaps: no policy asks for any.
    pub(super) fn cease_parameters(&mut self) {
        self.parameters = Parameters::default();
        self.snapshot.awaits_parameters = false;
    }

    fn publish_policies(&mut self) {
        self.snapshot.policies =
            self.policies.values().filter_map(|one| one.as_ref().ok().cloned()).collect();
        self.snapshot.broken_policies =
            self.policies.values().filter_map(|one| one.as_ref().err().cloned()).collect();
    }

    fn publish_quotas(&mut self) {
        self.snapshot.quotas = self.quotas.values().filter_map(|one| one.as_ref().ok().cloned()).collect();
        self.snapshot.broken_quotas =
            self.quotas.values().filter_map(|one| one.as_ref().err().cloned()).collect();
    }

    fn insert(&mut self, resource: &GroupResource, document: Document) {
        let known = self.snapshot.object(resource, &document.key.namespace, &document.key.name);
        if known.is_some_and(|known| {
            known.uid == document.uid && known.resource_version == document.resource_version
        }) {
            // The same version, from a list.
            return;
        }
        let replaced =
            known.filter(|replaced| replaced.uid != document.uid).map(|known| Str::clone(&known.uid));
        if let Some(replaced) = replaced {
            self.remember(&replaced);
        }
        self.forget_deleted(&document.uid);
        self.put(resource, document);
    }

    fn remember(&mut self, uid: &Str) {
        if self.snapshot.deleted.insert(Str::clone(uid)).is_none() {
            self.deleted.push_back(Str::clone(uid));
        }
        if self.deleted.len() > DELETED
            && let Some(oldest) = self.deleted.pop_front()
        {
            self.snapshot.deleted.remove(&oldest);
        }
    }

    /// The object exists after all, as when its kind is served again.
    fn forget_deleted(&mut self, uid: &str) {
        if self.snapshot.deleted.remove(uid).is_some() {
            self.deleted.retain(|deleted| **deleted != *uid);
        }
    }
}

/// Whether a policy or quota must be compiled again. Most changes are to the status, and Gatehouse makes most of these.
fn is_other(known: &kube::api::ObjectMeta, new: &kube::api::ObjectMeta) -> bool {
    known.uid != new.uid || known.generation != new.generation
}

fn broken(metadata: &kube::api::ObjectMeta, errors: Vec<FieldError>) -> Broken {
    Broken {
        name: metadata.name.as_deref().unwrap_or_default().into(),
        uid: metadata.uid.as_deref().unwrap_or_default().into(),
        generation: metadata.generation.unwrap_or_default(),
        errors: errors.into(),
    }
}
