//! Reads only the needed fields of an object, in linear time and within a memory budget.
//!
//! An object may have megabytes, and as a [`serde_json::Value`] two bytes of it may take seventy. So code that judges
//! objects declares the fields that it needs as a [`Shape`]. [`read`] builds these and skips all others without
//! recursion. The skipped parts of `spec` are hashed, so that a difference in them is still detected.
//!
//! **Invariant:** a field that a shape covers has the same value as in the whole object. If a map contains a covered
//! name twice, the object is refused, since parsers disagree about which one counts.

mod read;
mod shape;
#[cfg(test)]
mod tests;

pub use read::{Fault, MOST_PER_BYTE, Problem, Read, read};
pub use shape::Shape;

/// The metadata that rules use. Of the annotations, only those of Gatehouse and of the controllers that it judges
/// objects for; see [`is_kept_annotation`].
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

/// All fields that policies can use: the metadata without managedFields, and the spec.
pub const WHOLE: &[&str] = &["apiVersion", "kind", "-metadata.managedFields", "metadata.*.**", "spec.**"];

/// Whether an annotation is read by the step `@` of a [`Shape`]: those of Gatehouse, Flux, the Flux operator and Agones
/// are. The annotations of kubectl and others may be as large as the object, and no rule uses them.
pub fn is_kept_annotation(name: &str) -> bool {
    const DOMAINS: [&str; 4] = ["gatehouse.dev", "fluxcd.io", "fluxcd.controlplane.io", "agones.dev"];
    let Some((domain, _)) = name.split_once('/') else { return false };
    DOMAINS.iter().any(|known| {
        domain.strip_suffix(known).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}
