//! `freezes`: while one is on, nothing changes.

use gatehouse_inventory::Suspension;
use serde_json::Value;

use super::{Report, suspension};
use crate::{ActiveFreeze, Case, Operation, Subject, annotation};

/// Whether the request changes what is declared. Status, labels and requests to reconcile change nothing: what is held
/// back stays held back.
pub(crate) fn changes(case: &Case<'_>) -> Option<String> {
    if let Some(scaling) = case.scaling {
        return (scaling.from != scaling.to).then(|| "spec.replicas".to_owned());
    }
    let (object, old) = match (case.operation, case.object, case.old) {
        (Operation::Delete, ..) => return Some("metadata".to_owned()),
        (Operation::Update, Some(object), Some(old)) => (object, old),
        // What the object was before is not known, or it was not there.
        _ => return Some("spec".to_owned()),
    };
    if object.spec_differs(old) {
        return Some("spec".to_owned());
    }
    // The garbage collector deletes what an owner is named for that does not exist, and nobody is asked then.
    if gains_owner(object, old) {
        return Some("metadata.ownerReferences".to_owned());
    }
    // Some kinds are held back by an annotation, and all bear the marks of who holds them.
    let holding = match object.kind.suspension() {
        Suspension::Annotation(name) => Some(name),
        Suspension::Field | Suspension::Never => None,
    };
    let marks = holding.into_iter().chain([annotation::FROZEN_BY, annotation::EXEMPT_FROM]);
    marks.into_iter().find(|name| object.annotation(name) != old.annotation(name)).map(suspension::field)
}

/// Whether an owner is named that was not named before, in another way than before included.
pub fn gains_owner(object: &Subject, old: &Subject) -> bool {
    let owners =
        |subject: &Subject| subject.metadata("ownerReferences").as_array().cloned().unwrap_or_default();
    let before: Vec<Value> = owners(old);
    owners(object).iter().any(|owner| !before.contains(owner))
}

/// Whether a new object does nothing by itself: it is suspended, has no servers, or nothing ever reconciles it.
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
