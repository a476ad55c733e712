//! The admissions of one object that are not counted yet.
//!
//! **Invariant:** an entry's charge covers all growth of the object that this replica admitted and that is not counted.

use std::sync::{Arc, LazyLock};

use super::{Ledger, Reached, Seen, Truth};
use crate::{Amounts, GroupResource};

/// The most admissions of one object that are kept apart; beyond it, the oldest are merged.
const STEPS: usize = 8;

/// The resource of namespaces, whose labels say which tenant their objects belong to.
static NAMESPACES: LazyLock<GroupResource> = LazyLock::new(|| GroupResource::new("", "namespaces"));

/// A request that would change an object's usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The object's uid: kube-apiserver sets it before it calls validating admission.
    pub uid: Arc<str>,
    /// Its resource.
    pub resource: GroupResource,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The requesting user.
    pub user: Arc<str>,
    /// The resourceVersion of the existing object; `None` for a creation.
    pub at: Option<u64>,
    /// Its usage before the request.
    pub old: Amounts,
    /// Its usage after the request.
    pub new: Amounts,
    /// Whether it is admitted even if it exceeds a limit.
    pub forced: bool,
}

/// The identity of an entry, for whoever waits for it to expire.
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
    /// The ticket of the last admission; tickets are unique.
    pub ticket: i64,
}

/// An entry older than any request can last, and the result of a quorum read that was made after that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The entry when the wait began.
    pub entry: Pending,
    /// The result of the read.
    pub fate: Fate,
}

/// The result of a quorum read of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// There is no object with that uid.
    Absent,
    /// The object exists, at this revision.
    Present(u64),
}

/// An object whose usage may grow above what is counted for it.
///
/// The usage of an object grows above what is counted only by writes that some replica admitted. Each value between the
/// counted and the current usage was passed upwards for the last time by one of these writes, and lies between `floor`
/// and `peak` of the replica that admitted it. So all replicas together reserve enough, whichever admitted what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) resource: GroupResource,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) user: Arc<str>,
    /// The ticket of the last admission; when it changes, the wait for the entry to expire restarts.
    pub(super) ticket: i64,
    /// Ordered by revision; a creation comes before every update.
    steps: Vec<Step>,
    /// The result of a quorum read made after the last admission could no longer be written.
    fate: Option<Fate>,
}

/// The admissions at one revision: at most one of the requests will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    at: Option<u64>,
    old: Amounts,
    new: Amounts,
}

/// The result of comparing an entry with the observed state and the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fold {
    /// The entry is unchanged.
    Keep,
    /// The entry is counted, except for the rest that it carries.
    Counted(Option<Box<Entry>>),
    /// It came to nothing: no growth of it remains to be counted.
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

    /// The revision that the last admission is for; `None`, a creation, comes before all others.
    pub(super) fn at(&self) -> Option<u64> {
        self.steps.last().and_then(|step| step.at)
    }

    /// The entry with one more admission, at the same revision or a later one; and whether that is the only admission
    /// there.
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

    /// The entry without its last admission; `None` if no charge is left.
    pub(super) fn without_last(&self) -> Option<Self> {
        let mut entry = self.clone();
        // The object does not change. Its usage may still be above what is counted for it.
        if let Some(last) = entry.steps.last_mut() {
            last.new = last.old.clone();
        }
        (!entry.charge().is_empty()).then_some(entry)
    }

    /// The most that its usage may exceed what is counted for it.
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

    /// Records the result of a quorum read, if nothing was admitted since the wait began.
    pub(super) fn found(&mut self, expired: &Expired) {
        if self.ticket == expired.entry.ticket {
            self.fate = Some(expired.fate);
        }
    }

    /// Compares it with what was observed and with what the ledger has counted.
    pub(super) fn fold(&self, uid: &str, ledger: &Ledger, truth: &dyn Truth) -> Fold {
        // A charge to limits that are no longer tracked is dropped.
        let is_tracked = self.charge().iter().any(|(dimension, _)| ledger.used.contains_key(dimension));
        if truth.was_deleted(uid) || self.fate == Some(Fate::Absent) || !is_tracked {
            return Fold::Nothing;
        }
        let at = self.at();
        let Some(Seen { revision, member_since }) = truth.seen(&self.resource, uid) else {
            // An update is of an object that existed; if it is not observed at or after that revision, it was deleted.
            // A creation may still be written.
            let is_gone = at.is_some_and(|at| match truth.reached(&self.resource) {
                Reached::To(reached) => reached >= at,
                Reached::Absent => true,
                Reached::Unknown => false,
            });
            return if is_gone { Fold::Nothing } else { Fold::Keep };
        };
        let Some(member_since) = member_since else {
            // The replica that admitted it took its namespace for the tenant's. Either the labels are not observed yet,
            // for example because namespaces were listed again from an old cache; or they have changed since the object
            // was written, which only an observation of namespaces that is at least as new as the object can tell.
            let is_moved = self.fate.is_some()
                && matches!(truth.reached(&NAMESPACES), Reached::To(reached) if reached >= revision);
            return if is_moved { Fold::Counted(None) } else { Fold::Keep };
        };
        let is_counted = ledger.revision(&self.resource).is_some_and(|counted| counted >= revision)
            && ledger.revision(&NAMESPACES).is_some_and(|counted| counted >= member_since);
        if !is_counted {
            return Fold::Keep;
        }
        // No admission can be written any more, none was, and the object is counted at its current revision.
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
