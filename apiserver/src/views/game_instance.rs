//! `gameinstances`: a row for each game server.

use gatehouse_apiservice::{
    Time,
    view::{GameInstanceStatus, GamePort},
};
use gatehouse_inventory::{
    Cluster, Delta, GameServer, Inventory, Record, Role, State, Str,
    catalogue::{Catalogue, Kind},
};

use super::{Projected, Projection, common, objects};

#[derive(Debug, Default)]
pub(super) struct GameInstances;

impl Projection for GameInstances {
    type Status = GameInstanceStatus;

    fn needs(kind: &Kind) -> bool {
        kind.game.is_some_and(|game| game.role == Role::Server) || kind.is_namespace()
    }

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<GameInstanceStatus>> + 'a {
        objects::project(inventory, delta, name, |catalogue, cluster, record| {
            Some(status(catalogue, cluster, record))
        })
    }
}

/// The engine's name: each has one kind of servers.
fn name(kind: &Kind) -> Option<String> {
    let game = kind.game.filter(|game| game.role == Role::Server)?;
    Some(game.engine.as_str().to_owned())
}

fn status(catalogue: &Catalogue, cluster: &Cluster, record: &Record) -> GameInstanceStatus {
    let engine = catalogue.kind(record.key.kind).game.map_or("", |game| game.engine.as_str());
    // Nothing is known of one whose fields cannot be read.
    let unread = GameServer::default();
    let server = record.game_server().unwrap_or(&unread);
    let verdict = &record.verdict;
    let text = |text: &Option<Str>| text.as_deref().map(str::to_owned);
    GameInstanceStatus {
        cluster: cluster.name.to_string(),
        engine: engine.into(),
        name: record.key.name.to_string(),
        fleet: server.fleet.as_ref().map(|(_, name)| name.to_string()),
        state: verdict.state.as_str().into(),
        phase: server.phase.to_string(),
        // That of a server which is well repeats the phase.
        reason: if verdict.state == State::Ready { String::new() } else { verdict.reason.to_string() },
        message: verdict.message.to_string(),
        since: verdict.since.map(Time),
        address: text(&server.address),
        ports: server
            .ports
            .iter()
            .map(|port| GamePort { name: port.name.to_string(), port: port.number })
            .collect(),
        node: text(&server.node),
        players: server.players,
        capacity: server.capacity,
        started_at: (server.started > 0).then_some(Time(server.started)),
        conditions: vec![common::ready(record), common::fresh(cluster, [record.key.kind])],
    }
}
