//! Where objects go, and what is known of that.

use std::fs;

use crate::{BAD, Files, GOOD, NAMESPACE, STRICT};

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
    let reported = |label: &str| files.check(&[args.as_slice(), &["--namespace-labels", label]].concat());
    reported("apps:gatehouse.dev/tenant=team-a").expect(1, &["2 judged"]);
    let other = reported("apps:gatehouse.dev/tenant=team-b");
    other.expect(0, &["0 judged"]);
    assert!(!other.err.contains("note:"), "{other:?}");
    files.write("namespace.yaml", NAMESPACE.replace("team-a", "team-b"));
    files.check(&[args.as_slice(), &["-f", "namespace.yaml"]].concat()).expect(0, &[]);
    reported("apps").expect(2, &["NAMESPACE:KEY=VALUE"]);
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
