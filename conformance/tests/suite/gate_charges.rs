//! What quotas charge, and for how much.

use std::sync::Arc;

use anyhow::ensure;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::flux::permit;
use crate::gate::{
    Gate, KNOWN, KUSTOMIZE, POLICY, config_map, fleet, game_server, kustomization, merge, quota,
};
use crate::gate_quotas::{admitted_in_time, kubectl_apply, used};
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_charges::an_autoscaler_may_not_go_beyond_the_limit", autoscaler),
        world.guarded("gate_charges::pteronimbus_game_servers_are_charged_by_their_template", pteronimbus),
        world.guarded("gate_charges::cpu_and_memory_are_summed_over_replicas", resources),
        world.guarded("gate_charges::players_are_the_capacity_of_counters_and_lists", players),
        world.guarded("gate_charges::limits_and_capacities_are_summed_over_replicas", limits),
        world.guarded("gate_charges::claims_are_charged_when_created_and_expanded", claims),
        world.guarded("gate_charges::any_kind_is_counted", any_kind),
        world.guarded("gate_charges::flux_objects_are_counted", flux_objects),
    ]
}

async fn autoscaler(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-autoscaler";
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"gameservers": "10"}), &fleet(namespace, "big", 11)).await?;
    gate.put(&fleet(namespace, "f", 2)).await?;
    let autoscaler = |most: i64| {
        json!({
            "apiVersion": "autoscaling.agones.dev/v1", "kind": "FleetAutoscaler",
            "metadata": {"namespace": namespace, "name": "f"},
            "spec": {"fleetName": "f", "policy": {
                "type": "Buffer", "buffer": {"bufferSize": 2, "minReplicas": 2, "maxReplicas": most},
            }},
        })
    };
    let printed = kubectl_apply(&gate, &autoscaler(11)).await?.failed()?;
    ensure!(printed.contains("exceeded quota: gate-autoscaler"), "{printed}");
    kubectl_apply(&gate, &autoscaler(10)).await?.ok()?;
    // A ceiling is no charge.
    kubectl_apply(&gate, &fleet(namespace, "g", 8)).await?.ok()?;
    Ok(())
}

async fn pteronimbus(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-pteronimbus";
    gate.namespace(namespace).await?;
    gate.put(&json!({
        "apiVersion": "pteronimbus.io/v1", "kind": "GameTemplate",
        "metadata": {"namespace": namespace, "name": "small"},
        "spec": {"gameType": "any", "image": "game:1", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
    }))
    .await?;
    let server = |name: &str| {
        json!({
            "apiVersion": "pteronimbus.io/v1", "kind": "GameServer",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"templateRef": {"name": "small"}, "tenantId": "a"},
        })
    };
    gate.quota(namespace, json!({"gameservers": "5", "requests.cpu": "2"}), &fleet(namespace, "big", 6))
        .await?;
    kubectl_apply(&gate, &server("a")).await?.ok()?;
    kubectl_apply(&gate, &server("b")).await?.ok()?;
    let printed = kubectl_apply(&gate, &server("c")).await?.failed()?;
    ensure!(
        printed.contains("exceeded quota: gate-pteronimbus, requested: requests.cpu=1, used: requests.cpu=2"),
        "{printed}"
    );
    template_in_use(&gate, namespace).await
}

/// A template is kept while servers are counted by it.
async fn template_in_use(gate: &Gate, namespace: &str) -> anyhow::Result<()> {
    let (kubectl, user) = (gate.kubectl()?, "gate-pteronimbus-tenant");
    permit(gate, namespace, user, &["*"]).await?;
    let tenant = gate.site.kubectl_as(user)?;
    let patch = ["patch", "gametemplate", "small", "-n", namespace, "--type=merge", "-p"];
    let sized = |cpu: &str| json!({"spec": {"resources": {"requests": {"cpu": cpu}}}}).to_string();
    let refused = "the quota gate-pteronimbus counts game servers by the template small: delete them first";
    for cpu in ["1m", "500"] {
        let printed = tenant.run(patch.iter().copied().chain([&*sized(cpu)])).await?.failed()?;
        ensure!(printed.contains(refused), "{cpu}: {printed}");
    }
    let delete = ["delete", "gametemplate", "small", "-n", namespace];
    let printed = tenant.run(delete).await?.failed()?;
    ensure!(printed.contains(refused), "{printed}");
    // What its servers do not use may change.
    let image = json!({"spec": {"image": "game:2", "resources": {"requests": {"cpu": "1000m"}}}}).to_string();
    tenant.run(patch.iter().copied().chain([&*image])).await?.ok()?;
    used(gate, namespace, "requests.cpu", "2").await?;
    // Whoever may update the quota decides for himself.
    kubectl.run(patch.iter().copied().chain([&*sized("500m")])).await?.ok()?;
    used(gate, namespace, "requests.cpu", "1").await?;
    for server in ["a", "b"] {
        let servers = ["delete", "gameservers.pteronimbus.io", server, "-n", namespace];
        tenant.run(servers).await?.ok()?;
    }
    used(gate, namespace, "requests.cpu", "0").await?;
    tenant.run(patch.iter().copied().chain([&*sized("2")])).await?.ok()?;
    tenant.run(delete).await?.ok()?;
    Ok(())
}

async fn resources(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-resources";
    gate.namespace(namespace).await?;
    let hard = json!({"requests.cpu": "2500m", "requests.memory": "2Gi"});
    gate.quota(namespace, hard, &fleet(namespace, "big", 6)).await?;
    kubectl_apply(&gate, &fleet(namespace, "f", 3)).await?.ok()?;
    let printed = kubectl_apply(&gate, &fleet(namespace, "g", 2)).await?.failed()?;
    ensure!(
        printed.contains(
            "requested: requests.memory=1Gi, used: requests.memory=1536Mi, limited: requests.memory=2Gi"
        ),
        "{printed}"
    );
    kubectl_apply(&gate, &game_server(namespace, "one")).await?.ok()?;
    used(&gate, namespace, "requests.cpu", "2").await?;
    used(&gate, namespace, "requests.memory", "2Gi").await
}

async fn players(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-players";
    gate.namespace(namespace).await?;
    let with = |name: &str, replicas: i64| {
        let mut fleet = fleet(namespace, name, replicas);
        let fields = json!({"lists": {"players": {"capacity": 10}}, "counters": {"rooms": {"capacity": 5}}});
        merge(&mut fleet["spec"]["template"]["spec"], fields);
        fleet
    };
    gate.quota(namespace, json!({"players": "40"}), &with("big", 9)).await?;
    kubectl_apply(&gate, &with("f", 2)).await?.ok()?;
    let printed = kubectl_apply(&gate, &with("g", 9)).await?.failed()?;
    ensure!(printed.contains("limited: players=40"), "{printed}");
    Ok(())
}

async fn limits(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-limits";
    gate.namespace(namespace).await?;
    let with = |name: &str, replicas: i64, rooms: i64, cpu: &str| {
        let mut fleet = fleet(namespace, name, replicas);
        let server = &mut fleet["spec"]["template"]["spec"];
        server["lists"] = json!({"rooms": {"capacity": rooms}});
        let limits = json!({"cpu": cpu, "memory": "1Gi"});
        server["template"]["spec"]["containers"][0]["resources"]["limits"] = limits;
        fleet
    };
    let hard = json!({"limits.cpu": "4", "limits.memory": "8Gi", "capacity/rooms": "20"});
    gate.quota(namespace, hard, &with("big", 9, 1, "1")).await?;
    kubectl_apply(&gate, &with("f", 2, 5, "1")).await?.ok()?;
    for (fleet, exceeded) in [
        (with("g", 3, 1, "1"), "requested: limits.cpu=3, used: limits.cpu=2, limited: limits.cpu=4"),
        (
            with("g", 1, 11, "1"),
            "requested: capacity/rooms=11, used: capacity/rooms=10, limited: capacity/rooms=20",
        ),
    ] {
        let printed = kubectl_apply(&gate, &fleet).await?.failed()?;
        ensure!(printed.contains(exceeded), "no {exceeded:?} in {printed}");
    }
    let printed = kubectl_apply(&gate, &fleet(namespace, "unlimited", 1)).await?.failed()?;
    ensure!(printed.contains("must specify limits.cpu for: game; limits.memory for: game"), "{printed}");
    for (key, amount) in [("limits.cpu", "2"), ("limits.memory", "2Gi"), ("capacity/rooms", "10")] {
        used(&gate, namespace, key, amount).await?;
    }
    Ok(())
}

async fn claims(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-claims";
    gate.namespace(namespace).await?;
    gate.put(&json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": namespace},
        "provisioner": "example.org/none", "allowVolumeExpansion": true,
    }))
    .await?;
    let claim = |name: &str, storage: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {
                "storageClassName": namespace, "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": storage}},
            },
        })
    };
    gate.put(&quota(namespace, json!({"requests.storage": "10Gi"}))).await?;
    is_intercepted(&gate, namespace).await?;
    let printed = kubectl_apply(&gate, &claim("large", "11Gi")).await?.failed()?;
    let expected = "persistentvolumeclaims \"large\" is forbidden: exceeded quota: gate-claims, requested: requests.storage=11Gi, used: requests.storage=0, limited: requests.storage=10Gi";
    ensure!(printed.contains(expected), "{printed}");
    // Only a bound claim may be expanded.
    let mut bound = claim("data", "4Gi");
    bound["status"] = json!({"phase": "Bound"});
    gate.put(&bound).await?;
    used(&gate, namespace, "requests.storage", "4Gi").await?;
    kubectl_apply(&gate, &claim("data", "8Gi")).await?.ok()?;
    let printed = kubectl_apply(&gate, &claim("data", "12Gi")).await?.failed()?;
    ensure!(printed.contains("requested: requests.storage=4Gi, used: requests.storage=8Gi"), "{printed}");
    // What asks for no more needs no room.
    let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/data");
    let mut annotated = claim("data", "8Gi");
    annotated["metadata"]["annotations"] = json!({"a": "b"});
    kubectl_apply(&gate, &annotated).await?.ok()?;
    // Without its controller nobody removes the finalizer that protects it, and it would count for ever.
    let unprotect = ["patch", "pvc", "data", "-n", namespace, "--type=merge", "-p"];
    let none = [r#"{"metadata":{"finalizers":null}}"#];
    gate.kubectl()?.run(unprotect.iter().chain(&none)).await?.ok()?;
    gate.delete(&path).await?;
    admitted_in_time(&gate, &claim("next", "10Gi"), KNOWN).await
}

/// Waits until kube-apiserver sends what a quota counts: what is not sent is not counted.
async fn is_intercepted(gate: &Gate, quota: &str) -> anyhow::Result<()> {
    let is_ready = |quota: &Value| {
        let conditions = quota["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    gate.becomes(&format!("{POLICY}/tenantquotas/{quota}"), KNOWN, is_ready).await?;
    Ok(())
}

async fn any_kind(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-any-kind";
    gate.namespace(namespace).await?;
    gate.put(&quota(namespace, json!({"count/configmaps": "2"}))).await?;
    is_intercepted(&gate, namespace).await?;
    kubectl_apply(&gate, &config_map(namespace, "a")).await?.ok()?;
    kubectl_apply(&gate, &config_map(namespace, "b")).await?.ok()?;
    let printed = kubectl_apply(&gate, &config_map(namespace, "c")).await?.failed()?;
    let expected = "configmaps \"c\" is forbidden: exceeded quota: gate-any-kind, requested: count/configmaps=1, used: count/configmaps=2, limited: count/configmaps=2";
    ensure!(printed.contains(expected), "{printed}");
    gate.delete(&format!("/api/v1/namespaces/{namespace}/configmaps/a")).await?;
    admitted_in_time(&gate, &config_map(namespace, "c"), KNOWN).await
}

async fn flux_objects(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-flux-count";
    gate.namespace(namespace).await?;
    gate.put(&kustomization(namespace, "a", json!({}))).await?;
    let another = kustomization(namespace, "b", json!({}));
    let hard = json!({"count/kustomizations.kustomize.toolkit.fluxcd.io": "1"});
    gate.quota(namespace, hard, &another).await?;
    let printed = kubectl_apply(&gate, &another).await?.failed()?;
    ensure!(printed.contains("count/kustomizations.kustomize.toolkit.fluxcd.io=1"), "{printed}");
    // Changing what there is takes no room.
    kubectl_apply(&gate, &kustomization(namespace, "a", json!({"interval": "11m"}))).await?.ok()?;
    let path = format!("{KUSTOMIZE}/namespaces/{namespace}/kustomizations/a");
    ensure!(gate.get(&path).await?["spec"]["interval"] == "11m");
    Ok(())
}
