//! Knowing the ledger: taking over what was read or seen of it, and writing it.

use tokio::time::Instant;

use gatehouse_apiservice::client::{explain, jittered};
use gatehouse_quota::{CompiledQuota, Seal};

use super::{
    AFTER_FAILURE, CALM, Committer, FOLLOW, Written,
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
        let is_lost = self.holder.meet(&base.ledger, self.clock());
        self.is_unmarked = false;
        if base.stands() {
            // Without a seal, a version without blocks has written it, which leaves blocks alone; or somebody else.
            let blocks = base.blocks();
            let was_robbed = base.ledger.seal() == Seal::None
                && self.sealed.as_ref().is_some_and(|sealed| {
                    !sealed.iter().all(|name| base.ledger.block(name).is_some())
                        && blocks.len() < sealed.len()
                });
            if is_lost || was_robbed {
                tracing::error!(quota = quota.name, "blocks are missing in the ledger: all is counted anew");
                base.ledger.break_seal();
                base.state = State::Broken;
                self.is_unmarked = true;
            }
            self.sealed = base.sealed_blocks();
            self.budget.share(blocks.len());
            self.stood = Some(quota.uid.clone());
            if base.ledger.recalls() > self.recall {
                self.recall = base.ledger.recalls();
                self.calm_until = now + CALM;
            }
        } else {
            self.holder.account.lose();
        }
        self.base = Some(base);
        self.followed.1 = 0;
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
                self.sealed = base.sealed_blocks();
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
