//! Tests of the rows of `gameserversummaries`.

use gatehouse_inventory::{GameNumbers, PartialSum, State};
use serde_json::json;

use super::{
    records::{game, key, kustomization, namespace},
    *,
};

const ROW: &str = "games/local";

fn fleet() -> records::Builder {
    game("Fleet.agones", "games", "arena", fleet_numbers())
}

fn fleet_numbers() -> GameNumbers {
    GameNumbers {
        fleets: 1,
        desired: 10,
        ready: 3,
        allocated: 5,
        reserved: 2,
        players: PartialSum::new(Some(61)),
        capacity: PartialSum::new(Some(160)),
        ..GameNumbers::default()
    }
}

/// A game server of Pteronimbus, which reports its players but not its capacity.
fn standalone(name: &str) -> records::Builder {
    let numbers =
        GameNumbers { desired: 1, ready: 1, players: PartialSum::new(Some(7)), ..GameNumbers::default() };
    game("GameServer.pteronimbus", "games", name, numbers)
}

/// An Agones game server that belongs to a fleet.
fn owned(name: &str) -> records::Builder {
    game("GameServer.agones", "games", name, GameNumbers::default())
}

fn cell(world: &World, column: &str) -> Value {
    world.cell(GAMES, ROW, column)
}

fn ready(world: &World) -> (String, String) {
    let (status, reason, _) = world.condition(GAMES, ROW, "Ready");
    (status, reason)
}

const COLUMNS: [&str; 8] =
    ["Fleets", "Desired", "Ready", "Allocated", "Unhealthy", "Players", "Capacity", "Reserved"];

#[test]
fn servers_count_through_their_fleet_or_by_themselves_and_once() {
    let world = World::with([
        fleet().build(),
        standalone("creative").build(),
        owned("arena-1").build(),
        owned("arena-2").state(State::Failed, 60).build(),
    ]);
    assert_eq!(COLUMNS.map(|column| cell(&world, column)), [1, 11, 4, 5, 1, 68, 160, 2]);
    assert_eq!(cell(&world, "Engines"), "agones,pteronimbus");
    assert_eq!(
        (cell(&world, "Worst"), cell(&world, "Oldest-Failure")),
        (json!("GameServer/arena-2 Failed"), json!("60s"))
    );
    let status = world.status_of(GAMES, ROW);
    assert_eq!(status["engines"][1]["engine"], "pteronimbus");
    assert_eq!(status["engines"][1]["players"], 7);
    assert_eq!(status["engines"][1].get("capacity"), None, "no server of it tells");
    let kinds: Vec<_> =
        status["kinds"].as_array().unwrap().iter().map(|kind| kind["total"].clone()).collect();
    assert_eq!(kinds, [1, 2, 1], "all objects, whoever they belong to");
}

#[test]
fn players_that_nobody_tells_are_not_told_as_none() {
    let set = GameNumbers { fleets: 1, desired: 3, ready: 3, ..GameNumbers::default() };
    let world = World::with([game("GameServerSet.game.kruise", "games", "survival", set).build()]);
    assert_eq!((cell(&world, "Players"), cell(&world, "Capacity")), (Value::Null, Value::Null));
    assert_eq!(world.status_of(GAMES, ROW).get("players"), None);
    assert_eq!(cell(&world, "Engines"), "kruise");
}

#[test]
fn a_server_in_use_whose_set_may_not_be_read_leaves_no_negative_number() {
    let in_use = GameNumbers { ready: -1, allocated: 1, ..GameNumbers::default() };
    let world = World::with([game("GameServer.game.kruise", "games", "survival-0", in_use).build()]);
    assert_eq!((cell(&world, "Ready"), cell(&world, "Allocated")), (json!(0), json!(1)));
}

#[test]
fn readiness_takes_that_nothing_failed_and_that_every_desired_server_is_there() {
    let mut world = World::with([fleet().build(), standalone("creative").build()]);
    assert_eq!(ready(&world), ("True".into(), "NoFailures".into()));
    let short = GameNumbers { ready: 1, missing: 2, ..fleet_numbers() };
    world.apply(game("Fleet.agones", "games", "arena", short).state(State::Progressing, 5).build());
    assert_eq!(ready(&world), ("False".into(), "GameServersMissing".into()));
    let conditions = world.status_of(GAMES, ROW)["conditions"].take();
    assert_eq!(conditions[0]["message"], "2 of 11 game servers are missing");
    world.apply(fleet().build());
    world.apply(owned("arena-1").state(State::Failed, 5).build());
    assert_eq!(ready(&world), ("False".into(), "Failures".into()));
    world.apply(owned("arena-1").state(State::Unknown, 5).build());
    assert_eq!(ready(&world), ("Unknown".into(), "ObjectsUnknown".into()));
}

#[test]
fn a_kind_that_may_not_be_read_is_named_and_leaves_readiness_open() {
    let mut world = World::with([fleet().build(), kustomization("apps", "web").build()]);
    let flux = world.versions(SUMMARIES);
    world.status(kind("GameServer.agones"), KindStatus::Forbidden { message: "may not list".into() });
    assert_eq!(ready(&world), ("Unknown".into(), "KindsUnreadable".into()));
    let named = json!([
        { "kind": "GameServer", "group": "agones.dev", "reason": "Forbidden", "message": "may not list" }
    ]);
    assert_eq!(world.status_of(GAMES, ROW)["unreadable"], named);
    world.status(kind("HelmRelease"), KindStatus::Forbidden { message: "no".into() });
    assert_eq!(world.status_of(GAMES, ROW)["unreadable"], named, "Flux's kinds are none of its business");
    assert_eq!(
        world.changed_since(SUMMARIES, &flux),
        ["apps/local"],
        "nor game servers those of Flux's views"
    );
}

#[test]
fn a_namespace_has_a_row_as_long_as_it_holds_anything_of_an_engine() {
    let mut world = World::with([namespace("games", Some("arena")), kustomization("apps", "web").build()]);
    assert_eq!(world.names(GAMES), [""; 0]);
    world.apply(owned("arena-1").build());
    assert_eq!(world.names(GAMES), [ROW]);
    assert_eq!(world.object(GAMES, ROW)["metadata"]["labels"]["gatehouse.dev/tenant"], "arena");
    world.apply(namespace("games", Some("league")));
    assert_eq!(world.object(GAMES, ROW)["metadata"]["labels"]["gatehouse.dev/tenant"], "league");
    world.delete(&key(kind("GameServer.agones"), "games", "arena-1"));
    assert_eq!(world.names(GAMES), [""; 0]);
}

#[test]
fn a_change_of_a_server_touches_its_namespace_and_the_cluster_alone() {
    let mut world = World::with([
        fleet().build(),
        game("GameServer.agones", "other", "b", GameNumbers::default()).build(),
        kustomization("games", "web").build(),
    ]);
    let before = [GAMES, SUMMARIES, RESOURCES, HEALTHS].map(|plural| (plural, world.versions(plural)));
    world.apply(owned("arena-1").state(State::Failed, 5).build());
    let changed: Vec<_> = before.iter().map(|(plural, before)| world.changed_since(plural, before)).collect();
    assert_eq!(changed, [vec![ROW], vec![ROW], vec![], vec!["/local"]], "the summary counts the problem");
}

#[test]
fn a_failing_watch_and_a_silent_cluster_are_told() {
    let mut world = World::with([fleet().build()]);
    world.status(kind("Fleet.agones"), KindStatus::Failing { message: "timeout".into() });
    world.now += 40;
    world.hear(LOCAL);
    world.pass(0);
    assert_eq!(world.condition(GAMES, ROW, "Fresh"), ("False".into(), "WatchFailing".into(), NOW + 41));
    world.pass(60);
    assert_eq!(world.condition(GAMES, ROW, "Fresh").1, "ClusterSilent");
}

#[test]
fn packing_halves_a_row() {
    let set = GameNumbers { fleets: 1, desired: 3, ready: 3, ..GameNumbers::default() };
    let set = game("GameServerSet.game.kruise", "games", "survival", set);
    let world = World::with([namespace("games", Some("arena")), fleet().build(), set.build()]);
    let row = world.find(GAMES, ROW);
    let mut written = Vec::new();
    row.write_object(&mut written);
    row.write_cells(NOW, &mut written);
    let (packed, written) = (row.size() - size_of::<Row>(), written.len());
    assert!(packed * 2 < written, "{packed} of {written}");
}

#[test]
fn a_game_server_summary_is_told_in_full() {
    let world = World::with([
        namespace("games", Some("arena")),
        fleet().build(),
        standalone("creative").build(),
        owned("arena-2").state(State::Failed, 60).build(),
    ]);
    let mut object = world.object(GAMES, ROW);
    object["metadata"]["resourceVersion"] = json!("VERSION");
    insta::assert_json_snapshot!("games", object);
}
