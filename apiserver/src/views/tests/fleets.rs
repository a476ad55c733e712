//! Tests of the rows of `gamefleets`.

use gatehouse_inventory::{Detail, GameNumbers, PartialSum, State};
use serde_json::json;

use super::{
    records::{Builder, game, key, namespace, object},
    *,
};

const ARENA: &str = "games/local.agones.arena";
const RAID: &str = "games/local.kruise.raid";

fn fleet() -> Builder {
    let numbers = GameNumbers {
        fleets: 1,
        desired: 10,
        ready: 3,
        allocated: 5,
        reserved: 2,
        players: PartialSum::new(Some(61)),
        capacity: PartialSum::new(Some(160)),
        ..GameNumbers::default()
    };
    game("Fleet.agones", "games", "arena", numbers)
}

/// A set of OpenKruiseGame's, which counts its ready servers and not those in use.
fn set() -> Builder {
    let numbers = GameNumbers { fleets: 1, desired: 4, ready: 3, missing: 1, ..GameNumbers::default() };
    game("GameServerSet.game.kruise", "games", "raid", numbers)
}

fn raider(name: &str, numbers: GameNumbers) -> Builder {
    game("GameServer.game.kruise", "games", name, numbers).of_fleet("GameServerSet.game.kruise", "raid")
}

fn server(name: &str) -> Builder {
    let server = game("GameServer.agones", "games", name, GameNumbers::default());
    server.of_fleet("Fleet.agones", "arena")
}

fn cells<const N: usize>(world: &World, row: &str, columns: [&str; N]) -> [Value; N] {
    columns.map(|column| world.cell(FLEETS, row, column))
}

const NUMBERS: [&str; 9] =
    ["Desired", "Ready", "Allocated", "Players", "Capacity", "Reserved", "Withdrawn", "Unhealthy", "Missing"];

#[test]
fn a_fleet_of_agones_tells_its_own_numbers_and_which_servers_failed() {
    let mut world = World::with([namespace("games", Some("arena")), fleet().build(), server("a").build()]);
    let null = Value::Null;
    let numbers = |unhealthy: i64| {
        let [desired, ready, allocated, players, capacity, reserved] =
            [10, 3, 5, 61, 160, 2].map(|n| json!(n));
        [desired, ready, allocated, players, capacity, reserved, null.clone(), json!(unhealthy), json!(0)]
    };
    assert_eq!(cells(&world, ARENA, NUMBERS), numbers(0));
    assert_eq!(cells(&world, ARENA, ["Engine", "State", "Kind"]), ["agones", "Ready", "Fleet"]);
    world.apply(server("b").state(State::Failed, 5).build());
    assert_eq!(cells(&world, ARENA, NUMBERS), numbers(1));
    let before = world.versions(FLEETS);
    world.apply(server("a").words("Allocated", "").build());
    assert_eq!(world.changed_since(FLEETS, &before), [""; 0], "the fleet tells that itself");
    let mut object = world.object(FLEETS, ARENA);
    object["metadata"]["resourceVersion"] = json!("VERSION");
    insta::assert_json_snapshot!("fleet", object);
    world.delete(&key(kind("GameServer.agones"), "games", "b"));
    assert_eq!(cells(&world, ARENA, NUMBERS), numbers(0));
    world.delete(&key(kind("Fleet.agones"), "games", "arena"));
    assert_eq!(world.names(FLEETS), [""; 0]);
}

#[test]
fn a_set_of_kruise_s_is_told_with_what_its_servers_tell() {
    let in_use = GameNumbers { ready: -1, allocated: 1, ..GameNumbers::default() };
    let out = GameNumbers { missing: -1, ..GameNumbers::default() };
    let mut world = World::with([set().build(), raider("raid-0", in_use).build()]);
    let some = ["Desired", "Ready", "Allocated", "Missing", "Players", "Reserved"];
    let expect = |numbers: [i64; 4]| {
        let [desired, ready, allocated, missing] = numbers.map(|number| json!(number));
        [desired, ready, allocated, missing, Value::Null, Value::Null]
    };
    assert_eq!(cells(&world, RAID, some), expect([4, 2, 1, 1]));
    world.apply(raider("raid-1", in_use).build());
    world.apply(raider("raid-2", out).build());
    assert_eq!(cells(&world, RAID, some), expect([4, 1, 2, 0]));
    // A server that becomes another set's.
    world.apply(raider("raid-1", in_use).of_fleet("GameServerSet.game.kruise", "other").build());
    assert_eq!(cells(&world, RAID, some), expect([4, 2, 1, 0]));
}

#[test]
fn what_servers_that_may_not_be_read_would_tell_is_not_told_as_zero() {
    let mut world = World::with([set().build(), fleet().build()]);
    for server in ["GameServer.game.kruise", "GameServer.agones"] {
        world.status(kind(server), KindStatus::Forbidden { message: "may not list".into() });
    }
    let some = ["Desired", "Ready", "Allocated", "Unhealthy", "Missing"];
    let null = || Value::Null;
    assert_eq!(cells(&world, RAID, some), [json!(4), null(), null(), null(), null()]);
    assert_eq!(cells(&world, ARENA, some), [json!(10), json!(3), json!(5), null(), json!(0)]);
    world.status(kind("GameServer.game.kruise"), KindStatus::Absent);
    assert_eq!(cells(&world, RAID, some)[1..3], [json!(3), json!(0)]);
}

#[test]
fn a_set_of_agones_has_a_row_without_a_fleet_and_under_a_name_of_its_own() {
    let set = |fleets| GameNumbers { fleets, desired: 2, ..GameNumbers::default() };
    let set = |name: &str, fleets| game("GameServerSet.agones", "games", name, set(fleets)).build();
    let mut world = World::with([fleet().build(), set("arena", 1), set("arena-x7k2p", 0)]);
    assert_eq!(world.names(FLEETS), ["games/local.agones-set.arena", ARENA]);
    world.apply(set("arena", 0));
    assert_eq!(world.names(FLEETS), [ARENA], "a fleet took it over");
}

#[test]
fn a_fleet_that_cannot_be_read_is_unknown_and_has_no_numbers() {
    let mut odd = object(kind("Fleet.agones"), "games", "arena").state(State::Unknown, 5).build();
    assert_eq!(odd.detail, Detail::None);
    odd.verdict.message = "spec.replicas: expected a whole number, got a string".into();
    let world = World::with([odd, set().build()]);
    assert_eq!(
        cells(&world, ARENA, ["State", "Desired", "Ready"]),
        [json!("Unknown"), Value::Null, Value::Null]
    );
    assert_eq!(world.condition(FLEETS, ARENA, "Ready").0, "Unknown");
    assert_eq!(cells(&world, RAID, ["State", "Desired"]), [json!("Ready"), json!(4)]);
}

#[test]
fn a_fleet_is_ready_while_it_scales_and_not_when_servers_do_not_come() {
    let mut world = World::with([fleet().state(State::Progressing, 5).last_outcome(State::Ready).build()]);
    assert_eq!(world.condition(FLEETS, ARENA, "Ready").0, "True");
    world.apply(fleet().state(State::Failed, 5).build());
    assert_eq!(world.condition(FLEETS, ARENA, "Ready").0, "False");
}

#[test]
fn a_failing_watch_of_servers_is_told_by_their_fleets() {
    let mut world = World::with([fleet().build()]);
    world.status(kind("GameServer.agones"), KindStatus::Failing { message: "timeout".into() });
    world.now += 40;
    world.hear(LOCAL);
    world.pass(0);
    assert_eq!(world.condition(FLEETS, ARENA, "Fresh").1, "WatchFailing");
}
