//! Knowing the ledger: taking over what was read or seen of it, and writing it.

use tokio::time::Instant;

use gatehouse_apiservice::client::{explain, jittered};
use gatehouse_quota::{CompiledQuota, Seal};

use super::{
    AFTER_FAILURE, CALM, Committer, FOLLOW, GRACE, Written,
    base::{Base, State},
};
use crate::{
    quota::store::{StoreError, Stored, Version},
    world::Snapshot,
};

impl Committer {
    /// Takes over what was seen of the ledger, if it is newer than what is known.
    pub(super) fn adopt(&mut self, world: &Snapshot, quota: &CompiledQuota) {
        // By other limits, what is left of the block may be too much.
        let generation = (quota.uid.clone(), quota.generation);
        if self.generation.as_ref() != Some(&generation) {
            if self.generation.as_ref().is_some_and(|(uid, _)| *uid != quota.uid) {
                self.base = None;
                self.whole = None;
                self.known = None;
                self.settler.reset();
            }
            self.generation = Some(generation);
            self.holder.account.yield_rest();
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
            self.meet(Base::of(Stored::of(seen), quota), quota);
        }
    }

    pub(super) async fn read(&mut self, quota: &CompiledQuota) -> Result<(), StoreError> {
        let stored = self.store.read(&quota.name).await?;
        let base = stored.map_or_else(|| Base::absent(quota), |stored| Base::of(stored, quota));
        self.meet(base, quota);
        Ok(())
    }

    /// Takes a ledger that was read or seen.
    pub(super) fn meet(&mut self, mut base: Base, quota: &CompiledQuota) {
        let now = Instant::now();
        self.is_unmarked = false;
        if base.stands() {
            let is_lost = self.holder.meet(&base.ledger, self.clock());
            let blocks = base.blocks();
            let is_sealed = base.ledger.seal() == Seal::Whole;
            let was_robbed = !is_sealed && !self.may_be_of_older(&base);
            if is_lost || was_robbed {
                tracing::error!(
                    quota = quota.name,
                    "blocks are missing in the ledger, or it is an old state of it"
                );
                if is_sealed {
                    base.ledger.doubt();
                } else {
                    base.ledger.break_seal();
                }
                base.state = State::Broken;
                self.is_unmarked = true;
                self.holder.account.lose();
            } else {
                // There may have been blocks that this replica has never seen.
                let may_hide = base.ledger.blocks().next().is_none() && !self.is_next(&base);
                self.sealed = base.sealed_blocks();
                self.note_whole(&base);
                let is_unknown = self.whole.is_none() || may_hide;
                self.unsealed =
                    if is_sealed { None } else { self.unsealed.or_else(|| is_unknown.then_some(now)) };
                self.known = base.place();
            }
            self.budget.share(blocks.len());
            self.stood = Some(quota.uid.clone());
            if base.ledger.recalls() > self.recall {
                self.recall = base.ledger.recalls();
                self.calm_until = now + CALM;
            }
        } else if base.state == State::Lacking && base.version.is_some() {
            self.holder.abandon();
        } else {
            // The block may be there again when the ledger was put right.
            self.holder.account.lose();
        }
        self.base = Some(base);
        self.followed.1 = 0;
    }

    /// Whether somebody who knows the ledger for longer may yet say that it is not what it should be.
    pub(super) fn is_doubtful(&mut self, now: Instant) -> bool {
        let Some(until) = self.unsealed.map(|since| since + GRACE).filter(|until| now < *until) else {
            return false;
        };
        self.wake(until);
        true
    }

    /// Whether a version without blocks may have written it, as it has no seal: such a version leaves blocks alone, and
    /// counts nothing at an earlier revision. Else it was somebody else.
    fn may_be_of_older(&self, base: &Base) -> bool {
        let blocks = base.blocks();
        let has_blocks = self.sealed.as_ref().is_none_or(|sealed| {
            sealed.iter().all(|name| base.ledger.block(name).is_some()) || blocks.len() >= sealed.len()
        });
        has_blocks && self.whole.as_ref().is_none_or(|(_, whole)| base.ledger.may_follow(whole))
    }

    /// Whether it is the state that came right after the one that was last known to stand, or the same.
    fn is_next(&self, base: &Base) -> bool {
        let known = self.known.as_ref().zip(base.version.as_ref());
        known.is_some_and(|((uid, generation), version)| {
            *uid == version.uid && version.generation <= generation + 1
        })
    }

    /// Keeps the last state that is known to be as Gatehouse wrote it.
    fn note_whole(&mut self, base: &Base) {
        if base.stands() && base.ledger.seal() == Seal::Whole {
            self.whole = base.version.clone().map(|version| (version, base.ledger.clone()));
        }
    }

    /// Forgets what is counted by now, and what came to nothing.
    pub(super) fn follow(&mut self, world: &Snapshot, quota: &CompiledQuota, is_waited_for: bool) {
        let Some(base) = self.base.as_ref().filter(|base| base.stands()) else { return };
        let now = Instant::now();
        let (at, sequence) = self.followed;
        let is_new = sequence == 0 || self.entries.has_news();
        let is_due =
            sequence != world.sequence && now >= at + if is_waited_for { FOLLOW } else { 2 * FOLLOW };
        if self.holder.account.is_empty() || !is_new && !is_due {
            return;
        }
        self.followed = (now, world.sequence);
        self.settler.observe_kinds(world, now);
        let truth = self.settler.observed(world, quota, &base.ledger, now);
        self.holder.account.found(&self.entries.take_found());
        self.holder.account.follow(&base.ledger, &truth);
        self.entries.observe(&self.holder.account, now);
    }

    pub(super) async fn write(&mut self, quota: &CompiledQuota) -> Written {
        let Some(mut base) = self.base.take() else { return Written::No };
        self.budget.take(Instant::now());
        match self.store.write(quota, base.version.as_ref(), &base.ledger).await {
            Ok(version) => {
                self.shared.metrics.count_ledger_write("written");
                if base.version.replace(version).is_some() {
                    base.ledger.was_sealed();
                }
                if base.stands() {
                    self.sealed = base.sealed_blocks();
                    self.known = base.place();
                    self.unsealed = None;
                }
                self.note_whole(&base);
                self.budget.share(base.blocks().len());
                self.followed.1 = 0;
                self.base = Some(base);
                Written::Yes
            }
            Err(StoreError::Conflict | StoreError::Gone) => {
                self.shared.metrics.count_ledger_write("conflict");
                Written::No
            }
            Err(error) => {
                self.failed(&error, "written");
                Written::Unknown
            }
        }
    }

    pub(super) fn failed(&mut self, error: &StoreError, done: &'static str) {
        self.shared.metrics.count_ledger_write("failed");
        tracing::warn!(quota = &*self.name, error = %explain(error), "the ledger could not be {done}");
        self.not_before = Instant::now() + jittered(AFTER_FAILURE, AFTER_FAILURE);
    }
}
