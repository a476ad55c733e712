//! Measures the delay of events and their cost with many watches and many changes.
//!
//! A thousand watches are open while statuses change upstream at a steady rate. Either all of them watch
//! everything, or each watches one namespace; they connect either directly to Gatehouse or through
//! kube-apiserver. Clients, control plane and Gatehouse share this machine, so the CPU time of each is
//! reported, which shows when the machine is saturated.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{AsyncBufReadExt, StreamExt};
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::kubeconfig;
use gatehouse_conformance::progress::during;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::latency::{self, Change, percentiles};
use super::objects::{Layout, namespace_name};
use super::raw::{Get, RESOURCES};
use super::report::{Report, mebibytes, seconds};
use super::stats::{Sample, float};
use gatehouse_conformance::process::{Memory, Process};

/// The target of the 99th percentile, from the response to the change until the event, in seconds.
const TARGET: f64 = 0.050;

/// HTTP/2 streams per connection. kube-apiserver allows a hundred; a client that exceeds that waits.
const STREAMS: usize = 50;
/// If all watches get all events, one watch in so many examines its events; the others only count them.
const LOOKS: usize = 20;
/// An event that has not arrived after this time is lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Memory that was only needed to open watches is released within this time.
const SETTLE: Duration = Duration::from_secs(3);
/// The first number of a change. Each run starts with another one, so that changes of different runs differ.
const NUMBERS: usize = 1_000_000;

/// The number of watches, the rate of changes, and the time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) watchers: usize,
    pub(super) rate: u32,
    pub(super) time: Duration,
}

/// What each watch selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Everything,
    OwnNamespace,
}

/// The processes whose CPU time is reported.
#[derive(Clone, Copy)]
struct Processes {
    gatehouse: Process,
    kube_apiserver: Process,
    clients: Process,
}

/// An event that a watch received: the number of the watch, the number of the change, and the time.
type Arrival = (usize, usize, Instant);

/// Open watches.
struct Watchers {
    tasks: JoinSet<()>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    events: Arc<AtomicU64>,
    /// The watches that examine their events, with the namespace of each; `None` for all namespaces.
    looking: Vec<(usize, Option<usize>)>,
}

pub(super) async fn measure(
    control_plane: &ControlPlane,
    gatehouse: Process,
    direct: &Path,
    layout: Layout,
    load: Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    let processes = Processes {
        gatehouse,
        kube_apiserver: Process(control_plane.api_server().pid()?),
        clients: Process(std::process::id()),
    };
    let client = control_plane.client().await?;
    report.section(format!(
        "{} watchers of fluxresources, {} changes a second for {} s: answer to the change → event",
        load.watchers,
        load.rate,
        load.time.as_secs()
    ));
    let through = control_plane.kubeconfig();
    let mut first = NUMBERS;
    for (scope, reported) in
        [(Scope::OwnNamespace, "a namespace each"), (Scope::Everything, "everything each")]
    {
        for (way, kubeconfig) in [("direct", direct), ("through kube-apiserver", through)] {
            let what = format!("{reported}, {way}");
            let before = gatehouse.memory()?;
            let watchers =
                during(format!("opening watches of {what}"), open(kubeconfig, scope, layout, load)).await?;
            tokio::time::sleep(SETTLE).await;
            let idle = gatehouse.memory()?;
            let reported = run(&client, processes, watchers, layout, load, first);
            let reported = during(format!("telling of {what}"), reported).await?;
            reported.report(&what, load, [before, idle], report)?;
            first += NUMBERS;
        }
    }
    Ok(())
}

async fn open(kubeconfig: &Path, scope: Scope, layout: Layout, load: Load) -> anyhow::Result<Watchers> {
    let (arrived, arrivals) = mpsc::unbounded_channel();
    let events = Arc::new(AtomicU64::new(0));
    let (mut tasks, mut looking) = (JoinSet::new(), Vec::new());
    let mut version = None;
    for first in (0..load.watchers).step_by(STREAMS) {
        // Each client has its own connection.
        let client = kubeconfig::client(kubeconfig).await?;
        let version = match &version {
            Some(version) => version,
            None => version.insert(present(&client).await?),
        };
        let opened = (first..load.watchers.min(first + STREAMS)).map(async |watcher| {
            let namespace = (scope == Scope::OwnNamespace).then_some(watcher % layout.namespaces);
            let path = match namespace {
                Some(namespace) => {
                    let namespaced = format!("namespaces/{}/fluxresources", namespace_name(namespace));
                    RESOURCES.replace("fluxresources", &namespaced)
                }
                None => RESOURCES.to_owned(),
            };
            let path = format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds=3600");
            anyhow::Ok((watcher, namespace, Box::pin(Get::json(&path).stream(&client).await?)))
        });
        for (watcher, namespace, body) in futures::future::try_join_all(opened).await? {
            let events = Arc::clone(&events);
            if namespace.is_some() || watcher % LOOKS == 0 {
                looking.push((watcher, namespace));
                tasks.spawn(look(watcher, body, events, arrived.clone()));
            } else {
                tasks.spawn(count(body, events));
            }
        }
    }
    Ok(Watchers { tasks, arrivals, events, looking })
}

/// The current resourceVersion, from the shortest possible list.
async fn present(client: &kube::Client) -> anyhow::Result<String> {
    let list = Get::json(&format!("{RESOURCES}?limit=1")).value(client).await?;
    list["metadata"]["resourceVersion"]
        .as_str()
        .map(ToOwned::to_owned)
        .context("a list without a resourceVersion")
}

async fn look(
    watcher: usize,
    body: std::pin::Pin<Box<impl futures::AsyncBufRead>>,
    events: Arc<AtomicU64>,
    arrived: mpsc::UnboundedSender<Arrival>,
) {
    let mut lines = body.lines();
    while let Some(Ok(line)) = lines.next().await {
        let at = Instant::now();
        events.fetch_add(1, Ordering::Relaxed);
        if let Some(number) = number(&line) {
            // Fails only at the end, when the receiver is gone.
            let _ = arrived.send((watcher, number, at));
        }
    }
}

async fn count(mut body: std::pin::Pin<Box<impl futures::AsyncBufRead>>, events: Arc<AtomicU64>) {
    while let Ok(piece) = body.fill_buf().await {
        let (length, lines) = (piece.len(), piece.split(|byte| *byte == b'\n').count() - 1);
        if length == 0 {
            return;
        }
        body.as_mut().consume(length);
        events.fetch_add(lines as u64, Ordering::Relaxed);
    }
}

/// The number of the change that caused the event, from the message that the change has written.
fn number(event: &str) -> Option<usize> {
    let (_, rest) = event.split_once("Change ")?;
    rest.split_once(':')?.0.parse().ok()
}

/// The measurements of one kind of watches.
struct Run {
    changes: Vec<Change>,
    arrivals: Vec<Arrival>,
    expected: usize,
    events: u64,
    wall: f64,
    /// The CPU seconds of Gatehouse, kube-apiserver and the clients.
    cpu: [f64; 3],
    memory: Memory,
}

async fn run(
    client: &kube::Client,
    processes: Processes,
    mut watchers: Watchers,
    layout: Layout,
    load: Load,
    first: usize,
) -> anyhow::Result<Run> {
    let changes = usize::try_from(u64::from(load.rate) * load.time.as_secs())?;
    let (started, cpu) = (Instant::now(), processes.cpu()?);
    let changes = latency::change(client, layout, latency::Load { changes, rate: load.rate, first }).await?;
    let covers = |namespace: Option<usize>, change: &Change| {
        namespace.is_none_or(|namespace| namespace == change.id.namespace)
    };
    let reported = watchers.looking.iter();
    let expected = reported
        .map(|(_, namespace)| changes.iter().filter(|change| covers(*namespace, change)).count())
        .sum();
    let mut arrivals = Vec::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while arrivals.len() < expected {
        match tokio::time::timeout_at(deadline, watchers.arrivals.recv()).await {
            Ok(Some(arrival)) => arrivals.push(arrival),
            Ok(None) | Err(_) => break,
        }
    }
    let (wall, after) = (started.elapsed().as_secs_f64(), processes.cpu()?);
    let memory = processes.gatehouse.memory()?;
    let events = watchers.events.load(Ordering::Relaxed);
    watchers.tasks.shutdown().await;
    let cpu = [0, 1, 2].map(|process| after[process] - cpu[process]);
    Ok(Run { changes, arrivals, expected, events, wall, cpu, memory })
}

impl Processes {
    fn cpu(self) -> anyhow::Result<[f64; 3]> {
        Ok([self.gatehouse.cpu()?, self.kube_apiserver.cpu()?, self.clients.cpu()?])
    }
}

impl Run {
    fn report(
        &self,
        what: &str,
        load: Load,
        [before, idle]: [Memory; 2],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let changes = self.changes.iter().map(|change| (change.number, change));
        let changes: std::collections::HashMap<_, _> = changes.collect();
        let known = self.arrivals.iter().filter_map(|(_, number, at)| Some((*changes.get(number)?, *at)));
        let (from_answer, from_sending): (Vec<_>, Vec<_>) = known
            .map(|(change, at)| {
                (at.saturating_duration_since(change.answered), at.saturating_duration_since(change.sent))
            })
            .unzip();
        let lost = self.expected - from_answer.len().min(self.expected);
        let samples = Sample::of_durations(from_answer).zip(Sample::of_durations(from_sending));
        let (answer, sending) = samples.with_context(|| format!("{what}: no event arrived"))?;
        let lost_events =
            if lost > 0 { format!("; {lost} of {} LOST", self.expected) } else { String::new() };
        let met = lost == 0 && answer.percentile(99) <= TARGET;
        let measured = format!("{}{lost_events}", percentiles(&answer));
        report.row_with_target(what, measured, format!("p99 ≤ {}", seconds(TARGET)), met);
        report.row("  counted from sending the change", percentiles(&sending));
        let [gatehouse, kube_apiserver, clients] = self.cpu;
        let events = float(self.events);
        report.row("  events a second", format!("{:.0}", events / self.wall));
        let each = gatehouse / events * 1e6;
        report.row("  Gatehouse", format!("{:.2} cores, {each:.1} µs for an event", gatehouse / self.wall));
        let others = [kube_apiserver, clients].map(|cpu| cpu / self.wall);
        report.row("  kube-apiserver, clients", format!("{:.2} cores, {:.2} cores", others[0], others[1]));
        let watchers = float(load.watchers as u64);
        let idle_each = (float(idle.anonymous) - float(before.anonymous)) / watchers / 1024.0;
        let resident = [before, idle, self.memory].map(|memory| mebibytes(float(memory.resident)));
        let [before, idle, after] = resident;
        report.row(
            "  resident before, with idle watchers, after",
            format!("{before}, {idle} ({idle_each:.1} KiB a watcher), {after}"),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_which_change_it_is_of() {
        let event = r#"{"type":"MODIFIED","object":{"status":{"message":"Change 1000042: Kustomization/apply of x"}}}"#;
        assert_eq!(number(event), Some(1_000_042));
        assert_eq!(number(r#"{"type":"BOOKMARK","object":{"metadata":{}}}"#), None);
    }
}
