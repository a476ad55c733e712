//! kube-controller-manager beside Gatehouse: what it deletes, collects, aggregates and counts.

use std::sync::Arc;

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::user_roles::user_roles;
use gatehouse_conformance::controllers::Controller;
use http::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::source::{Source, deploys, listed};
use super::{FLUX, Scene};
use crate::caller::Caller;
use crate::gate::{KNOWN, config_map, fleet, game_server};
use crate::gate_owners::{CONTROLLER, as_user, create, made, owned, patch, path, set, uid_of};
use crate::gate_quotas::used;
use crate::world::{World, settles};

const NEEDS: &[Controller] = &[Controller::KubeControllerManager];
pub(super) const WITH_FLUX: &[Controller] = &[FLUX[0], FLUX[1], NEEDS[0]];

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.operated("controllers::manager::a_full_fleet_is_deleted_by_every_cascade", NEEDS, cascades),
        world.operated(
            "controllers::manager::a_namespace_with_flux_objects_is_deleted",
            WITH_FLUX,
            namespace,
        ),
        world.operated("controllers::manager::roles_are_aggregated", NEEDS, roles),
        world.operated("controllers::manager::resource_quotas_count_beside_tenant_quotas", NEEDS, quotas),
    ]
}

/// The finalizer of a game server, which Agones removes once the pod has ended.
const KEEPER: &str = "agones.dev/controller";

/// A Fleet as large as its quota, with the set and the servers that Agones makes.
struct Full<'a> {
    scene: &'a Scene,
    agones: &'a Caller,
    namespace: String,
}

impl Full<'_> {
    async fn make(&self, servers: i64) -> anyhow::Result<()> {
        let (gate, namespace) = (&self.scene.gate, self.namespace.as_str());
        gate.namespace(namespace).await?;
        let hard = json!({"gameservers": servers.to_string()});
        gate.quota(namespace, hard, &fleet(namespace, "large", servers + 1)).await?;
        gate.put(&fleet(namespace, "f", servers)).await?;
        let uid = uid_of(gate, namespace, "fleets", "f").await?;
        let owned_set = owned(set(namespace, "f-1", servers), "Fleet", "f", &uid);
        made(&create(self.agones, "gameserversets", &owned_set).await?)?;
        let uid = uid_of(gate, namespace, "gameserversets", "f-1").await?;
        for number in 0..servers {
            let mut server =
                owned(game_server(namespace, &format!("s{number}")), "GameServerSet", "f-1", &uid);
            server["metadata"]["finalizers"] = json!([KEEPER]);
            made(&create(self.agones, "gameservers", &server).await?)?;
        }
        used(gate, namespace, "gameservers", &servers.to_string()).await
    }

    async fn list(&self, resource: &str) -> anyhow::Result<Vec<Value>> {
        let list = self.scene.gate.get(&path(&self.namespace, resource)).await?;
        Ok(list["items"].as_array().context("a list")?.clone())
    }

    /// Lets go of the servers that are being deleted, as Agones does, until none of these resources is left.
    async fn until_gone(&self, resources: &[&str]) -> anyhow::Result<()> {
        let ask = async || {
            let mut left = Vec::new();
            for resource in resources {
                left.extend(self.list(resource).await?);
            }
            for server in left.iter().filter(|object| object["kind"] == "GameServer") {
                let finalizers = server["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
                if server["metadata"]["deletionTimestamp"].is_null() || !finalizers.contains(&json!(KEEPER)) {
                    continue;
                }
                let others: Vec<_> = finalizers.into_iter().filter(|finalizer| finalizer != KEEPER).collect();
                let name = server["metadata"]["name"].as_str().context("a name")?;
                let place = format!("{}/{name}", path(&self.namespace, "gameservers"));
                let answer = patch(self.agones, &place, &json!({"metadata": {"finalizers": others}})).await?;
                ensure!(answer.code.is_success() || answer.code == StatusCode::NOT_FOUND, "{answer:#?}");
            }
            let named = |object: &Value| format!("{} {}", object["kind"], object["metadata"]);
            anyhow::Ok(left.iter().map(named).collect::<Vec<_>>())
        };
        settles(format!("{resources:?} of {} are gone", self.namespace), KNOWN, ask, Vec::is_empty).await?;
        Ok(())
    }
}

async fn cascades(scene: Arc<Scene>) -> anyhow::Result<()> {
    let agones = as_user(&scene.gate, CONTROLLER).await?;
    let kubectl = scene.gate.kubectl()?;
    for cascade in ["background", "foreground", "orphan"] {
        let namespace = format!("cascade-{cascade}");
        let full = Full { scene: &scene, agones: &agones, namespace: namespace.clone() };
        full.make(3).await.context(cascade)?;
        let cascade = format!("--cascade={cascade}");
        kubectl.run(["delete", "fleet", "f", "-n", &namespace, &cascade, "--wait=false"]).await?.ok()?;
        if cascade.ends_with("orphan") {
            full.until_gone(&["fleets"]).await?;
            let set = full.list("gameserversets").await?;
            ensure!(set.len() == 1 && set[0]["metadata"]["ownerReferences"].is_null(), "{set:#?}");
            ensure!(full.list("gameservers").await?.len() == 3, "servers are gone");
            // They count as before, and no more come.
            used(&scene.gate, &namespace, "gameservers", "3").await?;
            let more = create(&scene.gate.caller, "gameservers", &game_server(&namespace, "more")).await?;
            ensure!(more.code == StatusCode::FORBIDDEN, "{more:#?}");
        } else {
            full.until_gone(&["fleets", "gameserversets", "gameservers"]).await?;
            used(&scene.gate, &namespace, "gameservers", "0").await?;
        }
    }
    Ok(())
}

/// Creates a namespace in which Flux deploys, and an Agones server runs.
pub(super) async fn fill(scene: &Scene, namespace: &str) -> anyhow::Result<()> {
    let gate = &scene.gate;
    gate.namespace(namespace).await?;
    let source = Source::new(scene, namespace).await?;
    let files = [
        ("app/kustomization.yaml", listed(&["settings.yaml", "fleet.yaml"])),
        ("app/settings.yaml", config_map(namespace, "settings")),
        ("app/fleet.yaml", fleet(namespace, "fleet", 1)),
    ];
    source.push(&files).await?;
    scene.put([source.object(namespace), deploys(namespace, "app", json!({}))]).await?;
    let map = format!("/api/v1/namespaces/{namespace}/configmaps/settings");
    let ask = || gate.caller.get(&map);
    settles(format!("{namespace} is deployed"), KNOWN, ask, |answer| answer.code == StatusCode::OK).await?;
    Ok(())
}

/// Waits until a namespace that is being deleted is gone.
pub(super) async fn gone(scene: &Scene, namespace: &str) -> anyhow::Result<()> {
    let place = format!("/api/v1/namespaces/{namespace}");
    let ask = || scene.gate.caller.get(&place);
    settles(format!("{namespace} is gone"), KNOWN * 2, ask, |answer| answer.code == StatusCode::NOT_FOUND)
        .await?;
    Ok(())
}

async fn namespace(scene: Arc<Scene>) -> anyhow::Result<()> {
    let name = "deleted";
    fill(&scene, name).await?;
    scene.gate.delete(&format!("/api/v1/namespaces/{name}")).await?;
    gone(&scene, name).await
}

async fn roles(scene: Arc<Scene>) -> anyhow::Result<()> {
    scene.put(user_roles()).await?;
    for (role, group, resource, verb, has) in [
        ("view", "view.gatehouse.dev", "fluxresources", "list", true),
        ("view", "policy.gatehouse.dev", "tenantquotas", "watch", true),
        ("edit", "view.gatehouse.dev", "fluxresources", "watch", true),
        ("admin", "view.gatehouse.dev", "tenantusages", "get", true),
        ("admin", "policy.gatehouse.dev", "tenantquotas", "update", false),
        ("edit", "policy.gatehouse.dev", "quotaledgers", "get", false),
    ] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{role}");
        let allows = |role: &Value| {
            let rules = role["rules"].as_array().into_iter().flatten();
            rules.into_iter().any(|rule| {
                let names = |field: &str, name: &str| {
                    let names = rule[field].as_array().into_iter().flatten();
                    names.into_iter().any(|known| *known == name || *known == "*")
                };
                names("apiGroups", group) && names("resources", resource) && names("verbs", verb)
            })
        };
        // The rules of the first are there once the controller has begun.
        let role =
            if has { scene.gate.becomes(&path, KNOWN, allows).await? } else { scene.gate.get(&path).await? };
        ensure!(allows(&role) == has, "{verb} {resource}.{group}: {role:#}");
    }
    Ok(())
}

async fn quotas(scene: Arc<Scene>) -> anyhow::Result<()> {
    let (namespace, gate) = ("counted-twice", &scene.gate);
    gate.namespace(namespace).await?;
    let resource_quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"namespace": namespace, "name": "quota"},
        "spec": {"hard": {"count/fleets.agones.dev": "2", "count/fluxresources.view.gatehouse.dev": "1"}},
    });
    gate.quota(namespace, json!({"gameservers": "3"}), &fleet(namespace, "large", 4)).await?;
    gate.put(&resource_quota).await?;
    let place = format!("/api/v1/namespaces/{namespace}/resourcequotas/quota");
    let counts = |number: &'static str| {
        move |quota: &Value| quota["status"]["used"]["count/fleets.agones.dev"] == number
    };
    gate.becomes(&place, KNOWN, counts("0")).await?;
    gate.put(&fleet(namespace, "a", 1)).await?;
    gate.put(&fleet(namespace, "b", 1)).await?;
    gate.becomes(&place, KNOWN, counts("2")).await?;
    used(gate, namespace, "gameservers", "2").await?;
    // Each refuses what exceeds it, and what one refuses is not counted by the other.
    let third = create(&gate.caller, "fleets", &fleet(namespace, "c", 1)).await?;
    ensure!(third.body["message"].to_string().contains("exceeded quota: quota"), "{third:#?}");
    used(gate, namespace, "gameservers", "2").await?;
    let answer = gate.caller.send(&Method::DELETE, &format!("{}/b", path(namespace, "fleets")), &[]).await?;
    made(&answer)?;
    gate.becomes(&place, KNOWN, counts("1")).await?;
    used(gate, namespace, "gameservers", "1").await?;
    let quota = gate.get(&place).await?;
    let views = &quota["status"]["used"]["count/fluxresources.view.gatehouse.dev"];
    ensure!(views.is_null() || views == "0", "rows are counted as objects: {quota:#}");
    Ok(())
}
