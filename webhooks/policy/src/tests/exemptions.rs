//! Tests exempt objects, rules for some kinds, and enforcement by rule.

use gatehouse_apiservice::policy::Enforcement::{Audit, Deny, Warn};

use super::*;

const NONE: [&str; 0] = [];
/// A spec that violates `prune` and `interval`.
const BAD: &str = "spec: {prune: false, interval: 1s}";

fn kustomization(metadata: &str, spec: &str) -> Subject {
    subject(Kind::Kustomization, &format!("{{metadata: {{{metadata}}}, {spec}}}"))
}

fn exempting(objects: &str) -> Policy {
    policy(&format!(
        "{{exempt: {{objects: [{objects}]}}, rules: {{prune: Required, interval: {{min: 1m}}, replicas: {{max: 1}}, \
         cel: [{{name: team, expression: 'has(object.metadata.labels) && has(object.metadata.labels.team)'}}]}}}}"
    ))
}

fn rules(violations: &[String]) -> Vec<&str> {
    violations.iter().map(|line| line.split(' ').next().unwrap()).collect()
}

#[test]
fn what_is_exempt_is_not_judged_by_what_it_holds_now_or_later() {
    for (objects, metadata, is_exempt) in [
        ("{names: [x]}", "", true),
        ("{names: ['infra-*', other]}", "", false),
        ("{namespaces: ['team-*'], names: [x]}", "", true),
        ("{namespaces: [flux-system]}", "", false),
        ("{namespaces: [team-a]}", "", true),
        ("{kinds: [Kustomization], namespaces: [team-a]}", "", true),
        ("{kinds: [HelmRelease, Fleet], namespaces: [team-a]}", "", false),
        ("{labelSelector: {matchLabels: {legacy: 'yes'}}}", "labels: {legacy: 'yes'}", true),
        ("{labelSelector: {matchLabels: {legacy: 'yes'}}}", "labels: {legacy: 'no'}", false),
        ("{labelSelector: {matchLabels: {legacy: 'yes'}}}", "annotations: {legacy: 'yes'}", false),
        (
            "{labelSelector: {matchExpressions: [{key: legacy, operator: Exists}]}, names: [other]}",
            "labels: {legacy: a}",
            false,
        ),
        ("{names: [other]}, {names: [x]}", "", true),
    ] {
        let policy = exempting(objects);
        let object = kustomization(metadata, BAD);
        let judged = Request::create(object.clone()).judged(&policy);
        let expected = if is_exempt { &[][..] } else { &["interval", "prune", "team"][..] };
        assert_eq!(rules(&judged), expected, "{objects} {metadata}");
        let audited = policy.audit(&object, &NoDependencies);
        assert_eq!(audited.len(), expected.len(), "{objects} {metadata}, audited");
    }
}

#[test]
fn an_exemption_may_be_from_some_rules_only() {
    let policy = exempting("{names: [x], rules: [interval, team]}");
    let judged = Request::create(kustomization("", BAD)).judged(&policy);
    assert_eq!(rules(&judged), ["prune"]);
}

#[test]
fn a_scale_is_exempt_as_its_object_is() {
    let fleet =
        |name: &str| subject(Kind::Fleet, &format!("{{metadata: {{name: {name}}}, spec: {{replicas: 1}}}}"));
    let policy = exempting("{names: [big]}");
    assert_eq!(Request::scale(fleet("big"), 1, 5).judged(&policy), NONE);
    assert_eq!(rules(&Request::scale(fleet("x"), 1, 5).judged(&policy)), ["replicas"]);
}

#[test]
fn an_object_is_judged_by_what_it_becomes() {
    let policy = exempting("{labelSelector: {matchLabels: {legacy: 'yes'}}}");
    let (exempt, plain) = (|| kustomization("labels: {legacy: 'yes'}", BAD), || kustomization("", BAD));
    assert_eq!(Request::update(plain(), exempt()).judged(&policy), NONE, "but it takes a right");
    assert_eq!(
        rules(&Request::update(exempt(), plain()).judged(&policy)),
        ["interval", "prune", "team"],
        "the same spec, judged for the first time"
    );
    // An unchanged object that was never exempt is not judged.
    assert_eq!(Request::update(plain(), kustomization("labels: {a: b, team: t}", BAD)).judged(&policy), NONE);
    let worse = kustomization("labels: {legacy: 'yes'}", "spec: {prune: false, interval: 2s}");
    assert_eq!(Request::update(exempt(), worse).judged(&policy), NONE);
}

#[test]
fn whoever_makes_an_object_exempt_by_what_he_chooses_needs_a_right() {
    let label = "{labelSelector: {matchLabels: {legacy: 'yes'}}}";
    let labelled = || kustomization("labels: {legacy: 'yes'}", BAD);
    let plain = || kustomization("", BAD);
    let needs = |objects: &str, request: Request| {
        let verbs = request.verbs(&exempting(objects));
        assert!(verbs.is_empty() || verbs == [Verb::Exempt], "{verbs:?}");
        !verbs.is_empty()
    };
    assert!(needs(label, Request::create(labelled())));
    assert!(needs(label, Request::update(plain(), labelled())));
    assert!(!needs(label, Request::update(labelled(), labelled())), "it was exempt before");
    assert!(!needs(label, Request::update(labelled(), plain())));
    assert!(!needs(label, Request::create(plain())));
    assert!(!needs(label, Request::delete(labelled())));
    assert!(needs(
        label,
        Request::create(labelled()).by("system:serviceaccount:flux-system:kustomize-controller")
    ));
    assert!(!needs(
        label,
        Request::create(labelled()).by("system:serviceaccount:gatehouse-system:gatehouse")
    ));
    // From one exemption to another.
    let both = format!("{label}, {{labelSelector: {{matchLabels: {{other: 'yes'}}}}, rules: [prune]}}");
    assert!(needs(&both, Request::update(kustomization("labels: {other: 'yes'}", BAD), labelled())));
    // The author of an object chooses its name; if the exemption names the namespace, the policy has chosen.
    assert!(needs("{names: [x]}", Request::create(plain())));
    assert!(!needs("{names: [x]}", Request::update(plain(), plain())));
    assert!(!needs("{namespaces: [team-a], names: [x]}", Request::create(plain())));
    assert!(!needs("{namespaces: [team-a]}", Request::create(plain())));
    let label_there = "{namespaces: [team-a], labelSelector: {matchLabels: {legacy: 'yes'}}}";
    assert!(needs(label_there, Request::create(labelled())));
    let generated = kustomization("name: '', generateName: x", BAD);
    assert_eq!(
        rules(&Request::create(generated).judged(&exempting("{names: [x]}"))),
        ["interval", "prune", "team"]
    );
}

#[test]
fn what_somebody_does_is_judged_whatever_is_exempt() {
    let policy = policy(
        "{exempt: {objects: [{namespaces: [team-a]}]}, rules: {verbs: Authorize, suspension: {requireReason: true}, \
          freezes: [{name: f, schedule: '0 0 * * *', duration: 23h}]}}",
    );
    let suspended = kustomization("", "spec: {suspend: true}");
    let request = Request::update(kustomization("", "spec: {}"), suspended);
    assert_eq!(request.verbs(&policy), [Verb::Suspend]);
    assert_eq!(rules(&request.judged(&policy)), ["freezes", "suspension", "suspension"]);
}

#[test]
fn a_rule_may_judge_some_kinds_only() {
    let policy = policy(
        "{ruleSettings: [{rule: interval, kinds: [HelmRelease]}, {rule: verbs, kinds: [HelmRelease]}], rules: {verbs: Authorize, \
          interval: {min: 1m}, cel: [{name: a, kinds: [HelmRelease], expression: 'false'}, {kinds: [GameServerSet.agones.dev], expression: 'false'}]}}",
    );
    let judged = |kind| {
        let request = Request::create(subject(kind, "spec: {interval: 1s}"));
        rules(&request.judged(&policy)).iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(judged(Kind::Kustomization), NONE);
    assert_eq!(judged(Kind::HelmRelease), ["interval", "a"]);
    assert_eq!(judged(Kind::GameServerSet), ["cel[1]"]);
    assert_eq!(judged(Kind::KruiseGameServerSet), NONE);
    let suspends = |kind| {
        Request::update(subject(kind, "spec: {}"), subject(kind, "spec: {suspend: true}")).verbs(&policy)
    };
    assert_eq!(suspends(Kind::Kustomization), []);
    assert_eq!(suspends(Kind::HelmRelease), [Verb::Suspend]);
}

#[test]
fn each_rule_may_be_enforced_in_its_own_way() {
    let policy = policy(
        "{enforcement: Warn, ruleSettings: [{rule: prune, enforcement: Deny}], rules: {prune: Required, interval: {min: 1m}, \
          cel: [{name: a, enforcement: Audit, expression: 'true'}, {expression: 'true'}]}}",
    );
    let rules = ["prune", "interval", "a", "cel[1]", "exempt"].map(|rule| policy.enforcement_of(rule));
    assert_eq!(rules, [Deny, Warn, Audit, Warn, Deny], "who is exempt gets around the strictest");
}

#[test]
fn exemptions_that_cannot_work_are_refused() {
    assert_refused(&[
        ("{exempt: {objects: [{}]}}", "spec.exempt.objects[0]", "must say which objects"),
        ("{exempt: {objects: [{kinds: [Fleet]}]}}", "spec.exempt.objects[0]", "must say which objects"),
        (
            "{exempt: {objects: [{kinds: [Pod], names: [a]}]}}",
            "spec.exempt.objects[0].kinds[0]",
            "not a kind that policies judge: there are Bucket",
        ),
        ("{exempt: {objects: [{names: ['[a']}]}}", "spec.exempt.objects[0].names[0]", "not a glob"),
        (
            "{exempt: {objects: [{namespaces: ['']}]}}",
            "spec.exempt.objects[0].namespaces[0]",
            "must not be empty",
        ),
        (
            "{exempt: {objects: [{labelSelector: {}}]}}",
            "spec.exempt.objects[0].labelSelector",
            "selects every object",
        ),
        (
            "{exempt: {objects: [{labelSelector: {matchExpressions: [{key: a, operator: Near}]}}]}}",
            "spec.exempt.objects[0].labelSelector.matchExpressions[0].operator",
            "not a valid selector operator",
        ),
        (
            "{exempt: {objects: [{names: [a], rules: [prune]}]}}",
            "spec.exempt.objects[0].rules[0]",
            "the policy has no spec.rules.prune",
        ),
        (
            "{exempt: {objects: [{names: [a], rules: [nope]}]}}",
            "spec.exempt.objects[0].rules[0]",
            "has no rule of this name",
        ),
        (
            "{exempt: {objects: [{names: [a], rules: [verbs]}]}}",
            "spec.exempt.objects[0].rules[0]",
            "what somebody does",
        ),
    ]);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    assert_refused(&[
        (
            "{ruleSettings: [{rule: nope, kinds: [Fleet]}]}",
            "spec.ruleSettings[0].rule",
            "no rule of this name: there are interval",
        ),
        (
            "{ruleSettings: [{rule: prune, enforcement: Warn}]}",
            "spec.ruleSettings[0].rule",
            "the policy has no spec.rules.prune",
        ),
        (
            "{ruleSettings: [{rule: 'cel[0]', enforcement: Warn}]}",
            "spec.ruleSettings[0].rule",
            "settings of their own",
        ),
        (
            "{ruleSettings: [{rule: prune}], rules: {prune: Required}}",
            "spec.ruleSettings[0]",
            "must set kinds or enforcement",
        ),
        (
            "{ruleSettings: [{rule: prune, kinds: [Fleet]}], rules: {prune: Required}}",
            "spec.ruleSettings[0].kinds",
            "prune has nothing to judge in a Fleet",
        ),
        (
            "{ruleSettings: [{rule: prune, enforcement: Warn}, {rule: prune, enforcement: Audit}], rules: {prune: Required}}",
            "spec.ruleSettings[1].rule",
            "has settings already",
        ),
        (
            "{ruleSettings: [{rule: freezes, enforcement: Warn}], rules: {freezes: [{name: f, schedule: '0 0 * * *', duration: 1h}]}}",
            "spec.ruleSettings[0].rule",
            "a policy of their own",
        ),
        (
            "{ruleSettings: [{rule: suspension, kinds: [Kustomization]}], rules: {suspension: {requireReason: true}}}",
            "spec.ruleSettings[0].kinds",
            "has nothing to judge",
        ),
        ("{rules: {cel: [{expression: 'true', kinds: [Nope]}]}}", "spec.rules.cel[0].kinds[0]", "not a kind"),
        (
            "{rules: {cel: [{expression: 'true', name: prune}]}}",
            "spec.rules.cel[0].name",
            "not that of another rule",
        ),
        ("{rules: {cel: [{expression: 'true', name: 'a b'}]}}", "spec.rules.cel[0].name", "must be a name"),
        (
            "{rules: {cel: [{expression: 'true', name: a}, {expression: 'true', name: a}]}}",
            "spec.rules.cel[1].name",
            "another condition",
        ),
        (
            "{rules: {cel: [{expression: 'true', fieldPath: 'status.x'}]}}",
            "spec.rules.cel[0].fieldPath",
            "must be a field",
        ),
        (
            "{rules: {cel: [{expression: 'true', fieldPath: 'spec..x'}]}}",
            "spec.rules.cel[0].fieldPath",
            "must be a field",
        ),
        (
            "{rules: {cel: [{expression: 'true', fieldPath: 'spec.x[a'}]}}",
            "spec.rules.cel[0].fieldPath",
            "must be a field",
        ),
    ]);
}

/// Asserts the error of each spec, by its field.
fn assert_refused(cases: &[(&str, &str, &str)]) {
    for (spec, field, why) in cases {
        let errors = try_policy(spec).expect_err(spec);
        let [error] = errors.as_slice() else { panic!("{spec}: {errors:?}") };
        assert!(error.starts_with(&format!("{field}: ")) && error.contains(why), "{spec}: {error}");
    }
}
