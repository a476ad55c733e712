//! What Flux is refused, it is refused in a dry run: that is counted apart, and recognized in what its controllers say.

use std::sync::Arc;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::flux::{ACCOUNT, KustomizeController};
use crate::gate::{Gate, KNOWN, POLICY, fleet, kustomization, policy, quota};
use crate::site;
use crate::world::{World, settles};

const VIEWS: &str = "/apis/view.gatehouse.dev/v1alpha1";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.guarded("gate_held_back::what_flux_is_refused_is_told_of_the_quota_and_the_policy", reported)]
}

async fn reported(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-held-back";
    gate.namespace(namespace).await?;
    let (large, careless) =
        (fleet(namespace, "large", 5), kustomization(namespace, "careless", json!({"prune": false})));
    gate.put(&quota(namespace, json!({"gameservers": "2"}))).await?;
    gate.until_refused("/quota", namespace, &large).await?;
    gate.put(&policy(namespace, json!({"rules": {"prune": "Required"}}))).await?;
    gate.until_refused("/validate", namespace, &careless).await?;

    let decisions = async |dry_run: &str| {
        let labels = [("quota", namespace), ("outcome", "exceeded"), ("dry_run", dry_run)];
        gate.metric("gatehouse_quota_decisions_total", &labels).await
    };
    let before = decisions("All").await?;
    let controller = KustomizeController::new(&gate, ACCOUNT, &[namespace]).await?;
    let refused = async |object: &Value| {
        let printed = controller.dry_run(object).await.err().context("it is refused")?;
        let printed = format!("{printed:#}");
        let start = printed.find("admission webhook").with_context(|| printed.clone())?;
        anyhow::Ok(format!("dry-run failed (Forbidden): {}", printed[start..].trim_end()))
    };
    let (by_quota, by_policy) = (refused(&large).await?, refused(&careless).await?);
    ensure!(decisions("All").await? > before, "dry runs are counted apart");
    ensure!(decisions("").await? == 0.0, "nothing else was refused");

    for (name, printed) in [("fleets", &by_quota), ("apps", &by_policy)] {
        gate.put(&site::kustomization(namespace, name, Err(printed))).await?;
    }
    let row = async |name: &str, by: Value| {
        let path = format!("{VIEWS}/namespaces/{namespace}/fluxresources/local.kustomization.{name}");
        let ask = async || gate.caller.get(&path).await;
        let reported = format!("{name} is held back by {by}");
        settles(reported, KNOWN, ask, |answer| answer.body["status"]["deniedBy"] == by).await
    };
    row("fleets", json!([{"kind": "TenantQuota", "name": namespace}])).await?;
    row("apps", json!([{"kind": "ReconcilePolicy", "name": namespace}])).await?;
    let counted = async |objects: i64| {
        for path in
            [format!("{VIEWS}/tenantusages/{namespace}"), format!("{POLICY}/reconcilepolicies/{namespace}")]
        {
            gate.becomes(&path, KNOWN, |object| object["status"]["heldBack"] == objects).await?;
        }
        anyhow::Ok(())
    };
    counted(1).await?;
    let quota = gate.get(&format!("{POLICY}/tenantquotas/{namespace}")).await?;
    let denied = quota["status"]["denied"].as_i64().unwrap_or_default();
    ensure!(denied == 0, "a dry run is no request that was refused: {quota}");

    for name in ["fleets", "apps"] {
        gate.put(&site::kustomization(namespace, name, Ok(()))).await?;
    }
    counted(0).await?;
    row("fleets", Value::Null).await?;
    Ok(())
}
