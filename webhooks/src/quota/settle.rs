//! Settles a ledger: counts usage from the world, and finds expired blocks of other replicas.
//!
//! [`gatehouse_quota::Ledger::settle`] decides; this module supplies the world as a [`Truth`], and since when the
//! blocks of other replicas have not changed.
//!
//! **Invariant:** a block expires by the process's own clock, which starts when the process first observes the block.
//! After a change of lease holder, the block of every dead replica therefore waits once more: that withholds room for a
//! minute, but never admits too much.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use gatehouse_inventory::{KindStatus, Str};
use gatehouse_quota::{
    Amounts, CompiledQuota, Counted, DEAD, Dead, GroupResource, Ledger, Reached, Seen, Settled, Truth,
};
use tokio::time::Instant;

use super::cover::Covered;
use crate::world::{NamespaceInfo, Snapshot};

/// An admitted request is written no later than kube-apiserver's `--request-timeout` plus this: a request may go on for
/// some time after its client was told that it had timed out. With the default of a minute, the room of a request that
/// came to nothing is released within 75 s, including the read that confirms it.
pub(super) const BEYOND_TIMEOUT: Duration = Duration::from_secs(12);
/// A ledger that is ahead of the observed state for this long may be ahead of the cluster.
const DOUBT: Duration = Duration::from_secs(5);

/// Settles one quota's ledger.
#[derive(Debug)]
pub(super) struct Settler {
    /// How long after its admission a request may still be written.
    patience: Duration,
    /// The sequence number of the world that the ledger was last settled with.
    sequence: Option<u64>,
    /// Since when each block of another replica has not changed.
    blocks: HashMap<Dead, Instant>,
    /// Since when each absent kind is reported as not served.
    absent: HashMap<GroupResource, Instant>,
    covered: Option<Covered>,
    /// The resource that was not observed far enough when the ledger was last settled, and since when.
    behind: Option<(GroupResource, Instant)>,
    members: Members,
}

/// The namespaces of a tenant, cached: a cluster has thousands, and they rarely change.
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
        self.namespaces.sort();
    }
}

/// The world as seen by one quota.
pub(super) struct Observed<'a> {
    world: &'a Snapshot,
    quota: &'a CompiledQuota,
    /// The ledger, which says which kinds it was counted with before.
    settled: &'a Ledger,
    settler: &'a Settler,
    now: Instant,
}

impl Settler {
    /// A settler that has settled nothing yet. An admitted request may be written up to `patience` later.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            sequence: None,
            blocks: HashMap::new(),
            absent: HashMap::new(),
            covered: None,
            behind: None,
            members: Members::default(),
        }
    }

    /// Whether the world has changed since the ledger was last settled.
    pub(super) fn is_due(&self, world: &Snapshot) -> bool {
        self.sequence != Some(world.sequence) || self.covered.is_some()
    }

    /// The resource that prevents settling.
    pub(super) fn behind(&self) -> Option<&GroupResource> {
        self.behind.as_ref().map(|(resource, _)| resource)
    }

    /// The tenant's namespaces by name, also before anything was settled.
    pub(super) fn namespaces(&mut self, world: &Snapshot, quota: &CompiledQuota) -> &[Str] {
        self.members.keep(world, quota);
        &self.members.namespaces
    }

    /// Forgets everything: the lease holder or the ledger has changed.
    pub(super) fn reset(&mut self) {
        *self = Self { absent: std::mem::take(&mut self.absent), ..Self::new(self.patience) };
    }

    /// The resources that limits depend on, and namespaces.
    pub(super) fn resources(quota: &CompiledQuota) -> BTreeSet<GroupResource> {
        let mut resources: BTreeSet<GroupResource> = quota.resources();
        resources.insert(GroupResource::new("", "namespaces"));
        resources
    }

    /// Settles the ledger.
    pub(super) fn settle(
        &mut self,
        world: &Snapshot,
        quota: &CompiledQuota,
        ledger: &mut Ledger,
        now: Instant,
    ) -> Settled {
        let covered = self.covered.take();
        let dead = covered.as_ref().filter(|covered| covered.is_still(world));
        let (dead, counted) = match dead {
            Some(covered) => (covered.dead.as_slice(), Counted::AllWritten),
            None => (&[][..], Counted::AsSeen),
        };
        let settled = self.count_with(world, quota, ledger, (dead, counted), now);
        // The finding is valid until the ledger is written.
        self.covered = covered;
        settled
    }

    /// Counts usage for a new ledger.
    pub(super) fn count(
        &mut self,
        world: &Snapshot,
        quota: &CompiledQuota,
        ledger: &mut Ledger,
        now: Instant,
    ) -> Settled {
        self.observe_kinds(world, now);
        if self.covered.as_ref().is_some_and(|covered| !covered.is_still(world)) {
            return Settled::Unchanged;
        }
        self.count_with(world, quota, ledger, (&[], Counted::AllWritten), now)
    }

    fn count_with(
        &mut self,
        world: &Snapshot,
        quota: &CompiledQuota,
        ledger: &mut Ledger,
        (dead, counted): (&[Dead], Counted),
        now: Instant,
    ) -> Settled {
        self.members.keep(world, quota);
        let before = ledger.clone();
        let observed = self.observed(world, quota, &before, now);
        let settled = ledger.settle(&quota.hard, &Self::resources(quota), &observed, dead, counted);
        self.sequence = Some(world.sequence);
        self.behind = match &settled {
            Settled::Behind(resource) => {
                let since = self.behind.take().filter(|(known, _)| known == resource);
                Some((resource.clone(), since.map_or(now, |(_, since)| since)))
            }
            _ => None,
        };
        settled
    }

    /// The settled ledger was written.
    pub(super) fn has_settled(&mut self) {
        self.covered = None;
    }

    /// The world, to compare the account with.
    pub(super) fn observed<'a>(
        &'a self,
        world: &'a Snapshot,
        quota: &'a CompiledQuota,
        ledger: &'a Ledger,
        now: Instant,
    ) -> Observed<'a> {
        Observed { world, quota, settled: ledger, settler: self, now }
    }

    /// Records which kinds are not served.
    pub(super) fn observe_kinds(&mut self, world: &Snapshot, now: Instant) {
        let is_absent = |kind: &GroupResource| {
            world.kinds.get(kind).is_some_and(|state| state.status == Some(KindStatus::Absent))
        };
        self.absent.retain(|kind, _| is_absent(kind));
        for kind in world.kinds.keys().filter(|kind| is_absent(kind)) {
            self.absent.entry(kind.clone()).or_insert(now);
        }
    }

    /// Records the blocks of other replicas.
    pub(super) fn observe(&mut self, world: &Snapshot, ledger: &Ledger, own: &str, now: Instant) {
        self.observe_kinds(world, now);
        let mut before = std::mem::take(&mut self.blocks);
        for (name, block) in ledger.blocks().filter(|(name, _)| ***name != *own) {
            let block = Dead { name: Arc::clone(name), ticket: block.ticket() };
            let since = before.remove(&block).unwrap_or(now);
            self.blocks.insert(block, since);
        }
    }

    /// The expired blocks: no admission out of them can be written any more.
    pub(super) fn overdue(&self, now: Instant) -> Vec<Dead> {
        let is_known =
            |block: &Dead| self.covered.as_ref().is_some_and(|covered| covered.dead.contains(block));
        let overdue = self.blocks.iter().filter(|(_, since)| **since + DEAD + self.patience <= now);
        overdue.map(|(block, _)| block).filter(|block| !is_known(block)).cloned().collect()
    }

    /// When the next block expires.
    pub(super) fn next_overdue(&self) -> Option<Instant> {
        self.blocks.values().min().map(|since| *since + DEAD + self.patience)
    }

    /// The revisions that the ledger was counted at, if the observed state has been behind them for long.
    pub(super) fn doubted(&self, ledger: &Ledger, now: Instant) -> Option<BTreeMap<GroupResource, u64>> {
        let (resource, since) = self.behind.as_ref()?;
        let counted = ledger.revision(resource).filter(|_| now >= *since + DOUBT)?;
        Some([(resource.clone(), counted)].into())
    }

    /// Records a finding.
    pub(super) fn covered(&mut self, covered: Covered) {
        if let Some((_, since)) = &mut self.behind {
            *since = Instant::now();
        }
        if !covered.is_future {
            self.covered = Some(covered);
        }
    }

    /// Whether everything that was written by then is observed.
    pub(super) fn is_covered(&self, by: Instant) -> bool {
        self.covered.as_ref().is_some_and(|covered| covered.began >= by)
    }
}

impl Covered {
    /// Whether the world has not gone back since: a new list may be older.
    fn is_still(&self, world: &Snapshot) -> bool {
        self.revisions.iter().all(|(resource, reached)| {
            world.kinds.get(resource).and_then(|kind| kind.revision).is_some_and(|now| now >= *reached)
        })
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
        // A new observer may briefly learn that a kind does not exist although it does by now.
        let is_new = self.settled.revision(resource).is_none();
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
        let is_ours = namespace.filter(|info| self.quota.selects(&info.labels));
        Some(Seen { revision: held.resource_version, member_since: is_ours.map(|info| info.since) })
    }

    fn was_deleted(&self, uid: &str) -> bool {
        self.world.was_deleted(uid)
    }
}
