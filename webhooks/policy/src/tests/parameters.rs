//! Tests parameters: lists that a ConfigMap continues, `params`, variables, messages, and the Namespace in CEL.

use std::sync::Arc;

use super::*;

const NONE: [&str; 0] = [];

/// A policy with these rules and the ConfigMap `gatehouse-system/shared`.
fn with(spec: &str, data: Option<&Value>) -> Result<Policy, Vec<String>> {
    let spec: Value = serde_saphyr::from_str(spec).unwrap();
    let mut policy = json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy", "metadata": {"name": "p"},
        "spec": {"paramRef": {"name": "shared", "namespace": "gatehouse-system"}},
    });
    for (field, value) in spec.as_object().unwrap() {
        policy["spec"][field] = value.clone();
    }
    let policy: ReconcilePolicy = serde_json::from_value(policy).unwrap();
    let map = data.map(|data| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared", "namespace": "gatehouse-system"}, "data": data})
    });
    let compiled = Policy::compile_with(&policy, map.as_ref());
    compiled.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn judged(policy: &Policy, kind: Kind, object: &str) -> Vec<String> {
    let object = subject(kind, object);
    let audited: Vec<_> = policy.audit(&object, &NoDependencies).iter().map(line).collect();
    let judged = Request::create(object).judged(policy);
    assert_eq!(judged, audited);
    judged
}

#[test]
fn lists_go_on_in_the_config_map() {
    let rules = "{rules: {serviceAccountName: {allowed: [flux], allowedFrom: [accounts]}, \
                  sources: {allowedFrom: [sources], deniedFrom: [denied]}, targetNamespaces: {allowedFrom: [targets]}, \
                  decryptionAccount: {allowedFrom: [accounts]}}}";
    let data = json!({
        "accounts": "# who may apply\n team-* \n\nops\n",
        "sources": "https://github.com/my-org/**\nhttps://github.com/other/a\r\n",
        "denied": "https://github.com/my-org/secret",
        "targets": "",
    });
    let policy = with(rules, Some(&data)).unwrap();
    assert_eq!(policy.trouble(), None);
    let account =
        |name: &str| judged(&policy, Kind::Kustomization, &format!("spec: {{serviceAccountName: {name}}}"));
    for name in ["flux", "team-b", "ops"] {
        assert_eq!(account(name), NONE, "{name}");
    }
    assert_eq!(account("'# who'"), ["serviceAccountName spec.serviceAccountName: # who is not allowed"]);
    let url = |url: &str| judged(&policy, Kind::GitRepository, &format!("spec: {{url: '{url}'}}"));
    assert_eq!(url("https://github.com/my-org/a"), NONE);
    assert_eq!(url("https://github.com/other/a"), NONE, "the line ends with it");
    assert_eq!(url("https://github.com/my-org/secret").len(), 1);
    assert_eq!(url("https://github.com/x/y").len(), 1);
    // An empty list allows only the object's own namespace.
    let target =
        |name: &str| judged(&policy, Kind::Kustomization, &format!("spec: {{targetNamespace: {name}}}"));
    assert_eq!(target("other"), ["targetNamespaces spec.targetNamespace: other is not allowed"]);
    assert_eq!(target("team-a"), NONE);
}

#[test]
fn without_its_parameters_a_rule_is_broken_by_what_it_judges() {
    let rules = "{rules: {interval: {min: 1m}, sources: {deniedFrom: [denied]}, \
                  cel: [{name: team, message: no team, expression: \"params.data.team == 'a'\"}, {expression: 'true'}]}}";
    let missing = "the ConfigMap gatehouse-system/shared of spec.paramRef does not exist";
    let policy = with(rules, None).unwrap();
    assert_eq!(policy.trouble(), Some(missing));
    let git = judged(&policy, Kind::GitRepository, "spec: {url: 'https://a.b/c', interval: 5m}");
    let cel = format!("team : no team: cannot be evaluated: {missing}");
    assert_eq!(git, [format!("sources : cannot be judged: {missing}"), cel.clone()]);
    assert_eq!(judged(&policy, Kind::Kustomization, "spec: {interval: 5m}"), [cel]);

    let policy = with(rules, Some(&json!({"team": "a"}))).unwrap();
    let why = "the ConfigMap gatehouse-system/shared of spec.paramRef has no key \"denied\"";
    assert_eq!(policy.trouble(), Some(why));
    assert_eq!(
        judged(&policy, Kind::GitRepository, "spec: {interval: 5m}"),
        [format!("sources : cannot be judged: {why}")]
    );

    let policy = with(rules, Some(&json!({"team": "b", "denied": "# none\ngithub.com"}))).unwrap();
    let why = "the ConfigMap gatehouse-system/shared of spec.paramRef: denied line 2: \"github.com\" must be a URL \
               such as https://github.com/my-org/*";
    assert_eq!(policy.trouble(), Some(why));
    assert_eq!(judged(&policy, Kind::Kustomization, "spec: {interval: 5m}"), ["team : no team"]);
}

#[test]
fn what_of_parameters_cannot_work_is_refused() {
    for (spec, field) in [
        ("{paramRef: {name: A/b, namespace: gatehouse-system}}", "spec.paramRef.name"),
        ("{paramRef: {name: a, namespace: A}}", "spec.paramRef.namespace"),
        ("{rules: {sources: {allowedFrom: ['a b']}}}", "spec.rules.sources.allowedFrom[0]"),
        (
            "{rules: {serviceAccountName: {allowedFrom: ['..']}}}",
            "spec.rules.serviceAccountName.allowedFrom[0]",
        ),
    ] {
        let errors = with(spec, None).expect_err(spec);
        assert!(errors[0].starts_with(&format!("{field}: Invalid value")), "{spec}: {errors:?}");
    }
    let without = try_policy("rules: {sources: {deniedFrom: [a]}}").unwrap_err();
    assert_eq!(
        without,
        [
            "spec.rules.sources.deniedFrom[0]: Invalid value: \"a\": needs spec.paramRef, which names the ConfigMap"
        ]
    );
}

#[test]
fn conditions_share_variables() {
    let spec = r#"
variables:
  - {name: source, expression: "object.spec.sourceRef"}
  - {name: full, expression: "variables.source.kind + '/' + variables.source.name"}
  - {name: numbers, expression: "[1, 2, 3].filter(object, object > 1)"}
rules:
  cel:
    - {name: known, expression: "variables.full in params.data.known.split(',')", messageExpression: "variables.full + ' is not one of ' + params.data.known"}
    - {name: shadow, expression: "[1, 2].all(source, variables.numbers.size() == 2 && variables.source.name != 'x')"}
"#;
    let policy = with(spec, Some(&json!({"known": "GitRepository/a,GitRepository/b"}))).unwrap();
    let of = |source: &str| judged(&policy, Kind::Kustomization, &format!("spec: {{sourceRef: {source}}}"));
    assert_eq!(of("{kind: GitRepository, name: a}"), NONE);
    assert_eq!(
        of("{kind: Bucket, name: c}"),
        ["known : Bucket/c is not one of GitRepository/a,GitRepository/b"]
    );
    assert_eq!(of("{kind: GitRepository}").len(), 2, "an error is an error wherever it is used");
    // A field of other kinds' specs that a variable reads makes the condition one about other kinds.
    assert_eq!(judged(&policy, Kind::Provider, "spec: {}"), NONE);
}

#[test]
fn a_message_that_cannot_be_made_gives_way_to_the_text() {
    let messages = |expression: &str| {
        let rule = json!({"rules": {"cel": [{"expression": "false", "message": "plain", "messageExpression": expression}]}});
        judged(&policy(&rule.to_string()), Kind::Kustomization, "spec: {path: ./a, lines: \"a\\nb\"}")
    };
    assert_eq!(messages("'the path is ' + object.spec.path"), ["cel[0] : the path is ./a"]);
    assert_eq!(messages("' ' + string(object.spec.path) + ' '"), ["cel[0] : ./a"]);
    for expression in [
        "'a' + object.spec.nope",
        "''",
        "'  '",
        "string(object.spec.lines)",
        "['a'][1]",
        "'aaaaaaaaaa'.replace('a', 'aaaaaaaaaa'.replace('a', 'aaaaaaaaaa'.replace('a', 'aaaaaaaaaaaaaaaaaaaa')))",
    ] {
        assert_eq!(messages(expression), ["cel[0] : plain"], "{expression}");
    }
    for (expression, why) in [
        ("1 + 1", "must give a string, gives int"),
        ("object.spec.path", "must give a string, gives dyn"),
        ("'a' +", "line 1 column"),
    ] {
        let rule = json!({"rules": {"cel": [{"expression": "false", "messageExpression": expression}]}});
        let errors = try_policy(&rule.to_string()).unwrap_err();
        assert!(
            errors[0].starts_with("spec.rules.cel[0].messageExpression: ") && errors[0].contains(why),
            "{errors:?}"
        );
    }
}

#[test]
fn variables_are_checked_when_they_are_written() {
    for (variables, expression, field, why) in [
        (
            "[{name: a, expression: 'nope'}]",
            "true",
            "spec.variables[0].expression",
            "unknown variable \"nope\"",
        ),
        (
            "[{name: a, expression: 'variables.b'}, {name: b, expression: '1'}]",
            "true",
            "spec.variables[0].expression",
            "unknown variable \"b\": spec.variables has none before this",
        ),
        (
            "[{name: b, expression: '1'}, {name: a, expression: 'variables.a'}]",
            "true",
            "spec.variables[1].expression",
            "(before this there are b)",
        ),
        ("[{name: a-b, expression: '1'}]", "true", "spec.variables[0].name", "must be a CEL identifier"),
        ("[{name: in, expression: '1'}]", "true", "spec.variables[0].name", "must be a CEL identifier"),
        (
            "[{name: a, expression: '1'}, {name: a, expression: '2'}]",
            "true",
            "spec.variables[1].name",
            "another variable",
        ),
        ("[{name: a, expression: ' '}]", "true", "spec.variables[0].expression", "must not be empty"),
        (
            "[{name: a, expression: '1'}]",
            "variables.a == 'x'",
            "spec.rules.cel[0].expression",
            "does not take (int, string)",
        ),
        (
            "[{name: a, expression: '1'}]",
            "variables['a'] == 1",
            "spec.rules.cel[0].expression",
            "as variables.NAME only",
        ),
        (
            "[{name: a, expression: '1'}]",
            "[1].all(variables, variables.a == 1)",
            "spec.rules.cel[0].expression",
            "must not be called variables",
        ),
    ] {
        let spec = json!({"rules": {"cel": [{"expression": expression}]}, "variables": serde_saphyr::from_str::<Value>(variables).unwrap()});
        let errors = try_policy(&spec.to_string()).expect_err(variables);
        assert!(
            errors[0].starts_with(&format!("{field}: ")) && errors[0].contains(why),
            "{variables} {expression}: {errors:?}"
        );
    }
}

#[test]
fn a_variable_is_evaluated_once_and_only_where_it_is_used() {
    // Each of these takes more than half of the budget of one expression, and together they exceed that of a policy.
    let heavy = "object.spec.list.all(x, object.spec.list.all(y, x != y || true))";
    let rules: Vec<_> =
        (0..20).map(|_| json!({"expression": "variables.heavy && variables.heavy"})).collect();
    let spec = json!({
        "variables": [{"name": "heavy", "expression": heavy}, {"name": "unused", "expression": "1 / 0 == 1"}],
        "rules": {"cel": rules},
    });
    let policy = policy(&spec.to_string());
    let list: Vec<usize> = (0..330).collect();
    let object = subject(Kind::Kustomization, &json!({"spec": {"list": list}}).to_string());
    assert_eq!(Request::create(object).judged(&policy), NONE);
}

#[test]
fn the_namespace_is_seen_by_its_metadata() {
    let policy = policy(
        "rules: {cel: [{name: tier, expression: \"namespaceObject.metadata.?labels.tier.orValue('') == 'gold'\", message: no gold}]}",
    );
    assert!(policy.asks_for_namespace() && policy.is_about_namespace("tier"));
    let within = |labels: Value| {
        let namespace = json!({"metadata": {"name": "team-a", "labels": labels}});
        let object = subject(Kind::Kustomization, "spec: {}").within(Arc::new(namespace));
        Request::create(object).judged(&policy)
    };
    assert_eq!(within(json!({"tier": "gold"})), NONE);
    assert_eq!(within(json!({"tier": "tin"})), ["tier : no gold"]);
    assert_eq!(within(json!({})), ["tier : no gold"]);
    let unknown = Request::create(subject(Kind::Kustomization, "spec: {}")).judged(&policy);
    assert_eq!(unknown, ["tier : no gold: cannot be evaluated: the Namespace team-a is not known"]);
}

#[test]
fn a_condition_is_about_a_field() {
    check(
        "{cel: [{name: short, fieldPath: .spec.timeout, expression: \"object.spec.timeout <= '5m'\", message: keep it short}]}",
        Kind::Kustomization,
        "{timeout: 10m}",
        &["short spec.timeout: keep it short"],
    );
}
