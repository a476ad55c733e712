//! No tenant fills etcd by what it asks of a quota in vain: requests that come to nothing write no more than they would
//! without Gatehouse, or a small part of what a ledger may, and stand in nobody else's way.
//!
//! On a control plane of its own, with two replicas. `GATEHOUSE_LONG` asks for ten minutes each.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::webhook_account::USER;
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::webhooks::{self, Settings, Webhooks};
use gatehouse_conformance::{crds, kubeconfig, progress};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::world::{World, is_long, settles};

const CLIENTS: usize = 16;
const REPLICAS: usize = 2;
const ROUND: Duration = Duration::from_secs(12);
const LONG_ROUND: Duration = Duration::from_mins(10);

const NAMESPACE: &str = "ledger";
const AGONES: &str = "/apis/agones.dev/v1";
const LEDGER: &str = "/apis/policy.gatehouse.dev/v1alpha1/quotaledgers/ledger";
const QUOTA: &str = "/apis/policy.gatehouse.dev/v1alpha1/tenantquotas/ledger";

/// What etcd writes by itself, and kube-apiserver for itself, differs from one time to the next by as much.
const NOISE: u64 = 512 << 10;
/// A ledger's, however it is asked.
const MOST_BYTES: usize = 16 << 10;
const WRITES_A_SECOND: u64 = 5;
/// Writes that each replica may make at once.
const AT_ONCE: u64 = 4;
/// What etcd and kube-apiserver make of a byte of an object: the log, the pages of the file, managed fields.
const TIMES: u64 = 12;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.apart("gate_ledger::what_is_asked_in_vain_does_not_fill_etcd", run)]
}

async fn run() -> anyhow::Result<()> {
    let control_plane = ControlPlane::start(&Options::default()).await?;
    let outcome = attacks(&control_plane).await;
    control_plane.stop().await?;
    outcome
}

async fn attacks(control_plane: &ControlPlane) -> anyhow::Result<()> {
    let round = if is_long() { LONG_ROUND } else { ROUND };
    let client = control_plane.client().await?;
    let charged = ["fleets.agones.dev", "gameservers.agones.dev", "gameserversets.agones.dev"];
    load::apply(&client, crds::only(&charged)?).await?;
    webhooks::prepare(control_plane).await?;
    let ca = control_plane.client_ca().certificate_pem();
    let kubeconfig = control_plane.kubeconfig_at(control_plane.url(), ca, USER, None)?;
    let settings = Settings { kubeconfig: Some(kubeconfig), ..Settings::default() };
    let webhooks = Webhooks::start(control_plane, REPLICAS, &settings).await?;
    webhooks.register(control_plane).await?;
    apply(&client, objects()).await?;
    let fleets = format!("{AGONES}/namespaces/{NAMESPACE}/fleets");
    let ready = |quota: &Value| {
        let conditions = quota["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    settles("the quota is held", Duration::from_mins(1), || get(&client, QUOTA), ready).await?;
    post(&client, &fleets, &fleet("there", false)).await?;
    let counted = |ledger: &Value| ledger["spec"]["used"]["count/fleets.agones.dev"] == "1";
    settles("the fleet is counted", Duration::from_mins(1), || get(&client, LEDGER), counted).await?;

    // A name that is taken, again and again.
    let taken = |_: usize, _: usize| fleet("there", false);
    let with = attack(control_plane, Extent::Time(round), taken).await?;
    ensure!(with.ends.iter().all(|code| *code == 409), "{:?}", with.ends);

    // Every creation fails after it was admitted, as somebody else refuses it.
    refuse_labelled(&client).await?;
    let before = get(&client, LEDGER).await?;
    let doomed = |client: usize, number: usize| fleet(&format!("doomed-{client}-{number}"), true);
    let lost = attack(control_plane, Extent::Time(round), doomed).await?;
    let after = get(&client, LEDGER).await?;
    ensure!(lost.ends.iter().all(|code| matches!(code, 429 | 500)), "{:?}", lost.ends);
    let generation = |ledger: &Value| ledger["metadata"]["generation"].as_u64().unwrap_or_default();
    let writes = generation(&after) - generation(&before);
    let most = WRITES_A_SECOND * lost.took.as_secs() + AT_ONCE * REPLICAS as u64 + WRITES_A_SECOND;
    ensure!(writes <= most, "{writes} writes of the ledger in {:?}", lost.took);
    let bytes = after["spec"].to_string().len();
    ensure!(bytes <= MOST_BYTES, "the ledger takes {bytes} bytes");
    // Whoever else asks of the same quota is in nobody's shadow.
    let begun = Instant::now();
    post(&as_user(control_plane, "somebody-else").await?, &fleets, &fleet("other", false)).await?;
    ensure!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    // The same without Gatehouse: as many requests in the same time.
    webhooks.end().await?;
    for kind in ["validating", "mutating"] {
        let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations");
        client.request_text(http::Request::delete(&path).body(Vec::new())?).await?;
    }
    let gone =
        async || post(&client, &fleets, &fleet("there", false)).await.map_err(|error| error.to_string());
    let taken_again =
        |answer: &Result<(), String>| answer.as_ref().is_err_and(|text| text.contains("already exists"));
    let asked = async || anyhow::Ok(gone().await);
    let _ = settles("nobody is asked", Duration::from_mins(1), asked, taken_again).await?;
    let same = Extent::Requests(with.requests, with.took / u32::try_from(with.requests)?);
    let without = attack(control_plane, same, taken).await?;
    ensure!(without.requests == with.requests, "{without}, of {}", with.requests);
    ensure!(without.ends.iter().all(|code| *code == 409), "{:?}", without.ends);
    progress::say(format_args!(
        "ledger: a name that is taken: {with}; without Gatehouse: {without}; what fails after admission: {lost}, \
         {writes} writes of the ledger, which takes {bytes} bytes"
    ));
    ensure!(with.written <= without.written * 6 / 5 + NOISE, "{with}; without: {without}");
    ensure!(with.grown <= without.grown * 6 / 5 + NOISE, "{with}; without: {without}");
    let most = writes * bytes.max(4096) as u64 * TIMES + without.written + NOISE;
    ensure!(lost.written <= most, "{lost} by {writes} writes of {bytes} bytes");
    Ok(())
}

/// How much is asked.
#[derive(Clone, Copy)]
enum Extent {
    /// As much as can be, for so long.
    Time(Duration),
    /// So many requests, so far apart.
    Requests(usize, Duration),
}

impl Extent {
    /// When a request may be made after the begin, by its number; none, if it is one too many.
    fn due(self, number: usize, elapsed: Duration) -> Option<Duration> {
        match self {
            Self::Time(time) => (elapsed < time).then_some(Duration::ZERO),
            Self::Requests(all, _) if number >= all => None,
            Self::Requests(_, apart) => Some(apart * u32::try_from(number).ok()?),
        }
    }
}

/// What came of an attack.
struct Attack {
    took: Duration,
    requests: usize,
    /// The codes that were answered.
    ends: std::collections::BTreeSet<u16>,
    /// Bytes that etcd wrote, and by which its file grew.
    written: u64,
    grown: u64,
}

impl std::fmt::Display for Attack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { took, requests, written, grown, .. } = self;
        write!(
            f,
            "{requests} requests in {took:.1?}, etcd wrote {} KiB and grew by {} KiB",
            written >> 10,
            grown >> 10
        )
    }
}

/// Has clients ask for one object after the other.
async fn attack(
    control_plane: &ControlPlane,
    extent: Extent,
    object: impl Fn(usize, usize) -> Value + Copy + Send + 'static,
) -> anyhow::Result<Attack> {
    let path = format!("{AGONES}/namespaces/{NAMESPACE}/fleets");
    let before = etcd(control_plane)?;
    let begun = Instant::now();
    let asked = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (client, path) = (as_user(control_plane, "attacker").await?, path.clone());
        let asked = Arc::clone(&asked);
        clients.spawn(async move {
            let mut codes = Vec::new();
            loop {
                let next = asked.fetch_add(1, Ordering::Relaxed);
                let Some(due) = extent.due(next, begun.elapsed()) else { break };
                tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
                let code = match post(&client, &path, &object(number, codes.len())).await {
                    Ok(()) => 201,
                    Err(kube::Error::Api(status)) => status.code,
                    Err(error) => anyhow::bail!("{error}"),
                };
                codes.push(code);
            }
            Ok(codes)
        });
    }
    let mut all = Vec::new();
    while let Some(codes) = clients.join_next().await {
        all.extend(codes??);
    }
    let after = etcd(control_plane)?;
    Ok(Attack {
        took: begun.elapsed(),
        requests: all.len(),
        ends: all.into_iter().collect(),
        written: after.0 - before.0,
        grown: after.1.saturating_sub(before.1),
    })
}

/// The bytes that etcd has written so far, and the size of its file.
fn etcd(control_plane: &ControlPlane) -> anyhow::Result<(u64, u64)> {
    let path = format!("/proc/{}/io", control_plane.etcd().pid()?);
    let io = fs::read_to_string(&path).with_context(|| format!("cannot read {path}; Linux is needed"))?;
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")).context("wchar")?.parse()?;
    let file = control_plane.folder().join("etcd/member/snap/db");
    Ok((written, fs::metadata(&file).with_context(|| file.display().to_string())?.len()))
}

async fn as_user(control_plane: &ControlPlane, user: &str) -> anyhow::Result<kube::Client> {
    kubeconfig::client(&control_plane.kubeconfig_for(user, Some("system:masters"))?).await
}

fn objects() -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {NAMESPACE: "true"}}}),
        json!({
            "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": NAMESPACE},
            "spec": {
                "namespaceSelector": {"matchLabels": {NAMESPACE: "true"}},
                "hard": {"gameservers": "100000000", "count/fleets.agones.dev": "100000000"},
            },
        }),
    ]
}

fn fleet(name: &str, is_doomed: bool) -> Value {
    let container = json!({"name": "game", "image": "game", "resources": {"requests": {"cpu": "100m"}}});
    json!({
        "apiVersion": "agones.dev/v1", "kind": "Fleet",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"doomed": is_doomed.to_string()}},
        "spec": {"replicas": 1, "template": {"spec": {"template": {"spec": {"containers": [container]}}}}},
    })
}

/// Has kube-apiserver fail to create what is doomed, at the same time as it is admitted: by a webhook that nobody serves.
async fn refuse_labelled(client: &kube::Client) -> anyhow::Result<()> {
    let name = "ledger.example.org";
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [{
            "name": name,
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
            // Nothing ever listens on port 1, the TCP port multiplexer's.
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "objectSelector": {"matchLabels": {"doomed": "true"}},
            "rules": [{
                "apiGroups": ["agones.dev"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["fleets"],
            }],
        }],
    });
    apply(client, vec![configuration]).await?;
    let path = format!("{AGONES}/namespaces/{NAMESPACE}/fleets?dryRun=All");
    let probe = async || anyhow::Ok(post(client, &path, &fleet("probe", true)).await.is_err());
    settles("what is doomed is refused", Duration::from_mins(1), probe, |refused| *refused).await?;
    Ok(())
}

async fn apply(client: &kube::Client, objects: Vec<Value>) -> anyhow::Result<()> {
    let manifest = |object| Manifest { origin: "(ledger)".to_owned(), object };
    load::apply(client, objects.into_iter().map(manifest).collect()).await
}

async fn get(client: &kube::Client, path: &str) -> anyhow::Result<Value> {
    client.request(http::Request::get(path).body(Vec::new())?).await.with_context(|| path.to_owned())
}

async fn post(client: &kube::Client, path: &str, object: &Value) -> Result<(), kube::Error> {
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(object.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    client.request::<Value>(request).await.map(drop)
}
