//! Keeps the known state of the ledger: adopts what was read or observed, and writes it.

use std::pin::pin;

use tokio::time::Instant;

use gatehouse_apiservice::client::{explain, jittered};
use gatehouse_quota::{CompiledQuota, Seal};

use super::{
    AFTER_FAILURE, CALM, Committer, FOLLOW, QUEUE, Written,
    base::{Base, State},
};
use crate::{
    quota::store::{StoreError, Stored, Version},
    world::Snapshot,
};

impl Committer {
    /// Adopts the observed ledger, if it is newer than the known one.
    pub(super) fn adopt(&mut self, world: &Snapshot, quota: &CompiledQuota) {
        // With other limits, the rest of the block may be too much.
        let generation = (quota.uid.clone(), quota.generation);
        if self.generation.as_ref() != Some(&generation) {
            if self.generation.as_ref().is_some_and(|(uid, _)| *uid != quota.uid) {
                self.base = None;
                self.known = None;
                self.was_broken = false;
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

    /// Adopts a ledger that was read or observed.
    pub(super) fn meet(&mut self, mut base: Base, quota: &CompiledQuota) {
        self.is_unmarked = false;
        if base.state == State::Lacking && base.version.is_some() && self.stood.as_ref() == Some(&quota.uid) {
            // This quota had a ledger here before.
            base.state = State::Broken;
        }
        if base.stands() {
            base.state = self.judge(&base);
            // Missing blocks may reappear when the ledger is restored.
            if self.holder.meet(&base.ledger, self.clock()) {
                base.state = State::Broken;
            }
            self.budget.share(base.replicas());
            self.stood = Some(quota.uid.clone());
            if base.ledger.recalls() > self.recall {
                self.recall = base.ledger.recalls();
                self.calm_until = Instant::now() + CALM;
            }
            match base.state {
                State::Broken => self.distrust(&mut base, quota),
                State::Stands => self.trust(&base),
                State::Unproven | State::Lacking => {}
            }
        } else if base.state == State::Lacking && base.version.is_some() {
            self.holder.abandon();
        } else {
            self.holder.account.lose();
            self.was_broken = base.state == State::Broken;
        }
        self.base = Some(base);
        self.followed.1 = 0;
    }

    /// Records a state that only Gatehouse can have written.
    pub(super) fn trust(&mut self, base: &Base) {
        self.known = base.version.clone().map(|version| (version, base.ledger.clone()));
        // Also of a ledger that this replica has made itself, and of which it has not observed anything yet.
        self.stood = Some(base.ledger.quota_uid().to_owned());
        self.unsealed = None;
        self.was_broken = false;
    }

    /// Records that somebody else wrote a state: no replica may reserve anything in it.
    pub(super) fn distrust(&mut self, base: &mut Base, quota: &CompiledQuota) {
        tracing::error!(quota = quota.name, "ledger is an old state, or blocks were removed from it");
        if base.ledger.seal() == Seal::Whole {
            base.ledger.doubt();
        } else {
            base.ledger.break_seal();
        }
        base.state = State::Broken;
        self.is_unmarked = true;
        self.was_broken = true;
        self.holder.account.lose();
    }

    /// Forgets admissions that are counted by now or came to nothing.
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
        self.holder.account.sent();
        match self.write_meanwhile(&base, quota).await {
            Ok(version) => {
                self.shared.metrics.count_ledger_write("written");
                if base.version.replace(version).is_some() {
                    base.ledger.was_sealed();
                }
                if base.stands() {
                    self.trust(&base);
                }
                self.budget.share(base.replicas());
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

    /// Writes the ledger; meanwhile admits what the block covers whether or not the write succeeds.
    async fn write_meanwhile(&mut self, base: &Base, quota: &CompiledQuota) -> Result<Version, StoreError> {
        let store = self.store.clone();
        let mut write = pin!(store.write(quota, base.version.as_ref(), &base.ledger));
        loop {
            tokio::select! {
                written = &mut write => return written,
                Some(job) = self.jobs.recv(), if base.stands() && self.queue.len() < QUEUE => {
                    let left = self.admit_upon(&base.ledger, vec![job], quota);
                    self.queue.extend(left);
                }
            }
        }
    }

    pub(super) fn failed(&mut self, error: &StoreError, done: &'static str) {
        self.shared.metrics.count_ledger_write("failed");
        tracing::warn!(quota = &*self.name, error = %explain(error), "ledger cannot be {done}, retrying");
        self.not_before = Instant::now() + jittered(AFTER_FAILURE, AFTER_FAILURE);
    }
}
