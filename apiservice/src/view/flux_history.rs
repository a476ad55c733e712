//! `fluxhistories`: what was reconciled or released, when, and with which result.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::flux_resource::short_revision;
use crate::{Cell, Column, Resource, Time, View};

/// Reconciliations of one content of a Flux object with one result, or a release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct FluxHistoryStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// API group of the object.
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object; its namespace is this object's own.
    pub name: String,
    /// Revision that was reconciled, or chart that was released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Succeeded, Failed, Pending (it has not ended), Uninstalled or Unknown.
    pub result: Cow<'static, str>,
    /// The result as the controller calls it, for example HealthCheckFailed or superseded.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What Helm did, for example upgrade or rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Time of the first reconciliation with this result, or of the release.
    pub first: Time,
    /// Time of the last one.
    pub last: Time,
    /// How long the last one took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took: Option<String>,
    /// Number of reconciliations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Whether it is the newest of the object.
    pub current: bool,
    /// Whether the object fails since this one: it is the oldest failure since the last success.
    pub first_failure: bool,
}

impl View for FluxHistoryStatus {
    const RESOURCE: Resource = Resource {
        plural: "fluxhistories",
        singular: "fluxhistory",
        kind: "FluxHistory",
        short_names: &["fxh"],
        namespaced: true,
        description: "FluxHistory tells what was reconciled or released: revision, result, when first and last, how \
                      often, and whether the object fails since then. Each row is an entry of the history in a Flux \
                      object's status, of which controllers keep five.",
        columns: &[
            Column::NAME,
            Column::text("Object", "Kind and name of the object."),
            Column::text("Revision", "Revision that was reconciled, or chart that was released."),
            Column::text("Result", "How it ended."),
            Column::text("Action", "What Helm did."),
            Column::age("First", "Time since it was reconciled first with this result, or released."),
            Column::age("Last", "Time since it was reconciled last."),
            Column::text("Took", "How long the last reconciliation took."),
            Column::text("Times", "Number of reconciliations."),
            Column::text("Reason", "The result as the controller calls it.").wide(),
            Column::text("Current", "Whether it is the newest of the object.").wide(),
            Column::text("First-Failure", "Whether the object fails since this one.").wide(),
            Column::text("Cluster", "Name of the observed cluster.").wide(),
        ],
        selectable_fields: &[
            "status.cluster",
            "status.current",
            "status.firstFailure",
            "status.kind",
            "status.result",
        ],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        vec![
            format!("{}/{}", self.kind, self.name).into(),
            self.revision.as_deref().map_or_else(|| "".into(), short_revision),
            self.result.as_ref().into(),
            self.action.as_deref().unwrap_or_default().into(),
            Cell::Age(Some(self.first)),
            Cell::Age(Some(self.last)),
            self.took.as_deref().unwrap_or_default().into(),
            self.times.map(|times| times.to_string()).unwrap_or_default().into(),
            self.reason.as_str().into(),
            if self.current { "True" } else { "False" }.into(),
            if self.first_failure { "True" } else { "False" }.into(),
            self.cluster.as_str().into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        let flag = |flag| if flag { "true" } else { "false" };
        vec![
            self.cluster.as_str().into(),
            flag(self.current).into(),
            flag(self.first_failure).into(),
            self.kind.as_str().into(),
            self.result.as_ref().into(),
        ]
    }
}
