//! Alerts and dashboards in Prometheus' own parser and engine: the expressions are valid, and each alert fires when it
//! should and not in similar situations.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use gatehouse_conformance::helm::{Helm, Values};
use gatehouse_conformance::prometheus::{Alert, Prometheus, Situation};
use libtest_mimic::Trial;
use serde::Deserialize;
use serde_json::Value;

use crate::world::World;

/// The situations in which each alert fires or does not.
const CASES: &str = include_str!("alerts.yaml");

pub(super) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.apart("chart::rules_and_dashboards_are_sound_for_prometheus", sound),
        world.apart("chart::rules_fire_on_what_they_are_for", fire),
    ]
}

/// The monitoring that the chart renders.
pub(super) struct Rendered {
    /// The spec of the PrometheusRule, as text.
    pub(super) rules: String,
    /// The expressions of all alerts and panels.
    pub(super) expressions: Vec<Expression>,
    /// The ServiceMonitors.
    pub(super) monitors: Vec<Value>,
}

/// A PromQL expression.
pub(super) struct Expression {
    /// The name of the alert, or of the dashboard and panel.
    pub(super) place: String,
    pub(super) text: String,
    /// Whether it belongs to a panel.
    pub(super) is_panel: bool,
    /// The labels in its legend.
    pub(super) shown: Vec<String>,
}

impl Rendered {
    /// Renders the chart with everything enabled.
    pub(super) async fn of(helm: &Helm) -> anyhow::Result<Self> {
        let mut rendered = Self { rules: String::new(), expressions: Vec::new(), monitors: Vec::new() };
        let mut uids = BTreeSet::new();
        for manifest in helm.objects(&Values::of("full")).await? {
            let object = manifest.object;
            if object["kind"] == "PrometheusRule" {
                rendered.rules = object["spec"].to_string();
                alerts(&object["spec"], &mut rendered.expressions)?;
            }
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            if object["kind"] == "ConfigMap" && name.starts_with("gatehouse-dashboard-") {
                for text in object["data"].as_object().context("data")?.values() {
                    let dashboard: Value = serde_json::from_str(text.as_str().context("text")?)?;
                    let uid = dashboard["uid"].as_str().context("uid")?;
                    ensure!(uids.insert(uid.to_owned()), "two dashboards are called {uid}");
                    panels(uid, &dashboard, &mut rendered.expressions)?;
                }
            }
            if object["kind"] == "ServiceMonitor" {
                rendered.monitors.push(object);
            }
        }
        ensure!(!rendered.rules.is_empty() && !uids.is_empty(), "no alerts or no dashboards");
        Ok(rendered)
    }
}

/// Adds each alert with its expression. Each alert must have a summary, a description and a runbook.
fn alerts(spec: &Value, expressions: &mut Vec<Expression>) -> anyhow::Result<()> {
    for group in spec["groups"].as_array().context("groups")? {
        for rule in group["rules"].as_array().context("rules")? {
            let name = rule["alert"].as_str().context("an alert without a name")?;
            for annotation in ["summary", "description", "runbook"] {
                let said = rule["annotations"][annotation].as_str().unwrap_or_default();
                ensure!(!said.is_empty(), "{name} has no {annotation}");
            }
            let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
            ensure!(["critical", "warning", "info"].contains(&severity), "{name}: severity {severity:?}");
            let text = rule["expr"].as_str().with_context(|| format!("{name} has no expr"))?.to_owned();
            expressions.push(Expression { place: name.to_owned(), text, is_panel: false, shown: Vec::new() });
        }
    }
    Ok(())
}

/// Adds each panel of a dashboard with its expressions.
fn panels(uid: &str, dashboard: &Value, expressions: &mut Vec<Expression>) -> anyhow::Result<()> {
    for panel in dashboard["panels"].as_array().context("panels")? {
        let place = format!("{uid}: {}", panel["title"]);
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = target["expr"].as_str().with_context(|| format!("{place}: no expr"))?;
            let text = filled_in(text);
            ensure!(!text.contains('$'), "{place}: an unknown variable in {text}");
            let shown = shown(target["legendFormat"].as_str().unwrap_or_default());
            expressions.push(Expression { place: place.clone(), text, is_panel: true, shown });
        }
    }
    Ok(())
}

/// The text as Grafana fills it in if `All` is chosen.
fn filled_in(text: &str) -> String {
    text.replace("$__rate_interval", "5m").replace("$namespace", ".*").replace("$cluster", ".*")
}

/// The labels in `{{kind}} of {{name}}`.
fn shown(legend: &str) -> Vec<String> {
    let labels = legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
    labels.map(|(label, _)| label.trim().to_owned()).collect()
}

async fn sound() -> anyhow::Result<()> {
    let (prometheus, helm) = (Prometheus::find().await?, Helm::find().await?);
    let rendered = Rendered::of(&helm).await?;
    prometheus.evaluate(&Situation { rules: rendered.rules.clone(), ..Situation::default() }).await?;
    for Expression { place, text, .. } in &rendered.expressions {
        let selectors = prometheus.parse(&[text]).await.with_context(|| place.clone())?;
        ensure!(!selectors[0].is_empty(), "{place} asks for no metric: {text}");
    }
    // Check that invalid rules are detected.
    for (expected, unsound) in [
        ("parse error", rendered.rules.replacen("absent(", "absent(((", 1)),
        ("unknownfield", rendered.rules.replacen(r#""for":"#, r#""unknownfield":"#, 1)),
        ("undefined variable", rendered.rules.replacen("$labels.pod", "$label.pod", 1)),
    ] {
        ensure!(unsound != rendered.rules, "nothing to spoil for {expected}");
        let outcome = prometheus.evaluate(&Situation { rules: unsound, ..Situation::default() }).await;
        let said = outcome.err().with_context(|| format!("no {expected}"))?.to_string();
        ensure!(said.contains(expected), "{said}");
    }
    Ok(())
}

/// The situations of an alert.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    fires: Vec<Case>,
    silent: Vec<Case>,
}

/// A selector of each series in the situations.
pub(super) fn made_up() -> anyhow::Result<BTreeSet<String>> {
    let cases: BTreeMap<String, Cases> = serde_saphyr::from_str(CASES)?;
    let cases = cases.into_values().flat_map(|cases| cases.fires.into_iter().chain(cases.silent));
    Ok(cases.flat_map(|case| case.series.into_keys()).collect())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The values of each series, one per minute.
    series: BTreeMap<String, String>,
    /// How long the situation lasts, which must be longer than the alert waits.
    #[serde(default = "half_an_hour")]
    minutes: u32,
    /// The summary of each alert that fires, in alphabetical order.
    #[serde(default)]
    says: Vec<String>,
}

fn half_an_hour() -> u32 {
    30
}

async fn fire() -> anyhow::Result<()> {
    let (prometheus, helm) = (Prometheus::find().await?, Helm::find().await?);
    let rules: Value = serde_json::from_str(&Rendered::of(&helm).await?.rules)?;
    let mut cases: BTreeMap<String, Cases> = serde_saphyr::from_str(CASES)?;
    for group in rules["groups"].as_array().context("groups")? {
        for rule in group["rules"].as_array().context("rules")? {
            let name = rule["alert"].as_str().context("a name")?;
            let Cases { fires, silent } =
                cases.remove(name).with_context(|| format!("chart/alerts.yaml has nothing of {name}"))?;
            ensure!(!fires.is_empty() && !silent.is_empty(), "{name} needs cases of both sorts");
            ensure!(silent.iter().all(|case| case.says.is_empty()), "{name}: silence that says something");
            let alone = serde_json::json!({"groups": [{"name": "alone", "rules": [rule]}]}).to_string();
            for Case { series, minutes, says } in fires.iter().chain(&silent) {
                let (rules, series) = (alone.clone(), series.clone());
                let situation = Situation { rules, series, minutes: *minutes, ..Situation::default() };
                let outcome = prometheus.evaluate(&situation).await.with_context(|| name.to_owned())?;
                let mut said: Vec<_> = outcome.alerts.iter().map(summary).collect();
                said.sort_unstable();
                ensure!(said == *says, "{name} says {said:#?} of {:#?}", situation.series);
            }
            ensure!(fires.iter().all(|case| !case.says.is_empty()), "{name}: a case that does not fire");
        }
    }
    ensure!(cases.is_empty(), "there are no such alerts: {:?}", cases.keys());
    Ok(())
}

fn summary(alert: &Alert) -> &str {
    alert.annotations.get("summary").map(String::as_str).unwrap_or_default()
}
