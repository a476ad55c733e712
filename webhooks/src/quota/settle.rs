//! What was promised, held against the world. See [`gatehouse_quota::Ledger::settle`] for what is decided by it; here is
//! what that takes: the world as a [`Truth`], the clock, and quorum reads of what has waited for too long.
//!
//! The clock is this process's own, and starts when it sees an entry first: after a change of leader every entry waits
//! once more, which costs room for a minute and never lets through what should not be.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use futures::{StreamExt, stream};
use gatehouse_inventory::KindStatus;
use gatehouse_quota::{
    Amounts, CompiledQuota, Expired, Fate, GroupResource, Ledger, Pending, Reached, Seen, Settled, Truth,
};
use serde_json::Value;
use tokio::time::Instant;

use crate::world::{Live, Snapshot};

/// Nothing that was admitted is written later than this: kube-apiserver's `--request-timeout` of a minute, and some
/// time for a request that goes on after its client was told that it had timed out.
pub(super) const PATIENCE: Duration = Duration::from_secs(75);
/// So many entries are asked about in one go. A failure that leaves thousands behind is worked off over some rounds.
const READS: usize = 512;
/// So many at a time.
const AT_ONCE: usize = 8;

/// Settles one quota's ledger.
#[derive(Debug, Default)]
pub(super) struct Settler {
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
    /// Whether there is anything that it was not settled by.
    pub(super) fn is_due(&self, world: &Snapshot) -> bool {
        self.sequence != Some(world.sequence) || !self.expired.is_empty()
    }

    /// What stands in the way.
    pub(super) fn behind(&self) -> Option<&GroupResource> {
        self.behind.as_ref()
    }

    /// Forgets everything: somebody else leads, or the ledger is another.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
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
        self.clock.values().min().map(|since| *since + PATIENCE)
    }

    /// Entries that have waited for too long. They are waited for anew: whatever is found now may be that there is
    /// nothing to find out yet.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<Pending> {
        let overdue = self.clock.iter_mut().filter(|(_, since)| **since + PATIENCE <= now).take(READS);
        overdue
            .map(|(entry, since)| {
                // Asked about again after some seconds, if need be.
                *since = now + Duration::from_secs(5) - PATIENCE;
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
pub(super) async fn find(live: Live, world: std::sync::Arc<Snapshot>, entries: Vec<Pending>) -> Vec<Expired> {
    let reads = stream::iter(entries).map(|entry| {
        let (live, world) = (&live, &world);
        async move {
            match live.object(world, &entry.resource, &entry.namespace, &entry.name).await {
                Ok(found) => Some(Expired { fate: fate(&entry, found.as_ref()), entry }),
                Err(error) => {
                    let (resource, namespace, name) = (&entry.resource, &entry.namespace, &entry.name);
                    tracing::warn!(%resource, %namespace, %name, %error, "what became of it could not be found out");
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
        self.world.used(self.quota)
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
        if is_new || since.is_some_and(|since| *since + PATIENCE <= self.now) {
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
