//! The cluster works while Gatehouse is down, and needs no restart when Gatehouse is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::gatehouse::wait_until_available;
use gatehouse_conformance::progress;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::caller::Caller;
use crate::site::{API, Site, kustomization};
use crate::world::{World, settles};

/// The aggregator checks every 30 s, and requests discovery every 60 s.
const WHOLE_AGAIN: Duration = Duration::from_secs(100);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("availability::api_service_is_available_and_verified", available),
        world
            .trial("availability::cluster_works_without_gatehouse_and_has_it_back_without_a_restart", killed),
    ]
}

async fn available(site: Arc<Site>) -> anyhow::Result<()> {
    wait_until_available(&site.client).await?;
    let args = ["get", "apiservice", "v1alpha1.view.gatehouse.dev", "-o", "json"];
    let object: Value = serde_json::from_str(&site.kubectl()?.run(args).await?.ok()?)?;
    ensure!(object["spec"]["caBundle"].is_string() && object["spec"]["insecureSkipTLSVerify"].is_null());
    Ok(())
}

/// With its own control plane, since the other trials need their Gatehouse.
async fn killed(_: Arc<ControlPlane>) -> anyhow::Result<()> {
    let control_plane = ControlPlane::start(&Options::default()).await?;
    let (site, mut gatehouse) = Site::new(Arc::new(control_plane)).await?;
    let namespace = "availability";
    site.apply([kustomization(namespace, "app", Ok(()))]).await?;
    let watching = site.kubectl()?;
    let caller = site.caller().await?;
    let discovery = async || discovery(&caller).await;
    ensure!(unavailable(&discovery().await?).is_empty(), "all is well at first");

    gatehouse.kill().await?;
    let killed = Instant::now();
    // Clients notice at once, discovery at the aggregator's next check. The aggregator answers itself, without a
    // Status.
    let answer = caller.get(&format!("{API}/fluxsummaries")).await?;
    ensure!(answer.code == 503, "{answer:#?}");
    for args in [
        &["get", "namespaces"][..],
        &["get", "kustomizations", "-A"],
        &["get", "deployments", "-A"],
        &["create", "configmap", "made-meanwhile", "-n", namespace],
        &["delete", "configmap", "made-meanwhile", "-n", namespace],
    ] {
        site.kubectl()?.run(args).await?.ok()?;
    }
    let stale = settles("discovery says so", WHOLE_AGAIN, &discovery, |list| !unavailable(list).is_empty());
    let stale = stale.await?;
    ensure!(unavailable(&stale) == ["view.gatehouse.dev"], "{:?}", unavailable(&stale));
    let reported = killed.elapsed();
    let condition = async || {
        let path = "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.view.gatehouse.dev";
        let object = caller.get(path).await?.ok()?;
        Ok(object["status"]["conditions"][0].clone())
    };
    settles("the APIService says so", WHOLE_AGAIN, condition, |one| one["status"] == "False").await?;
    progress::say(format_args!(
        "discovery told of the end after {:.1} s, the APIService after {:.1} s",
        reported.as_secs_f32(),
        killed.elapsed().as_secs_f32()
    ));
    // Whether kubectl complains about a stale group depends on its version. It must not complain about others.
    let resources = site.kubectl()?.run(["api-resources", "-o", "name"]).await?;
    ensure!(resources.stdout.contains("kustomizations.kustomize.toolkit.fluxcd.io"), "{resources:?}");
    ensure!(!resources.stdout.contains("view.gatehouse.dev"), "{resources:?}");
    let mut stale = resources.stderr.lines().filter(|line| line.contains("stale"));
    ensure!(stale.all(|line| line.contains("view.gatehouse.dev")), "{resources:?}");
    site.kubectl()?.run(["get", "kustomizations", "-n", "team-b"]).await?.ok()?;

    site.apply([kustomization(namespace, "app", Err("broken while nobody looked"))]).await?;
    let started = Instant::now();
    gatehouse.launch().await?;
    let path = format!("{API}/namespaces/{namespace}/fluxresources/local.kustomization.app");
    let whole = settles("it is served", WHOLE_AGAIN, || caller.get(&path), |answer| answer.code == 200);
    let row = whole.await?.ok()?;
    ensure!(row["status"]["state"] == "Failed", "{row:#}");
    let served = started.elapsed();
    settles("discovery is whole", WHOLE_AGAIN, &discovery, |list| unavailable(list).is_empty()).await?;
    wait_until_available(&site.client).await?;
    progress::say(format_args!(
        "served {:.1} s after the start, discovery whole after {:.1} s",
        served.as_secs_f32(),
        started.elapsed().as_secs_f32()
    ));

    let mut watch = watching.watch(["get", "fxr", "-n", namespace, "-w"])?;
    watch.line_where(Duration::from_secs(30), |line| line.contains("Failed")).await?;
    site.apply([kustomization(namespace, "app", Ok(()))]).await?;
    watch
        .line_where(Duration::from_secs(10), |line| line.contains("Ready"))
        .await
        .context("watching goes on")?;
    Ok(())
}

/// The aggregated discovery of all groups, which clients request first.
pub(crate) async fn discovery(caller: &Caller) -> anyhow::Result<Value> {
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    caller.get_with("/apis", &[("accept", aggregated)]).await?.ok()
}

/// The groups that are marked as stale in discovery.
pub(crate) fn unavailable(list: &Value) -> Vec<&str> {
    let groups = list["items"].as_array().into_iter().flatten();
    let is_stale = |group: &&Value| {
        let mut versions = group["versions"].as_array().into_iter().flatten();
        versions.any(|version| version["freshness"] == "Stale")
    };
    groups.filter(is_stale).filter_map(|group| group["metadata"]["name"].as_str()).collect()
}
