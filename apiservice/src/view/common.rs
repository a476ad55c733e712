//! Pieces that several views share.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, generate::SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Time;

/// Reference to an object of the observed cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
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

/// An object that failed and needs attention.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct Failure {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectReference,
    /// Stalled, Failed, Failing (retrying) or Blocked.
    pub state: Cow<'static, str>,
    /// Reason of the condition that determines the state.
    pub reason: String,
    /// Message of the condition that determines the state, truncated to 512 bytes.
    pub message: String,
    /// Time since when it has been in this state, if its conditions contain it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Root cause, if it is Blocked or its source has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<BlockedBy>,
}

impl Failure {
    /// `Kind/name State`, for a cell.
    pub(super) fn cell(&self) -> String {
        format!("{}/{} {}", self.object.kind, self.object.name, self.state)
    }
}

/// Root cause of a blocked object: the end of its chain of dependencies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct BlockedBy {
    /// What is wrong with the root cause.
    pub reason: BlockedReason,
    /// The object that is the root cause.
    #[serde(flatten)]
    pub object: ObjectReference,
    /// State of the root cause; absent if the object does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Cow<'static, str>>,
    /// Message of the root cause.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Objects between this one and the root cause, the nearest first; for a cycle, its members in order. At most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<ObjectReference>,
}

/// What is wrong with a root cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub enum BlockedReason {
    /// The dependency has failed.
    DependencyFailed,
    /// The dependency has not failed and is not ready: it is progressing, pending or suspended.
    #[default]
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

/// A reason that is not known counts as the mildest.
impl<'de> Deserialize<'de> for BlockedReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match &*Cow::<str>::deserialize(deserializer)? {
            "DependencyFailed" => Self::DependencyFailed,
            "DependencyMissing" => Self::DependencyMissing,
            "DependencyCycle" => Self::DependencyCycle,
            "SourceFailed" => Self::SourceFailed,
            "SourceNotReady" => Self::SourceNotReady,
            "SourceMissing" => Self::SourceMissing,
            _ => Self::DependencyNotReady,
        })
    }
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

/// Number of objects by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct StateCounts {
    /// Number of objects.
    pub total: u32,
    /// Number of objects whose last reconciliation succeeded.
    pub ready: u32,
    /// Number of failed objects, including those that are retried.
    pub failed: u32,
    /// Number of objects whose controller gave up.
    pub stalled: u32,
    /// Number of objects that wait for a failed dependency or source.
    pub blocked: u32,
    /// Number of objects that are being reconciled and have not failed.
    pub progressing: u32,
    /// Number of suspended objects.
    pub suspended: u32,
    /// Number of objects without a status.
    pub pending: u32,
    /// Number of objects that are being deleted.
    pub terminating: u32,
    /// Number of objects whose state could not be determined.
    pub unknown: u32,
}

/// Number of objects of one kind by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct KindCount {
    /// The kind counted.
    pub kind: String,
    /// API group of the kind.
    pub group: String,
    /// Number of its objects. Of the states, those without objects are left out.
    #[serde(flatten, serialize_with = "without_zeros")]
    #[schemars(schema_with = "optional_states")]
    pub counts: StateCounts,
}

/// A row may have twenty kinds, most of them in one or two states.
fn without_zeros<S: Serializer>(counts: &StateCounts, serializer: S) -> Result<S::Ok, S::Error> {
    let StateCounts {
        total,
        ready,
        failed,
        stalled,
        blocked,
        progressing,
        suspended,
        pending,
        terminating,
        unknown,
    } = *counts;
    let states = [
        ("ready", ready),
        ("failed", failed),
        ("stalled", stalled),
        ("blocked", blocked),
        ("progressing", progressing),
        ("suspended", suspended),
        ("pending", pending),
        ("terminating", terminating),
        ("unknown", unknown),
    ];
    serializer
        .collect_map([("total", total)].into_iter().chain(states.into_iter().filter(|(_, count)| *count > 0)))
}

fn optional_states(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = StateCounts::json_schema(generator);
    schema.insert("required".to_owned(), serde_json::json!(["total"]));
    schema
}

/// The objects of a namespace that a summary is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct ObjectsStatus {
    /// Number of objects by kind and state, including those owned by others of them.
    pub kinds: Vec<KindCount>,
    /// The oldest failure, of those with a known start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_failure: Option<Failure>,
    /// The worst failures, most severe and oldest first; at most five.
    pub failures: Vec<Failure>,
    /// Number of failures that the list leaves out.
    pub failures_omitted: u32,
    /// Kinds whose objects cannot be observed and may be missing from the numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
}

impl ObjectsStatus {
    /// When the oldest failure began.
    pub(super) fn failing_since(&self) -> Option<Time> {
        self.oldest_failure.as_ref().and_then(|failure| failure.since)
    }
}

/// A kind whose objects cannot be observed. Its counts may be stale or missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct Unreadable {
    /// The kind.
    pub kind: String,
    /// API group of the kind.
    pub group: String,
    /// Forbidden (Gatehouse may not list it), Failing (the last list failed) or Pending (not listed yet).
    pub reason: Cow<'static, str>,
    /// Message of the API server.
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
