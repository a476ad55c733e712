//! `argosummaries`: how the Applications of Argo CD in a namespace are doing, in one row.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{Failure, ObjectsStatus, StateCounts, common::status_of};
use crate::{Cell, Column, Condition, Resource, Time, View};

/// Applications of one namespace of a cluster, by sync, health and state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct ArgoSummaryStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// The most severe state of all Applications of the namespace: Failed, Unknown, Progressing, Pending, Terminating,
    /// Suspended or Ready.
    pub state: Cow<'static, str>,
    /// Number of Applications by state.
    #[serde(flatten)]
    pub counts: StateCounts,
    /// Number of Applications by sync status, as Argo CD reports it.
    pub sync: SyncCounts,
    /// Number of Applications by health, as Argo CD reports it.
    pub health: HealthCounts,
    /// Number of Applications that differ from their source and have not failed.
    pub drifted: u32,
    /// The Applications.
    #[serde(flatten)]
    pub objects: ObjectsStatus,
    /// Time of the observation that this object reports.
    pub last_observed_time: Time,
    /// Ready: no Application has failed, whether or not some have drifted. Synced: none differs from its source. Fresh:
    /// the cluster answered within the last 30 seconds.
    pub conditions: Vec<Condition>,
}

/// Number of Applications by sync status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct SyncCounts {
    /// Number of Applications that equal their source.
    pub synced: u32,
    /// Number of Applications that differ from their source.
    pub out_of_sync: u32,
    /// Number of Applications that could not be compared, or are not compared yet.
    pub unknown: u32,
}

/// Number of Applications by health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct HealthCounts {
    /// Number of Applications whose resources are healthy.
    pub healthy: u32,
    /// Number of Applications with resources that are not healthy yet.
    pub progressing: u32,
    /// Number of Applications with resources that have failed.
    pub degraded: u32,
    /// Number of Applications with resources that are suspended.
    pub suspended: u32,
    /// Number of Applications with resources that do not exist.
    pub missing: u32,
    /// Number of Applications whose health is not known.
    pub unknown: u32,
}

impl View for ArgoSummaryStatus {
    const RESOURCE: Resource = Resource {
        plural: "argosummaries",
        singular: "argosummary",
        kind: "ArgoSummary",
        short_names: &["aps"],
        namespaced: true,
        description: "ArgoSummary tells how the Applications of Argo CD in one namespace are doing: how many are in \
                      sync and healthy, how many have drifted or failed, and which fail worst.",
        columns: &[
            Column::NAME,
            Column::integer("Total", "All Applications of the namespace."),
            Column::integer("Synced", "Applications that equal their source."),
            Column::integer("Out-Of-Sync", "Applications that differ from their source."),
            Column::integer("Healthy", "Applications whose resources are healthy."),
            Column::integer("Degraded", "Applications with resources that have failed."),
            Column::integer("Progressing", "Applications with resources that are not healthy yet."),
            Column::integer("Failed", "Applications that have failed, by their sync or their health."),
            Column::integer("Drifted", "Applications that differ from their source and have not failed."),
            Column::age("Oldest-Failure", "Time since the oldest failure began."),
            Column::text("Worst", "Application with the most severe failure."),
            Column::integer("Suspended", "Applications with resources that are suspended.").wide(),
            Column::integer("Missing", "Applications with resources that do not exist.").wide(),
            Column::integer("Unknown", "Applications that could not be compared.").wide(),
            Column::text("Fresh", "Whether the cluster answered within the last 30 seconds.").wide(),
            Column::text("Message", "Message of the worst failure.").wide(),
        ],
        selectable_fields: &["status.cluster", "status.state"],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        let worst = self.objects.failures.first();
        let Self { sync, health, .. } = self;
        vec![
            Cell::Integer(self.counts.total.into()),
            Cell::Integer(sync.synced.into()),
            Cell::Integer(sync.out_of_sync.into()),
            Cell::Integer(health.healthy.into()),
            Cell::Integer(health.degraded.into()),
            Cell::Integer(health.progressing.into()),
            Cell::Integer(self.counts.failed.into()),
            Cell::Integer(self.drifted.into()),
            Cell::Age(self.objects.failing_since()),
            worst.map(Failure::cell).unwrap_or_default().into(),
            Cell::Integer(health.suspended.into()),
            Cell::Integer(health.missing.into()),
            Cell::Integer(sync.unknown.into()),
            status_of(&self.conditions, "Fresh").into(),
            worst.map(|worst| worst.message.as_str()).unwrap_or_default().into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![self.cluster.as_str().into(), self.state.as_ref().into()]
    }
}
