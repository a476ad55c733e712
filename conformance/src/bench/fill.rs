//! Loads the objects through kube-apiserver, each with the two requests that Flux sends: one for the object,
//! one for its status.
//!
//! `load` uses server-side apply, which costs kube-apiserver several times as much.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::progress::{during, say};
use serde_json::{Value, json};

use super::objects::{Layout, namespace_name, repository};

/// Concurrent requests: enough to keep a small control plane busy.
const PARALLEL: usize = 32;
/// How often progress is reported.
const REPORTS: usize = 10;
/// kube-apiserver serves a CRD a moment after it has accepted it.
const DEFINITION_ATTEMPTS: u32 = 100;
const DEFINITION_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

const KUSTOMIZE: &str = "/apis/kustomize.toolkit.fluxcd.io/v1";
const SOURCE: &str = "/apis/source.toolkit.fluxcd.io/v1";

pub(super) async fn fill(client: &kube::Client, layout: Layout) -> anyhow::Result<()> {
    let namespaces = (0..layout.namespaces).map(|number| {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace_name(number)}});
        Manifest { origin: "(benchmark)".to_owned(), object }
    });
    during("making namespaces", load::apply(client, namespaces.collect())).await?;
    for group in [KUSTOMIZE, SOURCE] {
        served(client, group).await?;
    }
    let repositories = stream::iter(0..layout.namespaces)
        .map(|namespace| async move {
            let object = repository(namespace);
            create(client, SOURCE, "gitrepositories", &object, &layout.repository_status(namespace)).await
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<()>>();
    during("loading GitRepositories", repositories).await?;
    let loaded = &AtomicUsize::new(0);
    let kustomizations = stream::iter(layout.ids())
        .map(|id| async move {
            let object = id.kustomization();
            create(client, KUSTOMIZE, "kustomizations", &object, &layout.kustomization_status(id)).await?;
            let loaded = loaded.fetch_add(1, Ordering::Relaxed) + 1;
            if loaded.is_multiple_of(layout.objects.div_ceil(REPORTS)) {
                say(format_args!("{loaded} of {} Kustomizations are loaded", layout.objects));
            }
            anyhow::Ok(())
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<()>>();
    during("loading Kustomizations", kustomizations).await?;
    Ok(())
}

async fn served(client: &kube::Client, group: &str) -> anyhow::Result<()> {
    let mut attempt = 1;
    loop {
        match client.request_text(http::Request::get(group).body(Vec::new())?).await {
            Ok(_) => return Ok(()),
            Err(_) if attempt < DEFINITION_ATTEMPTS => tokio::time::sleep(DEFINITION_PAUSE).await,
            Err(error) => return Err(error).with_context(|| format!("{group} is not served")),
        }
        attempt += 1;
    }
}

/// Creates an object with two field managers, as Flux does: `managedFields` are a large part of an object's
/// size.
pub(super) async fn create(
    client: &kube::Client,
    group: &str,
    plural: &str,
    object: &Value,
    status: &Value,
) -> anyhow::Result<()> {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let path = format!("{group}/namespaces/{namespace}/{plural}");
    let request = http::Request::post(format!("{path}?fieldManager=kustomize-controller"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(object)?)?;
    client.request_text(request).await.with_context(|| format!("{namespace}/{name}"))?;
    patch_status(client, &format!("{path}/{name}"), status).await
}

/// Changes the status as a controller does.
pub(super) async fn patch_status(client: &kube::Client, path: &str, status: &Value) -> anyhow::Result<()> {
    let request = http::Request::patch(format!("{path}/status?fieldManager=gotk-kustomize-controller"))
        .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
        .body(serde_json::to_vec(&json!({ "status": status }))?)?;
    client.request_text(request).await.with_context(|| format!("the status of {path}"))?;
    Ok(())
}
