//! Excuses objects that Agones creates for others: the sets of a Fleet, and the servers of a set. Their owner is
//! judged instead, since Agones would retry a denied creation forever.
//!
//! Anyone who may write an object may write any label and owner reference.
//!
//! **Invariant:** at admission, an existing owner excuses only requests of Agones' own accounts, deletions, and
//! updates that keep `spec` and the owner. An existing object is excused if its owner exists.

use gatehouse_apiservice::agones::{Claim, Member};

use crate::{Accounts, Case, Dependencies, Operation, Subject, gains_owner};

/// Whether a request is excused: the object belongs to an existing owner of Agones, which is judged instead.
pub(crate) fn is_excused(case: &Case<'_>, deps: &dyn Dependencies) -> bool {
    let Some(subject) = case.subject() else { return false };
    let Some(claim) = subject.claim().filter(|claim| deps.owns(&subject.namespace, claim)) else {
        return false;
    };
    case.operation == Operation::Delete || stays(case, &claim) || is_agones(case)
}

/// The same, without looking up the owner.
pub(crate) fn may_be_excused(case: &Case<'_>) -> bool {
    let claim = case.subject().and_then(Subject::claim);
    claim.is_some_and(|claim| stays(case, &claim) || is_agones(case))
}

/// Whether an update detaches an object that was excused until now. The garbage collector does so if an owner is
/// deleted and its dependents are orphaned; it must not be denied.
pub(crate) fn is_let_go(case: &Case<'_>) -> bool {
    let Some(claim) = case.old.and_then(Subject::claim).filter(|claim| claim.uid.is_some()) else {
        return false;
    };
    case.object.is_some_and(|object| object.claim() != Some(claim))
        && !case.user.is_some_and(Accounts::is_collector)
}

/// Whether an existing object belongs to an existing owner.
pub(crate) fn is_member(object: &Subject, deps: &dyn Dependencies) -> bool {
    object.claim().is_some_and(|claim| deps.owns(&object.namespace, &claim))
}

fn is_agones(case: &Case<'_>) -> bool {
    case.user.is_some_and(|user| case.accounts.is_agones(user))
}

/// Whether it is an update, not a scale, that keeps the spec and the owner.
fn stays(case: &Case<'_>, claim: &Claim<'_>) -> bool {
    let leaves_alone = |(object, old): (&Subject, &Subject)| {
        !old.spec_differs(object) && old.claim().as_ref() == Some(claim) && !gains_owner(object, old)
    };
    case.scaling.is_none() && case.object.zip(case.old).is_some_and(leaves_alone)
}

impl Subject {
    /// The owner of an object of Agones, if it is named as Agones does.
    pub fn claim(&self) -> Option<Claim<'_>> {
        let member = Member::of_kind(self.kind.group(), self.kind.name())?;
        member.claim_of(self.object.get("metadata")?)
    }
}
