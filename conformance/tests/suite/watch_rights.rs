//! A watch stays open only as long as the user is authorized, through the aggregator and directly.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{AsyncBufReadExt, TryStreamExt};
use gatehouse_conformance::pace::patience;
use gatehouse_conformance::progress;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::caller::Caller;
use crate::site::{API, Site};
use crate::world::World;

/// The promised time, and a margin for a busy machine.
const ENDED: Duration = Duration::from_secs(12);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("watch_rights::open_watches_end_with_410_when_the_right_is_taken_away", taken_away),
        world.shared("watch_rights::open_watches_of_others_go_on", others_go_on),
    ]
}

/// Removes the permissions that [`Site::allow_in`] granted.
async fn take_away(site: &Site, namespace: &str, user: &str) -> anyhow::Result<Instant> {
    let bindings: Api<RoleBinding> = Api::namespaced(site.client.clone(), namespace);
    bindings.delete(user, &kube::api::DeleteParams::default()).await?;
    Ok(Instant::now())
}

/// The last event of a watch, and when its stream ended. Sends to `begun` after the first event.
async fn last_event(
    caller: Caller,
    path: String,
    begun: tokio::sync::mpsc::Sender<()>,
) -> anyhow::Result<(Value, Instant)> {
    let request = http::Request::get(path).body(Vec::new())?;
    let mut lines = caller.client.request_stream(request).await?.lines();
    let mut last = Value::Null;
    while let Some(line) = lines.try_next().await? {
        last = serde_json::from_str(&line)?;
        let _ = begun.send(()).await;
    }
    Ok((last, Instant::now()))
}

async fn taken_away(site: Arc<Site>) -> anyhow::Result<()> {
    let (namespace, user) = ("team-a", "watches-and-leaves");
    site.allow_in(namespace, user).await?;
    let path = format!("{API}/namespaces/{namespace}/fluxsummaries?watch=true");
    let (begun, mut beginnings) = tokio::sync::mpsc::channel(16);
    let aggregated = Caller::of_kubeconfig(&site.control_plane.kubeconfig_for(user, None)?).await?;
    let watches = [
        ("aggregated", aggregated),
        ("direct", site.direct_as(user, None).await?),
        ("direct, again", site.direct_as(user, None).await?),
    ];
    let mut kubectl =
        site.kubectl_as(user)?.watch(["get", "fluxsummaries", "-n", namespace, "-w", "-o", "name"])?;
    kubectl.next_line(ENDED).await?;
    let watching: Vec<_> = watches
        .into_iter()
        .map(|(way, caller)| (way, tokio::spawn(last_event(caller, path.clone(), begun.clone()))))
        .collect();
    for _ in &watching {
        beginnings.recv().await.context("a first event")?;
    }

    let taken = take_away(&site, namespace, user).await?;
    for (way, watch) in watching {
        let (last, ended) = tokio::time::timeout(patience(ENDED), watch).await.context(way)???;
        let took = ended - taken;
        progress::say(format_args!("a watch ({way}) ended {:.1} s after its right", took.as_secs_f32()));
        ensure!(took < ENDED, "{way}: {took:?}");
        ensure!(last["type"] == "ERROR" && last["object"]["kind"] == "Status", "{way}: {last:#}");
        ensure!(last["object"]["code"] == 410 && last["object"]["reason"] == "Expired", "{way}: {last:#}");
    }
    // kubectl must end too; what it prints about the last event does not matter.
    let ended = async { while kubectl.next_line(ENDED).await.is_ok() {} };
    tokio::time::timeout(patience(ENDED), ended).await.context("kubectl goes on")?;
    Ok(())
}

async fn others_go_on(site: Arc<Site>) -> anyhow::Result<()> {
    let (namespace, leaves, stays) = ("team-b", "leaves-alone", "stays");
    for user in [leaves, stays] {
        site.allow_in(namespace, user).await?;
    }
    let path = format!("{API}/namespaces/{namespace}/fluxsummaries?watch=true&timeoutSeconds=40");
    let (begun, mut beginnings) = tokio::sync::mpsc::channel(16);
    let caller = site.direct_as(stays, None).await?;
    let watching = tokio::spawn(last_event(caller, path, begun));
    beginnings.recv().await.context("a first event")?;
    let started = take_away(&site, namespace, leaves).await?;
    let (last, ended) = watching.await??;
    ensure!(last["type"] != "ERROR", "{last:#}");
    // Longer than the time after which all authorizations have been checked again.
    ensure!(ended - started > Duration::from_secs(20), "it ended after {:?}", ended - started);
    Ok(())
}
