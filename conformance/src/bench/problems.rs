//! Measures `problems` in a cluster with many Pods, of which one in a hundred is not well, and what users do without
//! it: they list everything and look.
//!
//! Statuses of Pods change at a steady rate. Every second change is one of a Pod that is not well: its message contains
//! the number of the change, and so does the row's. The others are of Pods that are well, of which Gatehouse keeps
//! nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt, stream};
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::kubectl::Kubectl;
use gatehouse_conformance::process::Process;
use gatehouse_conformance::progress::{during, say};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::cpu::Server;
use super::fill::{create, patch_status};
use super::latency::percentiles;
use super::objects::{Layout, namespace_name};
use super::raw::{Get, KUSTOMIZATIONS};
use super::report::{Report, bytes, mebibytes, seconds, spread, times};
use super::stats::{Sample, float};

const PROBLEMS: &str = "/apis/view.gatehouse.dev/v1alpha1/problems";
const HELM_RELEASES: &str = "/apis/helm.toolkit.fluxcd.io/v2/helmreleases";
const PODS: &str = "/api/v1/pods";

/// One Pod in so many is not well.
const BAD: usize = 100;
/// Concurrent requests while Pods are created.
const PARALLEL: usize = 32;
const REPORTS: usize = 10;
/// An event that has not arrived after this time is lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// The target of the 99th percentile from a change to its event, in seconds, as for other views.
const TARGET: f64 = 0.050;

/// How many Pods there are, and how they change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) pods: usize,
    pub(super) rate: u32,
    pub(super) time: Duration,
    /// How often each kubectl command runs.
    pub(super) runs: usize,
}

pub(super) async fn measure(
    control_plane: &ControlPlane,
    gatehouse: Server<'_>,
    layout: Layout,
    load: Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    ensure!(load.pods >= BAD, "fewer than {BAD} Pods, so that none would be a problem");
    let client = control_plane.client().await?;
    let before = gatehouse.process.memory()?;
    let filling = Instant::now();
    let cpu = gatehouse.process.cpu()?;
    fill(&client, layout, load.pods).await?;
    let bad = load.pods.div_ceil(BAD);
    during("waiting for their rows", until_shown(gatehouse.client, bad)).await?;
    let memory = gatehouse.process.memory()?;
    report.section(format!(
        "Problems: {} Kustomizations with {} entries each, {} Pods, of which {bad} are not well",
        layout.objects, layout.entries, load.pods
    ));
    report.row("resident before the Pods (VmRSS)", mebibytes(float(before.resident)));
    report.row("resident with them", mebibytes(float(memory.resident)));
    report.row("peak (VmHWM)", mebibytes(float(memory.peak)));
    let used = gatehouse.process.cpu()? - cpu;
    let took = seconds(filling.elapsed().as_secs_f64());
    report.row("CPU while the Pods were created", format!("{} in {took}", seconds(used)));

    changes(gatehouse, &client, layout, load, report).await?;
    lists(control_plane, gatehouse, load.runs, report).await
}

/// Creates the Pods, each with the two requests of a controller and of kubelet.
async fn fill(client: &kube::Client, layout: Layout, pods: usize) -> anyhow::Result<()> {
    let loaded = &AtomicUsize::new(0);
    let created = stream::iter(0..pods)
        .map(|number| async move {
            create(client, "/api/v1", "pods", &pod(layout, number), &status(number, 0)).await?;
            let loaded = loaded.fetch_add(1, Ordering::Relaxed) + 1;
            if loaded.is_multiple_of(pods.div_ceil(REPORTS)) {
                say(format_args!("{loaded} of {pods} Pods are loaded"));
            }
            anyhow::Ok(())
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<()>>();
    during("loading Pods", created).await?;
    Ok(())
}

/// Waits until so many Pods are problems.
async fn until_shown(client: &kube::Client, bad: usize) -> anyhow::Result<()> {
    let path = format!("{PROBLEMS}?fieldSelector=status.kind%3DPod");
    let begin = Instant::now();
    loop {
        let list = Get::json(&path).value(client).await?;
        let shown = list["items"].as_array().map_or(0, Vec::len);
        if shown == bad {
            return Ok(());
        }
        ensure!(begin.elapsed() < Duration::from_mins(1), "{shown} of {bad} Pods are problems");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Changes Pods at a steady rate, and waits for the events of their rows.
async fn changes(
    gatehouse: Server<'_>,
    client: &kube::Client,
    layout: Layout,
    load: Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let mut followed = Vec::new();
    for (what, client) in [("direct", gatehouse.client), ("through kube-apiserver", client)] {
        let (sender, arrivals) = mpsc::unbounded_channel();
        follow(client, sender, &mut tasks).await?;
        followed.push((what, arrivals));
    }
    let cpu = gatehouse.process.cpu()?;
    let begin = Instant::now();
    let what = format!("changing Pods, {} a second for {} s", load.rate, load.time.as_secs());
    let sent = during(what, change(client, layout, load)).await?;
    let (used, took) = (gatehouse.process.cpu()? - cpu, begin.elapsed().as_secs_f64());
    tokio::time::sleep(PATIENCE).await;
    tasks.shutdown().await;
    report.row(
        format!("CPU of Gatehouse, {} changes of Pods a second", load.rate),
        format!("{:.1} % of a core", 100.0 * used / took),
    );
    for (what, mut arrived) in followed {
        let mut arrivals = HashMap::new();
        while let Ok((number, at)) = arrived.try_recv() {
            arrivals.entry(number).or_insert(at);
        }
        let delays: Vec<Duration> = sent
            .iter()
            .filter_map(|(number, answered)| Some(arrivals.get(number)?.saturating_duration_since(*answered)))
            .collect();
        let lost = sent.len() - delays.len();
        let sample = Sample::of_durations(delays).context("no event arrived")?;
        let lost_text = if lost > 0 { format!("; {lost} LOST") } else { String::new() };
        report.row_with_target(
            format!("answer to a change → event of its row, {what}"),
            percentiles(&sample) + &lost_text,
            format!("p99 ≤ {}", seconds(TARGET)),
            lost == 0 && sample.percentile(99) <= TARGET,
        );
    }
    Ok(())
}

/// Opens a watch of problems from the current version, and sends the number of the change in each event.
async fn follow(
    client: &kube::Client,
    arrivals: mpsc::UnboundedSender<(usize, Instant)>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let list = Get::json(&format!("{PROBLEMS}?limit=1")).value(client).await?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a list without a resourceVersion")?;
    let path = format!("{PROBLEMS}?watch=true&resourceVersion={version}&timeoutSeconds=3600");
    let lines = Box::pin(Get::json(&path).stream(client).await?).lines();
    tasks.spawn(async move {
        let mut lines = std::pin::pin!(lines);
        while let Some(Ok(line)) = lines.next().await {
            let at = Instant::now();
            if let Some(number) = number_in(&line) {
                // Fails only at the end, when the receiver is gone.
                let _ = arrivals.send((number, at));
            }
        }
    });
    Ok(())
}

/// Sends the changes, each at its time. Returns the numbers of those that change a row, and when each was answered.
async fn change(client: &kube::Client, layout: Layout, load: Load) -> anyhow::Result<Vec<(usize, Instant)>> {
    let bad: Vec<usize> = (0..load.pods).filter(|number| is_bad(*number)).collect();
    let well: Vec<usize> = (0..load.pods).filter(|number| !is_bad(*number)).collect();
    let total = usize::try_from(u64::from(load.rate) * load.time.as_secs())?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / load.rate);
    let mut sending = JoinSet::new();
    for number in 1..=total {
        ticks.tick().await;
        let pods = if number % 2 == 0 { &bad } else { &well };
        let pod = pods[number / 2 % pods.len()];
        let client = client.clone();
        sending.spawn(async move {
            let path = format!("/api/v1/namespaces/{}/pods/{}", place(layout, pod).0, name(pod));
            patch_status(&client, &path, &status(pod, number)).await?;
            anyhow::Ok((number, is_bad(pod), Instant::now()))
        });
    }
    let mut sent = Vec::new();
    while let Some(change) = sending.join_next().await {
        let (number, is_bad, answered) = change??;
        if is_bad {
            sent.push((number, answered));
        }
    }
    Ok(sent)
}

/// Compares `kubectl get problems` with listing everything, in turns.
async fn lists(
    control_plane: &ControlPlane,
    gatehouse: Server<'_>,
    runs: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let kubectl = Kubectl::new(control_plane.kubeconfig())?;
    let api_server = Process(control_plane.api_server().pid()?);
    let [everything, problems] = [["kustomizations,helmreleases,pods", "-A"], ["problems", "-A"]];
    let mut measured = [const { (Vec::new(), Vec::new(), Vec::new()) }; 2];
    // The first run of each fills kubectl's discovery cache, which a user's kubectl has filled before.
    for run in 0..=runs {
        for (what, (wall, upstream, ours)) in [everything, problems].into_iter().zip(&mut measured) {
            let before = (api_server.cpu()?, gatehouse.process.cpu()?);
            let begin = Instant::now();
            kubectl.run(["get"].iter().chain(&what)).await?.ok()?;
            if run > 0 {
                wall.push(begin.elapsed().as_secs_f64());
                upstream.push(api_server.cpu()? - before.0);
                ours.push(gatehouse.process.cpu()? - before.1);
            }
        }
    }
    report.section(format!("What is broken, by kubectl through kube-apiserver, {runs} runs each, in turns"));
    let mut medians = Vec::new();
    for ([what, _], (wall, upstream, ours)) in [everything, problems].into_iter().zip(measured) {
        let sample = |values| Sample::new(values).context("at least one run is needed");
        let (wall, upstream, ours) = (sample(wall)?, sample(upstream)?, sample(ours)?);
        report.row(format!("kubectl get {what} -A"), spread(&wall));
        report.row("  CPU of kube-apiserver", spread(&upstream));
        report.row("  CPU of Gatehouse", spread(&ours));
        medians.push(wall.median());
    }
    report.row("times faster", times(medians[0] / medians[1]));
    let client = control_plane.client().await?;
    let mut all = 0;
    for path in [KUSTOMIZATIONS, HELM_RELEASES, PODS] {
        all += Get::table(path).size(&client).await?;
    }
    let own = Get::table(PROBLEMS).size(&client).await?;
    report.row(format!("bytes, Tables: {}", everything[0]), bytes(float(all)));
    report.row("bytes, Table: problems", bytes(float(own)));
    report.row("times fewer", times(float(all) / float(own)));
    Ok(())
}

fn is_bad(number: usize) -> bool {
    number.is_multiple_of(BAD)
}

fn name(number: usize) -> String {
    format!("worker-{number:05}")
}

/// The namespace of a Pod, and the Kustomization there that applies it.
fn place(layout: Layout, number: usize) -> (String, String) {
    // Each is in another namespace than the one before it, and the bad ones are not all in one.
    let namespace = (number + number / BAD) % layout.namespaces;
    let managers: Vec<_> = layout.ids().skip(namespace).step_by(layout.namespaces).take(1).collect();
    (namespace_name(namespace), managers.first().map_or_else(String::new, |id| id.name()))
}

fn pod(layout: Layout, number: usize) -> Value {
    let (namespace, manager) = place(layout, number);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(number),
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/name": "worker",
                "kustomize.toolkit.fluxcd.io/name": manager,
                "kustomize.toolkit.fluxcd.io/namespace": namespace,
            },
        },
        "spec": {
            "containers": [{
                "name": "worker",
                "image": "registry.example.com/platform/worker:1.42.0",
                "env": [{"name": "REGION", "value": "eu-1"}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            }],
            "nodeName": format!("node-{:03}", number % 200),
        },
    })
}

/// The status of a Pod after a change. That of one that is not well names the number of the change.
fn status(number: usize, change: usize) -> Value {
    let is_bad = is_bad(number);
    let state = if is_bad {
        let message = format!("change {change}: secret \"worker\" not found");
        json!({"waiting": {"reason": "CreateContainerConfigError", "message": message}})
    } else {
        json!({"running": {"startedAt": "2026-03-01T00:00:00Z"}})
    };
    let ready = if is_bad { "False" } else { "True" };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": "2026-03-01T00:00:00Z"});
    json!({
        "phase": if is_bad { "Pending" } else { "Running" },
        "podIP": format!("10.{}.{}.{}", change % 250, number / 250 % 250, number % 250),
        "conditions": [condition("PodScheduled", "True"), condition("Ready", ready)],
        "containerStatuses": [{
            "name": "worker", "image": "registry.example.com/platform/worker:1.42.0", "imageID": "",
            "ready": !is_bad, "restartCount": 0, "state": state,
        }],
    })
}

/// The number of the change that an event shows.
fn number_in(line: &str) -> Option<usize> {
    let (_, rest) = line.split_once("change ")?;
    rest.split_once(": secret")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout =
        Layout { objects: 200, namespaces: 20, entries: 25, history: 5, now: 1_700_000_000 };

    #[test]
    fn an_event_tells_which_change_it_shows() {
        let status = status(200, 17);
        let line = json!({"type": "MODIFIED", "object": {"status": status}}).to_string();
        assert_eq!(number_in(&line), Some(17));
        assert_eq!(number_in(r#"{"type":"BOOKMARK"}"#), None);
    }

    #[test]
    fn one_pod_in_a_hundred_is_bad_in_every_namespace() {
        let bad: Vec<usize> = (0..2000).filter(|number| is_bad(*number)).collect();
        assert_eq!(bad.len(), 20);
        let namespaces: std::collections::HashSet<_> =
            bad.iter().map(|number| place(LAYOUT, *number).0).collect();
        assert_eq!(namespaces.len(), 20);
    }
}
