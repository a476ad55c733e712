//! Alerts and dashboards match the installed components: an alert about a component that is not installed would fire
//! forever.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use gatehouse_conformance::helm::{self, Helm, Values};
use gatehouse_conformance::load::Manifest;
use serde_json::Value;

/// The values that enable all alerts and dashboards.
const ON: [&str; 2] = ["metrics.prometheusRule.enabled=true", "metrics.dashboards.enabled=true"];

/// Values, and the alerts and dashboards that are missing with them.
const WITHOUT: [(&[&str], &[&str], &[&str]); 4] = [
    (&[], &[], &[]),
    (
        &["apiserver.enabled=false"],
        &["GatehouseApiserverDown", "GatehouseClusterUnreachable", "GatehouseViewUnavailable"],
        &["clusters", "flux"],
    ),
    (
        &["webhooks.enabled=false"],
        &["GatehouseWebhooksDown", "GatehouseNoLeader", "GatehouseTenantAtLimit"],
        &["gate", "tenants"],
    ),
    (
        &["metrics.fluxResources=false", "audit.enabled=false", "tls.mode=cert-manager"],
        &["GatehouseAuditEventsLost", "GatehouseRegistrationDiffers"],
        &["flux"],
    ),
];

pub(super) async fn installed() -> anyhow::Result<()> {
    let helm = Helm::find().await?;
    let every = written()?;
    for (set, no_alerts, no_dashboards) in WITHOUT {
        let objects = helm.objects(&Values::of("full").and(ON).and(set.iter().copied())).await?;
        let alerts: BTreeSet<_> = rules(&objects).map(|rule| text(&rule["alert"])).collect();
        for name in &every {
            let is_out = no_alerts.contains(&name.as_str());
            // Other alerts may be missing too.
            ensure!(!(is_out && alerts.contains(name)), "{set:?}: {name} is there");
            ensure!(alerts.contains(name) || !set.is_empty(), "{name} is not there");
        }
        for (half, job) in [("apiserver", "gatehouse-apiserver"), ("webhooks", "gatehouse-webhooks")] {
            let expected = !set.contains(&format!("{half}.enabled=false").as_str());
            let told = rules(&objects).any(|rule| text(&rule["expr"]).contains(&format!("\"{job}\"")));
            ensure!(told == expected, "{set:?}: an alert names the job {job}: {told}");
        }
        for name in ["clusters", "flux", "gate", "server", "tenants"] {
            let expected = !no_dashboards.contains(&name);
            let found = named(&objects, "ConfigMap", &format!("gatehouse-dashboard-{name}")).is_some();
            ensure!(found == expected, "{set:?}: the dashboard {name} is there: {found}");
        }
    }
    Ok(())
}

/// The expression of an alert.
pub(super) fn expression(objects: &[Manifest], alert: &str) -> anyhow::Result<String> {
    let rule = rules(objects).find(|rule| rule["alert"] == alert);
    Ok(text(&rule.with_context(|| format!("there is no {alert}"))?["expr"]).trim().to_owned())
}

fn rules(objects: &[Manifest]) -> impl Iterator<Item = &Value> {
    let groups = named(objects, "PrometheusRule", "gatehouse").map(|object| &object["spec"]["groups"]);
    let groups = groups.and_then(Value::as_array).into_iter().flatten();
    groups.filter_map(|group| group["rules"].as_array()).flatten()
}

fn named<'a>(objects: &'a [Manifest], kind: &str, name: &str) -> Option<&'a Value> {
    let objects = objects.iter().map(|one| &one.object);
    objects.into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The names of the alerts in the chart's file. Each must be installed with some values.
fn written() -> anyhow::Result<BTreeSet<String>> {
    let file = std::fs::read_to_string(helm::chart().join("files/alerts.yaml"))?;
    let names = file.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: BTreeSet<_> = names.map(ToOwned::to_owned).collect();
    ensure!(!names.is_empty(), "no alerts");
    Ok(names)
}
