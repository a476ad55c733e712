//! No request fails while replicas come and go.

use std::time::{Duration, Instant};

use anyhow::ensure;
use gatehouse_apiservice::registration::webhooks::{Address, NAME};
use gatehouse_apiservice::registration::{SERVER_NAME, api_service, api_service_name, webhook_account};
use gatehouse_conformance::control_plane::{ControlPlane, Options as ControlPlaneOptions};
use gatehouse_conformance::gatehouse::{self, Certificate, Files, Options, Serves};
use gatehouse_conformance::install::Deployment;
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::traffic::{self, Door, Outcome, Traffic};
use gatehouse_conformance::{crds, progress, webhooks};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::world::World;

const REPLICAS: usize = 2;

/// How long there is traffic.
const SHORT: Duration = Duration::from_secs(40);
const LONG: Duration = Duration::from_mins(10);

/// Longer than it takes until nobody sends new connections to a replica that is not ready, and together with the grace
/// shorter than a child is given to end.
const SHUTDOWN: [&str; 2] = ["--shutdown-delay-duration=2s", "--shutdown-grace=2s"];

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.apart("production::rolling_restarts_fail_no_request", restarts)]
}

async fn restarts() -> anyhow::Result<()> {
    let control_plane = ControlPlane::start(&ControlPlaneOptions::default()).await?;
    let outcome = restarted(&control_plane).await;
    control_plane.stop().await?;
    outcome
}

async fn restarted(control_plane: &ControlPlane) -> anyhow::Result<()> {
    let client = control_plane.client().await?;
    load::apply(&client, crds::only(&KINDS)?).await?;
    gatehouse::prepare(control_plane).await?;
    webhooks::prepare(control_plane).await?;
    apply(&client, traffic::objects()).await?;

    let mut deployments = Vec::new();
    for serves in [Serves::Views, Serves::Webhooks] {
        let name = format!("{serves:?}").to_lowercase();
        let files = Files::issue(control_plane, serves, &name)?;
        let ca = files.ca().to_owned();
        let options = Options {
            serves,
            executable: Some(gatehouse::executable().await?),
            name: Some(name),
            flags: SHUTDOWN.map(ToOwned::to_owned).into(),
            certificate: Certificate::Shared(files),
            ..Options::default()
        };
        deployments.push((Deployment::start(control_plane, REPLICAS, options).await?, ca));
    }
    let [(mut views, views_ca), (mut gate, gate_ca)] =
        deployments.try_into().map_err(|_| anyhow::anyhow!("two deployments"))?;
    apply(&client, vec![api_service(views.spread().port(), &views_ca)]).await?;
    apply(&client, webhooks::configurations(Address::Url(gate.spread().url()), gate_ca).into()).await?;
    gatehouse::wait_until_available(&client).await?;
    traffic::in_force(&client).await?;

    let traffic = Traffic::start(control_plane, doors(&views, &gate)).await?;
    let until = Instant::now() + if std::env::var_os("GATEHOUSE_LONG").is_some() { LONG } else { SHORT };
    let mut rounds = 0;
    while Instant::now() < until {
        views.restart(control_plane).await?;
        gate.restart(control_plane).await?;
        rounds += 1;
    }
    let outcome = traffic.stop().await;
    let restarts = views.made() + gate.made() - 2 * REPLICAS;
    progress::say(format_args!(
        "production: {restarts} replicas replaced in {rounds} rounds; {} requests, {} failed, {} unadmitted writes; {:?}",
        outcome.total(),
        outcome.failed,
        outcome.unadmitted.len(),
        outcome.succeeded,
    ));
    outcome.without_failure()?;
    took_place(&outcome)?;
    views.end().await?;
    gate.end().await
}

/// The kinds of the traffic.
const KINDS: [&str; 4] = [
    "fleets.agones.dev",
    "gameservers.agones.dev",
    "gameserversets.agones.dev",
    "kustomizations.kustomize.toolkit.fluxcd.io",
];

fn doors(views: &Deployment, gate: &Deployment) -> Vec<Door> {
    let believed = Duration::from_secs(1);
    let service = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}", api_service_name());
    let configuration =
        |kind: &str| format!("/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/{NAME}");
    let published =
        |number: usize| (configuration("validating"), format!("/webhooks/{number}/clientConfig/caBundle"));
    vec![
        Door {
            port: views.spread().port(),
            name: SERVER_NAME.to_owned(),
            path: "/apis/view.gatehouse.dev/v1alpha1/fluxsummaries".to_owned(),
            published: vec![(service, "/spec/caBundle".to_owned())],
            believed,
        },
        Door {
            port: gate.spread().port(),
            name: webhook_account::SERVER_NAME.to_owned(),
            path: "/livez".to_owned(),
            published: vec![
                (configuration("mutating"), "/webhooks/0/clientConfig/caBundle".to_owned()),
                published(0),
                published(1),
                published(2),
            ],
            believed,
        },
    ]
}

/// Traffic that nobody made proves nothing.
fn took_place(outcome: &Outcome) -> anyhow::Result<()> {
    for (client, at_least) in [
        ("lists and gets", 100),
        ("lists on new connections", 20),
        ("allowed writes", 100),
        ("forbidden writes", 40),
        ("direct connections", 60),
        ("clients without the CA", 30),
        ("changes", 20),
        ("plain watches", 2),
        ("kube's watcher", 1),
    ] {
        ensure!(outcome.of(client) >= at_least, "{client}: {:?}", outcome.succeeded);
    }
    Ok(())
}

async fn apply(client: &kube::Client, objects: Vec<Value>) -> anyhow::Result<()> {
    let manifest = |object| Manifest { origin: "(production)".to_owned(), object };
    load::apply(client, objects.into_iter().map(manifest).collect()).await
}
