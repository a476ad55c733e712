//! Deployments whose pods kwok runs, in the cluster's health: one that scales up is in progress and not failed, and one whose
//! image cannot be had is bad after its deadline.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use futures::StreamExt;
use gatehouse_conformance::controllers::{Controller, UNTOUCHED};
use kube::Api;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, watcher};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Scene;
use crate::gate::KNOWN;
use crate::world::{World, eventually};

const NEEDS: &[Controller] =
    &[Controller::KubeControllerManager, Controller::KubeScheduler, Controller::Kwok];

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.operated(
        "controllers::workloads::pods_that_start_are_in_progress_until_their_deadline",
        NEEDS,
        pods,
    )]
}

const NAMESPACE: &str = "workloads";

/// How long a rollout may take, in seconds.
const DEADLINE: i64 = 4;

/// What the layer of workloads has said of each Deployment of this trial, since the beginning.
struct Layer {
    seen: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Layer {
    fn watch(client: kube::Client) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let kind = GroupVersionKind::gvk("view.gatehouse.dev", "v1alpha1", "ClusterHealth");
        let api: Api<DynamicObject> =
            Api::all_with(client, &ApiResource::from_gvk_with_plural(&kind, "clusterhealths"));
        let task = tokio::spawn(async move {
            let events = watcher(api, Config::default()).default_backoff().applied_objects();
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                let Some(health) = event.ok().and_then(|event| serde_json::to_value(event).ok()) else {
                    continue;
                };
                let layers = health["status"]["layers"].as_array().into_iter().flatten();
                let workloads = layers.filter(|layer| layer["name"] == "Workloads").cloned();
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend(workloads);
            }
        });
        Self { seen, task }
    }

    /// Whether a Deployment has ever been among the failures.
    fn has_failed(&self, name: &str) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().any(|layer| failure(layer, name).is_some())
    }

    fn last(&self) -> Value {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).last().cloned().unwrap_or_default()
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn failure<'a>(layer: &'a Value, name: &str) -> Option<&'a Value> {
    let failures = layer["failures"].as_array().into_iter().flatten();
    failures.into_iter().find(|failure| failure["namespace"] == NAMESPACE && failure["name"] == name)
}

fn deployment(name: &str, replicas: i64, annotations: &Value, fields: Value) -> Value {
    let labels = json!({"app": name});
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": {"containers": [{"name": "main", "image": "web:1"}]}},
        },
    });
    crate::gate::merge(&mut object["spec"], fields);
    object
}

/// A node for kwok to play.
fn node() -> Value {
    let room = json!({"cpu": "32", "memory": "256Gi", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-0", "labels": {"kubernetes.io/hostname": "node-0"}},
        "status": {"allocatable": room, "capacity": room},
    })
}

async fn pods(scene: Arc<Scene>) -> anyhow::Result<()> {
    let gate = &scene.gate;
    gate.namespace(NAMESPACE).await?;
    let layer = Layer::watch(gate.site.client.clone());
    let place = |name: &str| format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}");
    let available = async |name: &str, number: i64| {
        gate.becomes(&place(name), KNOWN, |deployment| deployment["status"]["availableReplicas"] == number)
            .await
    };
    scene.put([node(), deployment("web", 2, &json!({}), json!({}))]).await?;
    available("web", 2).await?;
    let scale = async |name: &str, replicas: i64| {
        scene.patch(&place(name), &json!({"spec": {"replicas": replicas}})).await
    };
    scale("web", 6).await?;
    available("web", 6).await?;
    // A change of the image rolls out.
    let containers = json!([{"name": "main", "image": "web:2"}]);
    scene.patch(&place("web"), &json!({"spec": {"template": {"spec": {"containers": containers}}}})).await?;
    let is_new = |deployment: &Value| {
        deployment["status"]["updatedReplicas"] == 6 && deployment["status"]["availableReplicas"] == 6
    };
    gate.becomes(&place("web"), KNOWN, is_new).await?;

    let lacks_image = deployment(
        "lost",
        1,
        &json!({UNTOUCHED.0: UNTOUCHED.1}),
        json!({"progressDeadlineSeconds": DEADLINE}),
    );
    scene.put([lacks_image]).await?;
    let said = || failure(&layer.last(), "lost").cloned();
    let counts =
        eventually("the Deployment without an image counts as failed", KNOWN, || said().is_some()).await;
    counts.with_context(|| format!("{:#}", layer.last()))?;
    let made = gate.get(&place("lost")).await?["metadata"]["creationTimestamp"].clone();
    let made: jiff::Timestamp = made.as_str().context("a time")?.parse()?;
    let age = jiff::Timestamp::now().as_second() - made.as_second();
    ensure!(age >= DEADLINE, "it counts after {age} s");
    // Its controller says so at about the same time.
    let is_late =
        |lost: &Value| lost["status"]["conditions"].to_string().contains("ProgressDeadlineExceeded");
    gate.becomes(&place("lost"), KNOWN, is_late).await?;
    let said = said().unwrap_or_default();
    ensure!(
        said["message"].to_string().contains("progressing")
            || said["message"].to_string().contains("available"),
        "{said:#}"
    );
    ensure!(!layer.has_failed("web"), "web counted as failed");

    gate.delete(&place("lost")).await?;
    eventually("what was deleted does not count", KNOWN, || failure(&layer.last(), "lost").is_none()).await?;
    gate.delete(&place("web")).await
}
