//! notification-controller beside Gatehouse: an Alert of Flux delivers what is done by actions (`--events-addr`).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_conformance::controllers::Controller;
use gatehouse_conformance::gatehouse::{Gatehouse, Options};
use gatehouse_conformance::{definitions, load, ports};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::Scene;
use crate::alerts::Alerts;
use crate::caller::Caller;
use crate::gate::kustomization;
use crate::site::API;
use crate::world::{World, settles};

const NEEDS: &[Controller] = &[Controller::NotificationController];
const NAMESPACE: &str = "alerted";
/// Gatehouse observes the object and notification-controller the Alert.
const SOON: Duration = Duration::from_secs(30);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.operated("controllers::notification::an_alert_delivers_every_action", NEEDS, delivered)]
}

async fn delivered(scene: Arc<Scene>) -> anyhow::Result<()> {
    let (site, control_plane) = (&scene.gate.site, scene.control_plane());
    load::apply(&control_plane.client().await?, definitions::notification().await?).await?;
    let events = format!("127.0.0.1:{}", ports::free()?);
    let flags = vec![format!("--events-addr={events}")];
    let controller = Controller::NotificationController.start_with(control_plane, flags).await?;
    let flags = vec!["--enable-actions".to_owned(), format!("--events-addr=http://{events}/")];
    let options = Options { name: Some("alerting".to_owned()), flags, ..site.options.clone() };
    let mut gatehouse = Gatehouse::start(control_plane, &options).await?;
    let kubeconfig = gatehouse.kubeconfig_for(control_plane, "jane", Some("system:masters"))?;
    let user = Caller::of_kubeconfig(&kubeconfig).await?;

    let chat = Alerts::start().await?;
    scene.gate.namespace(NAMESPACE).await?;
    scene
        .put([kustomization(NAMESPACE, "app", json!({})), kustomization(NAMESPACE, "other", json!({}))])
        .await?;
    scene.put(alert(&chat.url)).await?;
    let act = async |name: &str, action: &str, body: Value| {
        let path = format!("{API}/namespaces/{NAMESPACE}/fluxresources/local.kustomization.{name}/{action}");
        let answer = user.post(&path, &body).await?;
        ensure!(answer.code == 201, "{answer:#?}");
        anyhow::Ok(answer.body)
    };
    let posted = async |path: &str| anyhow::Ok(user.get(path).await?.code);
    let row = format!("{API}/namespaces/{NAMESPACE}/fluxresources/local.kustomization.app");
    settles("the row", SOON, || posted(&row), |code| *code == 200).await?;

    // notification-controller drops what it takes for a repetition: the same words about the same object.
    let reason = json!({"spec": {"reason": "a new key"}});
    act("app", "reconcile", reason.clone()).await?;
    act("app", "reconcile", reason.clone()).await?;
    act("app", "suspend", reason).await?;
    // An Alert delivers events about the objects that it names.
    act("other", "reconcile", json!({})).await?;
    let resumed = act("app", "resume", json!({})).await?;
    let received = async || anyhow::Ok(chat.received());
    let events = settles("four alerts", SOON, received, |events| events.len() >= 4).await;
    let events = events.with_context(|| controller.log_tail(4))?;
    let said: Vec<_> = events.iter().map(|event| (&event["reason"], &event["message"])).collect();
    let requested = (&json!("ReconcileRequested"), &json!("reconciliation requested by jane: a new key"));
    ensure!(said.iter().filter(|event| **event == requested).count() == 2, "{said:?}");
    for expected in [
        (&json!("Suspended"), &json!("suspended by jane: a new key")),
        (&json!("Resumed"), &json!("resumed by jane")),
    ] {
        ensure!(said.contains(&expected), "{said:?}");
    }
    ensure!(said.len() == 4, "{said:?}");
    let last = events.iter().find(|event| event["reason"] == "Resumed").context("found above")?;
    ensure!(last["involvedObject"]["uid"] == resumed["metadata"]["uid"], "{last:#} {resumed:#}");
    ensure!(last["metadata"]["summary"] == "production", "what the Alert adds: {last:#}");
    ensure!(last["reportingController"] == "gatehouse", "{last:#}");
    gatehouse.stop().await?;
    controller.stop().await.map(drop)
}

/// An Alert about the Kustomization `app`, and the Provider that posts it to an address.
fn alert(address: &str) -> [Value; 2] {
    let api_version = "notification.toolkit.fluxcd.io/v1beta3";
    let provider = json!({
        "apiVersion": api_version, "kind": "Provider", "metadata": {"namespace": NAMESPACE, "name": "chat"},
        "spec": {"type": "generic", "address": address},
    });
    let alert = json!({
        "apiVersion": api_version, "kind": "Alert", "metadata": {"namespace": NAMESPACE, "name": "actions"},
        "spec": {
            "providerRef": {"name": "chat"}, "eventSeverity": "info",
            "eventSources": [{"kind": "Kustomization", "name": "app"}],
            "eventMetadata": {"summary": "production"},
        },
    });
    [provider, alert]
}
