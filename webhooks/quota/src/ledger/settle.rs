//! Settling: counts what is used, and removes the blocks of dead replicas.
//!
//! The lease holder settles. **Invariant:** `used` is never replaced by an older observation: the ledger records the
//! revision that each resource was counted at, so two replicas that both believe to hold the lease do no harm.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gatehouse_apiservice::quantity::Quantity;

use super::Ledger;
use crate::{Amounts, Dimension, GroupResource};

/// What was observed. All answers are of the same moment.
pub trait Truth {
    /// The usage of the objects in the tenant's namespaces.
    fn used(&self) -> Amounts;
    /// The revision up to which a resource was observed.
    fn reached(&self, resource: &GroupResource) -> Reached;
    /// An observed object, in any namespace.
    fn seen(&self, resource: &GroupResource, uid: &str) -> Option<Seen>;
    /// Whether the deletion of an object with this uid was observed.
    fn was_deleted(&self, uid: &str) -> bool;
}

/// The revision up to which a resource was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Unknown.
    Unknown,
    /// The API server has just said that it does not serve the resource: there are no objects.
    Absent,
    /// Every change up to this revision was observed, and perhaps later ones.
    To(u64),
}

/// An object that was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its resourceVersion.
    pub revision: u64,
    /// The revision at which its namespace was observed to be the tenant's; `None` if it is not.
    pub member_since: Option<u64>,
}

/// The block of a dead replica: not written for so long that no admission out of it can be written any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dead {
    /// Its name.
    pub name: Arc<str>,
    /// Its ticket when the wait began.
    pub ticket: i64,
}

/// How complete the observation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Objects are counted as far as they were observed.
    AsSeen,
    /// The observation includes everything that had been written when the last dead block expired.
    AllWritten,
}

/// The result of settling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The ledger is unchanged.
    Unchanged,
    /// Only revisions have changed: worth a write only if a replica waits for them.
    Later,
    /// Usage or blocks have changed: worth a write.
    Changed,
    /// The ledger is unchanged: this resource was not observed as far as when the ledger was last settled, or at all.
    Behind(GroupResource),
}

impl Ledger {
    /// Sets `used` to the observed usage, and removes the blocks of dead replicas if everything that they may have
    /// admitted was observed. `resources` are those that the limits depend on, and namespaces.
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
