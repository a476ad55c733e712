//! Tests of the rows of `fluxresources`.

use gatehouse_inventory::State;
use serde_json::json;

use super::{
    records::{key, kustomization, object},
    *,
};

const ROW: &str = "apps/local.kustomization.web";

fn web() -> records::Builder {
    kustomization("apps", "web")
}

#[test]
fn a_resource_is_told_in_full() {
    let source = object(kind("GitRepository"), "flux-system", "fleet").state(State::Failed, 500);
    let web = web()
        .state(State::Failed, 300)
        .revision("main@sha1:0647aea75b85755411e0b2b2b2f3b1f2a6c1a7b1")
        .source(key(kind("GitRepository"), "flux-system", "fleet"));
    let world = World::with([source.build(), web.build(), records::namespace("apps", Some("team-a"))]);
    let mut object = world.object(RESOURCES, ROW);
    object["metadata"]["resourceVersion"] = json!("VERSION");
    insta::assert_json_snapshot!("resource", object);
    let shown = ["Kind", "Object", "State", "Revision", "Suspended", "Blocked-By", "Age", "Message"]
        .map(|column| world.cell(RESOURCES, ROW, column));
    let expected = json!([
        "Kustomization",
        "web",
        "Failed",
        "main@sha1:0647aea7",
        "False",
        "GitRepository/flux-system/fleet",
        "5m",
        "web is Failed",
    ]);
    assert_eq!(json!(shown), expected);
}

#[test]
fn names_tell_cluster_and_kind_in_lower_case() {
    let world = World::with([
        web().build(),
        object(kind("HelmRelease"), "apps", "web").build(),
        object(kind("Node"), "", "not-flux").build(),
        object(kind("FluxReport"), "flux-system", "flux").build(),
    ]);
    assert_eq!(world.names(RESOURCES), ["apps/local.helmrelease.web", ROW]);
}

#[test]
fn readiness_follows_the_state_and_does_not_flap_while_a_controller_is_at_work() {
    for (state, last_outcome, expected) in [
        (State::Ready, None, "True"),
        (State::Suspended, None, "Unknown"),
        (State::Suspended, Some(State::Ready), "True"),
        (State::Suspended, Some(State::Failed), "False"),
        (State::Terminating, None, "Unknown"),
        (State::Pending, None, "Unknown"),
        (State::Progressing, None, "Unknown"),
        (State::Progressing, Some(State::Ready), "True"),
        (State::Progressing, Some(State::Stalled), "False"),
        (State::Unknown, None, "Unknown"),
        (State::Blocked, None, "False"),
        (State::Failing, None, "False"),
        (State::Failed, None, "False"),
        (State::Stalled, None, "False"),
    ] {
        let web = web().state(state, 7);
        let web = if let Some(outcome) = last_outcome { web.last_outcome(outcome) } else { web };
        let world = World::with([web.build()]);
        let (status, reason, since) = world.condition(RESOURCES, ROW, "Ready");
        assert_eq!(status, expected, "{state}, {last_outcome:?}");
        assert_eq!((reason.as_str(), since), (state.as_str(), NOW - 7));
    }
}

#[test]
fn a_suspended_object_names_who_suspended_it() {
    let world = World::with([web().suspended_by("alice").last_outcome(State::Ready).build()]);
    let shown =
        ["Suspended", "Suspended-By", "Last-Outcome"].map(|column| world.cell(RESOURCES, ROW, column));
    assert_eq!(shown, ["True", "alice", "Ready"]);
    assert_eq!(world.status_of(RESOURCES, ROW)["suspended"], true);
}

#[test]
fn an_object_that_does_not_tell_since_when_has_no_age() {
    let world = World::with([web().state(State::Pending, 0).since(None).build()]);
    assert_eq!(world.cell(RESOURCES, ROW, "Age"), "");
    assert_eq!(world.status_of(RESOURCES, ROW).get("since"), None);
}

#[test]
fn a_failed_source_is_the_cause_even_behind_another_source() {
    let repository = object(kind("HelmRepository"), "apps", "charts");
    let chart = object(kind("HelmChart"), "apps", "apps-web").state(State::Failed, 50).source(key(
        kind("HelmRepository"),
        "apps",
        "charts",
    ));
    let release = object(kind("HelmRelease"), "apps", "web").state(State::Failed, 40).source(key(
        kind("HelmChart"),
        "apps",
        "apps-web",
    ));
    let mut world = World::with([repository.clone().build(), chart.build(), release.build()]);
    let cause = |world: &World| world.cell(RESOURCES, "apps/local.helmrelease.web", "Blocked-By");
    assert_eq!(cause(&world), "HelmChart/apps/apps-web");
    world.apply(repository.clone().state(State::Failed, 30).build());
    assert_eq!(cause(&world), "HelmRepository/apps/charts");
    world.apply(repository.build());
    assert_eq!(cause(&world), "HelmChart/apps/apps-web");
}

#[test]
fn a_deadline_that_passes_changes_the_row_without_an_event() {
    let mut world = World::with([web().fails_at(NOW + 10).build()]);
    world.hear(LOCAL);
    world.pass(9);
    assert_eq!(world.status_of(RESOURCES, ROW)["state"], "Ready");
    world.pass(1);
    let status = world.status_of(RESOURCES, ROW);
    assert_eq!((&status["state"], &status["reason"]), (&json!("Failed"), &json!("Expired")));
    assert_eq!(world.status_of(SUMMARIES, "apps/local")["failed"], 1);
}

/// Guards the phrases of `watchcache/packed.rs`, which must follow the names of the fields.
#[test]
fn packing_halves_a_row() {
    let web = web()
        .state(State::Ready, 300)
        .revision("main@sha1:0647aea75b85755411e0b2b2b2f3b1f2a6c1a7b1")
        .source(key(kind("GitRepository"), "apps", "flux-system"))
        .depends_on(&["apps/base"]);
    let base = kustomization("apps", "base");
    let world = World::with([web.build(), base.build(), records::namespace("apps", Some("team-a"))]);
    for plural in [RESOURCES, "fluxdependencies"] {
        let row = world.find(plural, ROW);
        let mut written = Vec::new();
        row.write_object(&mut written);
        row.write_cells(NOW, &mut written);
        let (packed, written) = (row.size() - size_of::<Row>(), written.len());
        assert!(2 * packed < written, "{plural}: {packed} bytes for {written}");
    }
}

#[test]
fn what_two_objects_apply_is_told_on_both() {
    let other = || kustomization("apps", "other");
    let own = web().applied(&["apps_shop_apps_Deployment", "apps_own__Service"]);
    let mut world = World::with([own.build(), other().applied(&["apps_shop_apps_Deployment"]).build()]);
    let twice = |world: &World, row| world.condition(RESOURCES, row, "ManagedTwice");
    let message = |world: &World, row| {
        let status = world.status_of(RESOURCES, row);
        let conditions = status["conditions"].as_array().unwrap().clone();
        conditions.iter().find(|one| one["type"] == "ManagedTwice").map(|one| one["message"].clone())
    };
    let both = "Deployment/apps/shop is applied by";
    assert_eq!(message(&world, ROW), Some(json!(format!("{both} Kustomization/apps/other as well"))));
    let row = "apps/local.kustomization.other";
    assert_eq!(message(&world, row), Some(json!(format!("{both} Kustomization/apps/web as well"))));
    assert_eq!(twice(&world, row).0, "True");
    assert_eq!(world.status_of(RESOURCES, ROW)["applied"], 2);
    world.apply(other().applied(&["apps_shop_apps_StatefulSet"]).build());
    assert_eq!((message(&world, ROW), message(&world, row)), (None, None));
    let argo = object(kind("Application"), "argocd", "shop").uses([]).applied(&["apps_shop_apps_Deployment"]);
    world.apply(argo.build());
    assert_eq!(message(&world, ROW), Some(json!(format!("{both} Application/argocd/shop as well"))));
    world.delete(&key(kind("Application"), "argocd", "shop"));
    assert_eq!(message(&world, ROW), None);
}
