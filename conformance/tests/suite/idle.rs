//! How many requests an installation of two processes sends to the API server of a cluster in which nothing happens.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::helm::{Helm, Values};
use gatehouse_conformance::install::{Egress, Installation};
use gatehouse_conformance::{crds, load, progress};
use libtest_mimic::Trial;

use crate::production::KINDS;
use crate::world::World;

/// What the installation may send in a second.
const MOST: f64 = 1.5;
const MINUTE: Duration = Duration::from_mins(1);
/// Until everything has been listed and registered.
const SETTLED: Duration = Duration::from_secs(30);
/// How many sorts of requests are told.
const TOLD: usize = 12;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.apart("idle::an_installation_asks_little_of_an_idle_cluster", idle)]
}

async fn idle() -> anyhow::Result<()> {
    let helm = Helm::find().await?;
    let egress = Egress::start()?;
    let options = Options { api_server_flags: vec![egress.flag()], ..Options::default() };
    let control_plane = ControlPlane::start(&options).await?;
    let client = control_plane.client().await?;
    let mut before = crds::only(&KINDS)?;
    before.extend(crds::policy());
    load::apply(&client, before).await?;
    tokio::time::sleep(SETTLED).await;
    // kube-apiserver is its own client, too.
    let without = in_a_minute(&client).await?;
    let objects = helm.objects(&Values::of("minimal")).await?;
    let installation = Installation::install(&control_plane, &egress, objects).await?;
    tokio::time::sleep(SETTLED).await;
    let with = in_a_minute(&client).await?;
    let mut more: Vec<_> = with
        .into_iter()
        .map(|(sort, count)| {
            let own = without.get(&sort).copied().unwrap_or_default();
            (count - own, sort)
        })
        .collect();
    more.sort_by(|a, b| b.0.total_cmp(&a.0));
    let per_second = more.iter().map(|(count, _)| count).sum::<f64>() / MINUTE.as_secs_f64();
    progress::say(format_args!("idle: {per_second:.2} requests per second, in a minute:"));
    for (count, sort) in more.iter().take(TOLD) {
        progress::say(format_args!("{count:6.0} {sort}"));
    }
    ensure!(per_second <= MOST, "{per_second:.2} requests per second");
    installation.end().await?;
    control_plane.stop().await
}

/// The requests that end in a minute, by verb and resource.
async fn in_a_minute(client: &kube::Client) -> anyhow::Result<BTreeMap<String, f64>> {
    let before = so_far(client).await?;
    tokio::time::sleep(MINUTE).await;
    let mut counts = so_far(client).await?;
    for (sort, count) in &mut counts {
        *count -= before.get(sort).copied().unwrap_or_default();
    }
    Ok(counts)
}

async fn so_far(client: &kube::Client) -> anyhow::Result<BTreeMap<String, f64>> {
    let text = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        let label = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let of = |name| label(name).unwrap_or_default();
        let sort = format!("{} {} {}", of("verb"), of(",resource"), of("subresource"));
        let count: f64 = line.rsplit(' ').next().context("a number")?.parse()?;
        *counts.entry(sort).or_default() += count;
    }
    Ok(counts)
}
