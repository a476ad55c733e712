//! What policies find, and where.

use std::{fs, path::Path};

use serde_json::json;

use crate::{BAD, Files, GOOD, STRICT};

#[test]
fn what_a_default_fills_is_no_violation() {
    // Neither `interval` nor `prune`, which the policy's defaults set.
    let without = GOOD.to_owned();
    Files::new(&[("ks.yaml", &without)]).strict(&["-f", "."]).expect(0, &[]);
    let wrong = GOOD.replace("spec:", "spec:\n  prune: false\n  interval: 2h");
    let checked = Files::new(&[("ks.yaml", &wrong)]).strict(&["-f", "."]);
    let findings = checked.findings();
    assert_eq!(findings.len(), 2, "{checked:?}");
    assert!(findings[0].starts_with("ks.yaml:5:3: strict/prune: spec.prune: "), "{findings:?}");
    assert!(findings[1].starts_with("ks.yaml:6:3: strict/interval: spec.interval: "), "{findings:?}");
}

#[test]
fn policies_among_the_files_count_too() {
    let policy = fs::read_to_string(STRICT).unwrap();
    Files::new(&[("all.yaml", &format!("{policy}\n---\n{BAD}"))]).check(&["-f", "all.yaml"]).expect(1, &[]);
}

#[test]
fn items_of_lists_have_their_own_lines() {
    let list = "\
apiVersion: v1
kind: List
items:
- apiVersion: source.toolkit.fluxcd.io/v1
  kind: GitRepository
  metadata: {name: one, namespace: apps}
  spec: {url: https://github.com/a/b, interval: 5m}
- apiVersion: source.toolkit.fluxcd.io/v1
  kind: GitRepository
  metadata: {name: two, namespace: apps}
  spec:
    url: https://github.com/a/b
    interval: 5s
";
    let checked = Files::new(&[("list.yaml", list)]).strict(&["-f", "list.yaml"]);
    assert_eq!(checked.findings().len(), 1, "{checked:?}");
    assert!(checked.out.starts_with("list.yaml:13:5: strict/interval: "), "{checked:?}");
    let dump = json!({"apiVersion": "v1", "kind": "List", "items": [{
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"name": "two", "namespace": "apps"},
        "spec": {"url": "https://github.com/a/b", "interval": "5s"},
    }]});
    let dump = serde_json::to_string_pretty(&dump).unwrap();
    let line = dump.lines().position(|line| line.contains("\"5s\"")).unwrap() + 1;
    let checked = Files::new(&[("list.json", &dump)]).strict(&["-f", "list.json"]);
    assert!(checked.out.starts_with(&format!("list.json:{line}:")), "{checked:?}");
}

#[test]
fn cycles_are_found_over_all_files() {
    let link = |name: &str, on: &str| {
        GOOD.replace("name: good", &format!("name: {name}"))
            .replace("spec:", &format!("spec:\n  dependsOn: [{{name: {on}}}]"))
    };
    let files =
        Files::new(&[("a.yaml", &link("a", "b")), ("b.yaml", &link("b", "c")), ("c.yaml", &link("c", "a"))]);
    let checked = files.strict(&["-f", "."]);
    checked.expect(1, &[]);
    assert_eq!(checked.findings().len(), 3, "{checked:?}");
    assert!(checked.out.contains("a.yaml:5:3: strict/dependencyCycles: spec.dependsOn"), "{checked:?}");
}

#[test]
fn what_flux_fills_in_is_not_judged_and_named() {
    let variable = GOOD.replace("spec:", "spec:\n  interval: ${INTERVAL:=10s}");
    Files::new(&[("ks.yaml", &variable)])
        .strict(&["-f", "ks.yaml"])
        .expect(0, &["ks.yaml:5:3: note: spec.interval: ${INTERVAL:=10s} is filled in by Flux"]);
}

/// Three hundred files of a cluster that somebody runs.
#[test]
fn a_real_repository_has_findings_with_file_and_line() {
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/real/endsys-gitops");
    if !real.exists() {
        eprintln!("left out: {} is not here", real.display());
        return;
    }
    let files = Files::new(&[]);
    let checked = files.strict(&["-f", real.to_str().unwrap(), "-o", "json"]);
    checked.expect(1, &[]);
    let report = checked.json();
    let findings = report["findings"].as_array().unwrap();
    for finding in findings {
        let text = fs::read_to_string(finding["path"].as_str().unwrap()).unwrap();
        let line = usize::try_from(finding["line"].as_u64().unwrap()).unwrap();
        let line = text.lines().nth(line - 1).unwrap();
        let field = finding["field"].as_str().unwrap();
        let last = field.rsplit('.').next().unwrap().split('[').next().unwrap();
        // The field, or, where it is missing, the object's first line.
        assert!(
            line.contains(last) || line.starts_with("apiVersion:") || line.contains("- "),
            "{line}: {finding}"
        );
    }
    let rules: Vec<_> = findings.iter().map(|finding| finding["rule"].as_str().unwrap()).collect();
    for rule in ["interval", "serviceAccountName", "crossNamespaceRefs", "sources"] {
        assert!(rules.contains(&rule), "{rule} in {rules:?}");
    }
    // Everything goes to a namespace that kustomize or Flux names.
    let homeless = findings.iter().filter(|finding| finding["namespace"].is_null());
    assert_eq!(homeless.count(), 0, "{report:#}");
}
