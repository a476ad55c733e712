//! The annotations of objects, and which of them are trusted.

use super::*;

/// The annotation for objects that are exempt from the freeze `noon` of the policy `p`.
const EXEMPT: &str = "p/noon@2027-01-06T12:00:00Z";

fn annotated(mut object: Value, annotations: Value) -> Value {
    object["metadata"]["annotations"] = annotations;
    object
}

/// The `managedFields` of an object that Gatehouse suspended.
fn own_entry() -> Value {
    json!([{"manager": "gatehouse", "operation": "Apply", "fieldsV1": {
        "f:metadata": {"f:annotations": {"f:gatehouse.dev/frozen-by": {}, "f:fluxcd.controlplane.io/suspendedBy": {}}},
        "f:spec": {"f:suspend": {}},
    }}])
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_suspended_is_not_resumed_for_a_mark_that_anybody_can_write() {
    let api = api();
    api.put(policy("p", "Deny", NOON));
    let marks =
        json!({"gatehouse.dev/frozen-by": "p/noon", "fluxcd.controlplane.io/suspendedBy": "gatehouse"});
    api.put(annotated(kustomization("forged", json!({"suspend": true})), marks.clone()));
    let mut by_update = annotated(kustomization("by-update", json!({"suspend": true})), marks);
    by_update["metadata"]["managedFields"] = own_entry();
    by_update["metadata"]["managedFields"][0]["operation"] = json!("Update");
    api.put(by_update);
    // Ownership without the annotation is not enough either.
    let mut unmarked = kustomization("unmarked", json!({"suspend": true}));
    unmarked["metadata"]["managedFields"] = own_entry();
    api.put(unmarked);
    for (name, word) in [("disabled", "disabled"), ("spelled", "DisAbled")] {
        let before = json!({"fluxcd.controlplane.io/reconcile": word});
        api.put(annotated(object("ResourceSet", "apps", name, json!({})), before));
    }
    let running = run(api, "2027-01-06T12:10:00Z");
    running.until("2027-01-06T13:10:00Z").await;
    for name in ["forged", "by-update", "unmarked"] {
        assert!(running.is_suspended(name), "{name}");
    }
    for (name, word) in [("disabled", "disabled"), ("spelled", "DisAbled")] {
        let set = running.api.get(OPERATOR, "resourcesets", "apps", name).unwrap();
        assert_eq!(set["metadata"]["annotations"], json!({"fluxcd.controlplane.io/reconcile": word}));
    }
    assert_eq!(running.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_object_that_was_admitted_suspended_is_let_go_at_the_end() {
    let api = api();
    api.put(policy("p", "Deny", NOON));
    let marks =
        json!({"gatehouse.dev/frozen-by": "p/noon", "fluxcd.controlplane.io/suspendedBy": "gatehouse"});
    for kind in ["Kustomization", "GitRepository"] {
        let mut new = annotated(object(kind, "apps", "new", json!({"suspend": true})), marks.clone());
        new["metadata"]["managedFields"] = own_entry();
        api.put(new);
    }
    let running = run(api, "2027-01-06T12:10:00Z");
    running.until("2027-01-06T12:59:50Z").await;
    assert_eq!(running.writes(), 0, "it is held as it should be");
    running.until("2027-01-06T13:00:00Z").await;
    for (group, plural) in [(KUSTOMIZE, "kustomizations"), ("source.toolkit.fluxcd.io", "gitrepositories")] {
        let new = running.api.get(group, plural, "apps", "new").unwrap();
        assert_eq!((&new["spec"], &new["metadata"]["annotations"]), (&json!({}), &json!({})), "{plural}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_holds_too_stays_when_a_freeze_lets_go() {
    let api = api();
    api.put(policy("p", "Deny", NOON));
    api.put(kustomization("a", json!({})));
    let running = run(api, "2027-01-06T12:10:00Z");
    running.until("2027-01-06T12:11:00Z").await;
    let mut shared = running.kustomization("a");
    let entry = json!({"manager": "kustomize-controller", "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}});
    shared["metadata"]["managedFields"].as_array_mut().unwrap().push(entry);
    running.api.put(shared);
    running.until("2027-01-06T13:00:00Z").await;
    assert!(running.is_suspended("a"), "its owner suspended it meanwhile");
    assert_eq!(running.kustomization("a")["metadata"]["annotations"], json!({}));
    let writes = running.writes();
    running.until("2027-01-06T14:00:00Z").await;
    assert_eq!(running.writes(), writes);
}

#[tokio::test(start_paused = true)]
async fn what_an_exempt_person_resumed_or_made_is_left_to_them_for_this_freeze() {
    let api = api();
    api.put(policy("p", "Deny", NOON));
    api.put(kustomization("a", json!({})));
    let running = run(api, "2027-01-06T12:10:00Z");
    running.until("2027-01-06T12:11:00Z").await;
    let mut resumed = running.kustomization("a");
    resumed["spec"]["suspend"] = json!(false);
    resumed["metadata"]["annotations"]["gatehouse.dev/exempt-from"] = json!(EXEMPT);
    running.api.put(resumed);
    running.api.put(annotated(kustomization("new", json!({})), json!({"gatehouse.dev/exempt-from": EXEMPT})));
    let stale = json!({"gatehouse.dev/exempt-from": "p/noon@2027-01-05T12:00:00Z"});
    running.api.put(annotated(kustomization("stale", json!({})), stale));
    running.until("2027-01-06T12:59:50Z").await;
    assert!(!running.is_suspended("a") && !running.is_suspended("new") && running.is_suspended("stale"));
    assert_eq!(
        running.kustomization("a")["metadata"]["annotations"],
        json!({"gatehouse.dev/exempt-from": EXEMPT})
    );
    // Gatehouse owns the annotation, so no apply by a parent removes it.
    let entries = running.kustomization("a")["metadata"]["managedFields"].to_string();
    assert!(entries.contains("f:gatehouse.dev/exempt-from"), "{entries}");
    running.until("2027-01-06T13:01:00Z").await;
    for name in ["a", "new", "stale"] {
        assert!(!running.is_suspended(name));
        assert_eq!(running.kustomization(name)["metadata"]["annotations"], json!({}), "{name}");
    }
    running.until("2027-01-07T12:01:00Z").await;
    assert!(running.is_suspended("a") && running.is_suspended("new"), "the next one holds them");
}

#[tokio::test(start_paused = true)]
async fn what_is_noted_of_a_suspension_is_held_and_survives_a_parent() {
    for rules in [SHORT, r#"{"suspension": {"requireReason": true}}"#] {
        let api = api();
        api.put(policy("p", "Deny", rules));
        let notes = json!({
            "gatehouse.dev/suspend-reason": "repair", "fluxcd.controlplane.io/suspendedBy": "jane",
            "gatehouse.dev/suspended-at": "2027-01-06T09:59:00Z", "own": "x",
        });
        api.put(annotated(kustomization("a", json!({"suspend": true})), notes.clone()));
        let running = run(api, "2027-01-06T10:00:00Z");
        running.until("2027-01-06T10:01:00Z").await;
        assert_eq!(running.kustomization("a")["metadata"]["annotations"], notes);
        let entries = running.kustomization("a")["metadata"]["managedFields"].to_string();
        for name in ["suspend-reason", "suspendedBy", "suspended-at"] {
            assert!(entries.contains(name), "{name}: {entries}");
        }
        assert!(!entries.contains("f:own") && !entries.contains("f:suspend\""), "{entries}");
        let writes = running.writes();
        running.until("2027-01-06T11:50:00Z").await;
        assert_eq!(running.writes(), writes, "once is enough");
        // Another reason replaces the owned one.
        let mut other = running.kustomization("a");
        other["metadata"]["annotations"]["gatehouse.dev/suspend-reason"] = json!("longer repair");
        running.api.put(other);
        running.until("2027-01-06T11:51:00Z").await;
        assert_eq!(running.annotation("a", "gatehouse.dev/suspend-reason").as_deref(), Some("longer repair"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_annotation_that_suspends_nothing_is_not_taken_away() {
    let api = api();
    api.put(policy("p", "Deny", SHORT));
    let left = json!({"fluxcd.controlplane.io/reconcile": "disabled"});
    api.put(annotated(kustomization("a", json!({})), left.clone()));
    let running = run(api, "2027-01-06T10:00:00Z");
    running.until("2027-01-06T18:00:00Z").await;
    assert_eq!(running.kustomization("a")["metadata"]["annotations"], left);
    assert_eq!(running.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_going_is_let_go_so_that_flux_prunes() {
    let api = api();
    api.put(policy("p", "Deny", NOON));
    api.put(kustomization("a", json!({})));
    let running = run(api, "2027-01-06T12:10:00Z");
    running.until("2027-01-06T12:11:00Z").await;
    assert!(running.is_suspended("a"));
    running.api.put(json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "apps", "labels": {"tenant": "a"}, "deletionTimestamp": "2027-01-06T12:11:00Z"}}));
    running.until("2027-01-06T12:11:03Z").await;
    assert!(!running.is_suspended("a"));
}
