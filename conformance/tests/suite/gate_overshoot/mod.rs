//! Overshoot is zero: many clients at the limits of a few tenants, replicas of the webhooks that die and come back, and
//! watches that lag, and ledgers that somebody deletes. After every storm nothing is beyond its limit and nothing is missing from the ledger; when it has
//! settled, the ledger says what is true.
//!
//! On a control plane of its own. `GATEHOUSE_SEED` repeats what clients and chaos choose, though not when the machine
//! gets round to it; `GATEHOUSE_LONG` makes many rounds of it.

mod rollout;
mod storm;
mod tenants;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::webhook_account::USER;
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::progress;
use gatehouse_conformance::webhooks::{self, Settings, Webhooks};
use gatehouse_conformance::{crds, kubeconfig};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::storm::{Client, End, Known, Tally};
use self::tenants::{QUOTAS, Standing, delete_ledger, get, objects, usage};
use crate::chance::Chance;
use crate::delay::Delay;
use crate::world::{World, settles};

const REPLICAS: usize = 3;
const CLIENTS: usize = 64;

/// How long a storm lasts, and how many there are.
const ROUND: Duration = Duration::from_secs(9);
const ROUNDS: usize = 2;
const LONG_ROUND: Duration = Duration::from_secs(30);
const LONG_ROUNDS: usize = 20;

/// How late watches are.
const LAG: Duration = Duration::from_millis(1500);
/// Replicas are killed only once a limit is used to so many percent: what dies with a reservation takes up room for a
/// while. A slow machine may need as long as this for it.
const FULL: i128 = 80;
const FILLED: Duration = Duration::from_mins(2);
/// From one misfortune to the next.
const PEACE: Duration = Duration::from_secs(3);
/// How often it is looked how full quotas are.
const LOOK: Duration = Duration::from_millis(500);

/// kube-apiserver's. The block of a replica that was killed waits this long, and 27 s; after a leader was killed, for the
/// next one first. A ledger that was deleted is made anew after as long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const SETTLED: Duration = Duration::from_mins(2);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    let rollout = world.apart("gate_overshoot::limits_hold_in_a_rollout_and_back", rollout::run);
    vec![
        world.apart("gate_overshoot::limits_hold_whatever_happens", run),
        rollout.with_ignored_flag(rollout::previous().is_none()),
    ]
}

async fn run() -> anyhow::Result<()> {
    let (seed, mut chance) = Chance::seeded()?;
    let long = std::env::var_os("GATEHOUSE_LONG").is_some();
    let (rounds, round) = if long { (LONG_ROUNDS, LONG_ROUND) } else { (ROUNDS, ROUND) };
    progress::say(format_args!("overshoot: GATEHOUSE_SEED={seed}"));

    let flag = |name: &str| format!("--{name}={}s", REQUEST_TIMEOUT.as_secs());
    let options = Options { api_server_flags: vec![flag("request-timeout")], ..Options::default() };
    let control_plane = ControlPlane::start(&options).await?;
    let outcome =
        storms(&control_plane, &mut chance, (rounds, round), flag("apiserver-request-timeout")).await;
    control_plane.stop().await?;
    outcome.with_context(|| format!("GATEHOUSE_SEED={seed}"))
}

async fn storms(
    control_plane: &ControlPlane,
    chance: &mut Chance,
    (rounds, round): (usize, Duration),
    flag: String,
) -> anyhow::Result<()> {
    let client = control_plane.client().await?;
    let charged = ["fleets.agones.dev", "gameservers.agones.dev", "gameserversets.agones.dev"];
    load::apply(&client, crds::only(&charged)?).await?;
    webhooks::prepare(control_plane).await?;
    let (_, port) = control_plane.url().rsplit_once(':').context("a port")?;
    let delay = Delay::to(port.parse()?, LAG, chance.fork()).await?;
    let ca = control_plane.client_ca().certificate_pem();
    let settings = Settings {
        kubeconfig: Some(control_plane.kubeconfig_at(&delay.url(), ca, USER, None)?),
        flags: vec![flag],
        ..Settings::default()
    };
    let mut webhooks = Webhooks::start(control_plane, REPLICAS, &settings).await?;
    webhooks.register(control_plane).await?;
    apply(&client, objects()).await?;
    in_force(&client).await?;

    let known = Known::default();
    let mut all = Tally::default();
    let mut fullest = 0;
    let mut killed = 0;
    for number in 1..=rounds {
        let over = CancellationToken::new();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            // Connections of its own: a client is a process, mostly.
            let cluster = kubeconfig::client(control_plane.kubeconfig()).await?;
            let client = Client { cluster, chance: chance.fork(), known: known.clone() };
            clients.spawn(client.run(over.clone()));
        }
        let storm = async {
            let mut tally = Tally::default();
            while let Some(ended) = clients.join_next().await {
                tally.add(ended.context("a client panicked")?);
            }
            anyhow::Ok(tally)
        };
        let misfortune = async {
            let filled = filled(&client).await?;
            let end = async {
                tokio::time::sleep(round).await;
                over.cancel();
                Ok(())
            };
            let ((), deaths) = tokio::try_join!(end, chaos(&mut webhooks, &client, chance.fork(), &over))?;
            Ok((filled, deaths))
        };
        let (tally, (filled, deaths)) = tokio::try_join!(storm, misfortune)?;
        killed += deaths;
        fullest = fullest.max(filled);
        ensure!(tally.unexpected.is_empty(), "round {number}: {:#?}", &tally.unexpected[..1]);
        all.add(tally);

        let usage = usage(&client).await?;
        for quota in &QUOTAS {
            let standing = quota.standing(&client, &usage).await?;
            quota.holds(&standing).with_context(|| format!("round {number}"))?;
        }
    }

    let settling = Instant::now();
    let usage = usage(&client).await?;
    for quota in &QUOTAS {
        let standing = async || quota.standing(&client, &usage).await;
        let left = SETTLED.saturating_sub(settling.elapsed());
        settles(format_args!("{} settles", quota.name), left, standing, Standing::is_settled).await?;
    }
    progress::say(format_args!(
        "overshoot: {:?}; {killed} replicas killed from {fullest} % of a limit on, settled after {:.1?}",
        all.ends,
        settling.elapsed()
    ));
    // A storm that nothing came of proves nothing.
    ensure!(all.count(End::Done) > 20 * rounds && all.count(End::Denied) > 10 * rounds, "{:?}", all.ends);
    ensure!(killed >= rounds, "{killed} killed");
    webhooks.end().await
}

async fn apply(client: &kube::Client, objects: Vec<Value>) -> anyhow::Result<()> {
    let manifest = |object| Manifest { origin: "(storm)".to_owned(), object };
    load::apply(client, objects.into_iter().map(manifest).collect()).await
}

/// Waits until every quota is held, and until ConfigMaps are sent to be counted: by a quota that has room for none.
async fn in_force(client: &kube::Client) -> anyhow::Result<()> {
    let name = "storm-nothing";
    let objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {name: "true"}}}),
        json!({
            "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name},
            "spec": {"namespaceSelector": {"matchLabels": {name: "true"}}, "hard": {"count/configmaps": "0"}},
        }),
    ];
    apply(client, objects).await?;
    let path = format!("/api/v1/namespaces/{name}/configmaps?dryRun=All");
    let probe = async || {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let request = http::Request::post(&path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(object.to_string().into_bytes())?;
        Ok(client.request::<Value>(request).await.map(drop).map_err(|error| error.to_string()))
    };
    let denied =
        |answer: &Result<(), String>| answer.as_ref().is_err_and(|text| text.contains("exceeded quota"));
    let _ = settles("ConfigMaps are counted", Duration::from_mins(1), probe, denied).await?;
    for quota in &QUOTAS {
        let path = format!("/apis/policy.gatehouse.dev/v1alpha1/tenantquotas/{}", quota.name);
        let ready = |quota: &Value| {
            let conditions = quota["status"]["conditions"].as_array().into_iter().flatten();
            conditions
                .into_iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        settles(quota.name, Duration::from_mins(1), || get(client, &path), ready).await?;
    }
    Ok(())
}

/// Waits until the fullest of the quotas is [`FULL`], and returns how full it is in percent. Objects are not counted all
/// at one moment, so it is about right.
async fn filled(client: &kube::Client) -> anyhow::Result<i128> {
    let fullest = async || {
        tokio::time::sleep(LOOK).await;
        let usage = usage(client).await?;
        let mut fullest = 0;
        for quota in &QUOTAS {
            fullest = fullest.max(quota.filled(&quota.standing(client, &usage).await?));
        }
        Ok(fullest)
    };
    settles("a limit is reached", FILLED, fullest, |fullest| *fullest >= FULL).await
}

/// Kills replicas and starts them again, one or two at a time, and deletes a ledger once in a while, until the storm is
/// over; then all run. Says how many it has killed.
async fn chaos(
    webhooks: &mut Webhooks,
    client: &kube::Client,
    mut chance: Chance,
    over: &CancellationToken,
) -> anyhow::Result<usize> {
    let mut killed = 0;
    loop {
        if over.run_until_cancelled(tokio::time::sleep(chance.up_to(PEACE))).await.is_none() {
            return Ok(killed);
        }
        let first = chance.below(webhooks.len());
        let second = (first + 1) % webhooks.len();
        let both = chance.below(3) == 0;
        if chance.below(3) == 0 {
            delete_ledger(client, chance.of(&QUOTAS).name).await?;
        }
        webhooks.kill(first).await?;
        killed += 1;
        if both {
            webhooks.kill(second).await?;
            killed += 1;
        }
        tokio::time::sleep(chance.up_to(PEACE)).await;
        webhooks.launch(first).await?;
        if both {
            webhooks.launch(second).await?;
        }
    }
}
