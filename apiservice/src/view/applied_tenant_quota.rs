//! `appliedtenantquotas`: the TenantQuotas over a namespace, for those who may see that namespace only.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::common::status_of;
use super::limits::{Denial, LimitUsage, each, tightest_cell};
use crate::{Cell, Column, Condition, Resource, Time, View};

/// A TenantQuota of the same name, as it applies to one of its namespaces. No other namespace is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct AppliedTenantQuotaStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// The limit with the highest usage, as in the TenantQuota's `spec.hard`; absent while no usage is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tightest: Option<String>,
    /// Every limit, highest usage first; limits with unknown usage come last.
    pub limits: Vec<AppliedLimit>,
    /// What happens to a request that would exceed a limit: Deny, Warn or Audit.
    pub enforcement: Cow<'static, str>,
    /// The last requests that were denied in this namespace, the newest first.
    pub last_denials: Vec<Denial>,
    /// Time of the observation that this object reports.
    pub last_observed_time: Time,
    /// Ready: the quota is enforced. WithinLimits: no limit is exceeded. Fresh: the cluster answered within the last 30
    /// seconds.
    pub conditions: Vec<Condition>,
}

/// Usage of a limit: `used` is that of all namespaces of the tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct AppliedLimit {
    /// Usage of the tenant.
    #[serde(flatten)]
    pub tenant: LimitUsage,
    /// Usage of existing objects of this namespace, a quantity; absent while it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_here: Option<String>,
    /// What is left for all namespaces of the tenant, a quantity: `hard` without `used` and `reserved`, and never less
    /// than zero; absent while it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
}

impl AsRef<LimitUsage> for AppliedLimit {
    fn as_ref(&self) -> &LimitUsage {
        &self.tenant
    }
}

impl View for AppliedTenantQuotaStatus {
    const RESOURCE: Resource = Resource {
        plural: "appliedtenantquotas",
        singular: "appliedtenantquota",
        kind: "AppliedTenantQuota",
        short_names: &["atq"],
        namespaced: true,
        description: "AppliedTenantQuota tells what a TenantQuota of the same name limits in this namespace: what \
                      the tenant and this namespace use of each limit, what is left, and what was refused here.",
        columns: &[
            Column::NAME,
            Column::text("Tightest", "The limit that is closest to being reached, over all of the tenant."),
            Column::text("Left", "What is left of every limit, the tightest first."),
            Column::text("Used-Here", "Usage of this namespace."),
            Column::age("Last-Denial", "Time since the last denial in this namespace."),
            Column::text("Used", "Usage of the tenant.").wide(),
            Column::text("Reserved", "Reservations of the tenant: admitted and not observed yet.").wide(),
            Column::text("Enforcement", "What happens to a request that would exceed a limit.").wide(),
            Column::text("Ready", "Whether the quota is enforced.").wide(),
            Column::text("Fresh", "Whether the cluster answered within the last 30 seconds.").wide(),
        ],
        selectable_fields: &["status.tightest"],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        let limits = &self.limits;
        vec![
            tightest_cell(limits, self.tightest.as_deref()).into(),
            each(limits, |limit| Some(limit.left.clone().unwrap_or_else(|| "?".to_owned()))).into(),
            each(limits, |limit| Some(limit.used_here.clone().unwrap_or_else(|| "?".to_owned()))).into(),
            Cell::Age(self.last_denials.first().map(|denial| denial.time)),
            each(limits, |limit| Some(limit.tenant.of_hard())).into(),
            each(limits, |limit| limit.tenant.reserved.clone()).into(),
            self.enforcement.as_ref().into(),
            status_of(&self.conditions, "Ready").into(),
            status_of(&self.conditions, "Fresh").into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![self.tightest.as_deref().unwrap_or_default().into()]
    }
}
