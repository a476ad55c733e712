//! Quotas hold on every path to them, and give back what was not used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_conformance::kubectl::Output;
use gatehouse_conformance::progress;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::gate::{
    AGONES, Gate, KNOWN, LABEL, POLICY, SIDES, Side, apply, creation, fleet, game_server, quota, with_file,
};
use crate::world::{World, settles};

/// What is not seen to happen is given back after kube-apiserver's request timeout and 15 s.
const GIVEN_BACK: Duration = Duration::from_secs(80);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        // It waits longest.
        world.guarded("gate_quotas::a_create_that_fails_after_admission_is_given_back", given_back),
        world.guarded("gate_quotas::a_denial_reads_like_resource_quotas", denial),
        world.guarded("gate_quotas::scaling_a_fleet_stops_at_the_limit", scale),
        world.guarded("gate_quotas::a_dry_run_is_judged_and_reserves_nothing", dry_run),
        world.guarded("gate_quotas::generated_names_are_counted", generate_name),
        world.guarded("gate_quotas::what_is_deleted_makes_room", delete_and_again),
        world.guarded("gate_quotas::updates_are_charged_what_they_add", updates),
        world.guarded("gate_quotas::what_takes_up_no_more_is_admitted_beyond_the_limit", no_increase),
        world.guarded("gate_quotas::two_quotas_over_a_namespace_both_hold", two_quotas),
        world.guarded("gate_quotas::several_namespaces_share_a_limit", namespaces_share),
        world.guarded("gate_quotas::warn_admits_with_a_warning_and_audit_without", warn_and_audit),
    ]
}

fn fleets(namespace: &str) -> String {
    format!("{AGONES}/namespaces/{namespace}/fleets")
}

fn ledger(name: &str) -> String {
    format!("{POLICY}/quotaledgers/{name}")
}

pub(crate) async fn kubectl_apply(gate: &Gate, object: &Value) -> anyhow::Result<Output> {
    apply(&gate.kubectl()?, Side::Client, std::slice::from_ref(object), &[]).await
}

/// Is admitted as soon as what was deleted or given back is known: a denial waits for that no longer than a second.
pub(crate) async fn admitted_in_time(gate: &Gate, object: &Value, within: Duration) -> anyhow::Result<()> {
    let ask = async || kubectl_apply(gate, object).await;
    settles("there is room again", within, ask, |output| output.code == Some(0)).await?;
    Ok(())
}

pub(crate) async fn used(gate: &Gate, name: &str, key: &str, amount: &str) -> anyhow::Result<()> {
    let path = format!("{POLICY}/tenantquotas/{name}");
    let settled = |quota: &Value| {
        quota["status"]["used"][key] == amount
            && quota["status"]["reserved"]
                .as_object()
                .is_none_or(|reserved| reserved.values().all(|amount| amount == "0"))
    };
    gate.becomes(&path, KNOWN, settled).await.with_context(|| format!("{key} is {amount}"))?;
    Ok(())
}

async fn given_back(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-given-back";
    gate.namespace(namespace).await?;
    refuse_labelled(&gate, namespace).await?;
    gate.quota(namespace, json!({"gameservers": "4"}), &fleet(namespace, "big", 5)).await?;
    let mut doomed = fleet(namespace, "doomed", 3);
    doomed["metadata"]["labels"] = json!({"gate-refuse": "true"});
    let printed = kubectl_apply(&gate, &doomed).await?.failed()?;
    ensure!(printed.contains("failed calling webhook \"gate-given-back.example.org\""), "{printed}");
    let reserved = Instant::now();

    let next = fleet(namespace, "next", 3);
    let printed = kubectl_apply(&gate, &next).await?.failed()?;
    ensure!(printed.contains("exceeded quota"), "what was reserved is held for now: {printed}");
    admitted_in_time(&gate, &next, GIVEN_BACK).await?;
    let after = reserved.elapsed();
    ensure!(after <= GIVEN_BACK, "{after:?}");
    progress::say(format_args!("a reservation that came to nothing was given back after {after:.1?}"));
    Ok(())
}

/// Has kube-apiserver fail to create what has the label, at the same time as it is admitted: by a webhook that nobody
/// serves.
async fn refuse_labelled(gate: &Gate, namespace: &str) -> anyhow::Result<()> {
    let nobody = format!("{namespace}.example.org");
    gate.put(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": nobody},
        "webhooks": [{
            "name": nobody,
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
            // Nothing ever listens on port 1, the TCP port multiplexer's.
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "namespaceSelector": {"matchLabels": {LABEL: namespace}},
            "objectSelector": {"matchLabels": {"gate-refuse": "true"}},
            "rules": [{
                "apiGroups": ["agones.dev"], "apiVersions": ["*"], "operations": ["CREATE"],
                "resources": ["fleets", "gameservers"],
            }],
        }],
    }))
    .await?;
    // Before there is any quota here, nothing is reserved by asking.
    let mut probe = game_server(namespace, "probe");
    probe["metadata"]["labels"] = json!({"gate-refuse": "true"});
    let kubectl = gate.kubectl()?;
    let probe = std::slice::from_ref(&probe);
    let ask = async || with_file(&kubectl, &["create"], probe, &["--dry-run=server"]).await;
    settles("labelled objects are refused", KNOWN, ask, |output| output.code != Some(0)).await?;
    Ok(())
}

async fn denial(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-denial";
    gate.namespace(namespace).await?;
    let hard = json!({"gameservers": "8", "requests.cpu": "4"});
    gate.quota(namespace, hard, &fleet(namespace, "big", 9)).await?;
    kubectl_apply(&gate, &fleet(namespace, "some", 6)).await?.ok()?;
    used(&gate, namespace, "gameservers", "6").await?;
    for side in SIDES {
        let more = fleet(namespace, "more", 5);
        let printed = apply(&gate.kubectl()?, side, &[more], &[]).await?.failed()?;
        for expected in [
            "(Forbidden)",
            "fleets.agones.dev \"more\" is forbidden: exceeded quota: gate-denial",
            "requested: gameservers=5,requests.cpu=2500m",
            "used: gameservers=6,requests.cpu=3",
            "limited: gameservers=8,requests.cpu=4",
        ] {
            ensure!(printed.contains(expected), "{side:?}: not {expected:?}: {printed}");
        }
    }
    let denials = gate
        .metric("gatehouse_quota_decisions_total", &[("quota", namespace), ("outcome", "exceeded")])
        .await?;
    ensure!(denials >= 2.0, "{denials}");
    let path = format!("{POLICY}/tenantquotas/{namespace}");
    gate.becomes(&path, KNOWN, |quota| {
        quota["status"]["denied"].as_i64() >= Some(1) && quota["status"]["lastDenial"]["message"].is_string()
    })
    .await?;
    let events = format!("/api/v1/namespaces/{namespace}/events");
    gate.becomes(&events, KNOWN, |events| events.to_string().contains("exceeded quota: gate-denial")).await?;
    Ok(())
}

async fn scale(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-scale";
    gate.namespace(namespace).await?;
    gate.quota(
        namespace,
        json!({"gameservers": "10", "requests.memory": "4Gi"}),
        &fleet(namespace, "big", 11),
    )
    .await?;
    gate.put(&fleet(namespace, "f", 2)).await?;
    let kubectl = gate.kubectl()?;
    let scale = async |replicas: &str| {
        kubectl.run(["scale", "fleet/f", "-n", namespace, "--replicas", replicas]).await
    };
    scale("8").await?.ok()?;
    // Within the servers' number, and beyond their memory: the template is looked up for it.
    let printed = scale("9").await?.failed()?;
    ensure!(printed.contains("exceeded quota: gate-scale, requested: requests.memory="), "{printed}");
    let printed = scale("11").await?.failed()?;
    ensure!(printed.contains("gameservers=3"), "{printed}");
    scale("1").await?.ok()?;
    let again = async || scale("8").await;
    settles("what was scaled down makes room", KNOWN, again, |output| output.code == Some(0)).await?;
    used(&gate, namespace, "gameservers", "8").await
}

async fn dry_run(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-dry-run";
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"gameservers": "3"}), &fleet(namespace, "big", 4)).await?;
    let before = gate.get(&ledger(namespace)).await?;
    let kubectl = gate.kubectl()?;
    for side in SIDES {
        apply(&kubectl, side, &[fleet(namespace, "f", 3)], &["--dry-run=server"]).await?.ok()?;
        let printed =
            apply(&kubectl, side, &[fleet(namespace, "f", 4)], &["--dry-run=server"]).await?.failed()?;
        ensure!(printed.contains("exceeded quota"), "{side:?}: {printed}");
    }
    let after = gate.get(&ledger(namespace)).await?;
    ensure!(before["spec"]["entries"] == after["spec"]["entries"], "{before:#} became {after:#}");
    ensure!(before["spec"]["used"] == after["spec"]["used"], "{before:#} became {after:#}");
    kubectl_apply(&gate, &fleet(namespace, "f", 3)).await?.ok()?;
    Ok(())
}

async fn generate_name(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-generate-name";
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"gameservers": "2"}), &fleet(namespace, "big", 3)).await?;
    let mut object = game_server(namespace, "");
    object["metadata"] = json!({"namespace": namespace, "generateName": "g-"});
    let kubectl = gate.kubectl()?;
    let create = async || with_file(&kubectl, &["create"], std::slice::from_ref(&object), &[]).await;
    create().await?.ok()?;
    create().await?.ok()?;
    let printed = create().await?.failed()?;
    ensure!(
        printed.contains("exceeded quota: gate-generate-name, requested: gameservers=1, used: gameservers=2"),
        "{printed}"
    );
    Ok(())
}

async fn delete_and_again(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-again";
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"gameservers": "3"}), &fleet(namespace, "big", 4)).await?;
    for _ in 0..3 {
        admitted_in_time(&gate, &fleet(namespace, "f", 3), KNOWN).await?;
        let printed = kubectl_apply(&gate, &fleet(namespace, "g", 1)).await?.failed()?;
        ensure!(printed.contains("exceeded quota"), "{printed}");
        gate.delete(&format!("{}/f", fleets(namespace))).await?;
    }
    used(&gate, namespace, "gameservers", "0").await
}

async fn updates(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-update";
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"requests.cpu": "4"}), &fleet(namespace, "big", 9)).await?;
    let kubectl = gate.kubectl()?;
    for side in SIDES {
        let f = |replicas| fleet(namespace, if side == Side::Client { "f" } else { "s" }, replicas);
        apply(&kubectl, side, &[f(2)], &[]).await?.ok()?;
        apply(&kubectl, side, &[f(4)], &[]).await?.ok()?;
        let printed = apply(&kubectl, side, &[f(9)], &[]).await?.failed()?;
        ensure!(printed.contains("requested: requests.cpu=2500m"), "{side:?}: {printed}");
    }
    used(&gate, namespace, "requests.cpu", "4").await
}

async fn no_increase(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-over";
    gate.namespace(namespace).await?;
    // More than there will be room for.
    gate.put(&fleet(namespace, "f", 6)).await?;
    gate.quota(namespace, json!({"gameservers": "4"}), &fleet(namespace, "big", 1)).await?;
    let path = format!("{POLICY}/tenantquotas/{namespace}");
    gate.becomes(&path, KNOWN, |quota| quota["status"]["overcommit"]["gameservers"] == "2").await?;
    let kubectl = gate.kubectl()?;
    kubectl.run(["label", "fleet/f", "-n", namespace, "a=b"]).await?.ok()?;
    apply(&kubectl, Side::Server, &[fleet(namespace, "f", 6)], &["--dry-run=server", "--force-conflicts"])
        .await?
        .ok()?;
    kubectl.run(["scale", "fleet/f", "-n", namespace, "--replicas=5"]).await?.ok()?;
    let printed = kubectl.run(["scale", "fleet/f", "-n", namespace, "--replicas=6"]).await?.failed()?;
    ensure!(printed.contains("exceeded quota"), "{printed}");
    Ok(())
}

async fn two_quotas(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-two-quotas";
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"gameservers": "5"}), &fleet(namespace, "big", 6)).await?;
    let mut second = quota(namespace, json!({"gameservers": "3", "requests.cpu": "9"}));
    second["metadata"]["name"] = json!("gate-two-quotas-second");
    gate.put(&second).await?;
    gate.until_refused("/quota", namespace, &fleet(namespace, "big", 4)).await?;
    let printed = kubectl_apply(&gate, &fleet(namespace, "f", 4)).await?.failed()?;
    ensure!(printed.contains("exceeded quota: gate-two-quotas-second"), "{printed}");
    // What the first had promised before the second refused is withdrawn.
    kubectl_apply(&gate, &fleet(namespace, "f", 3)).await?.ok()?;
    gate.put(&{
        let mut wider = second.clone();
        wider["spec"]["hard"]["gameservers"] = json!("30");
        wider
    })
    .await?;
    gate.until_admitted("/quota", namespace, &fleet(namespace, "g", 2)).await?;
    kubectl_apply(&gate, &fleet(namespace, "g", 2)).await?.ok()?;
    let printed = kubectl_apply(&gate, &fleet(namespace, "h", 1)).await?.failed()?;
    ensure!(printed.contains("exceeded quota: gate-two-quotas,"), "{printed}");
    Ok(())
}

async fn namespaces_share(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (one, two) = ("gate-share-1", "gate-share-2");
    for name in [one, two] {
        let metadata = json!({"name": name, "labels": {LABEL: "gate-share"}});
        gate.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await?;
    }
    gate.put(&quota("gate-share", json!({"gameservers": "4"}))).await?;
    gate.until_refused("/quota", two, &fleet(two, "big", 5)).await?;
    kubectl_apply(&gate, &fleet(one, "f", 3)).await?.ok()?;
    let printed = kubectl_apply(&gate, &fleet(two, "f", 2)).await?.failed()?;
    ensure!(
        printed.contains("requested: gameservers=2, used: gameservers=3, limited: gameservers=4"),
        "{printed}"
    );
    kubectl_apply(&gate, &fleet(two, "f", 1)).await?.ok()?;
    let path = format!("{POLICY}/tenantquotas/gate-share");
    gate.becomes(&path, KNOWN, |quota| {
        quota["status"]["namespaces"] == 2 && quota["status"]["used"]["gameservers"] == "4"
    })
    .await?;
    Ok(())
}

async fn warn_and_audit(gate: Arc<Gate>) -> anyhow::Result<()> {
    for (namespace, enforcement) in [("gate-quota-warn", "Warn"), ("gate-quota-audit", "Audit")] {
        gate.namespace(namespace).await?;
        let mut object = quota(namespace, json!({"gameservers": "1"}));
        object["spec"]["enforcement"] = json!(enforcement);
        gate.put(&object).await?;
        let big = fleet(namespace, "big", 2);
        let outcome = enforcement.to_lowercase();
        let review = creation(namespace, &big);
        for replica in &gate.replicas {
            let ask = || replica.post("/quota", &review);
            settles("the quota is known", KNOWN, ask, |answer| {
                let response = &answer.body["response"];
                response["allowed"] == true && response["auditAnnotations"].to_string().contains(namespace)
            })
            .await?;
        }
        let output = kubectl_apply(&gate, &big).await?;
        let warned = output.stderr.contains("exceeded quota: gate-quota-warn");
        ensure!(warned == (enforcement == "Warn"), "{outcome}: {output:?}");
        output.ok()?;
        let path = format!("{POLICY}/tenantquotas/{namespace}");
        gate.becomes(&path, KNOWN, |quota| quota["status"]["overcommit"]["gameservers"] == "1").await?;
    }
    Ok(())
}
