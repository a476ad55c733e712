//! `freezes`: while one is on, nothing changes.

use gatehouse_inventory::Suspension;

use super::{Report, suspension};
use crate::{ActiveFreeze, Case, Operation, annotation};

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
    // Some kinds are held back by an annotation, and all bear the mark of who holds them.
    let holding = match object.kind.suspension() {
        Suspension::Annotation(name) => Some(name),
        Suspension::Field | Suspension::Never => None,
    };
    holding
        .into_iter()
        .chain([annotation::FROZEN_BY])
        .find(|name| object.annotation(name) != old.annotation(name))
        .map(suspension::field)
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
