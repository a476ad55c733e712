//! Settings of policies on files: exemptions, kinds, enforcement, parameters, the Namespace.

use super::{Checked, Files};

const POLICY: &str = "\
apiVersion: policy.gatehouse.dev/v1alpha1
kind: ReconcilePolicy
metadata: {name: p}
spec:
";

fn kustomization(name: &str, labels: &str, spec: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: team-a, labels: {{{labels}}}}}\nspec: {spec}\n"
    )
}

fn reported(checked: &Checked, all: &[&str]) -> bool {
    checked.findings().len() == all.len() && all.iter().all(|text| checked.out.contains(text))
}

#[test]
fn exemptions_kinds_and_enforcement_count() {
    let policy = format!(
        "{POLICY}  exempt: {{objects: [{{labelSelector: {{matchLabels: {{legacy: 'true'}}}}}}]}}\n  \
         ruleSettings: [{{rule: interval, enforcement: Warn}}]\n  \
         rules:\n    prune: Required\n    interval: {{min: 1m}}\n    cel:\n    \
         - {{name: short, kinds: [Kustomization], fieldPath: spec.timeout, expression: \"object.spec.timeout <= '5m'\", message: keep it short}}\n    \
         - {{name: never, kinds: [HelmRelease], expression: 'false'}}\n"
    );
    let spec = "{prune: false, interval: 1s, timeout: 10m}";
    let files = Files::new(&[
        ("policy.yaml", &policy),
        ("a.yaml", &kustomization("a", "", spec)),
        ("b.yaml", &kustomization("b", "legacy: 'true'", spec)),
    ]);
    let checked = files.check(&["-f", "a.yaml", "-f", "b.yaml", "--policies", "policy.yaml", "-o", "json"]);
    let report = checked.json();
    let findings: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            let text = |field: &str| finding[field].as_str().unwrap_or_default();
            format!(
                "{} {} {} {}:{}",
                text("name"),
                text("rule"),
                text("enforcement"),
                finding["line"],
                finding["column"]
            )
        })
        .collect();
    assert_eq!(findings, ["a prune Deny 4:8", "a interval Warn 4:22", "a short Deny 4:36"], "{report:#}");
}

#[test]
fn parameters_come_from_the_files_and_are_missed_by_a_note() {
    let policy = format!(
        "{POLICY}  paramRef: {{name: shared, namespace: gatehouse-system}}\n  \
         rules:\n    prune: Required\n    serviceAccountName: {{allowedFrom: [accounts]}}\n    cel:\n    \
         - {{name: paths, expression: \"object.spec.path.startsWith(params.data.root)\", message: wrong path}}\n"
    );
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared, namespace: gatehouse-system}\ndata: {accounts: \"flux-*\", root: ./apps/}\n";
    let object = kustomization("a", "", "{prune: false, serviceAccountName: ops, path: ./x}");
    let args = ["-f", "d", "--policies", "p"];
    for place in ["p/map.yaml", "d/map.yaml"] {
        let files = Files::new(&[("p/policy.yaml", &policy), (place, map), ("d/a.yaml", &object)]);
        let checked = files.check(&args);
        checked.expect(1, &[]);
        assert!(reported(&checked, &["ops is not allowed", "wrong path", "must be true"]), "{checked:?}");
    }
    let files = Files::new(&[("p/policy.yaml", &policy), ("d/a.yaml", &object)]);
    let checked = files.check(&args);
    checked
        .expect(1, &["p takes parameters from the ConfigMap gatehouse-system/shared, which is in no file"]);
    assert_eq!(checked.findings().len(), 1);
    // One of another namespace is another one.
    let elsewhere = map.replace("gatehouse-system", "team-a");
    let files = Files::new(&[("p/policy.yaml", &policy), ("d/map.yaml", &elsewhere), ("d/a.yaml", &object)]);
    assert_eq!(files.check(&args).findings().len(), 1);
}

#[test]
fn the_namespace_is_that_of_the_files_or_a_note() {
    let policy = format!(
        "{POLICY}  rules:\n    cel: [{{name: gold, expression: \"namespaceObject.metadata.labels.tier == 'gold'\", message: no gold}}]\n"
    );
    let namespace = |tier: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: team-a, labels: {{tier: {tier}}}}}\n")
    };
    let object = kustomization("a", "", "{}");
    let args = ["-f", "d", "--policies", "policy.yaml"];
    let files =
        Files::new(&[("policy.yaml", &policy), ("d/ns.yaml", &namespace("tin")), ("d/a.yaml", &object)]);
    let checked = files.check(&args);
    assert!(checked.code == 1 && reported(&checked, &["no gold"]), "{checked:?}");
    let files =
        Files::new(&[("policy.yaml", &policy), ("d/ns.yaml", &namespace("gold")), ("d/a.yaml", &object)]);
    files.check(&args).expect(0, &[]);
    let files = Files::new(&[("policy.yaml", &policy), ("d/a.yaml", &object)]);
    files.check(&args).expect(0, &["the Namespace team-a is in no file, so p/gold cannot judge the object"]);
}
