//! Tests of the rows of `fluxdependencies`.

use gatehouse_inventory::{ForeignName, Reference, State};
use serde_json::json;

use super::{
    records::{key, kustomization},
    *,
};

fn place(name: &str) -> String {
    format!("apps/local.kustomization.{name}")
}

fn blocked(name: &str, on: &[&str]) -> Record {
    kustomization("apps", name).state(State::Blocked, 10).depends_on(on).build()
}

fn cell(world: &World, name: &str, column: &str) -> Value {
    world.cell(DEPENDENCIES, &place(name), column)
}

fn ready(world: &World, name: &str) -> (String, String) {
    let (status, reason, _) = world.condition(DEPENDENCIES, &place(name), "Ready");
    (status, reason)
}

#[test]
fn only_what_depends_or_is_depended_on_has_a_row() {
    let mut world = World::with([
        kustomization("apps", "base").build(),
        kustomization("apps", "web").depends_on(&["apps/base"]).build(),
        kustomization("apps", "alone").build(),
    ]);
    assert_eq!(world.names(DEPENDENCIES), [place("base"), place("web")]);
    assert_eq!(cell(&world, "base", "Dependents"), 1);
    world.apply(kustomization("apps", "web").build());
    assert_eq!(world.names(DEPENDENCIES), [""; 0], "the last edge takes both rows away");
}

#[test]
fn depth_counts_the_longest_chain_below() {
    let mut world = World::with([
        kustomization("apps", "a").build(),
        kustomization("apps", "b").depends_on(&["apps/a"]).build(),
        kustomization("apps", "c").depends_on(&["apps/b", "apps/a"]).build(),
    ]);
    assert_eq!(["a", "b", "c"].map(|name| cell(&world, name, "Depth")), [0, 1, 2]);
    world.apply(kustomization("apps", "a").depends_on(&["apps/z"]).build());
    assert_eq!(["a", "b", "c"].map(|name| cell(&world, name, "Depth")), [1, 2, 3]);
}

#[test]
fn a_missing_dependency_is_named_and_said_to_be_missing() {
    let mut world = World::with([blocked("web", &["apps/nowhere"])]);
    assert_eq!(cell(&world, "web", "Blocked-By"), "Kustomization/apps/nowhere (missing)");
    let status = world.status_of(DEPENDENCIES, &place("web"));
    let named = json!([
        { "kind": "Kustomization", "namespace": "apps", "name": "nowhere", "state": "Missing" }
    ]);
    assert_eq!(status["dependsOn"], named);
    assert_eq!(status["blockedBy"]["reason"], "DependencyMissing");
    assert_eq!(ready(&world, "web"), ("False".into(), "DependencyNotReady".into()));
    world.apply(kustomization("apps", "nowhere").build());
    assert_eq!(cell(&world, "web", "Blocked-By"), "", "it exists now");
    assert_eq!(ready(&world, "web"), ("True".into(), "DependenciesReady".into()));
}

#[test]
fn a_cycle_is_told_with_its_members_in_order_on_each_of_them() {
    let mut world = World::with([
        blocked("a", &["apps/b"]),
        blocked("b", &["apps/c"]),
        blocked("c", &["apps/a"]),
        blocked("outside", &["apps/b"]),
    ]);
    let path = |world: &World, field: &str, name: &str| -> Vec<String> {
        let status = world.status_of(DEPENDENCIES, &place(name));
        let members = status.pointer(field).and_then(Value::as_array).cloned().unwrap_or_default();
        members.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(path(&world, "/cyclePath", "a"), ["a", "b", "c"]);
    assert_eq!(path(&world, "/cyclePath", "c"), ["c", "a", "b"]);
    assert_eq!(["a", "outside"].map(|name| cell(&world, name, "Cycle")), ["True", "False"]);
    assert_eq!(cell(&world, "outside", "Blocked-By"), "Kustomization/apps/b (cycle)");
    assert_eq!(path(&world, "/blockedBy/path", "outside"), ["b", "c", "a"]);
    assert_eq!(cell(&world, "outside", "Depth"), 1, "a cycle counts once");
    world.apply(kustomization("apps", "c").state(State::Ready, 0).build());
    assert_eq!(cell(&world, "a", "Cycle"), "False", "the cycle was opened");
    assert_eq!(cell(&world, "a", "Depth"), 2);
}

#[test]
fn an_object_that_depends_on_itself_is_a_cycle_of_one() {
    let world = World::with([blocked("a", &["apps/a"])]);
    assert_eq!(cell(&world, "a", "Cycle"), "True");
    assert_eq!(cell(&world, "a", "Blocked-By"), "Kustomization/apps/a (cycle)");
}

#[test]
fn edges_cross_namespaces() {
    let mut world = World::with([
        kustomization("flux-system", "infra").state(State::Failed, 60).build(),
        blocked("web", &["flux-system/infra"]),
    ]);
    assert_eq!(world.names(DEPENDENCIES), [place("web"), "flux-system/local.kustomization.infra".into()]);
    assert_eq!(cell(&world, "web", "Blocked-By"), "Kustomization/flux-system/infra");
    assert_eq!(cell(&world, "web", "Message"), "infra is Failed");
    world.apply(kustomization("flux-system", "infra").state(State::Stalled, 0).build());
    assert_eq!(cell(&world, "web", "Message"), "infra is Stalled");
}

#[test]
fn the_chain_to_the_root_is_told_and_kept_up() {
    let mut world = World::with([
        kustomization("apps", "root").state(State::Failed, 60).build(),
        blocked("one", &["apps/root"]),
        blocked("two", &["apps/one"]),
        blocked("three", &["apps/two"]),
    ]);
    let chain = |world: &World| world.status_of(DEPENDENCIES, &place("three"))["blockedBy"].take();
    let step = |name: &str| json!({ "kind": "Kustomization", "namespace": "apps", "name": name });
    assert_eq!(chain(&world)["path"], json!([step("two"), step("one")]));
    assert_eq!(chain(&world)["message"], "root is Failed");
    world.apply(kustomization("apps", "root").state(State::Progressing, 0).build());
    assert_eq!(chain(&world)["reason"], "DependencyNotReady");
    assert_eq!(chain(&world)["state"], "Progressing");
}

#[test]
fn a_path_in_a_row_is_bounded() {
    let name = |n: usize| format!("n{n:02}");
    let records = (0..40).map(|n| match n {
        0 => kustomization("apps", &name(0)).state(State::Failed, 1).build(),
        n => blocked(&name(n), &[&format!("apps/{}", name(n - 1))]),
    });
    let world = World::with(records);
    let status = world.status_of(DEPENDENCIES, &place("n39"));
    assert_eq!(status["blockedBy"]["name"], "n00", "the root is found however far away");
    assert_eq!(status["blockedBy"]["path"].as_array().unwrap().len(), 16);
    assert_eq!(status["depth"], 39);
}

#[test]
fn a_dependency_of_a_kind_that_is_not_observed_is_unknown_and_not_missing() {
    let foreign = Reference::Foreign(Box::new(ForeignName {
        api_version: "example.com/v1".into(),
        kind: "Widget".into(),
        namespace: "apps".into(),
        name: "w".into(),
    }));
    let web = kustomization("apps", "web").state(State::Blocked, 5).depends_on_any(vec![foreign]);
    let world = World::with([web.build()]);
    assert_eq!(world.status_of(DEPENDENCIES, &place("web"))["dependsOn"][0]["state"], "Unknown");
    assert_eq!(ready(&world, "web"), ("Unknown".into(), "DependencyUnknown".into()));
    assert_eq!(cell(&world, "web", "Blocked-By"), "Widget/apps/w");
}

#[test]
fn a_dependency_whose_kind_may_not_be_read_is_unknown_until_it_may() {
    let release = Reference::Known(key(kind("HelmRelease"), "apps", "db"));
    let web = kustomization("apps", "web").state(State::Blocked, 5).depends_on_any(vec![release]).build();
    let mut world = World::with([web]);
    let state = |world: &World| world.status_of(DEPENDENCIES, &place("web"))["dependsOn"][0]["state"].take();
    assert_eq!(state(&world), "Missing");
    world.status(kind("HelmRelease"), KindStatus::Forbidden { message: "no".into() });
    assert_eq!(state(&world), "Unknown");
    assert_eq!(world.cell(RESOURCES, &place("web"), "Blocked-By"), "HelmRelease/apps/db");
    world.status(kind("HelmRelease"), KindStatus::Served { version: "v2".into() });
    assert_eq!(state(&world), "Missing");
    assert_eq!(world.cell(RESOURCES, &place("web"), "Blocked-By"), "HelmRelease/apps/db (missing)");
}

#[test]
fn a_dependency_suspended_while_ready_still_counts_as_ready() {
    let suspended = |outcome| kustomization("apps", "base").suspended_by("bob").last_outcome(outcome).build();
    let web = kustomization("apps", "web").depends_on(&["apps/base"]).build();
    let mut world = World::with([suspended(State::Ready), web]);
    assert_eq!(ready(&world, "web").0, "True");
    world.apply(suspended(State::Failed));
    assert_eq!(ready(&world, "web").0, "False");
}

#[test]
fn a_dependency_row_is_told_in_full() {
    let world = World::with([
        kustomization("flux-system", "infra").state(State::Failed, 60).build(),
        blocked("api", &["flux-system/infra"]),
        blocked("web", &["apps/api", "apps/w", "apps/x", "apps/y", "apps/z"]),
    ]);
    assert_eq!(cell(&world, "web", "Depends-On"), "api,w,x +2");
    let mut object = world.object(DEPENDENCIES, &place("web"));
    object["metadata"]["resourceVersion"] = json!("VERSION");
    insta::assert_json_snapshot!("dependency", object);
}
