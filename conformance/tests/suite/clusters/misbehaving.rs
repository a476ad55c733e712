//! Remote clusters that misbehave: only their own rows are affected.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use gatehouse_conformance::control_plane::{self, ControlPlane};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::progress;
use http::StatusCode;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

use super::{ALL, BACK, Hub, PROMPT, SOON};
use crate::site::{API, Site, kustomization};
use crate::world::settles;

/// As large as an object can be, nearly: etcd takes 1.5 MiB.
const HUGE: usize = 1 << 20;
/// The number of changes that are undone, so that later versions are still far below those that were seen.
const UNDONE: usize = 30;
/// The longest message of a condition that Kubernetes takes.
const MESSAGE: usize = 32 << 10;

pub(super) async fn alone() -> anyhow::Result<()> {
    let control_plane = Arc::new(ControlPlane::start(&control_plane::Options::default()).await?);
    let (site, _gatehouse) = Site::new(control_plane).await?;
    let mut hub = Hub::start(Arc::new(site)).await?;
    hub.register("eu", &hub.kubeconfig()?).await?;
    hub.sees("the cluster is shown", &hub.admin, SOON, &ALL).await?;
    another_api(&hub).await?;
    an_older_state(&mut hub).await?;
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

/// The etcd of the remote cluster is restored from a backup: its resourceVersions go back.
async fn an_older_state(hub: &mut Hub) -> anyhow::Result<()> {
    let backup = hub.spoke.back_up().await?;
    for number in 0..UNDONE {
        let message = format!("change {number}");
        apply(hub, [kustomization("team-b", "far", Err(&message))]).await?;
    }
    apply(hub, [kustomization("team-b", "made", Ok(()))]).await?;
    let with_made = [ALL[0], ALL[1], "eu.kustomization.made"];
    hub.sees("what is made is shown", &hub.admin, SOON, &with_made).await?;
    hub.spoke.restore(&backup).await?;
    hub.sees("what has never been is gone", &hub.admin, BACK, &ALL).await?;
    harms_nobody(hub, "older").await?;
    apply(hub, [kustomization("team-b", "made", Ok(()))]).await?;
    hub.sees("it is followed from there", &hub.admin, SOON, &with_made).await?;
    let far = format!("{API}/namespaces/team-b/fluxresources/{}", ALL[1]);
    let state = hub.admin.get(&far).await?.ok()?["status"]["state"].clone();
    ensure!(state == "Ready", "the changes were undone, and it is {state}");
    let kustomizations: Api<DynamicObject> = Api::namespaced_with(
        hub.spoke.client().await?,
        "team-b",
        &ApiResource::from_gvk(&GroupVersionKind::gvk("kustomize.toolkit.fluxcd.io", "v1", "Kustomization")),
    );
    kustomizations.delete("made", &DeleteParams::default()).await?;
    hub.sees("it is deleted", &hub.admin, SOON, &ALL).await
}

async fn apply(hub: &Hub, objects: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
    let manifest = |object| Manifest { origin: "(trial)".to_owned(), object };
    load::apply(&hub.spoke.client().await?, objects.into_iter().map(manifest).collect()).await
}

async fn huge_objects(hub: &Hub) -> anyhow::Result<()> {
    let objects = (0..4).map(|number| {
        let message = "x".repeat(MESSAGE);
        let mut object = kustomization("team-b", &format!("huge-{number}"), Err(&message));
        object["spec"]["patches"] = json!([{"patch": "x".repeat(HUGE)}]);
        object
    });
    apply(hub, objects).await?;
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
