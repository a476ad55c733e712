//! What was promised out of a quota, and not been seen yet.
//!
//! `used` is what the tenant's objects took up at one revision of each kind. Each entry is an object that may come to
//! take up more than `used` counts for it: `floor` is at most what is counted, `peak` at least what the object may
//! take up by any request that was admitted and can still be written. So, whatever becomes of those requests:
//!
//! > usage ≤ used + Σ max(0, peak − floor)
//!
//! What it rests on: etcd writes an update only if the object still stands at the revision that admission was shown.
//! An update that was admitted at R is written as R's immediate successor, or never. Whoever writes the ledger does so
//! by compare-and-swap.

mod denial;
mod settle;
mod wire;

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_apiservice::quantity::Quantity;

pub use denial::{Exceeded, forbidden};
pub use settle::{Expired, Fate, Reached, Seen, Settled, Truth};
pub use wire::LedgerError;

use crate::{Amounts, Dimension, GroupResource};

/// More entries than this are refused for a while. etcd takes 1.5 MiB in one request; an entry is 200 bytes as a rule
/// and 300 with long names and all five limits, which makes 5,000 of them at most. They are dropped as soon as their
/// objects are seen, so that many outstanding means that nobody settles, or that objects are made faster than they
/// can be watched.
pub const MAX_ENTRIES: usize = 5_000;

/// What was promised, as the ledger of one quota says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    quota_uid: String,
    /// Every limit that is kept account of, those of which nothing is used too.
    used: BTreeMap<Dimension, Quantity>,
    /// What `used` was seen at.
    revisions: BTreeMap<GroupResource, u64>,
    /// How many admissions were charged so far.
    tickets: i64,
    entries: BTreeMap<Arc<str>, Entry>,
    /// Kept up: the sum over the entries.
    charge: Amounts,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    resource: GroupResource,
    namespace: Arc<str>,
    name: Arc<str>,
    /// Of the last admission. Whoever waits for the entry to expire begins anew when that changes.
    ticket: i64,
    /// The revision that the update was admitted at; none for a creation.
    at: Option<u64>,
    floor: Amounts,
    peak: Amounts,
}

/// A request that asks for more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The object's uid: kube-apiserver has made it by the time that validating admission is asked.
    pub uid: Arc<str>,
    /// Its resource.
    pub resource: GroupResource,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The resourceVersion of the object as it is; none if it is to be made.
    pub at: Option<u64>,
    /// What it takes up.
    pub old: Amounts,
    /// What it is to take up.
    pub new: Amounts,
    /// Whether it is admitted though it exceeds a limit.
    pub forced: bool,
}

/// What becomes of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing that is limited grows: admitted, whatever is used. The ledger is as it was.
    NoIncrease,
    /// The object has been written since: admitted, as it cannot be written again like this. The ledger is as it was.
    Superseded,
    /// Admitted and charged. The ledger has changed and must be written before anybody is told.
    Charged(Charged),
    /// There is no room. The ledger is as it was.
    Exceeded(Exceeded),
    /// The ledger does not keep account of this limit yet: try again.
    Untracked(Dimension),
    /// There are too many entries: try again.
    Full,
}

/// A charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charged {
    /// What it exceeds, if it was forced.
    pub exceeds: Option<Exceeded>,
    /// The ticket, if nobody else's request rests on the entry: by it the charge can be taken back.
    pub receipt: Option<i64>,
}

/// An entry, as whoever waits for it knows it again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pending {
    /// The object's uid.
    pub uid: Arc<str>,
    /// Its resource.
    pub resource: GroupResource,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The revision that the update was admitted at; none for a creation.
    pub at: Option<u64>,
    /// Of the last admission: no two are the same.
    pub ticket: i64,
}

impl Entry {
    fn charge(&self) -> Amounts {
        let grown = self.peak.saturating_sub(&self.floor);
        grown.only(|dimension| !grown.get(dimension).is_negative())
    }
}

impl Ledger {
    /// The ledger of a quota of which nothing is known yet: no limit is kept account of before it was settled.
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

    /// What was promised beyond that.
    pub fn charge(&self) -> &Amounts {
        &self.charge
    }

    /// The revision that `used` was counted at.
    pub fn revision(&self, resource: &GroupResource) -> Option<u64> {
        self.revisions.get(resource).copied()
    }

    /// How many objects there are promises for.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything that was promised was seen.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What there are promises for.
    pub fn pending(&self) -> impl Iterator<Item = Pending> {
        self.entries.iter().map(|(uid, entry)| Pending {
            uid: Arc::clone(uid),
            resource: entry.resource.clone(),
            namespace: Arc::clone(&entry.namespace),
            name: Arc::clone(&entry.name),
            at: entry.at,
            ticket: entry.ticket,
        })
    }

    /// Charges what a request asks for beyond what there is, if all of it fits.
    pub fn propose(&mut self, proposal: &Proposal, hard: &BTreeMap<Dimension, Quantity>) -> Outcome {
        match self.plan(proposal, hard) {
            Ok(Plan { entry, charge, charged }) => {
                self.tickets = entry.ticket;
                self.entries.insert(Arc::clone(&proposal.uid), entry);
                self.charge = charge;
                Outcome::Charged(charged)
            }
            Err(outcome) => outcome,
        }
    }

    /// What would become of a request; for those that are tried without being made.
    pub fn consider(&self, proposal: &Proposal, hard: &BTreeMap<Dimension, Quantity>) -> Outcome {
        self.plan(proposal, hard).map_or_else(|outcome| outcome, |plan| Outcome::Charged(plan.charged))
    }

    /// Takes back what was charged for a request that was refused elsewhere, unless another request for the object was
    /// admitted since. Says whether the ledger has changed.
    pub fn withdraw(&mut self, proposal: &Proposal, receipt: i64) -> bool {
        let Some(entry) = self.entries.get_mut(&proposal.uid).filter(|entry| entry.ticket == receipt) else {
            return false;
        };
        let before = entry.charge();
        // The object stays as it is. What it takes up may still be more than was counted for it.
        entry.peak = proposal.old.only(|dimension| self.used.contains_key(dimension));
        let after = entry.charge();
        if after.is_empty() {
            self.entries.remove(&proposal.uid);
        }
        self.charge = self.charge.saturating_sub(&before).saturating_add(&after);
        true
    }

    /// What would be exceeded, if what takes up `instead_of` took up `ceiling`.
    pub fn over_ceiling(
        &self,
        ceiling: &Amounts,
        instead_of: &Amounts,
        hard: &BTreeMap<Dimension, Quantity>,
    ) -> Option<Exceeded> {
        self.exceeded(&self.charge, instead_of, ceiling, hard, |requested, total| {
            (total.checked_add(requested), Some(total))
        })
    }

    fn plan(&self, proposal: &Proposal, hard: &BTreeMap<Dimension, Quantity>) -> Result<Plan, Outcome> {
        let Proposal { old, new, at, .. } = proposal;
        let is_tracked = |dimension: &Dimension| self.used.contains_key(dimension);
        let mut grown = new.iter().filter(|(dimension, quantity)| **quantity > old.get(dimension));
        if !grown.clone().any(|(dimension, _)| is_tracked(dimension) || hard.contains_key(dimension)) {
            return Err(Outcome::NoIncrease);
        }
        if let Some((dimension, _)) = grown.find(|(one, _)| hard.contains_key(one) && !is_tracked(one)) {
            return Err(Outcome::Untracked(dimension.clone()));
        }
        let (old, new) = (old.only(is_tracked), new.only(is_tracked));
        let known = self.entries.get(&proposal.uid);
        let (floor, peak, is_alone) = match known {
            // A creation is before every update.
            Some(known) if known.at > *at => return Err(Outcome::Superseded),
            // One of them will be written, or none.
            Some(known) if known.at == *at => (known.floor.clone(), known.peak.max(&new), false),
            // What was admitted before can no longer be written. It may have been, unseen, so that `used` counts the
            // floor of then. Or it was for a revision that was history already, and its floor was never counted;
            // then nothing beyond the object as it is was.
            Some(known) => (known.floor.min(&old), old.max(&new), true),
            None if self.entries.len() >= MAX_ENTRIES => return Err(Outcome::Full),
            None => (old.clone(), old.max(&new), true),
        };
        let ticket = self.tickets.saturating_add(1);
        let entry = Entry {
            resource: proposal.resource.clone(),
            namespace: Arc::clone(&proposal.namespace),
            name: Arc::clone(&proposal.name),
            ticket,
            at: *at,
            floor,
            peak,
        };
        let freed = known.map(Entry::charge).unwrap_or_default();
        let charge = self.charge.saturating_sub(&freed).saturating_add(&entry.charge());
        let exceeded = self.exceeded(&charge, &old, &new, hard, |requested, total| {
            (Some(total), total.checked_sub(requested))
        });
        match exceeded {
            Some(exceeded) if !proposal.forced => Err(Outcome::Exceeded(exceeded)),
            exceeds => {
                let charged = Charged { exceeds, receipt: is_alone.then_some(ticket) };
                Ok(Plan { entry, charge, charged })
            }
        }
    }

    /// What is exceeded of that which grows from `old` to `new`. `sums` makes of the growth, and of `used` and `charge`
    /// together, what there will be and what there was.
    fn exceeded(
        &self,
        charge: &Amounts,
        old: &Amounts,
        new: &Amounts,
        hard: &BTreeMap<Dimension, Quantity>,
        sums: impl Fn(Quantity, Quantity) -> (Option<Quantity>, Option<Quantity>),
    ) -> Option<Exceeded> {
        let mut exceeded = Exceeded::default();
        for (dimension, quantity) in new {
            let Some(limit) = hard.get(dimension) else { continue };
            let most = Quantity::from_milli(i128::MAX);
            let requested = quantity.checked_sub(old.get(dimension)).unwrap_or(most);
            if requested <= Quantity::ZERO {
                continue;
            }
            let used = self.used.get(dimension).copied().unwrap_or_default();
            let total = used.checked_add(charge.get(dimension)).unwrap_or(most);
            let (after, before) = sums(requested, total);
            if after.is_none_or(|after| after > *limit) {
                exceeded.requested.insert(dimension.clone(), requested);
                exceeded.used.insert(dimension.clone(), before.unwrap_or(total));
                exceeded.limited.insert(dimension.clone(), *limit);
            }
        }
        (!exceeded.limited.is_empty()).then_some(exceeded)
    }

    /// The sum over the entries, counted anew.
    fn sum(entries: &BTreeMap<Arc<str>, Entry>) -> Amounts {
        entries.values().fold(Amounts::default(), |sum, entry| sum.saturating_add(&entry.charge()))
    }
}

struct Plan {
    entry: Entry,
    charge: Amounts,
    charged: Charged,
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
