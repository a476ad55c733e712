//! Gatehouse is away and comes back, while Flux and kube-controller-manager go on: on a control plane of its own.

use anyhow::{Context, ensure};
use gatehouse_conformance::progress;
use gatehouse_conformance::webhooks::metrics;
use http::StatusCode;
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::Scene;
use super::log::Log;
use super::manager::{WITH_FLUX, fill, gone};
use super::source::{Source, deploys, listed};
use crate::gate::{KNOWN, config_map, fleet};
use crate::site::API;
use crate::world::{World, settles};

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.apart("controllers::outages::what_needs_gatehouse_waits_for_it_and_the_rest_goes_on", outages)]
}

const NAMESPACE: &str = "outages";
const GAMES: &str = "Kustomization games";
const PLAIN: &str = "Kustomization plain";

async fn outages() -> anyhow::Result<()> {
    Scene::can_start(WITH_FLUX).await?;
    let mut scene = Scene::new().await?;
    scene.start(WITH_FLUX).await?;
    let outcome = lives(&mut scene).await.map_err(|error| scene.explain(&error));
    scene.end().await?;
    outcome
}

async fn lives(scene: &mut Scene) -> anyhow::Result<()> {
    for namespace in ["going-0", "going-1", "going-2"] {
        fill(scene, namespace).await?;
    }
    views_are_left_alone(scene).await?;
    webhooks_away(scene).await?;
    apiserver_away(scene).await
}

/// kube-controller-manager neither lists nor watches the views: only discovery has been asked for.
async fn views_are_left_alone(scene: &Scene) -> anyhow::Result<()> {
    scene.gate.delete("/api/v1/namespaces/going-0").await?;
    gone(scene, "going-0").await?;
    let metrics = metrics(scene.control_plane(), &scene.gatehouse).await?;
    // The namespace controller deletes what can be deleted, and rows cannot.
    let asked: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{") && line.contains("resource=\"flux"))
        .collect();
    ensure!(asked.is_empty(), "somebody asks for rows: {asked:#?}");
    Ok(())
}

async fn webhooks_away(scene: &mut Scene) -> anyhow::Result<()> {
    scene.gate.namespace(NAMESPACE).await?;
    let quota = json!({"gameservers": "9"});
    scene.gate.quota(NAMESPACE, quota, &fleet(NAMESPACE, "large", 10)).await?;
    let source = Source::new(scene, NAMESPACE).await?;
    let push = async |servers: i64| {
        let mut settings = config_map(NAMESPACE, "plain");
        settings["data"] = json!({"servers": servers.to_string()});
        let files = [
            ("games/kustomization.yaml", listed(&["fleet.yaml"])),
            ("games/fleet.yaml", fleet(NAMESPACE, "fleet", servers)),
            ("plain/kustomization.yaml", listed(&["settings.yaml"])),
            ("plain/settings.yaml", settings),
        ];
        source.push(&files).await
    };
    let log = Log::of(&scene.gate.site.client, NAMESPACE);
    log.happens("install");
    push(2).await?;
    let kustomizations = ["games", "plain"].map(|name| deploys(NAMESPACE, name, json!({})));
    scene.put(kustomizations.into_iter().chain([source.object(NAMESPACE)])).await?;
    for place in [GAMES, PLAIN] {
        log.shows(place, '+', "Applied revision").await?;
    }

    log.happens("the webhooks are away");
    for number in 0..scene.webhooks.len() {
        scene.webhooks.kill(number).await?;
    }
    push(3).await?;
    log.shows(GAMES, '-', "failed calling webhook").await?;
    let map = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/plain");
    scene.gate.becomes(&map, KNOWN, |map| map["data"]["servers"] == "3").await?;
    log.attempts(GAMES, 3).await?;
    log.attempts(PLAIN, 1).await?;

    log.happens("the webhooks are back");
    for number in 0..scene.webhooks.len() {
        scene.webhooks.launch(number).await?;
    }
    log.shows(GAMES, '+', "Applied revision").await?;
    let place = format!("{}/fleet", crate::gate_owners::path(NAMESPACE, "fleets"));
    let fleet = scene.gate.get(&place).await?;
    ensure!(fleet["spec"]["replicas"] == 3, "{fleet:#}");
    progress::say(log.words());
    log.compare(&[
        ("install", &[(GAMES, "?+"), (PLAIN, "?+")]),
        ("the webhooks are away", &[(GAMES, "+-"), (PLAIN, "+")]),
        ("the webhooks are back", &[(GAMES, "-+"), (PLAIN, "+")]),
    ])
}

/// While the API server is stopped, namespaces wait for their discovery; once it is killed too, until it is back. Nothing
/// that was deleted in between stays.
async fn apiserver_away(scene: &mut Scene) -> anyhow::Result<()> {
    let process = scene.gatehouse.process().context("it runs")?;
    let pid = Pid::from_raw(process.pid()?.try_into()?).context("zero is nobody's")?;
    kill_process(pid, Signal::STOP)?;
    scene.gate.delete("/api/v1/namespaces/going-1").await?;
    // What Flux deployed goes, as far as it needs no view.
    collected(scene, "going-1").await?;
    kill_process(pid, Signal::CONT)?;
    gone(scene, "going-1").await?;

    scene.gatehouse.kill().await?;
    scene.gate.delete("/api/v1/namespaces/going-2").await?;
    collected(scene, "going-2").await?;
    scene.gatehouse.launch().await?;
    gone(scene, "going-2").await?;
    let rows = format!("{API}/namespaces/{NAMESPACE}/fluxresources");
    let ask = || scene.gate.caller.get(&rows);
    let is_served = |answer: &crate::caller::Answer| {
        answer.code == StatusCode::OK
            && answer.body["items"].as_array().is_some_and(|rows: &Vec<Value>| rows.len() == 3)
    };
    settles("rows are served again", KNOWN * 4, ask, is_served).await?;
    Ok(())
}

/// The objects of a namespace that is being deleted go, whether or not the namespace can.
async fn collected(scene: &Scene, namespace: &str) -> anyhow::Result<()> {
    let maps = format!("/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{namespace}/kustomizations");
    let ask = || scene.gate.caller.get(&maps);
    let is_empty =
        |answer: &crate::caller::Answer| answer.body["items"].as_array().is_some_and(Vec::is_empty);
    settles(format!("{namespace} is emptied"), KNOWN * 2, ask, is_empty).await?;
    Ok(())
}
