//! Creations through kube-apiserver by many clients: without a webhook, under the built-in ResourceQuota, under a
//! TenantQuota with one replica and with two. In turns within one run: only the ratios mean something.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::kubeconfig;
use gatehouse_conformance::progress::during;
use serde_json::{Value, json};

use super::super::report::Report;
use super::super::stats::{Sample, float};
use super::direct::fleet;

const CLIENTS: usize = 32;
/// The design's: with two replicas, against none.
const TARGET: f64 = 0.9;
/// What is deleted is gone within this time, and so is what the ledger knew of it.
const CLEARED: Duration = Duration::from_mins(2);

/// A way to be admitted, and the namespace in which it is the way.
pub(super) struct Scenario {
    pub(super) what: &'static str,
    pub(super) namespace: &'static str,
    /// The TenantQuota over it.
    pub(super) quota: Option<&'static str>,
}

/// What is created.
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

/// The first of the scenarios is what the others are compared with, the last what the target speaks of.
pub(super) async fn measure(
    control_plane: &ControlPlane,
    scenarios: &[Scenario],
    (creates, rounds): (usize, usize),
    report: &mut Report,
) -> anyhow::Result<()> {
    let clients = (0..CLIENTS).map(|_| kubeconfig::client(control_plane.kubeconfig()));
    let clients = try_join_all(clients).await?;
    for made in [Made::ConfigMap, Made::Fleet] {
        // rates[scenario][round]
        let mut rates = vec![Vec::new(); scenarios.len()];
        let turns = async {
            for round in 0..=rounds {
                for (scenario, rates) in scenarios.iter().zip(&mut rates) {
                    let rate = create(&clients, made, scenario, creates).await.context(scenario.what)?;
                    // The first round warms up.
                    if round > 0 {
                        rates.push(rate);
                    }
                    clear(&clients[0], made, scenario).await?;
                }
            }
            anyhow::Ok(())
        };
        let what = made.plural();
        during(format_args!("creating {what}"), turns).await?;
        report.section(format!("{creates} {what} created by {CLIENTS} clients, {rounds} rounds in turns"));
        for (index, scenario) in scenarios.iter().enumerate() {
            let sample = Sample::new(rates[index].clone()).context("no round")?;
            let figure =
                format!("{:.0}/s ({:.0} – {:.0})", sample.median(), sample.least(), sample.greatest());
            // Each round against its own: what else the machine does changes slowly.
            let ratios = rates[index].iter().zip(&rates[0]).map(|(rate, without)| rate / without).collect();
            let ratio = Sample::new(ratios).context("no round")?.median();
            if index == 0 {
                report.row(scenario.what, figure);
            } else if index == scenarios.len() - 1 {
                let figure = format!("{figure}, {ratio:.2} × without");
                report.row_with_target(scenario.what, figure, format!("≥ {TARGET} ×"), ratio >= TARGET);
            } else {
                report.row(scenario.what, format!("{figure}, {ratio:.2} × without"));
            }
        }
    }
    Ok(())
}

/// Creations a second.
async fn create(
    clients: &[kube::Client],
    made: Made,
    scenario: &Scenario,
    creates: usize,
) -> anyhow::Result<f64> {
    let next = Arc::new(AtomicUsize::new(0));
    let path = made.collection(scenario.namespace);
    let begin = Instant::now();
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
    Ok(float(creates as u64) / begin.elapsed().as_secs_f64())
}

/// Deletes everything, and waits until the ledger has settled: a round begins as the one before it did.
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
        // Blocks are given back when they are not used for a while.
        let blocks = entries.filter(|(name, _)| **name != "seal").count();
        let used = spec["used"].as_object().into_iter().flatten().any(|(_, amount)| amount != "0");
        if blocks == 0 && !used {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the ledger does not settle: {blocks} blocks, {}", spec["used"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
