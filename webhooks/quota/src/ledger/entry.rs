//! What was admitted of one object, and is not counted yet.

use std::sync::{Arc, LazyLock};

use super::{Ledger, Reached, Seen, Truth};
use crate::{Amounts, GroupResource};

/// So many admissions of one object are told apart. Of more, the oldest are held together.
const STEPS: usize = 8;

/// Their labels say whose the objects are that are in them.
static NAMESPACES: LazyLock<GroupResource> = LazyLock::new(|| GroupResource::new("", "namespaces"));

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
    /// Who asks.
    pub user: Arc<str>,
    /// The resourceVersion of the object as it is; none if it is to be made.
    pub at: Option<u64>,
    /// What it takes up.
    pub old: Amounts,
    /// What it is to take up.
    pub new: Amounts,
    /// Whether it is admitted though it exceeds a limit.
    pub forced: bool,
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
    /// Of the last admission: no two are the same.
    pub ticket: i64,
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

/// An object that may come to take up more than is counted for it.
///
/// The chain of what was written of an object may rise above what is counted only by steps that somebody admitted. Each
/// point between what is counted and what the object takes up was crossed upwards for the last time by one of them, and
/// lies between `floor` and `peak` of whoever admitted that: so all replicas together hold enough, whichever of them
/// admitted what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) resource: GroupResource,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) user: Arc<str>,
    /// Of the last admission. Whoever waits for the entry to expire begins anew when that changes.
    pub(super) ticket: i64,
    /// In the order of revisions. A creation is before every update.
    steps: Vec<Step>,
    /// What a quorum read has found after the last admission could not be written any more.
    fate: Option<Fate>,
}

/// What was admitted upon one revision: one of the requests will be written, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    at: Option<u64>,
    old: Amounts,
    new: Amounts,
}

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fold {
    /// It is as it was.
    Keep,
    /// All that can become of it is counted, or this much of it.
    Counted(Option<Box<Entry>>),
    /// Nothing has become of it, or can.
    Nothing,
}

impl Entry {
    pub(super) fn new(proposal: &Proposal, old: Amounts, new: Amounts, ticket: i64) -> Self {
        Self {
            resource: proposal.resource.clone(),
            namespace: Arc::clone(&proposal.namespace),
            name: Arc::clone(&proposal.name),
            user: Arc::clone(&proposal.user),
            ticket,
            steps: vec![Step { at: proposal.at, old, new }],
            fate: None,
        }
    }

    /// The revision that was admitted last; a creation is before all of them.
    pub(super) fn at(&self) -> Option<u64> {
        self.steps.last().and_then(|step| step.at)
    }

    /// With one more admission, upon the same revision or a later one. Says whether it stands alone there.
    pub(super) fn with(&self, proposal: &Proposal, old: Amounts, new: Amounts, ticket: i64) -> (Self, bool) {
        let mut entry = Self { ticket, fate: None, user: Arc::clone(&proposal.user), ..self.clone() };
        match entry.steps.last_mut() {
            Some(last) if last.at == proposal.at => {
                last.new = last.new.max(&new);
                (entry, false)
            }
            _ => {
                entry.steps.push(Step { at: proposal.at, old, new });
                if entry.steps.len() > STEPS {
                    let oldest = entry.steps.remove(0);
                    if let Some(next) = entry.steps.first_mut() {
                        next.old = next.old.min(&oldest.old);
                    }
                }
                (entry, true)
            }
        }
    }

    /// Without what was admitted last; none, if nothing is left.
    pub(super) fn without_last(&self) -> Option<Self> {
        let mut entry = self.clone();
        // The object stays as it is. What it takes up may still be more than is counted for it.
        if let Some(last) = entry.steps.last_mut() {
            last.new = last.old.clone();
        }
        (!entry.charge().is_empty()).then_some(entry)
    }

    /// The most that it may take up beyond what is counted.
    pub(super) fn charge(&self) -> Amounts {
        let Some(last) = self.steps.last() else { return Amounts::default() };
        let peak = last.old.max(&last.new);
        let floor = self.steps.iter().fold(last.old.clone(), |floor, step| floor.min(&step.old));
        let grown = peak.saturating_sub(&floor);
        grown.only(|dimension| !grown.get(dimension).is_negative())
    }

    pub(super) fn pending(&self, uid: &Arc<str>) -> Pending {
        Pending {
            uid: Arc::clone(uid),
            resource: self.resource.clone(),
            namespace: Arc::clone(&self.namespace),
            name: Arc::clone(&self.name),
            ticket: self.ticket,
        }
    }

    /// Takes what was found out, if nothing was admitted since.
    pub(super) fn found(&mut self, expired: &Expired) {
        if self.ticket == expired.entry.ticket {
            self.fate = Some(expired.fate);
        }
    }

    /// Holds it against what was seen, and what the ledger has counted.
    pub(super) fn fold(&self, uid: &str, ledger: &Ledger, truth: &dyn Truth) -> Fold {
        // What a limit was charged that is kept account of no more, nobody waits for.
        let is_tracked = self.charge().iter().any(|(dimension, _)| ledger.used.contains_key(dimension));
        if truth.was_deleted(uid) || self.fate == Some(Fate::Absent) || !is_tracked {
            return Fold::Nothing;
        }
        let at = self.at();
        let Some(Seen { revision, member_since }) = truth.seen(&self.resource, uid) else {
            // An update was of an object that existed then. A creation may yet come.
            let is_gone = at.is_some_and(|at| match truth.reached(&self.resource) {
                Reached::To(reached) => reached >= at,
                Reached::Absent => true,
                Reached::Unknown => false,
            });
            return if is_gone { Fold::Nothing } else { Fold::Keep };
        };
        let Some(member_since) = member_since else {
            // It is in a namespace that whoever admitted it took for the tenant's. Either the labels have not been seen
            // yet, perhaps since namespaces were listed anew out of an old cache; or they have been changed since it was
            // written, which only a look at namespaces tells that is no older than the object.
            let is_moved = self.fate.is_some()
                && matches!(truth.reached(&NAMESPACES), Reached::To(reached) if reached >= revision);
            return if is_moved { Fold::Counted(None) } else { Fold::Keep };
        };
        let is_counted = ledger.revision(&self.resource).is_some_and(|counted| counted >= revision)
            && ledger.revision(&NAMESPACES).is_some_and(|counted| counted >= member_since);
        if !is_counted {
            return Fold::Keep;
        }
        // Nobody can write it any more, nobody has, and the object is counted as it is.
        let is_over = self.fate == Some(Fate::Present(revision)) && at == Some(revision);
        let steps: Vec<_> = self
            .steps
            .iter()
            .filter(|step| !is_over && step.at.is_some_and(|at| at >= revision))
            .cloned()
            .collect();
        if steps.len() == self.steps.len() {
            return Fold::Keep;
        }
        let left = (!steps.is_empty()).then(|| Box::new(Self { steps, ..self.clone() }));
        Fold::Counted(left)
    }
}
