//! Informers of all client libraries keep a correct copy under all failures. There are three replicas behind one
//! address, each of which observes the cluster with a different delay. Connections are cut and replicas killed at
//! random, while objects are created, changed, deleted and changed back. After each round, each client has the state of
//! the cluster.
//!
//! It has its own control plane. `GATEHOUSE_SEED` repeats the choices, but not the timing. `GATEHOUSE_LONG` runs many
//! rounds.

mod clients;
mod replicas;
mod rows;
mod writer;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_apiservice::view::TENANT_LABEL;
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::foreign::{Client, Scope};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::pace::patience;
use gatehouse_conformance::{crds, progress};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::clients::Clients;
use self::replicas::{Misfortunes, Replicas};
use self::rows::{Rows, difference, within};
use self::writer::Writer;
use crate::chance::Chance;
use crate::world::{World, is_long, settles};

const NAMESPACES: usize = 4;
const TENANTS: [&str; 2] = ["red", "blue"];

/// How long a round lasts, and how many there are.
const ROUND: Duration = Duration::from_secs(8);
const ROUNDS: usize = 3;
const LONG_ROUND: Duration = Duration::from_secs(20);
const LONG_ROUNDS: usize = 30;

/// Short, so that a restarted replica soon serves the clients of others, but much longer than any delay here.
const WINDOW: &str = "--resume-window=10s";

/// Until replicas have observed the last write, on a busy machine.
const SEEN: Duration = Duration::from_secs(30);
/// Until clients are up to date: some increase their back-off up to a minute.
const SETTLED: Duration = Duration::from_mins(2);
/// The interval of checks, each of which makes all clients print their caches.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.apart("storm::every_informer_ends_with_the_truth", run)]
}

fn namespace(number: usize) -> String {
    format!("storm-{number}")
}

fn scopes() -> Vec<Scope> {
    vec![
        Scope::default(),
        Scope { namespace: Some(namespace(1)), ..Scope::default() },
        Scope { label_selector: Some(format!("{TENANT_LABEL}={}", TENANTS[0])), ..Scope::default() },
        Scope { field_selector: Some("status.state=Ready".to_owned()), ..Scope::default() },
    ]
}

async fn run() -> anyhow::Result<()> {
    let (seed, mut chance) = Chance::seeded()?;
    progress::say(format_args!("storm: GATEHOUSE_SEED={seed}"));
    let programs = clients::programs().await?;
    let control_plane = ControlPlane::start(&Options::default()).await?;
    let outcome = storms(&control_plane, &programs, &mut chance).await;
    control_plane.stop().await?;
    outcome.with_context(|| format!("GATEHOUSE_SEED={seed}"))
}

async fn storms(
    control_plane: &ControlPlane,
    programs: &[Client],
    chance: &mut Chance,
) -> anyhow::Result<()> {
    let long = is_long();
    let (rounds, round) = if long { (LONG_ROUNDS, LONG_ROUND) } else { (ROUNDS, ROUND) };
    let client = control_plane.client().await?;
    load::apply(&client, crds::only(&["kustomizations.kustomize.toolkit.fluxcd.io"])?).await?;
    load::apply(&client, (0..NAMESPACES).map(made).collect()).await?;

    let mut replicas = Replicas::start(control_plane, &[WINDOW.to_owned()], chance).await?;
    let ways = [
        ("direct", replicas.kubeconfig(control_plane, "informer")?),
        ("aggregated", control_plane.kubeconfig().to_owned()),
    ];
    let mut clients = Clients::start(programs, &ways, &scopes(), control_plane.folder()).await?;
    let mut writer = Writer::new(client, chance.fork());
    let (mut all, mut reported) = (Misfortunes::default(), 0);
    for number in 1..=rounds {
        let (stop, stopped) = watch::channel(false);
        let writing = async {
            let written = writer.write(Instant::now() + round).await;
            stop.send_replace(true);
            written
        };
        let (written, suffered) = tokio::try_join!(writing, replicas.suffer(chance, stopped))?;
        let quiet = Instant::now();
        let truth = truth(control_plane, &replicas, &writer).await?;
        let agreed = quiet.elapsed();
        let last = converge(&mut clients, &truth).await.with_context(|| format!("round {number}"))?;
        progress::say(format_args!(
            "storm: round {number}: {written} changes, {} connections cut, {} replicas killed; {} rows; replicas \
             agreed after {agreed:.1?}, clients after {:.1?}{last}",
            suffered.cut,
            suffered.killed,
            truth[0].len(),
            quiet.elapsed(),
        ));
        let resumes = replicas.resumes(control_plane).await?;
        progress::say(format_args!(
            "storm: watches that went on, at replicas since their last start: {resumes:?}"
        ));
        reported += resumes.get("caught_up").copied().unwrap_or_default();
        all.cut += suffered.cut;
        all.killed += suffered.killed;
    }
    progress::say(format_args!("storm: {} streamed lists were not verified", clients.unverified().await?));
    // A round without failures would prove nothing.
    ensure!(all.cut > 10 * rounds && all.killed >= rounds && reported > 0, "{all:?}, {reported} caught up");
    drop(clients);
    replicas.end().await
}

fn made(number: usize) -> Manifest {
    let labels = json!({TENANT_LABEL: TENANTS[number % TENANTS.len()]});
    let metadata = json!({"name": namespace(number), "labels": labels});
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    Manifest { origin: "(storm)".to_owned(), object }
}

/// The lists of all replicas, rows and summaries, once they agree with each other and with the cluster.
async fn truth(
    control_plane: &ControlPlane,
    replicas: &Replicas,
    writer: &Writer,
) -> anyhow::Result<[Rows; 2]> {
    let objects = writer.objects().await?;
    let expected: BTreeMap<_, _> = objects.iter().map(reported).collect();
    let look = async || {
        let lists = replicas.lists(control_plane).await?;
        let all = lists.iter().flat_map(|list| list.iter().zip(&lists[0]));
        let mut different: Vec<_> = all.filter_map(|(rows, first)| difference(rows, first)).collect();
        let shown: BTreeMap<_, _> = lists[0][0].iter().map(|(key, row)| (key.clone(), shown(row))).collect();
        different.extend((shown.keys().ne(expected.keys())).then(|| "other names".to_owned()));
        let wrong = shown.iter().filter(|(key, message)| {
            expected.get(*key).is_some_and(|reported| reported.is_some() && reported != *message)
        });
        different.extend(wrong.map(|(key, message)| format!("{key:?} says {message:?}")));
        Ok((different, lists))
    };
    let (_, mut lists) =
        settles("the replicas agree", SEEN, look, |(different, _): &(Vec<String>, _)| different.is_empty())
            .await?;
    Ok(lists.swap_remove(0))
}

/// The row of an object, and the message that it must show if only the object's condition determines it.
fn reported(object: &Value) -> ((String, String), Option<String>) {
    let metadata = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let key = (text(&metadata["namespace"]), format!("local.kustomization.{}", text(&metadata["name"])));
    let condition = &object["status"]["conditions"][0];
    let settled = metadata["generation"] == object["status"]["observedGeneration"];
    (key, (settled && condition.is_object()).then(|| text(&condition["message"])))
}

fn shown(row: &Value) -> Option<String> {
    row["status"]["message"].as_str().map(ToOwned::to_owned)
}

/// Waits until all clients have the correct state. Returns which ones were last.
async fn converge(clients: &mut Clients, truth: &[Rows; 2]) -> anyhow::Result<String> {
    let limit = patience(SETTLED);
    let deadline = Instant::now() + limit;
    let mut last = String::new();
    loop {
        let different = differences(clients, truth).await?;
        if different.is_empty() {
            return Ok(last);
        }
        last = different.keys().fold(String::from("; last"), |text, name| text + ", " + name);
        ensure!(Instant::now() < deadline, "not the truth after {limit:?}: {different:#?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// The differences between each client's caches and the correct state.
async fn differences(
    clients: &mut Clients,
    [truth, sums]: &[Rows; 2],
) -> anyhow::Result<BTreeMap<String, String>> {
    let caches = clients.caches().await?;
    let different = caches.into_iter().filter_map(|(name, scope, rows)| {
        let difference = difference(&rows, &within(truth, &scope))?;
        Some((format!("{name} {}", serde_json::to_string(&scope).unwrap_or_default()), difference))
    });
    let mut different: BTreeMap<_, _> = different.collect();
    for (name, rows) in clients.summaries()? {
        different.extend(difference(&rows, sums).map(|difference| (name, difference)));
    }
    Ok(different)
}
