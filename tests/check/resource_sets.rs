//! What ResourceSets of the Flux operator make is judged.

use crate::built::{files, found};

#[test]
fn what_a_resource_set_makes_is_judged_with_its_inputs() {
    let set = "\
apiVersion: fluxcd.controlplane.io/v1
kind: ResourceSet
metadata: {name: rs, namespace: team-a}
spec:
  serviceAccountName: flux-a
  inputs: [{tenant: team-a, interval: 1s}, {tenant: team-b, interval: 5m}]
  resources:
  - apiVersion: kustomize.toolkit.fluxcd.io/v1
    kind: Kustomization
    metadata: {name: << inputs.tenant >>, namespace: << inputs.tenant >>}
    spec:
      interval: << inputs.interval >>
      prune: true
      sourceRef: {kind: GitRepository, name: g, namespace: team-a}
  resourcesTemplate: |
    apiVersion: kustomize.toolkit.fluxcd.io/v1
    kind: Kustomization
    metadata: {name: x, namespace: team-a}
    spec: {interval: 2h, prune: true}
    ---
    apiVersion: kustomize.toolkit.fluxcd.io/v1
    kind: Kustomization
    metadata: {name: y, namespace: team-a}
    spec: {interval: 3h, prune: true}
";
    let files = files(&[("d/rs.yaml", set)]);
    assert_eq!(
        found(&files, &[]),
        [
            "d/rs.yaml:12:7: p/interval",
            "d/rs.yaml:14:49: p/crossNamespaceRefs",
            "d/rs.yaml:19:12: p/interval",
            "d/rs.yaml:24:12: p/interval"
        ]
    );
}

#[test]
fn inputs_come_from_static_providers_of_the_files() {
    let provider = "apiVersion: fluxcd.controlplane.io/v1
kind: ResourceSetInputProvider
metadata: {name: tenants, namespace: team-a, labels: {kind: tenants}}
spec:
  type: Static
  defaultValues: {tenant: x, interval: 2s}
";
    let set = |from: &str| {
        format!(
            "apiVersion: fluxcd.controlplane.io/v1
kind: ResourceSet
metadata: {{name: rs, namespace: team-a}}
spec:
  inputs: [{{tenant: own, interval: 3s}}]
  inputsFrom: [{from}]
  resources:
  - apiVersion: kustomize.toolkit.fluxcd.io/v1
    kind: Kustomization
    metadata:
      name: << inputs.tenant >>
      namespace: << inputs.provider.namespace >>
      annotations: {{fluxcd.controlplane.io/reconcile: << inputs.reconcile >>}}
    spec: {{interval: << inputs.interval >>, prune: true}}
"
        )
    };
    let selected = "{kind: ResourceSetInputProvider, selector: {matchLabels: {kind: tenants}}}";
    let files = files(&[("d/provider.yaml", provider), ("d/rs.yaml", &set(selected))]);
    let json = files.check(&["d", "--policies", "policies", "-o", "json"]).json();
    let names = json["findings"].as_array().unwrap().iter().map(|finding| finding["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["own", "x"]);
    // What says that it is not to be made is not.
    files.write("d/provider.yaml", provider.replace("interval: 2s", "interval: 2s, reconcile: disabled"));
    assert_eq!(found(&files, &[]).len(), 1);
    // What is not among the files, or asks elsewhere, is a note beside what is known.
    for (provider, from) in [
        (provider.to_owned(), "{kind: ResourceSetInputProvider, name: other}"),
        (provider.replace("Static", "GitHubBranch"), selected),
    ] {
        files.write("d/provider.yaml", provider);
        files.write("d/rs.yaml", set(from));
        let checked = files.check(&["d", "--policies", "policies"]);
        checked
            .expect(1, &["d/rs.yaml:14:12: note: spec.interval: << inputs.interval >> is filled in by Flux"]);
        assert_eq!(checked.findings().len(), 1, "{checked:?}");
    }
}

#[test]
fn resource_sets_have_steps_templates_that_steer_and_permutations() {
    let set = "\
apiVersion: fluxcd.controlplane.io/v1
kind: ResourceSet
metadata: {name: my-set, namespace: team-a}
spec:
  inputs:
  - {apps: [{name: a, interval: 1s}, {name: b, interval: 5m}, {name: c, interval: 2h}], version: \"1\"}
  steps:
  - name: one
    resources:
    - apiVersion: kustomize.toolkit.fluxcd.io/v1
      kind: Kustomization
      metadata: {name: one, namespace: team-a, labels: {version: << inputs.version | quote >>}}
      spec: {interval: 3s, prune: \"<< eq inputs.version \\\"1\\\" >>\"}
  - name: two
    resourcesTemplate: |
      <<- range $app := inputs.apps >>
      ---
      apiVersion: kustomize.toolkit.fluxcd.io/v1
      kind: Kustomization
      metadata: {name: << $app.name >>, namespace: team-a}
      spec:
        interval: << $app.interval >>
        <<- if ne $app.name \"c\" >>
        prune: true
        <<- end >>
      <<- end >>
";
    let files = files(&[("d/rs.yaml", set)]);
    assert_eq!(
        found(&files, &[]),
        [
            "d/rs.yaml:13:14: p/interval",
            "d/rs.yaml:18:7: p/prune",
            "d/rs.yaml:22:9: p/interval",
            "d/rs.yaml:22:9: p/interval"
        ]
    );
    // An input that Flux has yet to fill in decides about nothing.
    files.write("d/rs.yaml", set.replace("name: c,", "name: \"${C}\","));
    files.check(&["d", "--policies", "policies"]).expect(
        1,
        &["d/rs.yaml:15:24: note: resourcesTemplate: what it makes is not judged: ${C} is filled in by Flux"],
    );
    let permuted = "\
apiVersion: fluxcd.controlplane.io/v1
kind: ResourceSet
metadata: {name: my-set, namespace: team-a}
spec:
  inputStrategy: {name: Permute}
  inputs: [{i: 1s}, {i: 5m}]
  inputsFrom: [{name: other}]
  resources:
  - apiVersion: kustomize.toolkit.fluxcd.io/v1
    kind: Kustomization
    metadata: {name: k-<< inputs.id >>, namespace: team-a}
    spec:
      interval: << inputs.my_set.i >>
      prune: << inputs.other.prune >>
";
    let provider = "apiVersion: fluxcd.controlplane.io/v1\nkind: ResourceSetInputProvider\nmetadata: {name: other, namespace: team-a}\nspec: {type: Static, defaultValues: {prune: true}}\n";
    files.write("d/rs.yaml", permuted);
    files.check(&["d", "--policies", "policies"]).expect(
        0,
        &[
            "inputStrategy: the inputs are not known",
            "d/rs.yaml:13:7: note: spec.interval: << inputs.my_set.i >> is filled in",
        ],
    );
    files.write("d/provider.yaml", provider);
    let checked = files.check(&["d", "--policies", "policies", "-o", "json"]).json();
    let names: Vec<_> = checked["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["name"].as_str().unwrap())
        .collect();
    // The operator's id: Adler-32 of my_set=0/other=0.
    assert_eq!(names, ["k-866059709"]);
}
