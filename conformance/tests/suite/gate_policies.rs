//! Each rule of a policy admits and refuses, through kubectl, and says why.

use std::sync::Arc;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::gate::{
    AGONES, Gate, KUSTOMIZE, SIDES, Side, apply, creation, fleet, kustomization, merge, policy,
};
use crate::world::World;

/// A rule, and what it says to whom.
struct Rule {
    name: &'static str,
    rules: Value,
    /// Stored before anything is judged.
    stored: Vec<Value>,
    good: Vec<Value>,
    /// Each with what must be part of the refusal.
    bad: Vec<(Value, &'static str)>,
}

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    let rules = rules().into_iter().map(|rule| {
        let name = format!("gate_policies::rule_{}_admits_and_refuses", rule.name.replace('-', "_"));
        world.guarded(&name, move |gate| admits_and_refuses(gate, rule))
    });
    let others = [
        world.guarded("gate_policies::warn_admits_with_a_warning", warn),
        world.guarded("gate_policies::audit_admits_and_counts", audit),
        world.guarded("gate_policies::exempt_users_and_groups_are_not_judged", exempt),
        world.guarded("gate_policies::every_policy_over_a_namespace_has_its_say", two_policies),
        world.guarded("gate_policies::scaling_a_fleet_is_judged", scale),
        world.guarded("gate_policies::the_ceiling_of_an_autoscaler_by_counter_is_judged", counter),
        world.guarded("gate_policies::a_dry_run_is_judged_and_what_is_deleted_is_not", dry_run_and_delete),
        world.guarded("gate_policies::what_was_stored_before_is_judged_when_it_changes", updates),
    ];
    rules.chain(others).collect()
}

fn git_repository(namespace: &str, name: &str, url: &str) -> Value {
    json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"interval": "5m", "url": url, "ref": {"branch": "main"}},
    })
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rules() -> Vec<Rule> {
    let rule = |name: &'static str, rules: Value, good: Vec<Value>, bad: Vec<(Value, &'static str)>| Rule {
        name,
        rules,
        stored: Vec::new(),
        good,
        bad,
    };
    let ks = |rule: &str, name: &str, fields: Value| kustomization(&format!("gate-{rule}"), name, fields);
    let depends = |name: &str, on: &str| ks("cycles", name, json!({"dependsOn": [{"name": on}]}));
    let suspended = |name: &str, reason: Option<&str>| {
        let mut object = ks("reason", name, json!({"suspend": true}));
        if let Some(reason) = reason {
            object["metadata"]["annotations"] = json!({"gatehouse.dev/suspend-reason": reason});
        }
        object
    };
    vec![
        rule(
            "interval",
            json!({"interval": {"min": "1m", "max": "1h"}}),
            vec![ks("interval", "good", json!({"interval": "1h"}))],
            vec![
                (ks("interval", "bad", json!({"interval": "5s"})), "spec.interval: 5s is shorter than 1m"),
                (
                    ks("interval", "bad", json!({"interval": "60m1s"})),
                    "spec.interval: 60m1s is longer than 1h",
                ),
            ],
        ),
        rule(
            "account",
            json!({"serviceAccountName": {"required": true, "allowed": ["flux-*"]}}),
            vec![ks("account", "good", json!({"serviceAccountName": "flux-team"}))],
            vec![
                (ks("account", "bad", json!({})), "spec.serviceAccountName: a service account must be named"),
                (ks("account", "bad", json!({"serviceAccountName": "admin"})), "admin is not allowed"),
            ],
        ),
        rule(
            "references",
            json!({"crossNamespaceRefs": "Forbid"}),
            vec![ks("references", "good", json!({"sourceRef": {"namespace": "gate-references"}}))],
            vec![(
                ks("references", "bad", json!({"sourceRef": {"namespace": "flux-system"}})),
                "spec.sourceRef.namespace: refers to flux-system/fleet, in another namespace",
            )],
        ),
        rule(
            "sources",
            json!({"sources": {"allowed": ["https://github.com/my-org/*"]}}),
            vec![git_repository("gate-sources", "good", "https://github.com/my-org/app")],
            vec![
                (git_repository("gate-sources", "bad", "https://github.com/my-org/../other/app"), "spec.url"),
                (
                    git_repository("gate-sources", "bad", "https://github.com.evil.example/my-org/app"),
                    "spec.url",
                ),
                (git_repository("gate-sources", "bad", "https://github.com/my-org-too/app"), "spec.url"),
                (git_repository("gate-sources", "bad", "http://github.com/my-org/app"), "spec.url"),
            ],
        ),
        rule(
            "targets",
            json!({"targetNamespaces": {"allowed": ["team-a-*"]}}),
            vec![ks("targets", "good", json!({"targetNamespace": "team-a-web"}))],
            vec![(
                ks("targets", "bad", json!({"targetNamespace": "kube-system"})),
                "spec.targetNamespace: kube-system is not allowed",
            )],
        ),
        rule(
            "own-target",
            json!({"targetNamespaces": "Own"}),
            vec![ks("own-target", "good", json!({"targetNamespace": "gate-own-target"}))],
            vec![(
                ks("own-target", "bad", json!({"targetNamespace": "team-a-web"})),
                "spec.targetNamespace: team-a-web is not allowed",
            )],
        ),
        rule(
            "prune",
            json!({"prune": "Required"}),
            vec![ks("prune", "good", json!({"prune": true}))],
            vec![(ks("prune", "bad", json!({"prune": false})), "spec.prune: must be true")],
        ),
        Rule {
            stored: vec![depends("a", "b"), depends("b", "c")],
            ..rule(
                "cycles",
                json!({"dependencyCycles": "Forbid"}),
                vec![depends("d", "a")],
                vec![
                    (depends("c", "a"), "spec.dependsOn: closes a cycle: c → a → b → c"),
                    (depends("e", "e"), "closes a cycle: e → e"),
                ],
            )
        },
        rule(
            "reason",
            json!({"suspension": {"requireReason": true}}),
            vec![suspended("good", Some("the database moves"))],
            vec![(suspended("bad", None), "gatehouse.dev/suspend-reason]: a suspension must say why")],
        ),
        rule(
            "replicas",
            json!({"replicas": {"max": 3}}),
            vec![fleet("gate-replicas", "good", 3)],
            vec![(fleet("gate-replicas", "bad", 4), "spec.replicas: 4 is more than 3")],
        ),
        rule(
            "cel",
            json!({"cel": [{"expression": "object.spec.timeout <= '5m'", "message": "keep timeouts short"}]}),
            vec![ks("cel", "good", json!({"timeout": "300s"}))],
            vec![
                (ks("cel", "bad", json!({"timeout": "10m"})), "keep timeouts short (rule cel[0])"),
                (ks("cel", "bad", json!({"timeout": null})), "keep timeouts short"),
            ],
        ),
    ]
}

async fn admits_and_refuses(gate: Arc<Gate>, rule: Rule) -> anyhow::Result<()> {
    let namespace = format!("gate-{}", rule.name);
    gate.namespace(&namespace).await?;
    gate.site.apply(rule.stored).await?;
    gate.policy(&namespace, json!({"rules": rule.rules}), &rule.bad[0].0).await?;
    let kubectl = gate.kubectl()?;
    for side in SIDES {
        for (object, expected) in &rule.bad {
            let printed = apply(&kubectl, side, std::slice::from_ref(object), &[]).await?.failed()?;
            let who = format!("reconcilepolicies.policy.gatehouse.dev \"{namespace}\" denied the request");
            ensure!(
                printed.contains(&who) && printed.contains(expected),
                "{side:?}: not {expected:?}: {printed}"
            );
        }
        for object in &rule.good {
            apply(&kubectl, side, std::slice::from_ref(object), &[]).await?.ok()?;
        }
    }
    Ok(())
}

async fn warn(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-warn";
    gate.namespace(namespace).await?;
    let bad = kustomization(namespace, "bad", json!({"prune": false}));
    gate.put(&policy(namespace, json!({"enforcement": "Warn", "rules": {"prune": "Required"}}))).await?;
    until_said(&gate, namespace, &bad, |answer| {
        answer["warnings"].as_array().is_some_and(|warnings| !warnings.is_empty())
    })
    .await?;
    let kubectl = gate.kubectl()?;
    for (side, name) in [(Side::Client, "client"), (Side::Server, "server")] {
        let bad = kustomization(namespace, name, json!({"prune": false}));
        let output = apply(&kubectl, side, &[bad], &[]).await?;
        let printed = output.stderr.clone();
        output.ok()?;
        ensure!(
            printed.contains("Warning:") && printed.contains("spec.prune: must be true (rule prune)"),
            "{printed}"
        );
    }
    Ok(())
}

async fn audit(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-audit";
    gate.namespace(namespace).await?;
    let bad = kustomization(namespace, "bad", json!({"prune": false}));
    gate.put(&policy(namespace, json!({"enforcement": "Audit", "rules": {"prune": "Required"}}))).await?;
    until_said(&gate, namespace, &bad, |answer| answer["auditAnnotations"]["policy"] == namespace).await?;
    let labels = [("policy", namespace), ("rule", "prune"), ("outcome", "audited")];
    let before = gate.metric("gatehouse_policy_decisions_total", &labels).await?;
    let output = apply(&gate.kubectl()?, Side::Server, &[bad], &[]).await?;
    ensure!(!output.stderr.contains("Warning"), "{output:?}");
    output.ok()?;
    let after = gate.metric("gatehouse_policy_decisions_total", &labels).await?;
    ensure!(after > before, "{before} → {after}");
    Ok(())
}

/// Waits until each replica says to a creation what is wanted; its response is looked at.
async fn until_said(
    gate: &Gate,
    namespace: &str,
    object: &Value,
    wanted: impl Fn(&Value) -> bool,
) -> anyhow::Result<()> {
    let review = creation(namespace, object);
    for replica in &gate.replicas {
        let ask = || replica.post("/validate", &review);
        crate::world::settles("the policy is known", crate::gate::KNOWN, ask, |answer| {
            wanted(&answer.body["response"])
        })
        .await?;
    }
    Ok(())
}

async fn exempt(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-exempt";
    gate.namespace(namespace).await?;
    allow(&gate, namespace, "exempt-user", &["*"]).await?;
    allow(&gate, namespace, "judged-user", &["*"]).await?;
    let bad = kustomization(namespace, "bad", json!({"prune": false}));
    let spec = json!({
        "exempt": {"users": ["exempt-user"], "groups": ["exempt-group"]},
        "rules": {"prune": "Required"},
    });
    gate.policy(namespace, spec, &bad).await?;
    let bad = std::slice::from_ref(&bad);
    let judged = apply(&gate.site.kubectl_as("judged-user")?, Side::Server, bad, &[]).await?;
    ensure!(judged.failed()?.contains("spec.prune: must be true"));
    apply(&gate.site.kubectl_as("exempt-user")?, Side::Server, bad, &[]).await?.ok()?;
    Ok(())
}

/// Lets a user do these verbs on Flux's and Agones' kinds in a namespace.
pub(crate) async fn allow(gate: &Gate, namespace: &str, user: &str, verbs: &[&str]) -> anyhow::Result<()> {
    let named = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": user});
    let metadata = json!({"name": user, "namespace": namespace});
    let groups = ["kustomize.toolkit.fluxcd.io", "source.toolkit.fluxcd.io", "agones.dev"];
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
        "rules": [{"apiGroups": groups, "resources": ["*"], "verbs": verbs}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": named("Role"), "subjects": [named("User")],
    });
    gate.site.apply([role, binding]).await
}

async fn two_policies(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-two-policies";
    gate.namespace(namespace).await?;
    let no_prune = kustomization(namespace, "bad", json!({"prune": false}));
    let long = kustomization(namespace, "bad", json!({"interval": "2h"}));
    gate.policy(namespace, json!({"rules": {"prune": "Required"}}), &no_prune).await?;
    let mut second = policy(namespace, json!({"rules": {"interval": {"max": "1h"}}}));
    second["metadata"]["name"] = json!("gate-two-policies-second");
    gate.put(&second).await?;
    gate.until_refused("/validate", namespace, &long).await?;
    let mut both = no_prune;
    merge(&mut both["spec"], json!({"interval": "2h"}));
    let printed = apply(&gate.kubectl()?, Side::Server, &[both], &[]).await?.failed()?;
    for expected in
        ["\"gate-two-policies\"", "\"gate-two-policies-second\"", "must be true", "2h is longer than 1h"]
    {
        ensure!(printed.contains(expected), "not {expected:?}: {printed}");
    }
    Ok(())
}

async fn scale(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-scale-rule";
    gate.namespace(namespace).await?;
    gate.policy(namespace, json!({"rules": {"replicas": {"max": 3}}}), &fleet(namespace, "f", 4)).await?;
    gate.put(&fleet(namespace, "f", 2)).await?;
    let kubectl = gate.kubectl()?;
    let scale = async |replicas: &str| {
        kubectl.run(["scale", "fleet/f", "-n", namespace, "--replicas", replicas]).await
    };
    scale("3").await?.ok()?;
    let printed = scale("4").await?.failed()?;
    ensure!(printed.contains("spec.replicas: 4 is more than 3 (rule replicas)"), "{printed}");
    let fleet = gate.get(&format!("{AGONES}/namespaces/{namespace}/fleets/f")).await?;
    ensure!(fleet["spec"]["replicas"] == 3, "{fleet:#}");
    Ok(())
}

/// Counters are of each server, so that a capacity is a number of replicas. What the type does not name is not in force.
async fn counter(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-counter-rule";
    gate.namespace(namespace).await?;
    gate.policy(namespace, json!({"rules": {"replicas": {"max": 3}}}), &fleet(namespace, "f", 4)).await?;
    let mut rooms = fleet(namespace, "rooms", 2);
    rooms["spec"]["template"]["spec"]["counters"] = json!({"rooms": {"capacity": 10}});
    gate.put(&rooms).await?;
    let kubectl = gate.kubectl()?;
    let autoscaler = |most: i64| {
        let counter = json!({"key": "rooms", "bufferSize": 5, "minCapacity": 10, "maxCapacity": most});
        json!({
            "apiVersion": "autoscaling.agones.dev/v1", "kind": "FleetAutoscaler",
            "metadata": {"namespace": namespace, "name": "rooms"},
            "spec": {"fleetName": "rooms", "policy": {"type": "Counter", "counter": counter}},
        })
    };
    for side in SIDES {
        let said = apply(&kubectl, side, &[autoscaler(100_000)], &[]).await?.failed()?;
        ensure!(said.contains("100000 are 10000 replicas of the fleet, more than 3"), "{said}");
        apply(&kubectl, side, &[autoscaler(30)], &[]).await?.ok()?;
    }
    Ok(())
}

async fn dry_run_and_delete(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-dry-run-rule";
    gate.namespace(namespace).await?;
    let bad = kustomization(namespace, "bad", json!({"prune": false}));
    gate.put(&bad).await?;
    gate.policy(namespace, json!({"rules": {"prune": "Required"}}), &bad).await?;
    let kubectl = gate.kubectl()?;
    let other = kustomization(namespace, "other", json!({"prune": false}));
    let printed = apply(&kubectl, Side::Server, &[other], &["--dry-run=server"]).await?.failed()?;
    ensure!(printed.contains("spec.prune: must be true"), "{printed}");
    kubectl.run(["delete", "kustomization/bad", "-n", namespace, "--wait=false"]).await?.ok()?;
    Ok(())
}

/// What broke no rule when it was stored is refused when it is changed and still breaks it; its status, labels and
/// finalizers are nobody's business.
async fn updates(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-updates";
    gate.namespace(namespace).await?;
    let bad = kustomization(namespace, "bad", json!({"prune": false}));
    gate.put(&bad).await?;
    gate.policy(namespace, json!({"rules": {"prune": "Required"}}), &bad).await?;
    let kubectl = gate.kubectl()?;
    let change = async |fields: Value| {
        let fields = fields.to_string();
        kubectl.run(["patch", "kustomization/bad", "-n", namespace, "--type=merge", "-p", &fields]).await
    };
    let printed = change(json!({"spec": {"interval": "11m"}})).await?.failed()?;
    ensure!(printed.contains("spec.prune: must be true"), "{printed}");
    let path = format!("{KUSTOMIZE}/namespaces/{namespace}/kustomizations/bad/status");
    let status = json!({"status": {"observedGeneration": 1}}).to_string().into_bytes();
    let reported =
        gate.caller.write(&http::Method::PATCH, &path, "application/merge-patch+json", status).await?;
    ensure!(reported.code.is_success(), "{reported:#?}");
    change(json!({"spec": {"prune": true}})).await?.ok().context("what mends it is admitted")?;
    Ok(())
}
