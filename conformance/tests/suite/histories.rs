//! What kubectl shows of histories: what was applied lately anywhere, and since which revision something fails.

use std::sync::Arc;

use anyhow::ensure;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::site::{Site, by_name, kustomization};
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("histories::what_was_applied_is_listed_over_all_namespaces", applied),
        world.shared("histories::the_first_failure_tells_since_which_revision", failing),
    ]
}

async fn applied(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let table = kubectl.run(["get", "fxh", "-A"]).await?.ok()?;
    let heading = "NAMESPACE NAME OBJECT REVISION RESULT ACTION FIRST LAST TOOK TIMES";
    ensure!(
        table.lines().next().is_some_and(|line| line.split_whitespace().eq(heading.split(' '))),
        "{table}"
    );
    // The example's Kustomization and the fourth release of its chart.
    let row =
        table.lines().find(|line| line.contains("local.kustomization.shop.5c8d1f0e7a4b")).unwrap_or_default();
    ensure!(row.contains("main@sha1:91d2c7f0") && row.contains("2.418s") && row.contains("37"), "{table}");
    let row =
        table.lines().find(|line| line.contains("local.helmrelease.cert-manager.v4")).unwrap_or_default();
    ensure!(row.contains("cert-manager@1.19.2") && row.contains("Succeeded"), "{table}");

    let sorted = ["get", "fxh", "-A", "--sort-by=.status.last", "-o", "json"];
    let sorted: Value = serde_json::from_str(&kubectl.run(sorted).await?.ok()?)?;
    let times: Vec<_> =
        sorted["items"].as_array().into_iter().flatten().map(|row| &row["status"]["last"]).collect();
    ensure!(
        times.len() > 10 && times.is_sorted_by_key(|time| time.as_str().unwrap_or_default()),
        "{times:?}"
    );
    Ok(())
}

async fn failing(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "histories-failing";
    let entry = |digit: char, status: &str, revision: &str, at: &str| {
        json!({
            "digest": format!("sha256:{}", digit.to_string().repeat(64)), "lastReconciledStatus": status,
            "firstReconciled": at, "lastReconciled": at, "lastReconciledDuration": "1m2.5s", "totalReconciliations": 3,
            "metadata": {"revision": revision},
        })
    };
    let mut object = kustomization(namespace, "shop", Err("health check failed after 5m0s"));
    object["status"]["history"] = json!([
        entry('c', "HealthCheckFailed", "main@sha1:3", "2026-11-21T10:00:00Z"),
        entry('b', "HealthCheckFailed", "main@sha1:2", "2026-11-21T09:00:00Z"),
        entry('a', "ReconciliationSucceeded", "main@sha1:1", "2026-11-21T08:00:00Z"),
    ]);
    site.apply([object]).await?;
    let kubectl = site.kubectl()?;
    let first = "fxh/local.kustomization.shop.aaaaaaaaaaaa";
    kubectl.run(["wait", "--for=create", "--timeout=20s", "-n", namespace, first]).await?.ok()?;
    let select = async |selector: &str| {
        let args = ["get", "fxh", "-n", namespace, "-o", "json", "--field-selector", selector];
        let list: Value = serde_json::from_str(&kubectl.run(args).await?.ok()?)?;
        let revisions: Vec<_> =
            by_name(&list).values().map(|row| row["status"]["revision"].clone()).collect();
        anyhow::Ok(revisions)
    };
    ensure!(select("status.firstFailure=true").await? == ["main@sha1:2"]);
    ensure!(select("status.current=true,status.result=Failed").await? == ["main@sha1:3"]);
    ensure!(select("status.result=Succeeded,status.kind=Kustomization").await? == ["main@sha1:1"]);
    let get = ["get", "fxr", "local.kustomization.shop", "-n", namespace, "-o", "json"];
    let row: Value = serde_json::from_str(&kubectl.run(get).await?.ok()?)?;
    let status = &row["status"];
    let revisions = [&status["lastGoodRevision"], &status["failedRevision"], &status["failedSince"]];
    ensure!(revisions == ["main@sha1:1", "main@sha1:2", "2026-11-21T09:00:00Z"], "{status:#}");
    kubectl.run(["delete", "kustomization", "shop", "-n", namespace]).await?.ok()?;
    kubectl.run(["wait", "--for=delete", "--timeout=20s", "-n", namespace, first]).await?.ok()?;
    Ok(())
}
