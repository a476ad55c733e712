//! CEL beside kube-apiserver's own: its ValidatingAdmissionPolicies are given the same expressions, and say the same.
//!
//! The table of expressions is that which a unit test holds the evaluator to (`inventory/src/expression`). Policies only
//! warn, so that one request tells of many expressions; what is refused when it is written is told all at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, ensure};
use http::StatusCode;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::Answer;
use crate::gate::{Gate, KNOWN, KUSTOMIZE, LABEL, POLICY, config_map, kustomization, policy};
use crate::world::{World, settles};

/// `VERDICT | EXPRESSION`, where the verdict may be `KUBERNETES/GATEHOUSE`.
const TABLE: &str = include_str!("../../../inventory/src/expression/conformance.txt");
/// The object that it is about.
const SUBJECT: &str = include_str!("../../../inventory/src/expression/conformance.json");

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const SUBJECTS: &str = "/apis/oracle.example.com/v1/subjects";
/// What tells that a policy is in force.
const HERE: &str = "here";
/// What tells that an expression is false, with its position.
const FAILED: &str = "false is ";
/// Warnings of one answer are cut beyond 4 KiB.
const WARNING: usize = 8;
const HOLDING: usize = 60;
const REFUSED: usize = 60;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_cel_oracle::kube_apiserver_has_the_verdicts_of_the_table", table),
        world.guarded("gate_cel_oracle::variables_messages_params_and_namespaces_are_the_same", side_by_side),
        world.guarded("gate_cel_oracle::both_refuse_and_accept_the_same_when_it_is_written", written),
    ]
}

/// A ValidatingAdmissionPolicy for some resource.
fn native(name: &str, group: &str, resource: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [{
            "apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE"], "resources": [resource],
        }]}},
    });
    crate::gate::merge(&mut object["spec"], spec);
    object
}

fn binding(name: &str, selector: &Value, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Warn"], "matchResources": selector},
    });
    crate::gate::merge(&mut object["spec"], more);
    object
}

/// The texts of an answer's warnings.
fn warnings(answer: &Answer) -> Vec<String> {
    let texts = answer.headers.get_all("warning").iter().filter_map(|value| value.to_str().ok());
    let text = |value: &str| {
        let quoted = value.split_once('"')?.1.strip_suffix('"')?;
        Some(quoted.replace("\\\"", "\"").replace("\\\\", "\\"))
    };
    texts.filter_map(text).collect()
}

async fn table(gate: Arc<Gate>) -> anyhow::Result<()> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut by_verdict: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in lines {
        let (verdict, source) = line.split_once(" | ").with_context(|| line.to_owned())?;
        let verdict = verdict.split_once('/').map_or(verdict, |(kubernetes, _)| kubernetes);
        by_verdict.entry(verdict).or_default().push(source);
    }
    let count: usize = by_verdict.values().map(Vec::len).sum();
    ensure!(count > 1000 && by_verdict.len() == 4, "{count} expressions");
    let mut wrong = Vec::new();
    for batch in by_verdict.remove("refused").unwrap_or_default().chunks(REFUSED) {
        refused(&gate, batch, &mut wrong).await?;
    }
    evaluated(&gate, &by_verdict, &mut wrong).await?;
    ensure!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Each must be among what is wrong with the policy.
async fn refused(gate: &Gate, batch: &[&str], wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let validations: Vec<_> = batch.iter().map(|source| json!({"expression": source})).collect();
    let object = native("cel-refused", "oracle.example.com", "subjects", json!({"validations": validations}));
    let path = format!("{ADMISSION}/validatingadmissionpolicies?dryRun=All");
    let answer = gate.caller.post(&path, &object).await?;
    ensure!(answer.code == StatusCode::UNPROCESSABLE_ENTITY, "{answer:#?}");
    let causes = answer.body["details"]["causes"].as_array().cloned().unwrap_or_default();
    for (index, source) in batch.iter().enumerate() {
        let field = format!("spec.validations[{index}].expression");
        if !causes.iter().any(|cause| cause["field"] == field) {
            wrong.push(format!("refused | {source} (kube-apiserver accepts it)"));
        }
    }
    Ok(())
}

async fn evaluated(
    gate: &Gate,
    by_verdict: &BTreeMap<&str, Vec<&str>>,
    wrong: &mut Vec<String>,
) -> anyhow::Result<()> {
    gate.put(&definition()).await?;
    settles(
        "subjects are served",
        KNOWN,
        || gate.caller.get(SUBJECTS),
        |answer| answer.code == StatusCode::OK,
    )
    .await?;
    let mut batches = Vec::new();
    for (verdict, sources) in by_verdict {
        let size = if *verdict == "true" { HOLDING } else { WARNING };
        batches.extend(sources.chunks(size).map(|sources| (*verdict, sources)));
    }
    for (number, (_, sources)) in batches.iter().enumerate() {
        let name = format!("cel-{number}");
        // Each with a message of its own: what is told twice is told once.
        let message = |index| format!("{FAILED}{index}");
        let validation = |(index, source): (usize, &&str)| json!({"expression": compared(source), "message": message(index)});
        let validations = sources.iter().enumerate().map(validation);
        let first = json!({"expression": "false", "message": HERE});
        let validations: Vec<_> = std::iter::once(first).chain(validations).collect();
        let spec = json!({"validations": validations});
        gate.put(&native(&name, "oracle.example.com", "subjects", spec)).await?;
        let selector = json!({"objectSelector": {"matchLabels": {"batch": &name}}});
        gate.put(&binding(&name, &selector, json!({}))).await?;
    }
    for (number, (verdict, sources)) in batches.iter().enumerate() {
        let name = format!("cel-{number}");
        let mut subject: Value = serde_json::from_str(SUBJECT)?;
        crate::gate::merge(
            &mut subject,
            json!({
                "apiVersion": "oracle.example.com/v1", "kind": "Subject",
                "metadata": {"name": "x", "labels": {"batch": &name}},
            }),
        );
        let path = format!("{SUBJECTS}?dryRun=All");
        let answer =
            settles(name, KNOWN, || gate.caller.post(&path, &subject), |answer| !warnings(answer).is_empty())
                .await?;
        ensure!(answer.code == StatusCode::CREATED, "{answer:#?}");
        let reported = warnings(&answer);
        let failed = reported.iter().filter(|text| text.contains(&format!(": {FAILED}"))).count();
        let errors: Vec<_> = reported.iter().filter(|text| text.contains("' resulted in error: ")).collect();
        let is_error =
            |source: &str| errors.iter().any(|text| text.contains(&format!("'{}'", compared(source))));
        let expected = match *verdict {
            "true" => failed == 0 && errors.is_empty(),
            "false" => failed == sources.len() && errors.is_empty(),
            _ => errors.len() == sources.len() && sources.iter().all(|source| is_error(source)),
        };
        if !expected {
            wrong.push(format!(
                "{verdict} expected of\n  {}\ntold\n  {}",
                sources.join("\n  "),
                reported.join("\n  ")
            ));
        }
    }
    Ok(())
}

/// An expression as a condition, whatever its type: what fails, fails in it too.
fn compared(source: &str) -> String {
    // A comment ends with its line.
    let end = if source.contains(" // ") { "\n" } else { "" };
    format!("dyn({source}{end}) == true")
}

/// Objects that may hold anything.
fn definition() -> Value {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "subjects.oracle.example.com"},
        "spec": {
            "group": "oracle.example.com", "scope": "Cluster",
            "names": {"kind": "Subject", "plural": "subjects", "singular": "subject", "listKind": "SubjectList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": anything},
            }],
        },
    })
}

/// What both are given.
fn shared() -> (Value, Vec<Value>) {
    let variables = json!([
        {"name": "source", "expression": "object.spec.sourceRef"},
        {"name": "full", "expression": "variables.source.kind + '/' + variables.source.name"},
        {"name": "known", "expression": "params.data.known.split(',')"},
        {"name": "tier", "expression": "namespaceObject.metadata.?labels.tier.orValue('none')"},
        {"name": "broken", "expression": "object.spec.nope == 1"},
        {"name": "numbers", "expression": "[1, 2, 3].filter(object, object > 1)"},
    ]);
    let rule = |expression: &str, made: Option<&str>| {
        let mut rule = json!({"expression": expression, "message": format!("plain of {expression}")});
        if let Some(made) = made {
            rule["messageExpression"] = json!(made);
        }
        rule
    };
    let rules = vec![
        rule(
            "variables.full in variables.known",
            Some("variables.full + ' is not among ' + variables.known.join(' or ')"),
        ),
        rule("variables.numbers == [2, 3] && variables.numbers.size() == 2", None),
        rule("variables.tier == 'gold'", Some("'the tier is ' + variables.tier")),
        rule("namespaceObject.metadata.name == object.metadata.namespace", None),
        rule("namespaceObject.metadata.?annotations['team.example.com/owner'].orValue('') == 'jane'", None),
        rule(
            "has(namespaceObject.metadata.labels) && !has(namespaceObject.metadata.deletionTimestamp)",
            None,
        ),
        rule("params.metadata.name == 'shared' && params.metadata.namespace == 'gatehouse-system'", None),
        rule("params.data.size() == 2 && !has(params.binaryData)", None),
        rule("int(params.data.most) >= object.spec.path.size()", Some("'longer than ' + params.data.most")),
        rule("variables.broken || true", None),
        rule("true || variables.broken", None),
        rule("variables.broken", None),
        rule("object.spec.prune && true", Some("'made of ' + object.spec.nope")),
        rule("object.spec.prune == true", Some("''")),
        rule("object.spec.prune != false", Some("'   '")),
        rule("!(object.spec.prune == false)", Some("'two\\nlines'")),
        rule("object.spec.prune in [true]", Some("' ' + string(object.spec.interval) + ' '")),
        rule("[1, 2].all(x, x < 3 && variables.source.kind == 'GitRepository')", None),
        rule("type(variables.numbers) == list && dyn(1) == 1.0", None),
        rule("object.spec.?postBuild.optMap(p, p.size()).orValue(0) == 0", None),
        rule("{'a': 1}.all(k, v, k == 'a' && v == 1) && [1].transformList(i, v, i + v) == [1]", None),
        rule("object.spec.?sourceRef.optFlatMap(s, s.?name).orValue('') == 'fleet'", None),
    ];
    (variables, rules)
}

async fn side_by_side(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-cel-oracle";
    gate.namespace(namespace).await?;
    gate.put(&json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": namespace, "labels": {LABEL: namespace, "tier": "gold"},
            "annotations": {"team.example.com/owner": "jane"},
        },
    }))
    .await?;
    gate.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gatehouse-system"}}))
        .await?;
    let mut map = config_map("gatehouse-system", "shared");
    map["data"] = json!({"known": "GitRepository/fleet,Bucket/b", "most": "10"});
    gate.put(&map).await?;
    let (variables, rules) = shared();
    let here = json!({"expression": "false", "message": HERE});
    let all: Vec<_> = std::iter::once(&here).chain(&rules).collect();
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "variables": &variables, "validations": &all,
    });
    gate.put(&native(namespace, "kustomize.toolkit.fluxcd.io", "kustomizations", spec)).await?;
    let selector = json!({"namespaceSelector": {"matchLabels": {LABEL: namespace}}});
    let of = json!({"name": "shared", "namespace": "gatehouse-system", "parameterNotFoundAction": "Deny"});
    gate.put(&binding(namespace, &selector, json!({"paramRef": of}))).await?;
    let of = json!({"name": "shared", "namespace": "gatehouse-system"});
    let spec = json!({"enforcement": "Warn", "paramRef": of, "variables": variables, "rules": {"cel": all}});
    gate.put(&policy(namespace, spec)).await?;

    let mut compared = 0;
    for fields in [
        json!({}),
        json!({"prune": false, "path": "./much/too/long"}),
        json!({"sourceRef": {"kind": "Bucket", "name": "other"}}),
        json!({"postBuild": {"substitute": {"a": "b"}}, "interval": "1h"}),
    ] {
        let object = kustomization(namespace, "x", fields.clone());
        let path = format!("{KUSTOMIZE}/namespaces/{namespace}/kustomizations?dryRun=All");
        let both = |answer: &Answer| {
            let reported = warnings(answer);
            let reports = |by: &str| reported.iter().any(|text| text.contains(by) && text.contains(HERE));
            reports("ValidatingAdmissionPolicy") && reports("reconcilepolicies")
        };
        let answer = settles("both tell", KNOWN, || gate.caller.post(&path, &object), both).await?;
        let reported = warnings(&answer);
        let native: Vec<_> = reported.iter().filter_map(|text| of_native(text)).collect();
        let ours: Vec<_> = reported.iter().filter_map(|text| of_gatehouse(text, &all)).collect();
        ensure!(native == ours, "{fields}\nkube-apiserver {native:#?}\ngatehouse {ours:#?}\n{reported:#?}");
        compared += native.len();
    }
    ensure!(compared > 15, "{compared} findings compared");

    // Without the ConfigMap, nothing is admitted by either.
    gate.delete("/api/v1/namespaces/gatehouse-system/configmaps/shared").await?;
    let object = kustomization(namespace, "x", json!({}));
    let path = format!("{KUSTOMIZE}/namespaces/{namespace}/kustomizations?dryRun=All");
    let denied = |answer: &Answer| {
        answer.body["message"]
            .as_str()
            .is_some_and(|text| text.contains("no params found for policy binding"))
    };
    settles("kube-apiserver misses it", KNOWN, || gate.caller.post(&path, &object), denied).await?;
    gate.delete(&format!("{ADMISSION}/validatingadmissionpolicybindings/{namespace}")).await?;
    // The rules that need it, and no others.
    let missing = |answer: &Answer| {
        let reported = warnings(answer);
        reported.iter().filter(|text| text.contains("of spec.paramRef does not exist")).count() == 4
    };
    settles("Gatehouse misses it", KNOWN, || gate.caller.post(&path, &object), missing).await?;
    Ok(())
}

/// What kube-apiserver says of one validation; what cannot be evaluated is told by its expression.
fn of_native(text: &str) -> Option<String> {
    let (_, printed) =
        text.strip_prefix("Validation failed for ValidatingAdmissionPolicy ")?.split_once("': ")?;
    Some(
        match printed.strip_prefix("expression '").and_then(|rest| rest.split_once("' resulted in error: ")) {
            Some((expression, _)) => format!("error of {expression}"),
            None => printed.to_owned(),
        },
    )
}

/// What Gatehouse says of one condition, in the same words.
fn of_gatehouse(text: &str, rules: &[&Value]) -> Option<String> {
    let (_, printed) = text.strip_prefix("reconcilepolicies.policy.gatehouse.dev ")?.split_once("\": ")?;
    let (message, rule) = printed.rsplit_once(" (rule cel[")?;
    if !message.contains(": cannot be evaluated: ") {
        return Some(message.to_owned());
    }
    let index: usize = rule.strip_suffix("])")?.parse().ok()?;
    Some(format!("error of {}", rules.get(index)?["expression"].as_str()?))
}

/// Variables, a condition and what makes its message, as they are written.
struct Written {
    variables: Value,
    expression: &'static str,
    message_expression: Option<&'static str>,
    /// Whether there are params.
    has_params: bool,
    is_accepted: bool,
}

async fn written(gate: Arc<Gate>) -> anyhow::Result<()> {
    let one = |variables: Value, expression: &'static str, is_accepted| Written {
        variables,
        expression,
        message_expression: None,
        has_params: false,
        is_accepted,
    };
    let number = || json!([{"name": "a", "expression": "1"}]);
    let cases = [
        one(json!([]), "true", true),
        one(number(), "variables.a == 1", true),
        one(number(), "variables.a == 'x'", false),
        one(number(), "variables.b == 1", false),
        one(number(), "variables['a'] == 1", false),
        one(
            json!([{"name": "b", "expression": "variables.a"}, {"name": "a", "expression": "1"}]),
            "true",
            false,
        ),
        one(
            json!([{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.a + 1"}]),
            "variables.b == 2",
            true,
        ),
        one(json!([{"name": "a", "expression": "variables.a"}]), "true", false),
        one(json!([{"name": "a", "expression": "'x' +"}]), "true", false),
        one(json!([{"name": "a", "expression": "nope"}]), "true", false),
        one(json!([{"name": "a-b", "expression": "1"}]), "true", false),
        one(json!([{"name": "l", "expression": "[1, 2]"}]), "variables.l.all(x, x > 0)", true),
        one(json!([{"name": "l", "expression": "[1, 2]"}]), "variables.l.all(x, x == 'a')", false),
        one(json!([{"name": "o", "expression": "object.spec"}]), "variables.o.path == 'a'", true),
        one(json!([]), "namespaceObject.metadata.name == 'a'", true),
        one(json!([]), "namespaceObject.metadata.labels.a == 'a'", true),
        one(json!([]), "namespaceObject.metadata.labels.a == 1", false),
        one(json!([]), "namespaceObject.metadata.nope == 'a'", false),
        one(json!([]), "namespaceObject.nope == 'a'", false),
        one(json!([]), "params.data.a == 'a'", false),
        Written { has_params: true, ..one(json!([]), "params.data.a == 'a'", true) },
        one(json!([]), "object.spec.prune", false),
        one(json!([]), "1 + 1", false),
        Written { message_expression: Some("'a' + 'b'"), ..one(json!([]), "true", true) },
        Written { message_expression: Some("string(object.spec.path)"), ..one(json!([]), "true", true) },
        Written { message_expression: Some("object.spec.path"), ..one(json!([]), "true", false) },
        Written { message_expression: Some("1"), ..one(json!([]), "true", false) },
        Written { message_expression: Some("'a' +"), ..one(json!([]), "true", false) },
        Written { message_expression: Some("string(variables.a)"), ..one(number(), "true", true) },
    ];
    let mut wrong = Vec::new();
    for Written { variables, expression, message_expression, has_params, is_accepted } in cases {
        let mut rule = json!({"expression": expression, "message": "m"});
        if let Some(made) = message_expression {
            rule["messageExpression"] = json!(made);
        }
        let mut spec = json!({"variables": &variables, "validations": [&rule]});
        let mut own = json!({"variables": &variables, "rules": {"cel": [&rule]}});
        if has_params {
            spec["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"});
            own["paramRef"] = json!({"name": "shared", "namespace": "gatehouse-system"});
        }
        let native = native("cel-written", "kustomize.toolkit.fluxcd.io", "kustomizations", spec);
        let path = format!("{ADMISSION}/validatingadmissionpolicies?dryRun=All");
        let theirs = gate.caller.post(&path, &native).await?;
        let path = format!("{POLICY}/reconcilepolicies?dryRun=All");
        let ours = gate.caller.post(&path, &policy("cel-written", own)).await?;
        let codes = [theirs.code, ours.code].map(|code| code == StatusCode::CREATED);
        if codes != [is_accepted; 2] {
            wrong.push(format!(
                "{variables} {rule}: accepted {codes:?}\n  {}\n  {}",
                theirs.body["message"], ours.body["message"]
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
