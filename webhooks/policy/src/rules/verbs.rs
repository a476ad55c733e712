//! `verbs`: to suspend, to resume and to request a reconciliation require verbs of their own, those of the Flux
//! operator. This module finds the required verbs; the caller checks them with SubjectAccessReview.

use crate::{Case, Operation, Subject, Verb, annotation};

pub(crate) fn required(case: &Case<'_>) -> Vec<Verb> {
    // A creation changes no earlier decision, and requires the right to create.
    let (Operation::Update, None, Some(object), Some(old)) =
        (case.operation, case.subresource, case.object, case.old)
    else {
        return Vec::new();
    };
    if !object.kind.is_flux() || object.is_terminating() {
        return Vec::new();
    }
    let mut verbs = Vec::new();
    let (was_suspended, is_suspended) = (old.is_suspended(), object.is_suspended());
    let until = annotation::SUSPENDED_UNTIL;
    let has_other_end = was_suspended && old.annotation(until) != object.annotation(until);
    if is_suspended && (!was_suspended || has_other_end) {
        verbs.push(Verb::Suspend);
    }
    // Gatehouse resumes an object at the end of its suspension. So an end that is set for a suspension of somebody
    // else, or before there is one, takes the same verb as to resume the object.
    let sets_end = is_asked(old, object, until) && (was_suspended || !is_suspended);
    if was_suspended && !is_suspended || sets_end {
        verbs.push(Verb::Resume);
    }
    if annotation::REQUESTS.into_iter().any(|name| is_asked(old, object, name)) {
        verbs.push(Verb::Reconcile);
    }
    verbs
}

/// Whether an annotation has a new value. Removing it requests nothing.
fn is_asked(old: &Subject, new: &Subject, name: &str) -> bool {
    new.annotation(name).is_some_and(|token| old.annotation(name) != Some(token))
}
