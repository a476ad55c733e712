//! An installation from the chart: no request fails while certificates and their authorities are replaced every few
//! seconds, and replicas are restarted one after another.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::webhooks::NAME;
use gatehouse_apiservice::registration::{NAMESPACE, SERVER_NAME, api_service_name, webhook_account};
use gatehouse_conformance::control_plane::{ControlPlane, Options as ControlPlaneOptions};
use gatehouse_conformance::helm::{Helm, Values};
use gatehouse_conformance::install::{Egress, Installation};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::pace::slowness;
use gatehouse_conformance::traffic::{self, Door, Traffic};
use gatehouse_conformance::{crds, progress};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::world::{World, is_long};

/// How long there is traffic, on a quiet machine.
const SHORT: Duration = Duration::from_secs(40);
const LONG: Duration = Duration::from_mins(10);

/// In seconds: longer than it takes, on a quiet machine, until no client sends new connections to a replica that is not
/// ready; and far longer than it takes until clients of a busy machine have read the ends of their watches. For the ten
/// minutes, replicas use the values of the chart.
const SHUTDOWN: [(&str, u32); 2] = [("shutdown-delay-duration", 3), ("shutdown-grace", 8)];

/// In seconds, as short as the overlap allows on a quiet machine. Verifiers may lag behind by the overlap, and a
/// certificate is renewed when a third of its lifetime is left. On a slow machine, both must be longer.
const LIFETIMES: [(&str, u32); 3] = [("rotationOverlap", 2), ("certificateLifetime", 12), ("caLifetime", 24)];
/// How long a direct client uses a CA bundle that it has read: less than the overlap.
const BELIEVED: Duration = Duration::from_millis(700);

/// The Secrets with the certificates.
const SECRETS: [&str; 2] = ["gatehouse-apiserver-tls", "gatehouse-webhooks-tls"];

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.apart("production::rotations_and_rolling_restarts_fail_no_request", run)]
}

async fn run() -> anyhow::Result<()> {
    let egress = Egress::start()?;
    let options =
        ControlPlaneOptions { api_server_flags: vec![egress.flag()], ..ControlPlaneOptions::default() };
    let control_plane = ControlPlane::start(&options).await?;
    let outcome = installed(&control_plane, &egress).await;
    control_plane.stop().await?;
    outcome
}

async fn installed(control_plane: &ControlPlane, egress: &Egress) -> anyhow::Result<()> {
    let client = control_plane.client().await?;
    // The policy and quota exist before the webhooks start, so that each ready replica has observed them.
    let mut before = crds::only(&KINDS)?;
    before.extend(crds::policy());
    before.extend(
        traffic::objects().into_iter().map(|object| Manifest { origin: "(traffic)".to_owned(), object }),
    );
    load::apply(&client, before).await?;
    let is_long = is_long();
    let slowness = slowness();
    let values = Values::default()
        .and(LIFETIMES.map(|(name, seconds)| format!("tls.selfManaged.{name}={}s", seconds * slowness)))
        .and(quick_shutdown().into_iter().filter(|_| !is_long));
    let manifests = Helm::find().await?.objects(&values).await?;
    let mut installation = Installation::install(control_plane, egress, manifests).await?;
    traffic::in_force(&client).await?;

    let traffic = Traffic::start(control_plane, doors(&installation)).await?;
    let until = Instant::now() + if is_long { LONG } else { SHORT * slowness };
    let restarting = async {
        let mut rounds = 0;
        while Instant::now() < until {
            installation.views.restart(control_plane).await?;
            installation.webhooks.restart(control_plane).await?;
            rounds += 1;
        }
        anyhow::Ok(rounds)
    };
    let (rounds, rotations) = tokio::try_join!(restarting, Rotations::until(&client, until))?;
    let outcome = traffic.stop().await;
    progress::say(format_args!(
        "production: every replica replaced {rounds} times, {rotations:?}; {} requests, {} failed, {} unadmitted writes; {:?}",
        outcome.total(),
        outcome.failed,
        outcome.unadmitted.len(),
        outcome.succeeded,
    ));
    outcome.without_failure()?;
    outcome.took_place(&AT_LEAST)?;
    ensure!(rounds >= 2 && rotations.took_place(), "{rounds} rounds, {rotations:?}");
    installation.end().await
}

/// Values of the chart with which replicas end as quickly as no request fails, on this machine.
pub(crate) fn quick_shutdown() -> [String; 2] {
    let slowness = slowness();
    let flags = SHUTDOWN.map(|(flag, seconds)| format!("--{flag}={}s", seconds * slowness)).join(",");
    ["apiserver", "webhooks"].map(|component| format!("{component}.extraArgs={{{flags}}}"))
}

/// The kinds in the traffic.
pub(crate) const KINDS: [&str; 4] = [
    "fleets.agones.dev",
    "gameservers.agones.dev",
    "gameserversets.agones.dev",
    "kustomizations.kustomize.toolkit.fluxcd.io",
];

fn doors(installation: &Installation) -> Vec<Door> {
    let service = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}", api_service_name());
    let configuration =
        |kind: &str| format!("/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/{NAME}");
    let published =
        |number: usize| (configuration("validating"), format!("/webhooks/{number}/clientConfig/caBundle"));
    vec![
        Door {
            port: installation.views.spread().port(),
            name: SERVER_NAME.to_owned(),
            path: "/apis/view.gatehouse.dev/v1alpha1/fluxsummaries".to_owned(),
            published: vec![(service, "/spec/caBundle".to_owned())],
            believed: BELIEVED,
        },
        Door {
            port: installation.webhooks.spread().port(),
            name: webhook_account::SERVER_NAME.to_owned(),
            path: "/livez".to_owned(),
            published: vec![
                (configuration("mutating"), "/webhooks/0/clientConfig/caBundle".to_owned()),
                published(0),
                published(1),
                published(2),
            ],
            believed: BELIEVED,
        },
    ]
}

/// How often the content of the Secrets changed.
#[derive(Debug)]
struct Rotations {
    views: Seen,
    webhooks: Seen,
}

/// The number of different authorities and certificates.
#[derive(Debug)]
struct Seen {
    authorities: usize,
    certificates: usize,
}

impl Rotations {
    /// Reads the Secrets more often than they change.
    async fn until(client: &kube::Client, until: Instant) -> anyhow::Result<Self> {
        let mut seen: [[BTreeSet<String>; 2]; 2] = Default::default();
        while Instant::now() < until {
            for (name, seen) in SECRETS.iter().zip(&mut seen) {
                let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}");
                let secret: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
                for (key, seen) in ["current-ca.crt", "tls.crt"].iter().zip(seen) {
                    let value = secret["data"][key].as_str().with_context(|| format!("{name}: no {key}"))?;
                    seen.insert(value.to_owned());
                }
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let [views, webhooks] = seen.map(|[authorities, certificates]| Seen {
            authorities: authorities.len(),
            certificates: certificates.len(),
        });
        Ok(Self { views, webhooks })
    }

    fn took_place(&self) -> bool {
        [&self.views, &self.webhooks].iter().all(|seen| seen.authorities > 2 && seen.certificates > 4)
    }
}

/// Enough requests for the result to mean something.
const AT_LEAST: [(&str, u64); 9] = [
    ("lists and gets", 50),
    ("lists on new connections", 10),
    ("allowed writes", 50),
    ("forbidden writes", 10),
    ("direct connections", 30),
    ("clients without the CA", 15),
    ("changes", 10),
    ("plain watches", 2),
    ("kube's watcher", 1),
];
