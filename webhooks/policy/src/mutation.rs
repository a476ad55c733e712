//! Computes the patch of the mutating webhook.

use json_patch::{Patch, PatchOperation};

use crate::{
    Case, Policy, Subject, defaults,
    freeze::{self, Hold},
};

/// The patch to a new object: marks are corrected, defaults are filled in, and a new object from Flux during a freeze
/// (`hold`) is suspended.
pub fn mutation(policies: &[&Policy], case: &Case<'_>, hold: Option<&Hold>) -> Patch {
    let Some(object) = case.object else { return Patch(Vec::new()) };
    let mut operations = freeze::marks(policies, case).0;
    // Marks are rare, so usually nothing is copied.
    let marked = patched(object, &operations);
    let object = marked.as_ref().unwrap_or(object);
    operations.extend(defaults(policies, &Case { object: Some(object), ..*case }).0);
    if let Some(hold) = hold {
        operations.extend(freeze::suspended(hold, object).0);
    }
    Patch(operations)
}

/// The patched object; `None` if there are no operations or they do not apply.
fn patched(object: &Subject, operations: &[PatchOperation]) -> Option<Subject> {
    if operations.is_empty() {
        return None;
    }
    let mut patched = object.clone();
    json_patch::patch(&mut patched.object, operations).ok()?;
    Some(patched)
}
