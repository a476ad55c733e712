//! A replica's regular duties for a ledger: settling and repairing it, and maintaining the replica's own block.

use std::time::Duration;

use gatehouse_quota::{CompiledQuota, DEAD, Ledger, Quantity, RENEW, Settled};
use tokio::time::Instant;

use super::{
    Committer, SETTLE, SETTLE_FOR_ROOM, Written,
    base::{Base, State},
    totals,
};
use crate::{
    quota::{
        cover::{self, Covered},
        settle::Settler,
    },
    world::Snapshot,
};

/// A block that is unused for this long is given back.
const IDLE: Duration = Duration::from_secs(10);
/// How often a block gives back room that is counted by now, while there is little room.
const SHRINK: Duration = Duration::from_secs(1);
/// The least time between two checks that everything is observed: each lists every kind that limits depend on.
const COVER: Duration = Duration::from_secs(2);
/// There is little room if less than this fraction (one in so many) of a limit is left.
const LITTLE: i64 = 8;

/// The reason to write a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// The block does not cover the uncounted admissions.
    Cover,
    /// A recall asks for room that is not needed.
    Answer,
    /// The block will soon be used up.
    FillUp,
    /// The block is in use, and would expire.
    Renew,
    /// Part of the block is counted by now, and other replicas may need the room.
    Shrink,
    /// The block is not in use.
    GiveBack,
}

impl Committer {
    /// Whether there is anything to maintain.
    pub(super) fn has_duties(&self) -> bool {
        self.holder.written().is_some() || !self.holder.account.is_empty()
    }

    /// The duty for the block that is due now.
    pub(super) fn duty(&mut self, quota: &CompiledQuota, now: Instant) -> Option<Duty> {
        let clock = self.clock();
        let base = self.base.as_ref().filter(|base| base.stands())?;
        let account = &self.holder.account;
        let own = self.holder.name();
        let Some(block) = base.ledger.block(own) else {
            return (!account.is_covered(&base.ledger)).then_some(Duty::Cover);
        };
        let age = self.holder.written().map_or(Duration::MAX, |written| clock.saturating_sub(written));
        let is_idle = account.is_empty() && now >= self.used_at + IDLE;
        let is_used = self.began + self.holder.written().unwrap_or_default() < self.used_at;
        let holds_more = block.amount().iter().any(|(one, held)| *held > account.limit().get(one));
        if !account.is_covered(&base.ledger) {
            Some(Duty::Cover)
        } else if base.ledger.recalls() > self.holder.answered() {
            Some(Duty::Answer)
        } else if is_idle {
            Some(Duty::GiveBack)
        } else if now >= self.calm_until
            && self.demand.is_low(age, &self.holder, totals(&base.ledger, own, quota))
        {
            Some(Duty::FillUp)
        } else if is_used && age >= RENEW {
            Some(Duty::Renew)
        } else if holds_more && age >= SHRINK && is_tight(&base.ledger, quota) {
            Some(Duty::Shrink)
        } else {
            None
        }
    }

    /// When the next duty for the block may be due.
    pub(super) fn next_duty(&self) -> Option<Instant> {
        let written = self.began + self.holder.written()?;
        let idle = self.holder.account.is_empty().then_some(self.used_at + IDLE);
        let renew = (written < self.used_at).then_some(written + RENEW);
        [idle, renew, self.turn].into_iter().flatten().min()
    }

    /// Settles, if this replica holds the lease and settling is due.
    pub(super) async fn settle(&mut self, world: &Snapshot, quota: &CompiledQuota) -> Option<Written> {
        let now = Instant::now();
        let base = self.base.as_ref().filter(|_| *self.leading.borrow())?;
        self.settler.observe(world, &base.ledger, self.holder.name(), now);
        let is_hurried = !self.waiting.is_empty() || now < self.calm_until || is_tight(&base.ledger, quota);
        let apart = if is_hurried { SETTLE_FOR_ROOM } else { SETTLE };
        if !self.settler.is_due(world) {
            return None;
        }
        if now < self.settled_at + apart {
            self.wake(self.settled_at + apart);
            return None;
        }
        if !self.budget.has_one(now) {
            self.wake(self.budget.next());
            return None;
        }
        self.settled_at = now;
        let mut ledger = base.ledger.clone();
        let is_waited_for = ledger.is_waited_for() || !self.holder.account.is_empty();
        match self.settler.settle(world, quota, &mut ledger, now) {
            Settled::Changed => {}
            Settled::Later if is_waited_for && now >= self.counted_at + SETTLE => {}
            Settled::Later | Settled::Unchanged | Settled::Behind(_) => return None,
        }
        self.base.as_mut()?.ledger = ledger;
        let written = self.write(quota).await;
        if written == Written::Yes {
            self.counted_at = Instant::now();
            self.settler.has_settled();
        }
        Some(written)
    }

    /// Creates a missing ledger, or repairs a broken one: by restoring its last trustworthy state or, if that is no
    /// longer known, by counting everything once nothing that may have been admitted can still be written.
    pub(super) async fn mend(&mut self, world: &Snapshot, quota: &CompiledQuota) -> Option<Written> {
        let now = Instant::now();
        let is_missed = self.stood.as_ref() == Some(&quota.uid) || is_missed(world, quota);
        let base = self.base.as_ref()?;
        if base.stands() {
            self.broken = None;
            return None;
        }
        if self.is_unmarked && base.state == State::Broken {
            // So that no other replica reserves anything in it.
            let written = self.write(quota).await;
            self.is_unmarked = written != Written::Yes;
            return Some(written);
        }
        if !*self.leading.borrow() {
            self.broken = None;
            return None;
        }
        let is_missing = base.version.is_none();
        let must_wait = base.state == State::Broken || is_missed;
        if must_wait {
            // Requests admitted out of it may still be written; requests for more wait until they no longer can.
            let state = base.place();
            if self.broken.as_ref().is_none_or(|(_, known)| *known != state) {
                self.broken = Some((now, state));
            }
            let restored = self.restore(quota).await;
            if restored.is_some() {
                return restored;
            }
            let since = self.broken.as_ref().map_or(now, |(since, _)| *since);
            if !self.settler.is_covered(since + DEAD + self.shared.patience) {
                return None;
            }
        }
        let mut ledger = Ledger::new(&quota.uid);
        self.settled_at = now;
        match self.settler.count(world, quota, &mut ledger, now) {
            Settled::Changed => {}
            _ => return None,
        }
        if is_missing {
            // Only an existing object has a uid to be sealed to. Until then no replica reserves anything in it.
            let mut unsealed = Ledger::new(&quota.uid);
            if must_wait {
                unsealed.break_seal();
            }
            self.base = Some(Base { version: None, ledger: unsealed, state: State::Broken });
            let made = self.write(quota).await;
            if made != Written::Yes {
                return Some(made);
            }
        }
        let version = self.base.take().and_then(|base| base.version);
        self.base = Some(Base { version, ledger, state: State::Stands });
        let written = self.write(quota).await;
        if written == Written::Yes {
            self.broken = None;
            self.settler.reset();
        }
        Some(written)
    }

    /// Checks whether everything that is written by now is observed: dead replicas and expired admissions cannot add
    /// anything to it.
    pub(super) fn cover(&mut self, quota: &CompiledQuota, now: Instant) {
        if !self.covers.is_empty() || !*self.leading.borrow() || now < self.cover_at {
            return;
        }
        let patience = self.broken.as_ref().map(|(since, _)| *since + DEAD + self.shared.patience);
        let is_mending = patience.is_some_and(|until| now >= until && !self.settler.is_covered(until));
        let dead = self.settler.overdue(now);
        let revisions = self.base.as_ref().and_then(|base| self.settler.doubted(&base.ledger, now));
        if dead.is_empty() && !is_mending && revisions.is_none() {
            return;
        }
        self.cover_at = now + COVER;
        let resources = Settler::resources(quota);
        self.covers.spawn(cover::find(
            self.shared.live.clone(),
            self.shared.world.clone(),
            resources,
            dead,
            revisions.unwrap_or_default(),
        ));
    }

    pub(super) fn covered(&mut self, covered: Option<Covered>) {
        let Some(covered) = covered else { return };
        if covered.is_future
            && let Some(base) = self.base.as_mut().filter(|base| base.stands())
        {
            tracing::error!(
                quota = &*self.name,
                "ledger is ahead of the cluster, counting all objects again"
            );
            base.ledger.doubt();
            base.state = State::Broken;
            self.is_unmarked = true;
        }
        self.settler.covered(covered);
    }
}

/// Whether there is little room for some limit.
pub(super) fn is_tight(ledger: &Ledger, quota: &CompiledQuota) -> bool {
    quota.hard.iter().any(|(dimension, limit)| {
        let little = Quantity::from_milli(limit.milli() / i128::from(LITTLE));
        ledger.room("", dimension, &quota.hard).is_some_and(|room| room <= little)
    })
}

/// Whether a quota has had a ledger before: then its status shows what that ledger had counted.
fn is_missed(world: &Snapshot, quota: &CompiledQuota) -> bool {
    world.tenant_quotas.get(&*quota.name).is_some_and(|object| {
        object.metadata.uid.as_deref() == Some(&*quota.uid)
            && object.status.as_ref().is_some_and(|status| !status.used.is_empty())
    })
}
