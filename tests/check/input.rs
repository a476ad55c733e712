//! What is read, passed over, and refused.

use std::{fs, io::Write, os::unix::fs::symlink, process::Stdio};

use crate::{BAD, Checked, Files, GOOD, STRICT};

#[test]
fn standard_input_is_read_in_place_of_a_file() {
    let files = Files::new(&[]);
    let mut child = files
        .command(&["-f", "-", "--policies", STRICT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(BAD.as_bytes()).unwrap();
    let checked = Checked::from(child.wait_with_output().unwrap());
    checked.expect(1, &[]);
    assert!(checked.out.contains("<stdin>:9:3: strict/interval: spec.interval: "), "{checked:?}");
}

#[test]
fn what_is_no_object_is_passed_over_in_a_folder() {
    let files = Files::new(&[
        ("good.yaml", GOOD),
        ("values.yaml", "replicas: 3\nimage: {tag: x}\n"),
        ("schema.json", r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}"#),
        ("renovate.json", "{\n  // comments are not JSON\n  \"extends\": []\n}\n"),
        ("chart/Chart.yaml", "apiVersion: v2\nname: chart\nversion: 1.0.0\n"),
        (
            "chart/templates/ks.yaml",
            "{{- if .Values.x }}\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n{{- end }}\n",
        ),
        (
            "templates/app.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ name }}\n  {% if x %}\n  a: b\n",
        ),
        (
            "secret.sops.yaml",
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: x}\nspec: ENC[x]\nsops: {mac: x}\n",
        ),
        ("notes.txt", "apiVersion: [\nkind: ["),
        (".hidden.yaml", "apiVersion: [\nkind: ["),
    ]);
    let checked = files.strict(&["-f", "."]);
    checked.expect(
        0,
        &[
            "templates/app.yaml:4: note: passed over: a template",
            "chart/templates: note: passed over: Helm templates",
        ],
    );
    assert_eq!(checked.out, "");
}

#[test]
fn bad_input_is_2_and_told_by_place() {
    let files = Files::new(&[
        ("bad.yaml", BAD),
        ("folder/broken.yaml", "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: [1\n"),
        ("empty.yaml", "# nothing\n---\n"),
        (
            "newer.yaml",
            "apiVersion: policy.gatehouse.dev/v1\nkind: ReconcilePolicy\nmetadata: {name: x}\nspec: {rules: {}}\n",
        ),
        ("template.yaml", "a: {{ .Values.a }}\nb: }\n"),
    ]);
    files.write("latin1.yaml", b"apiVersion: v1\nkind: \xe9\n");
    for (args, printed) in [
        (vec!["-f", "missing.yaml"], "missing.yaml: error: does not exist"),
        (vec!["-f", "bad.yaml", "--policies", "nowhere"], "nowhere: error: does not exist"),
        (vec!["-f", "empty.yaml"], "empty.yaml: error: is empty"),
        (vec!["-f", "-"], "<stdin>: error: is empty"),
        (
            vec!["-f", "bad.yaml", "--policies", "newer.yaml"],
            "newer.yaml:2:1: error: ReconcilePolicy of policy.gatehouse.dev/v1 is not known",
        ),
        (vec!["-f", "latin1.yaml"], "latin1.yaml:2: error: does not parse: not UTF-8"),
        (vec!["-f", "folder"], "folder/broken.yaml:4: error: does not parse: "),
        // In a folder it would be passed over.
        (vec!["-f", "template.yaml"], "template.yaml:1: error: does not parse: "),
    ] {
        files.strict(&args).expect(2, &[printed]);
    }
    // What can be judged is judged all the same.
    let checked = files.strict(&["-f", "bad.yaml", "-f", "missing.yaml"]);
    checked.expect(2, &["; 1 error"]);
    assert!(checked.out.contains("strict/interval"), "{checked:?}");
}

#[test]
fn a_folder_without_manifests_is_bad_input() {
    let files = Files::new(&[("empty/readme.md", "nothing")]);
    files.strict(&["-f", "empty"]).expect(2, &["empty: error: holds no manifest"]);
}

#[test]
fn without_anything_to_check_by_nothing_is_checked() {
    Files::new(&[("bad.yaml", BAD)]).check(&["-f", "bad.yaml"]).expect(2, &["neither a ReconcilePolicy nor"]);
}

#[test]
fn a_policy_that_does_not_compile_is_told_by_file_line_and_field() {
    let policy = "\
apiVersion: policy.gatehouse.dev/v1alpha1
kind: ReconcilePolicy
metadata: {name: broken}
spec:
  rules:
    interval:
      min: soon
    intervall: {min: 1m}
    freezes:
    - name: weekend
      schedule: 0 18 * * FRI
      duration: 62h
      timeZone: Europe/Atlantis
    cel:
    - expression: object.spec.(
---
apiVersion: policy.gatehouse.dev/v1alpha1
kind: TenantQuota
metadata: {name: broken}
spec:
  namespaceSelector: {}
  hard:
    players: '-1'
---
apiVersion: policy.gatehouse.dev/v1alpha1
kind: ReconcilePolicy
metadata: {name: untyped}
spec:
  rules:
    prune: Perhaps
";
    let checked = Files::new(&[("policy.yaml", policy), ("good.yaml", GOOD)]).check(&[
        "-f",
        "good.yaml",
        "--policies",
        "policy.yaml",
    ]);
    checked.expect(
        2,
        &[
            "policy.yaml:7:7: error: ReconcilePolicy broken: spec.rules.interval.min: ",
            "policy.yaml:8:5: error: ReconcilePolicy broken: spec.rules.intervall: unknown field",
            "policy.yaml:13:7: error: ReconcilePolicy broken: spec.rules.freezes[0].timeZone: ",
            "policy.yaml:15:7: error: ReconcilePolicy broken: spec.rules.cel[0].expression: ",
            "policy.yaml:23:5: error: TenantQuota broken: spec.hard[players]: ",
            "policy.yaml:30:5: error: ReconcilePolicy untyped: spec.rules.prune: ",
        ],
    );
}

#[test]
fn a_file_too_large_to_hold_is_refused_and_a_large_one_is_read() {
    let files = Files::new(&[]);
    fs::File::create(files.path("huge.yaml")).unwrap().set_len(1 << 40).unwrap();
    files.strict(&["-f", "huge.yaml"]).expect(2, &["huge.yaml: error: cannot be read: more than"]);
    let many: Vec<String> = (0..2000).map(|n| GOOD.replace("name: good", &format!("name: n{n}"))).collect();
    files.write("many.yaml", format!("{}---\n{BAD}", many.join("---\n")));
    let checked = files.strict(&["-f", "many.yaml"]);
    checked.expect(1, &["2002 objects"]);
    let line = 2000 * (GOOD.lines().count() + 1) + 9;
    assert!(checked.out.contains(&format!("many.yaml:{line}:3: strict/interval")), "{checked:?}");
}

#[test]
fn links_that_lead_back_up_end() {
    let files = Files::new(&[("repository/apps/bad.yaml", BAD)]);
    symlink(files.path("repository"), files.path("repository/apps/up")).unwrap();
    symlink(files.path("nowhere"), files.path("repository/apps/dangling.yaml")).unwrap();
    symlink("self.yaml", files.path("repository/self.yaml")).unwrap();
    let checked = files.strict(&["-f", "repository"]);
    checked.expect(1, &["2 objects"]);
}

#[test]
fn a_file_named_twice_is_judged_once() {
    let files = Files::new(&[("a/bad.yaml", BAD)]);
    let once = files.strict(&["-f", "a/bad.yaml"]);
    assert_eq!(files.strict(&["-f", "a", "-f", "./a/bad.yaml"]).findings().len(), once.findings().len());
}
