//! `tenantusages`: what a tenant uses of its TenantQuota.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::Serialize;

use super::common::status_of;
use crate::{Cell, Column, Condition, Resource, Time, View};

/// Usage of the TenantQuota of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
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

/// Usage of a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitUsage {
    /// The limit, as in `spec.hard`: `gameservers`, `requests.cpu`, `count/fleets.agones.dev` and so on.
    pub name: String,
    /// Value of the limit, a quantity.
    pub hard: String,
    /// Usage of existing objects, a quantity; absent while it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// Admitted and not yet counted in `used`, a quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<String>,
    /// By how much the limit is exceeded, a quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overcommit: Option<String>,
    /// `used` in percent of `hard`, rounded down; absent if it is unknown or the limit is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,
}

/// A request that was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Denial {
    /// Time of the denial.
    pub time: Time,
    /// Message of the denial.
    pub message: String,
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
            Column::text("Tightest", "The limit that is nearest to being reached."),
            Column::integer("Denied", "How many requests were refused so far."),
            Column::integer("Held-Back", "How many objects the quota holds back, as their own status says."),
            Column::integer("Namespaces", "How many namespaces are the tenant's."),
            Column::text("Used", "What is used of every limit, the tightest first."),
            Column::text("Reserved", "What was admitted, and has not been seen yet.").wide(),
            Column::text("Overcommit", "By how much limits are exceeded.").wide(),
            Column::text("Enforcement", "What happens to a request that would exceed a limit.").wide(),
            Column::age("Last-Denial", "How long ago a request was refused.").wide(),
            Column::text("Ready", "Whether the quota is enforced.").wide(),
            Column::text("Fresh", "Whether the cluster answered within the last 30 seconds.").wide(),
        ],
        selectable_fields: &["status.tightest"],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        vec![
            self.tightest_cell().into(),
            Cell::Integer(self.denied),
            Cell::Integer(self.held_back),
            self.namespaces.map_or(Cell::Nothing, Cell::Integer),
            self.each(|limit| Some(limit.of_hard())).into(),
            self.each(|limit| limit.reserved.clone()).into(),
            self.each(|limit| limit.overcommit.clone()).into(),
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

impl TenantUsageStatus {
    /// `gameservers 78/80 (97%)`.
    fn tightest_cell(&self) -> String {
        let tightest = self.limits.iter().find(|limit| Some(&limit.name) == self.tightest.as_ref());
        let Some(limit) = tightest else { return String::new() };
        let percent = limit.percent.map(|percent| format!(" ({percent}%)"));
        format!("{} {}{}", self.short(limit), limit.of_hard(), percent.unwrap_or_default())
    }

    /// `name value` of the limits that have one.
    fn each(&self, value: impl Fn(&LimitUsage) -> Option<String>) -> String {
        let named =
            self.limits.iter().filter_map(|limit| Some(format!("{} {}", self.short(limit), value(limit)?)));
        named.collect::<Vec<_>>().join(", ")
    }

    /// `count/fleets` for `count/fleets.agones.dev`, unless another group's fleets are limited too: a column has to fit
    /// beside the others.
    fn short<'a>(&self, limit: &'a LimitUsage) -> &'a str {
        let resource = limit.resource();
        let named_alike = self.limits.iter().filter(|other| other.resource() == resource).count();
        if named_alike == 1 { resource } else { &limit.name }
    }
}

impl LimitUsage {
    /// `78/80`; `?` for what is not known.
    pub fn of_hard(&self) -> String {
        format!("{}/{}", self.used.as_deref().unwrap_or("?"), self.hard)
    }

    /// The name of a limit on objects without their group.
    fn resource(&self) -> &str {
        let end = if self.name.starts_with("count/") { self.name.find('.') } else { None };
        &self.name[..end.unwrap_or(self.name.len())]
    }
}
