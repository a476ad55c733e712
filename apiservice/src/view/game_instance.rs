//! `gameinstances`: one row for each game server, of whatever engine.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::{Cell, Column, Condition, Resource, Time, View};

/// A game server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct GameInstanceStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// agones, kruise (OpenKruiseGame) or pteronimbus.
    pub engine: Cow<'static, str>,
    /// Name of the object; its namespace is this object's own.
    pub name: String,
    /// Name of the Fleet that it belongs to, or of the GameServerSet if there is no Fleet; absent if it stands alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// Ready, Suspended, Terminating, Pending, Progressing, Unknown or Failed.
    pub state: Cow<'static, str>,
    /// State in the engine's own words, for example Allocated or Running; of a ready server of OpenKruiseGame's, what it
    /// is used for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Reason of the state, if it is not Ready.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Message that explains the state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Time since when it has been in this state, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Host that players connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Ports that players connect to, at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<GamePort>,
    /// Node that it runs on, if the engine reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Number of connected players, if the engine reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub players: Option<u32>,
    /// Number of players that it has room for, if the engine reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
    /// Time since when it runs: its creation (Agones), the start of its pod (OpenKruiseGame), or what follows from its
    /// uptime (Pteronimbus).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Ready: it has not failed. Fresh: the cluster answered within the last 30 seconds.
    pub conditions: Vec<Condition>,
}

/// A port of a game server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct GamePort {
    /// Name of the port, if it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Number of the port; 0 if it has none yet.
    pub port: u16,
}

impl GameInstanceStatus {
    /// The host with the first port.
    fn address_cell(&self) -> String {
        let Some(host) = &self.address else { return String::new() };
        match self.ports.first() {
            Some(first) if host.contains(':') => format!("[{host}]:{}", first.port),
            Some(first) => format!("{host}:{}", first.port),
            None => host.clone(),
        }
    }

    fn ports_cell(&self) -> String {
        let port = |GamePort { name, port }: &GamePort| match name.as_str() {
            "" => port.to_string(),
            name => format!("{name}:{port}"),
        };
        self.ports.iter().map(port).collect::<Vec<_>>().join(",")
    }
}

impl View for GameInstanceStatus {
    const RESOURCE: Resource = Resource {
        plural: "gameinstances",
        singular: "gameinstance",
        kind: "GameInstance",
        short_names: &["gin"],
        namespaced: true,
        description: "GameInstance tells how one game server is doing, over Agones, OpenKruiseGame and Pteronimbus: \
                      its state, where players connect to, how many play, and since when it runs.",
        columns: &[
            Column::NAME,
            Column::text("Fleet", "Fleet or set that the server belongs to."),
            Column::text("State", "State of the server."),
            Column::text("Phase", "State in the engine's own words."),
            Column::text("Address", "Host and first port that players connect to."),
            Column::integer("Players", "Connected players, if the engine reports them."),
            Column::age("Uptime", "How long it has been running."),
            Column::text("Engine", "Engine that runs the server.").wide(),
            Column::integer("Capacity", "Room for players, if the engine reports it.").wide(),
            Column::text("Ports", "All ports that players connect to.").wide(),
            Column::text("Node", "Node that it runs on.").wide(),
            Column::age("Since", "How long it has been in this state.").wide(),
            Column::text("Message", "Message that explains the state.").wide(),
            Column::text("Cluster", "Name of the observed cluster.").wide(),
        ],
        selectable_fields: &[
            "status.cluster",
            "status.engine",
            "status.fleet",
            "status.phase",
            "status.state",
        ],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        let number =
            |number: Option<u32>| number.map_or(Cell::Nothing, |number| Cell::Integer(number.into()));
        vec![
            self.fleet.as_deref().unwrap_or_default().into(),
            self.state.as_ref().into(),
            self.phase.as_str().into(),
            self.address_cell().into(),
            number(self.players),
            Cell::Age(self.started_at),
            self.engine.as_ref().into(),
            number(self.capacity),
            self.ports_cell().into(),
            self.node.as_deref().unwrap_or_default().into(),
            Cell::Age(self.since),
            self.message.as_str().into(),
            self.cluster.as_str().into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![
            self.cluster.as_str().into(),
            self.engine.as_ref().into(),
            self.fleet.as_deref().unwrap_or_default().into(),
            self.phase.as_str().into(),
            self.state.as_ref().into(),
        ]
    }
}
