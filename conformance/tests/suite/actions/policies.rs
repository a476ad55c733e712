//! Policies judge the user who asks, and nobody can pretend that Gatehouse asks for another.

use std::sync::Arc;

use anyhow::ensure;
use http::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{OPERATOR, app, bind, caller, created, path, subject, with_app};
use crate::caller::Answer;
use crate::flux::permit;
use crate::gate::{Gate, KNOWN, kustomization};
use crate::gate_freezes::{frozen, object};
use crate::world::World;

pub(super) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("actions::policies::a_reason_and_verbs_are_asked_of_the_requester", reasons),
        world
            .guarded("actions::policies::a_freeze_holds_for_the_requester_and_lets_the_exempt_pass", freezes),
        world.guarded("actions::policies::a_forged_requester_is_nobody", forged),
        world.guarded("actions::policies::an_end_of_a_suspension_takes_the_verb_to_resume", ends),
    ]
}

async fn reasons(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("actions-reasons", "actions-reasons-user");
    let operator = with_app(&gate, namespace, OPERATOR, user).await?;
    let bad = kustomization(namespace, "bad", json!({"prune": false}));
    let rules = json!({"verbs": "Authorize", "suspension": {"requireReason": true}, "prune": "Required"});
    gate.policy(namespace, json!({"rules": rules}), &bad).await?;
    let before = app(&gate, namespace).await?;
    for dry_run in ["", "?dryRun=All"] {
        let path = format!("{}{dry_run}", path(namespace, "suspend"));
        let refused = operator.post(&path, &json!({})).await?;
        let message = refused.refused(403, "Forbidden")?;
        ensure!(message.contains("a suspension must say why"), "{message}");
    }
    ensure!(app(&gate, namespace).await? == before, "nothing was written");
    created(operator.post(&path(namespace, "reconcile"), &json!({})).await?)?;
    created(operator.post(&path(namespace, "suspend"), &json!({"spec": {"reason": "moving"}})).await?)?;
    let by = &app(&gate, namespace).await?["metadata"]["annotations"]["fluxcd.controlplane.io/suspendedBy"];
    ensure!(by == user, "{by}");
    created(operator.post(&path(namespace, "resume"), &json!({})).await?)?;

    // Its own account may resume what ends by itself, verbs or not.
    let end = jiff::Timestamp::now() + std::time::Duration::from_secs(2);
    let body = json!({"spec": {"reason": "a moment", "until": format!("{end:.0}")}});
    created(operator.post(&path(namespace, "suspend"), &body).await?)?;
    gate.becomes(&object(namespace, "app"), KNOWN, |app| app["spec"]["suspend"] != true).await?;
    Ok(())
}

async fn freezes(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user, exempt) = ("actions-freeze", "actions-freeze-user", "actions-freeze-exempt");
    let operator = with_app(&gate, namespace, OPERATOR, user).await?;
    bind(&gate, namespace, OPERATOR, &subject("User", exempt)).await?;
    let exempt_caller = caller(&gate, exempt).await?;
    let new = kustomization(namespace, "new", json!({}));
    gate.policy(namespace, json!({"rules": frozen(), "exempt": {"users": [exempt]}}), &new).await?;
    gate.becomes(&object(namespace, "app"), KNOWN, |app| app["spec"]["suspend"] == true).await?;

    let shown = operator.get(&path(namespace, "suspension")).await?.ok()?;
    ensure!(shown["status"]["frozenBy"] == format!("{namespace}/release"), "{shown:#}");
    let refused = operator.post(&path(namespace, "reconcile"), &json!({})).await?;
    let message = refused.refused(409, "Conflict")?;
    ensure!(message.contains(&format!("the freeze {namespace}/release")), "{message}");
    operator.post(&path(namespace, "suspend"), &json!({})).await?.refused(409, "Conflict")?;
    let refused = operator.post(&path(namespace, "resume"), &json!({})).await?;
    let message = refused.refused(403, "Forbidden")?;
    ensure!(message.contains("nothing may change during the freeze"), "{message}");
    ensure!(app(&gate, namespace).await?["spec"]["suspend"] == true);

    created(exempt_caller.post(&path(namespace, "resume"), &json!({})).await?)?;
    let resumed = app(&gate, namespace).await?;
    ensure!(resumed["spec"]["suspend"] != true, "{resumed:#}");
    let mark = resumed["metadata"]["annotations"]["gatehouse.dev/exempt-from"].as_str().unwrap_or_default();
    ensure!(mark.starts_with(&format!("{namespace}/release@")), "{resumed:#}");
    created(operator.post(&path(namespace, "reconcile"), &json!({})).await?)?;
    Ok(())
}

/// Gatehouse resumes an object at the end of its suspension, by its own account.
async fn ends(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, tenant, half) = ("actions-ends", "actions-ends-tenant", "actions-ends-half");
    let operator = with_app(&gate, namespace, OPERATOR, "actions-ends-operator").await?;
    permit(&gate, namespace, tenant, &["get", "patch", "update"]).await?;
    permit(&gate, namespace, half, &["get", "create", "suspend"]).await?;
    let (tenant, half) = (caller(&gate, tenant).await?, caller(&gate, half).await?);
    let bad = kustomization(namespace, "bad", json!({"prune": false}));
    gate.policy(namespace, json!({"rules": {"verbs": "Authorize", "prune": "Required"}}), &bad).await?;

    let merge = [("content-type", "application/merge-patch+json")];
    let until = |time: &str| json!({"metadata": {"annotations": {"gatehouse.dev/suspended-until": time}}});
    let write = async |time: &str| {
        let body = until(time).to_string().into_bytes();
        tenant.send_with(&Method::PATCH, &object(namespace, "app"), &merge, body).await
    };
    let takes_resume = |answer: &Answer| {
        let message = answer.refused(403, "Forbidden")?;
        ensure!(message.contains("resume"), "{message}");
        anyhow::Ok(())
    };
    // In advance.
    takes_resume(&write("2999-01-01T00:00:00Z").await?)?;
    created(operator.post(&path(namespace, "suspend"), &json!({})).await?)?;
    // Either verb is named, since both are missing.
    write("2020-01-01T00:00:00Z").await?.refused(403, "Forbidden")?;

    let end = json!({"spec": {"until": "2999-01-01T00:00:00Z"}});
    takes_resume(&half.post(&path(namespace, "suspend"), &end).await?)?;
    let annotations = &app(&gate, namespace).await?["metadata"]["annotations"];
    ensure!(annotations["gatehouse.dev/suspended-until"].is_null(), "{annotations}");
    created(operator.post(&path(namespace, "suspend"), &end).await?)?;

    // Nor does another reason stand under somebody else's name.
    let why = |text: &str| json!({"spec": {"reason": text}});
    created(operator.post(&path(namespace, "suspend"), &why("the database moves")).await?)?;
    takes_resume(&half.post(&path(namespace, "suspend"), &why("no reason")).await?)?;
    created(half.post(&path(namespace, "suspend"), &json!({})).await?)?;
    created(operator.post(&path(namespace, "suspend"), &why("the database still moves")).await?)?;
    let other = "actions-ends-other";
    bind(&gate, namespace, OPERATOR, &subject("User", other)).await?;
    let other_caller = caller(&gate, other).await?;
    let shown = created(other_caller.post(&path(namespace, "suspend"), &why("it fails")).await?)?;
    ensure!(shown["spec"]["reason"] == "it fails" && shown["status"]["by"] == other, "{shown:#}");
    ensure!(shown["spec"]["until"] == end["spec"]["until"], "the end stays: {shown:#}");
    Ok(())
}

/// Somebody may patch the object, and impersonate users with any extra field. It does not help.
async fn forged(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, forger, boss) = ("actions-forged", "actions-forger", "actions-boss");
    with_app(&gate, namespace, OPERATOR, boss).await?;
    permit(&gate, namespace, forger, &["*"]).await?;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": forger},
        "rules": [
            {"apiGroups": [""], "resources": ["users"], "resourceNames": [forger], "verbs": ["impersonate"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["userextras/gatehouse.dev/requester"],
             "verbs": ["impersonate"]},
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": forger},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": forger},
        "subjects": [subject("User", forger)],
    });
    gate.put(&role).await?;
    gate.put(&binding).await?;
    let bad = kustomization(namespace, "bad", json!({"prune": false}));
    let rules = json!({"suspension": {"requireReason": true}, "prune": "Required"});
    gate.policy(namespace, json!({"rules": rules, "exempt": {"users": [boss]}}), &bad).await?;

    let caller = caller(&gate, forger).await?;
    let requester = json!({"username": boss, "groups": ["system:authenticated"]}).to_string();
    let patch =
        json!({"metadata": {"annotations": {"gatehouse.dev/requester": boss}}, "spec": {"suspend": true}});
    let pretended =
        [("Impersonate-User", forger), ("Impersonate-Extra-gatehouse.dev%2frequester", requester.as_str())];
    let media_type = [("content-type", "application/merge-patch+json")];
    for headers in [media_type.to_vec(), [pretended.as_slice(), &media_type].concat()] {
        for manager in ["", "?fieldManager=kubectl", "?fieldManager=gatehouse"] {
            let object = format!("{}{manager}", object(namespace, "app"));
            let body = patch.to_string().into_bytes();
            let answer = caller.send_with(&Method::PATCH, &object, &headers, body).await?;
            let message = answer.refused(403, "Forbidden")?;
            ensure!(
                message.contains("a suspension must say why") || message.contains("field manager"),
                "{message}"
            );
        }
    }
    // Nor does it help to ask Gatehouse: what it reports is who has asked it.
    let impersonated = [pretended.as_slice(), &[("content-type", "application/json")]].concat();
    let answer =
        caller.send_with(&Method::POST, &path(namespace, "suspend"), &impersonated, b"{}".to_vec()).await?;
    answer.refused(403, "Forbidden")?;
    ensure!(app(&gate, namespace).await?["spec"].get("suspend").is_none());
    // The boss needs no reason.
    let boss: Value =
        created(super::caller(&gate, boss).await?.post(&path(namespace, "suspend"), &json!({})).await?)?;
    ensure!(boss["spec"]["suspended"] == true, "{boss:#}");
    Ok(())
}
