//! Tests the test runner: which cases pass, which fail and with what output, and which cannot be run.

use std::{collections::BTreeMap, path::Path};

use tempfile::TempDir;

use super::{Filter, Tested, Tests};

const POLICY: &str = "\
apiVersion: policy.gatehouse.dev/v1alpha1
kind: ReconcilePolicy
metadata: {name: p}
spec:
  namespaceSelector: {matchLabels: {tenant: a}}
  exempt: {groups: [admins]}
  rules:
    interval: {min: 1m}
    prune: Required
    verbs: Authorize
    cel: [{expression: \"object.metadata.name != 'evil'\", message: a better name}]
  defaults: {prune: true}
";

const OBJECTS: &str = "\
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: a, namespace: team-a}
spec: {interval: 10m}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: b, namespace: team-a}
spec: {interval: 1s}
";

const HEAD: &str = "\
apiVersion: test.gatehouse.dev/v1alpha1
kind: PolicyTest
metadata: {name: t}
policies: [p.yaml]
namespaces: [{name: team-a, labels: {tenant: a}}]
cases:
";

fn folder(suite: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in [("p.yaml", POLICY), ("objects.yaml", OBJECTS), ("t.yaml", suite)] {
        std::fs::write(folder.path().join(name), text).expect("can be written");
    }
    folder
}

fn run(folder: &Path, filter: Option<&str>) -> Tested {
    let filter: Option<Filter> = filter.map(|text| text.parse().expect("a regular expression"));
    let tests = Tests::find(&[folder.to_path_buf()], filter);
    tests.run(&BTreeMap::new(), "2026-11-29T12:00:00Z".parse().expect("a time"))
}

/// Runs cases that are appended to [`HEAD`].
fn cases(text: &str) -> Tested {
    run(folder(&format!("{HEAD}{text}")).path(), None)
}

/// The differences of the only case.
fn differences(case: &str) -> Vec<String> {
    let tested = cases(case);
    assert!(tested.problems.is_empty(), "{:?}", tested.problems);
    assert_eq!(tested.exit_code(), u8::from(!tested.results[0].differences.is_empty()));
    tested.results.into_iter().next().expect("one case").differences
}

/// The only error, with line and column.
fn error(suite: &str) -> String {
    let tested = run(folder(suite).path(), None);
    assert_eq!(tested.exit_code(), 2, "{tested:?}");
    let texts = tested
        .problems
        .iter()
        .map(|problem| format!("{}:{}: {}", problem.spot.line, problem.spot.column, problem.message));
    texts.collect::<Vec<_>>().join("\n")
}

const PASSING: &str = "\
- name: one
  object: objects.yaml#Kustomization/a
  expect: {decision: Allowed, object: {spec: {interval: 10m, prune: true, suspend: null}}}
- name: two
  object: objects.yaml#kustomization/team-a/b
  expect: {decision: Denied, violations: [{policy: p, rule: interval, field: spec.interval, message: 1m}]}
";

#[test]
fn what_is_as_expected_passes() {
    let tested = cases(PASSING);
    assert_eq!((tested.exit_code(), tested.results.len(), tested.failed()), (0, 2, 0), "{tested:?}");
    assert_eq!((tested.results[1].spot.line, tested.results[1].spot.column), (10, 3));
    let only = run(folder(&format!("{HEAD}{PASSING}")).path(), Some("t/tw"));
    assert_eq!(only.results.iter().map(|result| result.case.as_str()).collect::<Vec<_>>(), ["two"]);
}

#[test]
fn what_differs_is_told_like_a_diff() {
    let case =
        |expect: &str| format!("- name: c\n  object: objects.yaml#Kustomization/b\n  expect: {{{expect}}}\n");
    let message = "+ p/interval: spec.interval: 1s is shorter than the 1m that the policy asks for";
    let start = |lines: Vec<String>| {
        lines.into_iter().map(|line| line.chars().take(30).collect::<String>()).collect::<Vec<_>>()
    };
    let message = &message[..30];
    assert_eq!(
        start(differences(&case("decision: Allowed"))),
        ["decision: expected Allowed, got", message].map(|line| line.chars().take(30).collect::<String>())
    );
    assert_eq!(
        start(differences(&case("decision: Denied, violations: [{rule: prune}]"))),
        ["- */prune", message]
    );
    // Every violation must be expected, and every expected one must match.
    let both = "decision: Denied, violations: [{rule: interval, message: other}]";
    assert_eq!(start(differences(&case(both))), ["- */interval: … other …", message]);
    assert_eq!(differences(&case("decision: Denied")), [""; 0]);
    assert_eq!(
        differences(&case("decision: Denied, object: {spec: {prune: false, interval: 1s, timeout: 5m}}")),
        ["spec.prune: expected false, got true", "spec.timeout: expected \"5m\", got nothing"]
    );
}

#[test]
fn users_operations_and_rights_count() {
    let update = "- name: c\n  oldObject: objects.yaml#Kustomization/a\n";
    let check = |more: &str| differences(&format!("{update}{more}"));
    let none = [""; 0];
    assert_eq!(check("  patch: {spec: {interval: 1s}}\n  expect: {decision: Denied}\n"), none);
    // The users that the policy exempts are allowed.
    let exempt = "  userInfo: {username: root, groups: [admins]}\n";
    assert_eq!(
        check(&format!("  patch: {{spec: {{interval: 1s}}}}\n{exempt}  expect: {{decision: Allowed}}\n")),
        none
    );
    // Changing a label does not turn an existing violation into a new one.
    let b = "- name: c\n  oldObject: objects.yaml#Kustomization/b\n  patch: {metadata: {labels: {x: y}}}\n  expect: {decision: Allowed}\n";
    assert_eq!(differences(b), none);
    assert_eq!(check("  operation: DELETE\n  expect: {decision: Allowed}\n"), none);
    // Suspending requires authorization.
    let suspend = "  patch: {spec: {suspend: true}}\n";
    let denied = "  expect: {decision: Denied, violations: [{rule: verbs, message: no right to suspend}]}\n";
    assert_eq!(check(&format!("{suspend}{denied}")), none);
    assert_eq!(check(&format!("{suspend}  authorized: [suspend]\n  expect: {{decision: Allowed}}\n")), none);
    // Conditions read the object of the request; changes to Gatehouse's marks are denied.
    let inline = |name: &str, more: &str| {
        format!(
            "- name: c\n  object: {{apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization, metadata: {{name: {name}, namespace: team-a{more}}}, spec: {{interval: 5m}}}}\n"
        )
    };
    let cel = "  expect: {decision: Denied, violations: [{rule: 'cel[0]', message: better name}]}\n";
    assert_eq!(differences(&format!("{}{cel}", inline("evil", ""))), none);
    let forged = ", annotations: {gatehouse.dev/frozen-by: p/x}";
    let reserved = "  expect: {decision: Denied, violations: [{policy: gatehouse, rule: reserved}]}\n";
    assert_eq!(differences(&format!("{}{reserved}", inline("good", forged))), none);
}

#[test]
fn freezes_hold_flux_and_deny_people() {
    let policy = POLICY.replace(
        "    prune: Required\n",
        "    freezes: [{name: weekend, schedule: '0 0 * * SAT', duration: 48h}]\n",
    );
    let head = HEAD.replace("policies: [p.yaml]\n", "policies: [p.yaml]\nnow: 2026-11-29T12:00:00Z\n");
    let suite = format!(
        "{head}- name: people
  oldObject: objects.yaml#Kustomization/a
  patch: {{spec: {{path: ./x}}}}
  expect: {{decision: Denied, violations: [{{rule: freezes}}]}}
- name: Flux
  oldObject: objects.yaml#Kustomization/a
  patch: {{spec: {{path: ./x}}}}
  userInfo: {{username: 'system:serviceaccount:flux-system:kustomize-controller'}}
  expect: {{decision: Held, object: {{spec: {{path: null}}}}}}
- name: Flux brings something new
  object: objects.yaml#Kustomization/a
  userInfo: {{username: 'system:serviceaccount:flux-system:kustomize-controller'}}
  expect: {{decision: Held, object: {{spec: {{suspend: true}}}}}}
- name: on Monday
  oldObject: objects.yaml#Kustomization/a
  patch: {{spec: {{path: ./x}}}}
  now: 2026-11-30T12:00:00Z
  expect: {{decision: Allowed}}
"
    );
    let folder = folder(&suite);
    std::fs::write(folder.path().join("p.yaml"), &policy).expect("can be written");
    let tested = run(folder.path(), None);
    assert_eq!((tested.exit_code(), tested.results.len()), (0, 4), "{tested:#?}");
    // Without a fixed time, the test would pass only on some days.
    std::fs::write(folder.path().join("t.yaml"), suite.replace("now: 2026-11-29T12:00:00Z\n", ""))
        .expect("written");
    let tested = run(folder.path(), None);
    assert_eq!((tested.exit_code(), tested.results.len(), tested.problems.len()), (2, 1, 3), "{tested:#?}");
    assert!(tested.problems[0].message.contains("now: Required value"), "{tested:#?}");
}

#[test]
fn parameters_namespaces_exemptions_and_settings_count() {
    let policy = "\
apiVersion: policy.gatehouse.dev/v1alpha1
kind: ReconcilePolicy
metadata: {name: p}
spec:
  paramRef: {name: params, namespace: gatehouse-system}
  exempt: {objects: [{labelSelector: {matchLabels: {free: 'yes'}}}]}
  rules:
    interval: {min: 1m}
    cel:
    - name: team
      expression: object.metadata.name.startsWith(namespaceObject.metadata.labels['tenant'])
      message: must begin with the tenant
    - name: allowed
      expression: object.spec.path in params.data.paths.split(',')
      message: path
  ruleSettings: [{rule: interval, enforcement: Warn}]
";
    let params = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: params, namespace: gatehouse-system}\ndata: {paths: './a,./b'}\n";
    let suite = "\
apiVersion: test.gatehouse.dev/v1alpha1
kind: PolicyTest
metadata: {name: t}
policies: [p.yaml]
existing: [params.yaml]
namespaces: [{name: team-a, labels: {tenant: a}}]
cases:
- name: parameters
  object: objects.yaml#Kustomization/a
  patch: {spec: {path: ./b}}
  expect: {decision: Allowed}
- name: a path that is no parameter
  object: objects.yaml#Kustomization/a
  patch: {spec: {path: ./c}}
  expect: {decision: Denied, violations: [{rule: allowed}]}
- name: a warning
  object: objects.yaml#Kustomization/a
  patch: {spec: {path: ./b, interval: 1s}}
  expect: {decision: Warned, violations: [{rule: interval}]}
- name: the namespace
  object: objects.yaml#Kustomization/b
  patch: {spec: {path: ./b, interval: 1m}}
  expect: {decision: Denied, violations: [{rule: team}]}
- name: whoever makes an object exempt needs a right
  object: objects.yaml#Kustomization/b
  patch: {metadata: {labels: {free: 'yes'}}}
  expect: {decision: Denied, violations: [{rule: exempt}]}
- name: and has it
  object: objects.yaml#Kustomization/b
  patch: {metadata: {labels: {free: 'yes'}}}
  authorized: [exempt]
  expect: {decision: Allowed}
";
    let folder = folder(suite);
    std::fs::write(folder.path().join("p.yaml"), policy).expect("can be written");
    std::fs::write(folder.path().join("params.yaml"), params).expect("can be written");
    let tested = run(folder.path(), None);
    assert_eq!((tested.exit_code(), tested.results.len()), (0, 6), "{tested:#?}");
    // The inputs that a policy requires must exist.
    for (without, message) in [
        (
            "existing: [params.yaml]\n",
            "p takes parameters from the ConfigMap gatehouse-system/params, which is in no file",
        ),
        (
            "namespaces: [{name: team-a, labels: {tenant: a}}]\n",
            "a policy asks for the Namespace team-a: name it in namespaces",
        ),
    ] {
        std::fs::write(folder.path().join("t.yaml"), suite.replace(without, "")).expect("can be written");
        let tested = run(folder.path(), None);
        assert!(tested.exit_code() == 2 && tested.problems[0].message.contains(message), "{tested:#?}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_test_that_cannot_fail_is_an_error() {
    let case = |text: &str| error(&format!("{HEAD}{text}"));
    let with = |expect: &str| {
        case(&format!("- name: c\n  object: objects.yaml#Kustomization/b\n  expect: {{{expect}}}\n"))
    };
    for (message, expected) in [
        (
            with("decision: Denied, violations: [{rule: intervall}]"),
            "9:44: cases[0].expect.violations[0].rule: no policy has a rule \"intervall\": there is interval, prune, verbs, cel[0], reserved",
        ),
        (
            with("decision: Denied, violations: [{policy: q, rule: interval}]"),
            "9:44: cases[0].expect.violations[0].policy: no policy and no quota is named \"q\": there is p, gatehouse",
        ),
        (
            with("decision: Denied, violations: []"),
            "9:30: cases[0].expect.violations: must not be empty: Denied needs a broken rule",
        ),
        (
            with("decision: Allowed, violations: [{rule: interval}]"),
            "9:31: cases[0].expect.violations: what is Allowed breaks no rule: expect Warned or Audited",
        ),
        (
            with("decision: Denyed"),
            "9:12: cases[0].expect.decision: unknown variant `Denyed`, expected one of `Allowed`, `Held`, `Audited`, `Warned`, `Denied`",
        ),
        (
            with("decison: Denied"),
            "9:12: cases[0].expect.decison: unknown field `decison`, expected one of `decision`, `violations`, `object`",
        ),
        (with(""), "9:3: cases[0].expect: missing field `decision`"),
        (
            case("- name: c\n  object: absent.yaml\n  expect: {decision: Allowed}\n"),
            "8:3: cases[0].object: absent.yaml does not exist",
        ),
        (
            case("- name: c\n  object: objects.yaml\n  expect: {decision: Allowed}\n"),
            "8:3: cases[0].object: objects.yaml holds 2 objects: name one as FILE#KIND/NAME (Kustomization/team-a/a, Kustomization/team-a/b)",
        ),
        (
            case("- name: c\n  object: objects.yaml#Kustomization/c\n  expect: {decision: Allowed}\n"),
            "8:3: cases[0].object: objects.yaml holds no Kustomization/c: it holds Kustomization/team-a/a, Kustomization/team-a/b",
        ),
        (
            case(
                "- name: c\n  object: {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: team-a}}\n  expect: {decision: Allowed}\n",
            ),
            "8:3: cases[0].object: no policy looks at Pod",
        ),
        (
            case(
                "- name: c\n  object: objects.yaml#Kustomization/a\n  patch: {metadata: {namespace: other}}\n  expect: {decision: Allowed}\n",
            ),
            "8:3: cases[0].object: p selects namespaces by labels, and those of other are not known: name them in namespaces",
        ),
        (
            case("- name: c\n  expect: {decision: Allowed}\n"),
            "7:3: cases[0].object: Required value: or operation DELETE with oldObject",
        ),
        (
            case(
                "- name: c\n  oldObject: objects.yaml#Kustomization/a\n  object: objects.yaml#Kustomization/b\n  expect: {decision: Allowed}\n",
            ),
            "9:3: cases[0].object: must have kind, namespace and name of the oldObject",
        ),
        (
            case(
                "- name: c\n  object: objects.yaml#Kustomization/a\n  operation: DELETE\n  expect: {decision: Allowed}\n",
            ),
            "9:3: cases[0].operation: DELETE needs oldObject and no object",
        ),
        (error(&HEAD.replace("cases:", "cases: []")), "6:1: cases: must not be empty"),
        (
            error(
                &HEAD
                    .replace("p.yaml", "q.yaml")
                    .replace("cases:", "cases: [{name: c, object: x, expect: {decision: Allowed}}]"),
            ),
            "4:12: policies[0]: q.yaml does not exist",
        ),
        (
            error(
                &HEAD
                    .replace("p.yaml", "objects.yaml")
                    .replace("cases:", "cases: [{name: c, object: x, expect: {decision: Allowed}}]"),
            ),
            "4:1: policies: holds neither a ReconcilePolicy nor a TenantQuota",
        ),
        (
            error(&HEAD.replace("v1alpha1", "v1")),
            "2:1: PolicyTest of test.gatehouse.dev/v1 is not known: expected PolicyTest of test.gatehouse.dev/v1alpha1",
        ),
        (error("a: b\n"), "0:0: holds no PolicyTest of test.gatehouse.dev/v1alpha1"),
        (
            error(&format!("{HEAD}{PASSING}").replace("two", "one")),
            "10:3: cases[1].name: another case is named \"one\" too",
        ),
    ] {
        assert_eq!(message, expected);
    }
    let none = run(folder(&format!("{HEAD}{PASSING}")).path(), Some("nothing"));
    assert_eq!(
        (none.exit_code(), none.problems[0].message.as_str()),
        (2, "no case is selected by --run \"nothing\"")
    );
}
