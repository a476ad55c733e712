//! Measures the cost of a review over one kept connection to the webhook, compared with a webhook on the same
//! server stack that admits everything. Both get requests in turns, so that both have the same machine.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_conformance::progress::during;
use serde_json::{Value, json};

use super::super::report::{Report, seconds};
use super::super::stats::Sample;
use super::wire::Connection;
use gatehouse_conformance::process::Process;

/// Turns of each kind of review.
const TURNS: u32 = 10;
/// Requests before the measurement of a turn starts.
const WARM_UP: usize = 200;
/// The design's limit for p99 of a review without a quota, relative to the empty webhook.
const FACTOR: f64 = 1.5;
/// The limit for p50 of a creation under a quota, relative to a review by policies.
const CREATION_FACTOR: f64 = 2.0;
/// Creations that reserve from a quota. Few, because each reservation is held until it expires.
const WRITES: usize = 400;

/// A webhook's address and process.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) port: u16,
    pub(super) ca: &'a str,
    pub(super) process: Process,
}

/// A kind of review, where it is sent, and its results.
struct Course<'a> {
    what: &'static str,
    target: Target<'a>,
    path: &'static str,
    body: Vec<u8>,
    latencies: Vec<Duration>,
    cpu: f64,
}

impl Course<'_> {
    async fn turn(&mut self, time: Duration) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.target.port, self.target.ca).await?;
        for _ in 0..WARM_UP {
            admitted(connection.post(self.path, &self.body).await?).context(self.what)?;
        }
        let (begin, before) = (Instant::now(), self.target.process.cpu()?);
        while begin.elapsed() < time {
            let asked = Instant::now();
            connection.post(self.path, &self.body).await?;
            self.latencies.push(asked.elapsed());
        }
        self.cpu += self.target.process.cpu()? - before;
        Ok(())
    }

    fn row(&self, report: &mut Report) -> anyhow::Result<Sample> {
        let sample = Sample::of_durations(self.latencies.iter().copied()).context("nothing was asked")?;
        report.row(self.what, describe(&sample, self.cpu));
        Ok(sample)
    }
}

fn describe(sample: &Sample, cpu: f64) -> String {
    let count = u32::try_from(sample.len()).unwrap_or(u32::MAX);
    format!(
        "p50 {}, p99 {}, CPU {} ({count} asked)",
        seconds(sample.median()),
        seconds(sample.percentile(99)),
        seconds(cpu / f64::from(count)),
    )
}

/// `namespace` has a policy with many rules that admits `kustomization`, and a quota that is not exhausted.
pub(super) async fn measure(
    empty: Target<'_>,
    gatehouse: Target<'_>,
    namespace: &str,
    time: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let kustomization = kustomization(namespace);
    let fleet = fleet(namespace, 3);
    let create = |object: &Value| review(namespace, object, None, false, 0).to_string().into_bytes();
    let same = review(namespace, &fleet, Some(&fleet), false, 0).to_string().into_bytes();
    let dry = review(namespace, &fleet, None, true, 0).to_string().into_bytes();
    let course =
        |what, target, path, body| Course { what, target, path, body, latencies: Vec::new(), cpu: 0.0 };
    let mut courses = [
        course("empty webhook", empty, super::empty::PATH, create(&kustomization)),
        course("policies: a Kustomization, 11 rules", gatehouse, "/validate", create(&kustomization)),
        course("defaults: a Kustomization", gatehouse, "/mutate", create(&kustomization)),
        course("quota: an update that takes up no more", gatehouse, "/quota", same),
        course("quota: a dry-run that takes up more", gatehouse, "/quota", dry),
    ];
    report.section("Admission, direct, one review at a time");
    let turns = async {
        for _ in 0..TURNS {
            for course in &mut courses {
                course.turn(time / TURNS).await?;
            }
        }
        anyhow::Ok(())
    };
    during("reviews, in turns", turns).await?;
    let [empty, policies, defaults, quota_same, quota_dry] = &courses;
    let base = empty.row(report)?.percentile(99);
    let judged = policies.row(report)?;
    let ratio = judged.percentile(99) / base;
    report.row_with_target(
        "  p99, against the empty one",
        format!("{ratio:.2} ×"),
        format!("≤ {FACTOR} ×"),
        ratio <= FACTOR,
    );
    for course in [defaults, quota_same, quota_dry] {
        course.row(report)?;
    }
    writes(gatehouse, namespace, judged.median(), report).await
}

/// Measures creations that each reserve from the replica's block. `policy` is p50 of a review by policies, in
/// seconds.
async fn writes(target: Target<'_>, namespace: &str, policy: f64, report: &mut Report) -> anyhow::Result<()> {
    let fleet = fleet(namespace, 1);
    let mut connection = Connection::open(target.port, target.ca).await?;
    let before = target.process.cpu()?;
    let mut latencies = Vec::new();
    for number in 1..=WRITES {
        let body = review(namespace, &fleet, None, false, number).to_string().into_bytes();
        let asked = Instant::now();
        admitted(connection.post("/quota", &body).await?).context("a reservation")?;
        latencies.push(asked.elapsed());
    }
    let cpu = target.process.cpu()? - before;
    let sample = Sample::of_durations(latencies).context("nothing was asked")?;
    report.row("quota: a creation, reserved", describe(&sample, cpu));
    let ratio = sample.median() / policy;
    report.row_with_target(
        "  p50, against a policy review",
        format!("{ratio:.2} ×"),
        format!("≤ {CREATION_FACTOR} ×"),
        ratio <= CREATION_FACTOR,
    );
    Ok(())
}

fn admitted(body: &[u8]) -> anyhow::Result<()> {
    let answer: Value = serde_json::from_slice(body)?;
    ensure!(answer["response"]["allowed"] == true, "{answer:#}");
    Ok(())
}

fn review(namespace: &str, object: &Value, old: Option<&Value>, dry_run: bool, number: usize) -> Value {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = object["kind"].as_str().unwrap_or_default();
    let gvk = json!({"group": group, "version": version, "kind": kind});
    let resource =
        json!({"group": group, "version": version, "resource": format!("{}s", kind.to_lowercase())});
    let mut object = object.clone();
    object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{number:012}"));
    let mut old = old.cloned();
    if let Some(old) = &mut old {
        old["metadata"]["uid"] = object["metadata"]["uid"].clone();
        for object in [&mut object, old] {
            object["metadata"]["resourceVersion"] = json!("1");
        }
    }
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": format!("11111111-0000-4000-8000-{number:012}"),
            "kind": gvk, "resource": resource, "requestKind": gvk, "requestResource": resource,
            "name": object["metadata"]["name"], "namespace": namespace,
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "userInfo": {"username": "kubernetes-admin", "groups": ["system:masters", "system:authenticated"]},
            "object": object, "oldObject": old, "dryRun": dry_run, "options": null,
        },
    })
}

/// A Kustomization of a realistic size, with managedFields.
pub(super) fn kustomization(namespace: &str) -> Value {
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {
            "name": "app", "namespace": namespace, "creationTimestamp": "2026-11-21T08:40:40Z", "generation": 1,
            "labels": {"app.kubernetes.io/name": "app", "kustomize.toolkit.fluxcd.io/name": "flux-system"},
            "managedFields": [{
                "manager": "kustomize-controller", "operation": "Apply", "fieldsType": "FieldsV1",
                "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "time": "2026-11-21T08:40:40Z",
                "fieldsV1": {"f:metadata": {"f:labels": {"f:app.kubernetes.io/name": {}}}, "f:spec": {
                    "f:interval": {}, "f:path": {}, "f:prune": {}, "f:sourceRef": {"f:kind": {}, "f:name": {}},
                    "f:timeout": {}, "f:dependsOn": {}, "f:serviceAccountName": {}, "f:retryInterval": {},
                }},
            }],
        },
        "spec": {
            "interval": "10m", "retryInterval": "2m", "timeout": "3m", "prune": true, "wait": true,
            "path": "./kubernetes/apps/default/app", "serviceAccountName": "flux-team",
            "sourceRef": {"kind": "GitRepository", "name": "fleet"},
            "dependsOn": [{"name": "database"}, {"name": "ingress"}],
            "postBuild": {"substitute": {"HOST": "app.example.org", "STORAGE": "10Gi"}},
        },
    })
}

pub(super) fn fleet(namespace: &str, replicas: i64) -> Value {
    let requests = json!({"cpu": "500m", "memory": "512Mi"});
    let container =
        json!({"name": "game", "image": "game:1", "resources": {"requests": requests, "limits": requests}});
    json!({
        "apiVersion": "agones.dev/v1", "kind": "Fleet",
        "metadata": {"name": "fleet", "namespace": namespace, "labels": {"game": "x"}},
        "spec": {
            "replicas": replicas, "scheduling": "Packed",
            "template": {"metadata": {"labels": {"game": "x"}}, "spec": {
                "ports": [{"name": "default", "portPolicy": "Dynamic", "containerPort": 7654}],
                "template": {"spec": {"containers": [container]}},
            }},
        },
    })
}
