//! Tests of what is read and kept of Applications.

use serde_json::{Value, json};

use super::*;
use crate::{Interner, Record, State, Verdict, testing::CATALOGUE};

fn observe(object: &Value) -> Record {
    let id = CATALOGUE.find("argoproj.io", "Application").unwrap();
    let mut object = object.clone();
    object["metadata"] = json!({"name": "shop", "namespace": "argocd"});
    CATALOGUE.observe(id, &object.to_string(), &Interner::default(), 1_000_000).unwrap()
}

fn application(object: &Value) -> Application {
    let record = observe(object);
    record.application().unwrap_or_else(|| panic!("{record:?}")).clone()
}

fn shop() -> Value {
    json!({
        "spec": {
            "project": "web", "destination": {"server": "https://kubernetes.default.svc", "namespace": "shop"},
            "source": {"repoURL": "https://git.example.com/x", "path": "."},
        },
        "status": {
            "sync": {"status": "Synced", "revision": "3f6c1d0a"}, "health": {"status": "Healthy"},
            "operationState": {"phase": "Succeeded", "startedAt": "1970-01-01T23:00:00Z", "finishedAt": "1970-01-02T00:00:00Z"},
            "resources": [{"kind": "Service", "namespace": "shop", "name": "web", "status": "Synced"}],
        },
    })
}

#[test]
fn an_application_tells_sync_and_health_apart_with_revision_and_destination() {
    let expected = Application {
        project: "web".into(),
        sync: "Synced".into(),
        health: "Healthy".into(),
        revision: Some("3f6c1d0a".into()),
        destination: [Some("https://kubernetes.default.svc".into()), Some("shop".into())],
        operation: Some(("Succeeded".into(), Some(86_400))),
        ..Application::default()
    };
    // What it has applied is among its links.
    let told = Application { links: None, ..application(&shop()) };
    let project = told.project_object.clone().expect("its project");
    assert_eq!((&*project.namespace, &*project.name), ("argocd", "web"));
    assert_eq!(Application { project_object: None, ..told }, expected);
    let empty = application(&json!({}));
    assert_eq!((&*empty.project, &*empty.sync, empty.operation), ("default", "", None));
}

#[test]
fn of_several_sources_all_revisions_are_told() {
    let mut object = shop();
    object["status"]["sync"] = json!({"status": "Synced", "revisions": ["1.2.3", "abc"]});
    assert_eq!(application(&object).revision.as_deref(), Some("1.2.3,abc"));
    object["spec"]["destination"] = json!({"name": "edge", "server": "https://192.0.2.1"});
    assert_eq!(application(&object).destination, [Some("edge".into()), None]);
}

#[test]
fn the_error_matters_more_than_the_warning_before_it_and_the_cause_more_than_what_follows() {
    let with = |types: &[&str]| {
        let mut object = shop();
        let conditions = types.iter().map(|type_| json!({"type": type_, "message": format!("of {type_}")}));
        object["status"]["conditions"] = conditions.collect();
        application(&object).condition.map(|condition| (condition.0.to_string(), condition.1.to_string()))
    };
    let named = |type_: &str| Some((type_.to_owned(), format!("of {type_}")));
    assert_eq!(with(&["OrphanedResourceWarning", "ComparisonError"]), named("ComparisonError"));
    assert_eq!(with(&["SyncError", "InvalidSpecError"]), named("InvalidSpecError"));
    assert_eq!(with(&["SharedResourceWarning", "NewError"]), named("NewError"));
    assert_eq!(with(&["SharedResourceWarning", "OrphanedResourceWarning"]), named("SharedResourceWarning"));
    assert_eq!(with(&[]), None);
}

#[test]
fn the_resource_that_could_not_be_synced_is_the_culprit_before_a_degraded_one() {
    let mut object = shop();
    object["status"]["resources"] = json!([
        {"kind": "Service", "name": "web", "status": "OutOfSync", "health": {"status": "Healthy"}},
        {"kind": "Deployment", "namespace": "shop", "name": "web", "status": "OutOfSync",
            "health": {"status": "Degraded", "message": "deadline"}},
    ]);
    let told = application(&object);
    let named = |told: &Application| {
        let culprit = told.culprit.as_ref().unwrap();
        format!("{}/{} {}: {}", culprit.kind, culprit.name, culprit.reason, culprit.message)
    };
    assert_eq!((named(&told), told.drifted), ("Deployment/web Degraded: deadline".to_owned(), 2));
    object["status"]["operationState"]["syncResult"] = json!({"resources": [
        {"kind": "Service", "name": "web", "status": "Synced", "hookPhase": "Running"},
        {"kind": "Job", "name": "migrate", "hookPhase": "Failed", "message": "exit code 1"},
    ]});
    assert_eq!(
        named(&application(&object)),
        "Deployment/web Degraded: deadline",
        "of an operation that is over"
    );
    object["status"]["operationState"]["phase"] = json!("Failed");
    assert_eq!(named(&application(&object)), "Job/migrate Failed: exit code 1");
}

#[test]
fn an_application_that_waits_for_its_project_keeps_what_it_tells() {
    let mut object = shop();
    object["status"]["sync"]["status"] = json!("OutOfSync");
    object["spec"]["syncPolicy"] = json!({"automated": {"selfHeal": true}});
    let record = observe(&object);
    assert_eq!(record.links().unwrap().uses.len(), 1, "its project");
    assert!(record.application().unwrap().has_drifted());
    assert_eq!(record.links().unwrap().own, record.verdict);
}

#[test]
fn what_has_the_wrong_shape_makes_the_application_unknown_and_names_the_field() {
    for (field, value, message) in [
        ("/status/resources", json!({}), "status.resources: expected a list, got a map"),
        (
            "/status/resources/0/status",
            json!(1),
            "status.resources[].status: expected a string, got a number",
        ),
        ("/status/sync/revision", json!(["a"]), "status.sync.revision: expected a string, got a list"),
        (
            "/status/operationState/finishedAt",
            json!("soon"),
            "status.operationState.finishedAt: expected an RFC 3339 timestamp, got \"soon\"",
        ),
        ("/spec/project", json!({}), "spec.project: expected a string, got a map"),
        ("/spec/destination", json!("here"), ""),
    ] {
        let mut object = shop();
        *object.pointer_mut(field).unwrap() = value;
        let record = observe(&object);
        if message.is_empty() {
            assert_eq!(record.application().unwrap().destination, [None, None], "{field}");
        } else {
            assert_eq!((record.verdict.state, &*record.verdict.message), (State::Unknown, message));
        }
    }
}

#[test]
fn what_a_hostile_application_tells_is_bounded() {
    let mut object = shop();
    let long = || json!("é".repeat(10_000));
    object["status"]["sync"] = json!({"status": long(), "revisions": vec![long(); 100]});
    object["status"]["conditions"] = (0..50).map(|_| json!({"type": "XError", "message": long()})).collect();
    object["status"]["resources"] =
        (0..100_000).map(|n| json!({"kind": "Pod", "name": n.to_string(), "status": "OutOfSync"})).collect();
    object["status"]["resources"][0]["health"] = json!({"status": "Degraded", "message": long()});
    let told = application(&object);
    assert_eq!(told.drifted, 100_000);
    assert!(told.revision.unwrap().len() <= Application::SOURCES * 254);
    assert!(told.condition.unwrap().1.len() <= Verdict::MESSAGE_BYTES);
    assert!(told.culprit.unwrap().message.len() <= Verdict::MESSAGE_BYTES);
    assert!(told.sync.len() <= 64);
}

#[test]
fn an_application_that_is_well_takes_little() {
    let record = observe(&shop());
    assert_eq!(record.verdict.state, State::Ready);
    assert!(record.size() <= 650, "{}", record.size());
}

#[test]
fn a_culprit_that_failed_by_itself_leads_to_its_object_in_the_own_cluster_alone() {
    let object_of = |object: &Value| {
        let culprit = application(object).culprit.expect("a culprit");
        culprit.object.map(|key| format!("{}/{}", key.namespace, key.name))
    };
    let mut object = shop();
    object["status"]["resources"] = json!([{"group": "apps", "kind": "Deployment", "namespace": "shop", "name": "web",
        "status": "Synced", "health": {"status": "Degraded"}}]);
    assert_eq!(object_of(&object).as_deref(), Some("shop/web"));
    object["spec"]["destination"] = json!({"server": "https://192.0.2.1"});
    assert_eq!(object_of(&object), None, "it is in another cluster");
    let mut object = shop();
    object["status"]["operationState"] = json!({"phase": "Failed", "syncResult": {"resources": [
        {"group": "batch", "kind": "Job", "namespace": "shop", "name": "migrate", "hookPhase": "Failed"},
    ]}});
    assert_eq!(object_of(&object).as_deref(), Some("shop/migrate"));
    let resource = &mut object["status"]["operationState"]["syncResult"]["resources"][0];
    *resource = json!({"group": "apps", "kind": "Deployment", "namespace": "shop", "name": "web", "status": "SyncFailed"});
    assert_eq!(object_of(&object), None, "what could not be synced does not say so itself");
    object["status"]["operationState"]["syncResult"]["resources"][0] =
        json!({"group": "x.example", "kind": "Thing", "name": "t", "hookPhase": "Error"});
    assert_eq!(object_of(&object), None, "objects of this kind are not observed");
}

#[test]
fn the_last_revision_that_was_synced_and_the_one_that_could_not_be_are_told() {
    let synced = |object: &Value| application(object).synced.map(|synced| *synced).unwrap_or_default();
    assert_eq!(synced(&shop()), SyncedRevisions::default());
    let mut object = shop();
    object["status"]["history"] = json!([
        {"id": 0, "revision": "abc", "deployedAt": "1970-01-01T00:01:00Z"},
        {"id": 1, "revisions": ["1.2.3", "def"], "deployedAt": "1970-01-01T00:02:00Z"},
    ]);
    assert_eq!(synced(&object).good, Some(("1.2.3,def".into(), Some(120))));
    object["status"]["operationState"] = json!({"phase": "Failed", "finishedAt": "1970-01-01T00:03:00Z",
        "operation": {"sync": {"revision": "1.3.0"}}});
    assert_eq!(synced(&object).failed, Some(("1.3.0".into(), Some(180))));
    object["status"]["operationState"]["syncResult"] = json!({"revision": "1.3.1"});
    assert_eq!(synced(&object).failed, Some(("1.3.1".into(), Some(180))));
    object["status"]["operationState"]["phase"] = json!("Succeeded");
    assert_eq!(synced(&object).failed, None);
    object["status"]["history"][1]["deployedAt"] = json!(7);
    let record = observe(&object);
    let message = "status.history[].deployedAt: expected a string, got a number";
    assert_eq!((record.verdict.state, &*record.verdict.message), (State::Unknown, message));
}
