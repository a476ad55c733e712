//! What is judged is what would be applied: kustomizations, what Flux adds to them, variables, ResourceSets.

use crate::{Files, GOOD};

/// Intervals of a minute to twenty, and pruning.
const POLICY: &str = "\
apiVersion: policy.gatehouse.dev/v1alpha1
kind: ReconcilePolicy
metadata: {name: p}
spec:
  rules:
    interval: {min: 1m, max: 20m}
    prune: Required
    crossNamespaceRefs: Forbid
    targetNamespaces: Own
";

pub(crate) fn kustomization(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: team-a}}\nspec:\n  {}\n",
        spec.trim().replace('\n', "\n  ")
    )
}

pub(crate) fn files(files: &[(&str, &str)]) -> Files {
    let files = Files::new(files);
    files.write("policies/p.yaml", POLICY);
    files
}

/// The places of the findings, with the rule.
pub(crate) fn found(files: &Files, more: &[&str]) -> Vec<String> {
    let checked = files.check(&[&["-f", "d", "--policies", "policies"], more].concat());
    assert!(checked.code < 2, "{checked:?}");
    checked.findings().iter().map(|line| line.split(": spec").next().unwrap().to_owned()).collect()
}

pub(crate) const FINE: &str = "interval: 10m\nprune: true\npath: ./x";

#[test]
fn a_patch_is_judged_and_named_and_not_the_base() {
    let files = files(&[
        ("d/over/kustomization.yaml", "resources: [../base]\npatches: [{path: p.yaml}]\n"),
        ("d/over/p.yaml", &kustomization("a", "interval: 1s")),
        ("d/base/kustomization.yaml", "resources: [ks.yaml]\n"),
        ("d/base/ks.yaml", &kustomization("a", FINE)),
    ]);
    assert_eq!(found(&files, &[]), ["d/over/p.yaml:5:3: p/interval"]);
    // The other way round: the patch mends what the base has wrong.
    files.write("d/base/ks.yaml", kustomization("a", "interval: 1s\nprune: true"));
    files.write("d/over/p.yaml", kustomization("a", "interval: 1m"));
    assert_eq!(found(&files, &[]), [""; 0]);
    // What a patch takes away is missing because of the patch.
    files.write("d/over/p.yaml", kustomization("a", "interval: 1m\nprune: null"));
    assert_eq!(found(&files, &[]), ["d/over/p.yaml:6:3: p/prune"]);
    // Operations, written in place.
    files.write(
        "d/over/kustomization.yaml",
        "resources: [../base]\npatches:\n- target: {kind: Kustomization}\n  patch: |-\n    - op: replace\n      path: /spec/interval\n      value: 2h\n",
    );
    assert_eq!(found(&files, &[]), ["d/over/kustomization.yaml:7:14: p/interval"]);
}

#[test]
fn the_patches_of_a_parent_are_those_of_the_children() {
    let parent = kustomization(
        "cluster",
        "interval: 10m\npath: ./d/apps\nprune: true\npatches:\n- target: {kind: Kustomization}\n  patch: |\n    apiVersion: kustomize.toolkit.fluxcd.io/v1\n    kind: Kustomization\n    metadata: {name: _}\n    spec: {prune: true, interval: 30m}",
    );
    let files =
        files(&[("d/cluster/ks.yaml", &parent), ("d/apps/app.yaml", &kustomization("app", "path: ./app"))]);
    files.write(".git/HEAD", "");
    assert_eq!(found(&files, &[]), ["d/cluster/ks.yaml:14:27: p/interval"]);
    // A child that the parent makes a parent in turn.
    let grand = parent
        .replace("spec: {prune: true, interval: 30m}", "spec: {prune: true, interval: 5m, path: ./d/deep}");
    files.write("d/cluster/ks.yaml", &grand);
    files.write("d/deep/x.yaml", kustomization("deep", "interval: 1s\nprune: true"));
    assert_eq!(found(&files, &[]), ["d/deep/x.yaml:5:3: p/interval"]);
}

#[test]
fn a_path_may_count_from_a_folder_of_the_repository() {
    let files = files(&[
        (
            "d/kubernetes/ks.yaml",
            &kustomization("app", "interval: 10m\nprune: true\npath: ./apps/app\ntargetNamespace: team-a"),
        ),
        (
            "d/kubernetes/apps/app/hr.yaml",
            "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: app}\nspec:\n  interval: 10m\n  dependsOn: [{name: db, namespace: team-a}]\n",
        ),
        ("d/kubernetes/apps/app/kustomization.yaml", "resources: [hr.yaml]\n"),
    ]);
    assert_eq!(found(&files, &[]), [""; 0]);
}

#[test]
fn a_reference_out_of_a_namespace_that_is_not_known_is_a_note() {
    let files = files(&[(
        "d/hr.yaml",
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: app}\nspec:\n  interval: 1s\n  dependsOn: [{name: db, namespace: team-a}]\n",
    )]);
    let checked = files.check(&["d", "--policies", "policies"]);
    checked.expect(
        1,
        &["d/hr.yaml:6:26: note: spec.dependsOn[0].namespace: team-a is right in the namespace team-a alone"],
    );
    assert_eq!(checked.findings().len(), 1, "{checked:?}");
}

#[test]
fn what_no_kustomization_names_is_not_judged_unless_asked_for() {
    let files = files(&[
        ("d/kustomization.yaml", "resources:\n- a.yaml\n# - off.yaml\n"),
        ("d/a.yaml", &kustomization("a", FINE)),
        ("d/off.yaml", &kustomization("off", "interval: 1s\nprune: true")),
        ("d/below/off.yaml", &kustomization("below", "interval: 2s\nprune: true")),
    ]);
    let checked = files.check(&["d", "--policies", "policies"]);
    checked.expect(0, &["d/off.yaml: note: not judged", "d/below/off.yaml: note: not judged"]);
    assert_eq!(
        found(&files, &["--all-files"]),
        ["d/below/off.yaml:5:3: p/interval", "d/off.yaml:5:3: p/interval"]
    );
}

#[test]
fn what_is_elsewhere_or_not_built_is_said() {
    let files = files(&[
        (
            "d/kustomization.yaml",
            "resources: [a.yaml, gone.yaml, 'https://example.com/base?ref=v1']\nreplacements: [{path: r.yaml}]\ntransformers: [t.yaml]\n",
        ),
        ("d/a.yaml", &kustomization("a", FINE)),
        ("d/r.yaml", "source: {kind: ConfigMap}\n"),
    ]);
    files.check(&["d", "--policies", "policies"]).expect(
        0,
        &[
            "d/kustomization.yaml:1:21: note: gone.yaml does not exist",
            "d/kustomization.yaml:1:32: note: https://example.com/base?ref=v1 is elsewhere",
            "d/a.yaml:1:1: note: Kustomization a: d/r.yaml:1:1: a replacement is not made, since",
            "d/a.yaml:1:1: note: Kustomization a: d/kustomization.yaml:3:1: transformers is not built",
        ],
    );
    files.write("d/kustomization.yaml", "resources: [a.yaml]\npatches: [{path: missing.yaml}]\n");
    files
        .check(&["d", "--policies", "policies"])
        .expect(2, &["d/kustomization.yaml:2:18: error: kustomize cannot build this: missing.yaml: "]);
}

#[test]
fn what_is_not_built_here_kubectl_builds() {
    if std::process::Command::new("kubectl").arg("kustomize").arg("--help").output().is_err() {
        let required = std::env::var("GATEHOUSE_CONFORMANCE").is_ok_and(|value| value == "require");
        assert!(!required, "kubectl is required");
        eprintln!("left out: kubectl cannot be run");
        return;
    }
    let files = files(&[
        ("d/kustomization.yaml", "resources: [a.yaml]\ntransformers: [t.yaml]\n"),
        ("d/a.yaml", &kustomization("a", "interval: 10m\npath: ./x")),
        (
            "d/t.yaml",
            "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: t}\npatch: '- {op: replace, path: /spec/interval, value: 1s}'\ntarget: {kind: Kustomization}\n",
        ),
    ]);
    // What the transformer brought is its; what is missing is the object's.
    assert_eq!(found(&files, &[]), ["d/a.yaml:1:1: p/prune", "d/kustomization.yaml:2:1: p/interval"]);
}

#[test]
fn what_a_replacement_brings_is_told_at_the_replacement() {
    let replacement = "source: {kind: ConfigMap, name: c, fieldPath: data.interval}\ntargets:\n- select: {kind: Kustomization}\n  fieldPaths: [spec.interval]\n";
    let files = files(&[
        ("d/kustomization.yaml", "resources: [a.yaml, c.yaml]\nreplacements:\n- path: r.yaml\n"),
        ("d/a.yaml", &kustomization("a", "interval: 10m\npath: ./x")),
        ("d/c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {interval: 1s}\n"),
        ("d/r.yaml", replacement),
    ]);
    assert_eq!(found(&files, &[]), ["d/a.yaml:1:1: p/prune", "d/r.yaml:4:16: p/interval"]);
    // Versions of kustomize differ in what an expression selects.
    files.write("d/r.yaml", replacement.replace("{kind: Kustomization}", "{kind: Kust.*}"));
    let note = "d/a.yaml:1:1: note: Kustomization a: d/r.yaml:1:1: a replacement is not made, since a target is selected by an expression";
    let mut command = files.command(&["d", "--policies", "policies"]);
    // Without kubectl, which has one of them.
    crate::Checked::from(command.env("PATH", "").output().unwrap()).expect(1, &[note]);
}

#[test]
fn patches_of_what_is_not_among_the_files_are_a_note() {
    let patches = "patches:\n- target: {kind: Kustomization}\n  patch: '[]'";
    let root =
        |path: &str| kustomization("root", &format!("interval: 10m\nprune: true\npath: {path}\n{patches}"));
    let note = ":8:3: note: spec.patches: the folder of spec.path is not among the files";
    let files = files(&[("d/root.yaml", &root("./elsewhere"))]);
    files.check(&["d", "--policies", "policies"]).expect(0, &[&format!("d/root.yaml{note}")]);
    // All of a repository, which may be another one.
    files.write("d/root.yaml", root("./"));
    files.check(&["d", "--policies", "policies"]).expect(0, &[&format!("d/root.yaml{note}")]);
}

#[test]
fn what_kustomize_refuses_is_bad_input() {
    let files = files(&[
        ("d/kustomization.yaml", "resources: [a.yaml, b.yaml]\n"),
        ("d/a.yaml", &kustomization("a", FINE)),
        ("d/b.yaml", &kustomization("a", FINE)),
    ]);
    let reported = "d/b.yaml:1:1: error: kustomize cannot build this: Kustomization a is there already";
    files.check(&["d", "--policies", "policies"]).expect(2, &[reported]);
}

#[test]
fn a_path_may_count_from_the_current_folder() {
    let parent = kustomization("root", "interval: 10m\nprune: true\npath: ./d/apps\ntargetNamespace: team-b");
    let files = files(&[
        ("d/cluster/root.yaml", &parent),
        ("d/apps/a.yaml", &kustomization("a", "interval: 10m\nprune: true\ntargetNamespace: team-b")),
    ]);
    assert_eq!(found(&files, &[]), ["d/cluster/root.yaml:8:3: p/targetNamespaces"]);
}

#[test]
fn files_that_are_no_text_are_passed_over_in_a_folder() {
    let files = files(&[("d/a.yaml", &kustomization("a", FINE))]);
    files.write("d/crypt.yaml", b"\0GITCRYPT\0\x80\x81");
    files.write("d/wide.yaml", b"\xff\xfea\0:\0");
    files.write("d/binary.yaml", b"abc\0def");
    files.write("d/latin.yaml", b"a: \xe9\n");
    files.check(&["d", "--policies", "policies"]).expect(
        0,
        &[
            "d/crypt.yaml: note: passed over: encrypted by git-crypt",
            "d/wide.yaml: note: passed over: UTF-16",
            "d/binary.yaml: note: passed over: no text",
            "d/latin.yaml:1: note: passed over: not UTF-8",
        ],
    );
}

#[test]
fn an_encrypted_patch_is_a_note_on_what_it_may_change() {
    let files = files(&[
        ("d/kustomization.yaml", "resources: [a.yaml, secret.yaml]\npatches: [{path: patch.yaml}]\n"),
        ("d/a.yaml", &kustomization("a", "interval: 1s\nprune: true")),
    ]);
    files.write("d/secret.yaml", b"\0GITCRYPT\0\x80\x81");
    files.write("d/patch.yaml", b"\0GITCRYPT\0\x80\x81");
    files.check(&["d", "--policies", "policies"]).expect(
        1,
        &[
            "d/secret.yaml: note: passed over: encrypted by git-crypt",
            "d/a.yaml:1:1: note: Kustomization a: d/kustomization.yaml:2:18: patch.yaml is passed over: encrypted by git-crypt: what it changes is not judged",
        ],
    );
}

#[test]
fn booleans_are_those_of_whoever_reads_the_file() {
    let yes = kustomization("a", "interval: 10m\nprune: yes");
    let files = files(&[("d/a.yaml", &yes)]);
    assert_eq!(found(&files, &[]), [""; 0], "kubectl takes it for true");
    files.write("d/kustomization.yaml", "resources: [a.yaml]\n");
    assert_eq!(found(&files, &[]), ["d/a.yaml:6:3: p/prune"], "kustomize for a text");
}

#[test]
fn a_good_file_stays_good() {
    let files = Files::new(&[("d/kustomization.yml", "resources: [a.yaml]\n"), ("d/a.yaml", GOOD)]);
    files.strict(&["d"]).expect(0, &["1 judged"]);
}

#[test]
fn a_patch_may_be_for_what_is_elsewhere() {
    let files = files(&[
        (
            "d/kustomization.yaml",
            "resources: [a.yaml, 'https://example.com/x/base.yaml']\npatches: [{path: p.yaml}]\nconfigMapGenerator:\n- {name: far, behavior: merge, literals: [a=b]}\n",
        ),
        ("d/a.yaml", &kustomization("a", "interval: 1s\nprune: true")),
        ("d/p.yaml", "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: far}\nspec: {}\n"),
    ]);
    assert_eq!(found(&files, &[]), ["d/a.yaml:5:3: p/interval"]);
    files.write("d/kustomization.yaml", "resources: [a.yaml]\npatches: [{path: p.yaml}]\n");
    files.check(&["d", "--policies", "policies"]).expect(2, &["no object is DaemonSet far"]);
}

#[test]
fn what_kustomize_does_not_read_is_bad_input_where_it_reads() {
    let files = files(&[("d/kustomization.yaml", "resources: [a.yaml]\n")]);
    for (more, expected) in [
        (
            "  interval: 1m\n",
            "d/a.yaml:8:3: error: kustomize cannot build this: the key interval is there already",
        ),
        ("  values: {1: a}\n", "d/a.yaml:8:12: error: kustomize cannot build this: the key 1 is no text"),
        (
            "---\nfoo: bar\n",
            "d/a.yaml:9:1: error: kustomize cannot build this: a document without apiVersion",
        ),
    ] {
        let fine = kustomization("a", FINE);
        files.write("d/a.yaml", format!("{}\n{more}", fine.trim_end()));
        files.check(&["d", "--policies", "policies"]).expect(2, &[expected]);
        // kubectl takes the last of two keys.
        files.check(&["d/a.yaml", "--policies", "policies"]).expect(0, &["1 judged"]);
    }
    files.write("d/a.yaml", kustomization("a", "interval: 1s\nprune: true"));
    files.write("d/kustomization.yaml", "resources: [a.yaml]\nresources: []\n");
    let expected =
        "d/kustomization.yaml:2:1: error: kustomize cannot build this: the key resources is there already";
    files.check(&["d", "--policies", "policies"]).expect(2, &[expected]);
}

#[test]
fn a_map_in_braces_is_yaml_as_well() {
    let files = files(&[(
        "d/a.yaml",
        "{apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization, metadata: {name: a},\n  spec: {interval: 1s, prune: true}}\n",
    )]);
    assert_eq!(found(&files, &[]), ["d/a.yaml:2:10: p/interval"]);
}

#[test]
fn what_is_only_for_kustomize_is_not_judged() {
    let local = "metadata: {name: bad, annotations: {config.kubernetes.io/local-config: \"true\"}}";
    let files =
        Files::new(&[("a/kustomization.yaml", "resources: [bad.yaml, good.yaml]\n"), ("a/good.yaml", GOOD)]);
    let object = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: bad}\nspec: {interval: 1s}\n";
    files.write("a/bad.yaml", object);
    assert_eq!(files.strict(&["a"]).code, 1);
    files.write("a/bad.yaml", object.replace("metadata: {name: bad}", local));
    let found = files.strict(&["a"]);
    assert_eq!((found.code, found.findings().len()), (0, 0), "{found:?}");
}

#[test]
fn a_patch_does_not_turn_an_object_into_one_that_is_not_judged() {
    let files = Files::new(&[("a/good.yaml", GOOD)]);
    for kustomization in [
        "resources: [good.yaml]\npatches:\n- target: {kind: Kustomization}\n  patch: |\n    apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: x}\n    spec: {interval: 1s}\n",
        // The second document of an inline patch counts, too.
        "resources: [good.yaml]\npatches:\n- patch: |\n    apiVersion: kustomize.toolkit.fluxcd.io/v1\n    kind: Kustomization\n    metadata: {name: good, namespace: apps}\n    spec: {timeout: 3m}\n    ---\n    apiVersion: kustomize.toolkit.fluxcd.io/v1\n    kind: Kustomization\n    metadata: {name: good, namespace: apps}\n    spec:\n      interval: 1s\n",
    ] {
        files.write("a/kustomization.yaml", kustomization);
        let found = files.strict(&["a"]);
        assert_eq!(found.code, 1, "{found:?}");
        let line = kustomization.lines().position(|line| line.contains("interval: 1s")).unwrap() + 1;
        assert!(found.findings()[0].starts_with(&format!("a/kustomization.yaml:{line}:")), "{found:?}");
    }
}
