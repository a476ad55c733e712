//! What kubectl shows of the Applications of Argo CD.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::site::{Site, by_name};
use crate::world::World;

/// For a change of an object, on a busy machine.
const SHOWN: Duration = Duration::from_secs(20);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("argo::applications_are_listed_and_selected", listed),
        world.shared("argo::summaries_count_drift_apart_from_failure", summaries),
        world.shared("argo::a_watch_follows_drift_and_failure_apart", watched),
    ]
}

async fn listed(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let table = kubectl.run(["get", "argoapplications", "-n", "argocd"]).await?.ok()?;
    let heading = "NAME PROJECT SYNC HEALTH STATE REVISION DESTINATION CAUSE MESSAGE";
    ensure!(table.lines().next().unwrap_or_default().split_whitespace().eq(heading.split(' ')), "{table}");
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let bridge = row("local.application.payments-bridge");
    ensure!(bridge.contains("Deployment/team-a/payments-bridge Degraded"), "{table}");
    ensure!(row("local.application.reports").contains("helm template failed"), "{table}");

    let wide = kubectl.run(["get", "aap", "-n", "argocd", "-o", "wide"]).await?.ok()?;
    let more = [
        "SINCE",
        "DRIFTED",
        "OPERATION",
        "OPERATED",
        "CONDITION",
        "LAST-GOOD",
        "GOOD-SINCE",
        "FAILED-REVISION",
        "CLUSTER",
    ];
    let headings: Vec<_> = wide.lines().next().unwrap_or_default().split_whitespace().collect();
    ensure!(headings.ends_with(&more), "{wide}");

    for (select, name) in [
        ("status.sync=OutOfSync,status.state!=Failed", "landing-page"),
        ("status.health=Degraded,status.project=default", "payments-bridge"),
    ] {
        let args = ["get", "aap", "-n", "argocd", "-o", "json", "--field-selector", select];
        let list: Value = serde_json::from_str(&kubectl.run(args).await?.ok()?)?;
        let key = ("argocd".to_owned(), format!("local.application.{name}"));
        ensure!(by_name(&list).keys().eq([&key]), "{select}: {list:#}");
    }
    let wait = [
        "wait",
        "--for=condition=Ready",
        "aap/local.application.landing-page",
        "-n",
        "argocd",
        "--timeout=20s",
    ];
    kubectl.run(wait).await?.ok()?;
    Ok(())
}

fn application(namespace: &str, sync: &str, health: &str) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"namespace": namespace, "name": "web"},
        "spec": {
            "project": "web", "destination": {"name": "in-cluster", "namespace": "web"},
            "source": {"repoURL": "https://git.example.com/web", "path": "."},
        },
        "status": {
            "sync": {"status": sync, "revision": "1.2.3"}, "health": {"status": health},
            "operationState": {"phase": "Succeeded", "startedAt": "2026-11-21T08:40:40Z",
                "operation": {"sync": {"revision": "1.2.3"}}},
        },
    })
}

async fn watched(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "argo-watch";
    site.apply([application(namespace, "Synced", "Healthy")]).await?;
    let kubectl = site.kubectl()?;
    let format = concat!(
        "jsonpath={.status.sync} {.status.health} {.status.state} {.status.drifted} ",
        r#"{.status.conditions[?(@.type=="Ready")].status}{"\n"}"#
    );
    let mut watch = kubectl.watch(["get", "aap", "-n", namespace, "-w", "-o", format])?;
    let shows = |cells: &'static str| move |line: &str| line.trim() == cells;
    watch.line_where(Duration::from_secs(30), shows("Synced Healthy Ready false True")).await?;
    for (sync, health, cells) in [
        ("OutOfSync", "Healthy", "OutOfSync Healthy Suspended true True"),
        ("OutOfSync", "Degraded", "OutOfSync Degraded Failed true False"),
        ("Synced", "Degraded", "Synced Degraded Failed false False"),
        ("Synced", "Healthy", "Synced Healthy Ready false True"),
    ] {
        site.apply([application(namespace, sync, health)]).await?;
        watch.line_where(SHOWN, shows(cells)).await?;
    }
    Ok(())
}

async fn summaries(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let table = kubectl.run(["get", "argosummaries", "-n", "argocd"]).await?.ok()?;
    let heading =
        "NAME TOTAL SYNCED OUT-OF-SYNC HEALTHY DEGRADED PROGRESSING FAILED DRIFTED OLDEST-FAILURE WORST";
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    ensure!(lines.next().unwrap_or_default() == heading.split(' ').collect::<Vec<_>>(), "{table}");
    ensure!(
        lines.next().unwrap_or_default()[..9] == ["local", "4", "2", "1", "3", "1", "0", "2", "1"],
        "{table}"
    );
    let wide = kubectl.run(["get", "aps", "-n", "argocd", "-o", "wide"]).await?.ok()?;
    ensure!(wide.lines().next().unwrap_or_default().ends_with("MESSAGE"), "{wide}");

    let namespace = "argo-summary";
    site.apply([application(namespace, "OutOfSync", "Healthy")]).await?;
    let wait = ["wait", "--for=condition=Synced=false", "aps/local", "-n", namespace, "--timeout=20s"];
    kubectl.run(["wait", "--for=create", "aps/local", "-n", namespace, "--timeout=20s"]).await?.ok()?;
    kubectl.run(wait).await?.ok()?;
    kubectl
        .run(["wait", "--for=condition=Ready", "aps/local", "-n", namespace, "--timeout=20s"])
        .await?
        .ok()?;
    let args = ["get", "aps", "-A", "-o", "name", "--field-selector", "status.state=Failed"];
    let failed = kubectl.run(args).await?.ok()?;
    ensure!(failed.lines().count() >= 1, "{failed}");
    Ok(())
}
