//! Objects that Agones has made for others, which are judged in their place: the sets of a Fleet, the servers of a set.
//! Refusing these would have Agones try for ever.
//!
//! Whoever may write an object may write any label and owner reference. So it is Agones itself that is excused at
//! admission, by its account, for what it takes for its own; others only where they leave `spec` and the owner as they
//! are. What exists is excused if the owner does.

use gatehouse_apiservice::agones::{Claim, Member};

use crate::{Accounts, Case, Dependencies, Operation, Subject, gains_owner};

/// Whether a request is about what Agones makes for an object that exists, and is judged there.
pub(crate) fn is_excused(case: &Case<'_>, deps: &dyn Dependencies) -> bool {
    let Some(subject) = case.subject() else { return false };
    let Some(claim) = subject.claim().filter(|claim| deps.owns(&subject.namespace, claim)) else {
        return false;
    };
    case.operation == Operation::Delete || stays(case, &claim) || is_agones(case)
}

/// The same, as far as the request itself tells.
pub(crate) fn may_be_excused(case: &Case<'_>) -> bool {
    let claim = case.subject().and_then(Subject::claim);
    claim.is_some_and(|claim| stays(case, &claim) || is_agones(case))
}

/// Whether an update makes an object stand on its own that was excused until now. The garbage collector does so where
/// an owner is deleted and leaves its dependents behind; it must not be held up.
pub(crate) fn is_let_go(case: &Case<'_>) -> bool {
    let Some(claim) = case.old.and_then(Subject::claim).filter(|claim| claim.uid.is_some()) else {
        return false;
    };
    case.object.is_some_and(|object| object.claim() != Some(claim))
        && !case.user.is_some_and(Accounts::is_collector)
}

/// Whether what exists is made for something that exists.
pub(crate) fn is_member(object: &Subject, deps: &dyn Dependencies) -> bool {
    object.claim().is_some_and(|claim| deps.owns(&object.namespace, &claim))
}

fn is_agones(case: &Case<'_>) -> bool {
    case.user.is_some_and(|user| case.accounts.is_agones(user))
}

/// Whether an update, and no scale, leaves alone what the object is and whose.
fn stays(case: &Case<'_>, claim: &Claim<'_>) -> bool {
    let leaves_alone = |(object, old): (&Subject, &Subject)| {
        !old.spec_differs(object) && old.claim().as_ref() == Some(claim) && !gains_owner(object, old)
    };
    case.scaling.is_none() && case.object.zip(case.old).is_some_and(leaves_alone)
}

impl Subject {
    /// The owner that an object of Agones names as Agones does.
    pub fn claim(&self) -> Option<Claim<'_>> {
        let member = Member::of_kind(self.kind.group(), self.kind.name())?;
        member.claim_of(self.object.get("metadata")?)
    }
}
