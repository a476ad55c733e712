//! The ledger of a quota: reserves room for objects that were admitted and are not counted yet.
//!
//! The ledger is one small object, which replicas change by compare-and-swap alone. It holds `used`, the usage of the
//! tenant's objects at one revision of each kind, and a *block* for each replica: the part of the remaining room that
//! this replica may admit out of without a write. A replica keeps what it admitted and is not counted yet in memory, in
//! its [`Account`].
//!
//! **Invariant:** for each limit:
//!
//! > usage ≤ used + Σ blocks, and for each replica: what it admitted and is not counted yet ≤ its block
//!
//! A block is created or enlarged only if `used` and all blocks together stay within the limit, so usage does too.
//!
//! It relies on the following:
//! - etcd writes an update only if the object is still at the revision that admission was shown. An update that was
//!   admitted at revision R is written as R's immediate successor, or never.
//! - An object is *counted* at a revision if `used` was counted at that revision of its kind, or at a later one. Only
//!   then does a replica forget the admission, and its block is worth that much less from then on, because `used` now
//!   includes it. An admission that came to nothing frees its part of the block.
//! - A block belongs to one life of one process, and is never reused. A replica that has not written its block for some
//!   time admits nothing more out of it. Settling removes the block only after that, when admissions out of it can no
//!   longer be written, and those that were written are counted.
//! - Versions of Gatehouse without blocks write one entry per object. This version reads such an entry as a block that
//!   nobody renews; those versions read a block as an entry.
//! - The ledger is sealed: it names its own uid and generation. A write by anybody else breaks the seal. Then nothing
//!   is reserved until the last sealed state is restored, or until everything that may have been admitted is counted.

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

/// The most bytes of a ledger's spec: no block is created or enlarged beyond it.
pub const MAX_BYTES: usize = 16 << 10;

/// The ledger of one quota.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    quota_uid: String,
    /// The usage of every tracked limit, including those with a usage of zero.
    used: BTreeMap<Dimension, Quantity>,
    /// The revision of each resource that `used` was counted at.
    revisions: BTreeMap<GroupResource, u64>,
    /// The number of admissions that were charged by versions without blocks.
    tickets: i64,
    blocks: BTreeMap<Arc<str>, Block>,
    /// The sum of the blocks, kept up to date.
    promised: Amounts,
    seal: Seal,
    /// It is wrong although Gatehouse wrote it, or a later version wrote it.
    is_doubted: bool,
    /// How often replicas were asked to give back room that they do not need.
    recall: u64,
    /// The number of times that `used` was counted.
    counts: u64,
}

impl Ledger {
    /// An empty ledger: no limit is tracked before it was counted.
    pub fn new(quota_uid: impl Into<String>) -> Self {
        Self { quota_uid: quota_uid.into(), ..Self::default() }
    }

    /// The uid of its quota.
    pub fn quota_uid(&self) -> &str {
        &self.quota_uid
    }

    /// The counted usage of each tracked limit.
    pub fn used(&self) -> &BTreeMap<Dimension, Quantity> {
        &self.used
    }

    /// The revision of a resource that `used` was counted at.
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

    /// The sum of all blocks.
    pub fn promised(&self) -> &Amounts {
        &self.promised
    }

    /// What replicas other than `but` had admitted and not seen counted when they last wrote their blocks; for entries
    /// of versions without blocks, their whole amount.
    pub fn reserved(&self, but: &str) -> Amounts {
        let others = self.blocks.iter().filter(|(name, _)| ***name != *but);
        others.fold(Amounts::default(), |sum, (_, block)| sum.saturating_add(&block.reserved))
    }

    /// Whether it is unchanged since Gatehouse wrote it.
    pub fn seal(&self) -> Seal {
        self.seal
    }

    /// Breaks the seal, so that nobody reserves anything in it: somebody else is known to have changed it.
    pub fn break_seal(&mut self) {
        self.seal = Seal::Broken;
    }

    /// Breaks the seal of a ledger that is wrong although Gatehouse wrote it: earlier states cannot be restored either.
    pub fn doubt(&mut self) {
        self.seal = Seal::Broken;
        self.is_doubted = true;
    }

    /// Records that it was written to an existing object, which gave it a seal if it had none.
    pub fn was_sealed(&mut self) {
        if self.seal == Seal::None {
            self.seal = Seal::Whole;
        }
    }

    /// The number of bytes of the spec in JSON, without the seal.
    pub fn bytes(&self) -> usize {
        serde_json::to_string(&self.written(None)).map_or(usize::MAX, |text| text.len())
    }

    /// Whether any replica had admitted something that was not counted when it last wrote its block.
    pub fn is_waited_for(&self) -> bool {
        self.blocks.values().any(|block| block.is_ours && !block.reserved.is_empty())
    }

    /// The number of recalls: how often replicas were asked to give back room that they do not need.
    pub fn recalls(&self) -> u64 {
        self.recall
    }

    /// Asks all replicas to give back room that they do not need, and returns the number of this recall.
    pub fn recall(&mut self) -> u64 {
        let answered = self.blocks.values().map(|block| block.answered).max();
        self.recall = self.recall.max(answered.unwrap_or_default()).saturating_add(1);
        self.recall
    }

    /// The number of times that `used` was counted.
    pub fn counts(&self) -> u64 {
        self.counts
    }

    /// Whether every other block that holds something of these limits has answered the recall, and was written with
    /// knowledge of the last count.
    pub fn is_answered(&self, recall: u64, own: &str, dimensions: &BTreeSet<Dimension>) -> bool {
        let mut others = self.blocks.iter().filter(|(name, _)| ***name != *own);
        others.all(|(_, block)| {
            let holds = dimensions.iter().any(|one| !block.amount.get(one).is_zero());
            !holds || block.answered >= recall && block.counts == self.counts
        })
    }

    /// Whether a version without seals can have written this state over `before` in one write. Such a version never
    /// counts at an earlier revision, and keeps the blocks of replicas. It does remove a block that was not written for
    /// long, but not from a ledger that a replica has just sealed.
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

    /// Creates, replaces or removes a block.
    pub fn put(&mut self, name: &Arc<str>, block: Option<Block>) {
        if let Some(before) = self.blocks.remove(name) {
            self.promised = self.promised.saturating_sub(&before.amount);
        }
        if let Some(block) = block {
            self.promised = self.promised.saturating_add(&block.amount);
            self.blocks.insert(Arc::clone(name), block);
        }
    }

    /// The room for one block: the limit minus the counted usage and the other blocks. It may be negative; `None` if
    /// there is no such limit.
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

    /// The sum of the other blocks, for one limit.
    fn others(&self, own: &str, dimension: &Dimension) -> Quantity {
        let own = self.blocks.get(own).map(|block| block.amount.get(dimension)).unwrap_or_default();
        self.promised.get(dimension).checked_sub(own).unwrap_or(Quantity::from_milli(i128::MAX))
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
