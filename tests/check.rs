//! `gatehouse check` as CI runs it: the executable on files, its output and its exit code.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails with what it met")]

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

const STRICT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/policies/strict.yaml");
const QUOTA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/policies/tenant-quota.yaml");

/// A folder of files to check, which the command runs in, so that paths are short and the same everywhere.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            folder.write(path, text);
        }
        folder
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        command.arg("check").args(args).current_dir(self.0.path());
        command.env_remove("RUST_LOG").env_remove("KUBECONFIG").stdin(Stdio::null());
        command
    }

    fn check(&self, args: &[&str]) -> Checked {
        Checked::from(self.command(args).output().unwrap())
    }

    /// With the example policy.
    fn strict(&self, args: &[&str]) -> Checked {
        self.check(&[&["--policies", STRICT], args].concat())
    }
}

#[derive(Debug)]
struct Checked {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Checked {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Checked {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The first line of each finding, without the hints.
    fn findings(&self) -> Vec<&str> {
        self.out.lines().filter(|line| !line.starts_with(' ')).collect()
    }

    /// `code`, and standard error has each of `said`.
    fn expect(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for said in said {
            assert!(self.err.contains(said), "{said:?} is missing in {self:?}");
        }
    }
}

const NAMESPACE: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: apps
  labels: {gatehouse.dev/tenant: team-a}
";

/// Nothing is wrong with it.
const GOOD: &str = "\
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: good, namespace: apps}
spec:
  serviceAccountName: flux-apps
  targetNamespace: apps
  sourceRef: {kind: GitRepository, name: apps}
";

/// Nearly everything is.
const BAD: &str = "\
# Two documents.
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata:
  name: apps
  namespace: apps
spec:
  interval: 10s
  url: https://git.example.com/apps
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: bad
  namespace: apps
spec:
  prune: false
  sourceRef:
    kind: GitRepository
    name: fleet
    namespace: flux-system
";

#[test]
fn findings_are_told_as_text_with_their_places() {
    let files =
        Files::new(&[("apps/bad.yaml", BAD), ("apps/good.yaml", GOOD), ("namespace.yaml", NAMESPACE)]);
    let checked = files.strict(&["-f", "."]);
    insta::assert_snapshot!(
        "text",
        format!("{}\n--\n{}exit code {}", checked.out, checked.err, checked.code)
    );
}

#[test]
fn findings_are_told_as_json() {
    let files = Files::new(&[("bad.yaml", BAD), ("broken.yaml", "apiVersion: v1\nkind: [\n")]);
    let checked = files.strict(&["-f", ".", "-o", "json"]);
    checked.expect(2, &["broken.yaml"]);
    insta::assert_json_snapshot!("json", checked.json());
}

#[test]
fn findings_are_told_as_sarif() {
    let audit = fs::read_to_string(STRICT).unwrap().replace("enforcement: Deny", "enforcement: Audit");
    let audit = audit.replace("name: strict", "name: lenient");
    let files = Files::new(&[("a b/bad.yaml", BAD), ("policies/audit.yaml", &audit)]);
    let checked = files.strict(&["-f", ".", "-o", "sarif"]);
    checked.expect(1, &[]);
    let mut sarif = checked.json();
    has_the_shape_of_sarif(&sarif);
    sarif["runs"][0]["tool"]["driver"]["semanticVersion"] = "(version)".into();
    insta::assert_json_snapshot!("sarif", sarif);
}

/// What the schema of SARIF 2.1.0 asks of the parts that are used.
fn has_the_shape_of_sarif(sarif: &Value) {
    assert_eq!(sarif["version"], "2.1.0");
    let only = |value: &Value, known: &[&str]| {
        for field in value.as_object().unwrap().keys() {
            assert!(known.contains(&field.as_str()), "{field} in {value}");
        }
    };
    only(sarif, &["$schema", "version", "runs"]);
    let run = &sarif["runs"][0];
    only(run, &["tool", "columnKind", "invocations", "results"]);
    assert!(["utf16CodeUnits", "unicodeCodePoints"].contains(&run["columnKind"].as_str().unwrap()));
    let driver = &run["tool"]["driver"];
    only(driver, &["name", "semanticVersion", "rules"]);
    let rules = driver["rules"].as_array().unwrap();
    for rule in rules {
        only(rule, &["id", "shortDescription", "help", "defaultConfiguration", "properties"]);
        assert!(!rule["help"]["text"].as_str().unwrap().is_empty());
    }
    let levels = ["none", "note", "warning", "error"];
    assert!(run["invocations"][0]["executionSuccessful"].is_boolean());
    for result in run["results"].as_array().unwrap() {
        only(result, &["ruleId", "ruleIndex", "level", "message", "locations"]);
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(levels.contains(&result["level"].as_str().unwrap()));
        assert!(result["message"]["text"].is_string());
        let physical = &result["locations"][0]["physicalLocation"];
        let uri = physical["artifactLocation"]["uri"].as_str().unwrap();
        assert!(!uri.contains(' ') && !uri.starts_with("./"), "{uri}");
        assert!(physical["region"]["startLine"].as_u64().unwrap() >= 1);
        assert!(physical["region"]["startColumn"].as_u64().unwrap() >= 1);
    }
}

#[test]
fn nothing_wrong_is_silent_and_0() {
    let checked = Files::new(&[("good.yaml", GOOD)]).strict(&["-f", "good.yaml"]);
    checked.expect(0, &["1 object in 2 files", "0 to be denied"]);
    assert_eq!(checked.out, "");
}

#[test]
fn warnings_and_audits_fail_only_if_strict() {
    for enforcement in ["Warn", "Audit"] {
        let policy = fs::read_to_string(STRICT).unwrap().replace("Deny", enforcement);
        let files = Files::new(&[("bad.yaml", BAD), ("policy.yaml", &policy)]);
        let checked = files.check(&["-f", "bad.yaml", "--policies", "policy.yaml"]);
        checked.expect(0, &["0 to be denied"]);
        assert!(
            checked.out.contains(&format!("strict/interval ({enforcement}): spec.interval: ")),
            "{checked:?}"
        );
        files.check(&["-f", "bad.yaml", "--policies", "policy.yaml", "--strict"]).expect(1, &[]);
    }
}

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
        &["templates/app.yaml:4: note: passed over: a template", "chart/templates/ks.yaml: note: "],
    );
    assert_eq!(checked.out, "");
}

#[test]
fn bad_input_is_2_and_told_by_place() {
    let files = Files::new(&[
        ("bad.yaml", BAD),
        ("folder/broken.yaml", "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: [1\n"),
        ("template.yaml", "a: {{ .Values.a }}\nb: }\n"),
    ]);
    files.write("latin1.yaml", b"apiVersion: v1\nkind: \xe9\n");
    for (args, said) in [
        (vec!["-f", "missing.yaml"], "missing.yaml: error: does not exist"),
        (vec!["-f", "bad.yaml", "--policies", "nowhere"], "nowhere: error: does not exist"),
        (vec!["-f", "latin1.yaml"], "latin1.yaml:2: error: does not parse: not UTF-8"),
        (vec!["-f", "folder"], "folder/broken.yaml:4: error: does not parse: "),
        // In a folder it would be passed over.
        (vec!["-f", "template.yaml"], "template.yaml:1: error: does not parse: "),
    ] {
        files.strict(&args).expect(2, &[said]);
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
fn a_policy_that_asks_for_labels_judges_namespaces_whose_labels_are_not_known() {
    let selective = fs::read_to_string(STRICT).unwrap().replace(
        "enforcement:",
        "namespaceSelector: {matchLabels: {gatehouse.dev/tenant: team-a}}\n  enforcement:",
    );
    let files = Files::new(&[("bad.yaml", BAD), ("policy.yaml", &selective)]);
    let args = ["-f", "bad.yaml", "--policies", "policy.yaml"];
    files
        .check(&args)
        .expect(1, &["note: strict selects namespaces by labels, and those of apps are not known"]);
    let told = |label: &str| files.check(&[args.as_slice(), &["--namespace-labels", label]].concat());
    told("apps:gatehouse.dev/tenant=team-a").expect(1, &["2 judged"]);
    let other = told("apps:gatehouse.dev/tenant=team-b");
    other.expect(0, &["0 judged"]);
    assert!(!other.err.contains("note:"), "{other:?}");
    files.write("namespace.yaml", NAMESPACE.replace("team-a", "team-b"));
    files.check(&[args.as_slice(), &["-f", "namespace.yaml"]].concat()).expect(0, &[]);
    told("apps").expect(2, &["NAMESPACE:KEY=VALUE"]);
}

#[test]
fn kustomizations_say_which_namespace_objects_go_to_and_which_files_are_patches() {
    let files = Files::new(&[
        (
            "overlay/kustomization.yaml",
            "namespace: flux-system\nresources: [../base]\npatches: [{path: patch.yaml}]\n",
        ),
        (
            "overlay/patch.yaml",
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: x}\nspec: {interval: 1s}\n",
        ),
        (
            "base/kustomization.yaml",
            "kind: Kustomization\napiVersion: kustomize.config.k8s.io/v1beta1\nnamespace: other\nresources: [bad.yaml]\n",
        ),
        ("base/bad.yaml", BAD),
    ]);
    // The reference to flux-system is one to the object's own namespace then.
    let checked = files.strict(&["-f", ".", "-o", "json"]);
    let report = checked.json();
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["namespace"] == "flux-system"), "{report:#}");
    assert!(findings.iter().all(|finding| finding["rule"] != "crossNamespaceRefs"), "{report:#}");
    assert!(findings.iter().all(|finding| finding["path"] == "base/bad.yaml"), "{report:#}");
}

#[test]
fn a_flux_kustomization_says_which_namespace_its_path_goes_to() {
    let applying = GOOD.replace("targetNamespace: apps", "targetNamespace: flux-system\n  path: ./apps/bad");
    let without = BAD.replace("  namespace: apps\n", "");
    for (path, more) in [
        // A folder of manifests, and one with a kustomization file below: Flux makes one for what is above.
        ("apps/bad/bad.yaml", ("notes.yaml", "")),
        ("apps/bad/app/bad.yaml", ("apps/bad/app/kustomization.yaml", "resources: [bad.yaml]\n")),
    ] {
        let files = Files::new(&[("flux/apps.yaml", &applying), (path, &without), more]);
        let report = files.strict(&["-f", ".", "-o", "json"]).json();
        let findings = report["findings"].as_array().unwrap();
        let bad: Vec<_> = findings.iter().filter(|finding| finding["path"] == path).collect();
        assert!(
            !bad.is_empty() && bad.iter().all(|finding| finding["namespace"] == "flux-system"),
            "{report:#}"
        );
    }
}

#[test]
fn what_flux_fills_in_is_not_judged_and_named() {
    let variable = GOOD.replace("spec:", "spec:\n  interval: ${INTERVAL:=10s}");
    Files::new(&[("ks.yaml", &variable)])
        .strict(&["-f", "ks.yaml"])
        .expect(0, &["ks.yaml:5:3: note: spec.interval: ${INTERVAL:=10s} is filled in by Flux"]);
}

fn fleet(name: &str, replicas: u32) -> String {
    format!(
        "---
apiVersion: agones.dev/v1
kind: Fleet
metadata: {{name: {name}, namespace: apps}}
spec:
  replicas: {replicas}
  template:
    spec:
      template:
        spec:
          containers:
          - name: game
            image: game
            resources: {{requests: {{cpu: 500m, memory: 1Gi}}}}
"
    )
}

#[test]
fn quotas_are_held_against_the_sum_over_all_files() {
    let files = Files::new(&[
        ("namespace.yaml", NAMESPACE),
        ("a.yaml", &fleet("a", 50)),
        ("b.yaml", &fleet("b", 30)),
    ]);
    let args = ["-f", ".", "--policies", QUOTA];
    files.check(&args).expect(0, &["2 judged", "1 quota"]);
    files.write("b.yaml", fleet("b", 31));
    let checked = files.check(&args);
    checked.expect(1, &[]);
    assert_eq!(checked.findings().len(), 1, "{checked:?}");
    let finding = checked.findings()[0];
    assert!(finding.starts_with("b.yaml:6:3: team-a/gameservers: spec.replicas: "), "{finding}");
    assert!(finding.contains("81") && finding.contains("80"), "{finding}");
}

#[test]
fn a_quota_does_not_count_namespaces_whose_labels_are_not_known() {
    let files = Files::new(&[("a.yaml", &fleet("a", 500))]);
    let args = ["-f", ".", "--policies", QUOTA];
    files
        .check(&args)
        .expect(0, &["note: team-a selects namespaces by labels, and those of apps are not known"]);
}

#[test]
fn an_amount_that_is_none_is_a_finding() {
    let broken = fleet("a", 1).replace("500m", "half");
    let checked = Files::new(&[("namespace.yaml", NAMESPACE), ("a.yaml", &broken)]).check(&[
        "-f",
        ".",
        "--policies",
        QUOTA,
    ]);
    checked.expect(1, &[]);
    assert!(checked.out.starts_with("a.yaml:14:"), "{checked:?}");
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
