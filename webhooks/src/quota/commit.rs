//! One quota's ledger on one replica.
//!
//! Requests are admitted out of the replica's block, without a write. What goes beyond it is put together into a round: all
//! that waits is evaluated on the ledger as it is last known, and the block written once, as large as that takes and as
//! demand makes likely; answers are given when it stands. If somebody else has written meanwhile, the ledger is read and
//! the round evaluated again. How often a replica writes is bounded, whatever is asked ([`budget`]). While the ledger is
//! being written, what the block covers is admitted all the same; and it is filled up before it is used up.
//!
//! What only other blocks stand in the way of is not refused before their replicas have given back what they do not need:
//! the ledger's recall asks them to. On the replica that leads, a round settles first, so that nothing is refused for want
//! of room that is known to be free.

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
use gatehouse_quota::{Amounts, CompiledQuota, Holder, Ledger, MAX_BYTES, Totals};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

pub(super) use self::job::{Admission, Asked, Job, Refusal};
use self::{
    base::Base,
    budget::{Budget, Demand},
    job::Decision,
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

/// Beyond this, requests are told to try again.
pub(super) const QUEUE: usize = 4096;
/// While there is nothing but settling to do, the ledger is settled no faster than this …
const SETTLE: Duration = Duration::from_secs(1);
/// … and than this, while there is little room.
const SETTLE_FOR_ROOM: Duration = Duration::from_millis(100);
/// Refusals that are due within this time are given together: each needs the ledger to be read once more.
const TOGETHER: Duration = Duration::from_millis(50);
/// What was admitted is held against what was seen no faster than this, unless the ledger is another.
const FOLLOW: Duration = Duration::from_millis(50);
/// A recall that was not answered by all is repeated after this: some have taken more since.
const RECALL_AGAIN: Duration = Duration::from_secs(1);
/// After a recall was seen, nobody holds more than it needs for so long.
const CALM: Duration = Duration::from_secs(2);
/// Nothing is promised before this upon a ledger without a seal by who has just started: those who know that a version
/// without seals cannot have written it break the seal, within the time that passes between two looks of an idle replica.
const GRACE: Duration = Duration::from_secs(8);
/// The wait after a conflict, or up to twice that; and after a failure.
const AFTER_CONFLICT: Duration = Duration::from_millis(6);
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
    began: Instant,
    /// The ledger as it was last read, written or seen. None: it is not known, and must be read.
    base: Option<Base>,
    /// The object that was seen in the world: if it is there no more, it is gone.
    seen: Option<String>,
    /// The uid of the quota whose ledger stood here.
    stood: Option<String>,
    /// The generation of the quota by which promises were made.
    generation: Option<(String, i64)>,
    /// The last state of the ledger that nobody but Gatehouse can have made.
    known: Option<(Version, Ledger)>,
    /// Since when the ledger is without a seal, if this replica has just started.
    unsealed: Option<Instant>,
    /// Whether the ledger was not what it should be when it was met last.
    was_broken: bool,
    /// Since when the ledger is missing, or is not what it should be; and in which state of which object.
    broken: Option<(Instant, Option<(String, i64)>)>,
    /// It was found not to be what it should be, and does not say so itself.
    is_unmarked: bool,
    holder: Holder,
    demand: Demand,
    budget: Budget,
    /// What is to be done in the next round.
    queue: Vec<Job>,
    /// What can be refused, or waits for the ledger; it is tried again in each round.
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
    /// When `used` was written last, and when the account was held against what was seen, of which world.
    counted_at: Instant,
    followed: (Instant, u64),
    used_at: Instant,
    calm_until: Instant,
    /// The last recall that was seen here.
    recall: u64,
    /// After a failure nothing is tried before this.
    not_before: Instant,
    /// When something is to be done that waits for its turn.
    turn: Option<Instant>,
}

/// What came of an attempt to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Yes,
    /// It was not done; what it was to become must be evaluated anew.
    No,
    /// It may have been done, or be done yet.
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

    /// Everything that waits, and the ledger's own affairs, once.
    async fn work(&mut self, quota: &CompiledQuota) {
        let mut batch = std::mem::take(&mut self.waiting);
        self.round = Instant::now();
        self.turn = None;
        // Whether the ledger was read or written since this round began.
        let mut is_fresh = false;
        let mut conflicts: u32 = 0;
        loop {
            let now = Instant::now();
            // What has come during a write.
            batch.append(&mut self.queue);
            batch = job::without_late(batch, now);
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
                // Whatever was counted is to be followed first.
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
            let Round { decisions, waits, recall } = self.evaluate(&batch, quota, now);
            match self.write_block(quota, &waits, recall.is_some(), now).await {
                Some(Written::Yes) => {
                    is_fresh = true;
                    for (job, decision) in batch.iter_mut().zip(&decisions) {
                        if let (Some(number), Decision::Recall(true)) = (recall, decision) {
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
            let refuses = batch.iter().zip(&decisions).any(|(job, one)| one.is_refusal() && is_due(job));
            if refuses && !is_fresh {
                // What was admitted in this round is answered now; the rest, upon what is read.
                batch = answer(batch, decisions, |_| false);
                self.waiting.clear();
                self.base = None;
                continue;
            }
            let left = answer(batch, decisions, |job| is_due(job));
            self.waiting = left;
            return;
        }
    }

    /// Answers what needs no write: what the block covers, and what takes back.
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
        for job in batch {
            match job.admit(&mut self.holder.account, totals, is_valid) {
                Some(reply) => job.answer(reply),
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

    /// What would become of the rest, if the block were written.
    fn evaluate(&mut self, batch: &[Job], quota: &CompiledQuota, now: Instant) -> Round {
        let may_grow = self.budget.has_one(now);
        let mut round = Round::default();
        let Some(base) = &mut self.base else { return round };
        let own = Arc::clone(self.holder.name());
        let before = self.holder.account.charge().clone();
        self.holder.account.stage();
        for job in batch {
            let totals = totals(&base.ledger, &own, quota);
            round.decisions.push(job.decide(&mut self.holder.account, totals, may_grow, now));
        }
        let has_any = |is_one: fn(&Decision) -> bool| round.decisions.iter().any(is_one);
        let must_ask = has_any(|one| matches!(one, Decision::Recall(true)));
        let must_wait = !may_grow && (must_ask || has_any(|one| matches!(one, Decision::Wait)));
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

    /// Writes the block, if something waits for it or it is time to: see [`duty`].
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

    /// Writes the block as small as it can be, or that there is none, once.
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

    /// Waits a little, and takes what has come meanwhile.
    async fn calm_down(&mut self, conflicts: u32, batch: &mut Vec<Job>) -> u32 {
        // Whoever was faster has just begun to wait for its next turn, so that there is time for this one now. If there is
        // none again, there are several in the same place.
        let calm = self.not_before.max(Instant::now() + jittered(AFTER_CONFLICT, AFTER_CONFLICT) * conflicts);
        sleep_until(calm.min(first_end(batch))).await;
        self.take_queued(batch);
        (conflicts + 1).min(8)
    }

    /// What has come in the meantime rides along.
    fn take_queued(&mut self, batch: &mut Vec<Job>) {
        while batch.len() < QUEUE {
            let Ok(job) = self.jobs.try_recv() else { return };
            batch.push(job);
        }
    }

    /// Looks at everything again by then.
    fn wake(&mut self, at: Instant) {
        self.turn = Some(self.turn.map_or(at, |turn| turn.min(at)));
    }

    /// This task's own steady clock.
    fn clock(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Gives the answers that are settled, and says what is left.
fn answer(batch: Vec<Job>, decisions: Vec<Decision>, may_refuse: impl Fn(&Job) -> bool) -> Vec<Job> {
    let mut left = Vec::new();
    for (job, decision) in batch.into_iter().zip(decisions) {
        match decision {
            Decision::Done(reply) => job.answer(reply),
            Decision::Refuse(exceeded) if may_refuse(&job) => job.answer(Err(Refusal::Exceeded(exceeded))),
            Decision::Refuse(_) | Decision::Recall(_) | Decision::Wait => left.push(job),
        }
    }
    left
}

/// What was found out in a round.
#[derive(Default)]
struct Round {
    decisions: Vec<Decision>,
    /// What the block has to grow by before anything is answered.
    waits: Amounts,
    /// The number by which others are asked to give something back.
    recall: Option<u64>,
}

fn totals<'a>(ledger: &'a gatehouse_quota::Ledger, own: &'a str, quota: &'a CompiledQuota) -> Totals<'a> {
    let denies = quota.enforcement == gatehouse_apiservice::policy::Enforcement::Deny;
    Totals { ledger, own, hard: &quota.hard, denies }
}

/// A name that no other life of a process has.
fn life() -> String {
    format!("{:016x}{:08x}", random(), random() >> 32)
}

/// When the first of a batch is to be answered.
fn first_end(batch: &[Job]) -> Instant {
    batch.iter().map(Job::until).min().unwrap_or_else(Instant::now)
}
