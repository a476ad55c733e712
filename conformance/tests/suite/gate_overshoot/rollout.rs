//! A rollout, and a rollback: replicas of the version that `GATEHOUSE_PREVIOUS_BIN` names and of this one take each other's
//! places, one after the other, under creations and deletions at the limits of a quota. Nothing is beyond its limit at any
//! time, and for no long time everything is put off.
//!
//! On a control plane of its own. Ignored, if no earlier version is named.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::webhooks::Address;
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::gatehouse::{self, Awaited, Gatehouse, Serves};
use gatehouse_conformance::load;
use gatehouse_conformance::spread::Spread;
use gatehouse_conformance::{crds, kubeconfig, progress, webhooks};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{apply, tenants::get};
use crate::chance::Chance;
use crate::world::settles;

const CLIENTS: usize = 12;
const REPLICAS: usize = 2;
/// Before the first replica is replaced, between two, and after the last.
const PAUSE: Duration = Duration::from_secs(8);

const NAME: &str = "rollout";
const SERVERS: i64 = 60;
const FLEETS: usize = 30;

/// A rollout may put off what a replica held that has gone, and never all until everything is counted anew.
const GAP: Duration = Duration::from_secs(25);
const REQUEST_TIMEOUT: &str = "5s";

pub(super) fn previous() -> Option<PathBuf> {
    std::env::var_os("GATEHOUSE_PREVIOUS_BIN").map(PathBuf::from)
}

pub(super) async fn run() -> anyhow::Result<()> {
    let previous = previous().context("GATEHOUSE_PREVIOUS_BIN names no executable")?;
    let flags = vec![format!("--request-timeout={REQUEST_TIMEOUT}")];
    let control_plane =
        ControlPlane::start(&Options { api_server_flags: flags, ..Options::default() }).await?;
    let outcome = roll(&control_plane, &previous).await;
    control_plane.stop().await?;
    outcome
}

/// Replicas behind one address.
struct Deployment<'a> {
    control_plane: &'a ControlPlane,
    client: kube::Client,
    spread: Spread,
    replicas: Vec<Gatehouse>,
    started: usize,
}

impl Deployment<'_> {
    async fn start(&mut self, executable: &Path) -> anyhow::Result<()> {
        self.started += 1;
        let options = gatehouse::Options {
            serves: Serves::Webhooks,
            executable: Some(executable.to_owned()),
            name: Some(format!("rollout-{}", self.started)),
            flags: vec![format!("--apiserver-request-timeout={REQUEST_TIMEOUT}")],
            awaited: Awaited::Ready,
            ..gatehouse::Options::default()
        };
        self.replicas.push(Gatehouse::start(self.control_plane, &options).await?);
        let bundle: String = self.replicas.iter().map(Gatehouse::serving_ca).collect();
        apply(&self.client, webhooks::configurations(Address::Url(self.spread.url()), bundle).into()).await?;
        // kube-apiserver reads the configuration again within a second, and trusts the new replica then.
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.spread.add(self.replicas.last().context("a replica")?.port());
        Ok(())
    }

    /// Ends the oldest as a rollout does.
    async fn stop(&mut self) -> anyhow::Result<()> {
        let mut oldest = self.replicas.remove(0);
        self.spread.remove(oldest.port());
        oldest.stop().await?;
        Ok(())
    }

    async fn replace_all(&mut self, executable: &Path) -> anyhow::Result<()> {
        for _ in 0..REPLICAS {
            self.start(executable).await?;
            self.stop().await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

async fn roll(control_plane: &ControlPlane, previous: &Path) -> anyhow::Result<()> {
    let client = control_plane.client().await?;
    let charged = ["fleets.agones.dev", "gameservers.agones.dev", "gameserversets.agones.dev"];
    load::apply(&client, crds::only(&charged)?).await?;
    webhooks::prepare(control_plane).await?;
    let spread = Spread::start().await?;
    let mut deployment =
        Deployment { control_plane, client: client.clone(), spread, replicas: Vec::new(), started: 0 };
    for _ in 0..REPLICAS {
        deployment.start(previous).await?;
    }
    apply(&client, objects()).await?;
    let path = format!("/apis/policy.gatehouse.dev/v1alpha1/tenantquotas/{NAME}");
    let ready = |quota: &Value| {
        let conditions = quota["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    settles("the quota is held", Duration::from_mins(1), || get(&client, &path), ready).await?;

    let (_, mut chance) = Chance::seeded()?;
    let (stop, stopped) = watch::channel(false);
    let ends = Arc::new(Ends::default());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let cluster = kubeconfig::client(control_plane.kubeconfig()).await?;
        clients.spawn(ask(cluster, number, chance.fork(), Arc::clone(&ends), stopped.clone()));
    }
    let watching = tokio::spawn(most(client.clone(), stopped));
    let current = gatehouse::executable().await?;
    let rolled = async {
        tokio::time::sleep(PAUSE).await;
        deployment.replace_all(&current).await?;
        let (out, _) = ends.so_far();
        deployment.replace_all(previous).await?;
        deployment.replace_all(&current).await?;
        anyhow::Ok(out)
    }
    .await;
    stop.send_replace(true);
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let (servers, fleets) = watching.await??;
    let out = rolled?;
    let (all, gap) = ends.so_far();
    progress::say(format_args!(
        "rollout: {out:?}; and back, and out again: {all:?}; at most {servers} servers and {fleets} fleets; nothing was \
         admitted for {gap:.1?} at most"
    ));
    ensure!(servers <= SERVERS && fleets <= FLEETS, "{servers} servers, {fleets} fleets");
    ensure!(all.made > 50 && all.denied > 20, "nothing came of it: {all:?}");
    ensure!(gap < GAP, "nothing was admitted for {gap:?}");
    ensure!(all.unexpected == 0, "{all:?}");
    Ok(())
}

/// What became of requests.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    made: usize,
    deleted: usize,
    denied: usize,
    put_off: usize,
    unasked: usize,
    unexpected: usize,
}

#[derive(Default)]
struct Ends(Mutex<(Counts, Option<Instant>, Duration)>);

impl Ends {
    fn note(&self, note: impl FnOnce(&mut Counts), is_decided: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        note(&mut all.0);
        if is_decided {
            let now = Instant::now();
            all.2 = all.2.max(all.1.map_or(Duration::ZERO, |last| now - last));
            all.1 = Some(now);
        }
    }

    fn so_far(&self) -> (Counts, Duration) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (all.0, all.2.max(all.1.map_or(Duration::ZERO, |last| last.elapsed())))
    }
}

/// A client: it makes fleets until it is denied, and deletes some of its own.
async fn ask(
    client: kube::Client,
    number: usize,
    mut chance: Chance,
    ends: Arc<Ends>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut own: Vec<String> = Vec::new();
    let mut next = 0;
    while !*stopped.borrow() {
        let is_denied = if own.is_empty() || chance.below(3) > 0 {
            next += 1;
            let name = format!("fleet-{number}-{next}");
            let request = http::Request::post(fleets())
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(fleet(&name, 1 + chance.below(4)).to_string().into_bytes())?;
            let outcome = client.request::<Value>(request).await;
            let is_denied = matches!(&outcome, Err(kube::Error::Api(status)) if status.code == 403);
            match outcome {
                Ok(_) => {
                    own.push(name);
                    ends.note(|all| all.made += 1, true);
                }
                Err(kube::Error::Api(status)) => match status.code {
                    403 => ends.note(|all| all.denied += 1, true),
                    429 => ends.note(|all| all.put_off += 1, false),
                    500 | 504 => ends.note(|all| all.unasked += 1, false),
                    _ => ends.note(|all| all.unexpected += 1, false),
                },
                Err(_) => ends.note(|all| all.unasked += 1, false),
            }
            is_denied
        } else {
            let name = own.swap_remove(chance.below(own.len()));
            let request = http::Request::delete(format!("{}/{name}", fleets())).body(Vec::new())?;
            client.request::<Value>(request).await?;
            ends.note(|all| all.deleted += 1, false);
            false
        };
        if is_denied {
            tokio::time::sleep(chance.up_to(Duration::from_millis(200))).await;
        }
    }
    Ok(())
}

/// The most that there was at any one time, of servers and of fleets: a list is of one moment.
async fn most(client: kube::Client, stopped: watch::Receiver<bool>) -> anyhow::Result<(i64, usize)> {
    let mut most = (0, 0);
    while !*stopped.borrow() {
        let list = get(&client, &fleets()).await?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let servers = items.iter().map(|fleet| fleet["spec"]["replicas"].as_i64().unwrap_or_default()).sum();
        most = (most.0.max(servers), most.1.max(items.len()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(most)
}

fn fleets() -> String {
    format!("/apis/agones.dev/v1/namespaces/{NAME}/fleets")
}

fn fleet(name: &str, replicas: usize) -> Value {
    let container = json!({"name": "game", "image": "game"});
    json!({
        "apiVersion": "agones.dev/v1", "kind": "Fleet", "metadata": {"name": name, "namespace": NAME},
        "spec": {"replicas": replicas, "template": {"spec": {"template": {"spec": {"containers": [container]}}}}},
    })
}

fn objects() -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME, "labels": {NAME: "true"}}}),
        json!({
            "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": NAME},
            "spec": {
                "namespaceSelector": {"matchLabels": {NAME: "true"}},
                "hard": {"gameservers": SERVERS.to_string(), "count/fleets.agones.dev": FLEETS.to_string()},
            },
        }),
    ]
}
