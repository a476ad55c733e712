//! Measures `reconcile` beside what people do without it: a merge patch of the annotation, by the same client in the
//! same run, through the same kube-apiserver. kubectl reads the object before it patches it, so both are measured.

use std::time::{Duration, Instant};

use anyhow::Context;
use gatehouse_conformance::progress::during;
use http::{Method, Request, header};
use serde_json::{Value, json};

use super::objects::{Id, Layout};
use super::report::{Report, seconds, times};
use super::stats::Sample;

/// Requests in a row of one kind, before the other kind has its turn: so that both see the same noise.
const TURN: usize = 25;
/// Requests at a time in the second part.
const AT_ONCE: usize = 16;

/// A way to request a reconciliation.
#[derive(Debug, Clone, Copy)]
enum Way {
    Reconcile,
    /// The patch alone.
    Patch,
    /// What kubectl does: a read, and the patch.
    ReadAndPatch,
}

const WAYS: [Way; 3] = [Way::Reconcile, Way::ReadAndPatch, Way::Patch];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Reconcile => "POST fluxresources/reconcile",
            Self::ReadAndPatch => "GET and PATCH, as kubectl does",
            Self::Patch => "PATCH of the annotation alone",
        }
    }

    async fn request(self, client: &kube::Client, id: Id, number: usize) -> anyhow::Result<Duration> {
        let (namespace, name) = (id.namespace_name(), id.name());
        let started = Instant::now();
        let object =
            format!("/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{namespace}/kustomizations/{name}");
        match self {
            Self::Reconcile => {
                let path = format!(
                    "/apis/view.gatehouse.dev/v1alpha1/namespaces/{namespace}/fluxresources/local.kustomization.{name}/reconcile"
                );
                send(client, &Method::POST, &path, "application/json", &json!({})).await?;
            }
            Self::Patch | Self::ReadAndPatch => {
                if matches!(self, Self::ReadAndPatch) {
                    let request = Request::get(&object).body(Vec::new())?;
                    client.request::<Value>(request).await?;
                }
                let token = format!("bench-{number}");
                let patch = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": token}}});
                let annotated = format!("{object}?fieldManager=kubectl-annotate");
                send(client, &Method::PATCH, &annotated, "application/merge-patch+json", &patch).await?;
            }
        }
        Ok(started.elapsed())
    }
}

async fn send(
    client: &kube::Client,
    method: &Method,
    path: &str,
    media_type: &str,
    body: &Value,
) -> anyhow::Result<()> {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, media_type);
    client.request::<Value>(request.body(body.to_string().into_bytes())?).await.map(drop).context("a request")
}

/// `requests` of each kind, one at a time and then several at a time. Gatehouse is registered and acts.
pub(super) async fn measure(
    client: &kube::Client,
    layout: Layout,
    requests: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.section(format!("Requests to reconcile, {requests} of each kind, in turns of {TURN}"));
    during("requests to reconcile, one at a time", rounds(client, layout, requests, 1, report)).await?;
    report.section(format!("The same, {AT_ONCE} at a time"));
    during("requests to reconcile, several at a time", rounds(client, layout, requests, AT_ONCE, report))
        .await
}

async fn rounds(
    client: &kube::Client,
    layout: Layout,
    requests: usize,
    at_once: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let ids: Vec<Id> = layout.ids().collect();
    let mut taken = [const { Vec::new() }; WAYS.len()];
    // Connections and caches are warm.
    for way in WAYS {
        way.request(client, ids[0], usize::MAX).await?;
    }
    let mut number = 0;
    while taken[WAYS.len() - 1].len() < requests {
        for (way, taken) in WAYS.into_iter().zip(&mut taken) {
            let turn = (0..TURN * at_once).map(|step| {
                let number = number + step;
                way.request(client, ids[number % ids.len()], number)
            });
            let mut turn = turn.peekable();
            while turn.peek().is_some() {
                let batch = futures::future::try_join_all(turn.by_ref().take(at_once)).await?;
                taken.extend(batch);
            }
            number += TURN * at_once;
        }
    }
    let samples: Vec<_> =
        taken.into_iter().map(Sample::of_durations).collect::<Option<_>>().context("none")?;
    let plain = &samples[WAYS.len() - 2];
    for (way, sample) in WAYS.into_iter().zip(&samples) {
        let (p50, p99) = (sample.median(), sample.percentile(99));
        report.row(
            way.name(),
            format!(
                "p50 {} ({}), p99 {} ({})",
                seconds(p50),
                times(p50 / plain.median()),
                seconds(p99),
                times(p99 / plain.percentile(99))
            ),
        );
    }
    Ok(())
}
