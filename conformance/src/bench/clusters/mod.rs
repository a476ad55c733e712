//! Measures one hub with many remote clusters, of which a third ends in the course of it.
//!
//! The remote clusters are in this process (see [`spokes`]), so that the hub's CPU and memory are its own. Lists with
//! and without dead clusters are of the same rows: what is known of a cluster is shown while it does not answer.

mod spokes;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{AsyncBufReadExt, StreamExt};
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::gatehouse::Gatehouse;
use gatehouse_conformance::load;
use gatehouse_conformance::progress::{during, say};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::spokes::{Spokes, cluster_of};
use super::cpu::{self, Cost, Server};
use super::raw::{Get, RESOURCES};
use super::report::{Report, mebibytes, seconds, spread, times};
use super::start;
use super::stats::{Sample, float};

const HEALTHS: &str = "/apis/view.gatehouse.dev/v1alpha1/clusterhealths";
/// What is waited for happens within this time, or never. A silent cluster is asked again after two minutes.
const PATIENCE: Duration = Duration::from_mins(5);
/// An event arrives within this time, or never.
const LOST: Duration = Duration::from_secs(30);
/// Memory that was only needed for a moment is released within this time.
const SETTLE: Duration = Duration::from_secs(10);
const LIST_TARGET: f64 = 1.1;
const MEMORY_TARGET: f64 = 250.0;
/// The promised time from a change to its event, in seconds.
const EVENT_TARGET: f64 = 1.0;

/// How many clusters with how many rows each, how many changes, and for how long to list and to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) clusters: usize,
    pub(super) rows: usize,
    pub(super) changes: usize,
    pub(super) time: Duration,
}

struct Hub<'a> {
    gatehouse: &'a mut Gatehouse,
    client: kube::Client,
    load: Load,
}

pub(super) async fn measure(
    control_plane: &ControlPlane,
    gatehouse: &mut Gatehouse,
    client: kube::Client,
    load: Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Load { clusters, rows, .. } = load;
    report.section(format!("{clusters} remote clusters of {rows} rows"));
    let mut spokes = during("making clusters", Spokes::start(clusters, rows)).await?;
    let manifest = |object| load::Manifest { origin: "(benchmark)".to_owned(), object };
    let objects = spokes.secrets().map(manifest).collect();
    during("registering them", load::apply(&control_plane.client().await?, objects)).await?;
    let mut hub = Hub { gatehouse, client, load };

    let all = during("waiting for their rows", hub.start(clusters * rows)).await?;
    report.row("hub start → all rows shown", seconds(all));
    let before = hub.state("none dead", &spokes, report).await?;

    say(format!("ending {} clusters", spokes.dead()));
    spokes.end_a_third();
    let noticed = during("waiting until they are missed", hub.misses(spokes.dead())).await?;
    report.row("a third ends → all of these are shown as unreachable", seconds(noticed));
    let after = hub.state("a third dead or hanging", &spokes, report).await?;
    for (what, before, after) in [("CPU", before.cpu, after.cpu), ("time", before.wall, after.wall)] {
        let ratio = after / before;
        report.row_with_target(
            format!("list of everything, {what}: a third dead / none dead"),
            times(ratio),
            format!("≤ {LIST_TARGET}"),
            ratio <= LIST_TARGET,
        );
    }

    let living = spokes.living().len();
    let shown = during("waiting for the living after a restart", hub.start(living * rows)).await?;
    report.row(format!("hub start → the rows of all {living} living clusters shown"), seconds(shown));
    Ok(())
}

impl Hub<'_> {
    /// Starts the hub anew, and returns the seconds until it shows so many rows.
    async fn start(&mut self, rows: usize) -> anyhow::Result<f64> {
        self.gatehouse.kill().await?;
        let began = Instant::now();
        self.gatehouse.launch().await?;
        loop {
            // Not served until the view has synced.
            let healths = Get::json(HEALTHS).value(&self.client).await.unwrap_or_default();
            let observed = observed(&healths);
            if observed >= rows {
                let took = began.elapsed().as_secs_f64();
                let list = Get::json(RESOURCES).value(&self.client).await?;
                let shown = list["items"].as_array().map_or(0, Vec::len);
                ensure!(shown >= rows, "{observed} objects are counted, and {shown} of {rows} rows shown");
                return Ok(took);
            }
            ensure!(began.elapsed() < PATIENCE, "{observed} of {rows} objects are counted");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until so many clusters are shown as unreachable.
    async fn misses(&self, clusters: usize) -> anyhow::Result<f64> {
        let began = Instant::now();
        loop {
            let list = Get::json(HEALTHS).value(&self.client).await?;
            let missed = list["items"].as_array().into_iter().flatten().filter(|row| is_missed(row)).count();
            if missed >= clusters {
                return Ok(began.elapsed().as_secs_f64());
            }
            ensure!(began.elapsed() < PATIENCE, "{missed} of {clusters} clusters are missed");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Memory, idle CPU, the list of everything, and how long changes of living clusters take.
    async fn state(&self, state: &str, spokes: &Spokes, report: &mut Report) -> anyhow::Result<Cost> {
        tokio::time::sleep(SETTLE).await;
        let process = start::process(self.gatehouse)?;
        let cpu = process.cpu()?;
        during(format!("idle, {state}"), tokio::time::sleep(self.load.time)).await;
        let idle = (process.cpu()? - cpu) / self.load.time.as_secs_f64();
        report.row(format!("idle, {state}"), format!("{idle:.3} cores"));
        let server = Server { process, client: &self.client };
        let list = cpu::cost(server, Get::json(RESOURCES), self.load.time);
        let list = during(format!("lists of everything, {state}"), list).await?;
        report.row(format!("list of everything, {state}"), list.describe());
        let events = during(format!("changes, {state}"), self.changes(spokes)).await?;
        let p99 = events.percentile(99);
        report.row_with_target(
            format!("a living cluster's change → event, {state}"),
            format!("p50 {}, p99 {}", seconds(events.median()), seconds(p99)),
            format!("≤ {EVENT_TARGET} s"),
            p99 <= EVENT_TARGET,
        );
        report.row("  spread", spread(&events));
        tokio::time::sleep(SETTLE).await;
        let memory = process.memory()?;
        let resident = float(memory.resident) / f64::from(1 << 20);
        report.row_with_target(
            format!("resident (RssAnon), {state}"),
            format!("{} ({})", mebibytes(float(memory.resident)), mebibytes(float(memory.anonymous))),
            format!("≤ {MEMORY_TARGET} MiB"),
            resident <= MEMORY_TARGET,
        );
        Ok(list)
    }

    /// Changes objects of living clusters, one after another, under one watch of everything.
    async fn changes(&self, spokes: &Spokes) -> anyhow::Result<Sample> {
        let page = Get::json(&format!("{RESOURCES}?limit=1")).value(&self.client).await?;
        let version =
            page["metadata"]["resourceVersion"].as_str().context("a list without a version")?.to_owned();
        let path = format!("{RESOURCES}?watch=true&resourceVersion={version}&timeoutSeconds=3600");
        let mut lines = Box::pin(Get::json(&path).stream(&self.client).await?).lines();
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            while let Some(Ok(line)) = lines.next().await {
                // Fails only at the end, when the receiver is gone.
                let _ = arrived.send((line, Instant::now()));
            }
        });
        let living = spokes.living();
        let mut taken = Vec::new();
        for (number, spoke) in (0..self.load.changes).zip(living.iter().cycle()) {
            // Of the time, so that no two runs have the same one.
            let revision = format!("v{number}-{}", jiff::Timestamp::now().as_millisecond());
            let began = Instant::now();
            spoke.change(&revision);
            let at = loop {
                let next = tokio::time::timeout(LOST, arrivals.recv()).await;
                let (line, at) = next
                    .with_context(|| format!("a change of {} was not told", spoke.name))?
                    .context("the watch has ended")?;
                if line.contains(&revision) {
                    let event: Value = serde_json::from_str(&line)?;
                    let row = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
                    ensure!(cluster_of(row)? == spoke.name, "{row} instead of a row of {}", spoke.name);
                    break at;
                }
            };
            taken.push(at - began.min(at));
        }
        Sample::of_durations(taken).context("there are no changes")
    }
}

/// The Flux objects of all clusters. Pages of a list do not say how many rows are left where clusters may be hidden.
fn observed(healths: &Value) -> usize {
    let items = healths["items"].as_array().into_iter().flatten();
    let layers = items.flat_map(|row| row["status"]["layers"].as_array().into_iter().flatten());
    let flux = layers.filter(|layer| layer["name"] == "Flux");
    flux.filter_map(|layer| usize::try_from(layer["total"].as_u64()?).ok()).sum()
}

fn is_missed(row: &Value) -> bool {
    let conditions = row["status"]["conditions"].as_array().into_iter().flatten();
    let statuses: HashMap<_, _> =
        conditions.filter_map(|one| Some((one["type"].as_str()?, one["status"].as_str()?))).collect();
    statuses.get("Reachable") == Some(&"False")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster_is_missed_if_it_is_known_to_be_unreachable() {
        let row = |status: &str| {
            let conditions =
                json!([{"type": "Fresh", "status": "False"}, {"type": "Reachable", "status": status}]);
            json!({"status": {"conditions": conditions}})
        };
        assert!(is_missed(&row("False")));
        assert!(!is_missed(&row("True")) && !is_missed(&row("Unknown")) && !is_missed(&json!({})));
    }

    #[test]
    fn flux_objects_of_all_clusters_are_counted() {
        let layer = |name: &str, total: u64| json!({"name": name, "total": total});
        let row = |total| json!({"status": {"layers": [layer("API", 9), layer("Flux", total)]}});
        assert_eq!(observed(&json!({"items": [row(2), row(3), {"status": {}}]})), 5);
        assert_eq!(observed(&json!({})), 0);
    }

    #[test]
    fn rows_begin_with_their_cluster() {
        assert_eq!(cluster_of("spoke-001.kustomization.app-000").ok(), Some("spoke-001"));
        assert!(cluster_of("nothing").is_err());
    }
}
