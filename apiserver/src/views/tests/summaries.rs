//! Tests of the rows of `fluxsummaries`.

use gatehouse_inventory::State;
use serde_json::json;

use super::{
    records::{kustomization, namespace, object},
    *,
};

const ROW: &str = "apps/local";

fn summary(world: &World) -> Value {
    world.status_of(SUMMARIES, ROW)
}

/// One object in each state. The worse the state, the shorter it has lasted.
fn one_in_each_state() -> Vec<Record> {
    let each = State::ALL.into_iter().zip([100, 90, 80, 70, 60, 50, 40, 30, 20, 10]);
    each.map(|(state, since)| kustomization("apps", state.as_str()).state(state, since).build()).collect()
}

fn ready(world: &World) -> (String, String) {
    let (status, reason, _) = world.condition(SUMMARIES, ROW, "Ready");
    (status, reason)
}

fn helm_release() -> gatehouse_inventory::catalogue::KindId {
    kind("HelmRelease")
}

#[test]
fn every_state_is_counted_once_and_failing_counts_as_failed() {
    let world = World::with(one_in_each_state());
    let status = summary(&world);
    assert_eq!((&status["total"], &status["failed"]), (&json!(10), &json!(2)), "Failed and Failing");
    for state in
        ["ready", "stalled", "blocked", "progressing", "suspended", "pending", "terminating", "unknown"]
    {
        assert_eq!(status[state], 1, "{state}");
    }
    assert_eq!(status["state"], "Stalled");
    let columns = ["Total", "Ready", "Failed", "Stalled", "Blocked", "Progressing", "Suspended"];
    assert_eq!(columns.map(|column| world.cell(SUMMARIES, ROW, column)), [10, 1, 2, 1, 1, 1, 1]);
    assert_eq!(world.cell(SUMMARIES, ROW, "Worst"), "Kustomization/Stalled Stalled");
}

#[test]
fn the_worst_failures_come_first_and_what_is_left_out_is_counted() {
    let failed = (0..12).map(|n| kustomization("apps", &format!("failed-{n:02}")).state(State::Failed, n));
    let stalled = kustomization("apps", "stalled").state(State::Stalled, 1);
    let blocked = kustomization("apps", "blocked").state(State::Blocked, 9_999);
    let world = World::with(failed.chain([stalled, blocked]).map(records::Builder::build));
    let status = summary(&world);
    let names: Vec<_> = status["failures"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names.len(), 5);
    assert_eq!(names[..3], ["stalled", "failed-11", "failed-10"], "gravest, then longest");
    assert_eq!(status["failuresOmitted"], 9);
    assert_eq!(status["oldestFailure"]["name"], "blocked", "even if it is not among the listed ones");
    assert_eq!(world.cell(SUMMARIES, ROW, "Oldest-Failure"), "166m");
}

#[test]
fn without_failures_there_is_no_oldest_and_no_worst() {
    let world = World::with([kustomization("apps", "fine").build()]);
    assert_eq!(summary(&world).get("oldestFailure"), None);
    assert_eq!(summary(&world)["failures"], json!([]));
    assert_eq!(world.cell(SUMMARIES, ROW, "Oldest-Failure"), "");
    assert_eq!(world.cell(SUMMARIES, ROW, "Worst"), "");
    assert_eq!(ready(&world), ("True".into(), "NoFailures".into()));
}

#[test]
fn a_failure_that_does_not_tell_since_when_is_no_oldest() {
    let world = World::with([
        kustomization("apps", "timeless").state(State::Failed, 0).since(None).build(),
        kustomization("apps", "young").state(State::Blocked, 5).build(),
    ]);
    assert_eq!(summary(&world)["oldestFailure"]["name"], "young");
}

#[test]
fn the_root_cause_of_the_worst_failure_is_told() {
    let world = World::with([
        kustomization("flux-system", "infra").state(State::Failed, 50).build(),
        kustomization("apps", "api").state(State::Blocked, 40).depends_on(&["flux-system/infra"]).build(),
        kustomization("apps", "web").state(State::Blocked, 30).depends_on(&["apps/api"]).build(),
    ]);
    assert_eq!(world.cell(SUMMARIES, ROW, "Root-Cause"), "Kustomization/flux-system/infra");
    let failures = summary(&world)["failures"].take();
    let root = json!({
        "reason": "DependencyFailed",
        "kind": "Kustomization", "namespace": "flux-system", "name": "infra",
        "state": "Failed",
        "message": "infra is Failed",
        "path": [{ "kind": "Kustomization", "namespace": "apps", "name": "api" }],
    });
    assert_eq!(failures[1]["blockedBy"], root, "{failures}");
}

#[test]
fn counts_are_also_told_by_kind() {
    let world = World::with([
        kustomization("apps", "a").build(),
        kustomization("apps", "b").state(State::Failing, 1).build(),
        object(helm_release(), "apps", "c").build(),
    ]);
    let status = summary(&world);
    let kinds: Vec<_> = status["kinds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|count| {
            // A count of zero is omitted.
            let counts = ["total", "ready", "failed"].map(|state| count[state].as_u64().unwrap_or(0));
            (count["kind"].as_str().unwrap(), counts)
        })
        .collect();
    let expected = [("Kustomization", [2, 1, 1]), ("HelmRelease", [1, 1, 0])];
    assert_eq!(kinds.len(), 2);
    for (kind, counts) in expected {
        assert!(kinds.iter().any(|(name, found)| *name == kind && *found == counts), "{kind}: {kinds:?}");
    }
}

#[test]
fn a_kind_that_may_not_be_read_leaves_readiness_open_and_is_named() {
    let mut world = World::with([kustomization("apps", "fine").build()]);
    world.status(helm_release(), KindStatus::Forbidden { message: "may not list helmreleases".into() });
    assert_eq!(ready(&world), ("Unknown".into(), "KindsUnreadable".into()));
    let named = json!([{
        "kind": "HelmRelease", "group": "helm.toolkit.fluxcd.io",
        "reason": "Forbidden", "message": "may not list helmreleases",
    }]);
    assert_eq!(summary(&world)["unreadable"], named);

    world.apply(kustomization("apps", "broken").state(State::Failed, 1).build());
    assert_eq!(ready(&world), ("False".into(), "Failures".into()), "what is known to fail is told first");

    world.delete(&records::key(kind("Kustomization"), "apps", "broken"));
    world.status(helm_release(), KindStatus::Served { version: "v2".into() });
    assert_eq!(ready(&world), ("True".into(), "NoFailures".into()));
}

#[test]
fn an_object_that_could_not_be_judged_leaves_readiness_open() {
    let world = World::with([kustomization("apps", "odd").state(State::Unknown, 1).build()]);
    assert_eq!(ready(&world), ("Unknown".into(), "ObjectsUnknown".into()));
    assert_eq!(world.cell(SUMMARIES, ROW, "Unknown"), 1);
}

#[test]
fn readiness_turns_when_its_status_does_and_not_when_the_message_does() {
    let mut world = World::with([kustomization("apps", "a").build()]);
    world.now += 100;
    world.apply(kustomization("apps", "a").state(State::Failed, -101).build());
    let turned = world.condition(SUMMARIES, ROW, "Ready");
    assert_eq!(turned, ("False".into(), "Failures".into(), NOW + 101));
    world.now += 100;
    world.apply(kustomization("apps", "b").state(State::Failed, 9_999).build());
    assert_eq!(world.condition(SUMMARIES, ROW, "Ready").2, turned.2, "still False since then");
}

#[test]
fn a_silent_cluster_is_told_stale_and_its_return_is_told_too() {
    let mut world = World::with([kustomization("apps", "a").build()]);
    assert_eq!(world.condition(SUMMARIES, ROW, "Fresh").0, "True");
    let refused = Liveness::Silent { message: "connection refused".into() };
    world.event(Event::Liveness(refused));
    world.pass(60);
    assert_eq!(world.condition(SUMMARIES, ROW, "Fresh"), ("False".into(), "ClusterSilent".into(), NOW + 60));
    assert_eq!(world.cell(SUMMARIES, ROW, "Fresh"), "False");
    assert_eq!(summary(&world)["total"], 1, "what is known is still told");
    world.hear(LOCAL);
    world.pass(1);
    assert_eq!(
        world.condition(SUMMARIES, ROW, "Fresh"),
        ("True".into(), "Observed".into(), NOW + 60),
        "at once"
    );
}

#[test]
fn a_failing_watch_makes_the_rows_with_that_kind_stale_from_then_on() {
    let mut world =
        World::with([kustomization("apps", "a").build(), object(helm_release(), "other", "b").build()]);
    world.status(kind("Kustomization"), KindStatus::Failing { message: "timeout".into() });
    world.now += 40;
    world.hear(LOCAL);
    world.pass(0);
    assert_eq!(world.condition(SUMMARIES, ROW, "Fresh"), ("False".into(), "WatchFailing".into(), NOW + 41));
    assert_eq!(world.condition(SUMMARIES, "other/local", "Fresh").0, "True");
    world.status(kind("Kustomization"), KindStatus::Served { version: "v1".into() });
    world.hear(LOCAL);
    world.pass(1);
    assert_eq!(world.condition(SUMMARIES, ROW, "Fresh"), ("True".into(), "Observed".into(), NOW + 43));
}

#[test]
fn counts_of_a_kind_that_may_no_longer_be_read_are_not_told_as_fresh() {
    let mut world = World::with([object(helm_release(), "apps", "a").build()]);
    world.status(helm_release(), KindStatus::Forbidden { message: "no longer".into() });
    world.now += 40;
    world.hear(LOCAL);
    world.pass(0);
    assert_eq!(world.condition(SUMMARIES, ROW, "Fresh").0, "False");
}

#[test]
fn a_summary_is_told_in_full() {
    let mut records = one_in_each_state();
    records.push(namespace("apps", Some("team-a")));
    let mut object = World::with(records).object(SUMMARIES, ROW);
    object["metadata"]["resourceVersion"] = json!("VERSION");
    insta::assert_json_snapshot!("summary", object);
}
