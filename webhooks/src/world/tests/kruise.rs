//! Sets of OpenKruiseGame and their pods in the world: each server is counted once.

use super::*;

fn sets() -> GroupResource {
    GroupResource::new("game.kruise.io", "gameserversets")
}

fn pods() -> GroupResource {
    GroupResource::new("", "pods")
}

fn containers(cpu: &str) -> Value {
    json!([{"name": "game", "resources": {"requests": {"cpu": cpu}}}])
}

fn set(name: &str, version: u64, replicas: u64, cpu: &str) -> Value {
    json!({"apiVersion": "game.kruise.io/v1alpha1", "kind": "GameServerSet",
           "metadata": {"name": name, "namespace": "games", "uid": format!("uid-{version}"),
                        "resourceVersion": version.to_string()},
           "spec": {"replicas": replicas, "gameServerTemplate": {"spec": {"containers": containers(cpu)}}}})
}

fn pod(set: &str, number: u64, version: u64, cpu: &str) -> Value {
    json!({"metadata": {"name": format!("{set}-{number}"), "namespace": "games", "uid": format!("uid-{set}-{number}"),
                        "resourceVersion": version.to_string(), "labels": {"game.kruise.io/owner-gss": set}},
           "spec": {"containers": containers(cpu)}})
}

/// Servers and cores.
fn used(builder: &Builder) -> (String, String) {
    let snapshot = builder.snapshot();
    snapshot
        .usage_of("games")
        .map(|used| (of(used, "gameservers"), of(used, "requests.cpu")))
        .unwrap_or_default()
}

fn two(servers: &str, cpu: &str) -> (String, String) {
    (servers.into(), cpu.into())
}

#[test]
fn a_set_counts_for_the_larger_of_its_template_and_its_pods() {
    let mut builder = Builder::new();
    // Kinds are listed concurrently.
    builder.apply(&pods(), &pod("set", 0, 2, "1"));
    assert_eq!(used(&builder), two("1", "1"));
    builder.apply(&sets(), &set("set", 3, 2, "1"));
    assert_eq!(used(&builder), two("2", "2"));
    // By what a GameServer states for it.
    builder.apply(&pods(), &pod("set", 1, 4, "9"));
    assert_eq!(used(&builder), two("2", "10"));
    assert_eq!(of(builder.snapshot().usage_of("games").unwrap(), "count/pods"), "2");
    // A template that was made smaller, and an update strategy that keeps the pods.
    builder.apply(&sets(), &set("set", 5, 2, "100m"));
    assert_eq!(used(&builder), two("2", "10"));
    builder.apply(&sets(), &set("set", 6, 30, "100m"));
    assert_eq!(used(&builder), two("30", "10"));
    // In-place resize.
    builder.apply(&pods(), &pod("set", 0, 7, "2"));
    assert_eq!(used(&builder), two("30", "11"));
    builder.delete(&pods(), "games", "set-1");
    assert_eq!(used(&builder), two("30", "3"));
    let snapshot = builder.snapshot();
    assert_eq!(of(&snapshot.pods_of_set("games", "set"), "requests.cpu"), "2");
    assert_eq!(of(&snapshot.pods_of_set("games", "other"), "requests.cpu"), "0");
}

#[test]
fn pods_count_until_they_are_gone_whatever_becomes_of_their_set() {
    let mut builder = Builder::new();
    builder.apply(&sets(), &set("set", 2, 2, "1"));
    builder.apply(&pods(), &pod("set", 0, 3, "1")).apply(&pods(), &pod("set", 1, 4, "1"));
    let mut going = pod("set", 1, 5, "1");
    going["metadata"]["deletionTimestamp"] = "2026-11-29T00:00:00Z".into();
    builder.apply(&pods(), &going);
    assert_eq!(used(&builder), two("2", "2"), "none replaces it before it is gone");
    builder.delete(&sets(), "games", "set");
    assert_eq!(used(&builder), two("2", "2"), "they end later");
    builder.apply(&sets(), &set("set", 6, 1, "1"));
    assert_eq!(used(&builder), two("2", "2"), "another set of that name");
    builder.delete(&pods(), "games", "set-1").delete(&pods(), "games", "set-0");
    assert_eq!(used(&builder), two("1", "1"));
    builder.delete(&sets(), "games", "set");
    assert_eq!(builder.snapshot().usage_of("games"), None);
}

#[test]
fn a_pod_of_a_set_is_no_part_of_what_agones_may_replace() {
    let mut builder = Builder::new();
    builder.namespace("games", &[("tenant", "a")]).apply(&quotas(), &quota("a", 1, &[("gameservers", "10")]));
    builder.apply(&sets(), &set("set", 2, 4, "1")).apply(&pods(), &pod("set", 0, 3, "1"));
    let snapshot = builder.snapshot();
    assert_eq!(of(&snapshot.used(&snapshot.quotas[0]), "gameservers"), "4");
    assert_eq!(snapshot.standing(&snapshot.quotas[0]), gatehouse_quota::Weight::default());
}

#[test]
fn without_the_right_to_watch_pods_all_else_is_decided_as_ever() {
    let mut builder = Builder::new();
    builder.namespace("games", &[("tenant", "a")]).apply(&quotas(), &quota("a", 1, &[("gameservers", "10")]));
    let forbidden = || Change::Status(KindStatus::Forbidden { message: "pods is forbidden".into() });
    builder.take(&pods(), forbidden());
    let snapshot = builder.snapshot();
    assert_eq!(snapshot.obstacles(&snapshot.quotas[0]), []);
    assert_eq!(snapshot.kinds[&pods()].status, Some(KindStatus::Absent));
    builder.take(&sets(), forbidden());
    let snapshot = builder.snapshot();
    assert_eq!(snapshot.obstacles(&snapshot.quotas[0]).len(), 1);
}
