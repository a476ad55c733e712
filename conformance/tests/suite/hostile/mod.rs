//! Strangers at the webhooks' port: sockets that are silent, heads and bodies that dribble, bodies that are declared and
//! not sent, reviews of the largest size, all at once and without a credential. Beside them kube-apiserver has its governed
//! writes reviewed: none is refused, and the process stays within the chart's default limit of memory.
//!
//! Latencies are printed, never asserted. `GATEHOUSE_LONG` makes it a minute.

mod certificate;
mod strangers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::gatehouse::Gatehouse;
use gatehouse_conformance::progress;
use gatehouse_conformance::webhooks::{self, Settings, Webhooks};
use http::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::task::JoinSet;

use self::strangers::{Attack, Strangers};
use crate::caller::Caller;
use crate::gate::{AGONES, Gate, KUSTOMIZE, fleet, kustomization};
use crate::site::Site;
use crate::world::World;

/// The chart's default limit.
const MEMORY: u64 = 512 << 20;
/// The chart's default of `webhooks.maxConnections`.
const CONNECTIONS: usize = 1000;
/// Who writes at a time.
const WRITERS: usize = 4;
const SHORT: Duration = Duration::from_secs(15);
const LONG: Duration = Duration::from_mins(1);
const NAMESPACE: &str = "hostile";
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.apart("hostile::strangers_stop_no_admission_and_take_no_more_memory_than_there_is", strangers),
        world.apart("hostile::reviews_take_a_certificate_where_one_is_required", certificate::required),
    ]
}

async fn strangers() -> anyhow::Result<()> {
    let control_plane = Arc::new(ControlPlane::start(&Options::default()).await?);
    let (site, gatehouse) = Site::new(Arc::clone(&control_plane)).await?;
    let site = Arc::new(site);
    webhooks::prepare(&control_plane).await?;
    let flags = vec![format!("--max-connections={CONNECTIONS}")];
    let executable = site.options.executable.clone();
    let settings = Settings { executable, flags, ..Settings::default() };
    // One, so that all of it meets in one process.
    let webhooks = Webhooks::start(&control_plane, 1, &settings).await?;
    webhooks.register(&control_plane).await?;
    let replica = webhooks.replica(0);
    let kubeconfig = replica.kubeconfig_for(&control_plane, "gate", Some("system:masters"))?;
    let gate = Gate {
        caller: site.caller().await?,
        replicas: vec![Caller::of_kubeconfig(&kubeconfig).await?],
        site,
    };
    gate.namespace(NAMESPACE).await?;
    let unpruned = kustomization(NAMESPACE, "a", json!({"prune": false}));
    gate.policy(NAMESPACE, json!({"rules": {"prune": "Required"}}), &unpruned).await?;
    gate.quota(NAMESPACE, json!({"gameservers": "100"}), &fleet(NAMESPACE, "a", 101)).await?;

    let time = if std::env::var_os("GATEHOUSE_LONG").is_some() { LONG } else { SHORT };
    let calm = admissions(&gate, replica, time / 2).await?;
    let strangers = Strangers::begin(replica, NAMESPACE)?;
    let stormy = admissions(&gate, replica, time).await?;
    let attacks = strangers.end().await?;
    progress::say(format_args!("hostile, nobody else: {calm}"));
    progress::say(format_args!("hostile, with strangers: {stormy}"));
    for (attack, count) in &attacks {
        progress::say(format_args!("hostile, {attack:?}: {count} times"));
    }

    for admissions in [&calm, &stormy] {
        ensure!(
            admissions.refused.is_empty(),
            "{} refused: {:?}",
            admissions.refused.len(),
            admissions.refused.first()
        );
        ensure!(admissions.peak < MEMORY, "{} MiB", admissions.peak >> 20);
    }
    for attack in Attack::ALL {
        ensure!(attacks.get(&attack).is_some_and(|count| *count > 0), "{attack:?} did not take place");
    }
    let held: u64 = [Attack::Idle, Attack::Silent].iter().filter_map(|attack| attacks.get(attack)).sum();
    ensure!(held > u64::try_from(CONNECTIONS)?, "there were places left: {held}");
    drop((gate, gatehouse));
    webhooks.end().await?;
    drop(control_plane);
    Ok(())
}

/// What became of governed writes, and of the process.
struct Admissions {
    times: Vec<Duration>,
    refused: Vec<String>,
    /// Of its resident memory.
    peak: u64,
}

/// Has governed objects created for so long, as dry runs.
async fn admissions(gate: &Gate, replica: &Gatehouse, time: Duration) -> anyhow::Result<Admissions> {
    let end = Instant::now() + time;
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let caller = gate.caller.clone();
        writers.spawn(async move {
            let (mut times, mut refused) = (Vec::new(), Vec::new());
            while Instant::now() < end {
                let name = format!("a-{number}-{}", times.len() + refused.len());
                let (path, object) = if times.len() % 2 == 0 {
                    (
                        format!("{KUSTOMIZE}/namespaces/{NAMESPACE}/kustomizations"),
                        kustomization(NAMESPACE, &name, json!({})),
                    )
                } else {
                    (format!("{AGONES}/namespaces/{NAMESPACE}/fleets"), fleet(NAMESPACE, &name, 1))
                };
                let begun = Instant::now();
                match caller.post(&format!("{path}?dryRun=All"), &object).await {
                    Ok(answer) if answer.code == StatusCode::CREATED => times.push(begun.elapsed()),
                    Ok(answer) => refused.push(format!("{} {}", answer.code, answer.body["message"])),
                    Err(error) => refused.push(format!("{error:#}")),
                }
            }
            (times, refused)
        });
    }
    let process = replica.process().context("it runs")?.pid()?;
    let mut admissions = Admissions { times: Vec::new(), refused: Vec::new(), peak: 0 };
    loop {
        tokio::select! {
            ended = writers.join_next() => {
                let Some(ended) = ended else { break };
                let (times, refused) = ended?;
                admissions.times.extend(times);
                admissions.refused.extend(refused);
            }
            () = tokio::time::sleep(LOOK) => admissions.peak = admissions.peak.max(resident(process)?),
        }
    }
    admissions.times.sort_unstable();
    // Somebody who asks for nothing in particular is answered too.
    let answer = gate.replicas[0].send(&Method::GET, "/readyz", &[]).await?;
    ensure!(answer.code == StatusCode::OK, "{answer:#?}");
    Ok(admissions)
}

impl std::fmt::Display for Admissions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { times, refused, peak } = self;
        let percentile = |percent: usize| {
            times
                .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
                .copied()
                .unwrap_or_default()
        };
        write!(
            f,
            "{} admitted, {} refused; p50 {:.1?}, p99 {:.1?}; {} MiB resident at most",
            times.len(),
            refused.len(),
            percentile(50),
            percentile(99),
            peak >> 20
        )
    }
}

/// In bytes.
fn resident(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? << 10)
}
