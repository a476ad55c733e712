//! What was promised, held against what was seen.
//!
//! Whoever settles holds the lease; but two that believe to hold it do no harm either, as what was seen may not be
//! older than what the ledger was settled by before. The ledger says for each kind how far that was.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gatehouse_apiservice::quantity::Quantity;

use super::{Entry, Ledger, Pending};
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
    /// What [`Truth::used`] counts for it; none, if its namespace is not seen to be the tenant's.
    pub counted: Option<Amounts>,
}

/// An entry that has waited longer than any request lasts, and what a quorum read made after that has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The entry as it was when the waiting began.
    pub entry: Pending,
    /// What was found.
    pub fate: Fate,
}

/// What a quorum read has found in the place of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No object of that uid.
    Absent,
    /// The object, at this revision.
    Present(u64),
}

/// What came of settling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The ledger is as it was.
    Unchanged,
    /// It has changed, and is worth being written.
    Changed,
    /// Nothing could be done: of this resource less was seen than when the ledger was settled last. It is as it was.
    Behind(GroupResource),
}

impl Ledger {
    /// Makes `used` what was seen, and drops what became of it. `resources` are those that the limits depend on, and
    /// that of namespaces.
    pub fn settle(
        &mut self,
        hard: &BTreeMap<Dimension, Quantity>,
        resources: &BTreeSet<GroupResource>,
        truth: &dyn Truth,
        expired: &[Expired],
    ) -> Settled {
        let mut revisions = self.revisions.clone();
        for resource in resources {
            match (truth.reached(resource), self.revisions.get(resource)) {
                (Reached::Unknown, _) => return Settled::Behind(resource.clone()),
                (Reached::To(reached), Some(settled)) if reached < *settled => {
                    return Settled::Behind(resource.clone());
                }
                (Reached::To(reached), _) => {
                    revisions.insert(resource.clone(), reached);
                }
                (Reached::Absent, _) => {
                    revisions.remove(resource);
                }
            }
        }
        let used = truth.used();
        let used: BTreeMap<_, _> = hard.keys().map(|one| (one.clone(), used.get(one))).collect();
        let mut entries = BTreeMap::new();
        for (uid, entry) in &self.entries {
            let expired =
                expired.iter().find(|expired| entry.is(uid, &expired.entry)).map(|expired| expired.fate);
            match entry.settled(uid, truth, expired) {
                Fold::Into { revision } => {
                    // The next to settle must have seen as much.
                    let reached = revisions.entry(entry.resource.clone()).or_default();
                    *reached = revision.max(*reached);
                }
                Fold::Keep { floor } => {
                    let tracked = |dimension: &Dimension| used.contains_key(dimension);
                    let (floor, peak) = (floor.only(tracked), entry.peak.only(tracked));
                    if !peak.is_empty() {
                        entries.insert(Arc::clone(uid), Entry { floor, peak, ..entry.clone() });
                    }
                }
                Fold::Drop => {}
            }
        }
        // Revisions alone are not worth a write: as long as nothing was dropped or counted by a later one, an earlier
        // one is as good.
        if used == self.used && entries == self.entries {
            return Settled::Unchanged;
        }
        self.charge = Self::sum(&entries);
        (self.used, self.revisions, self.entries) = (used, revisions, entries);
        Settled::Changed
    }
}

/// What becomes of an entry.
enum Fold {
    /// `used` counts all that can become of it, having seen the object at this revision.
    Into { revision: u64 },
    /// Nothing can become of it.
    Drop,
    /// It may still come, on top of what `used` counts.
    Keep { floor: Amounts },
}

impl Entry {
    fn settled(&self, uid: &str, truth: &dyn Truth, expired: Option<Fate>) -> Fold {
        if truth.was_deleted(uid) || expired == Some(Fate::Absent) {
            return Fold::Drop;
        }
        let Some(Seen { revision, counted }) = truth.seen(&self.resource, uid) else {
            // An update was of an object that existed then. A creation may yet come.
            let is_gone = self.at.is_some_and(|at| match truth.reached(&self.resource) {
                Reached::To(reached) => reached >= at,
                Reached::Absent => true,
                Reached::Unknown => false,
            });
            return if is_gone { Fold::Drop } else { Fold::Keep { floor: Amounts::default() } };
        };
        let is_over = match (self.at, expired) {
            (None, _) => true,
            (Some(at), _) if revision > at => true,
            // Nobody can write it any more, nobody has, and `used` counts the object as it is.
            (Some(at), Some(Fate::Present(found))) => found == at && revision == at,
            (Some(_), _) => false,
        };
        match counted {
            Some(_) if is_over => Fold::Into { revision },
            // It is in a namespace that whoever admitted it took for the tenant's. Either the labels have not been seen
            // yet, or they have been changed since; the latter, if it goes on like this.
            None if is_over && expired.is_some() => Fold::Drop,
            counted => Fold::Keep { floor: counted.unwrap_or_default() },
        }
    }

    fn is(&self, uid: &str, pending: &Pending) -> bool {
        *uid == *pending.uid && self.ticket == pending.ticket
    }
}
