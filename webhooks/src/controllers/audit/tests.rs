//! After any changes, the incremental audit equals a complete one.

use gatehouse_quota::GroupResource;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::world::testing::Builder;

fn policies() -> GroupResource {
    GroupResource::new("policy.gatehouse.dev", "reconcilepolicies")
}

fn policy(name: &str, generation: i64, selector: Option<&str>, rules: &Value) -> Value {
    let mut object = json!({"apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1", "generation": generation},
        "spec": {"rules": rules}});
    if let Some(tenant) = selector {
        object["spec"]["namespaceSelector"] = json!({"matchLabels": {"tenant": tenant}});
    }
    object
}

fn app(namespace: &str, name: &str, version: usize, interval: &str, on: &[&str]) -> Value {
    let depends_on: Vec<_> = on.iter().map(|name| json!({"name": name})).collect();
    json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
           "metadata": {"name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"),
                        "resourceVersion": version.to_string()},
           "spec": {"interval": interval, "dependsOn": depends_on}})
}

fn audited(audit: &mut Audit, builder: &Builder) {
    audit.update(Arc::new(builder.snapshot()), &|_, _| panic!("nothing is too large to be kept"));
}

/// The violations of a policy as text: `NAME RULE`.
fn found(audit: &Audit, policy: &str) -> Vec<String> {
    let findings = &audit.findings()[policy];
    let all = findings.broken().iter();
    all.flat_map(|(place, violations)| {
        violations.iter().map(move |violation| format!("{} {}", place.key.name, violation.rule))
    })
    .collect()
}

fn short_intervals() -> Value {
    json!({"interval": {"min": "1m"}})
}

#[test]
fn what_exists_is_judged_when_a_policy_comes_and_forgotten_when_it_goes() {
    let (mut builder, mut audit) = (Builder::new(), Audit::default());
    let apps = resource_of(Kind::Kustomization);
    builder.namespace("apps", &[]).apply(apps, &app("apps", "quick", 1, "10s", &[]));
    builder.apply(apps, &app("apps", "slow", 2, "10m", &[]));
    audited(&mut audit, &builder);
    assert!(audit.findings().is_empty());
    builder.apply(&policies(), &policy("strict", 1, None, &short_intervals()));
    audited(&mut audit, &builder);
    assert_eq!(found(&audit, "strict"), ["quick interval"]);
    assert_eq!(audit.findings()["strict"].judged(), 2);
    builder.apply(&policies(), &policy("strict", 2, None, &json!({"interval": {"max": "1m"}})));
    audited(&mut audit, &builder);
    assert_eq!(found(&audit, "strict"), ["slow interval"]);
    builder.delete(&policies(), "", "strict");
    audited(&mut audit, &builder);
    assert!(audit.findings().is_empty());
}

#[test]
fn what_a_policy_holds_back_is_counted_until_it_is_let_go() {
    let (mut builder, mut audit) = (Builder::new(), Audit::default());
    let apps = resource_of(Kind::Kustomization);
    let denied = "Fleet/apps/a dry-run failed (Forbidden): admission webhook \"policies.policy.gatehouse.dev\" denied the \
                  request: reconcilepolicies.policy.gatehouse.dev \"strict\" denied the request: spec: no (rule replicas)";
    let mut write = |audit: &mut Audit, name: &str, version: usize, status: &str, message: &str| {
        let mut object = app("apps", name, version, "10m", &[]);
        object["status"] = json!({"conditions": [{"type": "Ready", "status": status, "message": message}]});
        builder.apply(apps, &object);
        audited(audit, &builder);
        audit.held_back_by("strict")
    };
    assert_eq!(write(&mut audit, "a", 1, "False", denied), 1);
    assert_eq!(write(&mut audit, "b", 2, "False", denied), 2);
    assert_eq!(write(&mut audit, "a", 3, "Unknown", "in progress"), 2, "tried again");
    assert_eq!(write(&mut audit, "a", 4, "False", "build failed"), 1, "it fails for another reason");
    assert_eq!(write(&mut audit, "a", 5, "False", denied), 2);
    assert_eq!(write(&mut audit, "a", 6, "True", "Applied revision"), 1);
    builder.delete(apps, "apps", "b");
    audited(&mut audit, &builder);
    assert_eq!((audit.held_back_by("strict"), audit.held_back_by("lax")), (0, 0));
}

#[test]
fn a_namespace_that_changes_hands_changes_its_judges() {
    let (mut builder, mut audit) = (Builder::new(), Audit::default());
    let apps = resource_of(Kind::Kustomization);
    builder.apply(&policies(), &policy("for-a", 1, Some("a"), &short_intervals()));
    builder.apply(apps, &app("apps", "quick", 1, "10s", &[]));
    audited(&mut audit, &builder);
    assert_eq!(audit.findings()["for-a"].judged(), 0, "its namespace is not known");
    builder.namespace("apps", &[("tenant", "a")]);
    audited(&mut audit, &builder);
    assert_eq!(found(&audit, "for-a"), ["quick interval"]);
    builder.namespace("apps", &[("tenant", "b")]);
    audited(&mut audit, &builder);
    assert_eq!((found(&audit, "for-a").len(), audit.findings()["for-a"].judged()), (0, 0));
}

#[test]
fn a_cycle_that_opens_is_over_for_everybody_in_it() {
    let (mut builder, mut audit) = (Builder::new(), Audit::default());
    let apps = resource_of(Kind::Kustomization);
    builder.namespace("apps", &[]);
    builder.apply(&policies(), &policy("no-cycles", 1, None, &json!({"dependencyCycles": "Forbid"})));
    for (index, (name, on)) in [("a", "b"), ("b", "c"), ("c", "a"), ("d", "e")].into_iter().enumerate() {
        builder.apply(apps, &app("apps", name, index + 1, "10m", &[on]));
    }
    audited(&mut audit, &builder);
    let rule = |name: &str| format!("{name} dependencyCycles");
    assert_eq!(found(&audit, "no-cycles"), [rule("a"), rule("b"), rule("c")]);
    builder.apply(apps, &app("apps", "b", 9, "10m", &[]));
    audited(&mut audit, &builder);
    assert_eq!(found(&audit, "no-cycles"), [""; 0]);
    builder.apply(apps, &app("apps", "b", 10, "10m", &["c"]));
    audited(&mut audit, &builder);
    assert_eq!(found(&audit, "no-cycles").len(), 3);
    builder.delete(apps, "apps", "a");
    audited(&mut audit, &builder);
    assert_eq!(found(&audit, "no-cycles"), [""; 0]);
}

#[derive(Debug, Clone)]
enum Step {
    App { namespace: u8, name: u8, quick: bool, on: Vec<u8> },
    Gone { namespace: u8, name: u8 },
    Namespace { name: u8, tenant: u8 },
    NamespaceGone(u8),
    Policy { name: u8, rules: u8, tenant: Option<u8> },
    PolicyGone(u8),
    Audit,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let small = 0..3u8;
    let step = prop_oneof![
        8 => (0..2u8, 0..4u8, any::<bool>(), prop::collection::vec(0..4u8, 0..3))
            .prop_map(|(namespace, name, quick, on)| Step::App { namespace, name, quick, on }),
        2 => (0..2u8, 0..4u8).prop_map(|(namespace, name)| Step::Gone { namespace, name }),
        2 => (0..2u8, small.clone()).prop_map(|(name, tenant)| Step::Namespace { name, tenant }),
        1 => (0..2u8).prop_map(Step::NamespaceGone),
        2 => (0..2u8, small.clone(), prop::option::of(small))
            .prop_map(|(name, rules, tenant)| Step::Policy { name, rules, tenant }),
        1 => (0..2u8).prop_map(Step::PolicyGone),
        4 => Just(Step::Audit),
    ];
    prop::collection::vec(step, 0..60)
}

fn take(builder: &mut Builder, index: usize, step: &Step) {
    let apps = resource_of(Kind::Kustomization);
    match step {
        Step::App { namespace, name, quick, on } => {
            let on: Vec<String> = on.iter().map(|name| format!("app-{name}")).collect();
            let on: Vec<&str> = on.iter().map(String::as_str).collect();
            let interval = if *quick { "10s" } else { "10m" };
            let (namespace, name) = (format!("ns-{namespace}"), format!("app-{name}"));
            builder.apply(apps, &app(&namespace, &name, index + 1, interval, &on));
        }
        Step::Gone { namespace, name } => {
            builder.delete(apps, &format!("ns-{namespace}"), &format!("app-{name}"));
        }
        Step::Namespace { name, tenant } => {
            builder.namespace(&format!("ns-{name}"), &[("tenant", &tenant.to_string())]);
        }
        Step::NamespaceGone(name) => {
            builder.delete(&GroupResource::new("", "namespaces"), "", &format!("ns-{name}"));
        }
        Step::Policy { name, rules, tenant } => {
            let rules = match rules {
                0 => short_intervals(),
                1 => json!({"dependencyCycles": "Forbid"}),
                _ => json!({"interval": {"min": "1m"}, "dependencyCycles": "Forbid"}),
            };
            let tenant = tenant.map(|tenant| tenant.to_string());
            let generation = i64::try_from(index).unwrap() + 1;
            builder.apply(&policies(), &policy(&format!("p-{name}"), generation, tenant.as_deref(), &rules));
        }
        Step::PolicyGone(name) => {
            builder.delete(&policies(), "", &format!("p-{name}"));
        }
        Step::Audit => {}
    }
}

type Summary = Vec<(String, BTreeSet<Place>, BTreeMap<Place, Vec<Violation>>)>;

fn summary(audit: &Audit) -> Summary {
    let findings = audit.findings().iter();
    findings
        .map(|(name, findings)| {
            (name.clone(), findings.judged.iter().cloned().collect(), findings.broken.clone())
        })
        .collect()
}

proptest! {
    #[test]
    fn an_audit_kept_up_is_an_audit_made_anew(steps in steps()) {
        let (mut builder, mut audit) = (Builder::new(), Audit::default());
        for (index, step) in steps.iter().enumerate() {
            take(&mut builder, index, step);
            if matches!(step, Step::Audit) {
                audited(&mut audit, &builder);
            }
        }
        audited(&mut audit, &builder);
        let mut rebuilt = Audit::default();
        audited(&mut rebuilt, &builder);
        prop_assert_eq!(summary(&audit), summary(&rebuilt));
    }
}

#[test]
fn conditions_on_a_large_object_are_judged_by_the_whole_of_it_as_soon_as_it_can_be_read() {
    let (mut builder, mut audit) = (Builder::new(), Audit::default());
    let apps = resource_of(Kind::Kustomization);
    let mut large = app("apps", "large", 1, "10m", &[]);
    large["spec"]["postBuild"] = json!({"substitute": {"x": "y".repeat(1 << 20)}});
    builder.namespace("apps", &[]).apply(apps, &large);
    builder.apply(&policies(), &policy("lean", 1, None, &short_intervals()));
    audited(&mut audit, &builder);
    assert_eq!(audit.findings()["lean"].judged(), 1, "what rules look at is kept");

    let cel = json!({"cel": [{"expression": "size(object.spec.postBuild.substitute.x) < 1000"}]});
    builder.apply(&policies(), &policy("cel", 1, None, &cel));
    let snapshot = Arc::new(builder.snapshot());
    audit.update(Arc::clone(&snapshot), &|_, held| Err(LiveError::NotServed(held.resource.clone())));
    assert!(audit.has_unread());
    assert_eq!(audit.findings()["cel"].judged(), 0, "not judged is not compliant");
    let whole = Subject::of(Kind::Kustomization, large);
    audit.update(Arc::clone(&snapshot), &|_, held| {
        assert_eq!(&*held.key.name, "large");
        Ok(Some(whole.clone()))
    });
    assert!(!audit.has_unread());
    assert_eq!(
        (found(&audit, "cel"), audit.findings()["cel"].judged()),
        (vec!["large cel[0]".to_owned()], 1)
    );
    audit.update(snapshot, &|_, _| panic!("nothing changed"));
}
