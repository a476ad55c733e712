//! Tests of the rows of `mynamespaces`. Who sees which is tested with the endpoints.

use gatehouse_inventory::{GameNumbers, PartialSum, State};
use serde_json::json;

use super::{
    records::{game, key, kustomization, namespace, node, object, quota},
    *,
};

const COLUMNS: [&str; 7] = ["Tenant", "Flux", "Worst", "Games", "Quota", "Problems", "State"];

fn cells(world: &World, name: &str) -> [Value; 7] {
    COLUMNS.map(|column| world.cell(MINE, &format!("/{name}"), column))
}

fn fleet() -> records::Builder {
    let numbers = GameNumbers {
        fleets: 1,
        desired: 10,
        ready: 3,
        allocated: 5,
        players: PartialSum::new(Some(61)),
        ..GameNumbers::default()
    };
    game("Fleet.agones", "a", "arena", numbers)
}

fn quotas() -> [Record; 2] {
    let share = [Some("1")];
    let tight = quota("tight", &[("gameservers", Some("78"), "80")]).share("a", &share, &[]);
    let wide = quota("wide", &[("players", Some("5"), "2000")]).share("a", &share, &[]);
    [tight.build(), wide.build()]
}

#[test]
fn a_row_tells_how_its_namespace_is_doing() {
    let mut records = vec![
        namespace("a", Some("team-a")),
        namespace("empty", None),
        kustomization("a", "one").build(),
        kustomization("a", "two").state(State::Failed, 60).words("BuildFailed", "no").build(),
        object(kind("Deployment"), "a", "shop").state(State::Failed, 30).build(),
        fleet().build(),
    ];
    records.extend(quotas());
    let world = World::with(records);
    assert_eq!(world.names(MINE), ["/a", "/empty"]);
    assert_eq!(
        json!(cells(&world, "a")),
        json!(["team-a", "1/2", "Kustomization/two Failed", "8/10", "gameservers 78/80 (97%)", 2, "Failed"])
    );
    assert_eq!(json!(cells(&world, "empty")), json!(["", "0/0", "", "", "", 0, "Ready"]));
    assert_eq!(world.condition(MINE, "/a", "Ready").0, "False");
    assert_eq!(world.condition(MINE, "/empty", "Ready").1, "NoObjects");
}

#[test]
fn a_row_follows_what_it_tells() {
    let mut world = World::with([namespace("a", None), namespace("b", None)]);
    let before = world.versions(MINE);
    world.apply(kustomization("a", "one").state(State::Failed, 60).build());
    assert_eq!(world.changed_since(MINE, &before), ["/a"]);
    assert_eq!(cells(&world, "a")[5], 1);
    world.apply(kustomization("a", "one").build());
    assert_eq!((&cells(&world, "a")[1], &cells(&world, "a")[5]), (&json!("1/1"), &json!(0)));
    for quota in quotas() {
        world.apply(quota);
    }
    assert_eq!(cells(&world, "a")[4], "gameservers 78/80 (97%)");
    world.delete(&key(kind("TenantQuota"), "", "tight"));
    assert_eq!(cells(&world, "a")[4], "players 5/2000 (0%)");
    world.apply(namespace("a", Some("team-a")));
    assert_eq!(cells(&world, "a")[0], "team-a");
    world.apply(object(kind("Deployment"), "a", "shop").state(State::Failed, 30).build());
    world.delete(&key(kind("Deployment"), "a", "shop"));
    assert_eq!(cells(&world, "a")[5], 0);
    world.delete(&key(kind("Kustomization"), "a", "one"));
    world.delete(&key(kind("Namespace"), "", "a"));
    assert_eq!(world.names(MINE), ["/b"]);
}

#[test]
fn problems_are_counted_as_they_are_listed() {
    let world = World::with([
        namespace("default", None),
        namespace("a", None),
        node("n", "v1").state(State::Failed, 60).build(),
        object(kind("Deployment"), "a", "shop").state(State::Failed, 30).build(),
        object(kind("Pod"), "a", "shop-1")
            .state(State::Failing, 60)
            .owned_by(key(kind("Deployment"), "a", "shop"))
            .build(),
    ]);
    for name in ["a", "default"] {
        let listed = world.names(PROBLEMS).iter().filter(|row| row.starts_with(&format!("{name}/"))).count();
        assert_eq!(cells(&world, name)[5], listed, "{name}");
        assert_eq!(listed, 1, "{name}");
    }
}

#[test]
fn a_namespace_that_is_not_known_has_a_row_for_what_is_in_it() {
    let mut world = World::with([kustomization("a", "one").build()]);
    assert_eq!(world.names(MINE), ["/a"]);
    world.delete(&key(kind("Kustomization"), "a", "one"));
    assert_eq!(world.names(MINE), [""; 0]);
}

#[test]
fn a_row_is_told_in_full() {
    let mut records = vec![
        namespace("a", Some("team-a")),
        kustomization("a", "two").state(State::Failed, 60).words("BuildFailed", "no").build(),
        fleet().build(),
    ];
    records.extend(quotas());
    let mut object = World::with(records).object(MINE, "/a");
    object["metadata"]["resourceVersion"] = json!("VERSION");
    insta::assert_json_snapshot!("mine", object);
}
