//! What is promised out of a quota, and not counted yet.
//!
//! The ledger of a quota is one small object, which replicas change by compare-and-swap alone. It holds `used`, what the
//! tenant's objects took up at one revision of each kind, and a *block* for each replica: so much of the room that is
//! left as this replica may admit without writing anything. What it admitted and is not counted yet, a replica keeps in
//! memory, in its [`Account`]. For each limit:
//!
//! > usage ≤ used + Σ blocks, and of each replica: what it admitted and is not counted yet ≤ its block
//!
//! A block is made or enlarged only where `used` and all blocks together stay within the limit, so that usage does too.
//!
//! What it rests on:
//! - etcd writes an update only if the object still stands at the revision that admission was shown. An update that was
//!   admitted at R is written as R's immediate successor, or never.
//! - An object is *counted* at a revision when `used` was counted at that revision of its kind, or a later one. Only then
//!   does a replica forget what it admitted, and its block is worth so much less from then on: the room is in `used` now.
//!   What came to nothing makes the block free again.
//! - A block is of one life of a process. It is nobody else's, and never taken up again. A replica that has not written
//!   its block for a while admits nothing more out of it; whoever settles removes it only after that, when what was
//!   admitted out of it can no longer be written, and what was written is counted.
//! - What is written by versions of Gatehouse that know no blocks, an entry for each object, is a block that nobody
//!   renews; and a block is an entry to them.
//! - The ledger is sealed: it names its own uid and generation. Whoever else writes it breaks the seal; then nothing is
//!   promised until its last state with a seal is back in its place, or all that may have been admitted is counted.

mod account;
mod block;
mod denial;
mod entry;
mod history;
mod holder;
mod settle;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gatehouse_apiservice::quantity::Quantity;

pub use account::{Account, Charged, Extent, MAX_ENTRIES, MAX_OF_USER, Outcome, Totals};
pub use block::{Block, Place, Seal};
pub use denial::Exceeded;
pub use entry::{Expired, Fate, Pending, Proposal};
pub use history::History;
pub use holder::{DEAD, Holder, RENEW, VALID};
pub use settle::{Counted, Dead, Reached, Seen, Settled, Truth};
pub use wire::LedgerError;

use crate::{Amounts, Dimension, GroupResource};

/// The blocks of a ledger are never larger than this together: none is made or enlarged that would take them further.
pub const MAX_BYTES: usize = 16 << 10;

/// The ledger of one quota.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    quota_uid: String,
    /// Every limit that is kept account of, those of which nothing is used too.
    used: BTreeMap<Dimension, Quantity>,
    /// What `used` was counted at.
    revisions: BTreeMap<GroupResource, u64>,
    /// Of versions that know no blocks: how many admissions were charged.
    tickets: i64,
    blocks: BTreeMap<Arc<str>, Block>,
    /// Kept up: the sum of the blocks.
    promised: Amounts,
    seal: Seal,
    /// It is not true, though Gatehouse wrote it; or it is of a version that is yet to come.
    is_doubted: bool,
    /// How often replicas were asked to give back what they do not need.
    recall: u64,
    /// How often `used` was counted.
    counts: u64,
}

impl Ledger {
    /// The ledger of a quota of which nothing is known yet: no limit is kept account of before it was counted.
    pub fn new(quota_uid: impl Into<String>) -> Self {
        Self { quota_uid: quota_uid.into(), ..Self::default() }
    }

    /// Whose ledger it is.
    pub fn quota_uid(&self) -> &str {
        &self.quota_uid
    }

    /// What was counted, of each limit that account is kept of.
    pub fn used(&self) -> &BTreeMap<Dimension, Quantity> {
        &self.used
    }

    /// The revision that `used` was counted at.
    pub fn revision(&self, resource: &GroupResource) -> Option<u64> {
        self.revisions.get(resource).copied()
    }

    /// The blocks, by their names.
    pub fn blocks(&self) -> impl Iterator<Item = (&Arc<str>, &Block)> {
        self.blocks.iter()
    }

    /// A block.
    pub fn block(&self, name: &str) -> Option<&Block> {
        self.blocks.get(name)
    }

    /// What all blocks hold together.
    pub fn promised(&self) -> &Amounts {
        &self.promised
    }

    /// What replicas have admitted and was not counted, as they wrote it last; of blocks that do not say so, all.
    pub fn reserved(&self, but: &str) -> Amounts {
        let others = self.blocks.iter().filter(|(name, _)| ***name != *but);
        others.fold(Amounts::default(), |sum, (_, block)| sum.saturating_add(&block.reserved))
    }

    /// Whether it is as Gatehouse wrote it.
    pub fn seal(&self) -> Seal {
        self.seal
    }

    /// Breaks the seal, so that nobody promises anything upon it: somebody is known to have changed it.
    pub fn break_seal(&mut self) {
        self.seal = Seal::Broken;
    }

    /// Breaks the seal of a ledger that is not true, though Gatehouse wrote it: what it was before helps no more.
    pub fn doubt(&mut self) {
        self.seal = Seal::Broken;
        self.is_doubted = true;
    }

    /// It has been written, to an object that was there.
    pub fn was_sealed(&mut self) {
        if self.seal == Seal::None {
            self.seal = Seal::Whole;
        }
    }

    /// How many bytes the blocks take.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|(name, block)| name.len() + block.text.len()).sum()
    }

    /// Whether replicas have admitted anything that was not counted when they wrote their blocks.
    pub fn is_waited_for(&self) -> bool {
        self.blocks.values().any(|block| block.is_ours && !block.reserved.is_empty())
    }

    /// How often replicas were asked to give back what they do not need.
    pub fn recalls(&self) -> u64 {
        self.recall
    }

    /// Asks all replicas to give back what they do not need, and says the number of that question.
    pub fn recall(&mut self) -> u64 {
        let answered = self.blocks.values().map(|block| block.answered).max();
        self.recall = self.recall.max(answered.unwrap_or_default()).saturating_add(1);
        self.recall
    }

    /// How often `used` was counted.
    pub fn counts(&self) -> u64 {
        self.counts
    }

    /// Whether all but `own` that hold something of these limits have answered a recall, knowing what is counted.
    pub fn is_answered(&self, recall: u64, own: &str, dimensions: &BTreeSet<Dimension>) -> bool {
        let mut others = self.blocks.iter().filter(|(name, _)| ***name != *own);
        others.all(|(_, block)| {
            let holds = dimensions.iter().any(|one| !block.amount.get(one).is_zero());
            !holds || block.answered >= recall && block.counts == self.counts
        })
    }

    /// Whether a version without seals may have made this out of `before`, in one write: it counts nothing at an earlier
    /// revision, and leaves the blocks of replicas as they are. It removes one whose replica is gone for long; but not just
    /// when a replica has sealed the ledger.
    pub fn may_be_of_older(&self, before: &Self) -> bool {
        let mut revisions = before.revisions.iter();
        let is_later = revisions.all(|(resource, at)| self.revision(resource).is_none_or(|now| now >= *at));
        let counts_anew = self.revisions != before.revisions;
        let mut used = before.used.iter();
        let is_counted =
            used.all(|(one, had)| counts_anew || self.used.get(one).is_none_or(|now| now == had));
        let mut blocks = before.blocks.iter().filter(|(_, block)| block.is_ours);
        let has_blocks = blocks.all(|(name, block)| match self.blocks.get(name) {
            Some(now) => (&now.amount, now.ticket) == (&block.amount, block.ticket),
            None => before.seal == Seal::None,
        });
        is_later && is_counted && has_blocks && (before.used.is_empty() || !self.used.is_empty())
    }

    /// Makes, changes or removes a block.
    pub fn put(&mut self, name: &Arc<str>, block: Option<Block>) {
        if let Some(before) = self.blocks.remove(name) {
            self.promised = self.promised.saturating_sub(&before.amount);
        }
        if let Some(block) = block {
            self.promised = self.promised.saturating_add(&block.amount);
            self.blocks.insert(Arc::clone(name), block);
        }
    }

    /// How much there is for one block: the limit without what is counted and what the other blocks hold. It may be
    /// negative. None, if there is no such limit.
    pub fn room(
        &self,
        own: &str,
        dimension: &Dimension,
        hard: &BTreeMap<Dimension, Quantity>,
    ) -> Option<Quantity> {
        let least = Quantity::from_milli(i128::MIN);
        let limit = hard.get(dimension)?;
        let used = self.used.get(dimension).copied().unwrap_or_default();
        let left = limit.checked_sub(used).and_then(|left| left.checked_sub(self.others(own, dimension)));
        Some(left.unwrap_or(least))
    }

    /// What the other blocks hold of a limit.
    fn others(&self, own: &str, dimension: &Dimension) -> Quantity {
        let own = self.blocks.get(own).map(|block| block.amount.get(dimension)).unwrap_or_default();
        self.promised.get(dimension).checked_sub(own).unwrap_or(Quantity::from_milli(i128::MAX))
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
