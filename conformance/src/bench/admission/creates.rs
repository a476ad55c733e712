//! Measures creations through kube-apiserver by many clients: without a webhook, with the built-in
//! ResourceQuota, and with a TenantQuota with one and with two replicas, each compared with empty webhooks
//! that are registered in the same places. The scenarios run in turns in one run: only the ratios are
//! meaningful.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::kubeconfig;
use gatehouse_conformance::progress::during;
use serde_json::{Value, json};

use super::super::report::{Report, seconds};
use super::super::stats::{Sample, float};
use super::direct::fleet;
use gatehouse_conformance::process::Process;

const CLIENTS: usize = 32;
/// The least rate with a TenantQuota, relative to empty webhooks in the same places.
const TARGET: f64 = 0.95;
/// The limit of time for deleted objects to disappear, from the ledger as well.
const CLEARED: Duration = Duration::from_mins(2);

/// A way in which creations are admitted, and the namespace where it applies.
pub(super) struct Scenario {
    pub(super) what: &'static str,
    pub(super) namespace: &'static str,
    /// The TenantQuota of the namespace.
    pub(super) quota: Option<&'static str>,
    /// The index of the scenario that this one is compared with.
    pub(super) beside: usize,
}

/// The processes whose CPU time is measured during creations.
#[derive(Clone, Copy)]
pub(super) struct Processes {
    pub(super) api_server: Process,
    pub(super) etcd: Process,
    pub(super) replicas: [Process; 2],
}

impl Processes {
    /// The CPU seconds so far of kube-apiserver, etcd, and all replicas together.
    fn cpu(&self) -> anyhow::Result<[f64; 3]> {
        let replicas = self.replicas[0].cpu()? + self.replicas[1].cpu()?;
        Ok([self.api_server.cpu()?, self.etcd.cpu()?, replicas])
    }
}

/// The result of a round of creations.
struct Round {
    /// Creations per second.
    rate: f64,
    /// CPU seconds per creation, in the order of [`Processes::cpu`].
    cpu: [f64; 3],
}

/// The kind of the created objects.
#[derive(Clone, Copy)]
enum Made {
    ConfigMap,
    Fleet,
}

impl Made {
    fn collection(self, namespace: &str) -> String {
        match self {
            Self::ConfigMap => format!("/api/v1/namespaces/{namespace}/configmaps"),
            Self::Fleet => format!("/apis/agones.dev/v1/namespaces/{namespace}/fleets"),
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMaps",
            Self::Fleet => "Fleets",
        }
    }

    fn object(self, namespace: &str, number: usize) -> Value {
        let mut object = match self {
            Self::ConfigMap => {
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"a": "b"}})
            }
            Self::Fleet => fleet(namespace, 2),
        };
        object["metadata"]["name"] = json!(format!("made-{number}"));
        object
    }
}

/// Runs all scenarios in turns. The first round only warms up.
pub(super) async fn measure(
    control_plane: &ControlPlane,
    scenarios: &[Scenario],
    processes: Processes,
    (creates, rounds): (usize, usize),
    report: &mut Report,
) -> anyhow::Result<()> {
    let clients = (0..CLIENTS).map(|_| kubeconfig::client(control_plane.kubeconfig()));
    let clients = try_join_all(clients).await?;
    for made in [Made::ConfigMap, Made::Fleet] {
        // results[scenario][round]
        let mut results: Vec<Vec<Round>> = scenarios.iter().map(|_| Vec::new()).collect();
        let turns = async {
            for round in 0..=rounds {
                for (scenario, results) in scenarios.iter().zip(&mut results) {
                    let result = create(&clients, made, scenario, creates, processes).await;
                    let result = result.context(scenario.what)?;
                    // The first round warms up.
                    if round > 0 {
                        results.push(result);
                    }
                    clear(&clients[0], made, scenario).await?;
                }
            }
            anyhow::Ok(())
        };
        let what = made.plural();
        during(format_args!("creating {what}"), turns).await?;
        report.section(format!("{creates} {what} created by {CLIENTS} clients, {rounds} rounds in turns"));
        for (scenario, rounds) in scenarios.iter().zip(&results) {
            row(scenario, rounds, scenarios, &results, report)?;
        }
    }
    Ok(())
}

fn row(
    scenario: &Scenario,
    rounds: &[Round],
    scenarios: &[Scenario],
    results: &[Vec<Round>],
    report: &mut Report,
) -> anyhow::Result<()> {
    let median = |values: Vec<f64>| anyhow::Ok(Sample::new(values).context("no round")?.median());
    let rates = Sample::new(rounds.iter().map(|round| round.rate).collect()).context("no round")?;
    let mut figure = format!("{:.0}/s ({:.0} – {:.0})", rates.median(), rates.least(), rates.greatest());
    let beside = &results[scenario.beside];
    // Compared within each round, because other load on the machine changes slowly.
    let ratio = median(rounds.iter().zip(beside).map(|(one, other)| one.rate / other.rate).collect())?;
    let target = scenario.quota.map(|_| format!("≥ {TARGET} ×"));
    let other = scenarios[scenario.beside].what;
    if other != scenario.what {
        figure = format!("{figure}, {ratio:.2} × {other}");
    }
    match target {
        Some(target) => report.row_with_target(scenario.what, figure, target, ratio >= TARGET),
        None => report.row(scenario.what, figure),
    }
    let cpu = |index: usize| median(rounds.iter().map(|round| round.cpu[index]).collect());
    let [api_server, etcd, replicas] = [seconds(cpu(0)?), seconds(cpu(1)?), seconds(cpu(2)?)];
    report.row("  CPU for one", format!("kube-apiserver {api_server}, etcd {etcd}, Gatehouse {replicas}"));
    Ok(())
}

async fn create(
    clients: &[kube::Client],
    made: Made,
    scenario: &Scenario,
    creates: usize,
    processes: Processes,
) -> anyhow::Result<Round> {
    let next = Arc::new(AtomicUsize::new(0));
    let path = made.collection(scenario.namespace);
    let (begin, before) = (Instant::now(), processes.cpu()?);
    let each = clients.iter().map(|client| {
        let (client, next, path, namespace) =
            (client.clone(), Arc::clone(&next), path.clone(), scenario.namespace);
        async move {
            let work = tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= creates {
                        return anyhow::Ok(());
                    }
                    let request = http::Request::post(&path)
                        .header(http::header::CONTENT_TYPE, "application/json")
                        .body(made.object(namespace, number).to_string().into_bytes())?;
                    client.request_text(request).await?;
                }
            });
            work.await?
        }
    });
    try_join_all(each).await?;
    let count = float(creates as u64);
    let rate = count / begin.elapsed().as_secs_f64();
    let after = processes.cpu()?;
    let cpu = std::array::from_fn(|index| (after[index] - before[index]) / count);
    Ok(Round { rate, cpu })
}

/// Deletes all objects, and waits until the ledger has settled, so that all rounds start from the same state.
async fn clear(client: &kube::Client, made: Made, scenario: &Scenario) -> anyhow::Result<()> {
    let path = made.collection(scenario.namespace);
    client.request_text(http::Request::delete(&path).body(Vec::new())?).await?;
    let Some(quota) = scenario.quota else { return Ok(()) };
    let path = format!("/apis/policy.gatehouse.dev/v1alpha1/quotaledgers/{quota}");
    let deadline = Instant::now() + CLEARED;
    loop {
        let ledger: Value = client.request(http::Request::get(&path).body(Vec::new())?).await?;
        let spec = &ledger["spec"];
        let entries = spec["entries"].as_object().into_iter().flatten();
        // A replica gives a block back when it has not used it for a while.
        let blocks = entries.filter(|(name, _)| **name != "seal").count();
        let used = spec["used"].as_object().into_iter().flatten().any(|(_, amount)| amount != "0");
        if blocks == 0 && !used {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the ledger does not settle: {blocks} blocks, {}", spec["used"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
