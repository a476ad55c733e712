//! The objects that the traffic reads and writes, and the quotas and the policy that apply to them.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use super::send;

/// The namespace of the object that is changed again and again.
pub(super) const VIEWS: &str = "traffic-views";
/// The name of that object.
pub(super) const MARKER: &str = "marker";
/// A quota, and its namespace, that has room for everything.
pub(super) const ROOM: &str = "traffic-room";
/// A quota, and its namespace, that has room for nothing.
pub(super) const FULL: &str = "traffic-full";
/// A policy, and its namespace, that requires pruning.
pub(super) const JUDGED: &str = "traffic-judged";

/// The label that selects a namespace; its value is the namespace's name.
const LABEL: &str = "traffic";

const IN_FORCE: Duration = Duration::from_mins(1);

/// The namespaces, the quotas, the policy, and the object whose row is watched.
///
/// They must exist before the webhooks start, so that a replica that is ready has observed them.
pub fn objects() -> Vec<Value> {
    let mut objects: Vec<_> = [VIEWS, ROOM, FULL, JUDGED].map(namespace).into();
    objects.push(quota(ROOM, "100000"));
    objects.push(quota(FULL, "0"));
    objects.push(json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy",
        "metadata": {"name": JUDGED},
        "spec": {"namespaceSelector": selector(JUDGED), "rules": {"prune": "Required"}},
    }));
    let mut marker = kustomization(VIEWS, MARKER, true);
    marker["status"] = status(0);
    objects.push(marker);
    objects
}

/// A Fleet that the quota without room refuses for as long as it is enforced.
pub fn beyond_quota() -> Value {
    fleet(FULL, "beyond-quota", 1)
}

/// Waits until the quotas are enforced.
pub async fn in_force(client: &kube::Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + IN_FORCE;
    for name in [ROOM, FULL] {
        loop {
            let path = format!("/apis/policy.gatehouse.dev/v1alpha1/tenantquotas/{name}");
            let quota = send(client, "GET", &path, None).await?;
            let mut conditions = quota["status"]["conditions"].as_array().into_iter().flatten();
            if conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True") {
                break;
            }
            ensure!(Instant::now() < deadline, "the quota {name} is not held: {:#}", quota["status"]);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// The marker's status, as a controller would report it after the given change.
pub(super) fn status(change: u64) -> Value {
    json!({
        "observedGeneration": 1,
        "conditions": [{
            "type": "Ready", "status": "False", "reason": "BuildFailed", "message": format!("change {change}"),
            "observedGeneration": 1, "lastTransitionTime": "2026-11-21T08:40:40Z",
        }],
    })
}

/// The change that a row shows.
pub(super) fn change(row: &Value) -> Option<u64> {
    row["status"]["message"].as_str()?.strip_prefix("change ")?.parse().ok()
}

/// A Fleet with so many replicas.
pub(super) fn fleet(namespace: &str, name: &str, replicas: u32) -> Value {
    let container = json!({"name": "game", "image": "game:1"});
    let game = json!({"template": {"spec": {"containers": [container]}}});
    json!({
        "apiVersion": "agones.dev/v1", "kind": "Fleet", "metadata": {"namespace": namespace, "name": name},
        "spec": {"replicas": replicas, "template": {"spec": game}},
    })
}

/// A Kustomization with or without pruning.
pub(super) fn kustomization(namespace: &str, name: &str, prune: bool) -> Value {
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "interval": "10m", "prune": prune, "path": "./",
            "sourceRef": {"kind": "GitRepository", "name": "fleet"},
        },
    })
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {LABEL: name}}})
}

fn selector(namespace: &str) -> Value {
    json!({"matchLabels": {LABEL: namespace}})
}

fn quota(namespace: &str, servers: &str) -> Value {
    json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota",
        "metadata": {"name": namespace},
        "spec": {"namespaceSelector": selector(namespace), "hard": {"gameservers": servers}},
    })
}
