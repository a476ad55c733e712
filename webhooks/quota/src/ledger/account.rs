//! What one replica has admitted out of one quota and is not counted yet, held against its block.
//!
//! `standing` is what is left of the block for certain: never more than the block in the ledger, whatever became of writes
//! that were not answered, and without what is counted by now. `limit` is the part of it that there was room for: what was
//! admitted beyond a limit, because it has to be, is no room for others when it comes to nothing. What is admitted
//! within these needs no write. Whatever goes beyond must be written before anybody is answered.

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

/// More objects than this are not waited for, by one replica: beyond it, requests are told to try again. They are
/// forgotten as soon as they are counted, so that many outstanding means that nobody counts, or that most requests fail
/// after they were admitted.
pub const MAX_ENTRIES: usize = 4096;
/// Nor more than this that one user has asked for, so that no user stands in the way of all.
pub const MAX_OF_USER: usize = 2048;

/// What one replica has admitted out of one quota.
#[derive(Debug, Clone, Default)]
pub struct Account {
    entries: BTreeMap<Arc<str>, Entry>,
    /// Kept up: the sum over the entries.
    charge: Amounts,
    limit: Amounts,
    standing: Amounts,
    users: HashMap<Arc<str>, usize>,
    tickets: i64,
    /// Entries as they were before what is to be written, the last change last.
    journal: Vec<(Arc<str>, Option<Entry>)>,
    is_staging: bool,
}

/// What becomes of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing that is limited grows: admitted, whatever is used.
    NoIncrease,
    /// The object has been written since: admitted, as it cannot be written again like this.
    Superseded,
    /// Admitted and charged. If the account does not cover it, the block must be written before anybody is told.
    Charged(Charged),
    /// It goes beyond the block.
    Beyond,
    /// There is no room.
    Exceeded {
        /// What is exceeded.
        exceeded: Exceeded,
        /// Whether there would be none if all other replicas gave back all they hold.
        is_certain: bool,
    },
    /// Account is not kept of this limit yet: try again.
    Untracked(Dimension),
    /// Too much is waited for: try again.
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

/// A ledger and a quota, as they concern one block.
#[derive(Debug, Clone, Copy)]
pub struct Totals<'a> {
    /// The ledger.
    pub ledger: &'a Ledger,
    /// The block's name.
    pub own: &'a str,
    /// The limits.
    pub hard: &'a BTreeMap<Dimension, Quantity>,
    /// Whether they are enforced: else a block may be of any size.
    pub denies: bool,
}

/// What a block is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extent {
    /// All of it.
    pub amount: Amounts,
    /// What there is room for.
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
    /// How many objects are waited for.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything that was admitted is counted.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What was admitted and is not counted.
    pub fn charge(&self) -> &Amounts {
        &self.charge
    }

    /// What is left of the block for certain.
    pub fn limit(&self) -> &Amounts {
        &self.limit
    }

    /// Whether all that was admitted is within the block, of limits that the ledger keeps account of.
    pub fn is_covered(&self, ledger: &Ledger) -> bool {
        let mut charge = self.charge.iter().filter(|(dimension, _)| ledger.used.contains_key(dimension));
        charge.all(|(dimension, charge)| *charge <= self.standing.get(dimension))
    }

    /// What is waited for.
    pub fn pending(&self) -> impl Iterator<Item = Pending> {
        self.entries.iter().map(|(uid, entry)| entry.pending(uid))
    }

    /// Charges what a request asks for: within the block, or if `may_grow` within what there is room for.
    pub fn propose(&mut self, proposal: &Proposal, totals: Totals<'_>, may_grow: bool) -> Outcome {
        if self.is_sent(&proposal.uid) {
            return Outcome::Beyond;
        }
        let plan = match self.plan(proposal, totals) {
            Ok(plan) => plan,
            Err(outcome) => return outcome,
        };
        let within = if proposal.forced { &self.standing } else { &self.limit };
        // What was admitted once, and is beyond the block by now, covers nothing that grows.
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

    /// What would become of a request, by what replicas have admitted and not by what they hold; for those that are
    /// tried without being made.
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

    /// Takes back what was charged for a request that was refused elsewhere, unless another request for the object was
    /// admitted since. Says whether anything has changed.
    pub fn withdraw(&mut self, proposal: &Proposal, receipt: i64) -> bool {
        let Some(entry) = self.entries.get(&proposal.uid).filter(|entry| entry.ticket == receipt) else {
            return false;
        };
        let left = entry.without_last();
        self.replace(&proposal.uid, left);
        true
    }

    /// What would be exceeded, if what takes up `instead_of` took up `ceiling`.
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

    /// What the block should be: what was admitted, and `wish` beyond it as far as there is room for that.
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

    /// The block may be no more than `amount` from now on: a write of it is under way, or it was seen.
    pub fn may_become(&mut self, amount: &Amounts) {
        self.limit = self.limit.min(amount);
        self.standing = self.standing.min(amount);
    }

    /// The block stands in the ledger.
    pub fn stands(&mut self, extent: &Extent) {
        self.limit = extent.right.clone();
        self.standing = extent.amount.clone();
        self.keep();
    }

    /// What is left of the block.
    pub(super) fn left(&self) -> Extent {
        Extent { amount: self.standing.clone(), right: self.limit.clone() }
    }

    /// What is left of the block is what it was.
    pub(super) fn restore(&mut self, left: Extent) {
        (self.standing, self.limit) = (left.amount, left.right);
    }

    /// What was admitted since [`Account::stage`] stays.
    pub fn keep(&mut self) {
        self.journal.clear();
        self.is_staging = false;
    }

    /// Gives up what is left beyond what was admitted.
    pub fn yield_rest(&mut self) {
        self.limit = self.limit.min(&self.charge);
    }

    /// There is no block any more.
    pub fn lose(&mut self) {
        self.may_become(&Amounts::default());
    }

    /// What is admitted from now on can be taken back, until the block stands or [`Account::roll_back`].
    pub fn stage(&mut self) {
        self.is_staging = true;
    }

    /// What was admitted since [`Account::stage`] is being written. What is admitted from now on, out of what the block
    /// holds whatever becomes of the write, stays.
    pub fn sent(&mut self) {
        self.is_staging = false;
    }

    /// Whether something of an object is being written that may have to be taken back.
    pub fn is_sent(&self, uid: &Arc<str>) -> bool {
        !self.is_staging && self.journal.iter().any(|(sent, _)| sent == uid)
    }

    /// Takes back what was admitted since [`Account::stage`], but not what was admitted after [`Account::sent`].
    pub fn roll_back(&mut self) {
        self.is_staging = false;
        for (uid, entry) in std::mem::take(&mut self.journal).into_iter().rev() {
            self.replace(&uid, entry);
        }
    }

    /// Takes what was found out of entries that have waited for too long.
    pub fn found(&mut self, expired: &[Expired]) {
        for one in expired {
            if let Some(entry) = self.entries.get_mut(&one.entry.uid) {
                entry.found(one);
            }
        }
    }

    /// Forgets what is counted by now, and what came to nothing. Says whether anything has changed.
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

    /// What is exceeded of that which grows, and whether it would be without the other blocks: if others take up what
    /// they have admitted, or else what they hold.
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
