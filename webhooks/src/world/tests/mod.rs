//! The world, filled by hand and by an in-process API server.

mod families;
mod follow;
mod kruise;
mod sums;

use std::collections::BTreeMap;

use gatehouse_inventory::{Interner, KindStatus};
use gatehouse_policy::{Dependencies, Kind, ObjectName};
use gatehouse_quota::{Amounts, Dimension, GroupResource, Quantity};
use serde_json::{Value, json};

use super::{testing::Builder, *};
use crate::world::{
    kinds::{POLICIES, Role},
    snapshot::UNHEARD,
    state::Change,
};

fn fleets() -> GroupResource {
    GroupResource::new("agones.dev", "fleets")
}

fn servers() -> GroupResource {
    GroupResource::new("pteronimbus.io", "gameservers")
}

fn templates() -> GroupResource {
    GroupResource::new("pteronimbus.io", "gametemplates")
}

fn kustomizations() -> &'static GroupResource {
    resource_of(Kind::Kustomization)
}

fn quotas() -> GroupResource {
    GroupResource::new("policy.gatehouse.dev", "tenantquotas")
}

fn fleet(name: &str, version: u64, replicas: u64) -> Value {
    json!({"apiVersion": "agones.dev/v1", "kind": "Fleet",
           "metadata": {"name": name, "namespace": "games", "uid": format!("uid-{name}"),
                        "resourceVersion": version.to_string(), "managedFields": [{"manager": "kubectl"}],
                        "creationTimestamp": "2026-01-02T03:04:05Z"},
           "spec": {"replicas": replicas, "template": {"spec": {"template": {"spec": {"containers": [
               {"name": "server", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]}}}}},
           "status": {"readyReplicas": 1}})
}

fn quota(name: &str, generation: i64, hard: &[(&str, &str)]) -> Value {
    let hard: BTreeMap<_, _> = hard.iter().copied().collect();
    json!({"apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota",
           "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1", "generation": generation},
           "spec": {"namespaceSelector": {"matchLabels": {"tenant": "a"}}, "hard": hard}})
}

fn of(amounts: &Amounts, dimension: &str) -> String {
    amounts.get(&dimension.parse::<Dimension>().unwrap()).to_string()
}

#[test]
fn what_an_object_takes_up_is_part_of_its_namespace_until_it_goes() {
    let mut builder = Builder::new();
    builder.namespace("games", &[("tenant", "a")]).apply(&fleets(), &fleet("lobby", 5, 4));
    let first = builder.snapshot();
    let used = first.usage_of("games").unwrap();
    assert_eq!((of(used, "gameservers"), of(used, "requests.cpu")), ("4".into(), "2".into()));
    assert_eq!(of(used, "count/fleets.agones.dev"), "1");

    builder.apply(&fleets(), &fleet("lobby", 7, 2));
    assert_eq!(of(builder.snapshot().usage_of("games").unwrap(), "gameservers"), "2");
    assert_eq!(of(first.usage_of("games").unwrap(), "gameservers"), "4", "a snapshot stays as it is");

    builder.delete(&fleets(), "games", "lobby");
    let gone = builder.snapshot();
    assert_eq!(gone.usage_of("games"), None);
    assert!(gone.was_deleted("uid-lobby") && gone.object_of_uid("uid-lobby").is_none());
}

#[test]
fn an_object_is_held_as_policies_see_it() {
    let mut builder = Builder::new();
    builder.apply(&fleets(), &fleet("lobby", 5, 4));
    let snapshot = builder.snapshot();
    let held = snapshot.object(&fleets(), "games", "lobby").unwrap();
    assert_eq!((held.resource_version, &*held.uid), (5, "uid-lobby"));
    assert_eq!(held.created.unwrap().to_string(), "2026-01-02T03:04:05Z");
    let subject = held.subject().unwrap();
    assert_eq!((subject.namespace.as_str(), subject.name.as_str()), ("games", "lobby"));
    assert!(
        subject.object.get("status").is_none() && subject.object["metadata"].get("managedFields").is_none()
    );
    assert_eq!(subject.object["spec"]["replicas"], 4);
    assert_eq!(snapshot.object_of_uid("uid-lobby").unwrap(), held);
}

#[test]
fn an_object_made_anew_under_the_same_name_is_another() {
    let mut builder = Builder::new();
    builder.apply(&fleets(), &fleet("lobby", 5, 4));
    let mut again = fleet("lobby", 9, 1);
    again["metadata"]["uid"] = "uid-2".into();
    builder.apply(&fleets(), &again);
    let snapshot = builder.snapshot();
    assert!(snapshot.was_deleted("uid-lobby") && !snapshot.was_deleted("uid-2"));
    assert!(snapshot.object_of_uid("uid-lobby").is_none());
    assert_eq!(of(snapshot.usage_of("games").unwrap(), "gameservers"), "1");
}

#[test]
fn what_a_list_leaves_out_is_gone_and_until_its_end_all_stays() {
    let mut builder = Builder::new();
    builder.apply(&fleets(), &fleet("a", 1, 1)).apply(&fleets(), &fleet("b", 2, 2));
    builder.take(&fleets(), Change::Restart);
    builder.apply(&fleets(), &fleet("b", 2, 2));
    assert_eq!(of(builder.snapshot().usage_of("games").unwrap(), "gameservers"), "3");
    builder.take(&fleets(), Change::Synced);
    builder.take(&fleets(), Change::Reached(8));
    let snapshot = builder.snapshot();
    assert_eq!(of(snapshot.usage_of("games").unwrap(), "gameservers"), "2");
    assert!(snapshot.was_deleted("uid-a"));
    assert_eq!(snapshot.kinds[&fleets()].revision, Some(8));
}

#[test]
fn an_odd_object_is_counted_and_named_odd() {
    let mut builder = Builder::new();
    let mut odd = fleet("lobby", 5, 0);
    odd["spec"]["replicas"] = "many".into();
    builder.apply(&fleets(), &odd);
    let snapshot = builder.snapshot();
    let held = snapshot.object(&fleets(), "games", "lobby").unwrap();
    assert!(held.usage_error.as_ref().unwrap().contains("spec.replicas"), "{held:?}");
    assert_eq!(of(snapshot.usage_of("games").unwrap(), "count/fleets.agones.dev"), "1");
}

fn server(name: &str, template: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "games", "uid": name, "resourceVersion": "3"},
           "spec": {"templateRef": {"name": template}}})
}

fn template(version: u64, cpu: &str) -> Value {
    json!({"metadata": {"name": "minecraft", "namespace": "games", "uid": "t", "resourceVersion": version.to_string()},
           "spec": {"resources": {"cpu": cpu}}})
}

#[test]
fn a_template_that_comes_changes_or_goes_tells_its_servers_anew() {
    let mut builder = Builder::new();
    builder.apply(&servers(), &server("one", "minecraft")).apply(&servers(), &server("two", "other"));
    let used = |builder: &Builder| {
        let snapshot = builder.snapshot();
        let used = snapshot.usage_of("games").unwrap();
        (of(used, "gameservers"), of(used, "requests.cpu"))
    };
    // A server without its template counts as one server.
    assert_eq!(used(&builder), ("2".into(), "0".into()));
    builder.apply(&templates(), &template(4, "2"));
    assert_eq!(used(&builder), ("2".into(), "2".into()));
    builder.apply(&templates(), &template(5, "3"));
    assert_eq!(used(&builder), ("2".into(), "3".into()));
    builder.delete(&templates(), "games", "minecraft");
    assert_eq!(used(&builder), ("2".into(), "0".into()));
    assert!(!builder.snapshot().was_deleted("one"));
}

#[test]
fn a_runtime_class_that_comes_changes_or_goes_changes_the_usage_of_its_servers() {
    let classes = GroupResource::new("node.k8s.io", "runtimeclasses");
    let class = |version: u64, cpu: &str| {
        json!({"metadata": {"name": "gvisor", "uid": "c", "resourceVersion": version.to_string()},
               "handler": "runsc", "overhead": {"podFixed": {"cpu": cpu}}})
    };
    let mut lobby = fleet("lobby", 3, 4);
    lobby["spec"]["template"]["spec"]["template"]["spec"]["runtimeClassName"] = "gvisor".into();
    let mut builder = Builder::new();
    builder.apply(&fleets(), &lobby).apply(&fleets(), &fleet("other", 4, 2));
    let used = |builder: &Builder| of(builder.snapshot().usage_of("games").unwrap(), "requests.cpu");
    assert_eq!(used(&builder), "3");
    builder.apply(&classes, &class(5, "250m"));
    assert_eq!(used(&builder), "4");
    builder.apply(&classes, &class(6, "500m"));
    assert_eq!(used(&builder), "5");
    builder.delete(&classes, "", "gvisor");
    assert_eq!(used(&builder), "3");
}

#[test]
fn a_quota_uses_what_its_namespaces_hold_of_what_it_limits() {
    let mut builder = Builder::new();
    builder
        .namespace("games", &[("tenant", "a")])
        .namespace("others", &[("tenant", "b")])
        .apply(&quotas(), &quota("a", 1, &[("gameservers", "10")]))
        .apply(&fleets(), &fleet("lobby", 5, 4));
    let mut elsewhere = fleet("elsewhere", 6, 8);
    elsewhere["metadata"]["namespace"] = "others".into();
    builder.apply(&fleets(), &elsewhere);
    let snapshot = builder.snapshot();
    let [quota] = &*snapshot.quotas else { panic!("{:?}", snapshot.quotas) };
    let expected: Amounts = [(Dimension::GameServers, Quantity::from_integer(4))].into_iter().collect();
    assert_eq!(snapshot.used(quota), expected);
    builder.namespace("others", &[("tenant", "a")]);
    assert_eq!(of(&builder.snapshot().used(quota), "gameservers"), "12");
}

#[test]
fn what_does_not_compile_is_kept_apart_with_its_errors() {
    let mut builder = Builder::new();
    builder.apply(&quotas(), &quota("a", 1, &[("players", "-1")]));
    let snapshot = builder.snapshot();
    assert!(snapshot.quotas.is_empty());
    let [broken] = &*snapshot.broken_quotas else { panic!("{:?}", snapshot.broken_quotas) };
    assert_eq!((&*broken.name, broken.generation), ("a", 1));
    assert!(broken.errors[0].field.contains("players"), "{:?}", broken.errors);
    builder.apply(&quotas(), &quota("a", 2, &[("players", "1")]));
    let snapshot = builder.snapshot();
    assert!(snapshot.broken_quotas.is_empty() && snapshot.quotas.len() == 1);
}

#[test]
fn a_change_of_status_alone_compiles_nothing() {
    let mut builder = Builder::new();
    builder.apply(&quotas(), &quota("a", 1, &[("players", "1")]));
    let before = builder.snapshot();
    let mut again = quota("a", 1, &[("players", "1")]);
    again["metadata"]["resourceVersion"] = "2".into();
    again["status"] = json!({"denied": 3});
    builder.apply(&quotas(), &again);
    let after = builder.snapshot();
    assert!(Arc::ptr_eq(&before.quotas[0], &after.quotas[0]));
    assert_eq!(after.tenant_quotas["a"].status.as_ref().unwrap().denied, 3);
}

#[test]
fn what_objects_depend_on_is_known_by_name() {
    let mut builder = Builder::new();
    let app = json!({"metadata": {"name": "app", "namespace": "apps", "uid": "u", "resourceVersion": "1"},
                     "spec": {"dependsOn": [{"name": "base"}, {"name": "crds", "namespace": "infra"}]}});
    builder.apply(kustomizations(), &app);
    let snapshot = builder.snapshot();
    let name = |namespace: &str, name: &str| ObjectName {
        group: kustomizations().group.clone(),
        kind: "Kustomization".into(),
        namespace: namespace.into(),
        name: name.into(),
    };
    let expected = vec![name("apps", "base"), name("infra", "crds")];
    assert_eq!(snapshot.depends_on(&name("apps", "app")), Some(expected));
    assert_eq!(snapshot.depends_on(&name("apps", "base")), None);
}

#[test]
fn deleted_uids_are_forgotten_after_a_while() {
    let mut builder = Builder::new();
    for index in 0..20_000 {
        let name = format!("f-{index}");
        builder.apply(&fleets(), &fleet(&name, index + 1, 0)).delete(&fleets(), "games", &name);
    }
    let snapshot = builder.snapshot();
    assert!(snapshot.was_deleted("uid-f-19999") && !snapshot.was_deleted("uid-f-0"));
    assert_eq!(snapshot.deleted.len(), 16_384);
}

#[tokio::test(start_paused = true)]
async fn policies_that_are_not_heard_of_for_long_are_not_judged_by() {
    let mut builder = Builder::new();
    let failing = |message: &str| Change::Status(KindStatus::Failing { message: message.into() });
    builder.take(&POLICIES, failing("refused"));
    builder.take(&fleets(), failing("conversion"));
    tokio::time::sleep(UNHEARD).await;
    builder.take(&POLICIES, failing("no answer"));
    assert_eq!(builder.snapshot().readiness(), Ok(()), "an API server may be replaced meanwhile");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let problem = builder.snapshot().readiness().unwrap_err();
    assert_eq!(problem, "reconcilepolicies.policy.gatehouse.dev were last refreshed 62 s ago");
    builder.take(&POLICIES, Change::Status(KindStatus::Served { version: "v1alpha1".into() }));
    assert_eq!(builder.snapshot().readiness(), Ok(()), "whatever becomes of other kinds");
}

/// A HelmRelease with a megabyte of values.
fn large_release(version: u64) -> Value {
    let values: Vec<_> = (0..50_000).map(|number| json!({"number": number})).collect();
    json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": {"name": "large", "namespace": "apps", "uid": "u-large", "resourceVersion": version.to_string(),
                     "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x".repeat(200_000)}},
        "spec": {"interval": "1m", "suspend": true, "dependsOn": [{"name": "other"}], "values": values},
    })
}

#[test]
fn of_a_large_object_only_what_rules_look_at_is_kept() {
    let mut builder = Builder::new();
    let releases = kinds::resource_of(Kind::HelmRelease);
    builder.apply(releases, &large_release(7));
    let snapshot = builder.snapshot();
    let held = snapshot.object(releases, "apps", "large").expect("held");
    assert!(!held.is_whole());
    let value = held.value().expect("kept");
    assert!(value.to_string().len() < 400, "{value}");
    assert_eq!(held.depends_on.len(), 1);
    let subject = held.subject().expect("governed");
    assert!(subject.is_suspended());
    assert_eq!(subject.spec()["interval"], "1m");
    let mut small = large_release(8);
    small["spec"]["values"] = json!({"kept": true});
    small["metadata"]["annotations"] = json!({});
    builder.apply(releases, &small);
    let snapshot = builder.snapshot();
    let held = snapshot.object(releases, "apps", "large").expect("held");
    assert!(held.is_whole());
    assert_eq!(held.value().expect("kept")["spec"]["values"]["kept"], true);
}

#[test]
fn a_namespace_whose_labels_cannot_be_read_is_not_one_without_labels() {
    let labels: serde_json::Map<_, _> = (0..200_000).map(|name| (format!("l{name}"), json!(""))).collect();
    let namespace = json!({"metadata": {"name": "n", "labels": labels}});
    let raw = serde_json::from_value(namespace).expect("an object");
    let error = observer::read(&raw, Role::Namespace, &Interner::default()).expect_err("too much");
    assert!(error.to_string().contains("metadata.labels.l"), "{error}");
}
