//! `gameserversummaries`: how the game servers of a namespace are doing, in one row.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{Failure, ObjectsStatus, common::status_of};
use crate::{Cell, Column, Condition, Resource, Time, View};

/// Game servers of one namespace of a cluster. A server counts once: through the Fleet or GameServerSet that owns it,
/// or by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct GameServerSummaryStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// Totals of all engines.
    #[serde(flatten)]
    pub numbers: GameServerNumbers,
    /// The same numbers by engine.
    pub engines: Vec<EngineNumbers>,
    /// Its objects.
    #[serde(flatten)]
    pub objects: ObjectsStatus,
    /// Time of the observation that this object reports.
    pub last_observed_time: Time,
    /// Ready: nothing has failed, and no desired server is missing. Fresh: the cluster answered within the last 30
    /// seconds.
    pub conditions: Vec<Condition>,
}

/// Numbers of game servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct GameServerNumbers {
    /// Number of Fleets and of GameServerSets without a Fleet.
    pub fleets: i64,
    /// Number of desired servers: the replicas of fleets, and one for each standalone server.
    pub desired: i64,
    /// Number of servers that wait for players.
    pub ready: i64,
    /// Number of servers that are in use.
    pub allocated: i64,
    /// Number of reserved servers.
    pub reserved: i64,
    /// Number of servers that are under maintenance or wait to be deleted.
    pub withdrawn: i64,
    /// Number of failed servers.
    pub unhealthy: i64,
    /// Number of desired servers that are neither ready, allocated, reserved nor withdrawn.
    pub missing: i64,
    /// Number of connected players; absent if no server reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub players: Option<i64>,
    /// Number of players that the servers have room for; absent if no server reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<i64>,
}

/// Game servers of one engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct EngineNumbers {
    /// agones, kruise (OpenKruiseGame) or pteronimbus.
    pub engine: Cow<'static, str>,
    /// The numbers.
    #[serde(flatten)]
    pub numbers: GameServerNumbers,
}

impl View for GameServerSummaryStatus {
    const RESOURCE: Resource = Resource {
        plural: "gameserversummaries",
        singular: "gameserversummary",
        kind: "GameServerSummary",
        short_names: &["gsv"],
        namespaced: true,
        description: "GameServerSummary tells how the game servers of one namespace are doing, over Agones, \
                      OpenKruiseGame and Pteronimbus: how many are desired, ready and in use, with how many \
                      players, and which fail worst.",
        columns: &[
            Column::NAME,
            Column::integer("Fleets", "Fleets, and GameServerSets without a Fleet."),
            Column::integer("Desired", "Desired servers."),
            Column::integer("Ready", "Servers that wait for players."),
            Column::integer("Allocated", "Servers that are in use."),
            Column::integer("Unhealthy", "Servers that have failed."),
            Column::integer("Players", "Connected players, of the servers that report them."),
            Column::integer("Capacity", "Room for players, of the servers that report it."),
            Column::integer("Reserved", "Servers that are reserved.").wide(),
            Column::integer("Withdrawn", "Servers under maintenance, or waiting to be deleted.").wide(),
            Column::text("Engines", "The engines that are present.").wide(),
            Column::age("Oldest-Failure", "Time since the oldest failure began.").wide(),
            Column::text("Worst", "Object with the most severe failure.").wide(),
            Column::text("Fresh", "Whether the cluster answered within the last 30 seconds.").wide(),
        ],
        selectable_fields: &["status.cluster"],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        let numbers = &self.numbers;
        let engines: Vec<_> = self.engines.iter().map(|one| one.engine.as_ref()).collect();
        vec![
            Cell::Integer(numbers.fleets),
            Cell::Integer(numbers.desired),
            Cell::Integer(numbers.ready),
            Cell::Integer(numbers.allocated),
            Cell::Integer(numbers.unhealthy),
            numbers.players.map_or(Cell::Nothing, Cell::Integer),
            numbers.capacity.map_or(Cell::Nothing, Cell::Integer),
            Cell::Integer(numbers.reserved),
            Cell::Integer(numbers.withdrawn),
            engines.join(",").into(),
            Cell::Age(self.objects.failing_since()),
            self.objects.failures.first().map(Failure::cell).unwrap_or_default().into(),
            status_of(&self.conditions, "Fresh").into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![self.cluster.as_str().into()]
    }
}
