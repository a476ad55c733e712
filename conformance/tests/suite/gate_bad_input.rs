//! Policies and quotas that make no sense are refused when they are applied, named by field; so are reviews that are
//! none.

use std::sync::Arc;

use anyhow::{Context, ensure};
use http::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::gate::{Gate, SIDES, apply, config_map, creation, kustomization, policy, quota};
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_bad_input::quotas_are_refused_by_field", quotas),
        world.guarded("gate_bad_input::policies_are_refused_by_field", policies),
        world.guarded("gate_bad_input::every_bad_field_of_a_policy_is_named_at_once", all_at_once),
        world.guarded("gate_bad_input::kubectl_explains_and_lists_them", explained),
        world.guarded("gate_bad_input::what_is_no_review_is_never_admitted", no_reviews),
        world.guarded("gate_bad_input::reviews_of_odd_objects_are_never_admitted", odd_objects),
    ]
}

async fn refused(gate: &Gate, object: &Value, expected: &[&str]) -> anyhow::Result<()> {
    let kubectl = gate.kubectl()?;
    for side in SIDES {
        let printed = apply(&kubectl, side, std::slice::from_ref(object), &[]).await?.failed()?;
        for expected in expected {
            ensure!(printed.contains(expected), "{side:?}: not {expected:?} of {object}: {printed}");
        }
    }
    Ok(())
}

async fn quotas(gate: Arc<Gate>) -> anyhow::Result<()> {
    let name = "gate-bad-quota";
    let selector = |selector: Value| {
        let mut quota = quota(name, json!({"players": "1"}));
        quota["spec"]["namespaceSelector"] = selector;
        quota
    };
    let operator = json!({"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]});
    let values = json!({"matchExpressions": [{"key": "a", "operator": "In", "values": []}]});
    for (object, expected) in [
        (quota(name, json!({"players": "-1"})), "spec.hard[players]"),
        (quota(name, json!({"gameservers": "1.5"})), "spec.hard[gameservers]"),
        (quota(name, json!({"requests.memory": "1e99"})), "spec.hard[requests.memory]"),
        (quota(name, json!({"requests.cpu": "ten"})), "spec.hard[requests.cpu]"),
        (quota(name, json!({"requests.cpu": ""})), "spec.hard[requests.cpu]"),
        (quota(name, json!({"count/": "1"})), "spec.hard[count/]"),
        (quota(name, json!({"count/Config Maps": "1"})), "spec.hard[count/Config Maps]"),
        (quota(name, json!({"pods": "1"})), "spec.hard"),
        (quota(name, json!({})), "spec.hard"),
        (selector(operator), "spec.namespaceSelector.matchExpressions[0].operator"),
        (selector(values), "spec.namespaceSelector.matchExpressions[0].values"),
        (selector(json!({"matchLabels": {"a b": "c"}})), "spec.namespaceSelector.matchLabels"),
    ] {
        refused(&gate, &object, &[expected]).await?;
    }
    Ok(())
}

async fn policies(gate: Arc<Gate>) -> anyhow::Result<()> {
    let rules = |rules: Value| policy("gate-bad-policy", json!({"rules": rules}));
    let cel = |expression: &str| rules(json!({"cel": [{"expression": "true"}, {"expression": expression}]}));
    let freeze = |name: &str, schedule: &str, duration: &str, zone: &str| json!({"name": name, "schedule": schedule, "duration": duration, "timeZone": zone});
    let freezes = |freezes: &[Value]| rules(json!({"freezes": freezes}));
    let loops = "[1,2,3].all(a, [1,2,3].all(b, [1,2,3].all(c, [1,2,3].all(d, a + b + c + d > 0))))";
    let deep = format!("{}true{}", "(".repeat(2000), ")".repeat(2000));
    let enormous = format!("object.spec.path != '{}'", "x".repeat(5000));
    for (object, expected) in [
        (rules(json!({"interval": {"min": "soon"}})), "spec.rules.interval.min"),
        (rules(json!({"interval": {"min": "2h", "max": "1h"}})), "spec.rules.interval.max"),
        (rules(json!({"interval": {"min": "-5m"}})), "spec.rules.interval.min"),
        (rules(json!({"sources": {"allowed": ["not a url"]}})), "spec.rules.sources.allowed[0]"),
        (rules(json!({"targetNamespaces": "Mine"})), "spec.rules.targetNamespaces"),
        (rules(json!({"targetNamespaces": {"allowed": ["a["]}})), "spec.rules.targetNamespaces.allowed[0]"),
        (rules(json!({"replicas": {"max": -1}})), "spec.rules.replicas.max"),
        (rules(json!({"suspension": {"maxDuration": "forever"}})), "spec.rules.suspension.maxDuration"),
        (cel("object.spec.timeout <="), "spec.rules.cel[1].expression"),
        (cel("nobody.knows"), "spec.rules.cel[1].expression"),
        (cel(loops), "spec.rules.cel[1].expression"),
        (cel(&deep), "spec.rules.cel[1].expression"),
        (cel(&enormous), "spec.rules.cel[1].expression"),
        (freezes(&[freeze("a", "0 18 * * FRI", "62h", "Europe/Atlantis")]), "spec.rules.freezes[0].timeZone"),
        (freezes(&[freeze("a", "61 18 * * *", "1h", "UTC")]), "spec.rules.freezes[0].schedule"),
        (freezes(&[freeze("a", "0 18 * * *", "0h", "UTC")]), "spec.rules.freezes[0].duration"),
        (
            freezes(&[freeze("a", "0 18 * * *", "2h", "UTC"), freeze("b", "0 19 * * *", "2h", "UTC")]),
            "spec.rules.freezes[1]",
        ),
        (policy("gate-bad-policy", json!({"defaults": {"interval": "often"}})), "spec.defaults.interval"),
        (policy("gate-bad-policy", json!({"defaults": {"labels": {"a b": "c"}}})), "spec.defaults.labels"),
        (
            policy(
                "gate-bad-policy",
                json!({"defaults": {"gameServerResources": {"requests": {"cpu": "-1"}}}}),
            ),
            "spec.defaults.gameServerResources.requests",
        ),
    ] {
        refused(&gate, &object, &[expected]).await?;
    }
    Ok(())
}

async fn all_at_once(gate: Arc<Gate>) -> anyhow::Result<()> {
    let rules = json!({
        "interval": {"min": "soon"}, "cel": [{"expression": "("}],
        "freezes": [{"name": "a", "schedule": "never", "duration": "1h"}],
    });
    let object = policy("gate-bad-policy-all", json!({"rules": rules, "defaults": {"timeout": "x"}}));
    let fields = [
        "spec.rules.interval.min",
        "spec.rules.cel[0].expression",
        "spec.rules.freezes[0].schedule",
        "spec.defaults.timeout",
    ];
    refused(&gate, &object, &fields).await
}

async fn explained(gate: Arc<Gate>) -> anyhow::Result<()> {
    let kubectl = gate.kubectl()?;
    let text = kubectl.run(["explain", "reconcilepolicies.spec.rules"]).await?.ok()?;
    for field in ["interval", "dependencyCycles", "targetNamespaces", "Forbid"] {
        ensure!(text.contains(field) && !text.contains("<no description>"), "{field}: {text}");
    }
    for level in ["reconcilepolicies", "reconcilepolicies.spec.rules.freezes", "tenantquotas.spec.hard"] {
        let text = kubectl.run(["explain", level]).await?.ok()?;
        ensure!(text.contains("DESCRIPTION:") && !text.contains("<no description>"), "{level}: {text}");
    }
    gate.put(&quota("gate-listed", json!({"players": "5"}))).await?;
    gate.put(&policy("gate-listed", json!({"rules": {"prune": "Optional"}}))).await?;
    let table = kubectl.run(["get", "tq,rp", "-o", "wide"]).await?.ok()?;
    for heading in ["ENFORCEMENT", "NAMESPACES", "DENIED", "VIOLATIONS", "FROZEN", "HARD", "MESSAGE"] {
        ensure!(table.contains(heading), "{heading}: {table}");
    }
    ensure!(table.contains("tenantquota.policy.gatehouse.dev/gate-listed"), "{table}");
    let all = kubectl.run(["get", "gatehouse", "-o", "name"]).await?.ok()?;
    ensure!(all.contains("reconcilepolicy.policy.gatehouse.dev/gate-listed"), "{all}");
    Ok(())
}

const PATHS: [&str; 3] = ["/validate", "/quota", "/mutate"];

async fn no_reviews(gate: Arc<Gate>) -> anyhow::Result<()> {
    let replica = gate.replicas.first().context("a replica")?;
    let review = creation("gate-bad-input", &config_map("gate-bad-input", "a"));
    let with = |fields: &dyn Fn(&mut Value)| {
        let mut review = review.clone();
        fields(&mut review);
        review.to_string().into_bytes()
    };
    let json = "application/json";
    for path in PATHS {
        for (what, content_type, body, code) in [
            ("empty", json, Vec::new(), 400),
            ("no JSON", json, b"admit me".to_vec(), 400),
            ("cut off", json, review.to_string().into_bytes()[..100].to_vec(), 400),
            ("a list", json, b"[]".to_vec(), 400),
            ("YAML", "application/yaml", review.to_string().into_bytes(), 415),
            ("another kind", json, with(&|review| review["kind"] = json!("Review")), 400),
            (
                "an unknown version",
                json,
                with(&|review| review["apiVersion"] = json!("admission.k8s.io/v2")),
                400,
            ),
            ("no request", json, with(&|review| review["request"] = Value::Null), 400),
            ("no uid", json, with(&|review| review["request"]["uid"] = Value::Null), 400),
            ("too large", json, with(&|review| review["padding"] = json!("x".repeat(8 << 20))), 413),
        ] {
            let answer = replica.write(&Method::POST, path, content_type, body).await;
            if what == "too large" && answer.is_err() {
                // The answer has come before the body was sent, and the connection was closed after it.
                continue;
            }
            let answer = answer.with_context(|| format!("{path}: {what}"))?;
            ensure!(answer.code == code && answer.body["kind"] == "Status", "{path}: {what}: {answer:#?}");
        }
        let answer = replica.get(path).await?;
        ensure!(answer.code == 405, "{path}: {answer:#?}");
    }
    Ok(())
}

/// With a uid there is somebody to answer: not by an error, but by a refusal. Only defaults are never insisted upon.
async fn odd_objects(gate: Arc<Gate>) -> anyhow::Result<()> {
    let replica = gate.replicas.first().context("a replica")?;
    let namespace = "gate-odd-objects";
    gate.namespace(namespace).await?;
    let good = kustomization(namespace, "a", json!({}));
    gate.policy(
        namespace,
        json!({"rules": {"prune": "Required"}}),
        &kustomization(namespace, "a", json!({"prune": false})),
    )
    .await?;
    let review = creation(namespace, &good);
    for (pointer, value) in [
        ("/request/object", Value::Null),
        ("/request/object", json!([])),
        ("/request/object", json!("a")),
        ("/request/object/spec", json!(7)),
        ("/request/object/spec/prune", json!("yes")),
        ("/request/object/metadata", json!([])),
        ("/request/operation", json!("EXPLODE")),
        ("/request/namespace", json!("there-is-no-such-namespace")),
    ] {
        let mut odd = review.clone();
        *odd.pointer_mut(pointer).context("a field")? = value.clone();
        let answer = replica.post("/validate", &odd).await?;
        let response = &answer.body["response"];
        let refused = response["allowed"] == false && response["uid"] == review["request"]["uid"];
        let status = &response["status"];
        ensure!(
            answer.code == 400 || answer.code == 200 && refused && status["message"].is_string(),
            "{pointer} = {value}: {answer:#?}"
        );
    }
    Ok(())
}
