//! `argoapplications`: one row for each Application of Argo CD.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::ObjectReference;
use crate::{Cell, Column, Condition, Resource, Time, View};

/// The address by which Argo CD knows the cluster that it runs in, and the name that it shows for it.
const OWN_ADDRESS: &str = "https://kubernetes.default.svc";
const OWN_NAME: &str = "in-cluster";

/// An Application of Argo CD.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct ArgoApplicationStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// Name of the Application; its namespace is this object's own.
    pub name: String,
    /// Argo CD project of the Application.
    pub project: String,
    /// Ready, Suspended, Terminating, Pending, Progressing, Unknown or Failed, by the rules of clusterhealths. An
    /// Application that differs from its source and that nobody is to sync is Suspended, not Failed.
    pub state: Cow<'static, str>,
    /// Outcome before, if it is Suspended or Progressing now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<Cow<'static, str>>,
    /// Synced, OutOfSync or Unknown, as Argo CD reports it; absent before it has compared.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sync: String,
    /// Healthy, Progressing, Degraded, Suspended, Missing or Unknown, as Argo CD reports it; absent before it has looked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub health: String,
    /// Whether it differs from its source.
    pub drifted: bool,
    /// Number of its resources that differ from their source.
    pub drifted_resources: u32,
    /// Revision that was compared with the cluster; of several sources at most eight, with commas between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Revision of the last sync that succeeded, as the newest entry of its history tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_good_revision: Option<String>,
    /// Time at which lastGoodRevision was deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_good_since: Option<Time>,
    /// Revision that the last operation could not sync, if it failed or is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_revision: Option<String>,
    /// Time at which that operation ended, or began if it is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_since: Option<Time>,
    /// Where it is applied.
    pub destination: ArgoDestination,
    /// Last operation, for example a sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<ArgoOperation>,
    /// Condition that matters most: errors before warnings, and of the errors the cause first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<ArgoCondition>,
    /// Resource that explains why it is not well: one that Argo CD reports, or else the likeliest of those that it
    /// applies to its own cluster and that are not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<ArgoCause>,
    /// Reason of the state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Message that explains the state, truncated to 512 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Time since when it has been in this state, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Ready: it has not failed, whether or not it has drifted. Synced: it does not differ from its source.
    /// ManagedTwice: present and True if Flux or another Application applies some of the same objects; the message names
    /// them. Fresh: the cluster answered within the last 30 seconds.
    pub conditions: Vec<Condition>,
}

/// Where an Application is applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct ArgoDestination {
    /// Name or address of the cluster; `in-cluster` is the one that Argo CD runs in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Namespace for resources that set none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// An operation of Argo CD on an Application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct ArgoOperation {
    /// Running, Terminating, Succeeded, Failed or Error.
    pub phase: String,
    /// Time at which it ended, or at which it began if it is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// A condition of an Application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(!default)]
pub struct ArgoCondition {
    /// Type of the condition, for example ComparisonError.
    #[serde(rename = "type")]
    pub kind: String,
    /// Message of the condition, truncated to 512 bytes.
    pub message: String,
}

/// A resource that explains why an Application is not well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct ArgoCause {
    /// The resource, in the cluster of the destination.
    #[serde(flatten)]
    pub object: ObjectReference,
    /// What is wrong with it, for example Degraded or SyncFailed.
    pub reason: String,
    /// Message of the resource, truncated to 512 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl ArgoDestination {
    /// The destination, with the address of Argo CD's own cluster replaced by its name.
    pub fn of(cluster: &str, namespace: &str) -> Self {
        let cluster = if cluster == OWN_ADDRESS { OWN_NAME } else { cluster };
        Self { cluster: cluster.to_owned(), namespace: namespace.to_owned() }
    }
}

impl ArgoApplicationStatus {
    /// The condition that matters, if it is an error.
    fn error(&self) -> Option<&ArgoCondition> {
        self.condition.as_ref().filter(|condition| condition.kind.ends_with("Error"))
    }

    /// What explains the state: the resource, the error, or the reason.
    fn cause_cell(&self) -> String {
        match (&self.cause, self.error()) {
            _ if self.state == "Ready" => String::new(),
            (Some(cause), _) => format!("{} {}", cause.object, cause.reason),
            (None, Some(error)) => error.kind.clone(),
            (None, None) => self.reason.clone(),
        }
    }

    /// The message of the resource, of the state, or of the error.
    fn message_cell(&self) -> &str {
        let cause = self.cause.as_ref().filter(|_| self.state != "Ready").map_or("", |cause| &cause.message);
        let error = self.error().map_or("", |error| &error.message);
        let mut texts = [cause, &self.message, error].into_iter();
        texts.find(|text| !text.is_empty()).unwrap_or_default()
    }

    fn destination_cell(&self) -> String {
        let ArgoDestination { cluster, namespace } = &self.destination;
        if namespace.is_empty() { cluster.clone() } else { format!("{cluster}/{namespace}") }
    }
}

impl View for ArgoApplicationStatus {
    const RESOURCE: Resource = Resource {
        plural: "argoapplications",
        singular: "argoapplication",
        kind: "ArgoApplication",
        short_names: &["aap"],
        namespaced: true,
        description: "ArgoApplication tells how one Application of Argo CD is doing: sync and health apart, drift \
                      apart from failure, the condition that matters, the revision and the destination.",
        columns: &[
            Column::NAME,
            Column::text("Project", "Argo CD project of the Application."),
            Column::text("Sync", "Whether it equals its source, as Argo CD reports it."),
            Column::text("Health", "Health of its resources, as Argo CD reports it."),
            Column::text("State", "State of the Application; drift alone is no failure."),
            Column::text("Revision", "Revision that was compared with the cluster."),
            Column::text("Destination", "Cluster and namespace that it is applied to."),
            Column::text("Cause", "Resource or condition that explains why it is not well."),
            Column::text("Message", "Message that explains the state."),
            Column::age("Since", "How long it has been in this state.").wide(),
            Column::integer("Drifted", "Number of its resources that differ from their source.").wide(),
            Column::text("Operation", "Phase of the last operation.").wide(),
            Column::age("Operated", "Time since the last operation ended, or began if it is running.").wide(),
            Column::text("Condition", "Condition that matters most.").wide(),
            Column::text("Last-Good", "Revision of the last sync that succeeded.").wide(),
            Column::age("Good-Since", "Time since it was deployed.").wide(),
            Column::text("Failed-Revision", "Revision that the last operation could not sync.").wide(),
            Column::text("Cluster", "Name of the observed cluster.").wide(),
        ],
        selectable_fields: &[
            "status.cluster",
            "status.health",
            "status.project",
            "status.state",
            "status.sync",
        ],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        let operation = self.operation.as_ref();
        vec![
            self.project.as_str().into(),
            self.sync.as_str().into(),
            self.health.as_str().into(),
            self.state.as_ref().into(),
            self.revision.as_deref().map(short_revisions).unwrap_or_default().into(),
            self.destination_cell().into(),
            self.cause_cell().into(),
            self.message_cell().into(),
            Cell::Age(self.since),
            Cell::Integer(self.drifted_resources.into()),
            operation.map_or("", |operation| &operation.phase).into(),
            Cell::Age(operation.and_then(|operation| operation.time)),
            self.condition.as_ref().map_or("", |condition| &condition.kind).into(),
            self.last_good_revision.as_deref().map(short_revisions).unwrap_or_default().into(),
            Cell::Age(self.last_good_since),
            self.failed_revision.as_deref().map(short_revisions).unwrap_or_default().into(),
            self.cluster.as_str().into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![
            self.cluster.as_str().into(),
            self.health.as_str().into(),
            self.project.as_str().into(),
            self.state.as_ref().into(),
            self.sync.as_str().into(),
        ]
    }
}

/// Commits are cut to eight digits; the versions of charts are left as they are.
fn short_revisions(revisions: &str) -> String {
    let is_commit = |text: &str| text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let short = |text| if is_commit(text) { &text[..8] } else { text };
    revisions.split(',').map(short).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_cut_and_versions_are_not() {
        let commit = "3f6c1d0a9be24d5f8c7e1b2a6d4f90817263a5bc";
        assert_eq!(short_revisions(&format!("{commit},1.2.3,deadbeef")), "3f6c1d0a,1.2.3,deadbeef");
    }
}
