//! Tests of when views sync, and of which rows a change affects.

use gatehouse_inventory::State;

use super::{
    records::{key, kustomization, namespace, node, object},
    *,
};

const ALL: [&str; 13] = [
    SUMMARIES,
    RESOURCES,
    DEPENDENCIES,
    HISTORIES,
    HEALTHS,
    ARGO,
    APPLICATIONS,
    FLEETS,
    INSTANCES,
    GAMES,
    USAGES,
    PROBLEMS,
    APPLIED,
];

fn synced(world: &World) -> Vec<&'static str> {
    ALL.into_iter().filter(|plural| world.cache(plural).is_synced()).collect()
}

#[test]
fn a_view_syncs_as_soon_as_its_own_kinds_are_known() {
    let mut world = World::of(&["local"]);
    let (mut flux, other): (Vec<_>, Vec<_>) = CATALOGUE.kinds().partition(|(_, kind)| kind.is_flux());
    // Namespaces are needed too: they have the tenants of rows.
    flux.extend(CATALOGUE.kinds().filter(|(id, _)| *id == kind("Namespace")));
    for (id, _) in &flux[1..] {
        world.status(*id, KindStatus::Absent);
    }
    world.status(flux[0].0, KindStatus::Served { version: "v1".into() });
    assert_eq!(synced(&world), [""; 0], "one is still being listed");
    world.event(Event::Synced(flux[0].0));
    world.update();
    assert_eq!(synced(&world), [SUMMARIES, RESOURCES, DEPENDENCIES, HISTORIES]);
    for (id, _) in other {
        world.status(id, KindStatus::Forbidden { message: "no".into() });
    }
    assert_eq!(synced(&world), ALL, "what may not be read is waited for no longer");
}

#[test]
fn a_kind_that_fails_before_its_first_list_is_waited_for() {
    let mut world = World::of(&["local"]);
    for (id, _) in CATALOGUE.kinds() {
        world.status(id, KindStatus::Failing { message: "timeout".into() });
    }
    assert_eq!(synced(&world), [""; 0]);
}

#[test]
fn a_cluster_from_afar_that_does_not_answer_holds_nothing_up() {
    let mut world = World::of(&["local", "edge"]);
    for (id, _) in CATALOGUE.kinds() {
        world.status(id, KindStatus::Absent);
    }
    assert_eq!(synced(&world), ALL, "nor does one that has not answered yet");
    let silent = Liveness::Silent { message: "no route to host".into() };
    world.inventory.apply(ClusterId(1), Event::Liveness(silent), NOW);
    world.update();
    assert_eq!(world.cell(HEALTHS, "/edge", "Reachable"), "False");
    assert_eq!(world.cell(HEALTHS, "/edge", "Health"), "Unknown");
}

#[test]
fn a_row_disappears_with_its_last_object() {
    let mut world = World::with([
        kustomization("apps", "a").build(),
        object(kind("HelmRelease"), "apps", "b").build(),
        namespace("apps", None),
        namespace("empty", None),
    ]);
    assert_eq!(world.names(SUMMARIES), ["apps/local"], "only namespaces with something to summarise");
    world.delete(&key(kind("Kustomization"), "apps", "a"));
    assert_eq!(world.names(SUMMARIES), ["apps/local"]);
    assert_eq!(world.names(RESOURCES), ["apps/local.helmrelease.b"]);
    world.delete(&key(kind("HelmRelease"), "apps", "b"));
    assert_eq!((world.names(SUMMARIES), world.names(RESOURCES)), (vec![], vec![]));
}

#[test]
fn a_change_touches_only_the_rows_it_shows_in() {
    let mut world = World::with([
        kustomization("apps", "a").build(),
        kustomization("apps", "b").build(),
        kustomization("other", "c").depends_on(&["apps/a"]).build(),
        kustomization("third", "d").build(),
    ]);
    let before = ALL.map(|plural| world.versions(plural));
    world.apply(kustomization("apps", "b").state(State::Failed, 1).build());
    let changed = |world: &World, at: usize| world.changed_since(ALL[at], &before[at]);
    assert_eq!(changed(&world, 0), ["apps/local"]);
    assert_eq!(changed(&world, 1), ["apps/local.kustomization.b"]);
    assert_eq!(changed(&world, 2), [""; 0], "b is in no chain");
    assert_eq!(changed(&world, 3), [""; 0], "b has no history");
    assert_eq!(changed(&world, 4), ["/local"]);

    world.apply(kustomization("apps", "a").state(State::Progressing, 1).build());
    assert_eq!(changed(&world, 0), ["apps/local"]);
    assert_eq!(changed(&world, 1), ["a", "b"].map(|name| format!("apps/local.kustomization.{name}")));
    let chain = ["apps/local.kustomization.a", "other/local.kustomization.c"];
    assert_eq!(changed(&world, 2), chain, "the dependent shows its dependency's state");
}

#[test]
fn what_shows_in_no_view_emits_nothing() {
    let mut world = World::with([kustomization("apps", "a").build(), node("n", "v1.36.0").build()]);
    let before = ALL.map(|plural| world.versions(plural));
    world.now += 100;
    let again = kustomization("apps", "a").build();
    world.apply(again);
    // The row shows a Node's message only while the Node fails.
    let mut other = node("n", "v1.36.0").build();
    other.verdict.message = "kubelet is posting ready status".into();
    world.apply(other);
    world.apply(namespace("unrelated", Some("team-x")));
    for (plural, before) in ALL.into_iter().zip(before) {
        assert_eq!(world.versions(plural), before, "{plural}");
    }
}

#[test]
fn the_time_of_observation_moves_only_with_the_content() {
    let mut world = World::with([kustomization("apps", "a").build()]);
    let observed = |world: &World, plural, place| {
        let status = world.status_of(plural, place);
        status["lastObservedTime"].as_str().unwrap().to_owned()
    };
    let start = "2026-03-01T00:00:00Z";
    world.now += 59;
    world.apply(node("n", "v1.36.0").build());
    assert_eq!(observed(&world, SUMMARIES, "apps/local"), start, "the summary says the same as before");
    assert_eq!(observed(&world, HEALTHS, "/local"), "2026-03-01T00:01:00Z");
    world.now += 59;
    world.apply(kustomization("apps", "a").state(State::Failed, 0).build());
    assert_eq!(observed(&world, SUMMARIES, "apps/local"), "2026-03-01T00:02:00Z");
}

#[test]
fn a_restart_of_a_list_that_ends_the_same_emits_nothing() {
    let records = || ["a", "b"].map(|name| kustomization("apps", name).build());
    let mut world = World::with(records());
    let before = ALL.map(|plural| world.versions(plural));
    world.event(Event::Restart(kind("Kustomization")));
    world.events(records().into_iter().map(|record| Event::Apply(Box::new(record))));
    world.event(Event::Synced(kind("Kustomization")));
    world.update();
    for (plural, before) in ALL.into_iter().zip(before) {
        assert_eq!(world.versions(plural), before, "{plural}");
    }
}

#[test]
fn a_burst_is_told_as_its_outcome() {
    let mut world = World::with([]);
    for state in [State::Pending, State::Progressing, State::Failed, State::Ready] {
        world.event(Event::Apply(Box::new(kustomization("apps", "a").state(state, 1).build())));
    }
    let published = world.update().map(|(resource, published)| (resource.plural, published));
    let of = |plural| published.iter().find(|(name, _)| *name == plural).unwrap().1;
    assert_eq!(of(SUMMARIES), Published { added: 1, modified: 0, deleted: 0 });
    assert_eq!(of(RESOURCES), Published { added: 1, modified: 0, deleted: 0 });
}
