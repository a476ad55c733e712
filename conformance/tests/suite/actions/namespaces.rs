//! Reconciling a namespace, or an object with its source.

use std::sync::Arc;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{ON_CALL, OPERATOR, REQUESTED_AT, bind, caller, created, of, path, subject, with_app};
use crate::gate::{Gate, KNOWN};
use crate::site::{API, kustomization};
use crate::world::World;

pub(super) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("actions::namespaces::all_or_those_in_some_states_are_asked", states),
        world.guarded("actions::namespaces::each_object_takes_the_verb", verbs),
        world.guarded("actions::namespaces::a_source_takes_rights_of_its_own_and_comes_first", sources),
    ]
}

fn summary(namespace: &str) -> String {
    format!("{API}/namespaces/{namespace}/fluxsummaries/local/reconcile")
}

fn names<'a>(status: &'a Value, list: &str) -> Vec<&'a str> {
    let objects = status[list].as_array().into_iter().flatten();
    objects.filter_map(|object| object["name"].as_str()).collect()
}

/// Puts objects in the namespace, and waits until their rows are there.
async fn fill(gate: &Gate, namespace: &str, objects: &[Value]) -> anyhow::Result<()> {
    for object in objects {
        gate.put(object).await?;
    }
    let rows = format!("{API}/namespaces/{namespace}/fluxresources");
    let wanted = objects.len();
    // A status is written after its object.
    let is_known =
        |row: &Value| row["status"]["state"] != "Pending" && row["status"]["state"] != "Progressing";
    let are_known = |rows: &Value| {
        rows["items"].as_array().is_some_and(|rows| rows.len() >= wanted && rows.iter().all(is_known))
    };
    gate.becomes(&rows, KNOWN, are_known).await?;
    Ok(())
}

async fn states(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("actions-states", "actions-states-user");
    gate.namespace(namespace).await?;
    bind(&gate, namespace, ON_CALL, &subject("User", user)).await?;
    let mut held = kustomization(namespace, "held", Ok(()));
    held["spec"]["suspend"] = json!(true);
    let alert = json!({
        "apiVersion": "notification.toolkit.fluxcd.io/v1beta3", "kind": "Alert",
        "metadata": {"namespace": namespace, "name": "bell"},
        "spec": {"providerRef": {"name": "chat"}, "eventSources": [{"kind": "Kustomization", "name": "*"}]},
    });
    let objects = [
        kustomization(namespace, "well", Ok(())),
        kustomization(namespace, "broken", Err("build failed")),
        held,
        alert,
    ];
    fill(&gate, namespace, &objects).await?;
    let user = caller(&gate, user).await?;
    let done =
        created(user.post(&summary(namespace), &json!({"spec": {"states": ["Failed", "Failing"]}})).await?)?;
    ensure!(names(&done["status"], "objects") == ["broken"], "{done:#}");
    ensure!(done["status"].get("notRequested").is_none(), "{done:#}");
    let done =
        created(user.post(&summary(namespace), &json!({"spec": {"reason": "the registry is back"}})).await?)?;
    ensure!(names(&done["status"], "objects") == ["broken", "well"], "{done:#}");
    let left: Vec<_> = done["status"]["notRequested"].as_array().context("a list")?.iter().collect();
    ensure!(left.len() == 2, "{done:#}");
    ensure!(left[0]["name"] == "bell" && left[0]["reason"] == "NotReconcilable", "{done:#}");
    ensure!(left[1]["name"] == "held" && left[1]["reason"] == "Suspended", "{done:#}");
    let live = gate.get(&crate::gate_freezes::object(namespace, "well")).await?;
    ensure!(live["metadata"]["annotations"][REQUESTED_AT] == done["status"]["requestedAt"], "{live:#}");
    let live = gate.get(&crate::gate_freezes::object(namespace, "held")).await?;
    ensure!(live["metadata"].get("annotations").is_none(), "{live:#}");

    let refused = user.post(&summary(namespace), &json!({"spec": {"states": ["Broken"]}})).await?;
    ensure!(refused.refused(422, "Invalid")?.contains("spec.states[0]"), "{refused:#?}");
    for field in ["withSource", "force", "reset"] {
        let refused = user.post(&summary(namespace), &json!({"spec": {field: true}})).await?;
        ensure!(refused.refused(422, "Invalid")?.contains(&format!("spec.{field}")), "{refused:#?}");
    }
    Ok(())
}

async fn verbs(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, name) = ("actions-verbs", "actions-verbs-user");
    gate.namespace(namespace).await?;
    let objects = [kustomization(namespace, "mine", Ok(())), kustomization(namespace, "theirs", Ok(()))];
    fill(&gate, namespace, &objects).await?;
    let role = |verb: &str| {
        let named = json!({
            "apiGroups": ["kustomize.toolkit.fluxcd.io"], "resources": ["kustomizations"],
            "resourceNames": ["mine"], "verbs": [verb],
        });
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [
                {"apiGroups": ["view.gatehouse.dev"], "resources": ["fluxsummaries/reconcile"], "verbs": ["create"]},
                named,
            ],
        })
    };
    gate.put(&role("reconcile")).await?;
    bind(&gate, namespace, name, &subject("User", name)).await?;
    let user = caller(&gate, name).await?;
    let done = created(user.post(&summary(namespace), &json!({})).await?)?;
    ensure!(names(&done["status"], "objects") == ["mine"], "{done:#}");
    ensure!(done["status"]["notRequested"][0]["reason"] == "Forbidden", "{done:#}");

    let nothing = "actions-verbs-none";
    let mut without = role("get");
    without["metadata"]["name"] = json!(nothing);
    gate.put(&without).await?;
    bind(&gate, namespace, nothing, &subject("User", nothing)).await?;
    caller(&gate, nothing).await?.post(&summary(namespace), &json!({})).await?.refused(403, "Forbidden")?;
    let empty = format!("{API}/namespaces/actions-no-such-namespace/fluxsummaries/local/reconcile");
    gate.caller.post(&empty, &json!({})).await?.refused(404, "NotFound")?;
    Ok(())
}

async fn sources(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, elsewhere, user) = ("actions-source", "actions-source-of", "actions-source-user");
    let operator = with_app(&gate, namespace, OPERATOR, user).await?;
    gate.namespace(elsewhere).await?;
    let repository = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"namespace": elsewhere, "name": "apps"}, "spec": {"interval": "1m", "url": "https://example.com/x"},
    });
    gate.put(&repository).await?;
    let reference = json!({"kind": "GitRepository", "name": "apps", "namespace": elsewhere});
    gate.put(&crate::gate::kustomization(namespace, "app", json!({"sourceRef": reference}))).await?;
    let body = json!({"spec": {"withSource": true}});
    let refused = operator.post(&path(namespace, "reconcile"), &body).await?;
    let message = refused.refused(403, "Forbidden")?;
    ensure!(message.contains(elsewhere), "the source takes rights where it is: {message}");
    let live = gate.get(&crate::gate_freezes::object(namespace, "app")).await?;
    ensure!(live["metadata"].get("annotations").is_none(), "nothing was written: {live:#}");

    let other = "actions-source-other";
    for namespace in [namespace, elsewhere] {
        bind(&gate, namespace, ON_CALL, &subject("User", other)).await?;
    }
    let other = caller(&gate, other).await?;
    let done = created(other.post(&path(namespace, "reconcile"), &body).await?)?;
    ensure!(names(&done["status"], "objects") == ["apps", "app"], "{done:#}");
    let at = format!("/apis/source.toolkit.fluxcd.io/v1/namespaces/{elsewhere}/gitrepositories/apps");
    let token = gate.get(&at).await?["metadata"]["annotations"][REQUESTED_AT].clone();
    ensure!(token == done["status"]["requestedAt"], "{token}");

    let refused = other.post(&of(elsewhere, "gitrepository.apps", "reconcile"), &body).await?;
    ensure!(refused.refused(422, "Invalid")?.contains("spec.withSource"), "{refused:#?}");
    for field in ["force", "reset"] {
        let refused = other.post(&path(namespace, "reconcile"), &json!({"spec": {field: true}})).await?;
        ensure!(refused.refused(422, "Invalid")?.contains(&format!("spec.{field}")), "{refused:#?}");
    }
    Ok(())
}
