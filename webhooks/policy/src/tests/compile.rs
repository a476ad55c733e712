//! Tests that every error of a policy is reported by its field.

use super::*;

#[test]
fn every_bad_field_is_named() {
    let errors = try_policy(
        "{namespaceSelector: {matchExpressions: [{key: a, operator: Near}]}, \
          exempt: {users: [''], serviceAccounts: [{namespace: a, name: ''}]}, \
          rules: {interval: {min: 1d, max: -1m}, serviceAccountName: {allowed: ['[a']}, sources: {allowed: [github.com]}, \
            targetNamespaces: {allowed: ['{a']}, suspension: {maxDuration: 0s}, replicas: {max: -1}, cel: [{expression: nope}], \
            freezes: [{name: a, schedule: '0 0 * * *', duration: 1h}, {name: b, schedule: x, duration: 1h, timeZone: Mars/Phobos}]}, \
          defaults: {interval: often, timeout: 5us, retryInterval: 0s, serviceAccountName: A/b, labels: {'-': a}, \
            gameServerResources: {requests: {cpu: many, memory: '-1'}}}}",
    )
    .unwrap_err();
    let fields: Vec<_> = errors.iter().map(|error| error.split(": Invalid value").next().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "spec.namespaceSelector.matchExpressions[0].operator",
            "spec.exempt.users[0]",
            "spec.exempt.serviceAccounts[0].name",
            "spec.rules.interval.min",
            "spec.rules.interval.max",
            "spec.rules.serviceAccountName.allowed[0]",
            "spec.rules.sources.allowed[0]",
            "spec.rules.targetNamespaces.allowed[0]",
            "spec.rules.replicas.max",
            "spec.rules.cel[0].expression",
            "spec.rules.suspension.maxDuration",
            "spec.rules.freezes[1].schedule",
            "spec.rules.freezes[1].timeZone",
            "spec.defaults.interval",
            "spec.defaults.timeout",
            "spec.defaults.retryInterval",
            "spec.defaults.serviceAccountName",
            "spec.defaults.labels[-] key",
            "spec.defaults.gameServerResources.requests[cpu]",
            "spec.defaults.gameServerResources.requests[memory]",
        ]
    );
    assert!(errors.contains(
        &"spec.rules.freezes[1].timeZone: Invalid value: \"Mars/Phobos\": unknown time zone".to_owned()
    ));
}

#[test]
fn defaults_that_the_policy_itself_refuses_are_refused() {
    let errors = try_policy(
        "{rules: {interval: {min: 1m, max: 1h}, serviceAccountName: {allowed: [flux-*]}}, defaults: {interval: 2h, serviceAccountName: ops}}",
    )
    .unwrap_err();
    assert_eq!(
        errors,
        [
            "spec.defaults.interval: Invalid value: \"2h\": breaks spec.rules.interval of this policy: is longer than 1h",
            "spec.defaults.serviceAccountName: Invalid value: \"ops\": breaks spec.rules.serviceAccountName of this policy",
        ]
    );
    assert!(
        try_policy("rules: {interval: {min: 1h, max: 1m}}").unwrap_err()[0]
            .starts_with("spec.rules.interval.max")
    );
}

#[test]
fn the_designs_policy_compiles() {
    let policy = policy(
        r#"
namespaceSelector: {matchExpressions: [{key: gatehouse.dev/tenant, operator: Exists}]}
exempt: {users: [], groups: [], serviceAccounts: [{namespace: flux-system, name: kustomize-controller}]}
enforcement: Deny
rules:
  interval: {min: 1m, max: 1h}
  serviceAccountName: {required: true, allowed: [flux-*]}
  crossNamespaceRefs: Forbid
  sources: {allowed: ["https://github.com/my-org/*", "oci://ghcr.io/my-org/**"]}
  targetNamespaces: {allowed: ["team-a-*"]}
  prune: Required
  dependencyCycles: Forbid
  suspension: {requireReason: true, maxDuration: 24h}
  freezes: [{name: weekend, schedule: "0 18 * * FRI", duration: 62h, timeZone: Europe/Berlin, reason: no weekend deploys}]
  replicas: {max: 50}
  verbs: Authorize
  cel: [{expression: "object.spec.timeout <= '5m'", message: keep timeouts short}]
defaults:
  interval: 10m
  timeout: 5m
  retryInterval: 2m
  prune: true
  serviceAccountName: flux-tenant
  labels: {gatehouse.dev/managed: "true"}
  gameServerResources: {requests: {cpu: 500m, memory: 512Mi}}
"#,
    );
    assert_eq!((policy.name.as_str(), policy.uid.as_str(), policy.generation), ("p", "u", 3));
    assert!(policy.selects(&[("gatehouse.dev/tenant".to_owned(), "a".to_owned())].into()));
    assert!(!policy.selects(&[].into()));
}

#[test]
fn an_empty_policy_judges_nothing_anywhere() {
    let policy = policy("{}");
    assert!(policy.selects(&[].into()));
    let subject = subject(Kind::Kustomization, "spec: [1]");
    assert_eq!(Request::create(subject).judged(&policy), [] as [&str; 0]);
}
