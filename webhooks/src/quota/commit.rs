//! One quota's ledger on one replica: group commit.
//!
//! What is asked for is put together into rounds. A round evaluates everything that waits on the ledger as it is last
//! known, one after the other, and writes it once; answers are given when that has succeeded. If somebody else has
//! written meanwhile, the ledger is read and the whole round evaluated again. On the replica that leads, a round settles
//! first, so that nothing is refused for want of room that is known to be free.

mod job;
mod task;

use std::{sync::Arc, time::Duration};

use gatehouse_apiservice::client::{explain, jittered};
use gatehouse_inventory::Str;
use gatehouse_quota::{CompiledQuota, Ledger};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use self::job::Decision;
pub(super) use self::job::{Asked, Job, Reply};
use super::{
    settle::Settler,
    status::Reporter,
    store::{Store, StoreError, Stored, Version},
};
use crate::{
    control::Interception,
    metrics::Metrics,
    world::{Live, Snapshot, World},
};

/// Beyond this, requests are told to try again: at some thousands a second this is a second's worth.
pub(super) const QUEUE: usize = 4096;
/// Rounds that several requests ride on are begun no faster than this. A write of a ledger takes kube-apiserver 2.3 ms of
/// CPU if it is empty and 4 with a hundred entries: two replicas at a hundred rounds a second would take half a core and
/// more. A request that is alone is not held up.
const ROUND: Duration = Duration::from_millis(25);
/// While there is nothing but settling to do, the ledger is settled no faster than this …
const SETTLE: Duration = Duration::from_millis(100);
/// … while requests wait for room, than this …
const SETTLE_FOR_ROOM: Duration = Duration::from_millis(10);
/// … and along with what is written anyway, than this.
const SETTLE_ALONG: Duration = Duration::from_millis(25);
/// Refusals that are due within this time are given together: each needs the ledger to be read once more.
const TOGETHER: Duration = Duration::from_millis(50);
/// The wait after a failure, or up to twice that.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What all tasks of a replica share. Cheap to clone.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) world: World,
    pub(super) live: Live,
    /// Does not repeat requests.
    pub(super) client: kube::Client,
    pub(super) metrics: Arc<Metrics>,
    pub(super) leading: watch::Receiver<bool>,
    /// What kube-apiserver sends to be counted.
    pub(super) interception: watch::Receiver<Interception>,
    /// How long what was admitted may take to be written.
    pub(super) patience: Duration,
}

/// The task of a quota.
pub(super) struct Committer {
    name: Str,
    shared: Shared,
    store: Store,
    jobs: mpsc::Receiver<Job>,
    changed: watch::Receiver<u64>,
    leading: watch::Receiver<bool>,
    /// The ledger as it was last read, written or seen. None: it is not known, and must be read.
    base: Option<Base>,
    /// The object that was seen in the world: if it is there no more, it is gone.
    seen: Option<String>,
    /// Since when a ledger that had stood is missing.
    missing: Option<Instant>,
    /// What is to be done in the next round.
    queue: Vec<Job>,
    /// What can be refused, or waits for the ledger to stand; it is tried again in each round.
    waiting: Vec<Job>,
    settler: Settler,
    reads: JoinSet<Vec<gatehouse_quota::Expired>>,
    reporter: Reporter,
    /// When the last round began, and how many requests rode on it.
    round: (Instant, usize),
    settled_at: Instant,
    /// After a failure nothing is tried before this.
    not_before: Instant,
}

/// A ledger that was read, or that there is none.
struct Base {
    version: Option<Version>,
    ledger: Ledger,
    /// Whether promises may be made on it: it is this quota's, and makes sense.
    stands: bool,
}

impl Base {
    fn absent(quota: &CompiledQuota) -> Self {
        Self { version: None, ledger: Ledger::new(&quota.uid), stands: false }
    }

    fn of(stored: Stored, quota: &CompiledQuota) -> Self {
        match stored.ledger {
            Ok(ledger) if ledger.quota_uid() == quota.uid => {
                Self { version: Some(stored.version), ledger, stands: true }
            }
            Ok(_) => Self { version: Some(stored.version), ..Self::absent(quota) },
            Err(error) => {
                tracing::error!(quota = quota.name, %error, "the ledger makes no sense and is made anew");
                Self { version: Some(stored.version), ..Self::absent(quota) }
            }
        }
    }

    fn uid(&self) -> Option<&String> {
        self.version.as_ref().map(|version| &version.uid)
    }

    fn number(&self) -> u64 {
        self.version.as_ref().map_or(0, Version::number)
    }
}

/// What came of an attempt to write.
enum Written {
    Yes,
    /// The base is gone; what it was to become must be evaluated anew.
    No,
}

impl Committer {
    pub(super) fn new(name: Str, shared: Shared, jobs: mpsc::Receiver<Job>) -> Self {
        let now = Instant::now();
        let settler = Settler::new(shared.patience);
        Self {
            store: Store::new(shared.client.clone()),
            changed: shared.world.changed(),
            leading: shared.leading.clone(),
            reporter: Reporter::new(shared.client.clone()),
            name,
            shared,
            jobs,
            base: None,
            seen: None,
            missing: None,
            queue: Vec::new(),
            waiting: Vec::new(),
            settler,
            reads: JoinSet::new(),
            round: (now, 0),
            settled_at: now,
            not_before: now,
        }
    }

    /// Everything that waits, and the ledger's own affairs, once.
    async fn work(&mut self, quota: &CompiledQuota) {
        let mut batch = std::mem::take(&mut self.waiting);
        batch.append(&mut self.queue);
        self.round = (Instant::now(), batch.len());
        // Whether the ledger was read or written since this round began.
        let mut is_fresh = false;
        let mut conflicts: u32 = 0;
        loop {
            batch = job::without_late(batch, Instant::now());
            let world = self.shared.world.snapshot();
            self.adopt(&world, quota);
            if self.base.is_none() {
                match self.read(quota).await {
                    Ok(()) => is_fresh = true,
                    Err(error) => {
                        self.failed(&error, "read");
                        self.waiting = batch;
                        return;
                    }
                }
                continue;
            }
            let settled = self.settle(&world, quota);
            let Some(base) = &mut self.base else { continue };
            if !base.stands && !settled {
                // The leader makes it, as soon as it has seen what there is.
                self.waiting = batch;
                return;
            }
            let mut is_changed = settled;
            let mut decisions = Vec::with_capacity(batch.len());
            for job in &mut batch {
                let (decision, changed) = job.decide(&mut base.ledger, quota);
                is_changed |= changed;
                decisions.push(decision);
            }
            if is_changed {
                match self.write(quota).await {
                    Written::Yes => is_fresh = true,
                    Written::No if batch.is_empty() => return,
                    Written::No => {
                        // Whoever was faster has just begun to wait for its next round, so that there is time for
                        // this one now. If there is none again, there are several in the same place.
                        let calm =
                            self.not_before.max(Instant::now() + jittered(ROUND / 4, ROUND / 4) * conflicts);
                        sleep_until(calm.min(first_end(&batch))).await;
                        conflicts = (conflicts + 1).min(8);
                        self.take_queued(&mut batch);
                        continue;
                    }
                }
            }
            let now = Instant::now();
            let is_due = |job: &Job| job.may_refuse_at() <= now + TOGETHER;
            let refuses = batch.iter().zip(&decisions).any(|(job, one)| one.is_refusal() && is_due(job));
            if refuses && !is_fresh {
                self.base = None;
                continue;
            }
            if is_changed {
                self.shared.metrics.observe_ledger_batch(batch.len());
            }
            for (job, decision) in batch.into_iter().zip(decisions) {
                let is_due = job.may_refuse_at() <= now + TOGETHER;
                match decision {
                    Decision::Done(reply) => job.answer(reply),
                    Decision::Refuse(exceeded) if is_due => job.answer(Reply::Exceeded(exceeded)),
                    Decision::Refuse(_) | Decision::Wait => self.waiting.push(job),
                }
            }
            return;
        }
    }

    /// Takes over what was seen of the ledger, if it is newer than what is known.
    fn adopt(&mut self, world: &Snapshot, quota: &CompiledQuota) {
        // A quota of the same name may have taken the place of the one before.
        let is_other = |base: &Base| base.stands && base.ledger.quota_uid() != quota.uid;
        if self.base.as_ref().is_some_and(is_other) {
            self.base = None;
            self.settler.reset();
        }
        let Some(seen) = world.ledgers.get(&*quota.name) else {
            let gone = self.seen.take();
            if gone.is_some() && gone.as_ref() == self.base.as_ref().and_then(Base::uid) {
                self.base = None;
            }
            return;
        };
        let version = Version::of(seen);
        let number = version.number();
        self.seen = Some(version.uid);
        if self.base.as_ref().is_some_and(|base| base.number() < number) {
            self.base = Some(Base::of(Stored::of(seen), quota));
        }
    }

    async fn read(&mut self, quota: &CompiledQuota) -> Result<(), StoreError> {
        let stored = self.store.read(&quota.name).await?;
        self.base = Some(stored.map_or_else(|| Base::absent(quota), |stored| Base::of(stored, quota)));
        Ok(())
    }

    /// Settles, if this replica leads and it is time to. Says whether the ledger has changed.
    fn settle(&mut self, world: &Snapshot, quota: &CompiledQuota) -> bool {
        let now = Instant::now();
        if !*self.leading.borrow() {
            return false;
        }
        let Some(base) = &mut self.base else { return false };
        let is_time = now >= self.settled_at + SETTLE_ALONG && self.settler.is_due(world);
        if base.stands && !is_time {
            return false;
        }
        if !base.stands && is_missed(world, quota) {
            // What it had promised may still come. Whoever asks for more must wait until it cannot.
            let since = *self.missing.get_or_insert(now);
            if now < since + self.shared.patience {
                return false;
            }
        }
        self.missing = None;
        self.settled_at = now;
        let uid = base.uid().cloned().unwrap_or_default();
        let is_changed = self.settler.settle(world, quota, &uid, &mut base.ledger, now);
        base.stands |= self.settler.behind().is_none();
        is_changed
    }

    async fn write(&mut self, quota: &CompiledQuota) -> Written {
        let Some(mut base) = self.base.take() else { return Written::No };
        match self.store.write(quota, base.version.as_ref(), &base.ledger).await {
            Ok(version) => {
                self.shared.metrics.count_ledger_write("written");
                base.version = Some(version);
                self.base = Some(base);
                Written::Yes
            }
            Err(StoreError::Conflict | StoreError::Gone) => {
                self.shared.metrics.count_ledger_write("conflict");
                Written::No
            }
            Err(error) => {
                self.failed(&error, "written");
                Written::No
            }
        }
    }

    fn failed(&mut self, error: &StoreError, done: &'static str) {
        self.shared.metrics.count_ledger_write("failed");
        tracing::warn!(quota = &*self.name, error = %explain(error), "the ledger could not be {done}");
        self.not_before = Instant::now() + jittered(AFTER_FAILURE, AFTER_FAILURE);
    }

    /// What has come in the meantime rides along.
    fn take_queued(&mut self, batch: &mut Vec<Job>) {
        while batch.len() < QUEUE {
            let Ok(job) = self.jobs.try_recv() else { return };
            batch.push(job);
        }
    }
}

/// Whether a quota had a ledger once: its status tells what that had counted.
fn is_missed(world: &Snapshot, quota: &CompiledQuota) -> bool {
    world.tenant_quotas.get(&*quota.name).is_some_and(|object| {
        object.metadata.uid.as_deref() == Some(&*quota.uid)
            && object.status.as_ref().is_some_and(|status| !status.used.is_empty())
    })
}

/// When the first of a batch is to be answered.
fn first_end(batch: &[Job]) -> Instant {
    batch.iter().map(Job::until).min().unwrap_or_else(Instant::now)
}
