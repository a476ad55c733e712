//! Three replicas behind two addresses, one for the aggregator and one for all other clients, and their failures.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use gatehouse_apiservice::registration::{USER, api_service};
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::gatehouse::{
    self, Certificate, Files, Gatehouse, Options, Serves, wait_until_available,
};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::progress;
use gatehouse_conformance::spread::Spread;
use gatehouse_conformance::webhooks::metrics;
use serde_json::Value;
use tokio::sync::watch;

use super::rows::{Rows, rows, summaries};
use crate::caller::Caller;
use crate::chance::Chance;
use crate::delay::Delay;
use crate::site::API;

/// The maximum delay of the events that each replica observes.
const LAGS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_millis(1500)];

/// The maximum time between two failures.
const DIRECT_CUT: Duration = Duration::from_millis(600);
/// The aggregator has few connections, which carry all its watches.
const AGGREGATED_CUT: Duration = Duration::from_millis(2500);
const DEATH: Duration = Duration::from_secs(5);

/// The replicas, which stop when this is dropped.
pub(super) struct Replicas {
    servers: Vec<Gatehouse>,
    addresses: Addresses,
    certificate: Files,
    _delays: Vec<Delay>,
}

struct Addresses {
    direct: Spread,
    aggregated: Spread,
}

/// The number of failures.
#[derive(Debug, Default)]
pub(super) struct Misfortunes {
    pub(super) cut: usize,
    pub(super) killed: usize,
}

impl Replicas {
    /// Starts and registers the replicas.
    pub(super) async fn start(
        control_plane: &ControlPlane,
        flags: &[String],
        chance: &mut Chance,
    ) -> anyhow::Result<Self> {
        let executable = gatehouse::executable().await?;
        gatehouse::prepare(control_plane).await?;
        let certificate = Files::issue(control_plane, Serves::Views, "gatehouse")?;
        let addresses = Addresses { direct: Spread::start().await?, aggregated: Spread::start().await? };
        let (_, port) = control_plane.url().rsplit_once(':').context("a port")?;
        let (mut delays, mut options) = (Vec::new(), Vec::new());
        for (number, lag) in LAGS.into_iter().enumerate() {
            let delay = Delay::to(port.parse()?, lag, chance.fork()).await?;
            let ca = control_plane.client_ca().certificate_pem();
            let number_flag = format!("--replica={number}");
            options.push(Options {
                executable: Some(executable.clone()),
                name: Some(format!("gatehouse-{number}")),
                flags: flags.iter().cloned().chain([number_flag]).collect(),
                certificate: Certificate::Shared(certificate.clone()),
                kubeconfig: Some(control_plane.kubeconfig_at(&delay.url(), ca, USER, None)?),
                ..Options::default()
            });
            delays.push(delay);
        }
        let started = options.iter().map(|options| Gatehouse::start(control_plane, options));
        let replicas = futures::future::try_join_all(started).await?;
        for replica in &replicas {
            addresses.add(replica.port());
        }
        let service = api_service(addresses.aggregated.port(), certificate.ca());
        let client = control_plane.client().await?;
        load::apply(&client, vec![Manifest { origin: "(storm)".to_owned(), object: service }]).await?;
        progress::during("registering the replicas", wait_until_available(&client)).await?;
        Ok(Self { servers: replicas, addresses, certificate, _delays: delays })
    }

    /// A kubeconfig for direct requests to some replica.
    pub(super) fn kubeconfig(&self, control_plane: &ControlPlane, user: &str) -> anyhow::Result<PathBuf> {
        let url = self.addresses.direct.url();
        control_plane.kubeconfig_at(&url, self.certificate.ca(), user, Some("system:masters"))
    }

    /// The lists of each replica.
    pub(super) async fn lists(&self, control_plane: &ControlPlane) -> anyhow::Result<Vec<[Rows; 2]>> {
        let mut lists = Vec::new();
        for replica in &self.servers {
            let kubeconfig = replica.kubeconfig_for(control_plane, "truth", Some("system:masters"))?;
            let caller = Caller::of_kubeconfig(&kubeconfig).await?;
            let list = async |plural: &str| caller.get(&format!("{API}/{plural}")).await?.ok();
            let (all, sums) = (list("fluxresources").await?, list("fluxsummaries").await?);
            let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
            lists.push([rows(&items(&all)), summaries(&items(&sums))]);
        }
        Ok(lists)
    }

    /// How watches have resumed, by outcome, summed over all replicas since their last start.
    pub(super) async fn resumes(
        &self,
        control_plane: &ControlPlane,
    ) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut resumes = BTreeMap::new();
        for replica in &self.servers {
            let text = metrics(control_plane, replica).await?;
            for line in text.lines().filter_map(|line| line.strip_prefix("gatehouse_watch_resumes_total{")) {
                let counted = line.strip_prefix("outcome=\"").and_then(|rest| rest.split_once('"'));
                let (outcome, rest) = counted.with_context(|| line.to_owned())?;
                let number = rest.rsplit_once(' ').with_context(|| line.to_owned())?.1;
                *resumes.entry(outcome.to_owned()).or_default() += number.parse::<u64>()?;
            }
        }
        Ok(resumes)
    }

    /// Cuts connections, kills replicas and restarts them until `stop`. Afterwards all replicas run.
    pub(super) async fn suffer(
        &mut self,
        chance: &mut Chance,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<Misfortunes> {
        let Self { servers, addresses, .. } = self;
        let cuts = [(&addresses.direct, DIRECT_CUT), (&addresses.aggregated, AGGREGATED_CUT)]
            .map(|(spread, peace)| cut(spread, peace, chance.fork(), stop.clone()));
        let (cuts, killed) = tokio::join!(
            futures::future::join_all(cuts),
            kill(servers, addresses, chance.fork(), stop.clone())
        );
        Ok(Misfortunes { cut: cuts.into_iter().sum(), killed: killed? })
    }

    /// Stops all replicas gracefully.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        for replica in &mut self.servers {
            replica.stop().await?;
        }
        Ok(())
    }
}

impl Addresses {
    fn add(&self, port: u16) {
        self.direct.add(port);
        self.aggregated.add(port);
    }

    fn remove(&self, port: u16) {
        self.direct.remove(port);
        self.aggregated.remove(port);
    }
}

/// Whether `stop` does not come within this time.
async fn is_quiet(peace: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::time::timeout(peace, stop.wait_for(|stop| *stop)).await.is_err()
}

async fn cut(spread: &Spread, peace: Duration, mut chance: Chance, mut stop: watch::Receiver<bool>) -> usize {
    let mut cuts = 0;
    while is_quiet(chance.up_to(peace), &mut stop).await {
        cuts += usize::from(spread.cut(chance.below(usize::MAX)));
    }
    cuts
}

async fn kill(
    replicas: &mut [Gatehouse],
    addresses: &Addresses,
    mut chance: Chance,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<usize> {
    let mut killed = 0;
    while is_quiet(chance.up_to(DEATH), &mut stop).await {
        let one = chance.below(replicas.len());
        let replica = &mut replicas[one];
        replica.kill().await?;
        killed += 1;
        addresses.remove(replica.port());
        replica.launch().await?;
        addresses.add(replica.port());
    }
    Ok(killed)
}
