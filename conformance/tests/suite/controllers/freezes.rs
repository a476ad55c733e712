//! A freeze holds back what Flux writes to one tenant, lets it go afterwards, and disturbs nobody else: the parent
//! Kustomization of two tenants goes on.

use std::sync::Arc;

use anyhow::ensure;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::log::Log;
use super::source::{Source, deploys, listed};
use super::{FLUX, Scene};
use crate::gate::{AGONES, KNOWN, KUSTOMIZE, config_map, fleet, kustomization, policy};
use crate::gate_freezes::frozen;
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.operated("controllers::freezes::a_freeze_of_one_tenant_is_nobody_elses", FLUX, freeze)]
}

/// Where the parent and the source are.
const HOME: &str = "freeze-home";
/// The tenant that is frozen, and the other.
const TENANTS: [&str; 2] = ["freeze-a", "freeze-b"];

const PARENT: &str = "Kustomization parent";
const APP: &str = "Kustomization app";

/// What is deployed to both tenants, by revision.
fn content(revision: i64) -> Vec<(String, Value)> {
    let mut files = Vec::new();
    let mut resources = Vec::new();
    for tenant in TENANTS {
        let mut app = deploys(tenant, "app", json!({"path": format!("./{tenant}")}));
        app["spec"]["sourceRef"]["namespace"] = json!(HOME);
        app["spec"]["postBuild"] = json!({"substitute": {"revision": revision.to_string()}});
        let mut settings = config_map(tenant, "settings");
        settings["data"] = json!({"revision": revision.to_string()});
        for (name, object) in [("app", app), ("fleet", fleet(tenant, "fleet", revision))] {
            let file = format!("{tenant}-{name}.yaml");
            files.push((format!("parent/{file}"), object));
            resources.push(file);
        }
        files.push((format!("{tenant}/kustomization.yaml"), listed(&["settings.yaml"])));
        files.push((format!("{tenant}/settings.yaml"), settings));
    }
    let resources: Vec<_> = resources.iter().map(String::as_str).collect();
    files.push(("parent/kustomization.yaml".to_owned(), listed(&resources)));
    files
}

/// The revision of each of a tenant's objects.
async fn revisions(scene: &Scene, tenant: &str) -> anyhow::Result<[Value; 3]> {
    let get = async |path: String| scene.gate.get(&path).await;
    let app = get(format!("{KUSTOMIZE}/namespaces/{tenant}/kustomizations/app")).await?;
    let fleet = get(format!("{AGONES}/namespaces/{tenant}/fleets/fleet")).await?;
    let settings = get(format!("/api/v1/namespaces/{tenant}/configmaps/settings")).await?;
    let replicas = fleet["spec"]["replicas"].to_string();
    Ok([
        app["spec"]["postBuild"]["substitute"]["revision"].clone(),
        replicas.into(),
        settings["data"]["revision"].clone(),
    ])
}

async fn freeze(scene: Arc<Scene>) -> anyhow::Result<()> {
    let gate = &scene.gate;
    for namespace in [HOME].into_iter().chain(TENANTS) {
        gate.namespace(namespace).await?;
    }
    let source = Source::new(&scene, HOME).await?;
    let push = async |revision: i64| {
        let files = content(revision);
        let files: Vec<_> = files.iter().map(|(path, file)| (path.as_str(), file.clone())).collect();
        source.push(&files).await
    };
    let logs = [HOME, TENANTS[0], TENANTS[1]].map(|namespace| Log::of(&gate.site.client, namespace));
    let [home, held, free] = &logs;
    let happens = |what: &str| logs.iter().for_each(|log| log.happens(what));
    let arrives = async |tenant: &str, revision: i64| {
        let right = [0; 3].map(|_| Value::from(revision.to_string()));
        let ask = || revisions(&scene, tenant);
        crate::world::settles(format!("{tenant} has {revision}"), KNOWN, ask, |now| *now == right).await
    };

    happens("install");
    push(1).await?;
    scene.put([source.object(HOME), deploys(HOME, "parent", json!({}))]).await?;
    home.shows(PARENT, '+', "Applied revision").await?;
    for log in [held, free] {
        log.shows(APP, '+', "Applied revision").await?;
    }

    happens("one tenant is frozen");
    let new = kustomization(TENANTS[0], "new", json!({}));
    gate.policy(TENANTS[0], json!({"rules": frozen()}), &new).await?;
    held.is(APP, "Suspended").await?;
    home.attempts(PARENT, 2).await?;

    happens("a new revision for both");
    push(2).await?;
    arrives(TENANTS[1], 2).await?;
    home.attempts(PARENT, 3).await?;
    let kept = revisions(&scene, TENANTS[0]).await?;
    ensure!(kept == [0; 3].map(|_| json!("1")), "the frozen tenant has {kept:?}");

    happens("the freeze is over");
    gate.put(&policy(TENANTS[0], json!({"rules": {"freezes": []}}))).await?;
    arrives(TENANTS[0], 2).await?;
    held.shows(APP, '+', "Applied revision").await?;
    home.attempts(PARENT, 2).await?;
    let app = gate.get(&format!("{KUSTOMIZE}/namespaces/{}/kustomizations/app", TENANTS[0])).await?;
    ensure!(app["spec"]["suspend"] != true, "{app:#}");
    let annotations = app["metadata"]["annotations"].to_string();
    ensure!(!annotations.contains("frozen-by") && !annotations.contains("suspended"), "{app:#}");

    for (log, place) in [(home, PARENT), (held, APP), (free, APP)] {
        let (installed, well) = ([(place, "?+")], [(place, "+")]);
        log.compare(&[
            ("install", &installed),
            ("one tenant is frozen", &well),
            ("a new revision for both", &well),
            ("the freeze is over", &well),
        ])?;
    }
    Ok(())
}
