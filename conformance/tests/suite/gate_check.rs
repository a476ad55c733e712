//! `gatehouse check --cluster`: files judged together with what the cluster holds.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, ensure};
use gatehouse_conformance::gatehouse;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::gate::{Gate, fleet, kustomization, policy, quota};
use crate::world::World;

const NAMESPACE: &str = "gate-check";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.guarded("gate_check::files_are_judged_together_with_what_the_cluster_holds", together)]
}

async fn together(gate: Arc<Gate>) -> anyhow::Result<()> {
    gate.namespace(NAMESPACE).await?;
    gate.put(&fleet(NAMESPACE, "live", 3)).await?;
    gate.put(&kustomization(NAMESPACE, "b", json!({"dependsOn": [{"name": "a"}]}))).await?;
    gate.put(&policy(NAMESPACE, json!({"rules": {"dependencyCycles": "Forbid"}}))).await?;
    gate.put(&quota(NAMESPACE, json!({"gameservers": "5"}))).await?;

    let a = kustomization(NAMESPACE, "a", json!({"dependsOn": [{"name": "b"}]}));
    let found = check(&gate, &[&a, &fleet(NAMESPACE, "more", 3)]).await?;
    ensure!(found.len() == 2, "{found:#?}");
    ensure!(found[0]["rule"] == "dependencyCycles" && found[0]["name"] == "a", "{found:#?}");
    ensure!(found[0]["message"].to_string().contains("a → b → a"), "{found:#?}");
    ensure!(found[1]["rule"] == "gameservers" && found[1]["name"] == "more", "{found:#?}");

    // What a file changes is as the file says.
    let a = kustomization(NAMESPACE, "a", json!({}));
    let found = check(&gate, &[&a, &fleet(NAMESPACE, "live", 2), &fleet(NAMESPACE, "more", 3)]).await?;
    ensure!(found.is_empty(), "{found:#?}");
    // No increase, so no refusal, even though nothing is left.
    let found = check(&gate, &[&fleet(NAMESPACE, "live", 3), &fleet(NAMESPACE, "none", 0)]).await?;
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

/// What is found in these objects by the policy and the quota of this trial; others come and go meanwhile.
async fn check(gate: &Gate, objects: &[&Value]) -> anyhow::Result<Vec<Value>> {
    let folder = tempfile::tempdir()?;
    for (number, object) in objects.iter().enumerate() {
        fs::write(folder.path().join(format!("{number}.json")), object.to_string())?;
    }
    let executable = match &gate.site.options.executable {
        Some(executable) => executable.clone(),
        None => gatehouse::executable().await?,
    };
    let output = Command::new(executable)
        .args(["check", "--cluster", "-o", "json", "--kubeconfig"])
        .arg(gate.site.control_plane.kubeconfig())
        .arg("-f")
        .arg(folder.path())
        .env_remove("RUST_LOG")
        .kill_on_drop(true)
        .output()
        .await?;
    let printed = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).with_context(|| printed.clone().into_owned())?;
    let findings = report["findings"].as_array().context("findings")?;
    ensure!(output.status.code() == Some(i32::from(!findings.is_empty())), "{} {printed}", output.status);
    Ok(findings.iter().filter(|finding| finding["policy"] == NAMESPACE).cloned().collect())
}
