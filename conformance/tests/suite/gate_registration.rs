//! How the webhooks are registered, and what their account may do.

use std::sync::Arc;

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::webhook_account::USER;
use gatehouse_apiservice::registration::webhooks::{Address, COUNTS_NAME};
use gatehouse_conformance::webhooks::configurations;
use http::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::gate::{Gate, KNOWN, POLICY, config_map, fleet, game_server, quota};
use crate::gate_quotas::used;
use crate::site::Site;
use crate::world::World;

const REGISTRATIONS: &str = "/apis/admissionregistration.k8s.io/v1";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("gate_registration::nothing_is_left_to_the_api_servers_defaults", no_defaults),
        world.guarded("gate_registration::the_account_may_register_counts_and_nothing_else", account),
        world.guarded("gate_registration::what_quotas_count_is_intercepted_as_long_as_they_do", counts),
        world.guarded("gate_registration::what_is_not_served_is_told_by_the_quota", not_served),
        world.guarded("gate_registration::what_would_be_admitted_anyway_is_not_asked_about", not_asked),
    ]
}

/// A tool that compares what it applied with what is there must see no difference.
async fn no_defaults(site: Arc<Site>) -> anyhow::Result<()> {
    let caller = site.caller().await?;
    let service = Address::Service { namespace: "a".to_owned(), name: "b".to_owned(), port: 443 };
    let ca = site.control_plane.client_ca().certificate_pem();
    for address in [service, Address::Url("https://127.0.0.1:1".to_owned())] {
        for mut sent in configurations(address, ca.to_owned()) {
            // Not that of the webhooks that are in force.
            sent["metadata"]["name"] = json!("gatehouse-dry-run");
            let kind = sent["kind"].as_str().context("kind")?.to_lowercase();
            let answer = caller.post(&format!("{REGISTRATIONS}/{kind}s?dryRun=All"), &sent).await?;
            ensure!(answer.code == StatusCode::CREATED, "{answer:#?}");
            ensure!(answer.body["webhooks"] == sent["webhooks"], "{sent:#} became {:#}", answer.body);
        }
    }
    Ok(())
}

/// A policy that would refuse everything does not come to see it; nor a quota, unless somebody else is to pay.
async fn not_asked(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, charged) = ("gate-not-asked", "gate-not-asked-charged");
    gate.namespace(namespace).await?;
    gate.put(&game_server(namespace, "at-work")).await?;
    let refused = game_server(namespace, "refused");
    let nothing = json!([{"expression": "object.metadata.name == ''", "message": "nothing may be"}]);
    gate.policy(namespace, json!({"rules": {"cel": nothing}}), &refused).await?;
    let patch_in = async |namespace: &str, body: Value| {
        let path = format!("/apis/agones.dev/v1/namespaces/{namespace}/gameservers/at-work");
        gate.caller
            .write(&Method::PATCH, &path, "application/merge-patch+json", body.to_string().into())
            .await
    };
    let patch = |body| patch_in(namespace, body);
    patch(json!({"status": {"state": "Ready"}})).await?.ok()?;
    patch(json!({"metadata": {"labels": {"seen": "yes"}}})).await?.ok()?;
    for asked in [
        json!({"spec": {"container": "other"}}),
        json!({"status": {"state": "Allocated"}, "spec": {"scheduling": "Distributed"}}),
    ] {
        let answer = patch(asked.clone()).await?;
        ensure!(!answer.code.is_success(), "{asked:#}: {answer:#?}");
        ensure!(answer.body.to_string().contains("nothing may be"), "{asked:#}: {answer:#?}");
    }

    gate.namespace(charged).await?;
    gate.put(&game_server(charged, "at-work")).await?;
    gate.quota(charged, json!({"gameservers": "5"}), &fleet(charged, "refused", 6)).await?;
    patch_in(charged, json!({"status": {"state": "Ready"}})).await?.ok()?;
    let owner = json!({"apiVersion": "agones.dev/v1", "kind": "GameServerSet", "name": "a", "uid": "a", "controller": true});
    let answer = patch_in(charged, json!({"metadata": {"ownerReferences": [owner]}})).await?;
    ensure!(answer.code == StatusCode::OK, "{answer:#?}");
    // An owner that names it back, and a label alone: it goes on being charged.
    patch_in(charged, json!({"metadata": {"labels": {"agones.dev/gameserverset": "a"}}})).await?.ok()?;
    used(&gate, charged, "gameservers", "1").await?;
    Ok(())
}

async fn account(gate: Arc<Gate>) -> anyhow::Result<()> {
    let control_plane = &gate.site.control_plane;
    let own = Caller::of_kubeconfig(&control_plane.kubeconfig_for(USER, None)?).await?;
    let configuration = |name: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name}, "webhooks": [],
        })
    };
    let apply = async |name: &str| {
        let path = format!(
            "{REGISTRATIONS}/validatingwebhookconfigurations/{name}?fieldManager=gatehouse&force=true&dryRun=All"
        );
        let body = configuration(name).to_string().into_bytes();
        own.write(&Method::PATCH, &path, "application/apply-patch+yaml", body).await
    };
    let made = apply(COUNTS_NAME).await?;
    ensure!(made.code.is_success(), "{made:#?}");
    for name in ["gatehouse", "another"] {
        apply(name).await?.refused(403, "Forbidden").context(name)?;
    }
    for path in ["/api/v1/secrets", "/api/v1/configmaps?watch=true&limit=x", "/apis/apps/v1/replicasets"] {
        let answer = own.get(path).await?;
        // ConfigMaps are counted by trials.
        let expected =
            if path.contains("configmaps") { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN };
        ensure!(answer.code == expected, "{path}: {answer:#?}");
    }
    Ok(())
}

/// Whether the configuration of counts has a rule for a resource of the core group.
fn intercepts(answer: &Value, resource: &str) -> bool {
    let webhooks = answer["webhooks"].as_array().into_iter().flatten();
    let mut rules = webhooks.filter_map(|webhook| webhook["rules"].as_array()).flatten();
    rules.any(|rule| rule["resources"].as_array().is_some_and(|all| all.contains(&json!(resource))))
}

async fn counts(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-counts";
    gate.namespace(namespace).await?;
    let hard = json!({"count/deployments.apps": "1"});
    gate.put(&quota(namespace, hard)).await?;
    let path = format!("{REGISTRATIONS}/validatingwebhookconfigurations/{COUNTS_NAME}");
    let read = async || Ok(gate.caller.get(&path).await?.body);
    let made = crate::world::settles("deployments are intercepted", KNOWN, read, |made| {
        intercepts(made, "deployments")
    })
    .await?;
    let owner = &made["metadata"]["ownerReferences"][0];
    ensure!(owner["name"] == "gatehouse" && owner["kind"] == "ValidatingWebhookConfiguration", "{made:#}");
    ensure!(made["webhooks"][0]["failurePolicy"] == "Fail", "{made:#}");
    gate.becomes(&format!("{POLICY}/tenantquotas/{namespace}"), KNOWN, |quota| ready(quota) == Some("True"))
        .await?;

    gate.delete(&format!("{POLICY}/tenantquotas/{namespace}")).await?;
    crate::world::settles("deployments are let be", KNOWN, read, |made| !intercepts(made, "deployments"))
        .await?;
    Ok(())
}

/// What a quota's Ready condition says.
pub(crate) fn ready(quota: &Value) -> Option<&str> {
    let conditions = quota["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Ready")?["status"].as_str()
}

async fn not_served(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-not-served";
    gate.namespace(namespace).await?;
    gate.put(&quota(namespace, json!({"count/unicorns.example.org": "1"}))).await?;
    let path = format!("{POLICY}/tenantquotas/{namespace}");
    let reported = gate.becomes(&path, KNOWN, |quota| ready(quota) == Some("False")).await?;
    ensure!(reported.to_string().contains("unicorns.example.org"), "{reported:#}");
    // Nothing else suffers from it.
    gate.put(&config_map(namespace, "still-here")).await
}
