//! Suspensions: by whatever a kind's controller heeds, with notes that outlast a parent.

use std::sync::Arc;

use anyhow::ensure;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::flux::{ACCOUNT, KustomizeController, permit};
use crate::gate::{Gate, KNOWN, kustomization};
use crate::gate_freezes::object;
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_suspension::every_spelling_takes_the_right_and_a_reason", spellings),
        world.guarded(
            "gate_suspension::an_annotation_that_suspends_nothing_is_nobodys_business",
            no_suspension,
        ),
        world.guarded("gate_suspension::what_is_noted_survives_a_parent", noted),
        world.guarded("gate_suspension::a_reason_of_blanks_is_none", blanks),
    ]
}

async fn spellings(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("gate-spellings", "gate-speller");
    gate.namespace(namespace).await?;
    permit(&gate, namespace, user, &["get", "list", "watch", "create", "update", "patch", "delete"]).await?;
    let set = json!({
        "apiVersion": "fluxcd.controlplane.io/v1", "kind": "ResourceSet",
        "metadata": {"namespace": namespace, "name": "set"}, "spec": {"resourcesTemplate": ""},
    });
    let generator = json!({
        "apiVersion": "source.extensions.fluxcd.io/v1beta1", "kind": "ArtifactGenerator",
        "metadata": {"namespace": namespace, "name": "gen"},
        "spec": {
            "sources": [{"alias": "p", "kind": "GitRepository", "name": "app"}],
            "artifacts": [{"name": "a", "copy": [{"from": "@p/**", "to": "@artifact/"}]}],
        },
    });
    for object in [&set, &generator, &kustomization(namespace, "app", json!({}))] {
        gate.put(object).await?;
    }
    let bad = kustomization(namespace, "bad", json!({"prune": false}));
    let rules = json!({"verbs": "Authorize", "suspension": {"requireReason": true}, "prune": "Required"});
    gate.policy(namespace, json!({"rules": rules}), &bad).await?;
    let kubectl = gate.site.kubectl_as(user)?;
    let (operator, watcher) = ("fluxcd.controlplane.io/reconcile", "source.extensions.fluxcd.io/reconcile");
    for (kind, name, annotation, right) in [
        ("resourceset", "set", operator, true),
        ("resourceset", "set", watcher, false),
        ("artifactgenerator", "gen", watcher, true),
        ("artifactgenerator", "gen", operator, false),
        ("kustomization", "app", operator, false),
    ] {
        for word in ["disabled", "Disabled", "DISABLED", "dİsabled"] {
            let value = format!("{annotation}={word}");
            let output =
                kubectl.run(["annotate", kind, name, "-n", namespace, "--overwrite", &value]).await?;
            if right {
                let printed = output.failed()?;
                ensure!(printed.contains("suspend"), "{kind} {value}: {printed}");
            } else {
                output.ok()?;
            }
        }
    }
    let patch = "{\"spec\": {\"suspend\": true}}";
    let printed = kubectl
        .run(["patch", "kustomization", "app", "-n", namespace, "--type=merge", "-p", patch])
        .await?
        .failed()?;
    ensure!(printed.contains("suspend"), "{printed}");
    Ok(())
}

async fn no_suspension(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-no-suspension";
    gate.namespace(namespace).await?;
    let left = json!({"fluxcd.controlplane.io/reconcile": "disabled"});
    let mut app = kustomization(namespace, "app", json!({}));
    app["metadata"]["annotations"] = left.clone();
    gate.put(&app).await?;
    gate.put(&kustomization(namespace, "other", json!({"suspend": true}))).await?;
    let bad = kustomization(namespace, "bad", json!({"prune": false}));
    let rules = json!({"suspension": {"maxDuration": "2s"}, "prune": "Required"});
    gate.policy(namespace, json!({"rules": rules}), &bad).await?;
    // By then, the first would have been taken away too.
    gate.becomes(&object(namespace, "other"), KNOWN, |other| other["spec"]["suspend"] != true).await?;
    let app = gate.get(&object(namespace, "app")).await?;
    ensure!(app["metadata"]["annotations"] == left, "{app:#}");
    Ok(())
}

async fn noted(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("gate-noted", "gate-noted-user");
    gate.namespace(namespace).await?;
    permit(&gate, namespace, user, &["*"]).await?;
    let flux = KustomizeController::new(&gate, ACCOUNT, &[namespace]).await?;
    let place = object(namespace, "app");
    let app = [(&*place, kustomization(namespace, "app", json!({})))];
    flux.reconcile(&gate, &app).await?;
    let bad = kustomization(namespace, "bad", json!({"suspend": true}));
    let rules = json!({"suspension": {"requireReason": true, "maxDuration": "1h"}});
    gate.policy(namespace, json!({"rules": rules}), &bad).await?;
    let kubectl = gate.site.kubectl_as(user)?;
    let printed = ["gatehouse.dev/suspend-reason=the database moves", "example.com/note=of nobody's"];
    kubectl.run(["annotate", "kustomization", "app", "-n", namespace, printed[0], printed[1]]).await?.ok()?;
    // As `flux suspend` does.
    let patch = "{\"spec\": {\"suspend\": true}}";
    let args = [
        "patch",
        "kustomization",
        "app",
        "-n",
        namespace,
        "--field-manager=flux",
        "--type=merge",
        "-p",
        patch,
    ];
    kubectl.run(args).await?.ok()?;
    let noted = |app: &Value| {
        let annotations = &app["metadata"]["annotations"];
        ["gatehouse.dev/suspend-reason", "fluxcd.controlplane.io/suspendedBy", "gatehouse.dev/suspended-at"]
            .map(|name| annotations[name].as_str().unwrap_or_default().to_owned())
    };
    let is_held =
        |app: &Value| app["metadata"]["managedFields"].to_string().contains("f:gatehouse.dev/suspended-at");
    let before = gate.becomes(&place, KNOWN, is_held).await?;
    ensure!(noted(&before)[0] == "the database moves" && noted(&before)[1] == user, "{before:#}");
    let written = flux.reconcile(&gate, &app).await?;
    ensure!(written == ["app"], "{written:?}");
    let after = gate.get(&place).await?;
    ensure!(
        after["metadata"]["annotations"].get("example.com/note").is_none(),
        "a parent takes away: {after:#}"
    );
    ensure!(after["spec"]["suspend"] == true && noted(&after) == noted(&before), "{after:#}");
    Ok(())
}

async fn blanks(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-blanks";
    gate.namespace(namespace).await?;
    gate.put(&kustomization(namespace, "app", json!({}))).await?;
    let bad = kustomization(namespace, "bad", json!({"suspend": true}));
    gate.policy(namespace, json!({"rules": {"suspension": {"requireReason": true}}}), &bad).await?;
    let kubectl = gate.kubectl()?;
    for (reason, fine) in [("\u{200b}", false), ("\u{3164}\u{2800}", false), ("\u{200b}moving", true)] {
        let patch = json!({
            "metadata": {"annotations": {"gatehouse.dev/suspend-reason": reason}}, "spec": {"suspend": true},
        });
        let patch = patch.to_string();
        let output = kubectl
            .run(["patch", "kustomization", "app", "-n", namespace, "--type=merge", "-p", &patch])
            .await?;
        if fine {
            output.ok()?;
        } else {
            ensure!(output.failed()?.contains("a suspension must say why"), "{reason:?}");
        }
    }
    Ok(())
}
