//! What Flux does beside kustomize: variables, artifacts, what it leaves alone.

use crate::Files;
use crate::built::{FINE, files, found, kustomization};

#[test]
fn folders_of_a_folder_without_a_kustomization_do_not_change_each_other() {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: _}\n";
    let child = |name: &str| {
        kustomization(name, "interval: 10m\nprune: true\ntargetNamespace: one")
            .replace(", namespace: team-a", "")
    };
    let layer =
        |name: &str| format!("namespace: {name}\ncomponents: [../../add]\nresources: [ns.yaml, ks.yaml]\n");
    let files = files(&[
        ("d/cluster/ks.yaml", &kustomization("cluster", "interval: 10m\npath: ./d/apps\nprune: true")),
        ("d/apps/one/kustomization.yaml", &layer("one")),
        ("d/apps/one/ns.yaml", namespace),
        ("d/apps/one/ks.yaml", &child("a")),
        ("d/apps/two/kustomization.yaml", &layer("two")),
        ("d/apps/two/ns.yaml", namespace),
        ("d/apps/two/ks.yaml", &child("a")),
        ("d/add/kustomization.yaml", "kind: Component\nresources: [more.yaml]\n"),
        ("d/add/more.yaml", &child("more")),
        (".git/HEAD", ""),
    ]);
    assert_eq!(
        found(&files, &[]),
        ["d/add/more.yaml:7:3: p/targetNamespaces", "d/apps/two/ks.yaml:7:3: p/targetNamespaces"]
    );
}

#[test]
fn what_flux_leaves_alone_is_not_judged() {
    let marked = |mark: &str| {
        kustomization("app", "interval: 1s\nprune: true")
            .replace("metadata: {", &format!("metadata: {{{mark}, "))
    };
    let parent = kustomization("cluster", "interval: 10m\npath: ./d/apps\nprune: true");
    let files = files(&[("d/cluster/ks.yaml", &parent), (".git/HEAD", "")]);
    let disabled = "annotations: {kustomize.toolkit.fluxcd.io/reconcile: Disabled}";
    files.write("d/apps/app.yaml", marked(disabled));
    let note = "d/apps/app.yaml:3:26: note: not judged: Flux does not apply the Kustomization app (kustomize.toolkit.fluxcd.io/reconcile: Disabled)";
    files.check(&["d", "--policies", "policies"]).expect(0, &[note]);
    files.write("d/apps/app.yaml", marked("labels: {kustomize.toolkit.fluxcd.io/ssa: Ignore}"));
    assert_eq!(found(&files, &[]), [""; 0]);
    files.write("d/apps/app.yaml", marked("labels: {kustomize.toolkit.fluxcd.io/ssa: IfNotPresent}"));
    assert_eq!(found(&files, &[]), ["d/apps/app.yaml:5:3: p/interval"]);
    // Whoever applies it with kubectl does not care.
    files.write("d/cluster/ks.yaml", parent.replace("d/apps", "d/none"));
    files.write("d/apps/app.yaml", marked(disabled));
    assert_eq!(found(&files, &[]), ["d/apps/app.yaml:5:3: p/interval"]);
}

#[test]
fn what_is_not_in_the_artifact_is_not_applied() {
    let parent =
        kustomization("cluster", "interval: 10m\npath: ./d/apps\nprune: true\ntargetNamespace: team-a");
    let bad = kustomization("bad", "interval: 1s\nprune: true");
    let files = files(&[
        ("d/cluster/ks.yaml", &parent),
        ("d/apps/good.yaml", &kustomization("good", FINE)),
        ("d/apps/docs/example.yaml", &bad),
        ("d/apps/deep/kept.yaml", &bad.replace("name: bad", "name: kept")),
        ("d/apps/deep/out.yaml", &bad.replace("name: bad", "name: out")),
        (".git/HEAD", ""),
        (".sourceignore", "# not these\ndocs/\n"),
        ("d/apps/deep/.sourceignore", "*.yaml\n!kept.yaml\n"),
    ]);
    let checked = files.check(&["d", "--policies", "policies"]);
    checked.expect(
        1,
        &["d/apps/docs/example.yaml: note: not judged: .sourceignore leaves it out of what Flux applies"],
    );
    assert_eq!(found(&files, &[]), ["d/apps/deep/kept.yaml:5:3: p/interval"]);
}

#[test]
fn a_variable_may_become_more_than_a_text() {
    let app = "interval: 10m\nprune: ${PRUNE}\ndependsOn: ${DEPENDS}\ntimeout: ${TIMEOUT/x/m}";
    let parent = "interval: 10m\npath: ./d/apps\nprune: true\npostBuild:\n  substitute: {PRUNE: \"tru\\ne\", DEPENDS: '[{name: a, namespace: team-b}]', TIMEOUT: 5x}";
    let files = files(&[
        ("d/cluster/ks.yaml", &kustomization("cluster", parent)),
        ("d/apps/app.yaml", &kustomization("app", app)),
        (".git/HEAD", ""),
    ]);
    assert_eq!(found(&files, &[]), ["d/apps/app.yaml:7:14: p/crossNamespaceRefs"]);
    // Without a variable Flux fills nothing in.
    let none = parent.split("postBuild").next().unwrap().to_owned() + "postBuild: {substituteFrom: []}";
    files.write("d/cluster/ks.yaml", kustomization("cluster", &none));
    files.write("d/apps/app.yaml", kustomization("app", "interval: ${I:=1s}\nprune: true"));
    files.check(&["d", "--policies", "policies"]).expect(0, &["note: spec.interval: ${I:=1s} is filled in"]);
    files.write(
        "d/cluster/ks.yaml",
        kustomization("cluster", &none.replace("{sub", "{substituteStrategy: Always, sub")),
    );
    assert_eq!(found(&files, &[]), ["d/apps/app.yaml:5:3: p/interval"]);
    // What Flux refuses.
    files.write("d/apps/app.yaml", kustomization("app", "interval: ${I-1s}\nprune: true"));
    files.check(&["d", "--policies", "policies"]).expect(
        2,
        &["d/apps/app.yaml:5:13: error: Flux cannot build this: variable substitution failed: missing closing brace"],
    );
}

#[test]
fn variables_that_are_known_are_filled_in_and_the_others_are_notes() {
    let parent = kustomization(
        "cluster",
        "interval: 10m\npath: ./d/apps\nprune: true\npostBuild:\n  substitute: {PRUNE: \"true\"}\n  substituteFrom: [{kind: ConfigMap, name: settings}]",
    );
    let app = "interval: ${INTERVAL}\nprune: ${PRUNE}\ntimeout: ${TIMEOUT:=1m}";
    let settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: team-a}\ndata: {INTERVAL: 1s}\n";
    let files = files(&[
        ("d/cluster/ks.yaml", &parent),
        ("d/cluster/settings.yaml", settings),
        ("d/apps/app.yaml", &kustomization("app", app)),
        (".git/HEAD", ""),
    ]);
    assert_eq!(found(&files, &[]), ["d/apps/app.yaml:5:3: p/interval"]);
    files.write("d/cluster/settings.yaml", settings.replace("name: settings", "name: others"));
    let checked = files.check(&["d", "--policies", "policies"]);
    checked.expect(0, &["d/apps/app.yaml:5:3: note: spec.interval: ${INTERVAL} is filled in by Flux, so p/interval cannot judge it"]);
    assert_eq!(checked.out, "");
}

#[test]
fn config_maps_that_are_generated_fill_in_variables() {
    let parent = kustomization(
        "root",
        "interval: 10m\nprune: true\npath: ./d/apps\npostBuild:\n  substituteFrom: [{kind: ConfigMap, name: vars}]",
    );
    let files = files(&[
        ("d/cluster/root.yaml", &parent),
        (
            "d/cluster/kustomization.yaml",
            "resources: [root.yaml]\nnamespace: team-a\nconfigMapGenerator:\n- {name: vars, literals: [I=1s], options: {disableNameSuffixHash: true}}\n",
        ),
        ("d/apps/a.yaml", &kustomization("a", "interval: ${I}\nprune: true")),
    ]);
    assert_eq!(found(&files, &[]), ["d/apps/a.yaml:5:3: p/interval"]);
}

#[test]
fn what_a_flux_kustomization_uses_from_above_is_not_judged_as_written() {
    let files = Files::new(&[("clusters/app.yaml", &APP.replace("PATH", "./over"))]);
    let object = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: shared, namespace: apps}\nspec: {interval: INTERVAL, url: \"https://x\"}\n";
    files.write("shared.yaml", object.replace("INTERVAL", "1s"));
    files.write("patch.yaml", object.replace("INTERVAL", "10m"));
    files.write("over/kustomization.yaml", "resources: [../shared.yaml]\npatches: [{path: ../patch.yaml}]\n");
    let found = files.strict(&["."]);
    assert!(!found.out.contains("shared.yaml"), "{found:?}");
    // It has neither files nor options for its patches.
    let options = "  patches:\n  - path: patch.yaml\n";
    files.write("clusters/app.yaml", APP.replace("PATH", "./over") + options);
    files.strict(&["."]).expect(2, &["a patch needs path or patch"]);
}

const APP: &str = "\
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app, namespace: flux-system}
spec:
  interval: 10m
  prune: true
  serviceAccountName: flux-apps
  targetNamespace: flux-system
  path: PATH
  sourceRef: {kind: GitRepository, name: flux-system}
";
