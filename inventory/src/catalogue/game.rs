//! Reads the fields of game servers and their fleets that views show.

mod owner;
mod server;

use gatehouse_apiservice::agones::Member;
use kube_cel::cel::Value;

use self::owner::{made_for, owned_by};
use super::{
    Catalogue,
    object::{MOST, Object},
};
use crate::{
    Detail, Interner, Seconds,
    game::{Engine, GameKind, GameNumbers, PartialSum, Role},
};

/// What is kept of an object beyond its verdict; the error names a field that has the wrong type. `written` is when it
/// was last written, or observed if it does not say.
pub(super) fn detail(
    catalogue: &Catalogue,
    kind: GameKind,
    name: &str,
    object: &Value,
    written: Seconds,
    interner: &Interner,
) -> Result<Detail, String> {
    let numbers = numbers(kind, name, object)?;
    match kind.role {
        Role::Group => Ok(Detail::Game(Box::new(numbers))),
        Role::Server => {
            let mut server = server::read(catalogue, kind.engine, Object(object), written, interner)?;
            // Most are servers of a fleet, which add nothing.
            server.numbers = (numbers != GameNumbers::default()).then(|| Box::new(numbers));
            Ok(Detail::GameServer(Box::new(server)))
        }
    }
}

/// The numbers that the object adds to its namespace; the error names a field that has the wrong type.
fn numbers(kind: GameKind, name: &str, object: &Value) -> Result<GameNumbers, String> {
    let object = Object(object);
    let numbers = match (kind.engine, kind.role) {
        (Engine::Agones, Role::Group) => agones_group(name, object)?,
        (Engine::Agones, Role::Server) => agones_server(object)?,
        (Engine::Kruise, Role::Group) => return Ok(unless_leaving(object, kruise_set(object)?)),
        (Engine::Kruise, Role::Server) => return kruise_server(object),
        (Engine::Pteronimbus, _) => pteronimbus_server(object)?,
    };
    let missing = numbers.with_missing().missing;
    Ok(unless_leaving(object, GameNumbers { missing, ..numbers }))
}

/// An object that is being deleted has no desired servers.
fn unless_leaving(object: Object<'_>, numbers: GameNumbers) -> GameNumbers {
    match object.get(&["metadata", "deletionTimestamp"]) {
        Some(_) => GameNumbers { desired: 0, missing: 0, ..numbers },
        None => numbers,
    }
}

/// A Fleet, or a GameServerSet, which adds nothing if it belongs to a Fleet.
fn agones_group(kind: &str, object: Object<'_>) -> Result<GameNumbers, String> {
    if kind == "GameServerSet" && made_for(object, Member::GameServerSet)?.is_some() {
        return Ok(GameNumbers::default());
    }
    let (players, capacity) = agones_players(object)?;
    Ok(GameNumbers {
        fleets: 1,
        desired: object.number(&["spec", "replicas"])?.unwrap_or(0),
        ready: object.status("readyReplicas")?,
        allocated: object.status("allocatedReplicas")?,
        reserved: object.status("reservedReplicas")?,
        players,
        capacity,
        ..GameNumbers::default()
    })
}

fn agones_server(object: Object<'_>) -> Result<GameNumbers, String> {
    if made_for(object, Member::GameServer)?.is_some() {
        return Ok(GameNumbers::default());
    }
    let state = object.text(&["status", "state"])?;
    let (players, capacity) = agones_players(object)?;
    Ok(GameNumbers {
        desired: i64::from(state != "Shutdown"),
        ready: i64::from(state == "Ready"),
        allocated: i64::from(state == "Allocated"),
        reserved: i64::from(state == "Reserved"),
        players,
        capacity,
        ..GameNumbers::default()
    })
}

/// Players and capacity: from the counter or the list named `players`, else from the field of the alpha feature. The
/// list of a server holds the players; that of a fleet holds their number.
fn agones_players(object: Object<'_>) -> Result<(PartialSum, PartialSum), String> {
    let places: [&[&str]; 3] =
        [&["status", "counters", "players"], &["status", "lists", "players"], &["status", "players"]];
    let Some(place) = places.into_iter().find(|place| object.get(place).is_some()) else {
        return Ok((PartialSum::default(), PartialSum::default()));
    };
    let of = |field| object.number(&[place, &[field]].concat());
    let listed = match object.get(&[place, &["values"]].concat()) {
        Some(Value::List(values)) => Some(i64::try_from(values.len()).unwrap_or(MOST)),
        _ => None,
    };
    Ok((PartialSum::new(of("count")?.or(listed)), PartialSum::new(of("capacity")?)))
}

/// The status counts the ready servers among those taken out on purpose twice. The missing servers are those that are
/// not ready, except servers that report that they were taken out.
fn kruise_set(object: Object<'_>) -> Result<GameNumbers, String> {
    let desired = object.number(&["spec", "replicas"])?.unwrap_or(0);
    let ready = object.status("readyReplicas")?;
    Ok(GameNumbers {
        fleets: 1,
        desired,
        ready,
        withdrawn: object.status("maintainingReplicas")? + object.status("waitToBeDeletedReplicas")?,
        missing: (desired - ready).max(0),
        ..GameNumbers::default()
    })
}

/// A GameServerSet reports the readiness of its servers, but not their use: a ready server that is in use or taken out
/// reports that itself, and is subtracted from the ready ones.
fn kruise_server(object: Object<'_>) -> Result<GameNumbers, String> {
    let ready = object.text(&["status", "currentState"])? == "Ready";
    let purpose = object.text(&["spec", "opsState"])?;
    let allocated = ready && purpose == "Allocated";
    let withdrawn = matches!(purpose, "Maintaining" | "WaitToBeDeleted" | "Kill");
    if kruise_owner(object)?.is_some() {
        let taken = i64::from(ready && (allocated || withdrawn));
        return Ok(GameNumbers {
            ready: -taken,
            allocated: i64::from(allocated),
            missing: -i64::from(withdrawn && !ready),
            ..GameNumbers::default()
        });
    }
    let leaving = object.get(&["metadata", "deletionTimestamp"]).is_some();
    Ok(GameNumbers {
        desired: i64::from(!leaving),
        ready: i64::from(ready && !allocated && !withdrawn),
        allocated: i64::from(allocated),
        withdrawn: i64::from(withdrawn),
        ..GameNumbers::default()
    }
    .with_missing())
}

/// The set that a server belongs to. With the reclaim policy Cascade, the owner is the Pod, and only the label names the
/// set.
fn kruise_owner(object: Object<'_>) -> Result<Option<&str>, String> {
    let label = ["metadata", "labels", "game.kruise.io/owner-gss"];
    match object.get(&label) {
        Some(_) => object.text(&label).map(Some),
        None => owned_by(object, "game.kruise.io", "GameServerSet"),
    }
}

fn pteronimbus_server(object: Object<'_>) -> Result<GameNumbers, String> {
    let phase = object.text(&["status", "phase"])?;
    Ok(GameNumbers {
        desired: i64::from(phase != "Stopped"),
        ready: i64::from(phase == "Running"),
        players: PartialSum::new(object.number(&["status", "playerCount"])?),
        ..GameNumbers::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::{Interner, Record, State, testing::CATALOGUE};

    fn observe(group: &str, kind: &str, object: &Json) -> Record {
        let id = CATALOGUE.find(group, kind).unwrap();
        let mut object = object.clone();
        object["metadata"]["name"] = json!("a");
        CATALOGUE.observe(id, &object.to_string(), &Interner::default(), 0).unwrap()
    }

    fn numbers(group: &str, kind: &str, object: &Json) -> GameNumbers {
        observe(group, kind, object).game().copied().unwrap_or_default()
    }

    fn owner(group: &str, kind: &str) -> Json {
        let owner = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "name": "o", "uid": "u", "controller": true});
        json!({"labels": {"agones.dev/fleet": "o", "agones.dev/gameserverset": "o"}, "ownerReferences": [owner]})
    }

    #[test]
    fn a_fleet_tells_its_servers_and_its_players() {
        let status = json!({"replicas": 4, "readyReplicas": 1, "allocatedReplicas": 1, "reservedReplicas": 1,
            "players": {"count": 12, "capacity": 64}});
        let fleet = json!({"spec": {"replicas": 5}, "status": status});
        let expected = GameNumbers {
            fleets: 1,
            desired: 5,
            ready: 1,
            allocated: 1,
            reserved: 1,
            missing: 2,
            players: PartialSum::new(Some(12)),
            capacity: PartialSum::new(Some(64)),
            ..GameNumbers::default()
        };
        assert_eq!(numbers("agones.dev", "Fleet", &fleet), expected);
        assert_eq!(numbers("agones.dev", "GameServerSet", &fleet), expected, "one that stands alone");
    }

    #[test]
    fn what_belongs_to_a_fleet_or_a_set_adds_nothing() {
        let set = json!({"metadata": owner("agones.dev", "Fleet"), "spec": {"replicas": 5},
            "status": {"readyReplicas": 5}});
        assert_eq!(numbers("agones.dev", "GameServerSet", &set), GameNumbers::default());
        let server = json!({"metadata": owner("agones.dev", "GameServerSet"),
            "status": {"state": "Ready", "players": {"count": 1, "capacity": 2}}});
        let record = observe("agones.dev", "GameServer", &server);
        assert_eq!(record.game(), None);
        let foreign =
            json!({"metadata": owner("example.com", "GameServerSet"), "status": {"state": "Ready"}});
        assert_eq!(numbers("agones.dev", "GameServer", &foreign).ready, 1, "an owner of another system");
        // Agones also counts by the label, so no status includes an object without it.
        let mut stowaway = set;
        stowaway["metadata"]["labels"] = json!({});
        assert_eq!(numbers("agones.dev", "GameServerSet", &stowaway).ready, 5);
    }

    #[test]
    fn a_server_that_stands_alone_counts_by_its_state() {
        let count = |state: &str| {
            let numbers = numbers("agones.dev", "GameServer", &json!({"status": {"state": state}}));
            [numbers.desired, numbers.ready, numbers.allocated, numbers.reserved, numbers.missing]
        };
        assert_eq!(count("Ready"), [1, 1, 0, 0, 0]);
        assert_eq!(count("Allocated"), [1, 0, 1, 0, 0]);
        assert_eq!(count("Reserved"), [1, 0, 0, 1, 0]);
        assert_eq!(count("Scheduled"), [1, 0, 0, 0, 1]);
        assert_eq!(count("Unhealthy"), [1, 0, 0, 0, 1]);
        assert_eq!(count("Shutdown"), [0; 5], "nothing more is expected of it");
    }

    #[test]
    fn players_are_taken_from_one_place_alone() {
        let players = |status: Json| {
            let numbers = numbers("agones.dev", "GameServer", &json!({"status": status}));
            (numbers.players.get(), numbers.capacity.get())
        };
        let alpha = json!({"count": 9, "capacity": 9});
        let counter = json!({"counters": {"players": {"count": 3, "capacity": 16}}, "players": alpha});
        assert_eq!(players(counter), (Some(3), Some(16)));
        let list = json!({"lists": {"players": {"values": ["a", "b"], "capacity": 8}}, "players": alpha});
        assert_eq!(players(list), (Some(2), Some(8)));
        assert_eq!(players(json!({"players": alpha})), (Some(9), Some(9)));
        assert_eq!(players(json!({"counters": {"sessions": {"count": 3}}})), (None, None), "not zero");
    }

    #[test]
    fn a_server_of_kruise_s_moves_itself_out_of_the_ready_ones() {
        let count = |labels: &Json, state: &str, purpose: &str| {
            let object = json!({"metadata": {"labels": labels}, "spec": {"opsState": purpose},
                "status": {"currentState": state}});
            let numbers = numbers("game.kruise.io", "GameServer", &object);
            [numbers.desired, numbers.ready, numbers.allocated, numbers.withdrawn, numbers.missing]
        };
        let of_set = json!({"game.kruise.io/owner-gss": "survival"});
        assert_eq!(count(&of_set, "Ready", "None"), [0; 5]);
        assert_eq!(count(&of_set, "Ready", "Allocated"), [0, -1, 1, 0, 0]);
        assert_eq!(count(&of_set, "Ready", "Maintaining"), [0, -1, 0, 0, 0], "withdrawn by the set's status");
        assert_eq!(count(&of_set, "NotReady", "Maintaining"), [0, 0, 0, 0, -1], "not missing");
        let alone = json!({});
        assert_eq!(count(&alone, "Ready", "None"), [1, 1, 0, 0, 0]);
        assert_eq!(count(&alone, "Ready", "Allocated"), [1, 0, 1, 0, 0]);
        assert_eq!(count(&alone, "NotReady", "Maintaining"), [1, 0, 0, 1, 0]);
        assert_eq!(count(&alone, "Crash", "None"), [1, 0, 0, 0, 1]);
    }

    #[test]
    fn a_set_of_kruise_s_tells_those_taken_out() {
        let set = json!({"spec": {"replicas": 4}, "status": {"replicas": 4, "readyReplicas": 2,
            "maintainingReplicas": 1}});
        let set = numbers("game.kruise.io", "GameServerSet", &set);
        assert_eq!((set.fleets, set.desired, set.ready, set.withdrawn, set.missing), (1, 4, 2, 1, 2));
    }

    #[test]
    fn servers_of_kruise_s_that_are_ready_and_taken_out_hide_no_missing_ones() {
        let status = json!({"replicas": 10, "readyReplicas": 6, "waitToBeDeletedReplicas": 4});
        let set = json!({"spec": {"replicas": 10}, "status": status});
        let server = |state: &str, purpose: &str| {
            let object = json!({"metadata": {"labels": {"game.kruise.io/owner-gss": "raid"}},
                "spec": {"opsState": purpose}, "status": {"currentState": state}});
            numbers("game.kruise.io", "GameServer", &object)
        };
        let ready = [server("Ready", "None"); 2];
        let out = [server("Ready", "WaitToBeDeleted"); 4];
        let absent = [server("Creating", "None"); 4];
        let servers = ready.into_iter().chain(out).chain(absent);
        let all: GameNumbers =
            [numbers("game.kruise.io", "GameServerSet", &set)].into_iter().chain(servers).sum();
        assert_eq!((all.desired, all.ready, all.withdrawn, all.missing), (10, 2, 4, 4));
        assert_ne!(observe("game.kruise.io", "GameServerSet", &set).verdict.state, State::Ready);
    }

    #[test]
    fn a_server_of_pteronimbus_tells_its_players_and_no_capacity() {
        let server = |phase: &str| {
            let object = json!({"status": {"phase": phase, "playerCount": 7}});
            let numbers = numbers("pteronimbus.io", "GameServer", &object);
            (numbers.desired, numbers.ready, numbers.players.get(), numbers.capacity.get())
        };
        assert_eq!(server("Running"), (1, 1, Some(7), None));
        assert_eq!(server("Stopped"), (0, 0, Some(7), None));
    }

    #[test]
    fn of_what_is_being_deleted_nothing_is_desired() {
        let fleet = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"replicas": 5},
            "status": {"replicas": 5, "readyReplicas": 2}});
        let fleet = numbers("agones.dev", "Fleet", &fleet);
        assert_eq!((fleet.desired, fleet.ready, fleet.missing), (0, 2, 0));
    }

    #[test]
    fn numbers_beyond_reason_are_bounded_and_other_types_make_the_object_unknown() {
        let fleet = |replicas: Json| observe("agones.dev", "Fleet", &json!({"spec": {"replicas": replicas}}));
        assert_eq!(fleet(json!(u64::MAX)).game().unwrap().desired, MOST);
        assert_eq!(fleet(json!(i64::MIN)).game().unwrap().desired, 0);
        let odd = fleet(json!("five"));
        assert_eq!(odd.verdict.state, State::Unknown);
        assert_eq!(&*odd.verdict.message, "spec.replicas: expected a whole number, got a string");
        let odd = observe("pteronimbus.io", "GameServer", &json!({"status": {"playerCount": 1.5}}));
        assert_eq!(&*odd.verdict.message, "status.playerCount: expected a whole number, got a number");
        let odd = observe("agones.dev", "GameServer", &json!({"metadata": {"ownerReferences": {}}}));
        assert_eq!(&*odd.verdict.message, "metadata.ownerReferences: expected a list, got a map");
    }
}
