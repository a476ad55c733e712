//! One replica's admissions of one quota that are not counted yet, and its block that covers them.
//!
//! **Invariant:** an admission is answered only if the account or a successful write of the block covers it. `standing`
//! is what certainly remains of the block: never more than the block in the ledger, whatever became of unanswered
//! writes, and without what is counted by now. `limit` is the part of it that there was room for: an admission that had
//! to exceed a limit leaves no room for others when it comes to nothing. Admissions within these need no write;
//! anything beyond must be written before it is answered.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use gatehouse_apiservice::quantity::Quantity;

use super::{
    Exceeded, Expired, Ledger, Pending, Proposal, Truth,
    entry::{Entry, Fold},
};
use crate::{Amounts, Dimension};

/// The most objects that one replica keeps uncounted admissions of; beyond it, requests are told to retry. An admission
/// is forgotten as soon as it is counted, so many outstanding ones mean that nobody counts, or that most requests fail
/// after they were admitted.
pub const MAX_ENTRIES: usize = 4096;
/// The most of them that one user has requested, so that no user can block all others.
pub const MAX_OF_USER: usize = 2048;

/// One replica's admissions of one quota that are not counted yet.
#[derive(Debug, Clone, Default)]
pub struct Account {
    entries: BTreeMap<Arc<str>, Entry>,
    /// The sum of the entries' charges, kept up to date.
    charge: Amounts,
    limit: Amounts,
    standing: Amounts,
    users: HashMap<Arc<str>, usize>,
    tickets: i64,
    /// The entries before the changes that are to be written; the last change is last.
    journal: Vec<(Arc<str>, Option<Entry>)>,
    is_staging: bool,
}

/// The result of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Admitted: no limited amount grows.
    NoIncrease,
    /// Admitted without a charge: the object has changed since, so the compare-and-swap of this request will fail.
    Superseded,
    /// Admitted and charged. If the account does not cover it, the block must be written before the answer is given.
    Charged(Charged),
    /// Beyond the block.
    Beyond,
    /// Denied: there is no room.
    Exceeded {
        /// The limits that it exceeds.
        exceeded: Exceeded,
        /// Whether it would exceed them even if all other replicas gave back all they hold.
        is_certain: bool,
    },
    /// This limit is not tracked yet: retry.
    Untracked(Dimension),
    /// Too many admissions are uncounted: retry.
    Full,
}

/// A charge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Charged {
    /// The limits that it exceeds, if it was forced.
    pub exceeds: Option<Exceeded>,
    /// The ticket that the charge can be withdrawn with; `None` if another request relies on the same charge.
    pub receipt: Option<i64>,
}

/// A ledger and a quota, as seen by the holder of one block.
#[derive(Debug, Clone, Copy)]
pub struct Totals<'a> {
    /// The ledger.
    pub ledger: &'a Ledger,
    /// The block's name.
    pub own: &'a str,
    /// The limits.
    pub hard: &'a BTreeMap<Dimension, Quantity>,
    /// Whether the limits are enforced; if not, a block may have any size.
    pub denies: bool,
}

/// The size of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extent {
    /// The whole block.
    pub amount: Amounts,
    /// The part of it that there is room for.
    pub right: Amounts,
}

const MOST: Quantity = Quantity::from_milli(i128::MAX);

impl Totals<'_> {
    fn used(&self, dimension: &Dimension) -> Quantity {
        self.ledger.used.get(dimension).copied().unwrap_or_default()
    }

    fn is_tracked(&self, dimension: &Dimension) -> bool {
        self.ledger.used.contains_key(dimension)
    }

    fn room(&self, dimension: &Dimension) -> Option<Quantity> {
        self.ledger.room(self.own, dimension, self.hard).filter(|_| self.denies)
    }
}

impl Account {
    /// The number of objects with uncounted admissions.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether all admissions are counted.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sum of all uncounted admissions.
    pub fn charge(&self) -> &Amounts {
        &self.charge
    }

    /// The part of the block that certainly remains, and that there was room for.
    pub fn limit(&self) -> &Amounts {
        &self.limit
    }

    /// Whether the block covers all uncounted admissions, for each limit that the ledger tracks.
    pub fn is_covered(&self, ledger: &Ledger) -> bool {
        let mut charge = self.charge.iter().filter(|(dimension, _)| ledger.used.contains_key(dimension));
        charge.all(|(dimension, charge)| *charge <= self.standing.get(dimension))
    }

    /// The objects with uncounted admissions.
    pub fn pending(&self) -> impl Iterator<Item = Pending> {
        self.entries.iter().map(|(uid, entry)| entry.pending(uid))
    }

    /// Charges a request: within the block, or if `may_grow` within the room that the ledger has.
    pub fn propose(&mut self, proposal: &Proposal, totals: Totals<'_>, may_grow: bool) -> Outcome {
        if self.is_sent(&proposal.uid) {
            return Outcome::Beyond;
        }
        let plan = match self.plan(proposal, totals) {
            Ok(plan) => plan,
            Err(outcome) => return outcome,
        };
        let within = if proposal.forced { &self.standing } else { &self.limit };
        // An earlier charge that the block no longer covers does not cover any growth.
        let is_covered = plan.charge.iter().all(|(dimension, charge)| {
            let grows = plan.new.get(dimension) > plan.old.get(dimension);
            *charge <= within.get(dimension) || !grows && *charge <= self.charge.get(dimension)
        });
        if !is_covered && !may_grow {
            return Outcome::Beyond;
        }
        if proposal.forced {
            let exceeds = self.exceeded(&plan, totals, true).map(|(exceeds, _)| exceeds);
            return Outcome::Charged(self.charged(proposal, plan, exceeds));
        }
        match self.exceeded(&plan, totals, false).filter(|_| !is_covered) {
            Some((exceeded, is_certain)) => Outcome::Exceeded { exceeded, is_certain },
            None => Outcome::Charged(self.charged(proposal, plan, None)),
        }
    }

    /// The result of a request, judged by what other replicas have admitted instead of their blocks. Charges nothing:
    /// for dry runs.
    pub fn consider(&self, proposal: &Proposal, totals: Totals<'_>) -> Outcome {
        let plan = match self.plan(proposal, totals) {
            Ok(plan) => plan,
            Err(outcome) => return outcome,
        };
        match self.exceeded(&plan, totals, true) {
            Some((exceeded, _)) if !proposal.forced => Outcome::Exceeded { exceeded, is_certain: true },
            exceeds => {
                Outcome::Charged(Charged { exceeds: exceeds.map(|(exceeds, _)| exceeds), receipt: None })
            }
        }
    }

    /// Withdraws the charge of a request that was denied elsewhere, unless another request for the object was admitted
    /// since. Returns whether anything has changed.
    pub fn withdraw(&mut self, proposal: &Proposal, receipt: i64) -> bool {
        let Some(entry) = self.entries.get(&proposal.uid).filter(|entry| entry.ticket == receipt) else {
            return false;
        };
        let left = entry.without_last();
        self.replace(&proposal.uid, left);
        true
    }

    /// The limits that would be exceeded if an object's usage became `ceiling` instead of `instead_of`.
    pub fn over_ceiling(
        &self,
        ceiling: &Amounts,
        instead_of: &Amounts,
        totals: Totals<'_>,
    ) -> Option<Exceeded> {
        let taken = self.charge.saturating_add(&totals.ledger.reserved(totals.own));
        let mut exceeded = Exceeded::default();
        for (dimension, most) in ceiling {
            let Some(limit) = totals.hard.get(dimension) else { continue };
            let requested = most.checked_sub(instead_of.get(dimension)).unwrap_or(MOST);
            let total = totals.used(dimension).checked_add(taken.get(dimension)).unwrap_or(MOST);
            if requested > Quantity::ZERO && total.checked_add(requested).is_none_or(|sum| sum > *limit) {
                exceeded.insert(dimension, requested, total, *limit);
            }
        }
        (!exceeded.limited.is_empty()).then_some(exceeded)
    }

    /// The size to write the block with: the uncounted admissions, plus `wish` as far as there is room for it.
    pub fn extent(&self, wish: &Amounts, totals: Totals<'_>) -> Extent {
        let mut extent = Extent::default();
        let dimensions: BTreeSet<&Dimension> =
            self.charge.iter().chain(wish).map(|(dimension, _)| dimension).collect();
        for dimension in dimensions.into_iter().filter(|one| totals.is_tracked(one)) {
            let charge = self.charge.get(dimension);
            let wished = charge.checked_add(wish.get(dimension)).unwrap_or(charge);
            let most = totals.room(dimension).map_or(wished, |room| room.max(self.limit.get(dimension)));
            let amount = wished.min(most).max(charge);
            extent.amount.set(dimension.clone(), amount);
            extent.right.set(dimension.clone(), amount.min(most).max(Quantity::ZERO));
        }
        extent
    }

    /// The block may be as small as `amount` from now on: a write of it is in progress, or that size was observed.
    pub fn may_become(&mut self, amount: &Amounts) {
        self.limit = self.limit.min(amount);
        self.standing = self.standing.min(amount);
    }

    /// The block was written to the ledger.
    pub fn stands(&mut self, extent: &Extent) {
        self.limit = extent.right.clone();
        self.standing = extent.amount.clone();
        self.keep();
    }

    /// What remains of the block.
    pub(super) fn left(&self) -> Extent {
        Extent { amount: self.standing.clone(), right: self.limit.clone() }
    }

    /// Restores what remained of the block before a write.
    pub(super) fn restore(&mut self, left: Extent) {
        (self.standing, self.limit) = (left.amount, left.right);
    }

    /// Keeps what was admitted since [`Account::stage`].
    pub fn keep(&mut self) {
        self.journal.clear();
        self.is_staging = false;
    }

    /// Gives up the unused rest of the block.
    pub fn yield_rest(&mut self) {
        self.limit = self.limit.min(&self.charge);
    }

    /// The block is gone.
    pub fn lose(&mut self) {
        self.may_become(&Amounts::default());
    }

    /// Admissions from now on can be rolled back, until the block is written or [`Account::roll_back`].
    pub fn stage(&mut self) {
        self.is_staging = true;
    }

    /// The write of what was admitted since [`Account::stage`] has begun. Admissions from now on are covered by the
    /// block whether or not the write succeeds, and are not rolled back.
    pub fn sent(&mut self) {
        self.is_staging = false;
    }

    /// Whether a write in progress includes an admission of this object that may have to be rolled back.
    pub fn is_sent(&self, uid: &Arc<str>) -> bool {
        !self.is_staging && self.journal.iter().any(|(sent, _)| sent == uid)
    }

    /// Rolls back what was admitted since [`Account::stage`], but not what was admitted after [`Account::sent`].
    pub fn roll_back(&mut self) {
        self.is_staging = false;
        for (uid, entry) in std::mem::take(&mut self.journal).into_iter().rev() {
            self.replace(&uid, entry);
        }
    }

    /// Records the results of quorum reads for expired entries.
    pub fn found(&mut self, expired: &[Expired]) {
        for one in expired {
            if let Some(entry) = self.entries.get_mut(&one.entry.uid) {
                entry.found(one);
            }
        }
    }

    /// Forgets admissions that are counted by now or came to nothing. Returns whether anything has changed.
    pub fn follow(&mut self, ledger: &Ledger, truth: &dyn Truth) -> bool {
        let folds: Vec<_> = self
            .entries
            .iter()
            .map(|(uid, entry)| (Arc::clone(uid), entry.fold(uid, ledger, truth)))
            .collect();
        let mut is_changed = false;
        for (uid, fold) in folds {
            match fold {
                Fold::Keep => continue,
                Fold::Nothing => self.replace(&uid, None),
                Fold::Counted(left) => {
                    let before = self.charge.clone();
                    self.replace(&uid, left.map(|left| *left));
                    let counted = before.saturating_sub(&self.charge);
                    for left in [&mut self.limit, &mut self.standing] {
                        let rest = left.saturating_sub(&counted);
                        *left = rest.only(|dimension| !rest.get(dimension).is_negative());
                    }
                }
            }
            is_changed = true;
        }
        is_changed
    }

    fn plan(&self, proposal: &Proposal, totals: Totals<'_>) -> Result<Plan, Outcome> {
        let Proposal { old, new, at, .. } = proposal;
        let is_tracked = |dimension: &Dimension| totals.is_tracked(dimension);
        let mut grown = new.iter().filter(|(dimension, quantity)| **quantity > old.get(dimension));
        if !grown.clone().any(|(dimension, _)| is_tracked(dimension) || totals.hard.contains_key(dimension)) {
            return Err(Outcome::NoIncrease);
        }
        if let Some((dimension, _)) = grown.find(|(one, _)| totals.hard.contains_key(one) && !is_tracked(one))
        {
            return Err(Outcome::Untracked(dimension.clone()));
        }
        let (old, new) = (old.only(is_tracked), new.only(is_tracked));
        let ticket = self.tickets.saturating_add(1);
        let known = self.entries.get(&proposal.uid);
        let (entry, is_alone) = match known {
            Some(known) if known.at() > *at => return Err(Outcome::Superseded),
            Some(known) => known.with(proposal, old.clone(), new.clone(), ticket),
            None if self.is_full(&proposal.user) => return Err(Outcome::Full),
            None => (Entry::new(proposal, old.clone(), new.clone(), ticket), true),
        };
        let freed = known.map(Entry::charge).unwrap_or_default();
        let charge = self.charge.saturating_sub(&freed).saturating_add(&entry.charge());
        Ok(Plan { entry, charge, old, new, is_alone })
    }

    fn is_full(&self, user: &str) -> bool {
        self.entries.len() >= MAX_ENTRIES || self.users.get(user).is_some_and(|known| *known >= MAX_OF_USER)
    }

    fn charged(&mut self, proposal: &Proposal, plan: Plan, exceeds: Option<Exceeded>) -> Charged {
        let Plan { entry, is_alone, .. } = plan;
        let ticket = entry.ticket;
        self.tickets = ticket;
        if self.is_staging {
            let before = self.entries.get(&proposal.uid).cloned();
            self.journal.push((Arc::clone(&proposal.uid), before));
        }
        self.replace(&proposal.uid, Some(entry));
        Charged { exceeds, receipt: is_alone.then_some(ticket) }
    }

    /// The limits that a growing amount would exceed, and whether it would exceed one even without the other blocks.
    /// Other replicas count with what they have admitted, or else with their whole blocks.
    fn exceeded(&self, plan: &Plan, totals: Totals<'_>, by_admitted: bool) -> Option<(Exceeded, bool)> {
        let others = if by_admitted { totals.ledger.reserved(totals.own) } else { Amounts::default() };
        let mut exceeded = Exceeded::default();
        let mut is_certain = false;
        for (dimension, quantity) in &plan.new {
            let Some(limit) = totals.hard.get(dimension) else { continue };
            let requested = quantity.checked_sub(plan.old.get(dimension)).unwrap_or(MOST);
            let charge = plan.charge.get(dimension);
            if requested <= Quantity::ZERO || !by_admitted && charge <= self.limit.get(dimension) {
                continue;
            }
            let others =
                if by_admitted { others.get(dimension) } else { totals.ledger.others(totals.own, dimension) };
            let alone = totals.used(dimension).checked_add(charge);
            let total = alone.and_then(|alone| alone.checked_add(others));
            if total.is_none_or(|total| total > *limit) {
                let is_alone = alone.is_none_or(|alone| alone > *limit);
                is_certain |= is_alone;
                let total = if is_alone { alone } else { total };
                let before = total.and_then(|total| total.checked_sub(requested)).unwrap_or(MOST);
                exceeded.insert(dimension, requested, before, *limit);
            }
        }
        (!exceeded.limited.is_empty()).then_some((exceeded, is_certain))
    }

    fn replace(&mut self, uid: &Arc<str>, entry: Option<Entry>) {
        if let Some(before) = self.entries.remove(uid) {
            self.charge = self.charge.saturating_sub(&before.charge());
            if let Some(known) = self.users.get_mut(&before.user) {
                *known -= 1;
                if *known == 0 {
                    self.users.remove(&before.user);
                }
            }
        }
        if let Some(entry) = entry {
            self.charge = self.charge.saturating_add(&entry.charge());
            *self.users.entry(Arc::clone(&entry.user)).or_default() += 1;
            self.entries.insert(Arc::clone(uid), entry);
        }
    }
}

struct Plan {
    entry: Entry,
    charge: Amounts,
    old: Amounts,
    new: Amounts,
    is_alone: bool,
}
