//! Pieces that several views share.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use crate::Time;

/// Names an object of the observed cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Kind of the object.
    pub kind: String,
    /// Namespace of the object; absent for cluster-scoped ones.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

impl std::fmt::Display for ObjectReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, namespace, name } = self;
        if namespace.is_empty() { write!(f, "{kind}/{name}") } else { write!(f, "{kind}/{namespace}/{name}") }
    }
}

/// An object that needs somebody to act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectReference,
    /// Stalled, Failed, Failing (retrying) or Blocked.
    pub state: Cow<'static, str>,
    /// The deciding condition's reason.
    pub reason: String,
    /// The deciding condition's message, cut to 512 bytes.
    pub message: String,
    /// Since when it has been in this state, as far as its conditions tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// What it waits for in the end, if it is Blocked or its source has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<BlockedBy>,
}

impl Failure {
    /// `Kind/name State`, for a cell.
    pub(super) fn cell(&self) -> String {
        format!("{}/{} {}", self.object.kind, self.object.name, self.state)
    }
}

/// Why an object cannot go on: the end of its chain of dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockedBy {
    /// What is wrong with the object at the end of the chain.
    pub reason: BlockedReason,
    /// The object at the end of the chain.
    #[serde(flatten)]
    pub object: ObjectReference,
    /// The state of that object; absent if it does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Cow<'static, str>>,
    /// What that object's controller says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The objects passed on the way there, the nearest first; for a cycle, its members in order. At most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<ObjectReference>,
}

/// What is wrong at the end of a chain of dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum BlockedReason {
    /// The dependency has failed.
    DependencyFailed,
    /// The dependency has not failed and is not ready: it is progressing, pending or suspended.
    DependencyNotReady,
    /// The dependency does not exist.
    DependencyMissing,
    /// The dependencies wait for each other.
    DependencyCycle,
    /// The source it takes its content from has failed.
    SourceFailed,
    /// The source it takes its content from has not failed and is not ready.
    SourceNotReady,
    /// The source it takes its content from does not exist.
    SourceMissing,
}

impl std::fmt::Display for BlockedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.reason {
            BlockedReason::DependencyMissing | BlockedReason::SourceMissing => {
                write!(f, "{} (missing)", self.object)
            }
            BlockedReason::DependencyCycle => write!(f, "{} (cycle)", self.object),
            _ => self.object.fmt(f),
        }
    }
}

/// How many objects of one kind are in which state. A state that no object is in is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KindCount {
    /// The kind counted.
    pub kind: String,
    /// API group of the kind.
    pub group: String,
    /// All objects of the kind, whatever their state.
    pub total: u32,
    /// Objects that are as they should be.
    #[serde(skip_serializing_if = "is_zero")]
    pub ready: u32,
    /// Failed objects, those being retried included.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: u32,
    /// Objects whose controller has given up.
    #[serde(skip_serializing_if = "is_zero")]
    pub stalled: u32,
    /// Objects waiting for a dependency.
    #[serde(skip_serializing_if = "is_zero")]
    pub blocked: u32,
    /// Objects being reconciled, with no failure.
    #[serde(skip_serializing_if = "is_zero")]
    pub progressing: u32,
    /// Suspended objects.
    #[serde(skip_serializing_if = "is_zero")]
    pub suspended: u32,
    /// Objects that no controller has said anything about.
    #[serde(skip_serializing_if = "is_zero")]
    pub pending: u32,
    /// Objects being deleted.
    #[serde(skip_serializing_if = "is_zero")]
    pub terminating: u32,
    /// Objects that could not be judged.
    #[serde(skip_serializing_if = "is_zero")]
    pub unknown: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A kind whose objects cannot be seen. That none are counted does not mean that there are none; those counted were
/// seen before, and may have changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unreadable {
    /// The kind.
    pub kind: String,
    /// API group of the kind.
    pub group: String,
    /// Why: Forbidden (a right is missing), Failing (the last attempt to list failed) or Pending (not listed yet).
    pub reason: Cow<'static, str>,
    /// The API server's words.
    pub message: String,
}

/// The status of the condition `kind`, as text for a cell.
pub(super) fn status_of(conditions: &[crate::Condition], kind: &str) -> &'static str {
    conditions.iter().find(|condition| condition.kind == kind).map_or("Unknown", |condition| match condition
        .status
    {
        crate::ConditionStatus::True => "True",
        crate::ConditionStatus::False => "False",
        crate::ConditionStatus::Unknown => "Unknown",
    })
}
