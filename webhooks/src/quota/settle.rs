//! What was promised, held against the world. See [`gatehouse_quota::Ledger::settle`] for what is decided by it; here is
//! what that takes: the world as a [`Truth`], the clock, and quorum reads of what has waited for too long.
//!
//! The clock is this process's own, and starts when it sees an entry first: after a change of leader every entry waits
//! once more, which costs room for a minute and never lets through what should not be.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use gatehouse_apiservice::client::explain;
use gatehouse_inventory::{KindStatus, Str};
use gatehouse_quota::{
    Amounts, CompiledQuota, Expired, Fate, GroupResource, Ledger, Pending, Reached, Seen, Settled, Truth,
};
use serde_json::Value;
use tokio::time::Instant;

use crate::world::{Live, LiveError, NamespaceInfo, Snapshot};

/// Nothing that was admitted is written later than kube-apiserver's `--request-timeout` and as long: a request may go on
/// for some time after its client was told that it had timed out. With the default of a minute, what came to nothing is
/// given back within 75 s, a look at it included.
pub(super) const BEYOND_TIMEOUT: Duration = Duration::from_secs(12);
/// So many entries are asked about in one go. A failure that leaves thousands behind is worked off over some rounds.
const READS: usize = 512;
/// So many at a time.
const AT_ONCE: usize = 8;

/// Settles one quota's ledger.
#[derive(Debug)]
pub(super) struct Settler {
    /// How long what was admitted may take to be written.
    patience: Duration,
    /// The world that the ledger was settled by last.
    sequence: Option<u64>,
    /// The object that the entries are of: another has entries, and tickets, of its own.
    ledger_uid: String,
    /// Since when each entry is known.
    clock: HashMap<Pending, Instant>,
    /// Since when a kind is said not to be served.
    absent: HashMap<GroupResource, Instant>,
    expired: Vec<Expired>,
    /// What was not seen far enough, when the ledger was settled last.
    behind: Option<GroupResource>,
    members: Members,
}

/// The namespaces of a tenant. A cluster has thousands, and they hardly ever change.
#[derive(Debug, Default)]
struct Members {
    of: imbl::HashMap<Str, Arc<NamespaceInfo>>,
    quota: Option<(String, i64)>,
    namespaces: Vec<Str>,
}

impl Members {
    fn keep(&mut self, world: &Snapshot, quota: &CompiledQuota) {
        let is_same =
            |(uid, generation): &(String, i64)| *uid == quota.uid && *generation == quota.generation;
        if self.of.ptr_eq(&world.namespaces) && self.quota.as_ref().is_some_and(is_same) {
            return;
        }
        self.of = world.namespaces.clone();
        self.quota = Some((quota.uid.clone(), quota.generation));
        self.namespaces = world.namespaces_of(quota).cloned().collect();
    }
}

/// The world as it concerns a quota.
struct Observed<'a> {
    world: &'a Snapshot,
    quota: &'a CompiledQuota,
    /// Kinds that the ledger was settled by before.
    settled: BTreeSet<GroupResource>,
    settler: &'a Settler,
    now: Instant,
}

impl Settler {
    /// Has settled nothing yet. What was admitted may take as long as `patience` to be written.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            sequence: None,
            ledger_uid: String::new(),
            clock: HashMap::new(),
            absent: HashMap::new(),
            expired: Vec::new(),
            behind: None,
            members: Members::default(),
        }
    }

    /// Whether there is anything that it was not settled by.
    pub(super) fn is_due(&self, world: &Snapshot) -> bool {
        self.sequence != Some(world.sequence) || !self.expired.is_empty()
    }

    /// What stands in the way.
    pub(super) fn behind(&self) -> Option<&GroupResource> {
        self.behind.as_ref()
    }

    /// How many namespaces are the tenant's.
    pub(super) fn namespaces(&self) -> usize {
        self.members.namespaces.len()
    }

    /// Kinds that have not been served for so long that nothing of them can be under way.
    pub(super) fn absent(&self, now: Instant) -> HashSet<GroupResource> {
        let absent = self.absent.iter().filter(|(_, since)| **since + self.patience <= now);
        absent.map(|(kind, _)| kind.clone()).collect()
    }

    /// Forgets everything: somebody else leads, or the ledger is another.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.patience);
    }

    /// Settles, and says whether the ledger is worth being written.
    pub(super) fn settle(
        &mut self,
        world: &Snapshot,
        quota: &CompiledQuota,
        ledger_uid: &str,
        ledger: &mut Ledger,
        now: Instant,
    ) -> bool {
        if self.ledger_uid != ledger_uid {
            self.clock.clear();
            self.expired.clear();
            ledger_uid.clone_into(&mut self.ledger_uid);
        }
        self.observe(world, ledger, now);
        self.members.keep(world, quota);
        let expired = std::mem::take(&mut self.expired);
        let mut resources: BTreeSet<GroupResource> = quota.resources();
        resources.insert(GroupResource::new("", "namespaces"));
        let settled = resources.iter().filter(|one| ledger.revision(one).is_some()).cloned().collect();
        let observed = Observed { world, quota, settled, settler: self, now };
        let settled = ledger.settle(&quota.hard, &resources, &observed, &expired);
        self.sequence = Some(world.sequence);
        self.behind = match &settled {
            Settled::Behind(resource) => {
                // What was found out holds for as long as the entry is the same.
                self.expired = expired;
                Some(resource.clone())
            }
            Settled::Changed | Settled::Unchanged => None,
        };
        settled == Settled::Changed
    }

    fn observe(&mut self, world: &Snapshot, ledger: &Ledger, now: Instant) {
        let mut before = std::mem::take(&mut self.clock);
        for entry in ledger.pending() {
            let since = before.remove(&entry).unwrap_or(now);
            self.clock.insert(entry, since);
        }
        let is_absent = |kind: &GroupResource| {
            world.kinds.get(kind).is_some_and(|state| state.status == Some(KindStatus::Absent))
        };
        self.absent.retain(|kind, _| is_absent(kind));
        for kind in world.kinds.keys().filter(|kind| is_absent(kind)) {
            self.absent.entry(kind.clone()).or_insert(now);
        }
    }

    /// When the first entry will have waited for too long.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.clock.values().min().map(|since| *since + self.patience)
    }

    /// Entries that have waited for too long. They are waited for anew: whatever is found now may be that there is
    /// nothing to find out yet.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<Pending> {
        let patience = self.patience;
        let overdue = self.clock.iter_mut().filter(|(_, since)| **since + patience <= now).take(READS);
        overdue
            .map(|(entry, since)| {
                // Asked about again after some seconds, if need be.
                *since = now + Duration::from_secs(5) - patience;
                entry.clone()
            })
            .collect()
    }

    /// Takes what was found.
    pub(super) fn found(&mut self, expired: Vec<Expired>) {
        self.expired.extend(expired);
    }
}

/// Reads with a quorum what became of entries. What cannot be found out is left out.
pub(super) async fn find(
    live: Live,
    world: Arc<Snapshot>,
    absent: HashSet<GroupResource>,
    entries: Vec<Pending>,
) -> Vec<Expired> {
    let reads = stream::iter(entries).map(|entry| {
        let (live, world, absent) = (&live, &world, &absent);
        async move {
            let found = match live.object(world, &entry.resource, &entry.namespace, &entry.name).await {
                Err(LiveError::NotServed(resource)) if absent.contains(&resource) => Ok(None),
                found => found,
            };
            match found {
                Ok(found) => Some(Expired { fate: fate(&entry, found.as_ref()), entry }),
                Err(error) => {
                    let (resource, namespace, name) = (&entry.resource, &entry.namespace, &entry.name);
                    tracing::warn!(%resource, %namespace, %name, error = %explain(&error), "what became of it could not be found out");
                    None
                }
            }
        }
    });
    reads.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}

fn fate(entry: &Pending, found: Option<&Value>) -> Fate {
    let metadata = found.and_then(|object| object.get("metadata"));
    let text = |field: &str| metadata.and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
    match text("uid") {
        Some(uid) if *uid == *entry.uid => Fate::Present(
            text("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or_default(),
        ),
        // Another of the same name, or none.
        _ => Fate::Absent,
    }
}

impl Truth for Observed<'_> {
    fn used(&self) -> Amounts {
        let namespaces = self.settler.members.namespaces.iter();
        let usages = namespaces.filter_map(|namespace| self.world.usage_of(namespace));
        usages.fold(Amounts::default(), |used, usage| used.saturating_add(&self.quota.relevant(usage)))
    }

    fn reached(&self, resource: &GroupResource) -> Reached {
        let Some(state) = self.world.kinds.get(resource) else { return Reached::Unknown };
        if let Some(revision) = state.revision {
            return Reached::To(revision);
        }
        if state.status != Some(KindStatus::Absent) {
            return Reached::Unknown;
        }
        // Whoever begins to observe may be told for a moment that there is no such kind, when there is one by now.
        let is_new = !self.settled.contains(resource);
        let since = self.settler.absent.get(resource);
        if is_new || since.is_some_and(|since| *since + self.settler.patience <= self.now) {
            Reached::Absent
        } else {
            Reached::Unknown
        }
    }

    fn seen(&self, _resource: &GroupResource, uid: &str) -> Option<Seen> {
        let held = self.world.object_of_uid(uid)?;
        let namespace = self.world.namespaces.get(&held.key.namespace);
        let is_ours = namespace.is_some_and(|info| self.quota.selects(&info.labels));
        let counted = is_ours.then(|| self.quota.relevant(&held.usage.amounts));
        Some(Seen { revision: held.resource_version, counted })
    }

    fn was_deleted(&self, uid: &str) -> bool {
        self.world.was_deleted(uid)
    }
}
