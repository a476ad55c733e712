//! `gamefleets`: one row for each fleet of game servers, of whatever engine.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::{Cell, Column, Condition, Resource, Time, View};

/// A fleet of game servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct GameFleetStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// agones or kruise (OpenKruiseGame).
    pub engine: Cow<'static, str>,
    /// Kind of the object: Fleet, or GameServerSet.
    pub kind: String,
    /// Name of the object; its namespace is this object's own.
    pub name: String,
    /// Ready, Suspended, Terminating, Pending, Progressing, Unknown or Failed.
    pub state: Cow<'static, str>,
    /// Outcome before, if it is Suspended or Progressing now: Ready if some of its servers are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<Cow<'static, str>>,
    /// Reason of the state, for example Scaling, Starting or GameServersNotReady.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Message that explains the state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Time since when it has been in this state, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Its servers, by number. A number is absent if it is not known.
    #[serde(flatten)]
    pub numbers: FleetNumbers,
    /// Ready: it has not failed. Fresh: the cluster answered within the last 30 seconds.
    pub conditions: Vec<Condition>,
}

/// Numbers of the game servers of a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct FleetNumbers {
    /// Number of desired servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<i64>,
    /// Number of servers that wait for players.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<i64>,
    /// Number of servers that are in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated: Option<i64>,
    /// Number of reserved servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<i64>,
    /// Number of servers that are under maintenance or wait to be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<i64>,
    /// Number of failed servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<i64>,
    /// Number of desired servers that are neither ready, allocated, reserved nor withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<i64>,
    /// Number of connected players, if the engine reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub players: Option<i64>,
    /// Number of players that the servers have room for, if the engine reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<i64>,
}

impl View for GameFleetStatus {
    const RESOURCE: Resource = Resource {
        plural: "gamefleets",
        singular: "gamefleet",
        kind: "GameFleet",
        short_names: &["gfl"],
        namespaced: true,
        description: "GameFleet tells how one fleet of game servers is doing, over Agones and OpenKruiseGame: how \
                      many of its servers are desired, ready and in use, with how many players.",
        columns: &[
            Column::NAME,
            Column::text("Engine", "Engine that runs the servers."),
            Column::integer("Desired", "Desired servers."),
            Column::integer("Ready", "Servers that wait for players."),
            Column::integer("Allocated", "Servers that are in use."),
            Column::integer("Players", "Connected players, if the engine reports them."),
            Column::integer("Capacity", "Room for players, if the engine reports it."),
            Column::text("State", "State of the fleet."),
            Column::integer("Reserved", "Servers that are reserved.").wide(),
            Column::integer("Withdrawn", "Servers under maintenance, or waiting to be deleted.").wide(),
            Column::integer("Unhealthy", "Servers that have failed.").wide(),
            Column::integer("Missing", "Desired servers that are not there.").wide(),
            Column::age("Since", "How long it has been in this state.").wide(),
            Column::text("Kind", "Kind of the object.").wide(),
            Column::text("Reason", "Reason of the state.").wide(),
            Column::text("Message", "Message that explains the state.").wide(),
            Column::text("Cluster", "Name of the observed cluster.").wide(),
        ],
        selectable_fields: &["status.cluster", "status.engine", "status.state"],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        let numbers = &self.numbers;
        let number = |number: Option<i64>| number.map_or(Cell::Nothing, Cell::Integer);
        vec![
            self.engine.as_ref().into(),
            number(numbers.desired),
            number(numbers.ready),
            number(numbers.allocated),
            number(numbers.players),
            number(numbers.capacity),
            self.state.as_ref().into(),
            number(numbers.reserved),
            number(numbers.withdrawn),
            number(numbers.unhealthy),
            number(numbers.missing),
            Cell::Age(self.since),
            self.kind.as_str().into(),
            self.reason.as_str().into(),
            self.message.as_str().into(),
            self.cluster.as_str().into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![self.cluster.as_str().into(), self.engine.as_ref().into(), self.state.as_ref().into()]
    }
}
