//! Defaults and quotas in the way of kustomize-controller's server-side apply: nothing drifts, nothing is written again and
//! again, and what is refused is shown as held back.

use std::sync::Arc;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::log::Log;
use super::source::{Source, deploys, listed};
use super::{FLUX, Scene};
use crate::gate::{AGONES, KNOWN, KUSTOMIZE, POLICY, config_map, fleet, kustomization};
use crate::site::API;
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.operated(
            "controllers::applied::defaults_and_quotas_cause_no_drift_and_no_loop",
            FLUX,
            no_drift,
        ),
        world.operated("controllers::applied::what_is_refused_is_shown_as_held_back", FLUX, held_back),
    ]
}

const PARENT: &str = "Kustomization parent";

/// How many reconciliations without a change are looked at.
const ROUNDS: u32 = 4;

/// A namespace whose parent Kustomization applies a Kustomization and a Fleet, which leave out what the policy fills in.
struct Deployed<'a> {
    scene: &'a Scene,
    namespace: &'static str,
    source: Source,
    log: Log,
}

impl<'a> Deployed<'a> {
    async fn new(scene: &'a Scene, namespace: &'static str) -> anyhow::Result<Self> {
        let gate = &scene.gate;
        gate.namespace(namespace).await?;
        gate.quota(namespace, json!({"gameservers": "4"}), &fleet(namespace, "large", 5)).await?;
        let defaults = json!({
            "timeout": "7s", "retryInterval": "1s", "labels": {"team": "a"},
            "gameServerResources": {"requests": {"cpu": "250m", "memory": "128Mi"}},
        });
        let careless = kustomization(namespace, "careless", json!({"prune": false}));
        gate.policy(namespace, json!({"rules": {"prune": "Required"}, "defaults": defaults}), &careless)
            .await?;
        let source = Source::new(scene, namespace).await?;
        let log = Log::of(&gate.site.client, namespace);
        let deployed = Self { scene, namespace, source, log };
        deployed.log.happens("install");
        deployed.push(deployed.child(json!({})), 2).await?;
        let parent = deploys(namespace, "parent", json!({"retryInterval": null}));
        scene.put([deployed.source.object(namespace), parent]).await?;
        deployed.log.shows(PARENT, '+', "Applied revision").await?;
        deployed.log.shows("Kustomization child", '+', "Applied revision").await?;
        Ok(deployed)
    }

    /// A Kustomization that leaves out its timeout and its labels, with these fields.
    fn child(&self, fields: Value) -> Value {
        let mut child = deploys(
            self.namespace,
            "child",
            json!({"timeout": null, "retryInterval": null, "interval": "1h"}),
        );
        crate::gate::merge(&mut child["spec"], fields);
        child
    }

    async fn push(&self, child: Value, servers: i64) -> anyhow::Result<()> {
        let mut fleet = fleet(self.namespace, "fleet", servers);
        // Left to the policy.
        fleet["spec"]["template"]["spec"]["template"]["spec"]["containers"] =
            json!([{"name": "game", "image": "game:1"}]);
        self.source
            .push(&[
                ("parent/kustomization.yaml", listed(&["child.yaml", "fleet.yaml"])),
                ("parent/child.yaml", child),
                ("parent/fleet.yaml", fleet),
                ("child/kustomization.yaml", listed(&["settings.yaml"])),
                ("child/settings.yaml", config_map(self.namespace, "child")),
            ])
            .await
    }

    async fn child_now(&self) -> anyhow::Result<Value> {
        self.scene.gate.get(&format!("{KUSTOMIZE}/namespaces/{}/kustomizations/child", self.namespace)).await
    }

    async fn fleet_now(&self) -> anyhow::Result<Value> {
        self.scene.gate.get(&format!("{AGONES}/namespaces/{}/fleets/fleet", self.namespace)).await
    }

    /// How many Events there are about the parent, repeated ones counted.
    async fn events(&self) -> anyhow::Result<u64> {
        let events = self.scene.gate.get(&format!("/api/v1/namespaces/{}/events", self.namespace)).await?;
        let events = events["items"].as_array().into_iter().flatten();
        let of_parent = events.filter(|event| event["involvedObject"]["name"] == "parent");
        Ok(of_parent.map(|event| event["count"].as_u64().unwrap_or(1)).sum())
    }

    /// Nothing is written while the parent is reconciled again and again.
    async fn rests(&self) -> anyhow::Result<()> {
        let marks = async || {
            let (child, fleet) = (self.child_now().await?, self.fleet_now().await?);
            let child = (child["metadata"]["generation"].clone(), child["metadata"]["labels"].clone());
            anyhow::Ok((child, fleet["metadata"]["resourceVersion"].clone()))
        };
        // The one that is under way may still write.
        self.log.attempts(PARENT, 1).await?;
        let (before, events) = (marks().await?, self.events().await?);
        self.log.attempts(PARENT, ROUNDS).await?;
        let (after, events) = (marks().await?, self.events().await? - events);
        ensure!(before == after, "it was written again: {before:?}, then {after:?}");
        // One says that a reconciliation has ended.
        ensure!(events <= u64::from(ROUNDS) + 2, "{events} Events of {ROUNDS} reconciliations");
        Ok(())
    }
}

async fn no_drift(scene: Arc<Scene>) -> anyhow::Result<()> {
    let deployed = Deployed::new(&scene, "applied").await?;
    let log = &deployed.log;
    let timeout = async |right: &str| {
        let child = deployed.child_now().await?;
        ensure!(child["spec"]["timeout"] == right, "the timeout is not {right}: {child:#}");
        ensure!(
            child["spec"]["retryInterval"] == "1s" && child["metadata"]["labels"]["team"] == "a",
            "{child:#}"
        );
        anyhow::Ok(())
    };
    timeout("7s").await?;
    let fleet = deployed.fleet_now().await?;
    let container = &fleet["spec"]["template"]["spec"]["template"]["spec"]["containers"][0];
    ensure!(container["resources"]["requests"] == json!({"cpu": "250m", "memory": "128Mi"}), "{fleet:#}");
    deployed.rests().await?;

    for (happens, fields, right) in [
        ("git sets a default itself", json!({"timeout": "9s"}), "9s"),
        ("git leaves it out again", json!({}), "7s"),
    ] {
        log.happens(happens);
        let before = deployed.child_now().await?["metadata"]["generation"].clone();
        deployed.push(deployed.child(fields), 2).await?;
        let path = format!("{KUSTOMIZE}/namespaces/{}/kustomizations/child", deployed.namespace);
        scene.gate.becomes(&path, KNOWN, |child| child["metadata"]["generation"] != before).await?;
        timeout(right).await?;
        log.shows(PARENT, '+', "Applied revision").await?;
        deployed.rests().await?;
    }
    let well = [(PARENT, "+"), ("Kustomization child", "+")];
    let installed = [(PARENT, "?+"), ("Kustomization child", "?+")];
    log.compare(&[
        ("install", &installed),
        ("git sets a default itself", &well),
        ("git leaves it out again", &well),
    ])
}

async fn held_back(scene: Arc<Scene>) -> anyhow::Result<()> {
    let namespace = "held-back";
    let deployed = Deployed::new(&scene, namespace).await?;
    let (log, gate) = (&deployed.log, &scene.gate);
    let counted = async |by: &str, objects: i64| {
        let path = match by {
            "TenantQuota" => format!("{API}/tenantusages/{namespace}"),
            _ => format!("{POLICY}/reconcilepolicies/{namespace}"),
        };
        let counted = gate.becomes(&path, KNOWN, |object| object["status"]["heldBack"] == objects).await;
        counted.map(drop).context(path)
    };
    let before = (
        deployed.child_now().await?["metadata"]["generation"].clone(),
        deployed.fleet_now().await?["metadata"]["resourceVersion"].clone(),
    );
    for (happens, child, servers, says, by) in [
        ("the quota refuses", deployed.child(json!({})), 9, "exceeded quota", "TenantQuota"),
        ("the policy refuses", deployed.child(json!({"prune": false})), 2, "prune", "ReconcilePolicy"),
    ] {
        log.happens(happens);
        deployed.push(child, servers).await?;
        log.shows(PARENT, '-', says).await?;
        let told = json!([{"kind": by, "name": namespace}]);
        log.until("the row names who refuses", |seen| {
            seen.row(PARENT).is_some_and(|row| row["deniedBy"] == told)
        })
        .await?;
        counted(by, 1).await?;
        let events = deployed.events().await?;
        log.attempts(PARENT, ROUNDS).await?;
        let events = deployed.events().await? - events;
        ensure!(events <= 2 * u64::from(ROUNDS) + 2, "{events} Events of {ROUNDS} attempts");
        let after = (
            deployed.child_now().await?["metadata"]["generation"].clone(),
            deployed.fleet_now().await?["metadata"]["resourceVersion"].clone(),
        );
        ensure!(before == after, "{before:?}, then {after:?}");
        log.happens("git is mended");
        deployed.push(deployed.child(json!({})), 2).await?;
        log.shows(PARENT, '+', "Applied revision").await?;
        log.until("nobody refuses", |seen| seen.row(PARENT).is_some_and(|row| row["deniedBy"].is_null()))
            .await?;
        counted(by, 0).await?;
    }
    let (broken, mended) = ([(PARENT, "+-")], [(PARENT, "-+")]);
    log.compare(&[
        ("install", &[(PARENT, "?+")]),
        ("the quota refuses", &broken),
        ("git is mended", &mended),
        ("the policy refuses", &broken),
        ("git is mended", &mended),
    ])
}
