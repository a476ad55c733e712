//! Measures the CPU time that a response costs the server: the process's CPU time over many requests, sent
//! one after another over one kept connection directly to the server.
//!
//! The client's CPU time is not included. The time that Gatehouse spends on other work is; it is small, and
//! reported.

use std::time::{Duration, Instant};

use gatehouse_conformance::progress::during;

use super::raw::{Get, KUSTOMIZATIONS, RESOURCES, SUMMARIES};
use super::report::{Report, bytes, seconds};
use super::stats::float;
use gatehouse_conformance::process::Process;

/// The least size in bytes for which a throughput is reported: smaller responses do not cost in proportion to
/// their size.
const WORTH_A_THROUGHPUT: f64 = 100_000.0;

/// Requests before the measurement starts.
const WARM_UP: u32 = 3;

/// A server process and a client for it.
#[derive(Clone, Copy)]
pub(super) struct Server<'a> {
    pub(super) process: Process,
    pub(super) client: &'a kube::Client,
}

/// The average cost of a response.
pub(super) struct Cost {
    pub(super) requests: u32,
    pub(super) cpu: f64,
    pub(super) wall: f64,
    pub(super) size: f64,
}

pub(super) async fn measure(
    gatehouse: Server<'_>,
    upstream: Server<'_>,
    rows: u64,
    time: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.section(format!(
        "CPU of Gatehouse per answer, {} s each, direct, one request at a time",
        time.as_secs()
    ));
    let object = first(gatehouse.client).await?;

    for (what, get) in [
        ("list of fluxsummaries, JSON".to_owned(), Get::json(SUMMARIES)),
        ("list of fluxsummaries, Table".to_owned(), Get::table(SUMMARIES)),
        (format!("list of {rows} fluxresources, JSON"), Get::json(RESOURCES)),
        (format!("list of {rows} fluxresources, Table"), Get::table(RESOURCES)),
        ("get of a fluxresource, JSON".to_owned(), Get::json(&object)),
        ("get of a fluxresource, Table".to_owned(), Get::table(&object)),
    ] {
        let cost = during(&what, cost(gatehouse, get, time)).await?;
        report.row(what, cost.describe());
    }
    let idle = during("nothing at all", idle(gatehouse, time)).await?;
    report.row("beside answering, each second", precise(idle));
    let what = "kube-apiserver: list of all kustomizations, JSON";
    let cost = during(&what, cost(upstream, Get::json(KUSTOMIZATIONS), time)).await?;
    report.row(what, cost.describe());
    Ok(())
}

/// The path of any object.
async fn first(client: &kube::Client) -> anyhow::Result<String> {
    let list = Get::json(&format!("{RESOURCES}?limit=1")).value(client).await?;
    let metadata = &list["items"][0]["metadata"];
    let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
    let namespaced = RESOURCES.replace("fluxresources", &format!("namespaces/{}", text("namespace")));
    Ok(format!("{namespaced}/fluxresources/{}", text("name")))
}

pub(super) async fn cost(server: Server<'_>, get: Get<'_>, time: Duration) -> anyhow::Result<Cost> {
    let mut size = 0;
    for _ in 0..WARM_UP {
        size = get.size(server.client).await?;
    }
    let (start, before) = (Instant::now(), server.process.cpu()?);
    let mut requests = 0;
    while start.elapsed() < time {
        get.size(server.client).await?;
        requests += 1;
    }
    let (cpu, wall) = (server.process.cpu()? - before, start.elapsed().as_secs_f64());
    let each = f64::from(requests);
    Ok(Cost { requests, cpu: cpu / each, wall: wall / each, size: float(size) })
}

/// The CPU seconds per second without requests.
async fn idle(server: Server<'_>, time: Duration) -> anyhow::Result<f64> {
    let before = server.process.cpu()?;
    tokio::time::sleep(time).await;
    Ok((server.process.cpu()? - before) / time.as_secs_f64())
}

impl Cost {
    pub(super) fn describe(&self) -> String {
        let (cpu, wall, size) = (precise(self.cpu), seconds(self.wall), bytes(self.size));
        let throughput = if self.cpu > 0.0 && self.size > WORTH_A_THROUGHPUT {
            format!(", {:.0} MB/s", self.size / self.cpu / 1e6)
        } else {
            String::new()
        };
        format!("{cpu} ({size}{throughput}; {wall} wall; {} asked)", self.requests)
    }
}

pub(super) fn precise(seconds: f64) -> String {
    format!("{:.3} ms", seconds * 1e3)
}
