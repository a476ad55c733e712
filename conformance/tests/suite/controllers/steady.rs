//! Nothing flaps while everything is reconciled again and again and nothing changes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use gatehouse_conformance::progress;
use libtest_mimic::Trial;
use serde_json::json;

use super::log::Log;
use super::source::{Source, deploys, listed};
use super::{FLUX, Scene};
use crate::gate::config_map;
use crate::world::{World, is_long};

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.operated("controllers::steady::nothing_flaps_while_nothing_changes", FLUX, steady)]
}

const NAMESPACE: &str = "steady";
const SOURCE: &str = "OCIRepository source";

/// Each depends on the one before.
const NAMES: [&str; 4] = ["base", "data", "app", "web"];

/// How often each is reconciled, and how many of its reconciliations are looked at.
fn pace() -> (&'static str, u32) {
    if is_long() { ("30s", 20) } else { ("3s", 10) }
}

async fn steady(scene: Arc<Scene>) -> anyhow::Result<()> {
    let ((interval, rounds), gate) = (pace(), &scene.gate);
    gate.namespace(NAMESPACE).await?;
    let source = Source::new(&scene, NAMESPACE).await?;
    let files = NAMES.map(|name| {
        let list = (format!("{name}/kustomization.yaml"), listed(&["settings.yaml"]));
        [list, (format!("{name}/settings.yaml"), config_map(NAMESPACE, name))]
    });
    let files: Vec<_> = files.iter().flatten().map(|(path, file)| (path.as_str(), file.clone())).collect();
    source.push(&files).await?;

    let log = Log::of(&gate.site.client, NAMESPACE);
    log.happens("install");
    let deploys = NAMES.iter().enumerate().map(|(number, name)| {
        let depends_on: Vec<_> =
            NAMES[..number].iter().rev().take(1).map(|name| json!({"name": name})).collect();
        deploys(NAMESPACE, name, json!({"interval": interval, "wait": true, "dependsOn": depends_on}))
    });
    scene.put(deploys.chain([source.object(NAMESPACE)])).await?;
    let places = NAMES.map(|name| format!("Kustomization {name}"));
    for place in &places {
        log.shows(place, '+', "Applied revision").await?;
    }

    log.happens("nothing");
    let versions = async || {
        let mut versions = Vec::new();
        for name in NAMES {
            let map = gate.get(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{name}")).await?;
            versions.push(map["metadata"]["resourceVersion"].clone());
        }
        anyhow::Ok(versions)
    };
    let before = versions().await?;
    for place in &places {
        log.attempts_within(place, rounds, Duration::from_secs(if is_long() { 900 } else { 90 })).await?;
    }
    let after = versions().await?;
    ensure!(before == after, "what is applied was written again: {before:?}, then {after:?}");
    let rows: Vec<_> = places.iter().map(|place| (place.as_str(), "+")).chain([(SOURCE, "+")]).collect();
    let installed: Vec<_> = rows.iter().map(|(place, _)| (*place, "?+")).collect();
    progress::say(format_args!("{rounds} reconciliations of each: {}", log.counts()));
    log.compare(&[("install", &installed), ("nothing", &rows)])
}
