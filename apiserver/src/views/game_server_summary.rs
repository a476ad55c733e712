//! `gameserversummaries`: a row for each namespace that holds game servers or their fleets.

use gatehouse_apiservice::{
    Condition, ConditionStatus, Time,
    view::{EngineNumbers, GameServerNumbers, GameServerSummaryStatus},
};
use gatehouse_inventory::{Cluster, Delta, GameNumbers, GameTally, Inventory, catalogue::Kind};

use super::{Projected, Projection, last_statuses::LastStatuses, namespaces};

#[derive(Debug, Default)]
pub(super) struct GameServerSummaries {
    last: LastStatuses<GameServerSummaryStatus>,
}

impl Projection for GameServerSummaries {
    type Status = GameServerSummaryStatus;

    fn needs(kind: &Kind) -> bool {
        kind.game.is_some() || kind.is_namespace()
    }

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<GameServerSummaryStatus>> + 'a {
        delta.games.iter().map(move |(id, name)| {
            let cluster = inventory.cluster(*id);
            let status = cluster.games(name).map(|tally| summary(inventory, cluster, tally));
            namespaces::row(inventory, cluster, name, status, &mut self.last)
        })
    }
}

fn summary(inventory: &Inventory, cluster: &Cluster, tally: &GameTally) -> GameServerSummaryStatus {
    let (objects, [objects_ready, fresh]) =
        namespaces::objects_status(inventory, cluster, &tally.objects, |kind| kind.game.is_some());
    let all: GameNumbers = tally.engines().map(|(_, own)| *own).sum();
    let engines = tally
        .engines()
        .map(|(engine, own)| EngineNumbers { engine: engine.as_str().into(), numbers: numbers(own) });
    GameServerSummaryStatus {
        cluster: cluster.name.to_string(),
        numbers: numbers(&all),
        engines: engines.collect(),
        objects,
        last_observed_time: Time(cluster.last_event()),
        conditions: vec![ready(&all, objects_ready), fresh],
    }
}

fn numbers(numbers: &GameNumbers) -> GameServerNumbers {
    GameServerNumbers {
        fleets: numbers.fleets,
        desired: numbers.desired,
        // A server in use subtracts itself from the ready servers of its set. If the set cannot be read, the
        // sum is negative.
        ready: numbers.ready.max(0),
        allocated: numbers.allocated,
        reserved: numbers.reserved,
        withdrawn: numbers.withdrawn,
        unhealthy: numbers.unhealthy,
        // The status of servers may be observed before that of their set.
        missing: numbers.missing.max(0),
        players: numbers.players.get(),
        capacity: numbers.capacity.get(),
    }
}

/// The condition `Ready`: False if an object has failed or a desired server is missing, even if other objects
/// are unknown.
fn ready(numbers: &GameNumbers, objects: Condition) -> Condition {
    if objects.status == ConditionStatus::False || numbers.missing <= 0 {
        return objects;
    }
    let message = format!("{} of {} game servers are missing", numbers.missing, numbers.desired);
    Condition { status: ConditionStatus::False, reason: "GameServersMissing".into(), message, ..objects }
}
