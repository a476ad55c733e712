//! Reading objects: only what somebody looks at, in linear time and within a budget.
//!
//! An object may be megabytes, and as a [`serde_json::Value`] each two bytes of it may take seventy. So whoever judges
//! objects declares the fields that it looks at as a [`Shape`]. [`read`] builds those and passes over the rest without
//! recursion, whatever stands there. What is passed over in `spec` is kept as a digest: whether two objects differ
//! in something that nobody looks at can still be told.
//!
//! Invariant: a field that a shape covers reads exactly as it would in the whole object. Where a covered name stands twice
//! in one map the object is refused: parsers disagree about which one counts.

mod read;
mod shape;
#[cfg(test)]
mod tests;

pub use read::{Fault, MOST_PER_BYTE, Problem, Read, read};
pub use shape::Shape;

/// The metadata that rules look at. Annotations are those of Gatehouse and of the controllers that it judges for, see
/// [`is_kept_annotation`].
pub const METADATA: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata.name",
    "metadata.generateName",
    "metadata.namespace",
    "metadata.uid",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.creationTimestamp",
    "metadata.deletionTimestamp",
    "metadata.labels.*",
    "metadata.annotations.@",
    "metadata.ownerReferences[].apiVersion",
    "metadata.ownerReferences[].kind",
    "metadata.ownerReferences[].name",
    "metadata.ownerReferences[].uid",
    "metadata.ownerReferences[].controller",
    "metadata.ownerReferences[].blockOwnerDeletion",
    "metadata.finalizers[]",
];

/// Everything that policies may see of an object: all of its metadata but managedFields, and all of its spec.
pub const WHOLE: &[&str] = &["apiVersion", "kind", "-metadata.managedFields", "metadata.*.**", "spec.**"];

/// Whether an annotation is read where annotations are not read whole: those of Gatehouse, Flux, its operator and
/// Agones. What kubectl and others put there may be as large as the object, and no rule looks at it.
pub fn is_kept_annotation(name: &str) -> bool {
    const DOMAINS: [&str; 4] = ["gatehouse.dev", "fluxcd.io", "fluxcd.controlplane.io", "agones.dev"];
    let Some((domain, _)) = name.split_once('/') else { return false };
    DOMAINS.iter().any(|known| {
        domain.strip_suffix(known).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}
