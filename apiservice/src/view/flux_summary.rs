//! `fluxsummaries`: how Flux is doing in a namespace, in one row.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{Failure, ObjectsStatus, ProblemsStatus, StateCounts};
use crate::{Cell, Column, Condition, Resource, Time, View};

/// States of the Flux objects of one namespace of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct FluxSummaryStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// The most severe state of all objects of the namespace: Stalled, Failed, Failing, Blocked, Unknown, Progressing,
    /// Pending, Terminating, Suspended or Ready.
    pub state: Cow<'static, str>,
    /// Number of Flux objects of the namespace.
    #[serde(flatten)]
    pub counts: StateCounts,
    /// Its objects.
    #[serde(flatten)]
    pub objects: ObjectsStatus,
    /// Everything in the namespace that is not well, Flux objects or not.
    #[serde(flatten)]
    pub problems: ProblemsStatus,
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
            Column::integer("Failed", "Failed objects, including those that are retried."),
            Column::integer("Stalled", "Objects whose controller gave up."),
            Column::integer("Blocked", "Objects that wait for a failed dependency or source."),
            Column::integer("Progressing", "Objects that are being reconciled and have not failed."),
            Column::integer("Suspended", "Suspended objects."),
            Column::age("Oldest-Failure", "Time since the oldest failure began."),
            Column::text("Worst", "Object with the most severe failure."),
            Column::integer("Problems", "Objects of the namespace that are not well, of whatever kind."),
            Column::text("Cause", "Object that explains the worst of these problems, and its reason."),
            Column::integer("Pending", "Objects without a status.").wide(),
            Column::integer("Unknown", "Objects whose state could not be determined.").wide(),
            Column::text("Root-Cause", "Root cause of the worst failure, if that is blocked.").wide(),
            Column::text("Fresh", "Whether the cluster answered within the last 30 seconds.").wide(),
            Column::text("Message", "Message of the worst failure.").wide(),
        ],
        selectable_fields: &["status.cluster", "status.state"],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        let worst = self.objects.failures.first();
        let root = worst.and_then(|worst| worst.blocked_by.as_ref());
        vec![
            Cell::Integer(self.counts.total.into()),
            Cell::Integer(self.counts.ready.into()),
            Cell::Integer(self.counts.failed.into()),
            Cell::Integer(self.counts.stalled.into()),
            Cell::Integer(self.counts.blocked.into()),
            Cell::Integer(self.counts.progressing.into()),
            Cell::Integer(self.counts.suspended.into()),
            Cell::Age(self.objects.failing_since()),
            worst.map(Failure::cell).unwrap_or_default().into(),
            Cell::Integer(self.problems.problems.into()),
            self.problems.cause_cell().into(),
            Cell::Integer(self.counts.pending.into()),
            Cell::Integer(self.counts.unknown.into()),
            root.map(ToString::to_string).unwrap_or_default().into(),
            super::common::status_of(&self.conditions, "Fresh").into(),
            worst.map(|worst| worst.message.as_str()).unwrap_or_default().into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![self.cluster.as_str().into(), self.state.as_ref().into()]
    }
}
