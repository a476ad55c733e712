//! Tests freezes as kube-apiserver sees them: what is held, what is admitted suspended, whose marks are valid, what is
//! kept.

use gatehouse_policy::{Kind, annotation};

use super::*;
use crate::world::Applied;

const CONTROLLER: &str = "system:serviceaccount:flux-system:kustomize-controller";
const TENANT: &str = "system:serviceaccount:n:flux";
const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
const MARK: &str = "p/day";

/// A policy `p` whose freeze `day` is always active, and which exempts root.
fn frozen() -> Site {
    let freeze = json!({"name": "day", "schedule": "0 0 * * *", "duration": "24h"});
    let spec =
        json!({"rules": {"freezes": [freeze]}, "exempt": {"users": ["root"]}, "defaults": {"timeout": "3m"}});
    Site::new(&[("p", spec)])
}

/// A policy is in force, and no freeze is active.
fn thawed() -> Site {
    Site::new(&[("p", strict("Warn"))])
}

/// A review by `user`, with the field manager `manager`.
fn by(user: &str, manager: &str, mut review: Value) -> Value {
    review["request"]["userInfo"]["username"] = json!(user);
    review["request"]["options"]["fieldManager"] = json!(manager);
    review
}

fn flux(review: Value) -> Value {
    by(CONTROLLER, "kustomize-controller", review)
}

fn changed(old: &Value, new: &Value) -> Value {
    let mut review = request::testing::review(FLUX, "kustomizations", new);
    review["request"]["operation"] = json!("UPDATE");
    review["request"]["oldObject"] = old.clone();
    review
}

fn deleted(old: &Value) -> Value {
    let mut review = changed(old, old);
    review["request"]["operation"] = json!("DELETE");
    review["request"]["object"] = Value::Null;
    review
}

/// The patch of a mutating review; `None` if there is none.
async fn patch(site: &Site, review: &Value) -> Option<json_patch::Patch> {
    let response = site.ask(Webhook::Mutate, review).await;
    assert_eq!(response["allowed"], true, "{response}");
    let patch: ByteString = serde_json::from_value(response.get("patch")?.clone()).expect("base64");
    Some(serde_json::from_slice(&patch.0).expect("a patch"))
}

/// The mutated object; `None` if there is no patch.
async fn mutated(site: &Site, review: &Value) -> Option<Value> {
    let patch = patch(site, review).await?;
    let mut object = review["request"]["object"].clone();
    json_patch::patch(&mut object, &patch).expect("it applies");
    Some(object)
}

async fn refusal(site: &Site, review: &Value) -> String {
    let response = site.validate(review).await;
    response["status"]["message"].as_str().unwrap_or_default().to_owned()
}

/// The managedFields entry of Gatehouse on an object that it holds.
fn entry() -> Value {
    let annotations = vec![annotation::FROZEN_BY, annotation::SUSPENDED_BY];
    let applied = Applied { suspension: true, annotations };
    applied.entry(Kind::Kustomization, "kustomize.toolkit.fluxcd.io/v1", jiff::Timestamp::UNIX_EPOCH)
}

/// A Kustomization that Gatehouse holds.
fn held() -> Value {
    let mut object = kustomization(&json!({"path": "a", "suspend": true, "timeout": "1m"}));
    object["metadata"]["annotations"] =
        json!({annotation::FROZEN_BY: MARK, annotation::SUSPENDED_BY: "gatehouse"});
    object["metadata"]["managedFields"] = json!([entry()]);
    object
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(parent).expect("it is there")[field.replace("~1", "/")] = value;
    object
}

#[tokio::test]
async fn what_flux_changes_stays_as_it_is_and_the_answer_says_so() {
    let site = frozen();
    let (old, new) = (json!({"path": "a", "timeout": "1m"}), json!({"path": "b", "timeout": "1m"}));
    for review in [flux(update(&old, &new)), by(TENANT, "kustomize-controller", update(&old, &new))] {
        assert_eq!(mutated(&site, &review).await, Some(kustomization(&old)));
        let response = site.ask(Webhook::Mutate, &review).await;
        let warning = response["warnings"][0].as_str().expect("a warning");
        assert!(warning.contains("the object stays as it is during the freeze p/day"), "{warning}");
        let annotations = json!({"policy": "p", "rule": "freezes", "decision": "held"});
        assert_eq!(response["auditAnnotations"], annotations);
        assert!(refusal(&site, &review).await.contains("nothing may change"), "what is not held is refused");
    }
    for user in ["jane", TENANT, OWN] {
        let review =
            by(user, if user == OWN { "kustomize-controller" } else { "kubectl" }, update(&old, &new));
        assert_eq!(mutated(&site, &review).await, None, "{user}");
        assert_eq!(refusal(&site, &review).await.is_empty(), user == OWN, "{user}");
    }
}

#[tokio::test]
async fn status_is_written_in_a_freeze() {
    let site = frozen();
    let old = kustomization(&json!({"path": "a"}));
    // A status update leaves the spec unchanged in kube-apiserver, so nothing else is judged there.
    let new = with(kustomization(&json!({"path": "b"})), "/status", json!({"observedGeneration": 2}));
    let mut review = flux(changed(&old, &new));
    review["request"]["subResource"] = json!("status");
    assert_eq!(patch(&site, &review).await, None);
    assert_eq!(refusal(&site, &review).await, "");
}

#[tokio::test]
async fn what_flux_makes_is_suspended_and_owned_by_gatehouse() {
    let site = frozen();
    let declared = kustomization(&json!({"path": "a"}));
    let others = json!([{"manager": "kustomize-controller", "operation": "Apply"}]);
    for (object, entries) in [
        (declared.clone(), 1),
        (with(declared.clone(), "/metadata/managedFields", others.clone()), 2),
        (with(declared.clone(), "/metadata/managedFields", Value::Null), 1),
        // Someone copied an object of the cluster into Git, with its mark.
        (with(declared.clone(), "/metadata/annotations", json!({annotation::FROZEN_BY: MARK})), 1),
    ] {
        let review = flux(request::testing::review(FLUX, "kustomizations", &object));
        let made = mutated(&site, &review).await.expect("it is changed");
        assert_eq!(
            (&made["spec"]["suspend"], &made["spec"]["timeout"]),
            (&json!(true), &json!("3m")),
            "{made}"
        );
        assert_eq!(made["metadata"]["annotations"][annotation::FROZEN_BY], MARK, "{made}");
        let fields = made["metadata"]["managedFields"].as_array().expect("entries");
        assert_eq!(fields.len(), entries, "{made}");
        assert_eq!(fields.last().expect("one")["manager"], "gatehouse");
        let review = flux(request::testing::review(FLUX, "kustomizations", &made));
        assert_eq!(refusal(&site, &review).await, "");
        for user in ["jane", "root"] {
            let forged = by(user, "kubectl", review.clone());
            let message = refusal(&site, &forged).await;
            assert!(
                message.contains("is reserved for Gatehouse and must not be changed"),
                "{user}: {message}"
            );
        }
    }
    // Gatehouse owns no field of a fleet: it gets servers when it is applied again.
    let fleet = json!({"apiVersion": "agones.dev/v1", "kind": "Fleet", "metadata": {"name": "f", "namespace": "n"}, "spec": {"replicas": 3}});
    let made = mutated(&site, &flux(request::testing::review("agones.dev", "fleets", &fleet))).await;
    assert_eq!(made, Some(with(fleet, "/spec/replicas", json!(0))));
}

#[tokio::test]
async fn what_is_too_large_to_be_made_as_it_was_is_refused() {
    let site = frozen();
    let filled = |path: &str, length| {
        kustomization(&json!({"path": path, "timeout": "1m", "patches": "x".repeat(length)}))
    };
    for (length, is_held) in [(100_000, true), (6_900_000, false)] {
        let review = flux(changed(&filled("a", length), &filled("b", length)));
        assert_eq!(patch(&site, &review).await.is_some(), is_held, "{length}");
        assert!(refusal(&site, &review).await.contains("nothing may change"));
    }
}

#[tokio::test]
async fn what_gatehouse_holds_is_kept_whoever_asks_but_for_the_collector() {
    let site = frozen();
    let references = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c"}]);
    let owned = with(held(), "/metadata/ownerReferences", references);
    for review in [deleted(&held()), changed(&held(), &owned)] {
        let message = refusal(&site, &by("root", "kubectl", review.clone())).await;
        assert!(message.contains("it is suspended by the freeze p/day"), "{message}");
        assert_eq!(refusal(&site, &by(COLLECTOR, "", review)).await, "");
    }
    // An owner that was named before, a label, and an object that is being deleted.
    let labelled = with(held(), "/metadata/labels", json!({"a": "b"}));
    let relabelled = with(owned.clone(), "/metadata/labels", json!({"a": "b"}));
    let going = with(held(), "/metadata/deletionTimestamp", json!("2026-11-29T00:00:00Z"));
    for review in [changed(&held(), &labelled), changed(&owned, &relabelled), deleted(&going)] {
        assert_eq!(refusal(&site, &by("root", "kubectl", review)).await, "");
    }
    // An object that is not suspended, not marked, or not suspended by Gatehouse may be deleted.
    for mine in [
        with(held(), "/spec/suspend", json!(false)),
        with(held(), "/metadata/annotations", json!({"gatehouse": "x"})),
        with(held(), "/metadata/managedFields", json!([{"manager": "kubectl"}])),
    ] {
        assert_eq!(refusal(&site, &by("root", "kubectl", deleted(&mine))).await, "", "{mine}");
    }
    // Without a policy in force, Gatehouse holds the object until it has released it.
    let message = refusal(&Site::new(&[]), &by("root", "kubectl", deleted(&held()))).await;
    assert!(message.contains("it is suspended by the freeze p/day"), "{message}");
}

#[tokio::test]
async fn nobody_writes_as_gatehouse() {
    let plain = kustomization(&json!({"path": "a", "interval": "10m", "prune": true, "suspend": true}));
    let with_entry = |entry: Value| with(plain.clone(), "/metadata/managedFields", json!([entry]));
    let own = with_entry(entry());
    let mut of_status = entry();
    of_status["subresource"] = json!("status");
    for site in [thawed(), Site::new(&[])] {
        for (old, new, expected) in [
            (Some(&plain), &own, "is reserved for Gatehouse: use another field manager"),
            (None, &own, "is reserved for Gatehouse: use another field manager"),
            (
                Some(&plain),
                &with_entry(of_status.clone()),
                "is reserved for Gatehouse: use another field manager",
            ),
            (
                Some(&plain),
                &with(plain.clone(), "/metadata/managedFields", json!("gatehouse")),
                "cannot be read",
            ),
            // An entry that someone took over, or that stays.
            (Some(&own), &own, ""),
            (Some(&own), &with(own.clone(), "/spec/suspend", json!(false)), ""),
            (Some(&own), &with(plain.clone(), "/spec/suspend", json!(false)), ""),
        ] {
            let review = match old {
                Some(old) => changed(old, new),
                None => request::testing::review(FLUX, "kustomizations", new),
            };
            for user in ["jane", "root", CONTROLLER] {
                let message = refusal(&site, &by(user, "kubectl", review.clone())).await;
                let is_right =
                    if expected.is_empty() { message.is_empty() } else { message.contains(expected) };
                assert!(is_right, "{user} {old:?} {new}: {message:?}");
            }
            // Gatehouse's own writes are not judged, nor entries on a kind that it never holds.
            assert_eq!(refusal(&site, &by(OWN, "gatehouse", review)).await, "");
        }
    }
    let fleet = json!({"apiVersion": "agones.dev/v1", "kind": "Fleet", "metadata": {"name": "f", "namespace": "n", "managedFields": [entry()]}, "spec": {}});
    let review = request::testing::review("agones.dev", "fleets", &fleet);
    assert_eq!(refusal(&thawed(), &by("jane", "kubectl", review)).await, "");
}
