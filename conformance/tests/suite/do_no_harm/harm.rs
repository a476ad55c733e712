//! The attempts while Gatehouse is well, hangs and is dead, and the table of their results.

use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use gatehouse_conformance::kubectl::{Kubectl, Output};
use serde_json::{Value, json};

use crate::availability::{discovery, unavailable};
use crate::gate::{Gate, KNOWN, POLICY, Side, apply, config_map, fleet, game_server, kustomization, quota};
use crate::gate_registration::ready;
use crate::site::API;
use crate::world::settles;

/// A namespace with a policy and a quota.
const GOVERNED: &str = "harm-governed";
/// A namespace with neither.
const OTHER: &str = "harm-other";

/// Longer than kube-apiserver works on any request.
const ANSWERED: Duration = Duration::from_secs(75);
/// The aggregator requests discovery every 60 s, and waits up to five seconds for the answer.
const TOLD: Duration = Duration::from_secs(100);

/// The state of Gatehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Well,
    Hanging,
    Dead,
}

impl Condition {
    const ALL: [Self; 3] = [Self::Well, Self::Hanging, Self::Dead];

    /// The name of an object that only this condition uses.
    fn name(self, prefix: &str) -> String {
        format!("{prefix}-{self:?}").to_lowercase()
    }
}

/// The expected result of an attempt.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// It succeeds in all conditions.
    Always,
    /// It succeeds while Gatehouse is well, and otherwise fails with this text.
    Guarded(&'static str),
}

const NO_WEBHOOK: Expected = Expected::Guarded("failed calling webhook");

/// The results of an attempt, by condition.
struct Row {
    what: &'static str,
    cells: Vec<String>,
}

/// The results of all attempts.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

/// Creates the namespaces, the policy, the quotas, and the objects that are changed later.
pub(super) async fn prepare(gate: &Gate) -> anyhow::Result<()> {
    gate.namespace(GOVERNED).await?;
    gate.namespace(OTHER).await?;
    let no_prune = kustomization(GOVERNED, "bad", json!({"prune": false}));
    gate.policy(GOVERNED, json!({"rules": {"prune": "Required"}}), &no_prune).await?;
    gate.put(&kustomization(GOVERNED, "there", json!({}))).await?;
    for condition in Condition::ALL {
        let (left, going) = (condition.name("left"), condition.name("going"));
        gate.put(&kustomization(GOVERNED, &left, json!({}))).await?;
        gate.put(&kustomization(GOVERNED, &condition.name("cleaned-up"), json!({}))).await?;
        let mut held = kustomization(GOVERNED, &going, json!({}));
        held["metadata"]["finalizers"] = json!(["finalizers.fluxcd.io"]);
        gate.put(&held).await?;
        let delete = ["delete", "kustomization", &going, "-n", GOVERNED, "--wait=false"];
        gate.kubectl()?.run(delete).await?.ok()?;
    }
    gate.put(&game_server(GOVERNED, "at-work")).await?;
    let mut counted = quota(GOVERNED, json!({"gameservers": "100", "count/deployments.apps": "10"}));
    counted["metadata"]["name"] = json!(GOVERNED);
    gate.put(&counted).await?;
    // The quota is ready once kube-apiserver sends the kinds that it counts.
    let path = format!("{POLICY}/tenantquotas/{GOVERNED}");
    gate.becomes(&path, KNOWN, |quota| ready(quota) == Some("True")).await?;
    Ok(())
}

/// Requests a view through the aggregator while nobody answers. Returns the time until the error, and the error.
pub(super) async fn view(gate: &Gate) -> anyhow::Result<(Duration, String)> {
    let started = Instant::now();
    let request = http::Request::get(format!("{API}/fluxsummaries")).body(Vec::new())?;
    let answer = tokio::time::timeout(ANSWERED, gate.site.client.request_text(request)).await;
    match answer.context("no answer at all")? {
        Ok(text) => bail!("it was answered: {text}"),
        Err(kube::Error::Api(status)) => {
            ensure!([503, 504].contains(&status.code), "{status:?}");
            Ok((started.elapsed(), format!("{}: {}", status.code, status.message.trim())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits until discovery marks the group as stale, which blocks the deletion of namespaces. Other groups must stay.
/// Returns the time that this took.
pub(super) async fn told_by_discovery(gate: &Gate) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let ask = async || {
        let list = discovery(&gate.caller).await?;
        ensure!(list.to_string().contains("kustomize.toolkit.fluxcd.io"), "{list:#}");
        Ok(list)
    };
    let stale = |list: &Value| unavailable(list) == ["view.gatehouse.dev"];
    settles("discovery says so", TOLD, ask, stale).await?;
    let answer = gate.caller.get(API).await?;
    ensure!(answer.code == 503, "{answer:#?}");
    Ok(started.elapsed())
}

impl Table {
    /// Makes all attempts, and records their durations and messages. An unexpected result is an error.
    pub(super) async fn fill(&mut self, gate: &Gate, condition: Condition) -> anyhow::Result<()> {
        for (number, (what, expected, attempt)) in attempts().into_iter().enumerate() {
            let kubectl = gate.kubectl()?;
            let started = Instant::now();
            let output = attempt.run(&kubectl, condition).await?;
            let took = started.elapsed();
            let succeeded = output.code == Some(0);
            match expected {
                Expected::Guarded(words) if condition != Condition::Well => {
                    ensure!(
                        !succeeded && output.stderr.contains(words),
                        "{what}, {condition:?}: {output:#?}"
                    );
                }
                _ => ensure!(succeeded, "{what}, {condition:?}: {output:#?}"),
            }
            let verdict = if succeeded { "works" } else { "refused" };
            let cell = format!("{verdict}, {:.1} s", took.as_secs_f32());
            if condition == Condition::Well {
                self.rows.push(Row { what, cells: vec![cell] });
            } else {
                self.rows[number].cells.push(cell);
            }
        }
        Ok(())
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | well | hanging | dead |\n|---|---|---|---|")?;
        for Row { what, cells } in &self.rows {
            writeln!(f, "| {what} | {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}

/// A kubectl command, with an empty discovery cache each time.
enum Attempt {
    Run(&'static [&'static str]),
    /// The same with an annotation that differs for each condition.
    Annotate(&'static [&'static str]),
    /// On a Kustomization that only this condition uses. The argument has the beginning of its name after
    /// `kustomization/`.
    Each(&'static [&'static str]),
    /// A server-side apply, with a different name for each condition.
    Apply(Value),
    /// A merge patch of a status, as from a controller.
    Status(&'static [&'static str]),
}

impl Attempt {
    async fn run(&self, kubectl: &Kubectl, condition: Condition) -> anyhow::Result<Output> {
        match self {
            Self::Run(args) => kubectl.run(*args).await,
            Self::Each(args) => {
                let own = |arg: &str| match arg.strip_prefix("kustomization/") {
                    Some(prefix) => format!("kustomization/{}", condition.name(prefix)),
                    None => arg.to_owned(),
                };
                kubectl.run(args.iter().map(|arg| own(arg)).chain([format!("--namespace={GOVERNED}")])).await
            }
            Self::Annotate(object) => {
                let annotation = format!("asked={condition:?}");
                let args = ["annotate"].iter().chain(*object).copied().chain(["--overwrite", &annotation]);
                kubectl.run(args).await
            }
            Self::Status(args) => {
                let status = r#"{"status":{"observedGeneration":1}}"#;
                kubectl
                    .run(args.iter().copied().chain(["--subresource=status", "--type=merge", "-p", status]))
                    .await
            }
            Self::Apply(object) => {
                let mut object = object.clone();
                object["metadata"]["name"] = json!(condition.name("made"));
                apply(kubectl, Side::Server, &[object], &[]).await
            }
        }
    }
}

fn attempts() -> Vec<(&'static str, Expected, Attempt)> {
    use Attempt::{Annotate, Apply, Each, Run, Status};
    use Expected::Always;
    let deployment = workload("Deployment");
    let replica_set = workload("ReplicaSet");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {}});
    vec![
        (
            "`kubectl api-resources`, no cache",
            Always,
            Run(&["api-resources", "-o", "name", "--api-group=apps"]),
        ),
        ("`kubectl get namespaces`", Always, Run(&["get", "namespaces"])),
        ("`kubectl get kustomizations -A`", Always, Run(&["get", "kustomizations", "-A"])),
        ("create a Namespace", Always, Apply(namespace)),
        ("apply a ConfigMap", Always, Apply(config_map(OTHER, ""))),
        ("apply a ReplicaSet", Always, Apply(replica_set)),
        (
            "a controller writes a Kustomization's status",
            Always,
            Status(&["patch", "kustomization", "there", "-n", GOVERNED]),
        ),
        (
            "Agones writes a GameServer's state",
            Always,
            Run(&[
                "patch",
                "gameserver",
                "at-work",
                "--namespace=harm-governed",
                "--type=merge",
                "--patch={\"status\":{\"state\":\"Allocated\"}}",
            ]),
        ),
        (
            "the namespace controller deletes a Kustomization",
            Always,
            Each(&[
                "delete",
                "kustomization/cleaned-up",
                "--as=system:serviceaccount:kube-system:namespace-controller",
            ]),
        ),
        (
            "Flux removes the finalizer of a Kustomization that is going",
            Always,
            Each(&[
                "patch",
                "kustomization/going",
                "--type=merge",
                "--patch={\"metadata\":{\"finalizers\":null}}",
            ]),
        ),
        ("create a Fleet in kube-system", Always, Apply(fleet("kube-system", "", 1))),
        ("create a Fleet under a quota", NO_WEBHOOK, Apply(fleet(GOVERNED, "", 1))),
        ("create a Fleet where there is no quota", NO_WEBHOOK, Apply(fleet(OTHER, "", 1))),
        ("create a Kustomization", NO_WEBHOOK, Apply(kustomization(OTHER, "", json!({})))),
        ("delete a Kustomization", NO_WEBHOOK, Each(&["delete", "kustomization/left"])),
        (
            "change a Kustomization's annotations (`flux reconcile`)",
            NO_WEBHOOK,
            Annotate(&["kustomization", "there", "-n", GOVERNED]),
        ),
        ("create a Deployment while some quota counts Deployments", NO_WEBHOOK, Apply(deployment)),
    ]
}

fn workload(kind: &str) -> Value {
    let labels = json!({"app": "a"});
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"namespace": OTHER},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}},
        },
    })
}
