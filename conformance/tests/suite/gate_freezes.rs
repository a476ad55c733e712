//! Freezes and suspensions: nothing changes, Flux is held back, and both end by themselves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::gate::{AGONES, Gate, KNOWN, KUSTOMIZE, POLICY, SIDES, apply, fleet, kustomization, policy};
use crate::gate_policies::allow;
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_freezes::a_freeze_refuses_and_holds_flux_back_until_it_is_over", freeze),
        world.guarded("gate_freezes::what_was_suspended_before_a_freeze_stays_so_after_it", suspended_before),
        world.guarded("gate_freezes::a_suspension_ends_after_its_longest_duration", expiry),
        world.guarded("gate_freezes::who_suspends_is_noted", author),
        world.guarded("gate_freezes::suspending_resuming_and_reconciling_take_rights", verbs),
    ]
}

pub(crate) fn object(namespace: &str, name: &str) -> String {
    format!("{KUSTOMIZE}/namespaces/{namespace}/kustomizations/{name}")
}

/// A freeze that is on, whenever it is: it begins every day, and ends just before it begins again.
/// In a zone with daylight saving it would overlap itself on the shortest day.
pub(crate) fn frozen() -> Value {
    json!({"freezes": [{
        "name": "release", "schedule": "0 0 * * *", "duration": "23h59m", "timeZone": "UTC",
        "reason": "the release is out",
    }]})
}

async fn freeze(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-freeze";
    gate.namespace(namespace).await?;
    gate.put(&kustomization(namespace, "app", json!({}))).await?;
    gate.put(&fleet(namespace, "f", 1)).await?;
    let new = kustomization(namespace, "new", json!({}));
    gate.policy(namespace, json!({"rules": frozen()}), &new).await?;
    let kubectl = gate.kubectl()?;
    let held = gate.becomes(&object(namespace, "app"), KNOWN, |app| app["spec"]["suspend"] == true).await?;
    ensure!(held["metadata"]["annotations"].to_string().contains("release"), "{held:#}");

    let expected = "nothing may change during the freeze \"release\" (the release is out), which ends";
    for side in SIDES {
        let printed = apply(&kubectl, side, std::slice::from_ref(&new), &[]).await?.failed()?;
        ensure!(printed.contains(expected), "{side:?}: {printed}");
    }
    for args in [
        ["scale", "fleet/f", "-n", namespace, "--replicas=2"].as_slice(),
        &["delete", "kustomization/app", "-n", namespace, "--wait=false"],
        &[
            "patch",
            "kustomization/app",
            "-n",
            namespace,
            "--type=merge",
            "-p",
            "{\"spec\": {\"suspend\": false}}",
        ],
    ] {
        let printed = kubectl.run(args).await?.failed()?;
        ensure!(printed.contains(expected), "{args:?}: {printed}");
    }
    let fleet = gate.get(&format!("{AGONES}/namespaces/{namespace}/fleets/f")).await?;
    ensure!(fleet["spec"]["replicas"] == 1, "{fleet:#}");
    let reported = |policy: &Value| {
        policy["status"]["activeFreeze"] == "release" && policy["status"]["nextChange"].is_string()
    };
    gate.becomes(&format!("{POLICY}/reconcilepolicies/{namespace}"), KNOWN, reported).await?;

    gate.put(&policy(namespace, json!({"rules": {"freezes": []}}))).await?;
    let resumed =
        gate.becomes(&object(namespace, "app"), KNOWN, |app| app["spec"]["suspend"] != true).await?;
    ensure!(!resumed["metadata"]["annotations"].to_string().contains("frozen-by"), "{resumed:#}");
    apply(&kubectl, SIDES[0], &[new], &[]).await?.ok()?;
    Ok(())
}

async fn suspended_before(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-freeze-before";
    gate.namespace(namespace).await?;
    gate.put(&kustomization(namespace, "held", json!({"suspend": true}))).await?;
    gate.put(&kustomization(namespace, "app", json!({}))).await?;
    let new = kustomization(namespace, "new", json!({}));
    gate.policy(namespace, json!({"rules": frozen()}), &new).await?;
    gate.becomes(&object(namespace, "app"), KNOWN, |app| app["spec"]["suspend"] == true).await?;
    gate.delete(&format!("{POLICY}/reconcilepolicies/{namespace}")).await?;
    gate.becomes(&object(namespace, "app"), KNOWN, |app| app["spec"]["suspend"] != true).await?;
    ensure!(gate.get(&object(namespace, "held")).await?["spec"]["suspend"] == true);
    Ok(())
}

async fn expiry(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-expiry";
    gate.namespace(namespace).await?;
    let bad = kustomization(namespace, "bad", json!({"suspend": true}));
    let rules = json!({"suspension": {"requireReason": true, "maxDuration": "3s"}});
    gate.policy(namespace, json!({"rules": rules}), &bad).await?;
    let mut app = kustomization(namespace, "app", json!({"suspend": true}));
    app["metadata"]["annotations"] = json!({"gatehouse.dev/suspend-reason": "the database moves"});
    apply(&gate.kubectl()?, SIDES[0], &[app], &[]).await?.ok()?;
    let within = KNOWN + Duration::from_secs(3);
    let resumed =
        gate.becomes(&object(namespace, "app"), within, |app| app["spec"]["suspend"] != true).await?;
    ensure!(!resumed["metadata"]["annotations"].to_string().contains("suspendedBy"), "{resumed:#}");
    let events = format!("/api/v1/namespaces/{namespace}/events");
    let reported = |events: &Value| {
        let events = events["items"].as_array().into_iter().flatten();
        events.into_iter().any(|event| {
            event["involvedObject"]["name"] == "app"
                && event["reason"].as_str().is_some_and(|why| why.contains("Suspension"))
        })
    };
    gate.becomes(&events, KNOWN, reported).await?;
    Ok(())
}

async fn author(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-author";
    gate.namespace(namespace).await?;
    let bad = kustomization(namespace, "bad", json!({"suspend": true}));
    gate.policy(namespace, json!({"rules": {"suspension": {"requireReason": true}}}), &bad).await?;
    allow(&gate, namespace, "gate-author-user", &["*"]).await?;
    let mut app = kustomization(namespace, "app", json!({"suspend": true}));
    app["metadata"]["annotations"] = json!({"gatehouse.dev/suspend-reason": "the database moves"});
    apply(&gate.site.kubectl_as("gate-author-user")?, SIDES[1], &[app], &[]).await?.ok()?;
    let app = gate.get(&object(namespace, "app")).await?;
    ensure!(
        app["metadata"]["annotations"]["fluxcd.controlplane.io/suspendedBy"] == "gate-author-user",
        "{app:#}"
    );
    Ok(())
}

async fn verbs(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-verbs";
    gate.namespace(namespace).await?;
    for name in ["app", "other"] {
        gate.put(&kustomization(namespace, name, json!({}))).await?;
    }
    let edits = ["get", "list", "create", "update", "patch"];
    allow(&gate, namespace, "gate-editor", &edits).await?;
    let more: Vec<_> = edits.into_iter().chain(["suspend", "resume", "reconcile"]).collect();
    allow(&gate, namespace, "gate-operator", &more).await?;
    // In force together with a rule whose force can be seen.
    let bad = kustomization(namespace, "bad", json!({"prune": false}));
    gate.policy(namespace, json!({"rules": {"verbs": "Authorize", "prune": "Required"}}), &bad).await?;

    let suspend = [
        "patch",
        "kustomization/app",
        "-n",
        namespace,
        "--type=merge",
        "-p",
        "{\"spec\": {\"suspend\": true}}",
    ];
    let resume = [
        "patch",
        "kustomization/app",
        "-n",
        namespace,
        "--type=merge",
        "-p",
        "{\"spec\": {\"suspend\": false}}",
    ];
    let reconcile = [
        "annotate",
        "kustomization/app",
        "-n",
        namespace,
        "--overwrite",
        "reconcile.fluxcd.io/requestedAt=now",
    ];
    let edit = [
        "patch",
        "kustomization/app",
        "-n",
        namespace,
        "--type=merge",
        "-p",
        "{\"spec\": {\"interval\": \"11m\"}}",
    ];
    let editor = gate.site.kubectl_as("gate-editor")?;
    let operator = gate.site.kubectl_as("gate-operator")?;
    editor.run(edit).await?.ok()?;
    for (verb, command) in [("suspend", suspend.as_slice()), ("reconcile", &reconcile)] {
        let printed = editor.run(command).await?.failed()?;
        let user = "User \"gate-editor\" cannot";
        ensure!(
            printed.contains(user) && printed.contains(verb) && printed.contains("kustomizations"),
            "{verb}: {printed}"
        );
    }
    operator.run(suspend).await?.ok()?;
    ensure!(editor.run(resume).await?.failed()?.contains("resume"));
    operator.run(resume).await?.ok()?;
    operator.run(reconcile).await?.ok()?;
    Ok(())
}
