//! Strangers at the webhooks' port: sockets that are silent, heads and bodies that dribble, bodies that are declared and
//! not sent, reviews of the largest size, all at once and without a credential. Beside them kube-apiserver has its governed
//! writes reviewed: none is refused, and the process stays within the chart's default limit of memory.
//!
//! Strangers take this machine's processors too, which real ones do not. So latencies are compared in phases that take turns:
//! nobody attacks; the same strangers attack another process of the same executable, which reviews nothing; they attack
//! the process that reviews. What the last two differ in is what strangers do to admission.
//!
//! The machine has other work, and the slowest of a few hundred requests are those that waited for it. So the phases take
//! turns in several rounds, the 99th percentiles of a round are compared, and the median round counts. `GATEHOUSE_LONG`
//! makes it a minute of attack.

mod certificate;
mod crowd;
mod readers;
mod strangers;
mod unread;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::gatehouse::Gatehouse;
use gatehouse_conformance::process::Process;
use gatehouse_conformance::progress;
use gatehouse_conformance::webhooks::{self, Settings, Webhooks};
use http::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::task::JoinSet;

use self::strangers::Attack;
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
/// How long each phase is, and how often they take turns.
const SHORT: (Duration, usize) = (Duration::from_secs(2), 7);
const LONG: (Duration, usize) = (Duration::from_secs(10), 6);
/// In the median round, a percentile beside strangers may be so many times as large as where they attack somebody else.
const MOST_TIMES: f64 = 2.0;
/// Until every attack takes place, on a machine that has much else to do.
const BEGUN: Duration = Duration::from_mins(2);
const NAMESPACE: &str = "hostile";
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.apart("hostile::strangers_stop_no_admission_and_take_no_more_memory_than_there_is", strangers),
        world.apart("hostile::who_asks_and_does_not_read_keeps_nobody_from_the_views", readers::trial),
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
    let other = Settings { name: Some("bystander".to_owned()), ..settings.clone() };
    // One, so that all of it meets in one process; and one that reviews nothing.
    let webhooks = Webhooks::start(&control_plane, 1, &settings).await?;
    let bystander = Webhooks::start(&control_plane, 1, &other).await?;
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

    let is_long = std::env::var_os("GATEHOUSE_LONG").is_some();
    let (time, rounds) = if is_long { LONG } else { SHORT };
    let mut phases: BTreeMap<Phase, Admissions> = BTreeMap::new();
    let mut compared: Vec<[f64; 2]> = Vec::new();
    let mut attacks: BTreeMap<Attack, u64> = BTreeMap::new();
    for round in 0..rounds {
        let mut of_round = BTreeMap::new();
        for phase in Phase::in_turn(round) {
            let strangers = match phase {
                Phase::Alone => None,
                Phase::Elsewhere => Some(strangers::begin(bystander.replica(0), NAMESPACE)?),
                Phase::Here => Some(strangers::begin(replica, NAMESPACE)?),
            };
            if let Some(strangers) = &strangers {
                tokio::time::timeout(BEGUN, strangers.all_begun())
                    .await
                    .context("not every attack took place")?;
            }
            let admissions = admissions(&gate, replica, time).await?;
            of_round.insert(phase, [50, 99].map(|percent| admissions.percentile(percent).as_secs_f64()));
            phases.entry(phase).or_default().add(admissions);
            let Some(strangers) = strangers else { continue };
            let counts = strangers.end();
            if phase == Phase::Here {
                for (attack, count) in counts {
                    *attacks.entry(attack).or_default() += count;
                }
            }
        }
        let [here, elsewhere] = [Phase::Here, Phase::Elsewhere].map(|phase| of_round[&phase]);
        compared.push([here[0] / elsewhere[0], here[1] / elsewhere[1]]);
    }
    for (phase, admissions) in &phases {
        progress::say(format_args!("hostile, {phase:?}: {admissions}"));
    }
    for (attack, count) in &attacks {
        progress::say(format_args!("hostile, {attack:?}: {count} times"));
    }

    for (phase, admissions) in &phases {
        let refused = &admissions.refused;
        ensure!(refused.is_empty(), "{phase:?}: {} refused: {:?}", refused.len(), refused.first());
        ensure!(admissions.peak < MEMORY, "{phase:?}: {} MiB", admissions.peak >> 20);
    }
    let held: u64 = [Attack::Idle, Attack::Silent].iter().filter_map(|attack| attacks.get(attack)).sum();
    ensure!(held > u64::try_from(CONNECTIONS)?, "there were places left: {held}");
    let [p50, p99] =
        [0, 1].map(|percentile| median(compared.iter().map(|times| times[percentile]).collect()));
    progress::say(format_args!(
        "hostile: p50 is {p50:.2} and p99 {p99:.2} times as long as where others are attacked, in rounds {compared:.2?}"
    ));
    ensure!(p50 <= MOST_TIMES, "p50 is {p50:.2} times as long as where others are attacked: {compared:.2?}");
    ensure!(p99 <= MOST_TIMES, "p99 is {p99:.2} times as long as where others are attacked: {compared:.2?}");
    drop((gate, gatehouse));
    bystander.end().await?;
    webhooks.end().await?;
    drop(control_plane);
    Ok(())
}

/// Whom the strangers attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Nobody.
    Alone,
    /// A process that reviews nothing.
    Elsewhere,
    /// The process that reviews.
    Here,
}

impl Phase {
    /// All, in another order every other round: what else this machine does changes with time.
    fn in_turn(round: usize) -> [Self; 3] {
        match round % 2 {
            0 => [Self::Alone, Self::Elsewhere, Self::Here],
            _ => [Self::Here, Self::Elsewhere, Self::Alone],
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::INFINITY)
}

/// What became of governed writes, and of the process.
#[derive(Default)]
struct Admissions {
    /// In order.
    times: Vec<Duration>,
    refused: Vec<String>,
    /// The most resident memory of the process that reviews, in bytes.
    peak: u64,
    /// Seconds of its processor time, of the trial's, and of the clock.
    cpu: f64,
    own_cpu: f64,
    clock: f64,
}

impl Admissions {
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.times.sort_unstable();
        self.refused.extend(other.refused);
        self.peak = self.peak.max(other.peak);
        self.cpu += other.cpu;
        self.own_cpu += other.own_cpu;
        self.clock += other.clock;
    }

    fn percentile(&self, percent: usize) -> Duration {
        let at = (self.times.len() * percent / 100).min(self.times.len().saturating_sub(1));
        self.times.get(at).copied().unwrap_or_default()
    }
}

/// Has governed objects created for so long, as dry runs.
async fn admissions(gate: &Gate, replica: &Gatehouse, time: Duration) -> anyhow::Result<Admissions> {
    let process = Process(replica.process().context("it runs")?.pid()?);
    let own = Process(std::process::id());
    let (begun, cpu, own_cpu) = (Instant::now(), process.cpu()?, own.cpu()?);
    let end = begun + time;
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
    let mut admissions = Admissions::default();
    loop {
        tokio::select! {
            ended = writers.join_next() => {
                let Some(ended) = ended else { break };
                let (times, refused) = ended?;
                admissions.times.extend(times);
                admissions.refused.extend(refused);
            }
            () = tokio::time::sleep(LOOK) => admissions.peak = admissions.peak.max(process.memory()?.resident),
        }
    }
    admissions.clock = begun.elapsed().as_secs_f64();
    admissions.cpu = process.cpu()? - cpu;
    admissions.own_cpu = own.cpu()? - own_cpu;
    // Somebody who asks for nothing in particular is answered too.
    let answer = gate.replicas[0].send(&Method::GET, "/readyz", &[]).await?;
    ensure!(answer.code == StatusCode::OK, "{answer:#?}");
    Ok(admissions)
}

impl std::fmt::Display for Admissions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} admitted, {} refused; p50 {:.1?}, p99 {:.1?}; {} MiB resident at most; processors: {:.2} of it, {:.2} of the trial",
            self.times.len(),
            self.refused.len(),
            self.percentile(50),
            self.percentile(99),
            self.peak >> 20,
            self.cpu / self.clock,
            self.own_cpu / self.clock,
        )
    }
}
