//! Remote clusters that misbehave: only their own rows are affected.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use gatehouse_conformance::control_plane::{self, ControlPlane};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::progress;
use http::StatusCode;
use serde_json::{Value, json};

use super::{ALL, BACK, Hub, PROMPT, SOON};
use crate::site::{API, Site, kustomization};
use crate::world::settles;

/// As large as an object can be, nearly: etcd takes 1.5 MiB.
const HUGE: usize = 1 << 20;
/// The longest message of a condition that Kubernetes takes.
const MESSAGE: usize = 32 << 10;

pub(super) async fn alone() -> anyhow::Result<()> {
    let control_plane = Arc::new(ControlPlane::start(&control_plane::Options::default()).await?);
    let (site, _gatehouse) = Site::new(control_plane).await?;
    let hub = Hub::start(Arc::new(site)).await?;
    hub.register("eu", &hub.kubeconfig()?).await?;
    hub.sees("the cluster is shown", &hub.admin, SOON, &ALL).await?;
    another_api(&hub).await?;
    huge_objects(&hub).await?;
    a_byte_per_second(&hub).await
}

/// A server that is an API server, and not that of a cluster: Gatehouse's own.
async fn another_api(hub: &Hub) -> anyhow::Result<()> {
    let path = hub.gatehouse.kubeconfig_for(&hub.site.control_plane, "root", Some("system:masters"))?;
    let kubeconfig: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    hub.register("odd", &kubeconfig).await?;
    hub.has("odd", "Registered", ("True", "Accepted"), SOON).await?;
    hub.has("odd", "Reachable", ("False", "Silent"), SOON).await?;
    harms_nobody(hub, "odd").await?;
    hub.unregister("odd").await
}

async fn huge_objects(hub: &Hub) -> anyhow::Result<()> {
    let objects = (0..4).map(|number| {
        let message = "x".repeat(MESSAGE);
        let mut object = kustomization("team-b", &format!("huge-{number}"), Err(&message));
        object["spec"]["patches"] = json!([{"patch": "x".repeat(HUGE)}]);
        object
    });
    let manifests = objects.map(|object| Manifest { origin: "(trial)".to_owned(), object });
    load::apply(&hub.spoke.client().await?, manifests.collect()).await?;
    let expected = [
        ALL[0],
        ALL[1],
        "eu.kustomization.huge-0",
        "eu.kustomization.huge-1",
        "eu.kustomization.huge-2",
        "eu.kustomization.huge-3",
    ];
    hub.sees("huge objects are shown", &hub.admin, SOON, &expected).await?;
    let row = hub.admin.get(&format!("{API}/namespaces/team-b/fluxresources/{}", expected[2])).await?.ok()?;
    let size = row.to_string().len();
    progress::say(format_args!("an object of 1 MiB is a row of {size} bytes"));
    ensure!(size < HUGE / 4, "a row has {size} bytes");
    harms_nobody(hub, "huge").await
}

/// Every answer takes for ever, though something of it arrives each second.
async fn a_byte_per_second(hub: &Hub) -> anyhow::Result<()> {
    hub.relay.cut();
    tokio::time::sleep(Duration::from_secs(1)).await;
    hub.relay.trickle();
    hub.has("eu", "Reachable", ("False", "Silent"), SOON).await?;
    harms_nobody(hub, "slow").await?;
    hub.has("eu", "Fresh", ("False", "ClusterSilent"), Duration::from_mins(1)).await?;
    hub.relay.cut();
    tokio::time::sleep(Duration::from_secs(1)).await;
    hub.relay.mend();
    hub.has("eu", "Reachable", ("True", "Answers"), BACK).await
}

/// A change of the hub is told at once, lists are prompt, and the hub is ready.
async fn harms_nobody(hub: &Hub, name: &str) -> anyhow::Result<()> {
    hub.site.apply([kustomization("team-b", name, Ok(()))]).await?;
    let near = format!("{API}/namespaces/team-b/fluxresources/local.kustomization.{name}");
    let told = async || Ok(hub.admin.get(&near).await?.code);
    settles("a change of the hub is told", PROMPT, told, |code| *code == StatusCode::OK).await?;
    let asked = Instant::now();
    hub.seen(&hub.admin).await?;
    ensure!(asked.elapsed() < PROMPT, "a list took {:?}", asked.elapsed());
    ensure!(hub.is_ready().await?, "the hub stays ready");
    Ok(())
}
