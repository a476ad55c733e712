//! `mynamespaces`: the namespaces that the user who asks may see, in one list.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::common::status_of;
use super::limits::{LimitUsage, tightest_cell};
use super::{Failure, StateCounts};
use crate::{Cell, Column, Condition, Resource, Time, View};

/// A namespace in which the user may list fluxsummaries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct MyNamespaceStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// Name of the namespace.
    pub namespace: String,
    /// Tenant of the namespace, from its label `gatehouse.dev/tenant`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The most severe state of all Flux objects of the namespace, as in fluxsummaries; Ready if it has none.
    pub state: Cow<'static, str>,
    /// Number of Flux objects of the namespace.
    pub flux: StateCounts,
    /// The Flux object with the most severe failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst: Option<Failure>,
    /// Game servers of the namespace; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub games: Option<MyGames>,
    /// Of all limits of the TenantQuotas over the namespace, the one with the highest usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<MyQuota>,
    /// Number of problems of the namespace: its rows in `problems`.
    pub problems: u32,
    /// Time of the observation that this object reports.
    pub last_observed_time: Time,
    /// Ready: no Flux object is Failed, Stalled or Blocked. Fresh: the cluster answered within the last 30 seconds.
    pub conditions: Vec<Condition>,
}

/// Game servers of a namespace, over all engines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct MyGames {
    /// Desired servers.
    pub desired: i64,
    /// Servers that wait for players.
    pub ready: i64,
    /// Servers that are in use.
    pub allocated: i64,
    /// Connected players, of the servers that report them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub players: Option<i64>,
}

/// The tightest limit over a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct MyQuota {
    /// Name of the TenantQuota, and of the row of `appliedtenantquotas` that says more.
    pub quota: String,
    /// The limit; `used` is that of all namespaces of the tenant.
    #[serde(flatten)]
    pub limit: LimitUsage,
}

impl AsRef<LimitUsage> for MyQuota {
    fn as_ref(&self) -> &LimitUsage {
        &self.limit
    }
}

impl MyGames {
    /// `17/20`: servers that are ready or in use, and those that should exist.
    fn cell(&self) -> String {
        format!("{}/{}", self.ready + self.allocated, self.desired)
    }
}

impl View for MyNamespaceStatus {
    const RESOURCE: Resource = Resource {
        plural: "mynamespaces",
        singular: "mynamespace",
        kind: "MyNamespace",
        short_names: &["myns"],
        namespaced: false,
        description: "MyNamespace is a namespace in which you may list fluxsummaries, with its tenant, its Flux \
                      objects and game servers, its tightest quota and its problems. Everybody sees other rows.",
        columns: &[
            Column::NAME,
            Column::text("Tenant", "The tenant of the namespace."),
            Column::text("Flux", "Flux objects that are ready, of all."),
            Column::text("Worst", "Flux object with the most severe failure."),
            Column::text("Games", "Game servers that are ready or in use, of those desired."),
            Column::text("Quota", "The limit that is closest to being reached, over all of the tenant."),
            Column::integer("Problems", "Number of problems, as in problems."),
            Column::text("State", "The most severe state of the Flux objects.").wide(),
            Column::integer("Players", "Connected players, of the servers that report them.").wide(),
            Column::age("Failing", "Time since the most severe failure began.").wide(),
            Column::text("Fresh", "Whether the cluster answered within the last 30 seconds.").wide(),
            Column::text("Message", "Message of the most severe failure.").wide(),
        ],
        selectable_fields: &["status.cluster", "status.tenant", "status.state"],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        let worst = self.worst.as_ref();
        let quota = self.quota.as_slice();
        let players = self.games.as_ref().and_then(|games| games.players);
        vec![
            self.tenant.as_deref().unwrap_or_default().into(),
            format!("{}/{}", self.flux.ready, self.flux.total).into(),
            worst.map(Failure::cell).unwrap_or_default().into(),
            self.games.as_ref().map(MyGames::cell).unwrap_or_default().into(),
            tightest_cell(quota, quota.first().map(|quota| &*quota.limit.name)).into(),
            Cell::Integer(self.problems.into()),
            self.state.as_ref().into(),
            players.map_or(Cell::Nothing, Cell::Integer),
            Cell::Age(worst.and_then(|worst| worst.since)),
            status_of(&self.conditions, "Fresh").into(),
            worst.map(|worst| worst.message.as_str()).unwrap_or_default().into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        let tenant = self.tenant.as_deref().unwrap_or_default();
        vec![self.cluster.as_str().into(), tenant.into(), self.state.as_ref().into()]
    }
}
