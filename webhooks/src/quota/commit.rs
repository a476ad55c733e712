//! The task of one quota's ledger on one replica.
//!
//! The task admits requests out of the replica's block, without a write. Requests beyond the block are collected into a
//! round: the task evaluates all of them against the ledger as last known, and writes the block once, as large as they
//! need and as demand makes likely; it answers when the write has succeeded. If somebody else has written meanwhile,
//! the task reads the ledger and evaluates the round again. The number of writes per replica is bounded, whatever the
//! load ([`budget`]). While a write is in progress, the task goes on admitting what the block covers; and it enlarges
//! the block before it is used up.
//!
//! **Invariant:** a request that only the blocks of other replicas leave no room for is not denied before those
//! replicas have given back room that they do not need: the ledger's recall asks them to. On the lease holder a round
//! settles first, so that no request is denied for lack of room that is known to be free.

mod base;
mod budget;
mod duty;
mod job;
mod known;
mod prove;
mod restore;
mod task;

use std::{sync::Arc, time::Duration};

use gatehouse_apiservice::client::{jittered, random};
use gatehouse_inventory::Str;
use gatehouse_quota::{Amounts, CompiledQuota, Holder, Ledger, MAX_BYTES, Outcome, Totals};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

pub(super) use self::job::{Asked, Job};
use self::{
    base::Base,
    budget::{Budget, Demand},
    job::is_undecided,
    restore::Found,
};
use super::{
    cover::Covered,
    settle::Settler,
    status::Reporter,
    store::{Store, Version},
    waiting::Waiting,
};
use crate::{
    controllers::Interception,
    metrics::Metrics,
    world::{Live, World},
};

/// The most requests that are queued; beyond it, requests are told to retry.
pub(super) const QUEUE: usize = 4096;
/// The least time between two settlings while there is nothing else to do …
const SETTLE: Duration = Duration::from_secs(1);
/// … and while there is little room.
const SETTLE_FOR_ROOM: Duration = Duration::from_millis(100);
/// Denials that are due within this time are answered together: each needs another read of the ledger.
const TOGETHER: Duration = Duration::from_millis(50);
/// The least time between two comparisons of the account with the observed state, unless the ledger has changed.
const FOLLOW: Duration = Duration::from_millis(50);
/// A recall that not all replicas have answered is repeated after this: some have taken more room since.
const RECALL_AGAIN: Duration = Duration::from_secs(1);
/// For this long after it observes a recall, a replica holds no more than it needs.
const CALM: Duration = Duration::from_secs(2);
/// A replica that has just started reserves nothing in a ledger without a seal before this: replicas which know that a
/// version without seals cannot have written it break the seal within the time between two looks of an idle replica.
const GRACE: Duration = Duration::from_secs(8);
/// The wait after a conflict, for each earlier one in the round, which jitter may double; and the wait after a failure.
const AFTER_CONFLICT: Duration = Duration::from_millis(6);
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The parts that all tasks of a replica share. Cheap to clone.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) world: World,
    pub(super) live: Live,
    /// Does not repeat requests.
    pub(super) client: kube::Client,
    pub(super) metrics: Arc<Metrics>,
    pub(super) leading: watch::Receiver<bool>,
    /// The kinds that kube-apiserver sends to the webhook.
    pub(super) interception: watch::Receiver<Interception>,
    /// How long after its admission a request may still be written.
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
    began: Instant,
    /// The ledger as last read, written or observed; `None` if it must be read.
    base: Option<Base>,
    /// The object that was last observed in the world; when it disappears from the world, it was deleted.
    seen: Option<String>,
    /// The uid of the quota that had a valid ledger here.
    stood: Option<String>,
    /// The uid and generation of the quota that reservations were made for.
    generation: Option<(String, i64)>,
    /// The last state of the ledger that only Gatehouse can have written.
    known: Option<(Version, Ledger)>,
    /// Since when the ledger has no seal, if this replica has just started.
    unsealed: Option<Instant>,
    /// Whether the ledger was broken when it was last read or observed.
    was_broken: bool,
    /// Since when the ledger is missing or broken; and the uid and generation of its object.
    broken: Option<(Instant, Option<(String, i64)>)>,
    /// The ledger was found to be broken, but its seal is not marked as broken yet.
    is_unmarked: bool,
    holder: Holder,
    demand: Demand,
    budget: Budget,
    /// The jobs of the next round.
    queue: Vec<Job>,
    /// Jobs that may be denied later, or wait for the ledger; each round tries them again.
    waiting: Vec<Job>,
    settler: Settler,
    entries: Waiting,
    reads: JoinSet<Vec<gatehouse_quota::Expired>>,
    covers: JoinSet<Option<Covered>>,
    cover_at: Instant,
    searches: JoinSet<Found>,
    found: Option<Found>,
    reporter: Reporter,
    round: Instant,
    settled_at: Instant,
    /// When `used` was last written.
    counted_at: Instant,
    /// When the account was last compared with the observed state, and the sequence number of that world.
    followed: (Instant, u64),
    used_at: Instant,
    calm_until: Instant,
    /// The last recall that was observed.
    recall: u64,
    /// After a failure, nothing is retried before this.
    not_before: Instant,
    /// When a write that waits for the budget may be made.
    turn: Option<Instant>,
}

/// The result of an attempt to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Yes,
    /// It was not done; the round must be evaluated again.
    No,
    /// It may have been done, or may still be done.
    Unknown,
}

impl Committer {
    pub(super) fn new(name: Str, shared: Shared, jobs: mpsc::Receiver<Job>) -> Self {
        let now = Instant::now();
        Self {
            store: Store::new(shared.client.clone()),
            changed: shared.world.changed(),
            leading: shared.leading.clone(),
            reporter: Reporter::new(shared.client.clone()),
            settler: Settler::new(shared.patience),
            entries: Waiting::new(shared.patience),
            name,
            shared,
            jobs,
            began: now,
            base: None,
            seen: None,
            stood: None,
            generation: None,
            known: None,
            unsealed: None,
            was_broken: false,
            broken: None,
            is_unmarked: false,
            holder: Holder::new(life()),
            demand: Demand::default(),
            budget: Budget::new(now),
            queue: Vec::new(),
            waiting: Vec::new(),
            reads: JoinSet::new(),
            covers: JoinSet::new(),
            cover_at: now,
            searches: JoinSet::new(),
            found: None,
            round: now,
            settled_at: now,
            counted_at: now,
            followed: (now, 0),
            used_at: now,
            calm_until: now,
            recall: 0,
            not_before: now,
            turn: None,
        }
    }

    /// Runs one round: all waiting jobs, and the duties for the ledger.
    async fn work(&mut self, quota: &CompiledQuota) {
        let mut batch = std::mem::take(&mut self.waiting);
        self.round = Instant::now();
        self.turn = None;
        // Whether the ledger was read or written since this round began.
        let mut is_fresh = false;
        let mut conflicts: u32 = 0;
        loop {
            let now = Instant::now();
            // Jobs that came in during a write.
            batch.append(&mut self.queue);
            batch.retain(|job| job.until() > now);
            let world = self.shared.world.snapshot();
            self.adopt(&world, quota);
            self.follow(&world, quota, !batch.is_empty());
            batch = self.admit(batch, quota);
            if self.base.is_none() {
                if batch.is_empty() && !*self.leading.borrow() && !self.has_duties() {
                    return;
                }
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
            if !self.is_judged(quota).await {
                self.waiting = batch;
                return;
            }
            let written = self.mend(&world, quota).await;
            let written = match written {
                None if !self.base.as_ref().is_some_and(Base::stands) => {
                    self.waiting = batch;
                    return;
                }
                None => self.settle(&world, quota).await,
                written => written,
            };
            match written {
                None => {}
                // The account must follow the new count first.
                Some(Written::Yes) => {
                    is_fresh = true;
                    continue;
                }
                Some(_) if batch.is_empty() => return,
                Some(_) => {
                    conflicts = self.calm_down(conflicts, &mut batch).await;
                    continue;
                }
            }
            let Round { outcomes, waits, recall } = self.evaluate(&mut batch, quota, now);
            match self.write_block(quota, &waits, recall.is_some(), now).await {
                Some(Written::Yes) => {
                    is_fresh = true;
                    for (job, outcome) in batch.iter_mut().zip(&outcomes) {
                        if let Some(number) = recall.filter(|_| needs_recall(job, outcome, now)) {
                            job.recalled(number, now);
                        }
                    }
                    self.shared.metrics.observe_ledger_batch(batch.len());
                }
                Some(_) if batch.is_empty() => return,
                Some(_) => {
                    conflicts = self.calm_down(conflicts, &mut batch).await;
                    continue;
                }
                None if !waits.is_empty() => {
                    // There is no place for it in the ledger.
                    self.waiting = batch;
                    return;
                }
                None => self.holder.account.keep(),
            }
            let now = Instant::now();
            let is_due = |job: &Job| job.may_refuse_at() <= now + TOGETHER;
            let refuses = batch.iter().zip(&outcomes).any(|(job, one)| is_denial(one) && is_due(job));
            if refuses && !is_fresh {
                // Answers the admissions of this round now, and the rest after another read of the ledger.
                batch = answer(batch, outcomes, |_| false);
                self.waiting.clear();
                self.base = None;
                continue;
            }
            let left = answer(batch, outcomes, |job| is_due(job));
            self.waiting = left;
            return;
        }
    }

    /// Answers jobs that need no write: those that the block covers, and withdrawals.
    fn admit(&mut self, batch: Vec<Job>, quota: &CompiledQuota) -> Vec<Job> {
        let Some(base) = self.base.take_if(|base| base.stands()) else { return batch };
        let left = self.admit_upon(&base.ledger, batch, quota);
        self.base = Some(base);
        left
    }

    fn admit_upon(&mut self, ledger: &Ledger, batch: Vec<Job>, quota: &CompiledQuota) -> Vec<Job> {
        let is_valid = self.holder.is_valid(self.clock());
        let own = Arc::clone(self.holder.name());
        let totals = totals(ledger, &own, quota);
        let before = self.holder.account.charge().clone();
        let mut left = Vec::new();
        for job in batch.into_iter().filter(|job| !job.is_forgotten()) {
            match job.admit(&mut self.holder.account, totals, is_valid) {
                Some(outcome) => job.answer(outcome),
                None => left.push(job),
            }
        }
        let after = self.holder.account.charge();
        if before != *after {
            self.demand.spend(&before, after);
            self.used_at = Instant::now();
        }
        left
    }

    /// Decides the remaining jobs, on the condition that the block is written.
    fn evaluate(&mut self, batch: &mut Vec<Job>, quota: &CompiledQuota, now: Instant) -> Round {
        let may_grow = self.budget.has_one(now);
        let mut round = Round::default();
        let Some(base) = &mut self.base else { return round };
        let own = Arc::clone(self.holder.name());
        let before = self.holder.account.charge().clone();
        self.holder.account.stage();
        batch.retain(|job| !job.is_forgotten());
        for job in &*batch {
            let totals = totals(&base.ledger, &own, quota);
            round.outcomes.push(job.decide(&mut self.holder.account, totals, may_grow));
        }
        let must_ask = batch.iter().zip(&round.outcomes).any(|(job, one)| needs_recall(job, one, now));
        let must_wait = !may_grow && (must_ask || round.outcomes.iter().any(is_undecided));
        if must_ask && may_grow {
            round.recall = Some(base.ledger.recall());
        }
        if must_wait {
            self.wake(self.budget.next());
        }
        let after = self.holder.account.charge();
        let grown = after.saturating_sub(&before);
        round.waits = grown.only(|dimension| !grown.get(dimension).is_negative());
        if !round.waits.is_empty() {
            self.used_at = now;
        }
        round
    }

    /// Writes the block, if a job waits for it or a duty is due: see [`duty`].
    async fn write_block(
        &mut self,
        quota: &CompiledQuota,
        waits: &Amounts,
        recall: bool,
        now: Instant,
    ) -> Option<Written> {
        let clock = self.clock();
        let duty = self.duty(quota, now);
        if waits.is_empty() && !recall && duty.is_none() {
            return None;
        }
        if !self.budget.has_one(now) {
            self.wake(self.budget.next());
            return None;
        }
        let base = self.base.as_mut()?;
        let own = Arc::clone(self.holder.name());
        let before = base.ledger.block(&own).cloned();
        if duty == Some(duty::Duty::GiveBack) && waits.is_empty() {
            self.holder.give_back(clock);
            base.ledger.put(&own, None);
        } else if !waits.is_empty() || before.is_some() || !self.holder.account.is_empty() {
            let totals = totals(&base.ledger, &own, quota);
            let elapsed =
                self.holder.written().map_or(Duration::MAX, |written| clock.saturating_sub(written));
            let wish = self.demand.wish(elapsed.min(Duration::from_mins(1)), waits, &self.holder, totals);
            let wish = if recall || now < self.calm_until { Amounts::default() } else { wish };
            let block = self.holder.send(&wish, totals, clock);
            base.ledger.put(&own, Some(block));
            if base.ledger.bytes() > MAX_BYTES && !waits.is_empty() {
                self.holder.failed(true);
                base.ledger.put(&own, before);
                return None;
            }
        }
        let written = self.write(quota).await;
        match written {
            Written::Yes => self.holder.landed(),
            Written::No => self.holder.failed(true),
            Written::Unknown => self.holder.failed(false),
        }
        Some(written)
    }

    /// Tries once to shrink the block as far as possible, or to remove it.
    async fn leave(&mut self, quota: &CompiledQuota) {
        let clock = self.clock();
        let Some(base) = &mut self.base else { return };
        let own = Arc::clone(self.holder.name());
        let block = if self.holder.account.is_empty() {
            self.holder.give_back(clock);
            None
        } else {
            Some(self.holder.send(&Amounts::default(), totals(&base.ledger, &own, quota), clock))
        };
        base.ledger.put(&own, block);
        self.write(quota).await;
    }

    /// Waits after a conflict, and takes the jobs that came in meanwhile.
    async fn calm_down(&mut self, conflicts: u32, batch: &mut Vec<Job>) -> u32 {
        // The replica that wrote first now waits for its next turn, so the first retry need not wait. If that conflicts
        // too, several replicas compete.
        let calm = self.not_before.max(Instant::now() + jittered(AFTER_CONFLICT, AFTER_CONFLICT) * conflicts);
        sleep_until(calm.min(first_end(batch))).await;
        self.take_queued(batch);
        (conflicts + 1).min(8)
    }

    /// Adds the jobs that came in meanwhile to the batch.
    fn take_queued(&mut self, batch: &mut Vec<Job>) {
        while batch.len() < QUEUE {
            let Ok(job) = self.jobs.try_recv() else { return };
            batch.push(job);
        }
    }

    /// Runs another round by then at the latest.
    fn wake(&mut self, at: Instant) {
        self.turn = Some(self.turn.map_or(at, |turn| turn.min(at)));
    }

    /// This task's own monotonic clock.
    fn clock(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Answers the decided jobs, and returns the rest.
fn answer(batch: Vec<Job>, outcomes: Vec<Outcome>, may_deny: impl Fn(&Job) -> bool) -> Vec<Job> {
    let mut left = Vec::new();
    for (job, outcome) in batch.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Exceeded { is_certain: true, .. } if may_deny(&job) => job.answer(outcome),
            Outcome::Exceeded { .. } | Outcome::Beyond | Outcome::Untracked(_) => left.push(job),
            outcome => job.answer(outcome),
        }
    }
    left
}

fn is_denial(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Exceeded { is_certain: true, .. })
}

/// Whether only other blocks leave no room for a job, and their replicas are yet to be asked for it.
fn needs_recall(job: &Job, outcome: &Outcome, now: Instant) -> bool {
    matches!(outcome, Outcome::Exceeded { is_certain: false, .. }) && job.needs_recall(now)
}

/// The result of evaluating a round.
#[derive(Default)]
struct Round {
    outcomes: Vec<Outcome>,
    /// The amounts that the block must grow by before anything is answered.
    waits: Amounts,
    /// The number of the recall to be made.
    recall: Option<u64>,
}

fn totals<'a>(ledger: &'a gatehouse_quota::Ledger, own: &'a str, quota: &'a CompiledQuota) -> Totals<'a> {
    let denies = quota.enforcement == gatehouse_apiservice::policy::Enforcement::Deny;
    Totals { ledger, own, hard: &quota.hard, denies }
}

/// A name that is unique to this life of the process.
fn life() -> String {
    format!("{:016x}{:08x}", random(), random() >> 32)
}

/// When the first job of a batch must be answered.
fn first_end(batch: &[Job]) -> Instant {
    batch.iter().map(Job::until).min().unwrap_or_else(Instant::now)
}
