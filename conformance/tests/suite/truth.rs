//! What is shown is true, from the status that a controller writes to kube-apiserver to what kubectl prints.
//!
//! The cases of Flux are those of the inventory's own table test. Their times are moved to now; what kube-apiserver sets
//! by itself (the time of creation, the generation) is its own here, so that steps of theirs that need time are left out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{self, ControlPlane};
use gatehouse_conformance::gatehouse::{self, Gatehouse, Options};
use gatehouse_conformance::kubectl::{Kubectl, Watch};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::{crds, progress};
use libtest_mimic::Trial;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::site::{API, Site};
use crate::world::{World, settles};

/// For a change of an object, on a busy machine.
const SHOWN: Duration = Duration::from_secs(20);

/// When the times of the cases are as of: 2026-11-28T22:30:00Z.
const CASES: jiff::Timestamp = jiff::Timestamp::constant(1_795_905_000, 0);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.apart("truth::rows_and_layers_are_as_the_cases_have_them", cases),
        world.shared("truth::a_broken_build_is_never_ready_while_it_is_tried_again", retries),
    ]
}

const NAMESPACE: &str = "truth-retries";
const ROW: &str = "local.kustomization.billing";

/// Of the cases, what follows from a time or a generation that kube-apiserver sets itself, or from a deletion.
const NOT_HERE: [&str; 10] = [
    "HelmRelease apps/uninstall-fails",
    "Kustomization apps/going-while-held",
    "Kustomization apps/no-conditions",
    "GitRepository apps/changed",
    "HelmRepository apps/ignored",
    "HelmChart.source.toolkit.fluxcd.io apps/early",
    "HelmRelease apps/early",
    "ImagePolicy apps/early",
    "Receiver apps/changed",
    "ExternalArtifact apps/empty",
];

/// A Kustomization of which revision 1 is applied and another is attempted.
fn billing(attempted: &str, ready: [&str; 3], reconciling: Option<[&str; 2]>) -> Value {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |type_: &str, [status, reason, message]: [&str; 3]| {
        json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
            "observedGeneration": 1})
    };
    let mut conditions = vec![condition("Ready", ready)];
    conditions
        .extend(reconciling.map(|[reason, message]| condition("Reconciling", ["True", reason, message])));
    let applied = if ready[0] == "True" { attempted } else { "main@sha1:1" };
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"namespace": NAMESPACE, "name": "billing"},
        "spec": {"interval": "10m", "prune": true, "path": "./", "sourceRef": {"kind": "GitRepository", "name": "fleet"}},
        "status": {
            "observedGeneration": 1, "conditions": conditions,
            "lastAppliedRevision": applied, "lastAttemptedRevision": attempted,
            // Nothing of builds gets into it.
            "history": [{"digest": "sha256:1", "firstReconciled": "2026-01-01T00:00:00Z",
                "lastReconciled": "2026-01-01T00:00:00Z", "lastReconciledDuration": "1s", "totalReconciliations": 1,
                "lastReconciledStatus": "ReconciliationSucceeded", "metadata": {"revision": "main@sha1:1"}}],
        },
    })
}

async fn retries(site: Arc<Site>) -> anyhow::Result<()> {
    const WORKING: [&str; 3] = ["Unknown", "Progressing", "Reconciliation in progress"];
    const FETCHING: [&str; 2] =
        ["Progressing", "Fetching manifests for revision main@sha1:2 with a timeout of 5m0s"];
    const BUILDING: [&str; 2] =
        ["Progressing", "Building manifests for revision main@sha1:2 with a timeout of 5m0s"];
    const BROKEN: [&str; 3] = ["False", "BuildFailed", "kustomize build failed: no such file"];
    const RETRY: [&str; 2] = ["ProgressingWithRetry", BUILDING[1]];
    const APPLIED: [&str; 3] = ["True", "ReconciliationSucceeded", "Applied revision"];
    let caller = site.caller().await?;
    let path = format!("{API}/namespaces/{NAMESPACE}/fluxresources/{ROW}");
    let write = async |object: Value, shown: [&str; 2], says: &str| {
        site.apply([object]).await?;
        let row = async || Ok(caller.get(&path).await?.body);
        let wanted = |row: &Value| {
            row["status"]["state"] == shown[0]
                && ready_of(row) == shown[1]
                && row["status"]["message"].as_str().is_some_and(|message| message.contains(says))
        };
        settles(format!("{shown:?}, {says}"), SHOWN, row, wanted).await
    };
    write(billing("main@sha1:1", APPLIED, None), ["Ready", "True"], "Applied").await?;
    write(billing("main@sha1:1", WORKING, Some(FETCHING)), ["Progressing", "True"], "in progress").await?;
    write(billing("main@sha1:2", BROKEN, Some(RETRY)), ["Failing", "False"], "no such file").await?;

    let kubectl = site.kubectl()?;
    let format = r#"jsonpath={.status.state} {.status.lastOutcome} {.status.conditions[?(@.type=="Ready")].status}{"\n"}"#;
    let mut watch = kubectl.watch(["get", "fluxresource", ROW, "-n", NAMESPACE, "-w", "-o", format])?;
    ensure!(watch.next_line(SHOWN).await? == "Failing  False");
    let waiting = tokio::spawn(async move {
        let row = format!("fluxresource/{ROW}");
        kubectl.run(["wait", "--for=condition=Ready", &row, "-n", NAMESPACE, "--timeout=55s"]).await
    });
    for _ in 0..4 {
        write(billing("main@sha1:2", WORKING, Some(FETCHING)), ["Progressing", "False"], "no such file")
            .await?;
        write(billing("main@sha1:2", WORKING, Some(BUILDING)), ["Progressing", "False"], "no such file")
            .await?;
        let row =
            write(billing("main@sha1:2", BROKEN, Some(RETRY)), ["Failing", "False"], "no such file").await?;
        ensure!(row["status"]["reason"] == "BuildFailed", "{row:#}");
    }
    ensure!(!waiting.is_finished(), "kubectl wait ended: {:?}", waiting.await);
    write(billing("main@sha1:2", WORKING, Some(FETCHING)), ["Progressing", "False"], "no such file").await?;
    write(billing("main@sha1:2", APPLIED, None), ["Ready", "True"], "Applied").await?;
    waiting.await??.ok()?;
    only_at_last(&mut watch).await
}

/// Reads a watch up to the success, which nothing like one comes before.
async fn only_at_last(watch: &mut Watch) -> anyhow::Result<()> {
    let mut seen = Vec::new();
    loop {
        let line = watch.next_line(SHOWN).await?;
        if line == "Ready  True" {
            break;
        }
        ensure!(line == "Progressing Failing False" || line == "Failing  False", "{line:?} after {seen:?}");
        seen.push(line);
    }
    ensure!(seen.iter().filter(|line| line.starts_with("Progressing")).count() >= 5, "{seen:?}");
    Ok(())
}

fn ready_of(row: &Value) -> &str {
    let mut conditions = row["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.find(|condition| condition["type"] == "Ready");
    ready.and_then(|ready| ready["status"].as_str()).unwrap_or_default()
}

/// A file of cases: what is right at first, and later.
#[derive(Debug, Deserialize)]
struct Case {
    right: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    #[serde(default)]
    objects: BTreeMap<String, Right>,
}

/// What is right of an object. Other fields are the table test's alone.
#[derive(Debug, Deserialize)]
struct Right {
    state: String,
    outcome: Option<String>,
    reason: Option<String>,
    says: Option<String>,
    cause: Option<String>,
}

/// What is right of a layer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Layer {
    name: String,
    health: String,
    failed: u64,
    #[serde(default)]
    suspended: u64,
    #[serde(default)]
    failures: Vec<Failure>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Failure {
    /// `Kind name`.
    of: String,
    says: String,
    cause: Option<String>,
}

async fn cases() -> anyhow::Result<()> {
    let control_plane = ControlPlane::start(&control_plane::Options::default()).await?;
    let client = control_plane.client().await?;
    // Every kind is defined by the suite itself: a case holds no more of an object than it is about.
    progress::during("loading CRDs", load::apply(&client, crds::missing_from(&[]))).await?;
    gatehouse::prepare(&control_plane).await?;
    let mut gatehouse = Gatehouse::start(&control_plane, &Options::default()).await?;
    gatehouse.register(&control_plane).await?;
    let kubectl = Kubectl::new(control_plane.kubeconfig())?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../inventory/tests/truth/cases");
    let mut shown = 0;
    for name in ["flux-sources", "flux-apps", "flux-edges"] {
        let (case, objects): (Case, _) =
            read(&std::fs::read_to_string(folder.join(format!("{name}.yaml")))?)?;
        apply(&client, name, objects).await?;
        let objects = &case.right.first().context("a step")?.objects;
        for (of, right) in objects.iter().filter(|(of, _)| !NOT_HERE.contains(&of.as_str())) {
            row(&kubectl, of, right).await.with_context(|| format!("{name}: {of}"))?;
            shown += 1;
        }
    }
    ensure!(shown > 75, "{shown} rows");
    let (layers, objects): (Vec<Layer>, _) = read(include_str!("truth.yaml"))?;
    let written = without_times(objects)?;
    apply(&client, "truth.yaml", written.iter().map(|(object, _)| object.clone()).collect()).await?;
    for (object, time) in &written {
        if let Some(time) = time {
            age(&kubectl, object, time).await.with_context(|| object["metadata"]["name"].to_string())?;
        }
    }
    for right in &layers {
        layer(&kubectl, right).await.with_context(|| right.name.clone())?;
    }
    gatehouse.stop().await?;
    control_plane.stop().await?;
    Ok(())
}

/// The first document, and the objects after it, with the times of both moved to now.
fn read<T: serde::de::DeserializeOwned>(text: &str) -> anyhow::Result<(T, Vec<Value>)> {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(&moved(text))?;
    documents.retain(|document| !document.is_null());
    ensure!(!documents.is_empty());
    Ok((serde_json::from_value(documents.remove(0))?, documents))
}

/// A text whose instants are as far from now as they were from the cases' own now.
fn moved(text: &str) -> String {
    const LENGTH: usize = "2026-11-28T22:30:00Z".len();
    const CENTURY: &str = "20";
    let by = jiff::Timestamp::now().duration_since(CASES);
    let (mut moved, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(CENTURY) {
        let (before, after) = rest.split_at(at);
        moved.push_str(before);
        let candidate = after.get(..LENGTH).and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let taken = if let Some(instant) = candidate {
            moved.push_str(&(instant + by).strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
            LENGTH
        } else {
            moved.push_str(CENTURY);
            CENTURY.len()
        };
        rest = &after[taken..];
    }
    moved.push_str(rest);
    moved
}

async fn apply(client: &kube::Client, origin: &str, objects: Vec<Value>) -> anyhow::Result<()> {
    // One that is being deleted cannot be made.
    let objects = objects.into_iter().filter(|object| object["metadata"]["deletionTimestamp"].is_null());
    let manifest = |object| Manifest { origin: origin.to_owned(), object };
    load::apply(client, objects.map(manifest).collect()).await
}

/// A label that goes when an object is given an earlier time.
const AGED: &str = "truth.example.com/aged";

/// The objects as they are sent, and when each is said to have been written, if it says so.
fn without_times(objects: Vec<Value>) -> anyhow::Result<Vec<(Value, Option<Value>)>> {
    let apart = |mut object: Value| {
        let metadata = object["metadata"].as_object_mut().context("metadata")?;
        let fields = metadata.shift_remove("managedFields");
        if fields.is_some() {
            metadata.insert("labels".to_owned(), json!({ AGED: "" }));
        }
        Ok((object, fields.map(|fields| fields[0]["time"].clone())))
    };
    objects.into_iter().map(apart).collect()
}

/// Has an object say that nothing of it was written since. kube-apiserver takes the times of managedFields from whoever
/// changes something else too, and gives one of its own for what is set, so that something has to go.
async fn age(kubectl: &Kubectl, object: &Value, time: &Value) -> anyhow::Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (metadata, version) = (&object["metadata"], text(&object["apiVersion"]));
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let kind = format!("{}.{group}", text(&object["kind"]));
    let (kind, name, namespace) =
        (kind.trim_end_matches('.'), text(&metadata["name"]), text(&metadata["namespace"]));
    let of = ["-n", namespace.as_str(), "-o", "json", "--show-managed-fields"];
    let now = kubectl.run([&["get", kind, name.as_str()][..], &of].concat()).await?.ok()?;
    let mut entries = serde_json::from_str::<Value>(&now)?["metadata"]["managedFields"].take();
    for entry in entries.as_array_mut().into_iter().flatten() {
        entry["time"] = time.clone();
    }
    let patch = json!([
        {"op": "remove", "path": format!("/metadata/labels/{}", AGED.replace('/', "~1"))},
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
    ]);
    let patch = patch.to_string();
    let aged = kubectl
        .run([&["patch", kind, name.as_str(), "--type=json", "-p", &patch][..], &of].concat())
        .await?
        .ok()?;
    let aged: Value = serde_json::from_str(&aged)?;
    let mut entries = aged["metadata"]["managedFields"].as_array().into_iter().flatten();
    ensure!(entries.all(|entry| entry["time"] == *time), "{aged:#}");
    Ok(())
}

/// Waits until an object of Flux's, as `Kind namespace/name`, is shown as is right.
async fn row(kubectl: &Kubectl, of: &str, right: &Right) -> anyhow::Result<()> {
    let (kind, place) = of.split_once(' ').context("a kind")?;
    let (namespace, name) = place.split_once('/').context("a namespace")?;
    let kind = kind.split('.').next().unwrap_or_default().to_lowercase();
    let name = format!("local.{kind}.{name}");
    let ask = async || {
        let output = kubectl.run(["get", "fluxresource", &name, "-n", namespace, "-o", "json"]).await?;
        Ok(serde_json::from_str::<Value>(&output.stdout).unwrap_or_default()["status"].take())
    };
    settles(format!("{right:?}"), SHOWN, ask, |status| is_right(status, right)).await?;
    Ok(())
}

fn is_right(status: &Value, right: &Right) -> bool {
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    // What is under way counts as that where nothing tells of the attempt before.
    let outcome = match text("lastOutcome") {
        "" => text("state"),
        outcome => outcome,
    };
    text("state") == right.state
        && right.outcome.as_ref().is_none_or(|right| outcome == right)
        && right.reason.as_ref().is_none_or(|right| text("reason") == right)
        && right.says.as_ref().is_none_or(|right| text("message").contains(right))
        && right.cause.as_ref().is_none_or(|right| cause(status) == *right)
}

/// The root cause as the cases name it.
fn cause(status: &Value) -> String {
    let blocked = &status["blockedBy"];
    let text = |field: &str| blocked[field].as_str().unwrap_or_default();
    if blocked.is_null() {
        return String::new();
    }
    let missing = if blocked["state"].is_null() { "missing " } else { "" };
    let namespace = text("namespace");
    let place = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    format!("{missing}{} {place}{}", text("kind"), text("name"))
}

/// Waits until a layer is shown as is right, by clusterhealths.
async fn layer(kubectl: &Kubectl, right: &Layer) -> anyhow::Result<()> {
    let ask = async || {
        let output = kubectl.run(["get", "clusterhealth", "local", "-o", "json"]).await?.ok()?;
        let health: Value = serde_json::from_str(&output)?;
        let mut layers = health["status"]["layers"].as_array().into_iter().flatten();
        Ok(layers.find(|layer| layer["name"] == *right.name).cloned().unwrap_or_default())
    };
    let wanted = |layer: &Value| {
        let failures = layer["failures"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_there = |right: &Failure| {
            failures.iter().any(|failure| {
                let text = |field: &str| failure[field].as_str().unwrap_or_default();
                format!("{} {}", text("kind"), text("name")) == right.of
                    && text("message").contains(&right.says)
                    && right.cause.as_ref().is_none_or(|right| cause(failure) == *right)
            })
        };
        layer["health"] == *right.health
            && layer["failed"] == right.failed
            && layer["suspended"] == right.suspended
            && right.failures.iter().all(is_there)
    };
    settles(format!("{right:?}"), SHOWN, ask, wanted).await?;
    Ok(())
}
