//! What kubectl shows of what Flux objects applied: the tree below one, what two of them apply, what could not be deleted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use gatehouse_conformance::kubectl::Kubectl;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::site::{Site, kustomization};
use crate::world::World;

/// For a change of an object, on a busy machine.
const SHOWN: Duration = Duration::from_secs(20);
const GROUP: &str = "/apis/view.gatehouse.dev/v1alpha1";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("inventories::the_tree_of_an_object_is_read_and_discovered", tree),
        world.shared("inventories::what_two_objects_apply_is_told_of_both", twice),
        world.shared("inventories::what_could_not_be_deleted_is_listed", unpruned),
    ]
}

/// A Kustomization with these `id`s in its inventory.
fn applies(namespace: &str, name: &str, ids: &[&str]) -> Value {
    let mut object = kustomization(namespace, name, Ok(()));
    let entries: Vec<_> = ids.iter().map(|id| json!({"id": id, "v": "v1"})).collect();
    object["status"]["inventory"] = json!({"entries": entries});
    object
}

/// Waits until a row of `fluxresources` is as it should be.
async fn row_where(
    kubectl: &Kubectl,
    namespace: &str,
    name: &str,
    holds: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let until = Instant::now() + SHOWN;
    loop {
        let get = kubectl.run(["get", "fxr", name, "-n", namespace, "-o", "json"]).await?;
        let row: Value = serde_json::from_str(&get.stdout).unwrap_or_default();
        if holds(&row["status"]) {
            return Ok(row);
        }
        ensure!(Instant::now() < until, "{row:#}\n{}", get.stderr);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn tree(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "inventories-tree";
    let below = format!("{namespace}_apps_kustomize.toolkit.fluxcd.io_Kustomization");
    let settings = format!("{namespace}_settings__ConfigMap");
    let gone = format!("{namespace}_gone_apps_Deployment");
    site.apply([applies(namespace, "all", &[&below, &settings]), applies(namespace, "apps", &[&gone])])
        .await?;
    site.allow_in(namespace, "theo").await?;
    let theo = site.kubectl_as("theo")?;
    row_where(&theo, namespace, "local.kustomization.apps", |status| status["applied"] == 1).await?;
    row_where(&theo, namespace, "local.kustomization.all", |status| status["applied"] == 2).await?;
    let path = |namespace: &str, name: &str| {
        format!("{GROUP}/namespaces/{namespace}/fluxresources/local.kustomization.{name}/tree")
    };
    let get = async |path: String| theo.run(["get", "--raw", &path]).await;
    let tree: Value = serde_json::from_str(&get(path(namespace, "all")).await?.ok()?)?;
    ensure!(tree["kind"] == "FluxResourceTree" && tree["status"]["omitted"] == 0, "{tree:#}");
    let applied = tree["status"]["object"]["applied"].as_array().cloned().unwrap_or_default();
    let find = |name: &str| applied.iter().find(|node| node["name"] == name).cloned().unwrap_or_default();
    ensure!(find("settings").get("state").is_none(), "ConfigMaps are not observed: {tree:#}");
    let nested = &find("apps")["applied"][0];
    ensure!(find("apps")["state"] == "Ready" && nested["name"] == "gone", "{tree:#}");
    ensure!(nested["state"] == "Missing", "{tree:#}");

    ensure!(get(path(namespace, "none")).await?.failed()?.contains("NotFound"), "there is no such object");
    ensure!(get(path("team-a", "all")).await?.failed()?.contains("orbidden"), "in another namespace");
    let kubectl = site.kubectl()?;
    let known: Value = serde_json::from_str(&kubectl.run(["get", "--raw", GROUP]).await?.ok()?)?;
    let resources = known["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_tree = resources.iter().find(|resource| resource["name"] == "fluxresources/tree");
    ensure!(of_tree.is_some_and(|tree| tree["verbs"] == json!(["get"])), "{known:#}");
    // kubectl knows it from discovery.
    let can = ["auth", "can-i", "get", "fluxresources", "--subresource=tree", "-n", namespace];
    ensure!(theo.run(can).await?.ok()?.trim() == "yes");
    Ok(())
}

async fn twice(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "inventories-twice";
    let shared = format!("{namespace}_shop_apps_Deployment");
    let own = format!("{namespace}_own_apps_Deployment");
    site.apply([applies(namespace, "one", &[&shared, &own]), applies(namespace, "two", &[&shared])]).await?;
    let kubectl = site.kubectl()?;
    for (row, other) in [("one", "two"), ("two", "one")] {
        let name = format!("fxr/local.kustomization.{row}");
        let created = ["wait", "--for=create", "--timeout=20s", "-n", namespace, &name];
        kubectl.run(created).await?.ok()?;
        let wait = ["wait", "--for=condition=ManagedTwice", "--timeout=20s", "-n", namespace, &name];
        kubectl.run(wait).await?.ok()?;
        let described = kubectl.run(["describe", &name, "-n", namespace]).await?.ok()?;
        let told =
            format!("Deployment/{namespace}/shop is applied by Kustomization/{namespace}/{other} as well");
        ensure!(described.contains(&told), "{described}");
    }
    site.apply([applies(namespace, "two", &[])]).await?;
    for row in ["one", "two"] {
        let is_single = |status: &Value| {
            let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
            !conditions.is_empty() && conditions.iter().all(|condition| condition["type"] != "ManagedTwice")
        };
        row_where(&kubectl, namespace, &format!("local.kustomization.{row}"), is_single).await?;
    }
    // An Application of Argo CD undoes Flux's changes, too.
    site.apply([json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
        "metadata": {"namespace": namespace, "name": "argo"},
        "spec": {"project": "default", "destination": {"server": "https://kubernetes.default.svc"}},
        "status": {"resources": [
            {"group": "apps", "version": "v1", "kind": "Deployment", "namespace": namespace, "name": "shop"},
        ]},
    })])
    .await?;
    let told = format!("Deployment/{namespace}/shop is applied by Application/{namespace}/argo as well");
    row_where(&kubectl, namespace, "local.kustomization.one", |status| {
        let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        conditions.iter().any(|condition| condition["message"] == told.as_str())
    })
    .await?;
    Ok(())
}

async fn unpruned(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "inventories-unpruned";
    let message = format!(
        "delete failed, errors: Deployment/{namespace}/shop delete failed: admission webhook \"x\" denied the request: \
         no;ClusterRole/ops delete failed: no;"
    );
    let mut object = applies(namespace, "apps", &[]);
    let ready = &mut object["status"]["conditions"][0];
    ready["status"] = "False".into();
    ready["reason"] = "PruneFailed".into();
    ready["message"] = message.into();
    site.apply([object]).await?;
    let kubectl = site.kubectl()?;
    let listed = json!([
        {"kind": "Deployment", "namespace": namespace, "name": "shop"},
        {"kind": "ClusterRole", "name": "ops"},
    ]);
    let row = |holds: &'static str, expected: Value| {
        let kubectl = &kubectl;
        async move {
            row_where(kubectl, namespace, "local.kustomization.apps", |status| status[holds] == expected)
                .await
        }
    };
    row("notPruned", listed).await?;
    site.apply([applies(namespace, "apps", &[])]).await?;
    let row = row("state", "Ready".into()).await?;
    ensure!(row["status"].get("notPruned").is_none(), "{row:#}");
    Ok(())
}
