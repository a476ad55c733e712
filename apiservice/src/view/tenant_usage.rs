//! `tenantusages`: what a tenant uses of its TenantQuota.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::common::status_of;
use super::limits::{Denial, LimitUsage, each, tightest_cell};
use crate::{Cell, Column, Condition, Resource, Time, View};

/// Usage of the TenantQuota of the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct TenantUsageStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// The limit with the highest usage, as in the TenantQuota's `spec.hard`; absent while no usage is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tightest: Option<String>,
    /// Every limit, highest usage first; limits with unknown usage come last.
    pub limits: Vec<LimitUsage>,
    /// What happens to a request that would exceed a limit: Deny, Warn or Audit.
    pub enforcement: Cow<'static, str>,
    /// Number of namespaces that the quota selects; absent while the quota has no status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<i64>,
    /// Number of requests that were denied so far.
    pub denied: i64,
    /// Number of objects, such as Kustomizations and HelmReleases, whose own status says that this quota denies what their
    /// controller does. Flux tries everything out first, so that what it is denied is not counted in `denied`.
    pub held_back: i64,
    /// The last request that was denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_denial: Option<Denial>,
    /// Time of the observation that this object reports.
    pub last_observed_time: Time,
    /// Ready: the quota is enforced. WithinLimits: no limit is exceeded. Fresh: the cluster answered within the last 30
    /// seconds.
    pub conditions: Vec<Condition>,
}

impl View for TenantUsageStatus {
    const RESOURCE: Resource = Resource {
        plural: "tenantusages",
        singular: "tenantusage",
        kind: "TenantUsage",
        short_names: &["tnu"],
        namespaced: false,
        description: "TenantUsage tells what the namespaces of a tenant use of the TenantQuota of the same name: \
                      each limit with what is used of it, the tightest first, and what was refused.",
        columns: &[
            Column::NAME,
            Column::text("Tightest", "The limit that is closest to being reached."),
            Column::integer("Denied", "Number of denied requests."),
            Column::integer("Held-Back", "Number of objects whose status says that the quota denies them."),
            Column::integer("Namespaces", "Number of the tenant's namespaces."),
            Column::text("Used", "Usage of every limit, the tightest first."),
            Column::text("Reserved", "Reservations: admitted and not observed yet.").wide(),
            Column::text("Overcommit", "Amounts by which limits are exceeded.").wide(),
            Column::text("Enforcement", "What happens to a request that would exceed a limit.").wide(),
            Column::age("Last-Denial", "Time since the last denial.").wide(),
            Column::text("Ready", "Whether the quota is enforced.").wide(),
            Column::text("Fresh", "Whether the cluster answered within the last 30 seconds.").wide(),
        ],
        selectable_fields: &["status.tightest"],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        vec![
            tightest_cell(&self.limits, self.tightest.as_deref()).into(),
            Cell::Integer(self.denied),
            Cell::Integer(self.held_back),
            self.namespaces.map_or(Cell::Nothing, Cell::Integer),
            each(&self.limits, |limit| Some(limit.of_hard())).into(),
            each(&self.limits, |limit| limit.reserved.clone()).into(),
            each(&self.limits, |limit| limit.overcommit.clone()).into(),
            self.enforcement.as_ref().into(),
            Cell::Age(self.last_denial.as_ref().map(|denial| denial.time)),
            status_of(&self.conditions, "Ready").into(),
            status_of(&self.conditions, "Fresh").into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![self.tightest.as_deref().unwrap_or_default().into()]
    }
}
