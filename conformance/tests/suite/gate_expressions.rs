//! CEL of a policy has a budget, whatever it says: reviews are answered, the webhooks stay ready, the audit goes on.

use std::sync::Arc;

use anyhow::ensure;
use http::StatusCode;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::gate::{Gate, KNOWN, KUSTOMIZE, POLICY, kustomization, policy, quota};
use crate::world::{World, settles};

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_expressions::the_worst_is_refused_when_it_is_written", written),
        world.guarded("gate_expressions::what_grows_without_end_harms_nobody", held),
    ]
}

fn conditions(expressions: &[&str]) -> Value {
    let rules: Vec<_> =
        expressions.iter().map(|expression| json!({"expression": expression, "message": "grows"})).collect();
    json!({"rules": {"cel": rules}})
}

/// Each took gigabytes at the first review, and after a restart at the first audit.
async fn written(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-expressions-written";
    gate.namespace(namespace).await?;
    let path = format!("{POLICY}/reconcilepolicies");
    for expression in [
        format!("[object.spec.path]{}.size() > 0", ".map(x, x + x)".repeat(30)),
        format!("['aaaaaaaaaaaaaaaa']{}.size() > 0", ".map(x, x + x)".repeat(29)),
        format!("{0} == {0}", format!("[1]{}", ".map(x, [x, x])".repeat(30))),
    ] {
        let object = policy(namespace, conditions(&["true", &expression]));
        let answer = gate.caller.post(&path, &object).await?;
        let reported = answer.body["message"].as_str().unwrap_or_default();
        ensure!(answer.code == StatusCode::UNPROCESSABLE_ENTITY, "{answer:#?}");
        ensure!(reported.contains("spec.rules.cel[1].expression"), "{reported}");
        ensure!(reported.contains("on an ordinary object"), "{reported}");
    }
    Ok(())
}

/// These are bearable on ordinary objects, which is what the estimate is about; on these objects they are not.
async fn held(gate: Arc<Gate>) -> anyhow::Result<()> {
    const OBJECTS: usize = 20;
    /// Of the chart's limit of 512; other trials are at work on the same replicas.
    const MOST_MIB: f64 = 384.0;
    let namespace = "gate-expressions-held";
    gate.namespace(namespace).await?;
    let long = "x".repeat(20_000);
    let large = |name: &str| kustomization(namespace, name, json!({"path": &*long}));
    for number in 0..OBJECTS {
        gate.put(&large(&format!("stored-{number}"))).await?;
    }
    let expressions = [
        "object.spec.path.split('').join(object.spec.path + object.spec.path).size() > 0",
        "object.spec.path.split('').all(a, !object.spec.path.contains(a + 'y'))",
        "object.spec.path.split('').map(a, object.spec.path + a).size() > 0",
        "object.spec.path.replace('', object.spec.path).size() > 0",
    ];
    // With a quota, both webhooks want the verdict.
    gate.put(&quota(namespace, json!({"count/kustomizations.kustomize.toolkit.fluxcd.io": "100"}))).await?;
    gate.policy(namespace, conditions(&expressions), &large("large")).await?;

    let objects = format!("{KUSTOMIZE}/namespaces/{namespace}/kustomizations");
    for number in 0..5 {
        let answer = gate.caller.post(&objects, &large(&format!("large-{number}"))).await?;
        let reported = answer.body["message"].as_str().unwrap_or_default();
        ensure!(answer.code == StatusCode::FORBIDDEN, "{answer:#?}");
        ensure!(
            reported.contains("grows: cannot be evaluated: takes too much memory on this object"),
            "{reported}"
        );
        ensure!(
            reported.contains("grows: cannot be evaluated: takes too much work on this object"),
            "{reported}"
        );
        // An ordinary object, meanwhile, is judged as ever.
        let small = kustomization(namespace, &format!("small-{number}"), json!({}));
        let answer = gate.caller.post(&objects, &small).await?;
        ensure!(answer.code == StatusCode::CREATED, "{answer:#?}");
    }

    let path = format!("{POLICY}/reconcilepolicies/{namespace}");
    let reported = gate.becomes(&path, KNOWN, |policy| policy["status"]["judged"] == OBJECTS + 5).await?;
    ensure!(reported["status"]["violations"] == OBJECTS, "{reported:#}");
    let rules = reported["status"]["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(rules.len() == expressions.len(), "{reported:#}");
    ensure!(rules.iter().all(|rule| rule["violations"] == OBJECTS), "{reported:#}");
    // The audit goes on, and nobody was restarted.
    let stored = format!("{objects}/stored-0");
    gate.delete(&stored).await?;
    gate.becomes(&path, KNOWN, |policy| policy["status"]["violations"] == OBJECTS - 1).await?;
    for replica in &gate.replicas {
        settles("it is ready", KNOWN, || replica.get("/readyz"), |answer| answer.code == StatusCode::OK)
            .await?;
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text = replica.client.request_text(request).await?;
        let value = |name: &str| -> Option<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse().ok())
        };
        ensure!(value("gatehouse_request_panics_total") == Some(0.0), "panics");
        let resident = value("process_resident_memory_bytes").unwrap_or(f64::MAX) / f64::from(1 << 20);
        ensure!(resident < MOST_MIB, "{resident} MiB");
    }
    Ok(())
}
