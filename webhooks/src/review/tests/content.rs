//! Tests the content of objects: defaults, conditions, wrong shapes, scales, and policies themselves.

use super::*;

#[tokio::test]
async fn defaults_are_a_patch_of_what_is_absent() {
    let site = Site::new(&[("defaults", json!({"defaults": {"timeout": "3m", "prune": true}}))]);
    let response = site.ask(Webhook::Mutate, &create(&json!({"interval": "1m", "prune": false}))).await;
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch: ByteString = serde_json::from_value(response["patch"].clone()).expect("base64");
    let patch: Value = serde_json::from_slice(&patch.0).expect("JSON");
    assert_eq!(patch, json!([{"op": "add", "path": "/spec/timeout", "value": "3m"}]));
    let full = create(&json!({"interval": "1m", "prune": false, "timeout": "1m"}));
    assert_eq!(site.ask(Webhook::Mutate, &full).await.get("patch"), None);
    assert_eq!(site.validate(&create(&json!({}))).await.get("patch"), None, "validation never patches");
}

#[tokio::test]
async fn an_object_of_the_wrong_shape_is_refused_where_a_policy_looks() {
    for (policies, allowed) in [(&[][..], true), (&[("strict", strict("Deny"))], false)] {
        let site = Site::new(policies);
        let mut review = create(&json!({"interval": "1h", "prune": true}));
        review["request"]["object"]["metadata"]["labels"] = json!({"a": 1});
        let response = site.validate(&review).await;
        assert_eq!(response["allowed"], allowed, "{response}");
        if !allowed {
            assert_eq!(response["status"]["code"], 422);
            let message = response["status"]["message"].as_str().expect("text");
            assert!(message.contains("metadata.labels[a]: Invalid value"), "{message}");
        }
        let response = site.ask(Webhook::Mutate, &review).await;
        assert_eq!(response["allowed"], true, "a mutation fills in, and never refuses");
    }
}

/// The review of a HelmRelease with these values.
fn release(values: &Value) -> Value {
    let object = json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": {"name": "a", "namespace": "n", "uid": "u-1", "resourceVersion": "7"},
        "spec": {"interval": "1h", "timeout": "1m", "values": values},
    });
    request::testing::review("helm.toolkit.fluxcd.io", "helmreleases", &object)
}

#[tokio::test]
async fn what_no_rule_looks_at_may_be_as_deep_as_it_likes_and_conditions_fail_on_it() {
    let mut review = release(&json!("VALUES"));
    review["request"]["oldObject"] = review["request"]["object"].clone();
    let deep = format!("{}1{}", "{\"a\":".repeat(9_000), "}".repeat(9_000));
    let deep_review = |operation: &str| {
        let mut review = review.clone();
        review["request"]["operation"] = json!(operation);
        if operation == "CREATE" {
            review["request"]["oldObject"] = Value::Null;
        }
        review.to_string().replacen("\"VALUES\"", &deep, 1)
    };
    let cel =
        json!({"rules": {"cel": [{"expression": "object.spec.timeout <= '5m'", "message": "too long"}]}});
    let lax = json!({"enforcement": "Warn", "rules": cel["rules"]});
    for (policies, allowed) in [
        (&[][..], true),
        (&[("strict", json!({"rules": {"interval": {"min": "1m"}}}))], true),
        (&[("cel", cel)], false),
        (&[("cel", lax)], true),
    ] {
        let site = Site::new(policies);
        for operation in ["CREATE", "UPDATE"] {
            let body = deep_review(operation);
            let response = site.ask_text(Webhook::Validate, &body).await;
            assert_eq!(response["allowed"], allowed, "{policies:?} {response}");
            if !allowed {
                let message = response["status"]["message"].as_str().expect("text");
                assert!(message.contains("too long: cannot be evaluated: spec.values.a.a."), "{message}");
                assert!(message.contains("is nested deeper than 125 levels (rule cel[0])"), "{message}");
            }
            let warned = response["warnings"].as_array().is_some_and(|warnings| warnings.len() == 1);
            assert_eq!(warned, policies.first().is_some_and(|(_, spec)| spec["enforcement"] == "Warn"));
            assert_eq!(site.ask_text(Webhook::Mutate, &body).await["allowed"], true);
        }
    }
}

/// A text that grows without limit, as a condition and as a warning, for both webhooks that need the verdict.
#[tokio::test]
async fn a_condition_without_end_is_broken_and_others_are_judged() {
    let endless = format!("[object.spec.interval]{}.size() > 0", ".map(x, x + x)".repeat(40));
    let rule = |message: &str| json!({"cel": [{"expression": endless, "message": message}]});
    let deny = json!({"rules": rule("grows")});
    let warn = json!({"enforcement": "Warn", "rules": rule("grows too")});
    let quota = json!({"count/kustomizations.kustomize.toolkit.fluxcd.io": "10"});
    let site = Site::with_quota(&[("deny", deny), ("warn", warn), ("strict", strict("Deny"))], Some(&quota));
    let review = create(&short());
    let (validated, charged) = tokio::join!(site.validate(&review), site.ask(Webhook::Quota, &review));
    for response in [validated, charged] {
        assert_eq!(response["allowed"], false, "{response}");
        let message = response["status"]["message"].as_str().expect("text");
        assert!(
            message.contains("grows: cannot be evaluated: takes too much memory on this object"),
            "{message}"
        );
        assert!(message.contains("\"strict\" denied the request"), "{message}");
    }
}

/// Judging ends at the deadline of its review, whether it waits for a permit or works.
#[tokio::test]
async fn judging_ends_with_its_review() {
    let pairs = "object.spec.list.all(a, object.spec.list.all(b, size(a + b) > 0))";
    let rules: Vec<_> = (0..8).map(|_| json!({"expression": pairs, "message": "pairs"})).collect();
    let site = Site::new(&[("pairs", json!({"rules": {"cel": rules}}))]);
    let body = create(&json!({"interval": "1m", "list": vec!["text"; 900]})).to_string();
    let request = Request::parse(body.as_bytes()).expect("a review");
    let until = tokio::time::Instant::now() + Duration::from_millis(20);
    let answer = site.reviews.answer(Webhook::Validate, &request, peer(1), until).await;
    let response = super::answer::testing::response(answer);
    assert_eq!(response["allowed"], false, "{response}");
    let code = &response["status"]["code"];
    assert!(*code == 429 || response.to_string().contains("was not evaluated in time"), "{response}");
    // The work releases its permit as soon as it checks the clock: all permits are available again.
    let turns = std::thread::available_parallelism().map_or(2, usize::from);
    let turn = async || site.reviews.judge.verdicts.turn().await;
    let all = futures::future::join_all((0..turns).map(|_| turn()));
    assert!(tokio::time::timeout(Duration::from_mins(1), all).await.is_ok());
}

#[tokio::test]
async fn values_are_not_built_where_no_condition_looks_at_them() {
    let many = json!({"many": vec![json!([]); 500_000]});
    let (mut review, mut other) = (release(&many), release(&json!({"many": []})));
    for review in [&mut review, &mut other] {
        review["request"]["oldObject"] = review["request"]["object"].clone();
        review["request"]["operation"] = json!("UPDATE");
    }
    let site = Site::new(&[("strict", strict("Deny"))]);
    let cost = async |review: &Value| {
        let body = review.to_string();
        let request = Request::parse(body.as_bytes()).expect("a review");
        let (objects, _room) = site.reviews.judge.read(&request, Looks::Fields).await.expect("objects");
        let unchanged = objects.object.map(|read| read.rest) == objects.old.map(|read| read.rest);
        (objects.cost, unchanged)
    };
    assert_eq!(cost(&review).await, cost(&other).await);
    assert!(cost(&review).await.0 < 8192);
    // A change of values alone is a change of the spec.
    assert_eq!(site.validate(&review).await["allowed"], true, "an update that changes nothing");
    review["request"]["oldObject"]["spec"]["values"]["more"] = json!(1);
    assert!(!cost(&review).await.1);
    review["request"]["object"]["spec"]["interval"] = json!("1s");
    review["request"]["oldObject"]["spec"]["interval"] = json!("1s");
    assert_eq!(site.validate(&review).await["status"]["code"], 403, "the spec changes");
}

#[tokio::test]
async fn defaults_go_into_maps_that_are_there_though_nobody_looks_into_them() {
    let defaults =
        json!({"defaults": {"labels": {"x": "y"}}, "rules": {"suspension": {"maxDuration": "1h"}}});
    let site = Site::new(&[("defaults", defaults)]);
    let mut review = create(&json!({"interval": "1h", "suspend": true}));
    review["request"]["object"]["metadata"]["annotations"] = json!({"example.com/a": "b"});
    let response = site.ask(Webhook::Mutate, &review).await;
    let patch: ByteString = serde_json::from_value(response["patch"].clone()).expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch.0).expect("a patch");
    let mut object = review["request"]["object"].clone();
    json_patch::patch(&mut object, &patch).expect("it applies");
    let metadata = &object["metadata"];
    assert_eq!(metadata["annotations"]["example.com/a"], "b", "{patch:?}");
    assert_eq!(metadata["annotations"]["fluxcd.controlplane.io/suspendedBy"], "jane", "{patch:?}");
    assert_eq!(metadata["labels"]["x"], "y");
}

#[tokio::test]
async fn a_scale_is_judged_by_what_it_scales_and_told_of_it() {
    let mut site = Site::new(&[("small", json!({"rules": {"replicas": {"max": 5}}}))]);
    let scale = |replicas: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a", "namespace": "n", "uid": "u-9", "resourceVersion": "3"}, "spec": {"replicas": replicas}});
    let mut review = request::testing::review("agones.dev", "fleets", &scale(6));
    review["request"]["kind"] = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
    review["request"]["subResource"] = json!("scale");
    review["request"]["operation"] = json!("UPDATE");
    review["request"]["oldObject"] = scale(2);
    let response = site.validate(&review).await;
    assert_eq!(
        (&response["allowed"], &response["status"]["code"]),
        (&json!(false), &json!(403)),
        "{response}"
    );
    let notice = site.broadcaster.next_now().expect("an Event");
    assert_eq!(
        (&*notice.regarding.kind, &*notice.regarding.api_version, &*notice.regarding.uid),
        ("Fleet", "agones.dev/v1", "u-9")
    );
    review["request"]["object"] = scale(5);
    assert_eq!(site.validate(&review).await["allowed"], true);
    review["request"]["object"]["spec"]["replicas"] = json!("many");
    assert_eq!(site.validate(&review).await["status"]["code"], 422);
}

#[tokio::test]
async fn a_policy_that_was_there_before_a_rule_was_stricter_may_be_labelled() {
    let site = Site::new(&[]);
    let object = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    let bad = object(json!({"rules": {"interval": {"min": "soon"}}}));
    let mut review = request::testing::review("policy.gatehouse.dev", "reconcilepolicies", &bad);
    review["request"]["operation"] = json!("UPDATE");
    for (old, allowed) in [(bad, true), (object(json!({})), false)] {
        review["request"]["oldObject"] = old;
        assert_eq!(site.validate(&review).await["allowed"], allowed);
    }
}

#[tokio::test]
async fn a_policy_is_refused_when_it_is_written_by_every_field_that_is_wrong() {
    let site = Site::new(&[]);
    let spec = json!({
        "rules": {"interval": {"min": "soon"}, "cel": [{"expression": "object.("}]},
        "defaults": {"timeout": "never"},
    });
    let object = json!({"apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy", "metadata": {"name": "a"}, "spec": spec});
    let response =
        site.validate(&request::testing::review("policy.gatehouse.dev", "reconcilepolicies", &object)).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(422)));
    let causes = response["status"]["details"]["causes"].as_array().expect("causes");
    let fields: Vec<_> = causes.iter().map(|cause| cause["field"].as_str().expect("text")).collect();
    for field in ["spec.rules.interval.min", "spec.rules.cel[0].expression", "spec.defaults.timeout"] {
        assert!(fields.contains(&field), "{fields:?}");
    }
}
