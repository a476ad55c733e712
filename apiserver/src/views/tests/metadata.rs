//! Tests of what all rows have in common: uid, labels, age.

use gatehouse_inventory::Record;
use serde_json::json;

use super::{
    records::{game, kustomization, namespace, quota},
    *,
};

const ROWS: [(&str, &str); 9] = [
    (SUMMARIES, "apps/local"),
    (RESOURCES, "apps/local.kustomization.web"),
    (DEPENDENCIES, "apps/local.kustomization.web"),
    (HEALTHS, "/local"),
    (GAMES, "apps/local"),
    (FLEETS, "apps/local.agones.arena"),
    (INSTANCES, "apps/local.agones.arena"),
    (USAGES, "/team-a"),
    (APPLIED, "apps/team-a"),
];

fn web() -> Record {
    kustomization("apps", "web").depends_on(&["apps/base"]).build()
}

/// The objects that the rows of [`ROWS`] are made of.
fn all() -> [Record; 4] {
    let server = game("GameServer.agones", "apps", "arena", gatehouse_inventory::GameNumbers::default());
    let fleet = gatehouse_inventory::GameNumbers { fleets: 1, ..Default::default() };
    let fleet = game("Fleet.agones", "apps", "arena", fleet);
    [web(), server.build(), fleet.build(), quota("team-a", &[]).share("apps", &[], &[]).build()]
}

fn metadata(world: &World, plural: &str, place: &str, field: &str) -> Value {
    world.object(plural, place)["metadata"][field].take()
}

/// The uids are constants here because clients identify objects by uid: a new uid would be a new object.
#[test]
fn uids_never_change() {
    let world = World::with(all());
    assert_eq!(
        ROWS.map(|(plural, place)| metadata(&world, plural, place, "uid")),
        [
            "678ead51-b93d-5f0e-84dc-ca7da275f6db",
            "06ff2178-b6d3-5f26-8193-2c65b424bf2b",
            "f46716fe-e892-5379-8b19-dfa0f276a2d5",
            "923a6f8d-360a-5877-b9d3-57246f604293",
            "e85fe465-94f0-5079-8f4a-362f86081534",
            "462bab77-c0a6-5ed8-8dc2-8fb037de0858",
            "dade60ea-4e79-5f79-ae4c-0ce23c9b9e0c",
            "c3538412-9ded-5e13-b264-46b3214bb7f2",
            "f92db9d7-a0d1-552b-afa6-0ecf3f511a84",
        ]
    );
}

#[test]
fn rows_are_labelled_with_their_cluster_and_their_namespace_s_tenant() {
    let mut world = World::with([web(), namespace("apps", Some("team-a"))]);
    for (plural, place) in &ROWS[..3] {
        let labels = json!({ "gatehouse.dev/cluster": "local", "gatehouse.dev/tenant": "team-a" });
        assert_eq!(metadata(&world, plural, place, "labels"), labels, "{plural}");
    }
    assert_eq!(metadata(&world, HEALTHS, "/local", "labels"), json!({ "gatehouse.dev/cluster": "local" }));
    let quota = World::with([quota("team-a", &[]).build()]);
    assert_eq!(metadata(&quota, USAGES, "/team-a", "labels")["gatehouse.dev/tenant"], "team-a", "its own");

    world.apply(namespace("apps", Some("team-b")));
    for (plural, place) in &ROWS[..3] {
        assert_eq!(metadata(&world, plural, place, "labels")["gatehouse.dev/tenant"], "team-b", "{plural}");
    }
    world.apply(namespace("apps", None));
    for (plural, place) in &ROWS[..3] {
        let labels = json!({ "gatehouse.dev/cluster": "local" });
        assert_eq!(metadata(&world, plural, place, "labels"), labels, "{plural}");
    }
}

#[test]
fn a_tenant_that_changes_touches_only_its_namespace() {
    let elsewhere = kustomization("other", "x").build();
    let mut world = World::with([web(), elsewhere, namespace("apps", None), namespace("other", None)]);
    let before = (world.versions(SUMMARIES), world.versions(RESOURCES));
    world.apply(namespace("apps", Some("team-a")));
    assert_eq!(world.changed_since(SUMMARIES, &before.0), ["apps/local"]);
    assert_eq!(world.changed_since(RESOURCES, &before.1), ["apps/local.kustomization.web"]);
}

#[test]
fn an_object_s_row_is_as_old_as_the_object_and_a_summary_as_its_namespace() {
    let system = namespace("kube-system", None);
    let world = World::with(all().into_iter().chain([namespace("apps", None), system]));
    let created = ROWS.map(|(plural, place)| metadata(&world, plural, place, "creationTimestamp"));
    let (namespace, object) = ("2026-02-27T23:58:20Z", "2026-02-28T00:00:00Z");
    assert_eq!(created, [namespace, object, object, namespace, namespace, object, object, object, object]);
}

#[test]
fn a_namespace_that_is_not_known_leaves_a_summary_without_an_age() {
    let mut world = World::with([web()]);
    assert_eq!(metadata(&world, SUMMARIES, "apps/local", "creationTimestamp"), Value::Null);
    world.apply(namespace("apps", None));
    assert_eq!(metadata(&world, SUMMARIES, "apps/local", "creationTimestamp"), "2026-02-27T23:58:20Z");
}

#[test]
fn rows_of_several_clusters_stand_side_by_side() {
    let mut world = World::of(&["local", "edge"]);
    for id in [LOCAL, ClusterId(1)] {
        world.hear(id);
        for (kind, _) in CATALOGUE.kinds() {
            world.inventory.apply(id, Event::Kind(kind, KindStatus::Absent), NOW);
        }
        world.inventory.apply(id, Event::Apply(Box::new(web())), NOW);
    }
    world.update();
    assert_eq!(world.names(SUMMARIES), ["apps/edge", "apps/local"]);
    assert_eq!(world.names(HEALTHS), ["/edge", "/local"]);
    let uids = ["apps/edge", "apps/local"].map(|place| metadata(&world, SUMMARIES, place, "uid"));
    assert_ne!(uids[0], uids[1]);
}
