//! `gamefleets`: a row for each Fleet, and for each GameServerSet that belongs to no Fleet.

use gatehouse_apiservice::{
    Time,
    view::{FleetNumbers, GameFleetStatus},
};
use gatehouse_inventory::{
    Cluster, Delta, Engine, GameNumbers, Inventory, Record, Role,
    catalogue::{Catalogue, Kind, KindId},
};

use super::{Projected, Projection, common, objects};

#[derive(Debug, Default)]
pub(super) struct GameFleets;

impl Projection for GameFleets {
    type Status = GameFleetStatus;

    fn needs(kind: &Kind) -> bool {
        kind.game.is_some() || kind.is_namespace()
    }

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<GameFleetStatus>> + 'a {
        objects::project(inventory, delta, name, status)
    }
}

/// The engine's name. Agones has two kinds of fleets, whose objects may have one name.
fn name(kind: &Kind) -> Option<String> {
    let game = kind.game.filter(|game| game.role == Role::Group)?;
    let is_set = game.engine == Engine::Agones && kind.kind != "Fleet";
    Some(if is_set { format!("{}-set", game.engine.as_str()) } else { game.engine.as_str().to_owned() })
}

/// `None` for a GameServerSet that belongs to a Fleet, whose row has its numbers.
fn status(catalogue: &Catalogue, cluster: &Cluster, record: &Record) -> Option<GameFleetStatus> {
    let kind = catalogue.kind(record.key.kind);
    let engine = kind.game?.engine;
    if record.game().is_some_and(|own| own.fleets == 0) {
        return None;
    }
    let verdict = &record.verdict;
    Some(GameFleetStatus {
        cluster: cluster.name.to_string(),
        engine: engine.as_str().into(),
        kind: kind.kind.clone(),
        name: record.key.name.to_string(),
        state: verdict.state.as_str().into(),
        last_outcome: verdict.last_outcome.map(|state| state.as_str().into()),
        reason: verdict.reason.to_string(),
        message: verdict.message.to_string(),
        since: verdict.since.map(Time),
        numbers: record
            .game()
            .map(|own| numbers(catalogue, cluster, record, engine, own))
            .unwrap_or_default(),
        conditions: vec![common::ready(record), common::fresh(cluster, of_engine(catalogue, engine))],
    })
}

/// The kinds of an engine.
fn of_engine(catalogue: &Catalogue, engine: Engine) -> impl Iterator<Item = KindId> {
    catalogue
        .kinds()
        .filter(move |(_, kind)| kind.game.is_some_and(|game| game.engine == engine))
        .map(|(id, _)| id)
}

/// The numbers that the fleet reports, with those of its servers.
fn numbers(
    catalogue: &Catalogue,
    cluster: &Cluster,
    record: &Record,
    engine: Engine,
    own: &GameNumbers,
) -> FleetNumbers {
    let mut all = *own;
    all += cluster.servers_of(&record.key);
    // Only the servers themselves say that they have failed, and of OpenKruiseGame's also that they are in use.
    let mut servers = of_engine(catalogue, engine)
        .filter(|id| catalogue.kind(*id).game.is_some_and(|game| game.role == Role::Server));
    let seen = servers.all(|id| common::unknown_reason(cluster, id).is_none());
    let by_fleet = engine == Engine::Agones;
    FleetNumbers {
        desired: Some(all.desired),
        // The status of servers may be observed before that of their set.
        ready: (by_fleet || seen).then(|| all.ready.max(0)),
        allocated: (by_fleet || seen).then_some(all.allocated),
        reserved: by_fleet.then_some(all.reserved),
        withdrawn: (!by_fleet).then_some(all.withdrawn),
        unhealthy: seen.then_some(all.unhealthy),
        missing: (by_fleet || seen).then(|| all.missing.max(0)),
        players: all.players.get(),
        capacity: all.capacity.get(),
    }
}
