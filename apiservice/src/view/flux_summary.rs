//! `fluxsummaries`: how Flux is doing in a namespace, in one row.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::Serialize;

use super::{Failure, KindCount, Unreadable};
use crate::{Cell, Column, Condition, Resource, Time, View};

/// How the Flux objects of one namespace of one cluster are doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FluxSummaryStatus {
    /// The cluster told about; `local` is the one that serves this API.
    pub cluster: String,
    /// The gravest state any object of the namespace is in: Stalled, Failed, Failing, Blocked, Unknown,
    /// Progressing, Pending, Terminating, Suspended or Ready.
    pub state: Cow<'static, str>,
    /// All Flux objects of the namespace.
    pub total: u32,
    /// Objects whose last reconciliation succeeded.
    pub ready: u32,
    /// Failed objects, those being retried included.
    pub failed: u32,
    /// Objects whose controller has given up.
    pub stalled: u32,
    /// Objects waiting for a dependency.
    pub blocked: u32,
    /// Objects being reconciled, with no failure.
    pub progressing: u32,
    /// Suspended objects.
    pub suspended: u32,
    /// Objects that no controller has said anything about.
    pub pending: u32,
    /// Objects being deleted.
    pub terminating: u32,
    /// Objects that could not be judged.
    pub unknown: u32,
    /// The same counts for each kind that is present.
    pub kinds: Vec<KindCount>,
    /// The failure that has lasted longest, of those that tell since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_failure: Option<Failure>,
    /// The worst failures, the gravest and longest first; at most five.
    pub failures: Vec<Failure>,
    /// How many failures the list leaves out.
    pub failures_omitted: u32,
    /// Kinds whose objects cannot be seen: what is not known of them is missing from every count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
    /// When the observation that this row tells about was made.
    pub last_observed_time: Time,
    /// Ready: nothing is Failed, Stalled or Blocked. Fresh: the cluster was heard from lately.
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
            Column::text("Fresh", "Whether the cluster was heard from lately.").wide(),
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
