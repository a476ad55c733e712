//! Tests of the rows of `gameinstances`.

use gatehouse_inventory::{GameNumbers, Port, State};
use serde_json::json;

use super::{
    records::{Builder, game, key, namespace, object},
    *,
};

const A: &str = "games/local.agones.a";

fn server(name: &str) -> Builder {
    let server = game("GameServer.agones", "games", name, GameNumbers::default());
    let server = server.words("Allocated", "").since(None).of_fleet("Fleet.agones", "arena");
    server.server(|server| {
        server.phase = "Allocated".into();
        server.address = Some("192.0.2.11".into());
        server.node = Some("node-1".into());
        server.ports =
            [Port { name: "game".into(), number: 7101 }, Port { name: "".into(), number: 7102 }].into();
        (server.players, server.capacity, server.started) = (Some(14), Some(16), NOW - 3600);
    })
}

fn cells<const N: usize>(world: &World, row: &str, columns: [&str; N]) -> [Value; N] {
    columns.map(|column| world.cell(INSTANCES, row, column))
}

#[test]
fn a_server_tells_where_it_is_who_plays_and_since_when() {
    let world = World::with([namespace("games", Some("arena")), server("a").build()]);
    let columns = ["Fleet", "State", "Phase", "Address", "Players", "Uptime", "Capacity", "Ports", "Node"];
    let expected =
        json!(["arena", "Ready", "Allocated", "192.0.2.11:7101", 14, "60m", 16, "game:7101,7102", "node-1"]);
    assert_eq!(json!(cells(&world, A, columns)), expected);
    let mut object = world.object(INSTANCES, A);
    object["metadata"]["resourceVersion"] = json!("VERSION");
    insta::assert_json_snapshot!("instance", object);
}

#[test]
fn a_change_of_a_server_touches_its_row_and_its_end_deletes_that() {
    let mut world = World::with([server("a").build(), server("b").build()]);
    let before = world.versions(INSTANCES);
    world.apply(server("a").server(|server| server.players = Some(15)).build());
    assert_eq!(world.changed_since(INSTANCES, &before), [A]);
    world.delete(&key(kind("GameServer.agones"), "games", "a"));
    assert_eq!(world.names(INSTANCES), ["games/local.agones.b"]);
}

#[test]
fn what_an_engine_does_not_tell_is_left_out() {
    let server = game("GameServer.pteronimbus", "games", "creative", GameNumbers::default());
    let world = World::with([server.build()]);
    let row = "games/local.pteronimbus.creative";
    let empty = [json!(""), json!(""), Value::Null, json!(""), Value::Null, json!("")];
    assert_eq!(cells(&world, row, ["Fleet", "Address", "Players", "Uptime", "Capacity", "Ports"]), empty);
    let status = world.status_of(INSTANCES, row);
    for field in ["fleet", "address", "ports", "players", "capacity", "startedAt", "reason"] {
        assert_eq!(status.get(field), None, "{field}");
    }
}

#[test]
fn an_address_of_ipv6_is_in_brackets_and_one_without_a_port_alone() {
    let at = |host: &'static str, ports: &[u16]| {
        let port = |number: &u16| Port { name: "".into(), number: *number };
        let ports = ports.iter().map(port).collect();
        let server = server("a").server(|server| (server.address, server.ports) = (Some(host.into()), ports));
        World::with([server.build()]).cell(INSTANCES, A, "Address")
    };
    assert_eq!(at("2001:db8::1", &[7101]), "[2001:db8::1]:7101");
    assert_eq!(at("lb.example.com", &[]), "lb.example.com");
}

#[test]
fn a_server_that_cannot_be_read_is_unknown_and_the_others_are_served() {
    let odd = object(kind("GameServer.agones"), "games", "odd").state(State::Unknown, 5);
    let world = World::with([odd.build(), server("a").state(State::Failed, 5).build()]);
    let row = "games/local.agones.odd";
    assert_eq!(cells(&world, row, ["State", "Phase", "Message"]), ["Unknown", "", "odd is Unknown"]);
    assert_eq!(world.condition(INSTANCES, A, "Ready").0, "False");
    assert_eq!(world.status_of(INSTANCES, A)["reason"], "FailedReason");
}

/// Ten thousand rows of servers that are well take 6 MB.
#[test]
fn a_row_of_a_server_that_is_well_takes_little() {
    let one = server("arena-eu-x7k2p-4jq8d").server(|server| server.ports = [server.ports[0].clone()].into());
    let world = World::with([namespace("games", Some("arena")), one.build()]);
    let row = world.find(INSTANCES, "games/local.agones.arena-eu-x7k2p-4jq8d");
    let mut written = Vec::new();
    row.write_object(&mut written);
    row.write_cells(NOW, &mut written);
    assert!(row.size() <= 600, "{} for {}", row.size(), written.len());
}
