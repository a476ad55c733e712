//! Counting what is used, and what becomes of blocks whose replicas are gone.
//!
//! Whoever settles holds the lease; but two that believe to hold it do no harm either, as what was seen may not be
//! older than what the ledger was settled by before. The ledger says for each kind how far that was.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gatehouse_apiservice::quantity::Quantity;

use super::Ledger;
use crate::{Amounts, Dimension, GroupResource};

/// What was observed, at one moment. All answers are of the same moment.
pub trait Truth {
    /// What the objects of the tenant's namespaces take up.
    fn used(&self) -> Amounts;
    /// How far a resource was observed.
    fn reached(&self, resource: &GroupResource) -> Reached;
    /// An object, wherever it is.
    fn seen(&self, resource: &GroupResource, uid: &str) -> Option<Seen>;
    /// Whether an object with this uid was seen to go.
    fn was_deleted(&self, uid: &str) -> bool;
}

/// How far a resource was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Nothing can be said.
    Unknown,
    /// It is not served, and the API server itself has just said so: there are no objects.
    Absent,
    /// Every change up to this revision was seen, and perhaps later ones.
    To(u64),
}

/// An object that was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its resourceVersion.
    pub revision: u64,
    /// The revision at which its namespace was seen to be the tenant's; none, if it is not.
    pub member_since: Option<u64>,
}

/// A block that was not written for so long that nothing that was admitted out of it can be written any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dead {
    /// Its name.
    pub name: Arc<str>,
    /// As it was when the waiting began.
    pub ticket: i64,
}

/// How the objects are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// As far as they were seen.
    AsSeen,
    /// Everything was seen that had been written when the last block had waited for long enough.
    AllWritten,
}

/// What came of settling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The ledger is as it was.
    Unchanged,
    /// It is the same but for revisions: worth being written only where somebody waits for them.
    Later,
    /// It has changed, and is worth being written.
    Changed,
    /// Nothing could be done: of this resource less was seen than when the ledger was settled last. It is as it was.
    Behind(GroupResource),
}

impl Ledger {
    /// Makes `used` what was seen, and removes the blocks of the dead if everything was seen that they may have
    /// admitted. `resources` are those that the limits depend on, and that of namespaces.
    pub fn settle(
        &mut self,
        hard: &BTreeMap<Dimension, Quantity>,
        resources: &BTreeSet<GroupResource>,
        truth: &dyn Truth,
        dead: &[Dead],
        counted: Counted,
    ) -> Settled {
        let mut revisions = BTreeMap::new();
        for resource in resources {
            match (truth.reached(resource), self.revisions.get(resource)) {
                (Reached::Unknown, _) => return Settled::Behind(resource.clone()),
                (Reached::To(reached), Some(settled)) if reached < *settled => {
                    return Settled::Behind(resource.clone());
                }
                (Reached::To(reached), _) => {
                    revisions.insert(resource.clone(), reached);
                }
                (Reached::Absent, _) => {}
            }
        }
        let used = truth.used();
        let used: BTreeMap<_, _> = hard.keys().map(|one| (one.clone(), used.get(one))).collect();
        let mut is_changed = used != self.used;
        if counted == Counted::AllWritten {
            for Dead { name, ticket } in dead {
                if self.blocks.get(name).is_some_and(|block| block.ticket == *ticket) {
                    self.put(name, None);
                    is_changed = true;
                }
            }
        }
        let is_later = revisions != self.revisions;
        if !is_changed && !is_later {
            return Settled::Unchanged;
        }
        let known = self.blocks.values().map(|block| block.counts).max().unwrap_or_default();
        self.counts = self.counts.max(known).saturating_add(1);
        (self.used, self.revisions) = (used, revisions);
        if is_changed { Settled::Changed } else { Settled::Later }
    }
}
