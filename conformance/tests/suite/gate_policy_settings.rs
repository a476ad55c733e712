//! Exemptions, rules for some kinds, enforcement by rule, and parameters, through kubectl.

use std::sync::Arc;

use anyhow::ensure;
use http::StatusCode;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::gate::{
    Gate, KNOWN, KUSTOMIZE, LABEL, POLICY, Side, apply, config_map, kustomization, merge, policy,
};
use crate::gate_policies::allow;
use crate::world::{World, settles};

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_policy_settings::a_label_exempts_by_right_alone", exempt),
        world.guarded("gate_policy_settings::rules_are_enforced_one_by_one", enforced),
        world.guarded("gate_policy_settings::parameters_take_effect_and_are_missed", parameters),
        world.guarded("gate_policy_settings::the_namespace_is_seen_as_it_is", namespaces),
        world.guarded("gate_policy_settings::what_cannot_work_is_refused_by_field", refused),
    ]
}

fn labelled(namespace: &str, name: &str, fields: Value) -> Value {
    let mut object = kustomization(namespace, name, fields);
    object["metadata"]["labels"] = json!({"example.com/legacy": "true"});
    object
}

async fn exempt(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-exempt-objects";
    gate.namespace(namespace).await?;
    allow(&gate, namespace, "tenant", &["*"]).await?;
    let bad = kustomization(namespace, "bad", json!({"prune": false}));
    let selector = json!({"matchLabels": {"example.com/legacy": "true"}});
    let objects = json!([{"labelSelector": selector}, {"namespaces": [namespace], "names": ["known-*"]}]);
    gate.put(&kustomization(namespace, "old", json!({"prune": false}))).await?;
    gate.put(&labelled(namespace, "older", json!({"prune": false}))).await?;
    let spec = json!({"exempt": {"objects": objects}, "rules": {"prune": "Required"}});
    gate.policy(namespace, spec, &bad).await?;

    let tenant = gate.site.kubectl_as("tenant")?;
    let admin = gate.kubectl()?;
    let exempt = labelled(namespace, "exempt", json!({"prune": false}));
    let reported = apply(&tenant, Side::Server, std::slice::from_ref(&exempt), &[]).await?.failed()?;
    let forbidden =
        format!("\"{namespace}\" is forbidden: User \"tenant\" cannot exempt resource \"reconcilepolicies\"");
    ensure!(reported.contains(&forbidden), "{reported}");
    // Nor by labelling alone what is there already; nor may he keep the label beside another fault.
    let reported =
        tenant.run(["label", "kustomization", "old", "-n", namespace, "example.com/legacy=true"]).await?;
    ensure!(reported.failed()?.contains("cannot exempt resource"));
    // An administrator may; then the tenant's changes pass, until the label goes.
    apply(&admin, Side::Server, &[exempt], &[]).await?.ok()?;
    let changed = labelled(namespace, "exempt", json!({"prune": false, "path": "./b"}));
    apply(&tenant, Side::Server, &[changed], &["--force-conflicts"]).await?.ok()?;
    let unlabel = ["label", "kustomization", "exempt", "-n", namespace, "example.com/legacy-"];
    ensure!(tenant.run(unlabel).await?.failed()?.contains("spec.prune: must be true (rule prune)"));
    // The policy itself has chosen these names.
    let known = kustomization(namespace, "known-a", json!({"prune": false}));
    apply(&tenant, Side::Server, &[known], &[]).await?.ok()?;

    let path = format!("{POLICY}/reconcilepolicies/{namespace}");
    let reported = gate.becomes(&path, KNOWN, |policy| policy["status"]["judged"] == 4).await?;
    ensure!(reported["status"]["violations"] == 1, "the old one alone: {:#}", reported["status"]);
    ensure!(reported["status"]["examples"][0]["name"] == "old", "{:#}", reported["status"]);
    Ok(())
}

async fn enforced(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-enforced";
    gate.namespace(namespace).await?;
    let cel = json!([
        {"name": "short", "enforcement": "Warn", "kinds": ["Kustomization"], "fieldPath": "spec.timeout",
         "expression": "object.spec.timeout <= '5m'", "message": "keep it short"},
        {"name": "helm-only", "kinds": ["HelmRelease"], "expression": "false"},
    ]);
    let rules = json!({"prune": "Required", "interval": {"min": "1m"}, "cel": cel});
    let settings = json!([{"rule": "interval", "enforcement": "Audit"}]);
    let denied = kustomization(namespace, "bad", json!({"prune": false}));
    gate.policy(namespace, json!({"rules": rules, "ruleSettings": settings}), &denied).await?;

    let all = kustomization(namespace, "bad", json!({"prune": false, "interval": "1s", "timeout": "10m"}));
    let reported = apply(&gate.kubectl()?, Side::Server, &[all], &[]).await?.failed()?;
    ensure!(
        reported.contains("spec.prune: must be true (rule prune)") && !reported.contains("1s is shorter"),
        "{reported}"
    );
    ensure!(
        reported.contains("Warning: ") && reported.contains("spec.timeout: keep it short (rule short)"),
        "{reported}"
    );
    let some = kustomization(namespace, "some", json!({"interval": "1s", "timeout": "10m"}));
    let objects = format!("{KUSTOMIZE}/namespaces/{namespace}/kustomizations");
    let answer = gate.caller.post(&objects, &some).await?;
    ensure!(answer.code == StatusCode::CREATED, "{answer:#?}");
    ensure!(answer.headers.get_all("warning").iter().count() == 1, "{answer:#?}");
    for (rule, outcome) in [("prune", "denied"), ("short", "warned"), ("interval", "audited")] {
        let labels = [("policy", namespace), ("rule", rule), ("outcome", outcome)];
        let count = gate.metric("gatehouse_policy_decisions_total", &labels).await?;
        ensure!(count >= 1.0, "{rule} {outcome}: {count}");
    }
    let path = format!("{POLICY}/reconcilepolicies/{namespace}");
    let reported = gate.becomes(&path, KNOWN, |policy| policy["status"]["violations"] == 1).await?;
    let expected = json!([
        {"rule": "interval", "violations": 1, "enforcement": "Audit"},
        {"rule": "short", "violations": 1, "enforcement": "Warn"},
    ]);
    ensure!(reported["status"]["rules"] == expected, "{:#}", reported["status"]);
    Ok(())
}

async fn parameters(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-parameters";
    gate.namespace(namespace).await?;
    gate.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gatehouse-system"}}))
        .await?;
    let of = json!({"name": namespace, "namespace": "gatehouse-system"});
    let rules = json!({
        "serviceAccountName": {"allowedFrom": ["accounts"]},
        "cel": [{"name": "paths", "expression": "object.spec.path.startsWith(params.data.root)",
                 "messageExpression": "'the path must begin with ' + params.data.root"}],
    });
    let good = kustomization(namespace, "good", json!({"serviceAccountName": "flux", "path": "./a/b"}));
    // A ConfigMap of a tenant with that name counts for nothing.
    let mut own = config_map(namespace, namespace);
    own["data"] = json!({"accounts": "*", "root": ""});
    gate.put(&own).await?;
    gate.put(&policy(namespace, json!({"paramRef": of, "rules": rules}))).await?;
    let path = format!("{POLICY}/reconcilepolicies/{namespace}");
    let ready = |policy: &Value| {
        let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default()
    };
    let reported = gate.becomes(&path, KNOWN, |policy| ready(policy)["status"] == "False").await?;
    ensure!(ready(&reported)["reason"] == "ParametersMissing", "{reported:#}");
    gate.until_refused("/validate", namespace, &good).await?;
    let objects = format!("{KUSTOMIZE}/namespaces/{namespace}/kustomizations?dryRun=All");
    let refused = async |object: &Value, why: &'static str| {
        let reported = |answer: &crate::caller::Answer| {
            answer.body["message"].as_str().unwrap_or_default().contains(why)
        };
        settles(why, KNOWN, || gate.caller.post(&objects, object), reported).await
    };
    refused(&good, "does not exist").await?;

    let mut map = config_map("gatehouse-system", namespace);
    map["data"] = json!({"accounts": "flux\n", "root": "./a/"});
    gate.put(&map).await?;
    gate.until_admitted("/validate", namespace, &good).await?;
    gate.becomes(&path, KNOWN, |policy| ready(policy)["status"] == "True").await?;
    map["data"] = json!({"accounts": "# nobody\nother-*", "root": "./c/"});
    gate.put(&map).await?;
    refused(&good, "spec.serviceAccountName: flux is not allowed (rule serviceAccountName)").await?;
    refused(&good, "the path must begin with ./c/ (rule paths)").await?;
    gate.delete(&format!("/api/v1/namespaces/gatehouse-system/configmaps/{namespace}")).await?;
    refused(&good, "does not exist").await?;
    Ok(())
}

async fn namespaces(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-namespace-object";
    gate.namespace(namespace).await?;
    let rules = json!({"cel": [{"name": "gold", "expression": "namespaceObject.metadata.?annotations.tier.orValue('') == 'gold'"}]});
    let object = kustomization(namespace, "x", json!({}));
    gate.put(&object).await?;
    gate.policy(namespace, json!({"rules": rules}), &kustomization(namespace, "y", json!({}))).await?;
    let path = format!("{POLICY}/reconcilepolicies/{namespace}");
    gate.becomes(&path, KNOWN, |policy| policy["status"]["violations"] == 1).await?;
    let golden = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": namespace, "labels": {LABEL: namespace}, "annotations": {"tier": "gold"}},
    });
    gate.put(&golden).await?;
    gate.until_admitted("/validate", namespace, &object).await?;
    gate.becomes(&path, KNOWN, |policy| policy["status"]["violations"] == 0).await?;
    // One that was made a moment ago is asked for.
    let at_once = "gate-namespace-at-once";
    let mut new = golden;
    merge(&mut new, json!({"metadata": {"name": at_once}}));
    gate.put(&new).await?;
    let object = kustomization(at_once, "x", json!({}));
    apply(&gate.kubectl()?, Side::Server, &[object], &[]).await?.ok()?;
    Ok(())
}

async fn refused(gate: Arc<Gate>) -> anyhow::Result<()> {
    let path = format!("{POLICY}/reconcilepolicies?dryRun=All");
    for (spec, field) in [
        (json!({"paramRef": {"name": "a", "namespace": "team-a"}}), "spec.paramRef.namespace"),
        (
            json!({"exempt": {"objects": [{"kinds": ["Pod"], "names": ["a"]}]}}),
            "spec.exempt.objects[0].kinds[0]",
        ),
        (json!({"exempt": {"objects": [{}]}}), "spec.exempt.objects[0]"),
        (json!({"rules": {"sources": {}}}), "spec.rules.sources"),
        (json!({"rules": {"ref": {"allowed": ["Nope"]}}}), "spec.rules.ref.allowed[0]"),
        (json!({"rules": {"targetNamespaces": {"alowed": ["a"]}}}), "spec.rules.targetNamespaces"),
        (json!({"ruleSettings": [{"rule": "prune", "enforcement": "Warn"}]}), "spec.ruleSettings[0].rule"),
        (json!({"variables": [{"name": "a", "expression": "nope"}]}), "spec.variables[0].expression"),
    ] {
        let answer = gate.caller.post(&path, &policy("gate-refused-settings", spec.clone())).await?;
        let reported = answer.body["message"].as_str().unwrap_or_default();
        ensure!(
            answer.code == StatusCode::UNPROCESSABLE_ENTITY && reported.contains(field),
            "{spec}: {answer:#?}"
        );
    }
    Ok(())
}
