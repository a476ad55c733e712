//! Game servers of OpenKruiseGame: sets, and the pods that its controllers make of them.
//!
//! The trials create the pods as kube-apiserver stores them after OpenKruiseGame's webhook, which writes the resources of a
//! GameServer into its pod.

use std::sync::Arc;

use anyhow::ensure;
use gatehouse_conformance::kubectl::Output;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::flux::permit;
use crate::gate::{Gate, KNOWN, POLICY, fleet, quota};
use crate::gate_quotas::{admitted_in_time, kubectl_apply, used};
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_kruise::sets_are_charged_for_their_replicas", sets),
        world.guarded("gate_kruise::what_a_game_server_states_is_charged_at_its_pod", overrides),
        world.guarded("gate_kruise::a_template_made_smaller_makes_no_room_while_pods_stay", templates),
        world.guarded("gate_kruise::pods_count_until_they_are_gone", deleted),
        world.guarded("gate_kruise::pods_are_counted_beside_those_of_sets", counted),
        world.guarded("gate_kruise::a_pod_neither_leaves_its_set_nor_grows_beyond_the_limit", changed),
    ]
}

fn containers(cpu: &str) -> Value {
    json!([{"name": "game", "image": "game:1", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}])
}

fn set(namespace: &str, name: &str, replicas: i64, cpu: &str) -> Value {
    json!({
        "apiVersion": "game.kruise.io/v1alpha1", "kind": "GameServerSet",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "replicas": replicas,
            "gameServerTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers(cpu)}},
            "updateStrategy": {"rollingUpdate": {"partition": 1000}},
        },
    })
}

/// A pod; a finalizer keeps it while its containers end.
fn pod(namespace: &str, set: &str, number: u64, cpu: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": namespace, "name": format!("{set}-{number}"), "finalizers": ["example.com/ends"],
            "labels": {"game.kruise.io/owner-gss": set},
        },
        "spec": {"containers": containers(cpu), "terminationGracePeriodSeconds": 0},
    })
}

fn refused(output: Output, expected: &str) -> anyhow::Result<()> {
    let printed = output.failed()?;
    ensure!(printed.contains(expected), "no {expected:?} in {printed}");
    Ok(())
}

/// A namespace under a quota.
async fn limited(gate: &Gate, namespace: &str, hard: Value) -> anyhow::Result<()> {
    gate.namespace(namespace).await?;
    gate.quota(namespace, hard, &fleet(namespace, "big", 99)).await
}

async fn sets(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-kruise";
    limited(&gate, namespace, json!({"gameservers": "3", "requests.memory": "3Gi"})).await?;
    let of = |replicas| set(namespace, "set", replicas, "1");
    let expected = "gameserversets.game.kruise.io \"set\" is forbidden: exceeded quota";
    refused(kubectl_apply(&gate, &of(4)).await?, expected)?;
    kubectl_apply(&gate, &of(2)).await?.ok()?;
    let kubectl = gate.kubectl()?;
    let scale = async |replicas: &str| {
        kubectl
            .run(["scale", "gameserversets.game.kruise.io/set", "-n", namespace, "--replicas", replicas])
            .await
    };
    refused(scale("4").await?, "exceeded quota")?;
    scale("3").await?.ok()?;
    used(&gate, namespace, "requests.memory", "3Gi").await
}

async fn overrides(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-kruise-overrides";
    limited(&gate, namespace, json!({"gameservers": "9", "requests.cpu": "5"})).await?;
    kubectl_apply(&gate, &set(namespace, "set", 2, "1")).await?.ok()?;
    used(&gate, namespace, "requests.cpu", "2").await?;
    // What a tenant may write at any time, and what OpenKruiseGame makes of it.
    let larger = json!({
        "apiVersion": "game.kruise.io/v1alpha1", "kind": "GameServer",
        "metadata": {"namespace": namespace, "name": "set-1"},
        "spec": {"containers": [{"name": "game", "resources": {"requests": {"cpu": "9"}}}]},
    });
    kubectl_apply(&gate, &larger).await?.ok()?;
    let expected = "pods \"set-1\" is forbidden: exceeded quota: gate-kruise-overrides, requested: requests.cpu=8, \
                    used: requests.cpu=2, limited: requests.cpu=5";
    refused(kubectl_apply(&gate, &pod(namespace, "set", 1, "9")).await?, expected)?;
    kubectl_apply(&gate, &pod(namespace, "set", 0, "1")).await?.ok()?;
    kubectl_apply(&gate, &pod(namespace, "set", 1, "3")).await?.ok()?;
    used(&gate, namespace, "requests.cpu", "4").await?;
    used(&gate, namespace, "gameservers", "2").await?;
    refused(kubectl_apply(&gate, &set(namespace, "set", 4, "1")).await?, "exceeded quota")?;
    refused(kubectl_apply(&gate, &set(namespace, "other", 2, "1")).await?, "exceeded quota")?;
    // What is no game server is not limited.
    let mut other = pod(namespace, "other", 0, "900");
    other["metadata"]["labels"] = json!({"app": "other"});
    kubectl_apply(&gate, &other).await?.ok()?;
    used(&gate, namespace, "requests.cpu", "4").await
}

async fn templates(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-kruise-templates";
    limited(&gate, namespace, json!({"gameservers": "9", "requests.cpu": "8"})).await?;
    kubectl_apply(&gate, &set(namespace, "set", 2, "4")).await?.ok()?;
    for number in 0..2 {
        kubectl_apply(&gate, &pod(namespace, "set", number, "4")).await?.ok()?;
    }
    used(&gate, namespace, "requests.cpu", "8").await?;
    // A partition keeps the pods as they are.
    kubectl_apply(&gate, &set(namespace, "set", 2, "1m")).await?.ok()?;
    used(&gate, namespace, "requests.cpu", "8").await?;
    refused(kubectl_apply(&gate, &set(namespace, "next", 1, "1")).await?, "exceeded quota")?;
    // Nor may one be made beside them.
    refused(kubectl_apply(&gate, &pod(namespace, "set", 2, "4")).await?, "exceeded quota")
}

async fn deleted(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("gate-kruise-deleted", "gate-kruise-tenant");
    limited(&gate, namespace, json!({"gameservers": "2"})).await?;
    permit(&gate, namespace, user, &["*"]).await?;
    let tenant = gate.site.kubectl_as(user)?;
    kubectl_apply(&gate, &set(namespace, "set", 2, "1")).await?.ok()?;
    for number in 0..2 {
        kubectl_apply(&gate, &pod(namespace, "set", number, "1")).await?.ok()?;
    }
    tenant.run(["delete", "gameserversets.game.kruise.io", "set", "-n", namespace]).await?.ok()?;
    for name in ["set-0", "set-1"] {
        tenant.run(["delete", "pod", name, "-n", namespace, "--wait=false"]).await?.ok()?;
    }
    used(&gate, namespace, "gameservers", "2").await?;
    refused(kubectl_apply(&gate, &set(namespace, "next", 1, "1")).await?, "exceeded quota")?;
    refused(kubectl_apply(&gate, &pod(namespace, "set", 2, "1")).await?, "exceeded quota")?;
    for name in ["set-0", "set-1"] {
        let none = r#"{"metadata":{"finalizers":null}}"#;
        tenant.run(["patch", "pod", name, "-n", namespace, "--type=merge", "-p", none]).await?.ok()?;
    }
    admitted_in_time(&gate, &set(namespace, "next", 2, "1"), KNOWN).await
}

async fn changed(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("gate-kruise-changed", "gate-kruise-changer");
    limited(&gate, namespace, json!({"gameservers": "2", "requests.cpu": "4"})).await?;
    permit(&gate, namespace, user, &["*"]).await?;
    let tenant = gate.site.kubectl_as(user)?;
    kubectl_apply(&gate, &set(namespace, "set", 2, "1")).await?.ok()?;
    kubectl_apply(&gate, &pod(namespace, "set", 0, "1")).await?.ok()?;
    used(&gate, namespace, "requests.cpu", "2").await?;
    let label = ["label", "pod", "set-0", "-n", namespace, "--overwrite"];
    for change in ["game.kruise.io/owner-gss-", "game.kruise.io/owner-gss=other"] {
        let expected =
            "metadata.labels[game.kruise.io/owner-gss]: Forbidden: the pod is a game server of its set";
        refused(tenant.run(label.iter().chain(&[change])).await?, expected)?;
    }
    tenant.run(label.iter().chain(&["a=b"])).await?.ok()?;
    let resize = async |cpu: &str| {
        let requests = json!({"cpu": cpu, "memory": "1Gi"});
        let containers = json!([{"name": "game", "resources": {"requests": requests}}]);
        let body = json!({"spec": {"containers": containers}}).to_string();
        let patch = ["patch", "pod", "set-0", "-n", namespace, "--subresource=resize", "-p", &body];
        tenant.run(patch).await
    };
    refused(resize("9").await?, "exceeded quota: gate-kruise-changed, requested: requests.cpu=8")?;
    resize("3").await?.ok()?;
    used(&gate, namespace, "requests.cpu", "3").await?;
    refused(kubectl_apply(&gate, &set(namespace, "set", 4, "1")).await?, "exceeded quota")
}

async fn counted(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-kruise-counted";
    gate.namespace(namespace).await?;
    gate.put(&quota(namespace, json!({"count/pods": "2", "requests.cpu": "4"}))).await?;
    let is_ready = |quota: &Value| {
        let conditions = quota["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    gate.becomes(&format!("{POLICY}/tenantquotas/{namespace}"), KNOWN, is_ready).await?;
    kubectl_apply(&gate, &set(namespace, "set", 2, "1")).await?.ok()?;
    kubectl_apply(&gate, &pod(namespace, "set", 0, "2")).await?.ok()?;
    used(&gate, namespace, "requests.cpu", "2").await?;
    used(&gate, namespace, "count/pods", "1").await?;
    let other = |number| {
        let mut other = pod(namespace, "other", number, "900");
        other["metadata"]["labels"] = json!({"app": "other"});
        other
    };
    kubectl_apply(&gate, &other(0)).await?.ok()?;
    refused(kubectl_apply(&gate, &other(1)).await?, "requested: count/pods=1, used: count/pods=2")?;
    refused(kubectl_apply(&gate, &pod(namespace, "set", 1, "1")).await?, "requested: count/pods=1")?;
    gate.delete(&format!("{POLICY}/tenantquotas/{namespace}")).await
}
