//! What a replica does for a ledger unasked: settling, mending, and looking after its own block.

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

/// A block of which nothing is used for so long is given back.
const IDLE: Duration = Duration::from_secs(10);
/// How often room that a block has no right to any more is given back where there is little.
const SHRINK: Duration = Duration::from_secs(1);
/// How often at most it is found out whether all was seen: it takes a list of every kind that limits depend on.
const COVER: Duration = Duration::from_secs(2);
/// Where less than this part of a limit is left, there is little room.
const LITTLE: i64 = 8;

/// Why a block is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// It holds less than was admitted.
    Cover,
    /// Somebody asks for what is not needed.
    Answer,
    /// It will soon be used up.
    FillUp,
    /// It is in use, and would be taken for that of a replica that is gone.
    Renew,
    /// Part of it is counted by now, and others may need the room.
    Shrink,
    /// It is not in use.
    GiveBack,
}

impl Committer {
    /// Whether there is anything to look after.
    pub(super) fn has_duties(&self) -> bool {
        self.holder.written().is_some() || !self.holder.account.is_empty()
    }

    /// What is to be done about the block now.
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

    /// When there may be something to do about the block.
    pub(super) fn next_duty(&self) -> Option<Instant> {
        let written = self.began + self.holder.written()?;
        let idle = self.holder.account.is_empty().then_some(self.used_at + IDLE);
        let renew = (written < self.used_at).then_some(written + RENEW);
        [idle, renew, self.turn].into_iter().flatten().min()
    }

    /// Settles, if this replica leads and it is time to.
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

    /// Makes a ledger that is missing, or puts right one that is not what it should be: by its last state that was, or,
    /// where nobody knows that any more, by counting everything when all has come that may have been admitted.
    pub(super) async fn mend(&mut self, world: &Snapshot, quota: &CompiledQuota) -> Option<Written> {
        let now = Instant::now();
        let is_missed = self.stood.as_ref() == Some(&quota.uid) || is_missed(world, quota);
        let base = self.base.as_ref()?;
        if base.stands() {
            self.broken = None;
            return None;
        }
        if self.is_unmarked && base.state == State::Broken {
            // So that nobody else promises anything upon it.
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
            // What was admitted upon it may still come. Whoever asks for more must wait until it cannot.
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
            // Only what is there has a uid to be sealed to. Until then nobody promises anything upon it.
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

    /// Finds out whether the world has seen all that was written by now: whoever is dead, or whatever was lost, can add
    /// nothing to that.
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

/// Whether there is little room left of something.
pub(super) fn is_tight(ledger: &Ledger, quota: &CompiledQuota) -> bool {
    quota.hard.iter().any(|(dimension, limit)| {
        let little = Quantity::from_milli(limit.milli() / i128::from(LITTLE));
        ledger.room("", dimension, &quota.hard).is_some_and(|room| room <= little)
    })
}

/// Whether a quota had a ledger once: its status tells what that had counted.
fn is_missed(world: &Snapshot, quota: &CompiledQuota) -> bool {
    world.tenant_quotas.get(&*quota.name).is_some_and(|object| {
        object.metadata.uid.as_deref() == Some(&*quota.uid)
            && object.status.as_ref().is_some_and(|status| !status.used.is_empty())
    })
}
