//! Tests of the rows of `argosummaries`.

use gatehouse_inventory::State;
use serde_json::json;

use super::{
    applications::application,
    records::{key, kustomization, namespace, object},
    *,
};

const ROW: &str = "argocd/local";

const COLUMNS: [&str; 8] =
    ["Total", "Synced", "Out-Of-Sync", "Healthy", "Degraded", "Progressing", "Failed", "Drifted"];

fn counts(world: &World) -> [Value; 8] {
    COLUMNS.map(|column| world.cell(ARGO, ROW, column))
}

fn conditions(world: &World) -> [String; 2] {
    ["Ready", "Synced"].map(|condition| world.condition(ARGO, ROW, condition).0)
}

#[test]
fn sync_health_drift_and_failure_are_counted_apart() {
    let mut world = World::with([
        namespace("argocd", Some("platform")),
        application("well", |_| {}).build(),
        application("drifted", |it| it.sync = "OutOfSync".into()).state(State::Suspended, 5).build(),
    ]);
    assert_eq!(counts(&world), [2, 1, 1, 2, 0, 0, 0, 1]);
    assert_eq!(
        (conditions(&world), world.cell(ARGO, ROW, "Worst")),
        (["True".into(), "False".into()], json!(""))
    );
    let broken = |it: &mut gatehouse_inventory::Application| {
        (it.sync, it.health) = ("OutOfSync".into(), "Degraded".into());
    };
    world.apply(application("broken", broken).state(State::Failed, 60).build());
    assert_eq!(counts(&world), [3, 1, 2, 2, 1, 0, 1, 1], "a failed one is none of the drifted");
    assert_eq!(conditions(&world), ["False", "False"]);
    let worst = ["Worst", "Oldest-Failure"].map(|column| world.cell(ARGO, ROW, column));
    assert_eq!(worst, ["Application/broken Failed", "61s"]);
    let mut summary = world.object(ARGO, ROW);
    summary["metadata"]["resourceVersion"] = json!("VERSION");
    insta::assert_json_snapshot!("argo", summary);
}

#[test]
fn words_that_are_not_argo_s_and_objects_that_cannot_be_read_count_as_unknown() {
    let odd = object(kind("Application.argoproj"), "argocd", "odd").state(State::Unknown, 5);
    let strange = application("strange", |it| (it.sync, it.health) = ("Sunk".into(), "Happy".into()));
    let world = World::with([odd.build(), strange.build()]);
    let status = world.status_of(ARGO, ROW);
    assert_eq!((&status["sync"]["unknown"], &status["health"]["unknown"]), (&json!(2), &json!(2)));
    assert_eq!(conditions(&world), ["Unknown", "Unknown"]);
}

#[test]
fn a_namespace_has_a_row_as_long_as_it_holds_applications() {
    let mut world = World::with([kustomization("argocd", "web").build()]);
    assert_eq!(world.names(ARGO), [""; 0]);
    world.apply(application("well", |_| {}).build());
    assert_eq!(world.names(ARGO), [ROW]);
    world.apply(namespace("argocd", Some("platform")));
    assert_eq!(world.object(ARGO, ROW)["metadata"]["labels"]["gatehouse.dev/tenant"], "platform");
    let before = world.versions(SUMMARIES);
    world.delete(&key(kind("Application.argoproj"), "argocd", "well"));
    assert_eq!((world.names(ARGO).len(), world.changed_since(SUMMARIES, &before).len()), (0, 0));
}

#[test]
fn applications_that_may_not_be_read_leave_readiness_open() {
    let mut world = World::with([application("well", |_| {}).build()]);
    world.status(kind("Application.argoproj"), KindStatus::Forbidden { message: "may not list".into() });
    assert_eq!(world.condition(ARGO, ROW, "Ready").1, "KindsUnreadable");
    assert_eq!(world.status_of(ARGO, ROW)["unreadable"][0]["kind"], "Application");
}
