//! The cost of decoding and judging a Kustomization: `cargo bench -p gatehouse-inventory`.

use std::time::Instant;

use gatehouse_inventory::{Interner, catalogue::Catalogue};
use serde_json::{Value, json};

const ROUNDS: u32 = 20_000;

fn main() {
    let catalogue = Catalogue::builtin();
    let kind = catalogue.find("kustomize.toolkit.fluxcd.io", "Kustomization").expect("a built-in kind");
    let interner = Interner::default();
    let objects: Vec<String> = (0..100).map(|n| realistic(n).to_string()).collect();
    let start = Instant::now();
    let mut size = 0;
    for (_, object) in (0..ROUNDS).zip(objects.iter().cycle()) {
        size = catalogue.observe(kind, object, &interner, 0).expect("it is well-formed").size();
    }
    println!("{} bytes: {:?} each; record {size} bytes", objects[0].len(), start.elapsed() / ROUNDS);
}

/// A Kustomization as a cluster serves it: managedFields, 25 inventory entries, history, dependsOn.
fn realistic(n: usize) -> Value {
    let revision = "main@sha1:3f6c1d0a9be24d5f8c7e1b2a6d4f90817263a5bc";
    let condition = |type_: &str, reason: &str| {
        json!({"type": type_, "status": "True", "reason": reason, "observedGeneration": 3,
            "message": format!("Applied revision: {revision}"), "lastTransitionTime": "2026-03-01T10:00:00Z"})
    };
    let entry = |e: usize| json!({"id": format!("team-{n}_service-{e}_apps_Deployment"), "v": "v1"});
    let history = json!({"digest": format!("sha256:{}", "5c".repeat(32)), "lastReconciledDuration": "2.4s",
        "firstReconciled": "2026-03-01T10:00:00Z", "lastReconciled": "2026-03-01T10:00:00Z",
        "lastReconciledStatus": "ReconciliationSucceeded", "totalReconciliations": 12,
        "metadata": {"revision": revision}});
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {
            "name": format!("app-{n}"), "namespace": format!("team-{}", n % 10), "generation": 3,
            "uid": "0a1b2c3d-0000-4000-8000-000000000000", "resourceVersion": "123456",
            "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["finalizers.fluxcd.io"],
            "labels": {"kustomize.toolkit.fluxcd.io/name": "flux-system"},
            "managedFields": [{"manager": "kustomize-controller", "operation": "Apply", "fieldsV1":
                {"f:spec": {"f:interval": {}, "f:path": {}, "f:prune": {}, "f:sourceRef": {}, "f:timeout": {},
                 "f:dependsOn": {}, "f:targetNamespace": {}}, "f:status": {"f:conditions": {}, "f:history": {},
                 "f:inventory": {"f:entries": {}}, "f:lastAppliedRevision": {}, "f:observedGeneration": {}}}}],
        },
        "spec": {"interval": "10m", "timeout": "5m", "retryInterval": "2m", "prune": true, "wait": true,
            "path": format!("./apps/{n}"), "sourceRef": {"kind": "GitRepository", "name": "fleet", "namespace": "flux-system"},
            "dependsOn": [{"name": format!("app-{}", n + 1)}, {"name": "infra", "namespace": "flux-system"}]},
        "status": {"observedGeneration": 3, "lastAppliedRevision": revision, "lastAttemptedRevision": revision,
            "conditions": [condition("Ready", "ReconciliationSucceeded"), condition("Healthy", "Succeeded")],
            "history": [history.clone(), history.clone(), history],
            "inventory": {"entries": (0..25).map(entry).collect::<Vec<_>>()}},
    })
}
