//! Tests of the rows of `clusterhealths`.

use gatehouse_inventory::State;
use serde_json::json;

use super::{
    records::{kustomization, namespace, node, object},
    *,
};

const ROW: &str = "/local";

fn cell(world: &World, column: &str) -> Value {
    world.cell(HEALTHS, ROW, column)
}

fn healthy(world: &World) -> (String, String) {
    let (status, reason, _) = world.condition(HEALTHS, ROW, "Healthy");
    (status, reason)
}

fn deployment(name: &str) -> records::Builder {
    object(kind("Deployment"), "apps", name)
}

fn certificate(name: &str) -> records::Builder {
    object(kind("Certificate"), "apps", name)
}

#[test]
fn a_cluster_where_all_is_well_says_so_in_every_cell() {
    let world = World::with([
        node("a", "v1.36.0").build(),
        node("b", "v1.36.0").build(),
        kustomization("apps", "web").build(),
        kustomization("apps", "off").suspended_by("alice").build(),
        deployment("web").build(),
    ]);
    assert_eq!(["Nodes", "Flux", "Workloads"].map(|layer| cell(&world, layer)), ["2/2", "1/1", "1/1"]);
    assert_eq!(cell(&world, "Storage"), "-", "served, and nothing there");
    assert_eq!(
        ["Health", "Reason", "Version"].map(|column| cell(&world, column)),
        ["Healthy", "", "v1.36.0"]
    );
    assert_eq!(healthy(&world), ("True".into(), "Healthy".into()));
    assert_eq!(world.names(HEALTHS), [ROW], "cluster-scoped");
}

#[test]
fn a_failure_degrades_its_layer_and_the_cluster_and_is_named() {
    let world = World::with([
        certificate("a").build(),
        certificate("b").state(State::Failed, 10).build(),
        certificate("c").state(State::Progressing, 10).build(),
        certificate("d").build(),
    ]);
    assert_eq!(cell(&world, "Certs"), "2/4");
    assert_eq!(cell(&world, "Health"), "Degraded");
    assert_eq!(cell(&world, "Reason"), "Certificates: 1 failed");
    assert_eq!(healthy(&world), ("False".into(), "Degraded".into()));
    let layers = world.status_of(HEALTHS, ROW)["layers"].take();
    let layer = layers.as_array().unwrap().iter().find(|layer| layer["name"] == "Certificates").unwrap();
    assert_eq!((&layer["failures"][0]["name"], &layer["progressing"]), (&json!("b"), &json!(1)));
}

#[test]
fn a_layer_names_five_failures_and_counts_the_others() {
    let nodes = (0..8).map(|n| node(&format!("n{n}"), "v1.36.0").state(State::Failed, n).build());
    let world = World::with(nodes);
    let layers = world.status_of(HEALTHS, ROW)["layers"].take();
    assert_eq!(layers[0]["name"], "Nodes");
    assert_eq!(layers[0]["failures"].as_array().unwrap().len(), 5);
    assert_eq!(layers[0]["failuresOmitted"], 3);
    assert_eq!(cell(&world, "Reason"), "Nodes: 8 failed");
}

#[test]
fn what_is_under_way_is_progressing_unless_it_had_succeeded_before() {
    let mut world = World::with([deployment("new").state(State::Progressing, 5).build()]);
    assert_eq!(
        (cell(&world, "Health"), cell(&world, "Reason")),
        (json!("Progressing"), json!("Workloads: 1 progressing"))
    );
    assert_eq!(healthy(&world), ("True".into(), "Progressing".into()), "nothing has failed");
    world.apply(deployment("new").state(State::Progressing, 5).last_outcome(State::Ready).build());
    assert_eq!((cell(&world, "Health"), cell(&world, "Workloads")), (json!("Healthy"), json!("1/1")));
}

#[test]
fn a_retry_under_way_of_what_had_failed_is_told_as_failed() {
    let retried = kustomization("apps", "web").state(State::Progressing, 5).last_outcome(State::Failed);
    let world = World::with([retried.build()]);
    assert_eq!(cell(&world, "Health"), "Degraded");
    let status = world.status_of(HEALTHS, ROW);
    let layers = status["layers"].as_array().unwrap();
    let flux = layers.iter().find(|layer| layer["name"] == "Flux").unwrap();
    assert_eq!(flux["failures"][0]["state"], "Failed", "a failure has the state of one");
}

#[test]
fn objects_that_could_not_be_judged_leave_the_layer_unknown() {
    let world = World::with([deployment("odd").state(State::Unknown, 5).build()]);
    assert_eq!(cell(&world, "Workloads"), "0/1?");
    assert_eq!(cell(&world, "Reason"), "Workloads: 1 unknown");
    assert_eq!(healthy(&world), ("Unknown".into(), "Unknown".into()));
}

#[test]
fn a_kind_that_may_not_be_read_is_unknown_and_never_zero() {
    let mut world = World::with([]);
    let forbidden = || KindStatus::Forbidden { message: "may not list nodes".into() };
    world.status(kind("Node"), forbidden());
    assert_eq!(cell(&world, "Nodes"), "?");
    assert_eq!(cell(&world, "Health"), "Unknown");
    assert_eq!(cell(&world, "Reason"), "Nodes: Node forbidden");
    assert_eq!(healthy(&world).0, "Unknown");
    let kinds = world.status_of(HEALTHS, ROW)["layers"][0]["kinds"].take();
    let reported = json!([{
        "kind": "Node", "group": "", "observed": "Forbidden", "message": "may not list nodes",
        "total": 0, "failed": 0,
    }]);
    assert_eq!(kinds, reported);
    world.status(kind("StatefulSet"), forbidden());
    world.apply(deployment("web").build());
    assert_eq!(cell(&world, "Workloads"), "1/1?", "one kind of three is unknown");
}

#[test]
fn a_kind_that_appears_and_cannot_be_listed_is_unknown_and_never_zero() {
    let mut world = World::with([]);
    world.status(kind("Certificate"), KindStatus::Absent);
    assert_eq!(cell(&world, "Certs"), "-");
    world.status(kind("Certificate"), KindStatus::Failing { message: "timeout".into() });
    assert_eq!(cell(&world, "Certs"), "?");
    assert_eq!(cell(&world, "Reason"), "Certificates: Certificate failing");
    world.status(kind("Certificate"), KindStatus::Served { version: "v1".into() });
    assert_eq!(cell(&world, "Certs"), "?", "it answers, but the list is not there yet");
    world.event(Event::Restart(kind("Certificate")));
    world.apply(certificate("a").build());
    world.event(Event::Synced(kind("Certificate")));
    world.update();
    assert_eq!(cell(&world, "Certs"), "1/1");
}

#[test]
fn layers_without_kinds_are_left_out() {
    let mut world = World::with([]);
    let layers = |world: &World| -> Vec<String> {
        let status = world.status_of(HEALTHS, ROW);
        let layers = status["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(layers(&world), gatehouse_inventory::Layer::ALL.map(gatehouse_inventory::Layer::as_str));
    for of_layer in ["Certificate", "Issuer", "ClusterIssuer", "Order", "Challenge", "Bundle"] {
        world.status(kind(of_layer), KindStatus::Absent);
    }
    assert!(!layers(&world).contains(&"Certificates".to_owned()));
    assert_eq!(cell(&world, "Certs"), "-");
}

#[test]
fn several_layers_give_their_reasons_in_order() {
    let world = World::with([
        deployment("web").state(State::Failed, 5).build(),
        node("a", "v1.36.0").state(State::Failed, 5).build(),
        certificate("c").state(State::Pending, 5).build(),
    ]);
    let reason = "Nodes: 1 failed, Workloads: 1 failed, Certificates: 1 progressing";
    assert_eq!(cell(&world, "Reason"), reason);
}

#[test]
fn a_cluster_that_does_not_answer_is_not_reachable_from_then_on() {
    let mut world = World::with([node("a", "v1.36.0").build()]);
    world.now += 20;
    world.event(Event::Liveness(Liveness::Silent { message: "connection refused".into() }));
    world.update();
    let reachable = |world: &World| world.condition(HEALTHS, ROW, "Reachable");
    assert_eq!(reachable(&world), ("False".into(), "Silent".into(), NOW + 20));
    assert_eq!(cell(&world, "Health"), "Unknown");
    assert_eq!(cell(&world, "Reason"), "unreachable: connection refused");
    assert_eq!(cell(&world, "Fresh"), "True", "for a moment, what is known still holds");
    world.pass(40);
    assert_eq!(cell(&world, "Fresh"), "False");
    world.hear(LOCAL);
    world.pass(1);
    assert_eq!(reachable(&world), ("True".into(), "Answers".into(), NOW + 60));
    assert_eq!((cell(&world, "Fresh"), cell(&world, "Health")), (json!("True"), json!("Healthy")));
}

#[test]
fn a_certificate_that_expires_degrades_the_cluster_when_its_time_has_come() {
    let mut world = World::with([certificate("a").fails_at(NOW + 25).build()]);
    world.pass(24);
    assert_eq!(cell(&world, "Health"), "Healthy");
    world.pass(1);
    assert_eq!((cell(&world, "Health"), cell(&world, "Certs")), (json!("Degraded"), json!("0/1")));
    assert_eq!(world.condition(HEALTHS, ROW, "Healthy").2, NOW + 25);
}

#[test]
fn nodes_of_different_versions_are_a_warning_and_no_more() {
    let mut world = World::with([
        node("a", "v1.36.0").build(),
        node("b", "v1.36.0").build(),
        node("c", "v1.35.2").build(),
    ]);
    let warning = json!(["nodes run different kubelet versions: v1.35.2 on 1, v1.36.0 on 2"]);
    assert_eq!(world.status_of(HEALTHS, ROW)["warnings"], warning);
    assert_eq!(cell(&world, "Health"), "Healthy");
    world.apply(node("c", "v1.36.0").build());
    assert_eq!(world.status_of(HEALTHS, ROW).get("warnings"), None);
}

#[test]
fn a_health_is_told_in_full() {
    let flux = CATALOGUE.kinds().filter(|(_, kind)| kind.is_flux());
    let kept: Vec<_> = flux.map(|(id, _)| id).take(2).chain([kind("Node"), kind("Deployment")]).collect();
    let mut world = World::with([
        namespace("kube-system", None),
        node("a", "v1.36.0").state(State::Failed, 10).build(),
        deployment("web").build(),
    ]);
    for (id, _) in CATALOGUE.kinds() {
        if !kept.contains(&id) {
            world.event(Event::Kind(id, KindStatus::Absent));
        }
    }
    world.update();
    let mut object = world.object(HEALTHS, ROW);
    object["metadata"]["resourceVersion"] = json!("VERSION");
    insta::assert_json_snapshot!("health", object);
}
