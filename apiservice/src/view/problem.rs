//! `problems`: one row for each object that is not well, of whatever layer, with what explains it.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::ObjectReference;
use crate::{Cell, Column, Condition, Resource, Time, View};

/// An object that is not well, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct ProblemStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// Layer of clusterhealths that the object counts towards; absent if it counts towards none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub layer: String,
    /// API group of the object; empty for the core group.
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Namespace of the object; absent for cluster-scoped ones, whose problems are in the namespace `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Blocked, Failing (its controller retries), Failed, Stalled or Unknown.
    pub state: Cow<'static, str>,
    /// Reason of the condition that determines the state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Message of the condition that determines the state, truncated to 512 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Time since when it has failed, if its conditions contain it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// What explains it, as far as that is known; absent if the object explains itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<ProblemCause>,
    /// Objects between this one and its cause, the nearest first; at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<ObjectReference>,
    /// Whether no other problem explains this one: solve these first. A pod has no problem of its own if what owns it
    /// is observed.
    pub is_cause: bool,
    /// Number of other problems that this one explains.
    pub affects: u32,
    /// Flux object that applies the object, by its labels, or the Application of Argo CD that does, by its status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<ObjectReference>,
    /// Object that owns the object, by its owner references.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<ObjectReference>,
    /// Fresh: the cluster answered within the last 30 seconds.
    pub conditions: Vec<Condition>,
}

/// The object that explains a problem.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct ProblemCause {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectReference,
    /// State of the object; Missing if it does not exist, and absent if it cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Cow<'static, str>>,
    /// Reason of the state: for a pod that of its container, for example ImagePullBackOff.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Message that explains the state, truncated to 512 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The problems of a namespace or a cluster, in short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct ProblemsStatus {
    /// Number of problems, of whatever kinds, as the resource problems lists them.
    pub problems: u32,
    /// What explains the worst problem, which is the most severe and of these the oldest: the last object on the way
    /// from it, or the object itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_cause: Option<ProblemCause>,
}

impl ProblemsStatus {
    /// The worst cause, for a cell.
    pub(super) fn cause_cell(&self) -> String {
        self.worst_cause.as_ref().map(ProblemCause::cell).unwrap_or_default()
    }
}

impl ProblemCause {
    fn cell(&self) -> String {
        match (self.reason.as_str(), self.state.as_deref()) {
            ("", Some(state)) => format!("{} {state}", self.object),
            (reason, _) => format!("{} {reason}", self.object),
        }
    }
}

impl View for ProblemStatus {
    const RESOURCE: Resource = Resource {
        plural: "problems",
        singular: "problem",
        kind: "Problem",
        short_names: &["prb"],
        namespaced: true,
        description: "Problem tells that one object is not well, of whatever kind: since when, the root cause down \
                      to the container and the path to it, and what manages the object. Problems of cluster-scoped \
                      objects are in the namespace default.",
        columns: &[
            Column::NAME,
            Column::text("Layer", "Layer of clusterhealths that the object counts towards."),
            Column::text("Object", "Kind and name of the object."),
            Column::text("State", "State of the object."),
            Column::age("Since", "How long it has failed."),
            Column::text("Cause", "Object that explains the problem, and its reason."),
            Column::integer("Affects", "Number of other problems that this one explains."),
            Column::text("Managed-By", "Flux object that applies the object."),
            Column::text("Message", "Message of the cause, or of the object if it explains itself."),
            Column::text("Reason", "Reason of the condition that determines the state.").wide(),
            Column::text("Path", "Objects between this one and its cause.").wide(),
            Column::text("Owner", "Object that owns the object.").wide(),
            Column::text("Cluster", "Name of the observed cluster.").wide(),
        ],
        selectable_fields: &[
            "status.cluster",
            "status.isCause",
            "status.kind",
            "status.layer",
            "status.state",
        ],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        let optional = |object: &Option<ObjectReference>| object.as_ref().map(ToString::to_string);
        let message = self.cause.as_ref().map(|cause| cause.message.as_str()).filter(|text| !text.is_empty());
        let path: Vec<_> = self.path.iter().map(ToString::to_string).collect();
        vec![
            self.layer.as_str().into(),
            format!("{}/{}", self.kind, self.name).into(),
            self.state.as_ref().into(),
            Cell::Age(self.since),
            self.cause.as_ref().map(ProblemCause::cell).unwrap_or_default().into(),
            Cell::Integer(self.affects.into()),
            optional(&self.managed_by).unwrap_or_default().into(),
            message.unwrap_or(&self.message).into(),
            self.reason.as_str().into(),
            path.join(", ").into(),
            optional(&self.owner).unwrap_or_default().into(),
            self.cluster.as_str().into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![
            self.cluster.as_str().into(),
            if self.is_cause { "true" } else { "false" }.into(),
            self.kind.as_str().into(),
            self.layer.as_str().into(),
            self.state.as_ref().into(),
        ]
    }
}
