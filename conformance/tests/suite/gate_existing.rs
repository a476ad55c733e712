//! What exists is judged too, and told: by status, by metrics.

use std::sync::Arc;

use anyhow::ensure;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::gate::{Gate, KNOWN, KUSTOMIZE, POLICY, fleet, kustomization, policy, quota};
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_existing::violations_are_counted_and_kept_current", violations),
        world.guarded("gate_existing::a_cycle_that_was_stored_is_found", cycle),
        world.guarded("gate_existing::usage_reservations_and_overcommit_are_told", usage),
        world.guarded("gate_existing::reviews_and_decisions_are_metrics", metrics),
    ]
}

async fn violations(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-existing";
    gate.namespace(namespace).await?;
    for name in ["a", "b"] {
        gate.put(&kustomization(namespace, name, json!({"prune": false}))).await?;
    }
    gate.put(&kustomization(namespace, "c", json!({}))).await?;
    let rules = json!({"prune": "Required", "interval": {"max": "1h"}});
    gate.put(&policy(namespace, json!({"rules": rules}))).await?;
    let path = format!("{POLICY}/reconcilepolicies/{namespace}");
    let reported = gate.becomes(&path, KNOWN, |policy| policy["status"]["violations"] == 2).await?;
    let status = &reported["status"];
    ensure!(status["judged"] == 3, "{status:#}");
    ensure!(
        status["rules"] == json!([{"rule": "prune", "violations": 2, "enforcement": "Deny"}]),
        "{status:#}"
    );
    let example = &status["examples"][0];
    ensure!(example["name"] == "a" && example["kind"] == "Kustomization", "{status:#}");
    ensure!(example["namespace"] == namespace && example["rule"] == "prune", "{status:#}");
    ensure!(
        condition(&reported, "Ready") == "True" && condition(&reported, "Compliant") == "False",
        "{status:#}"
    );

    gate.put(&kustomization(namespace, "a", json!({"prune": true}))).await?;
    gate.delete(&format!("{KUSTOMIZE}/namespaces/{namespace}/kustomizations/b")).await?;
    gate.becomes(&path, KNOWN, |policy| {
        policy["status"]["violations"] == 0 && condition(policy, "Compliant") == "True"
    })
    .await?;
    Ok(())
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default()
}

async fn cycle(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-existing-cycle";
    gate.namespace(namespace).await?;
    for (name, on) in [("a", "b"), ("b", "a")] {
        gate.put(&kustomization(namespace, name, json!({"dependsOn": [{"name": on}]}))).await?;
    }
    gate.put(&policy(namespace, json!({"rules": {"dependencyCycles": "Forbid"}}))).await?;
    let path = format!("{POLICY}/reconcilepolicies/{namespace}");
    let reported = gate.becomes(&path, KNOWN, |policy| policy["status"]["violations"] == 2).await?;
    ensure!(reported["status"]["examples"].to_string().contains("a → b → a"), "{reported:#}");
    Ok(())
}

async fn usage(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-usage";
    gate.namespace(namespace).await?;
    gate.put(&fleet(namespace, "f", 4)).await?;
    gate.put(&quota(namespace, json!({"gameservers": "3", "requests.cpu": "8"}))).await?;
    let path = format!("{POLICY}/tenantquotas/{namespace}");
    let reported = gate.becomes(&path, KNOWN, |quota| quota["status"]["used"]["gameservers"] == "4").await?;
    let status = &reported["status"];
    ensure!(status["hard"] == json!({"gameservers": "3", "requests.cpu": "8"}), "{status:#}");
    ensure!(status["used"]["requests.cpu"] == "2" && status["namespaces"] == 1, "{status:#}");
    ensure!(status["overcommit"] == json!({"gameservers": "1"}), "{status:#}");
    ensure!(condition(&reported, "Overcommitted") == "True", "{status:#}");
    ensure!(status["observedGeneration"] == reported["metadata"]["generation"], "{status:#}");
    gate.put(&fleet(namespace, "f", 2)).await?;
    gate.becomes(&path, KNOWN, |quota| condition(quota, "Overcommitted") == "False").await?;
    Ok(())
}

async fn metrics(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-metrics";
    gate.namespace(namespace).await?;
    // All three webhooks are asked about it.
    gate.put(&kustomization(namespace, "a", json!({}))).await?;
    for webhook in ["validate", "mutate", "quota"] {
        let reviews = gate.metric("gatehouse_admission_reviews_total", &[("webhook", webhook)]).await?;
        ensure!(reviews > 0.0, "{webhook}: {reviews}");
    }
    // One of the replicas leads.
    let mut leaders = 0;
    for replica in &gate.replicas {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text = replica.client.request_text(request).await?;
        leaders += usize::from(text.lines().any(|line| line == "gatehouse_lease_held 1"));
    }
    ensure!(leaders == 1, "{leaders} leaders");
    Ok(())
}
