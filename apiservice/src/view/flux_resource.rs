//! `fluxresources`: one row for each Flux object, of whatever kind.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::Serialize;

use super::{BlockedBy, ObjectReference};
use crate::{Cell, Column, Condition, Resource, Time, View};

/// State of one Flux object of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
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
    /// Where its content comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ObjectReference>,
    /// Root cause, if it is Blocked or its source has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<BlockedBy>,
    /// TenantQuotas and ReconcilePolicies that deny what it applies, as its controller's message says; at most eight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied_by: Vec<ObjectReference>,
    /// Ready: it is not Failed, Stalled or Blocked. Fresh: the cluster answered within the last 30 seconds.
    pub conditions: Vec<Condition>,
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
            Column::text("State", "What the object is doing."),
            Column::text("Revision", "The revision last applied or fetched."),
            Column::text("Suspended", "Whether it is suspended."),
            Column::text("Blocked-By", "What it waits for in the end."),
            Column::age("Age", "Since when it has been in this state."),
            Column::text("Message", "What its controller says."),
            Column::text("Reason", "The deciding condition's reason.").wide(),
            Column::text("Last-Outcome", "How its last finished reconciliation ended.").wide(),
            Column::text("Denied-By", "Quotas and policies that deny what it applies.").wide(),
            Column::text("Source", "Where its content comes from.").wide(),
            Column::text("Suspended-By", "Who suspended it.").wide(),
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
fn short_revision(revision: &str) -> Cell<'_> {
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
