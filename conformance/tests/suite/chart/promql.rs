//! Alerts and dashboards are worth nothing where a metric that they name is none.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, ensure};
use gatehouse_conformance::helm;
use serde_json::Value;

/// Where metrics are made.
const SOURCES: [&str; 4] = ["apiserver/src", "apiservice/keeper/src", "webhooks/src", "src"];
/// What the names of metrics begin with.
const PREFIXES: [&str; 4] = ["apiserver_", "gatehouse_", "gotk_", "process_"];
/// What a histogram's series are called beyond its name.
const SUFFIXES: [&str; 3] = ["_bucket", "_count", "_sum"];

/// Every alert and every panel names metrics, and only such that the code makes.
pub(super) async fn exist() -> anyhow::Result<()> {
    let made = made()?;
    ensure!(made.contains("gatehouse_inventory_lag_seconds"), "the sources are not read: {made:?}");
    let mut expressions = Vec::new();
    alerts(&mut expressions)?;
    dashboards(&mut expressions)?;
    for (place, expression) in expressions {
        let named: Vec<_> = names(&expression).collect();
        ensure!(!named.is_empty() || expression.contains("up{"), "{place} names no metric: {expression}");
        for name in named {
            let base = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            ensure!(made.contains(name) || made.contains(base), "{place}: there is no metric {name}");
        }
    }
    Ok(())
}

/// The names of metrics in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
}

/// Each alert with its expression. Every one must say what to do.
fn alerts(expressions: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(helm::chart().join("files/alerts.yaml"))?;
    let spec: Value = serde_saphyr::from_str(&text)?;
    let before = expressions.len();
    for group in spec["groups"].as_array().context("groups")? {
        for rule in group["rules"].as_array().context("rules")? {
            let name = rule["alert"].as_str().context("an alert without a name")?;
            for annotation in ["summary", "description", "runbook"] {
                let said = rule["annotations"][annotation].as_str().unwrap_or_default();
                ensure!(!said.is_empty(), "{name} has no {annotation}");
            }
            let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
            ensure!(["critical", "warning", "info"].contains(&severity), "{name}: severity {severity:?}");
            let expression = rule["expr"].as_str().with_context(|| format!("{name} has no expr"))?;
            expressions.push((name.to_owned(), expression.to_owned()));
        }
    }
    ensure!(expressions.len() > before, "no alerts");
    Ok(())
}

/// Each panel of each dashboard with its expressions.
fn dashboards(expressions: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    let mut uids = BTreeSet::new();
    for entry in std::fs::read_dir(helm::chart().join("files/dashboards"))? {
        let path = entry?.path();
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)
            .with_context(|| path.display().to_string())?;
        let uid = dashboard["uid"].as_str().context("uid")?;
        ensure!(uids.insert(uid.to_owned()), "two dashboards are called {uid}");
        for panel in dashboard["panels"].as_array().context("panels")? {
            let place = format!("{uid}: {}", panel["title"]);
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().with_context(|| format!("{place}: no expr"))?;
                expressions.push((place.clone(), expression.to_owned()));
            }
        }
    }
    ensure!(!uids.is_empty(), "no dashboards");
    Ok(())
}

/// What stands in the sources as a text of its own and is called as a metric.
fn made() -> anyhow::Result<BTreeSet<String>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut made = BTreeSet::new();
    let mut folders: Vec<_> = SOURCES.iter().map(|folder| workspace.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path)?;
                // One of them is written by hand, with its labels.
                let texts = text.split('"').map(|text| text.trim_end_matches('{'));
                let texts = texts.filter(|text| names(text).any(|name| name == *text));
                made.extend(texts.map(ToOwned::to_owned));
            }
        }
    }
    Ok(made)
}
