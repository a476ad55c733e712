//! Measures cold starts with all objects already in the cluster: the time until discovery is served, the time
//! until everything is synced, and the cost.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::gatehouse::Gatehouse;
use gatehouse_conformance::progress::during;
use gatehouse_conformance::webhooks::{self, Settings, Webhooks};

use super::objects::Layout;
use super::raw::{Get, RESOURCES};
use super::report::{Report, mebibytes, seconds, spread};
use super::stats::{Sample, float};
use gatehouse_conformance::process::{Memory, Process};

const DISCOVERY: &str = "/apis/view.gatehouse.dev/v1alpha1";

/// The targets for 10,000 objects, in seconds. The time to sync grows with their number.
const DISCOVERY_TARGET: f64 = 0.1;
const SYNC_TARGET: f64 = 3.0;
const SYNC_TARGET_OBJECTS: u64 = 10_000;

/// The limits of memory for two numbers of objects; in between they are interpolated linearly.
const MEMORY_TARGETS: [(u64, f64); 2] = [(10_000, 40.0 * MIB), (100_000, 150.0 * MIB)];
const MIB: f64 = 1_048_576.0;

/// A single start may be unusual, so there are several.
const STARTS: usize = 3;
/// Memory that a start needs temporarily is released within this time.
const SETTLE: Duration = Duration::from_secs(3);
/// Far longer than any start.
const TIMEOUT: Duration = Duration::from_mins(2);

struct Start {
    discovery: Duration,
    ready: Duration,
    cpu: f64,
    memory: Memory,
}

/// The memory of a process without objects.
pub(super) async fn empty(gatehouse: &Gatehouse) -> anyhow::Result<Memory> {
    tokio::time::sleep(SETTLE).await;
    process(gatehouse)?.memory()
}

/// Starts Gatehouse several times; the last process keeps running. Gatehouse must not be running before.
pub(super) async fn measure(
    gatehouse: &mut Gatehouse,
    client: &kube::Client,
    layout: Layout,
    empty: Memory,
    report: &mut Report,
) -> anyhow::Result<()> {
    let objects = layout.flux_objects();
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        gatehouse.kill().await?;
        starts.push(start(gatehouse, client).await?);
        let found = count(client).await?;
        ensure!(found == objects, "Gatehouse is ready, but shows {found} of {objects} Flux objects");
    }
    report.section(format!("Cold start with {objects} Flux objects"));
    let sample = |of: fn(&Start) -> f64| Sample::new(starts.iter().map(of).collect()).context("no start");
    let discovery = sample(|start| start.discovery.as_secs_f64())?;
    let ready = sample(|start| start.ready.as_secs_f64())?;
    let target = format!("≤ {}", seconds(DISCOVERY_TARGET));
    let met = discovery.median() <= DISCOVERY_TARGET;
    report.row_with_target("start → discovery served", spread(&discovery), target, met);
    let ready_text = spread(&ready);
    if objects <= SYNC_TARGET_OBJECTS * 11 / 10 {
        let target = format!("≤ {}", seconds(SYNC_TARGET));
        let met = ready.median() <= SYNC_TARGET;
        report.row_with_target("start → synced (/readyz)", ready_text, target, met);
    } else {
        report.row("start → synced (/readyz)", ready_text);
    }
    report.row("CPU until synced", spread(&sample(|start| start.cpu)?));

    report.section(format!(
        "Memory with {objects} Flux objects, {} entries of an inventory and {} of a history each, {} s after a cold \
         start",
        layout.entries,
        layout.history,
        SETTLE.as_secs()
    ));
    let resident = sample(|start| float(start.memory.resident))?.median();
    let anonymous = sample(|start| float(start.memory.anonymous))?.median();
    let peak = sample(|start| float(start.memory.peak))?.median();
    if layout.entries == 0 {
        let target = memory_target(objects);
        let limit = format!("≤ {}", mebibytes(target));
        report.row_with_target("resident (VmRSS)", mebibytes(resident), limit, resident <= target);
    } else {
        report.row("resident (VmRSS)", mebibytes(resident));
    }
    report.row("  without the program itself (RssAnon)", mebibytes(anonymous));
    report.row("peak (VmHWM)", mebibytes(peak));
    report.row("resident without objects", mebibytes(float(empty.resident)));
    report.row("  without the program itself", mebibytes(float(empty.anonymous)));
    let each = (anonymous - float(empty.anonymous)) / float(objects);
    report.row("for each object (RssAnon)", format!("{each:.0} B"));
    Ok(())
}

/// Starts a replica of the webhooks with the same objects, and measures its cost.
pub(super) async fn webhooks(
    control_plane: &ControlPlane,
    settings: &Settings,
    report: &mut Report,
) -> anyhow::Result<()> {
    webhooks::prepare(control_plane).await?;
    let begin = Instant::now();
    let webhooks = Webhooks::start(control_plane, 1, settings).await?;
    let ready = begin.elapsed();
    tokio::time::sleep(SETTLE).await;
    let process = process(webhooks.replica(0))?;
    let (cpu, memory) = (process.cpu()?, process.memory()?);
    report.section(format!("The webhooks beside them, {} s after a cold start", SETTLE.as_secs()));
    report.row("start → synced (/readyz)", seconds(ready.as_secs_f64()));
    report.row("CPU", seconds(cpu));
    report.row("resident (VmRSS)", mebibytes(float(memory.resident)));
    report.row("  without the program itself (RssAnon)", mebibytes(float(memory.anonymous)));
    report.row("peak (VmHWM)", mebibytes(float(memory.peak)));
    webhooks.end().await
}

/// The memory after the load, and the part that Gatehouse's own metrics account for.
pub(super) async fn afterwards(
    gatehouse: &Gatehouse,
    client: &kube::Client,
    report: &mut Report,
) -> anyhow::Result<()> {
    let memory = process(gatehouse)?.memory()?;
    report.section("Memory after all of this");
    report.row("resident (VmRSS)", mebibytes(float(memory.resident)));
    report.row("  without the program itself (RssAnon)", mebibytes(float(memory.anonymous)));
    report.row("peak (VmHWM)", mebibytes(float(memory.peak)));
    let metrics = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    for name in ["gatehouse_inventory_bytes", "gatehouse_view_bytes"] {
        for (labels, value) in gauges(&metrics, name) {
            report.row(format!("{name}{labels}"), mebibytes(value));
        }
    }
    Ok(())
}

/// The labels, as written, and values of a gauge or counter in the exposition format.
pub(super) fn gauges<'a>(metrics: &'a str, name: &str) -> impl Iterator<Item = (&'a str, f64)> {
    metrics.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let is_whole_name = labels.is_empty() || labels.starts_with('{');
        Some((labels, value.parse().ok()?)).filter(|_| is_whole_name)
    })
}

pub(super) fn process(gatehouse: &Gatehouse) -> anyhow::Result<Process> {
    Ok(Process(gatehouse.process().context("Gatehouse is not running")?.pid()?))
}

async fn start(gatehouse: &mut Gatehouse, client: &kube::Client) -> anyhow::Result<Start> {
    let begin = Instant::now();
    let probes = async {
        let discovery = until_served(client, DISCOVERY, Duration::from_millis(2), begin).await?;
        let ready = until_served(client, "/readyz", Duration::from_millis(20), begin).await?;
        anyhow::Ok((discovery, ready))
    };
    let ((), (discovery, ready)) = tokio::try_join!(gatehouse.launch(), probes)?;
    let process = process(gatehouse)?;
    let cpu = process.cpu()?;
    during("letting memory settle", tokio::time::sleep(SETTLE)).await;
    Ok(Start { discovery, ready, cpu, memory: process.memory()? })
}

/// Repeats the request at intervals of `pause` until it succeeds, and returns the time since `begin`.
async fn until_served(
    client: &kube::Client,
    path: &str,
    pause: Duration,
    begin: Instant,
) -> anyhow::Result<Duration> {
    loop {
        match Get::json(path).size(client).await {
            Ok(_) => return Ok(begin.elapsed()),
            Err(error) if begin.elapsed() > TIMEOUT => return Err(error),
            Err(_) => tokio::time::sleep(pause).await,
        }
    }
}

/// The number of rows that Gatehouse has.
async fn count(client: &kube::Client) -> anyhow::Result<u64> {
    let list = Get::json(&format!("{RESOURCES}?limit=1")).value(client).await?;
    let here = list["items"].as_array().map_or(0, Vec::len) as u64;
    Ok(here + list["metadata"]["remainingItemCount"].as_u64().unwrap_or_default())
}

fn memory_target(objects: u64) -> f64 {
    let [(few, least), (many, most)] = MEMORY_TARGETS;
    let beyond = float(objects.saturating_sub(few).min(many - few));
    // The count includes the GitRepositories and may exceed the larger number by those; the target then stays
    // the same.
    least + (most - least) * beyond / float(many - few)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_found_by_their_whole_name() {
        let metrics = "# TYPE a gauge\na{b=\"c d\"} 7\na{b=\"e\"} 8.5\na_total{b=\"f\"} 9\na 1\n";
        let found: Vec<_> = gauges(metrics, "a").map(|(labels, value)| (labels, value.to_string())).collect();
        let expected = [("{b=\"c d\"}", "7"), ("{b=\"e\"}", "8.5"), ("", "1")];
        assert_eq!(found, expected.map(|(labels, value)| (labels, value.to_owned())));
    }

    #[test]
    fn memory_target_is_the_designs_at_its_two_points() {
        for (objects, mebibytes) in
            [(500, 40.0), (10_000, 40.0), (55_000, 95.0), (100_000, 150.0), (100_100, 150.0)]
        {
            assert!((memory_target(objects) / MIB - mebibytes).abs() < 1e-9, "{objects}");
        }
    }
}
