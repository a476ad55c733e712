//! Changes of the cluster while Gatehouse runs are observed, and do not disturb other kinds.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_conformance::load;
use http::StatusCode;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::DeleteParams;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::site::{ABSENT_CRD, ABSENT_KIND, API, Site, by_name, kustomization};
use crate::world::{World, settles};

/// For a change of an object, on a busy machine.
const SHOWN: Duration = Duration::from_secs(10);

/// A new definition is served after some seconds, and then appears in discovery.
const DISCOVERED: Duration = Duration::from_secs(40);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("changes::kind_that_comes_is_shown_and_one_that_goes_is_not", definition_comes_and_goes),
        world.shared("changes::object_with_fields_of_the_wrong_type_is_unknown_and_alone_so", wrong_types),
        world.shared("changes::deleted_object_leaves_the_views", deleted_object),
        world.shared("changes::uid_of_a_row_stays_while_its_version_grows", identity),
    ]
}

/// Whether the Flux layer of clusterhealths names the kind.
fn names_kind(health: &Value, kind: &str) -> bool {
    let layers = health["status"]["layers"].as_array().into_iter().flatten();
    let kinds = layers.flat_map(|layer| layer["kinds"].as_array().into_iter().flatten());
    kinds.into_iter().any(|known| known["kind"] == kind)
}

async fn definition_comes_and_goes(site: Arc<Site>) -> anyhow::Result<()> {
    let caller = site.caller().await?;
    let health = async || caller.get(&format!("{API}/clusterhealths/local")).await?.ok();
    let path = format!("{API}/fluxresources?fieldSelector=status.kind%3D{ABSENT_KIND}");
    let rows = async || caller.get(&path).await?.ok();
    ensure!(!names_kind(&health().await?, ABSENT_KIND), "it is not there yet");

    load::apply(&site.client, site.left_out.clone()).await?;
    let shown = |list: &Value| {
        let rows = by_name(list);
        !rows.is_empty() && rows.values().all(|row| row["status"]["state"] == "Ready")
    };
    settles("the objects of the new kind are shown", DISCOVERED, &rows, shown).await?;
    let named = |health: &Value| names_kind(health, ABSENT_KIND);
    settles("the layer names the kind", DISCOVERED, &health, named).await?;

    let definitions: Api<CustomResourceDefinition> = Api::all(site.client.clone());
    definitions.delete(ABSENT_CRD, &DeleteParams::default()).await?;
    settles("its objects are gone", DISCOVERED, &rows, |list| by_name(list).is_empty()).await?;
    settles("the layer forgets the kind", DISCOVERED, &health, |health| !named(health)).await?;
    Ok(())
}

async fn wrong_types(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "wrong-types";
    let object = |name: &str, spec: Value, status: Value| {
        json!({
            "apiVersion": "fluxcd.controlplane.io/v1", "kind": "ResourceSet",
            "metadata": {"namespace": namespace, "name": name}, "spec": spec, "status": status,
        })
    };
    let ready = json!({"conditions": [{
        "type": "Ready", "status": "True", "reason": "ReconciliationSucceeded", "message": "all is well",
        "lastTransitionTime": "2026-11-21T08:40:40Z",
    }]});
    site.apply([
        object("conditions-are-text", json!({}), json!({"conditions": "all is well"})),
        object("condition-is-a-number", json!({}), json!({"conditions": [7]})),
        object("suspend-is-text", json!({"suspend": "perhaps"}), ready.clone()),
        object("depends-on-is-a-number", json!({"dependsOn": 7}), ready.clone()),
        object("well", json!({}), ready),
    ])
    .await?;

    let caller = site.caller().await?;
    let path = format!("{API}/namespaces/{namespace}/fluxresources");
    let rows = async || caller.get(&path).await?.ok();
    // An object exists before its status does.
    let reported = |list: &Value| {
        let rows = by_name(list);
        rows.len() == 5 && rows.values().all(|row| row["status"]["state"] != "Pending")
    };
    let list = settles("all are shown", SHOWN, &rows, reported).await?;
    for ((_, name), row) in by_name(&list) {
        let status = &row["status"];
        let expected = if name == "local.resourceset.well" { "Ready" } else { "Unknown" };
        ensure!(status["state"] == expected, "{name}: {row:#}");
        ensure!(
            expected == "Ready" || status["message"].as_str().is_some_and(|why| !why.is_empty()),
            "{row:#}"
        );
    }
    let path = format!("{API}/namespaces/{namespace}/fluxsummaries/local");
    let summary = async || caller.get(&path).await?.ok();
    let counted = |summary: &Value| summary["status"]["unknown"] == 4 && summary["status"]["ready"] == 1;
    settles("the summary counts them as unknown", SHOWN, &summary, counted).await?;
    Ok(())
}

async fn deleted_object(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "deleted-object";
    site.apply([kustomization(namespace, "app", Ok(()))]).await?;
    let caller = site.caller().await?;
    let row = format!("{API}/namespaces/{namespace}/fluxresources/local.kustomization.app");
    let summary = format!("{API}/namespaces/{namespace}/fluxsummaries/local");
    for path in [&row, &summary] {
        settles("it is shown", SHOWN, || caller.get(path), |answer| answer.code == StatusCode::OK).await?;
    }
    site.kubectl()?.run(["delete", "kustomization", "app", "-n", namespace]).await?.ok()?;
    for path in [&row, &summary] {
        let gone = |answer: &crate::caller::Answer| answer.code == StatusCode::NOT_FOUND;
        settles("it is gone", SHOWN, || caller.get(path), gone).await?;
    }
    Ok(())
}

async fn identity(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "identity";
    let caller = site.caller().await?;
    let path = format!("{API}/namespaces/{namespace}/fluxresources/local.kustomization.app");
    let state = async |wanted: &'static str| {
        let is = move |answer: &crate::caller::Answer| answer.body["status"]["state"] == wanted;
        settles(wanted, SHOWN, || caller.get(&path), is).await?.ok()
    };
    site.apply([kustomization(namespace, "app", Ok(()))]).await?;
    let first = state("Ready").await?;
    site.apply([kustomization(namespace, "app", Err("no such file"))]).await?;
    let second = state("Failed").await?;
    ensure!(first["metadata"]["uid"] == second["metadata"]["uid"], "{first:#}\n{second:#}");
    let version = |object: &Value| -> anyhow::Result<u64> {
        let text = object["metadata"]["resourceVersion"].as_str().context("a version")?;
        Ok(text.parse()?)
    };
    ensure!(0 < version(&first)? && version(&first)? < version(&second)? && version(&second)? < 1 << 53);
    Ok(())
}
