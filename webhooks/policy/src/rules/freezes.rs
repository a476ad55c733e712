//! `freezes`: denies changes while a freeze is active.

use gatehouse_inventory::Suspension;
use serde_json::Value;

use super::{Report, suspension};
use crate::{ActiveFreeze, Case, Operation, Subject, annotation};

/// The field by which a request changes what is declared, if it does. Status, labels and requests to reconcile are no
/// changes: a held object stays held.
pub(crate) fn changes(case: &Case<'_>) -> Option<String> {
    if let Some(scaling) = case.scaling {
        return (scaling.from != scaling.to).then(|| "spec.replicas".to_owned());
    }
    let (object, old) = match (case.operation, case.object, case.old) {
        (Operation::Delete, ..) => return Some("metadata".to_owned()),
        (Operation::Update, Some(object), Some(old)) => (object, old),
        // The old object is unknown or did not exist.
        _ => return Some("spec".to_owned()),
    };
    if object.spec_differs(old) {
        return Some("spec".to_owned());
    }
    // The garbage collector deletes an object whose named owner does not exist, and that deletion is not denied.
    if gains_owner(object, old) {
        return Some("metadata.ownerReferences".to_owned());
    }
    // Some kinds are suspended by an annotation, and all carry the marks of who suspended them.
    let holding = match object.kind.suspension() {
        Suspension::Annotation(name) => Some(name),
        Suspension::Field | Suspension::Never => None,
    };
    let marks = holding.into_iter().chain([annotation::FROZEN_BY, annotation::EXEMPT_FROM]);
    marks.into_iter().find(|name| object.annotation(name) != old.annotation(name)).map(suspension::field)
}

/// Whether an owner is added, or a reference to one is changed.
pub fn gains_owner(object: &Subject, old: &Subject) -> bool {
    let owners =
        |subject: &Subject| subject.metadata("ownerReferences").as_array().cloned().unwrap_or_default();
    let before: Vec<Value> = owners(old);
    owners(object).iter().any(|owner| !before.contains(owner))
}

/// Whether a new object does nothing by itself: it is suspended, has no servers, or no controller reconciles it.
pub(crate) fn is_inert(object: &Subject) -> bool {
    object.is_suspended()
        || object.kind.has_replicas() && object.spec().get("replicas") == Some(&Value::from(0))
        || object.kind.is_flux() && object.kind.suspension() == Suspension::Never
}

pub(crate) fn check(freeze: &ActiveFreeze, field: String, report: &mut Report<'_>) {
    let reason = match freeze.reason.as_deref() {
        Some(reason) => format!(" ({reason})"),
        None => String::new(),
    };
    report.broken(
        field,
        format!(
            "nothing may change during the freeze {:?}{reason}, which ends {}",
            freeze.name, freeze.until_local
        ),
        format!("try again after {}", freeze.until_local),
    );
}
