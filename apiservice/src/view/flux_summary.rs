//! `fluxsummaries`: how Flux is doing in a namespace, in one row.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::Serialize;

use super::{Failure, KindCount, Unreadable};
use crate::{Cell, Column, Condition, Resource, Time, View};

/// States of the Flux objects of one namespace of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FluxSummaryStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// The most severe state of all objects of the namespace: Stalled, Failed, Failing, Blocked, Unknown, Progressing,
    /// Pending, Terminating, Suspended or Ready.
    pub state: Cow<'static, str>,
    /// Number of Flux objects of the namespace.
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
    /// The same counts by kind.
    pub kinds: Vec<KindCount>,
    /// The oldest failure, of those with a known start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_failure: Option<Failure>,
    /// The worst failures, most severe and oldest first; at most five.
    pub failures: Vec<Failure>,
    /// Number of failures that the list leaves out.
    pub failures_omitted: u32,
    /// Kinds whose objects cannot be observed and may be missing from the counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
    /// Time of the observation that this object reports.
    pub last_observed_time: Time,
    /// Ready: nothing is Failed, Stalled or Blocked. Fresh: the cluster answered within the last 30 seconds.
    pub conditions: Vec<Condition>,
}

impl View for FluxSummaryStatus {
    const RESOURCE: Resource = Resource {
        plural: "fluxsummaries",
        singular: "fluxsummary",
        kind: "FluxSummary",
        short_names: &["fxs"],
        namespaced: true,
        description: "FluxSummary tells how the Flux objects of one namespace are doing: how many are in \
                      which state, which fail worst, since when and because of what.",
        columns: &[
            Column::NAME,
            Column::integer("Total", "All Flux objects of the namespace."),
            Column::integer("Ready", "Objects whose last reconciliation succeeded."),
            Column::integer("Failed", "Failed objects, those being retried included."),
            Column::integer("Stalled", "Objects whose controller has given up."),
            Column::integer("Blocked", "Objects waiting for a dependency."),
            Column::integer("Progressing", "Objects being reconciled, with no failure."),
            Column::integer("Suspended", "Suspended objects."),
            Column::age("Oldest-Failure", "How long the longest failing object has been failing."),
            Column::text("Worst", "The object that fails worst."),
            Column::integer("Pending", "Objects that no controller has said anything about.").wide(),
            Column::integer("Unknown", "Objects that could not be judged.").wide(),
            Column::text("Root-Cause", "What the worst failure comes from, if it is blocked.").wide(),
            Column::text("Fresh", "Whether the cluster answered within the last 30 seconds.").wide(),
            Column::text("Message", "What the worst failure's controller says.").wide(),
        ],
        selectable_fields: &["status.cluster", "status.state"],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        let worst = self.failures.first();
        let root = worst.and_then(|worst| worst.blocked_by.as_ref());
        vec![
            Cell::Integer(self.total.into()),
            Cell::Integer(self.ready.into()),
            Cell::Integer(self.failed.into()),
            Cell::Integer(self.stalled.into()),
            Cell::Integer(self.blocked.into()),
            Cell::Integer(self.progressing.into()),
            Cell::Integer(self.suspended.into()),
            Cell::Age(self.oldest_failure.as_ref().and_then(|failure| failure.since)),
            worst.map(Failure::cell).unwrap_or_default().into(),
            Cell::Integer(self.pending.into()),
            Cell::Integer(self.unknown.into()),
            root.map(ToString::to_string).unwrap_or_default().into(),
            super::common::status_of(&self.conditions, "Fresh").into(),
            worst.map(|worst| worst.message.as_str()).unwrap_or_default().into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![self.cluster.as_str().into(), self.state.as_ref().into()]
    }
}
