//! What an object states, and what it takes up beyond that: requests that are not stated, servers that are played on,
//! and what cannot be counted at all.

use std::sync::Arc;

use anyhow::ensure;
use http::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::Answer;
use crate::gate::{AGONES, Gate, KNOWN, POLICY, fleet, quota};
use crate::gate_quotas::{kubectl_apply, used};
use crate::world::{World, settles};

const MERGE: &str = "application/merge-patch+json";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_requests::what_states_no_request_is_refused", unstated),
        world.guarded("gate_requests::a_policy_s_default_states_it", defaulted),
        world.guarded("gate_requests::the_overhead_of_a_runtime_class_is_requested_too", sandboxed),
        world.guarded("gate_requests::servers_that_are_played_on_outlive_a_scale_down", played_on),
        world.guarded(
            "gate_requests::server_side_apply_of_a_scale_is_for_kube_apiserver_to_mend",
            applied_scale,
        ),
        world.guarded("gate_requests::what_cannot_be_counted_is_refused_when_it_is_written", uncountable),
    ]
}

fn hungry(namespace: &str, name: &str, replicas: i64) -> Value {
    let mut fleet = fleet(namespace, name, replicas);
    let pod = &mut fleet["spec"]["template"]["spec"]["template"]["spec"];
    pod["containers"] = json!([{"name": "game", "image": "example/game"}]);
    fleet
}

async fn unstated(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-unstated";
    gate.namespace(namespace).await?;
    // It is there before the quota is.
    gate.put(&hungry(namespace, "old", 4)).await?;
    let hard = json!({"requests.cpu": "1", "requests.memory": "8Gi"});
    gate.quota(namespace, hard, &fleet(namespace, "big", 3)).await?;
    let message =
        "failed quota: gate-unstated: must specify requests.cpu for: game; requests.memory for: game";
    let refused = kubectl_apply(&gate, &hungry(namespace, "new", 50)).await?.failed()?;
    ensure!(refused.contains(&format!("fleets.agones.dev \"new\" is forbidden: {message}")), "{refused}");
    let kubectl = gate.kubectl()?;
    let scale = async |replicas: &str| {
        kubectl.run(["scale", "fleets/old", "-n", namespace, "--replicas", replicas]).await
    };
    ensure!(scale("5").await?.failed()?.contains(message), "more of what was there");
    scale("3").await?.ok()?;
    kubectl.run(["label", "fleets/old", "-n", namespace, "a=b"]).await?.ok()?;
    kubectl_apply(&gate, &fleet(namespace, "stated", 2)).await?.ok()?;
    used(&gate, namespace, "requests.cpu", "1").await
}

async fn defaulted(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-defaulted";
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"requests.cpu": "1"}), &fleet(namespace, "big", 3)).await?;
    let refused = kubectl_apply(&gate, &hungry(namespace, "f", 2)).await?.failed()?;
    ensure!(refused.contains("must specify requests.cpu for: game"), "{refused}");
    let defaults = json!({"gameServerResources": {"requests": {"cpu": "250m"}}});
    let spec = json!({"rules": {"replicas": {"max": 50}}, "defaults": defaults});
    gate.policy(namespace, spec, &fleet(namespace, "bigger", 51)).await?;
    kubectl_apply(&gate, &hungry(namespace, "f", 2)).await?.ok()?;
    used(&gate, namespace, "requests.cpu", "500m").await
}

/// kube-apiserver itself adds the overhead to each Pod of the class.
async fn sandboxed(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-sandboxed";
    gate.namespace(namespace).await?;
    gate.put(&json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gate-gvisor"},
        "handler": "runsc", "overhead": {"podFixed": {"cpu": "250m", "memory": "64Mi"}},
    }))
    .await?;
    gate.quota(namespace, json!({"requests.cpu": "2"}), &fleet(namespace, "big", 21)).await?;
    let sandboxed = |name: &str, replicas: i64| {
        let mut fleet = hungry(namespace, name, replicas);
        let pod = &mut fleet["spec"]["template"]["spec"]["template"]["spec"];
        pod["runtimeClassName"] = "gate-gvisor".into();
        pod["containers"][0]["resources"] = json!({"requests": {"cpu": "250m"}});
        fleet
    };
    let refused = kubectl_apply(&gate, &sandboxed("f", 5)).await?.failed()?;
    ensure!(refused.contains("requested: requests.cpu=2500m"), "{refused}");
    kubectl_apply(&gate, &sandboxed("f", 4)).await?.ok()?;
    used(&gate, namespace, "requests.cpu", "2").await?;
    // The class changes: new Pods are larger, which is reported, and nothing more fits.
    let class = "/apis/node.k8s.io/v1/runtimeclasses/gate-gvisor";
    let larger = json!({"overhead": {"podFixed": {"cpu": "500m", "memory": "64Mi"}}});
    let answer = gate.caller.write(&Method::PATCH, class, MERGE, larger.to_string().into_bytes()).await?;
    ensure!(answer.code == StatusCode::OK, "{answer:#?}");
    used(&gate, namespace, "requests.cpu", "3").await?;
    let refused = kubectl_apply(&gate, &sandboxed("g", 1)).await?.failed()?;
    ensure!(refused.contains("used: requests.cpu=3"), "{refused}");
    gate.delete(class).await?;
    used(&gate, namespace, "requests.cpu", "1").await
}

async fn played_on(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-played-on";
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"gameservers": "10"}), &fleet(namespace, "big", 11)).await?;
    kubectl_apply(&gate, &fleet(namespace, "old", 10)).await?.ok()?;
    let old = format!("{AGONES}/namespaces/{namespace}/fleets/old");
    let write = async |path: &str, body: Value| {
        let answer = gate.caller.write(&Method::PATCH, path, MERGE, body.to_string().into_bytes()).await?;
        ensure!(answer.code.is_success(), "{answer:#?}");
        anyhow::Ok(())
    };
    let status = |allocated: u32, reserved: u32| json!({"status": {"replicas": 10, "readyReplicas": 0, "allocatedReplicas": allocated, "reservedReplicas": reserved}});
    write(&format!("{old}/status"), status(7, 3)).await?;
    write(&format!("{old}/scale"), json!({"spec": {"replicas": 0}})).await?;
    used(&gate, namespace, "gameservers", "10").await?;
    let refused = kubectl_apply(&gate, &fleet(namespace, "new", 1)).await?.failed()?;
    ensure!(refused.contains("used: gameservers=10"), "{refused}");
    // They are the fleet's, whatever it asks for up to there.
    write(&format!("{old}/scale"), json!({"spec": {"replicas": 10}})).await?;
    write(&old, json!({"spec": {"replicas": 1}})).await?;
    write(&format!("{old}/status"), status(1, 1)).await?;
    used(&gate, namespace, "gameservers", "2").await?;
    kubectl_apply(&gate, &fleet(namespace, "new", 8)).await?.ok()?;
    // Whoever writes a status takes nothing off what is asked for.
    write(&format!("{AGONES}/namespaces/{namespace}/fleets/new/status"), status(0, 0)).await?;
    used(&gate, namespace, "gameservers", "10").await
}

/// Where nothing is reviewed. What KNOWN_ISSUES says of it ends when this fails.
async fn applied_scale(gate: Arc<Gate>) -> anyhow::Result<()> {
    gate.put(&fleet("kube-system", "applied-scale", 1)).await?;
    let path = format!("{AGONES}/namespaces/kube-system/fleets/applied-scale/scale");
    let scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"namespace": "kube-system", "name": "applied-scale"}, "spec": {"replicas": 3},
    });
    let body = scale.to_string().into_bytes();
    let apply = format!("{path}?fieldManager=gate&force=true");
    let answer = gate.caller.write(&Method::PATCH, &apply, "application/apply-patch+yaml", body).await?;
    ensure!(answer.code == StatusCode::INTERNAL_SERVER_ERROR, "{answer:#?}");
    let body = json!({"spec": {"replicas": 3}}).to_string().into_bytes();
    let answer = gate.caller.write(&Method::PATCH, &path, MERGE, body).await?;
    ensure!(answer.code == StatusCode::OK, "{answer:#?}");
    gate.delete(&format!("{AGONES}/namespaces/kube-system/fleets/applied-scale")).await
}

async fn uncountable(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-uncountable";
    gate.namespace(namespace).await?;
    let write = async |key: &str| {
        let path = format!("{POLICY}/tenantquotas?dryRun=All");
        gate.caller.post(&path, &quota(namespace, json!({key: "1", "count/configmaps": "5"}))).await
    };
    for (key, why) in [
        ("count/namespaces", "belong to no namespace"),
        ("count/nodes", "belong to no namespace"),
        ("count/clusterroles.rbac.authorization.k8s.io", "belong to no namespace"),
        ("count/tenantquotas.policy.gatehouse.dev", "belong to no namespace"),
        ("count/bindings", "no objects"),
        ("count/localsubjectaccessreviews.authorization.k8s.io", "no objects"),
    ] {
        let answer = write(key).await?;
        ensure!(answer.code == StatusCode::UNPROCESSABLE_ENTITY, "{key}: {answer:#?}");
        let message = answer.body["message"].to_string();
        ensure!(message.contains(&format!("spec.hard[{key}]")) && message.contains(why), "{key}: {message}");
    }
    // Of other people's resources discovery tells.
    gate.put(&json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "worlds.gate.example.com"},
        "spec": {
            "group": "gate.example.com", "scope": "Cluster",
            "names": {"kind": "World", "plural": "worlds", "singular": "world"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    }))
    .await?;
    let is_refused = |answer: &Answer| {
        answer.code == StatusCode::UNPROCESSABLE_ENTITY
            && answer.body["message"].to_string().contains("belong to no namespace")
    };
    let write_worlds = || write("count/worlds.gate.example.com");
    settles("a definition's scope is known", KNOWN, write_worlds, is_refused).await?;
    for key in ["count/secrets", "count/things.example.com", "count/deployments.apps"] {
        let answer = write(key).await?;
        ensure!(answer.code == StatusCode::CREATED, "{key}: {answer:#?}");
    }
    Ok(())
}
