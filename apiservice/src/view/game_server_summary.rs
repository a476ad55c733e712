//! `gameserversummaries`: how the game servers of a namespace are doing, in one row.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::Serialize;

use super::{Failure, KindCount, Unreadable, common::status_of};
use crate::{Cell, Column, Condition, Resource, Time, View};

/// How the game servers of one namespace of one cluster are doing. A server counts once: through the Fleet or
/// GameServerSet that it belongs to, or by itself if it stands alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GameServerSummaryStatus {
    /// The cluster told about; `local` is the one that serves this API.
    pub cluster: String,
    /// The numbers over all engines.
    #[serde(flatten)]
    pub numbers: GameServerNumbers,
    /// The same numbers for each engine that is present.
    pub engines: Vec<EngineNumbers>,
    /// All objects of each kind that is present, by state; those of a Fleet or GameServerSet included.
    pub kinds: Vec<KindCount>,
    /// The failure that has lasted longest, of those that tell since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_failure: Option<Failure>,
    /// The worst failures, the gravest and longest first; at most five.
    pub failures: Vec<Failure>,
    /// How many failures the list leaves out.
    pub failures_omitted: u32,
    /// Kinds whose objects cannot be seen: what is not known of them is missing from every number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
    /// When the observation that this row tells about was made.
    pub last_observed_time: Time,
    /// Ready: nothing has failed, and no desired server is missing. Fresh: the cluster was heard from lately.
    pub conditions: Vec<Condition>,
}

/// Game servers, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GameServerNumbers {
    /// Fleets, and GameServerSets that belong to none.
    pub fleets: i64,
    /// Servers that ought to be there: what fleets ask for, and one for each server that stands alone.
    pub desired: i64,
    /// Servers that wait for players.
    pub ready: i64,
    /// Servers that are in use.
    pub allocated: i64,
    /// Servers that are kept for somebody.
    pub reserved: i64,
    /// Servers taken out on purpose: under maintenance, or waiting to be deleted.
    pub withdrawn: i64,
    /// Servers that have failed.
    pub unhealthy: i64,
    /// Desired servers that are neither ready, allocated, reserved nor withdrawn.
    pub missing: i64,
    /// Players connected, to those servers that tell; absent where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub players: Option<i64>,
    /// Players that those servers have room for which tell; absent where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<i64>,
}

/// The servers of one engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
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
            Column::integer("Fleets", "Fleets, and GameServerSets that belong to none."),
            Column::integer("Desired", "Servers that ought to be there."),
            Column::integer("Ready", "Servers that wait for players."),
            Column::integer("Allocated", "Servers that are in use."),
            Column::integer("Unhealthy", "Servers that have failed."),
            Column::integer("Players", "Players connected, to those servers that tell."),
            Column::integer("Capacity", "Players that those servers have room for which tell."),
            Column::integer("Reserved", "Servers that are kept for somebody.").wide(),
            Column::integer("Withdrawn", "Servers under maintenance, or waiting to be deleted.").wide(),
            Column::text("Engines", "The engines that are present.").wide(),
            Column::age("Oldest-Failure", "How long the longest failing object has been failing.").wide(),
            Column::text("Worst", "The object that fails worst.").wide(),
            Column::text("Fresh", "Whether the cluster was heard from lately.").wide(),
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
            Cell::Age(self.oldest_failure.as_ref().and_then(|failure| failure.since)),
            self.failures.first().map(Failure::cell).unwrap_or_default().into(),
            status_of(&self.conditions, "Fresh").into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![self.cluster.as_str().into()]
    }
}
