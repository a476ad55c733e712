//! Freezes as Flux meets them: what it writes is held, what it makes is suspended, and nobody else waits for that.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::flux::{ACCOUNT, KustomizeController, drifts, permit};
use crate::gate::{AGONES, Gate, KNOWN, POLICY, SIDES, apply, fleet, kustomization};
use crate::gate_freezes::{frozen, object};
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_held::a_parent_goes_on_beside_a_frozen_tenant", parent),
        world.guarded("gate_held::a_tenants_account_is_held_by_its_field_manager", tenant),
        world.guarded("gate_held::what_an_exempt_person_resumes_stays_resumed", exempt),
        world.guarded("gate_held::what_is_held_is_neither_deleted_nor_given_an_owner", deletion),
        world.guarded("gate_held::a_namespace_that_is_going_is_let_go", going),
        world.guarded("gate_held::nobody_forges_what_gatehouse_holds", forged),
        world.guarded("gate_held::nobody_takes_away_what_gatehouse_knows_its_own_by", emptied),
        world.guarded("gate_held::what_was_disabled_before_a_freeze_stays_so", disabled_before),
    ]
}

const SOURCE: &str = "/apis/source.toolkit.fluxcd.io/v1";
const OPERATOR: &str = "/apis/fluxcd.controlplane.io/v1";

fn repository(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"interval": "10m", "url": "https://example.com/org/repository"},
    })
}

fn resource_set(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "fluxcd.controlplane.io/v1", "kind": "ResourceSet",
        "metadata": {"namespace": namespace, "name": name}, "spec": {"resourcesTemplate": ""},
    })
}

/// Freezes a namespace; a Kustomization `app` in it is suspended when this returns.
async fn freeze(gate: &Gate, namespace: &str, spec: Value) -> anyhow::Result<()> {
    gate.put(&kustomization(namespace, "app", json!({}))).await?;
    let mut spec = spec;
    spec["rules"] = frozen();
    gate.policy(namespace, spec, &kustomization(namespace, "refused", json!({}))).await?;
    gate.becomes(&object(namespace, "app"), KNOWN, |app| app["spec"]["suspend"] == true).await?;
    Ok(())
}

async fn thaw(gate: &Gate, namespace: &str) -> anyhow::Result<()> {
    gate.delete(&format!("{POLICY}/reconcilepolicies/{namespace}")).await?;
    gate.until_admitted("/validate", namespace, &kustomization(namespace, "refused", json!({}))).await
}

async fn parent(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, free) = ("gate-held", "gate-held-free");
    for name in [namespace, free] {
        gate.namespace(name).await?;
    }
    let flux = KustomizeController::new(&gate, ACCOUNT, &[namespace, free]).await?;
    let fleet_path = format!("{AGONES}/namespaces/{namespace}/fleets/f");
    let first = [
        (&*object(namespace, "app"), kustomization(namespace, "app", json!({}))),
        (&*object(free, "app"), kustomization(free, "app", json!({}))),
        (&*fleet_path, fleet(namespace, "f", 1)),
    ];
    flux.reconcile(&gate, &first).await?;
    freeze(&gate, namespace, json!({})).await?;
    let before = gate.get(&object(namespace, "app")).await?;

    // A commit that changes something of everybody, and brings something new.
    let mut labelled = kustomization(namespace, "app", json!({"path": "./next", "suspend": false}));
    labelled["metadata"]["labels"] = json!({"commit": "next"});
    let repository_path = format!("{SOURCE}/namespaces/{namespace}/gitrepositories/new");
    let new_fleet = format!("{AGONES}/namespaces/{namespace}/fleets/new");
    let set_path = format!("{OPERATOR}/namespaces/{namespace}/resourcesets/new");
    let next = [
        (&*object(namespace, "app"), labelled),
        (&*object(free, "app"), kustomization(free, "app", json!({"path": "./next"}))),
        (&*fleet_path, fleet(namespace, "f", 5)),
        (&*object(namespace, "new"), kustomization(namespace, "new", json!({}))),
        (&*repository_path, repository(namespace, "new")),
        (&*set_path, resource_set(namespace, "new")),
        (&*new_fleet, fleet(namespace, "new", 3)),
    ];
    let after = flux.dry_run(&next[0].1).await?;
    ensure!(!drifts(&before, &after), "{before:#}\nwould become\n{after:#}");
    let written = flux.reconcile(&gate, &next).await?;
    ensure!(written == ["app", "new", "new", "new", "new"], "{written:?}");
    ensure!(gate.get(&object(free, "app")).await?["spec"]["path"] == "./next");
    let app = gate.get(&object(namespace, "app")).await?;
    ensure!(app["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"], "{app:#}");
    ensure!(gate.get(&fleet_path).await?["spec"]["replicas"] == 1);
    let new = gate.get(&object(namespace, "new")).await?;
    ensure!(new["spec"]["suspend"] == true, "{new:#}");
    ensure!(new["metadata"]["annotations"]["gatehouse.dev/frozen-by"] == "gate-held/release", "{new:#}");
    ensure!(gate.get(&repository_path).await?["spec"]["suspend"] == true);
    let set = gate.get(&set_path).await?;
    ensure!(set["metadata"]["annotations"]["fluxcd.controlplane.io/reconcile"] == "disabled", "{set:#}");
    ensure!(gate.get(&new_fleet).await?["spec"]["replicas"] == 0);
    // The next reconciliation finds nothing to do.
    let written = flux.reconcile(&gate, &next).await?;
    ensure!(written.is_empty(), "{written:?}");
    // It reports on what is held as ever.
    flux.report("kustomization", namespace, "app", &json!({"lastHandledReconcileAt": "now"})).await?;
    let app = gate.get(&object(namespace, "app")).await?;
    ensure!(app["status"]["lastHandledReconcileAt"] == "now" && app["spec"]["suspend"] == true, "{app:#}");
    // What it prunes waits, and says so.
    let printed = flux.prune("kustomization", namespace, "app").await?.failed()?;
    ensure!(printed.contains("nothing may change during the freeze"), "{printed}");

    thaw(&gate, namespace).await?;
    for path in [&*object(namespace, "app"), &*object(namespace, "new"), &*repository_path] {
        let let_go = |now: &Value| {
            now["spec"].get("suspend").is_none()
                && !now["metadata"]["annotations"].to_string().contains("frozen-by")
        };
        gate.becomes(path, KNOWN, let_go).await?;
    }
    let let_go = |now: &Value| !now["metadata"]["annotations"].to_string().contains("disabled");
    gate.becomes(&set_path, KNOWN, let_go).await?;
    let written = flux.reconcile(&gate, &next).await?;
    ensure!(written == ["app", "f", "new"], "what was held comes now: {written:?}");
    let app = gate.get(&object(namespace, "app")).await?;
    ensure!(app["spec"]["path"] == "./next" && app["metadata"]["labels"]["commit"] == "next", "{app:#}");
    ensure!(gate.get(&fleet_path).await?["spec"]["replicas"] == 5);
    ensure!(gate.get(&new_fleet).await?["spec"]["replicas"] == 3);
    Ok(())
}

async fn tenant(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-held-tenant";
    gate.namespace(namespace).await?;
    let account = "system:serviceaccount:gate-held-tenant:flux";
    let flux = KustomizeController::new(&gate, account, &[namespace]).await?;
    freeze(&gate, namespace, json!({})).await?;
    let before = gate.get(&object(namespace, "app")).await?;
    let after = flux.dry_run(&kustomization(namespace, "app", json!({"path": "./next"}))).await?;
    ensure!(!drifts(&before, &after), "{after:#}");
    // Under another name it is somebody's script, and refused.
    let next = kustomization(namespace, "app", json!({"path": "./next"}));
    let script = gate.site.kubectl_as(account)?;
    let printed = apply(&script, SIDES[0], &[next], &[]).await?.failed()?;
    ensure!(printed.contains("nothing may change during the freeze"), "{printed}");
    Ok(())
}

async fn exempt(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("gate-held-exempt", "gate-held-exempt-user");
    gate.namespace(namespace).await?;
    permit(&gate, namespace, user, &["*"]).await?;
    gate.put(&kustomization(namespace, "other", json!({}))).await?;
    freeze(&gate, namespace, json!({"exempt": {"users": [user]}})).await?;
    gate.becomes(&object(namespace, "other"), KNOWN, |other| other["spec"]["suspend"] == true).await?;
    let kubectl = gate.site.kubectl_as(user)?;
    let resume = |name: &'static str| {
        let patch = "{\"spec\": {\"suspend\": false}}";
        ["patch", "kustomization", name, "-n", namespace, "--type=merge", "-p", patch]
    };
    kubectl.run(resume("app")).await?.ok()?;
    apply(&kubectl, SIDES[1], &[kustomization(namespace, "made", json!({}))], &[]).await?.ok()?;
    // It is held by Gatehouse, so that no parent takes it away.
    for name in ["app", "made"] {
        let marked = gate
            .becomes(&object(namespace, name), KNOWN, |app| {
                let fields = app["metadata"]["managedFields"].to_string();
                fields.contains("f:gatehouse.dev/exempt-from") && fields.contains("\"manager\":\"gatehouse\"")
            })
            .await?;
        ensure!(marked["spec"]["suspend"] != true, "{marked:#}");
    }
    let flux = KustomizeController::new(&gate, ACCOUNT, &[namespace]).await?;
    let app = [(&*object(namespace, "app"), kustomization(namespace, "app", json!({})))];
    flux.reconcile(&gate, &app).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for name in ["app", "made"] {
        let now = gate.get(&object(namespace, name)).await?;
        ensure!(now["spec"]["suspend"] != true, "{now:#}");
        ensure!(now["metadata"]["annotations"]["gatehouse.dev/exempt-from"].is_string(), "{now:#}");
    }
    // What they resumed they may delete, and Flux prunes.
    kubectl.run(["delete", "kustomization", "app", "-n", namespace, "--wait=false"]).await?.ok()?;
    let printed =
        kubectl.run(["delete", "kustomization", "other", "-n", namespace, "--wait=false"]).await?.failed()?;
    ensure!(printed.contains("resume it before it is deleted"), "{printed}");
    Ok(())
}

async fn deletion(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-held-deletion";
    gate.namespace(namespace).await?;
    freeze(&gate, namespace, json!({"exempt": {"users": ["gate-held-root"]}})).await?;
    permit(&gate, namespace, "gate-held-root", &["*"]).await?;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "00000000-0000-4000-8000-000000000009"});
    let patch = json!({"metadata": {"ownerReferences": [owner]}}).to_string();
    let root = gate.site.kubectl_as("gate-held-root")?;
    for (kubectl, expected) in [(gate.kubectl()?, "nothing may change"), (root, "is suspended by the freeze")]
    {
        let printed = kubectl
            .run(["delete", "kustomization", "app", "-n", namespace, "--wait=false"])
            .await?
            .failed()?;
        ensure!(printed.contains(expected), "{printed}");
        let args = ["patch", "kustomization", "app", "-n", namespace, "--type=merge", "-p", &patch];
        let printed = kubectl.run(args).await?.failed()?;
        ensure!(printed.contains(expected), "{printed}");
    }
    // An owner that Flux would add is left out.
    let flux = KustomizeController::new(&gate, ACCOUNT, &[namespace]).await?;
    let mut adopted = kustomization(namespace, "app", json!({}));
    adopted["metadata"]["ownerReferences"] = json!([owner]);
    let after = flux.dry_run(&adopted).await?;
    ensure!(after["metadata"].get("ownerReferences").is_none(), "{after:#}");
    // Over a namespace's objects, its controller decides.
    let cleaner = "system:serviceaccount:kube-system:namespace-controller";
    permit(&gate, namespace, cleaner, &["*"]).await?;
    let cleaner = gate.site.kubectl_as(cleaner)?;
    cleaner.run(["delete", "kustomization", "app", "-n", namespace, "--wait=false"]).await?.ok()?;
    Ok(())
}

async fn going(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-held-going";
    gate.namespace(namespace).await?;
    freeze(&gate, namespace, json!({})).await?;
    // Nobody empties it here: it stays as it is between the deletion and the namespace controller's coming.
    gate.delete(&format!("/api/v1/namespaces/{namespace}")).await?;
    gate.becomes(&object(namespace, "app"), KNOWN, |app| app["spec"].get("suspend").is_none()).await?;
    Ok(())
}

async fn forged(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("gate-held-forged", "gate-held-forger");
    gate.namespace(namespace).await?;
    permit(&gate, namespace, user, &["*"]).await?;
    gate.put(&kustomization(namespace, "mine", json!({"suspend": true}))).await?;
    freeze(&gate, namespace, json!({})).await?;
    thaw(&gate, namespace).await?;
    let kubectl = gate.site.kubectl_as(user)?;
    let entry = json!({
        "manager": "gatehouse", "operation": "Apply", "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:annotations": {"f:gatehouse.dev/frozen-by": {}}}, "f:spec": {"f:suspend": {}}},
    });
    let fields = json!([{"op": "add", "path": "/metadata/managedFields/-", "value": entry}]).to_string();
    let on = ["kustomization", "mine", "-n", namespace];
    let mark = "gatehouse.dev/frozen-by=gate-held-forged/release";
    let attempts: [(&str, Vec<&str>); 4] = [
        ("is reserved for Gatehouse and must not be changed", [&["annotate"][..], &on, &[mark]].concat()),
        (
            "is reserved for Gatehouse: use another field manager",
            [&["patch"][..], &on, &["--type=json", "-p", &fields]].concat(),
        ),
        (
            "is reserved for Gatehouse: use another field manager",
            [&["annotate"][..], &on, &["--field-manager=gatehouse", "a=b"]].concat(),
        ),
        (
            "is reserved for Gatehouse and must not be changed",
            [&["annotate"][..], &on, &["gatehouse.dev/exempt-from=x"]].concat(),
        ),
    ];
    for (expected, args) in attempts {
        let printed = kubectl.run(&args).await?.failed()?;
        ensure!(printed.contains(expected), "{args:?}: {printed}");
    }
    let mut with = kustomization(namespace, "made", json!({"suspend": true}));
    with["metadata"]["annotations"] = json!({"gatehouse.dev/frozen-by": "gate-held-forged/release"});
    for side in SIDES {
        let printed = apply(&kubectl, side, std::slice::from_ref(&with), &[]).await?.failed()?;
        ensure!(printed.contains("is reserved for Gatehouse and must not be changed"), "{printed}");
    }
    let printed = apply(
        &kubectl,
        SIDES[1],
        &[kustomization(namespace, "made", json!({}))],
        &["--field-manager=gatehouse"],
    )
    .await?
    .failed()?;
    ensure!(printed.contains("is reserved for Gatehouse: use another field manager"), "{printed}");
    // What stands in Git by mistake is left out, and stops no parent.
    let flux = KustomizeController::new(&gate, ACCOUNT, &[namespace]).await?;
    flux.reconcile(&gate, &[(&*object(namespace, "made"), with)]).await?;
    let made = gate.get(&object(namespace, "made")).await?;
    ensure!(made["metadata"]["annotations"].get("gatehouse.dev/frozen-by").is_none(), "{made:#}");
    ensure!(gate.get(&object(namespace, "mine")).await?["spec"]["suspend"] == true);
    Ok(())
}

async fn emptied(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("gate-held-emptied", "gate-held-emptier");
    gate.namespace(namespace).await?;
    permit(&gate, namespace, user, &["*"]).await?;
    freeze(&gate, namespace, json!({})).await?;
    let kubectl = gate.site.kubectl_as(user)?;
    let patched = async |kind: &str, body: Value| {
        let body = body.to_string();
        kubectl.run(["patch", "kustomization", "app", "-n", namespace, kind, "-p", &body]).await
    };
    let app = gate.get(&object(namespace, "app")).await?;
    let entries = app["metadata"]["managedFields"].as_array().into_iter().flatten();
    let others: Vec<&Value> = entries.filter(|entry| entry["manager"] != "gatehouse").collect();
    for (kind, body) in [
        ("--type=merge", json!({"metadata": {"managedFields": [{}]}})),
        ("--type=merge", json!({"metadata": {"managedFields": others}})),
        ("--type=json", json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}])),
    ] {
        let printed = patched(kind, body).await?.failed()?;
        ensure!(printed.contains("metadata.managedFields") && printed.contains("leave them"), "{printed}");
    }
    thaw(&gate, namespace).await?;
    let is_let_go = |app: &Value| {
        app["spec"].get("suspend").is_none() && !app["metadata"].to_string().contains("frozen-by")
    };
    gate.becomes(&object(namespace, "app"), KNOWN, is_let_go).await?;
    patched("--type=merge", json!({"metadata": {"managedFields": [{}]}})).await?.ok()?;
    Ok(())
}

async fn disabled_before(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-held-disabled";
    gate.namespace(namespace).await?;
    let mut set = resource_set(namespace, "set");
    set["metadata"]["annotations"] = json!({"fluxcd.controlplane.io/reconcile": "Disabled"});
    gate.put(&set).await?;
    gate.put(&resource_set(namespace, "on")).await?;
    freeze(&gate, namespace, json!({})).await?;
    let path = |name: &str| format!("{OPERATOR}/namespaces/{namespace}/resourcesets/{name}");
    let word = |set: &Value| set["metadata"]["annotations"]["fluxcd.controlplane.io/reconcile"].clone();
    gate.becomes(&path("on"), KNOWN, |set| word(set) == "disabled").await?;
    thaw(&gate, namespace).await?;
    gate.becomes(&path("on"), KNOWN, |set| word(set).is_null()).await?;
    let set = gate.get(&path("set")).await?;
    ensure!(word(&set) == "Disabled", "{set:#}");
    ensure!(set["metadata"]["annotations"].get("gatehouse.dev/frozen-by").is_none(), "{set:#}");
    Ok(())
}
