//! Tests of what is read and kept of game servers.

use serde_json::{Value, json};

use super::*;
use crate::{ClusterId, Event, Interner, Inventory, State, testing::CATALOGUE};

fn observe(group: &str, kind: &str, object: &Value) -> Record {
    let id = CATALOGUE.find(group, kind).unwrap();
    let mut object = object.clone();
    object["metadata"]["name"] = json!("a");
    object["metadata"]["namespace"] = json!("games");
    CATALOGUE.observe(id, &object.to_string(), &Interner::default(), 1_000_000).unwrap()
}

fn server(group: &str, object: &Value) -> GameServer {
    let record = observe(group, "GameServer", object);
    record.game_server().unwrap_or_else(|| panic!("{record:?}")).clone()
}

fn fleet_of(server: &GameServer) -> Option<(&str, &str)> {
    let (kind, name) = server.fleet.as_ref()?;
    Some((&CATALOGUE.kind(*kind).kind, name))
}

fn agones() -> Value {
    let set = json!({"apiVersion": "agones.dev/v1", "kind": "GameServerSet", "name": "arena-x", "uid": "u", "controller": true});
    json!({
        "metadata": {
            "labels": {"agones.dev/fleet": "arena", "agones.dev/gameserverset": "arena-x"},
            "ownerReferences": [set], "creationTimestamp": "1970-01-02T00:00:00Z",
        },
        "status": {
            "state": "Allocated", "address": "192.0.2.1", "nodeName": "node-1",
            "ports": [{"name": "game", "port": 7101}, {"name": "query", "port": 7102}],
            "counters": {"players": {"count": 3, "capacity": 16}},
        },
    })
}

fn port(name: &str, number: u16) -> Port {
    Port { name: name.into(), number }
}

#[test]
fn a_server_of_agones_tells_where_it_is_and_who_plays() {
    let server = server("agones.dev", &agones());
    let expected = GameServer {
        numbers: None,
        fleet: server.fleet.clone(),
        phase: "Allocated".into(),
        address: Some("192.0.2.1".into()),
        ports: [port("game", 7101), port("query", 7102)].into(),
        node: Some("node-1".into()),
        players: Some(3),
        capacity: Some(16),
        started: 86_400,
    };
    assert_eq!(server, expected);
    assert_eq!(fleet_of(&server), Some(("Fleet", "arena")));
}

#[test]
fn a_server_belongs_to_its_set_without_a_fleet_and_to_nothing_without_an_owner() {
    let mut object = agones();
    object["metadata"]["labels"]["agones.dev/fleet"].take();
    assert_eq!(fleet_of(&server("agones.dev", &object)), Some(("GameServerSet", "arena-x")));
    object["metadata"]["labels"]["agones.dev/fleet"] = json!("arena");
    object["metadata"]["ownerReferences"].take();
    let alone = server("agones.dev", &object);
    assert_eq!(fleet_of(&alone), None, "a label alone makes it nobody's");
    assert_eq!(alone.numbers.unwrap().allocated, 1);
}

#[test]
fn a_server_of_kruise_s_tells_what_it_is_used_for_and_the_first_external_address() {
    let object = |state: &str, purpose: &str| {
        let at = |ip: &str| json!({"ip": ip, "endPoint": "lb.example.com", "ports": [{"name": "game", "port": "3001"}]});
        json!({
            "metadata": {"labels": {"game.kruise.io/owner-gss": "raid"}},
            "spec": {"opsState": purpose},
            "status": {
                "currentState": state, "podStatus": {"startTime": "1970-01-02T00:00:00Z"},
                "networkStatus": {"internalAddresses": [at("10.0.0.1")], "externalAddresses": [at("192.0.2.7")]},
            },
        })
    };
    let told = server("game.kruise.io", &object("Ready", "Allocated"));
    assert_eq!(
        (&*told.phase, told.address.as_deref(), told.started),
        ("Allocated", Some("192.0.2.7"), 86_400)
    );
    assert_eq!((&*told.ports, fleet_of(&told)), (&[port("game", 3001)][..], Some(("GameServerSet", "raid"))));
    let phase = |state, purpose| server("game.kruise.io", &object(state, purpose)).phase;
    assert_eq!(&*phase("Ready", "None"), "Ready");
    assert_eq!(&*phase("Crash", "Allocated"), "Crash", "what fails is not hidden");
    let mut object = object("Ready", "None");
    object["status"]["networkStatus"]["externalAddresses"] = json!([]);
    assert_eq!(server("game.kruise.io", &object).address.as_deref(), Some("10.0.0.1"));
    object["status"]["networkStatus"]["internalAddresses"][0]["ip"].take();
    assert_eq!(server("game.kruise.io", &object).address.as_deref(), Some("lb.example.com"));
}

#[test]
fn the_start_of_a_server_of_pteronimbus_follows_from_its_uptime_and_stays() {
    let object = |uptime: Value, written: &str| {
        let metadata = json!({"managedFields": [{"time": written}]});
        json!({"metadata": metadata, "status": {"phase": "Running", "playerCount": 7, "uptime": uptime}})
    };
    let started = |uptime| server("pteronimbus.io", &object(uptime, "1970-01-02T00:00:00Z")).started;
    assert_eq!(started(json!("1h0m10s")), 86_400 - 3_610);
    assert_eq!(started(json!(10)), 86_400 - 10);
    assert_eq!(started(json!("since noon")), 0, "tells nothing, and is no error");
    let observe =
        |uptime: &str, written| observe("pteronimbus.io", "GameServer", &object(json!(uptime), written));
    let mut later = observe("1h1m8s", "1970-01-02T00:01:00Z");
    later.runs_since(&observe("1h0m10s", "1970-01-02T00:00:00Z"));
    assert_eq!(later.game_server().unwrap().started, 86_400 - 3_610);
    let mut restarted = observe("5s", "1970-01-02T00:01:00Z");
    restarted.runs_since(&later);
    assert_eq!(restarted.game_server().unwrap().started, 86_455);
}

#[test]
fn what_has_the_wrong_shape_makes_the_server_unknown_and_names_the_field() {
    for (field, value, message) in [
        ("/status/ports", json!({"a": 1}), "status.ports: expected a list, got a map"),
        ("/status/ports", json!([{"port": 70_000}]), "ports.port: expected a number up to 65535"),
        ("/status/ports", json!([{"port": {}}]), "ports.port: expected a number, got a map"),
        ("/status/address", json!(["a"]), "status.address: expected a string, got a list"),
        (
            "/status/counters/players/count",
            json!("3"),
            "status.counters.players.count: expected a whole number, got a string",
        ),
        (
            "/metadata/labels/agones.dev~1fleet",
            json!(1),
            "metadata.labels.agones.dev/fleet: expected a string, got a number",
        ),
    ] {
        let mut object = agones();
        *object.pointer_mut(field).unwrap() = value;
        let record = observe("agones.dev", "GameServer", &object);
        assert_eq!((record.verdict.state, &*record.verdict.message), (State::Unknown, message));
    }
}

#[test]
fn what_a_hostile_server_tells_is_bounded() {
    let mut object = agones();
    object["status"]["ports"] = (0..100_000).map(|port| json!({"port": port % 9})).collect();
    object["status"]["address"] = json!("x".repeat(100_000));
    object["status"]["state"] = json!("é".repeat(100_000));
    object["status"]["counters"]["players"]["count"] = json!(u64::MAX);
    let server = server("agones.dev", &object);
    assert_eq!((server.ports.len(), server.players), (GameServer::PORTS, Some(u32::MAX)));
    assert!(server.address.unwrap().len() <= 253 && server.phase.len() <= 64);
}

/// Ten thousand servers of one fleet take 3 MB without their names.
#[test]
fn a_server_that_is_well_takes_little() {
    let mut object = agones();
    object["status"]["ports"].as_array_mut().unwrap().pop();
    let record = observe("agones.dev", "GameServer", &object);
    assert_eq!(record.verdict.state, State::Ready);
    assert!(record.size() <= 330, "{}", record.size());
}

#[test]
fn servers_of_a_fleet_are_summed_as_they_come_change_and_go() {
    let mut inventory = Inventory::new(CATALOGUE.clone(), ["local".into()], 0);
    let id = ClusterId(0);
    let server = |name: &str, state: &str| {
        let mut object = agones();
        object["metadata"]["name"] = json!(name);
        object["metadata"]["namespace"] = json!("games");
        object["metadata"]["ownerReferences"][0]["uid"] = json!("u");
        object["status"]["state"] = json!(state);
        let kind = CATALOGUE.find("agones.dev", "GameServer").unwrap();
        CATALOGUE.observe(kind, &object.to_string(), &Interner::default(), 1_000_000).unwrap()
    };
    let kind = CATALOGUE.find("agones.dev", "Fleet").unwrap();
    let fleet = ObjectKey::new(kind, "games", "arena");
    let failed = |record: &Record| Record {
        verdict: crate::Verdict { state: State::Failed, ..record.verdict.clone() },
        ..record.clone()
    };
    let unhealthy = |inventory: &Inventory| inventory.cluster(id).servers_of(&fleet).unhealthy;
    let touches = |inventory: &mut Inventory| inventory.take_delta().objects.contains(&(id, fleet.clone()));

    let (a, b) = (server("a", "Ready"), server("b", "Ready"));
    inventory.apply(id, Event::Apply(Box::new(a.clone())), 1);
    inventory.apply(id, Event::Apply(Box::new(failed(&b))), 1);
    assert_eq!((unhealthy(&inventory), touches(&mut inventory)), (1, true));
    inventory.apply(id, Event::Apply(Box::new(server("a", "Allocated"))), 2);
    assert!(!touches(&mut inventory), "the fleet counts it itself");
    inventory.apply(id, Event::Apply(Box::new(failed(&a))), 3);
    assert_eq!((unhealthy(&inventory), touches(&mut inventory)), (2, true));
    inventory.apply(id, Event::Delete(a.key.clone()), 4);
    inventory.apply(id, Event::Apply(Box::new(b.clone())), 4);
    assert_eq!((unhealthy(&inventory), touches(&mut inventory)), (0, true));
    inventory.apply(id, Event::Delete(b.key), 5);
    assert_eq!(inventory.cluster(id).tallies.fleets.len(), 0);
}
