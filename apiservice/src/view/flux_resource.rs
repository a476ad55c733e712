//! `fluxresources`: one row for each Flux object, of whatever kind.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{BlockedBy, ObjectReference};
use crate::{Cell, Column, Condition, Resource, Time, View};

/// The states of objects, the least severe first.
pub const STATES: [&str; 10] = [
    "Ready",
    "Suspended",
    "Terminating",
    "Pending",
    "Progressing",
    "Unknown",
    "Blocked",
    "Failing",
    "Failed",
    "Stalled",
];

/// State of one Flux object of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct FluxResourceStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// API group of the object.
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object; its namespace is this object's own.
    pub name: String,
    /// Ready, Suspended, Terminating, Pending, Progressing, Unknown, Blocked, Failing, Failed or Stalled.
    pub state: Cow<'static, str>,
    /// Outcome of its last finished reconciliation, if it is Suspended or Progressing now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<Cow<'static, str>>,
    /// Whether it is suspended, whatever its state.
    pub suspended: bool,
    /// User who suspended it, from the annotation `fluxcd.controlplane.io/suspendedBy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended_by: Option<String>,
    /// Time at which the suspension ends by itself, from the annotation `gatehouse.dev/suspended-until`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended_until: Option<Time>,
    /// The last request to reconcile it, if there ever was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<ReconcileToken>,
    /// Reason of the condition that determines the state; while a failure is retried, that of the failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Message of the condition that explains the state, truncated to 512 bytes; while a failure is retried, that of
    /// the failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Time since when it has been in this state, if its conditions contain it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The revision last applied or fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Number of objects in the inventory in its status: what it has applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<u32>,
    /// Objects that it applies no longer and that its controller failed to delete, as the message says; at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_pruned: Vec<ObjectReference>,
    /// Newest revision that was reconciled with success, if the history in the object's status contains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_good_revision: Option<String>,
    /// Time since when lastGoodRevision has been the newest one: when it was first reconciled, or released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_good_since: Option<Time>,
    /// Oldest revision that has failed since lastGoodRevision, if the object fails: the revision since which it fails, as
    /// far back as the history in its status goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_revision: Option<String>,
    /// Time at which failedRevision failed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_since: Option<Time>,
    /// Secret or ConfigMap with the address of the cluster that it applies to (`spec.kubeConfig`); absent if it applies
    /// to its own cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_cluster: Option<ObjectReference>,
    /// Where its content comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ObjectReference>,
    /// Root cause, if it is Blocked or its source has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<BlockedBy>,
    /// TenantQuotas and ReconcilePolicies that deny what it applies, as its controller's message says; at most eight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied_by: Vec<ObjectReference>,
    /// Ready: it is not Failed, Stalled or Blocked. ManagedTwice: present and True if another Flux object or an
    /// Application of Argo CD applies some of the same objects; the message names them. Fresh: the cluster answered within the last 30 seconds.
    pub conditions: Vec<Condition>,
}

/// The last request to reconcile an object, and the last that its controller has handled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct ReconcileToken {
    /// Token of the last request, from the annotation `reconcile.fluxcd.io/requestedAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Token that the controller has handled last, from its `status.lastHandledReconcileAt`. The request is handled if
    /// it has this token or an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handled: Option<String>,
}

impl View for FluxResourceStatus {
    const RESOURCE: Resource = Resource {
        plural: "fluxresources",
        singular: "fluxresource",
        kind: "FluxResource",
        short_names: &["fxr"],
        namespaced: true,
        description: "FluxResource tells how one Flux object is doing, whatever its kind: its state judged by \
                      the same rule for all, its revision, and the root cause if it is blocked.",
        columns: &[
            Column::NAME,
            Column::text("Kind", "Kind of the object."),
            Column::text("Object", "Name of the object."),
            Column::text("State", "State of the object."),
            Column::text("Revision", "The revision last applied or fetched."),
            Column::text("Suspended", "Whether it is suspended."),
            Column::text("Blocked-By", "Root cause that it waits for."),
            Column::age("Age", "How long it has been in this state."),
            Column::text("Message", "Message of its controller."),
            Column::text("Reason", "Reason of the condition that determines the state.").wide(),
            Column::text("Last-Outcome", "Outcome of the last finished reconciliation.").wide(),
            Column::text("Denied-By", "Quotas and policies that deny what it applies.").wide(),
            Column::text("Source", "Source of its content.").wide(),
            Column::text("Suspended-By", "Who suspended it.").wide(),
            Column::text("Last-Good", "Newest revision that was reconciled with success.").wide(),
            Column::age("Good-Since", "How long that has been the newest one.").wide(),
            Column::text("Failed-Revision", "Revision since which it fails.").wide(),
            Column::text("Target", "Where the address of the cluster is that it applies to.").wide(),
            Column::text("Cluster", "Name of the observed cluster.").wide(),
        ],
        selectable_fields: &["status.cluster", "status.kind", "status.state", "status.suspended"],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        vec![
            self.kind.as_str().into(),
            self.name.as_str().into(),
            self.state.as_ref().into(),
            self.revision.as_deref().map_or_else(|| "".into(), short_revision),
            if self.suspended { "True" } else { "False" }.into(),
            self.blocked_by.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            Cell::Age(self.since),
            self.message.as_str().into(),
            self.reason.as_str().into(),
            self.last_outcome.as_deref().unwrap_or_default().into(),
            self.denied_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ").into(),
            self.source.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            self.suspended_by.as_deref().unwrap_or_default().into(),
            self.last_good_revision.as_deref().map_or_else(|| "".into(), short_revision),
            Cell::Age(self.last_good_since),
            self.failed_revision.as_deref().map_or_else(|| "".into(), short_revision),
            self.target_cluster.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            self.cluster.as_str().into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![
            self.cluster.as_str().into(),
            self.kind.as_str().into(),
            self.state.as_ref().into(),
            if self.suspended { "true" } else { "false" }.into(),
        ]
    }
}

/// As the flux command shows revisions: the digest's hexadecimal digits cut to eight.
pub(super) fn short_revision(revision: &str) -> Cell<'_> {
    let Some((head, digest)) = revision.rsplit_once(':') else { return revision.into() };
    if digest.len() > 8 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        format!("{head}:{}", &digest[..8]).into()
    } else {
        revision.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_cut_and_plain_versions_are_not() {
        let sha = "main@sha1:0647aea75b85755411e0b2b2b2f3b1f2a6c1a7b1";
        assert_eq!(short_revision(sha), Cell::from("main@sha1:0647aea7"));
        assert_eq!(short_revision("podinfo@6.7.1"), Cell::from("podinfo@6.7.1"));
        assert_eq!(short_revision("latest:stable-channel"), Cell::from("latest:stable-channel"));
    }
}
