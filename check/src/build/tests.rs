//! Compares builds with those of `kubectl kustomize`: handwritten trees for each feature, and random ones.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use gatehouse_inventory::manifest;
use serde_json::Value;
use tempfile::TempDir;

use super::{Built, Kustomization, Layers};
use crate::{Files, Role};

type Objects = BTreeMap<String, Value>;

/// The objects by kind, namespace and name.
fn by_name(objects: impl Iterator<Item = Value>) -> Objects {
    let name = |object: &Value| {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        format!("{}/{}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
    };
    objects.map(|object| (name(&object), object)).collect()
}

fn write(files: &[(String, String)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("can be made");
        fs::write(path, text).expect("can be written");
    }
    folder
}

fn built(root: &Path, folder: &str) -> Result<Objects, String> {
    let mut files = Files::default();
    files.read(root, Role::Judged);
    let mut layers = Layers::new(&mut files);
    let objects =
        layers.folder(&root.join(folder), None::<&Kustomization>).map_err(|failure| failure.message)?;
    assert!(layers.unknown.is_empty(), "{:?}", layers.unknown);
    Ok(by_name(objects.iter().filter_map(|object: &Built| Some(object.node.as_deref()?.to_value()))))
}

/// The build of kubectl; `None` if kubectl is not installed.
fn expected(root: &Path, folder: &str) -> Option<Result<Objects, String>> {
    let output = match Command::new("kubectl").arg("kustomize").arg(root.join(folder)).output() {
        Ok(output) => output,
        Err(error) => {
            let required = std::env::var("GATEHOUSE_CONFORMANCE").is_ok_and(|value| value == "require");
            assert!(!required, "kubectl is required: {error}");
            eprintln!("left out: kubectl cannot be run: {error}");
            return None;
        }
    };
    if !output.status.success() {
        return Some(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let parsed = manifest::parse(&output.stdout, false);
    Some(Ok(by_name(parsed.manifests.into_iter().map(|manifest| Value::Object(manifest.object)))))
}

/// Asserts that both builds give the same objects, or that both fail.
fn compare(files: &[(String, String)], folder: &str) {
    let root = write(files);
    let Some(expected) = expected(root.path(), folder) else { return };
    let built = built(root.path(), folder);
    let tree = || files.iter().map(|(path, text)| format!("# {path}\n{text}")).collect::<Vec<_>>().join("\n");
    match (built, expected) {
        (Ok(built), Ok(expected)) => {
            let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&built), names(&expected), "{}", tree());
            for (name, object) in &built {
                assert_eq!(object, &expected[name], "{name} of\n{}", tree());
            }
        }
        (Err(_), Err(_)) => {}
        (built, expected) => panic!("built {built:#?}, expected {expected:#?}\n{}", tree()),
    }
}

const BASE: &str = "\
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: one
  namespace: team-a
  labels: {app: one}
spec:
  interval: 10m
  path: ./x
  prune: yes
  suspend: off
  sourceRef: {kind: GitRepository, name: g}
  dependsOn: [{name: two}, {name: three, namespace: team-b}]
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: two}
spec:
  interval: 10m
  path: ./y
  postBuild: {substitute: {A: \"1\"}}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: three, namespace: team-b, annotations: {a: b}}
spec:
  interval: 10m
  values: {image: {tag: v1}, list: [1, 2], nothing: null}
---
apiVersion: v1
kind: Namespace
metadata: {name: team-a}
---
apiVersion: agones.dev/v1
kind: Fleet
metadata: {name: four}
spec: {replicas: 2, template: {spec: {template: {spec: {containers: [{name: game, image: \"example/game:1\"}]}}}}}
";

/// Each is the remainder of a kustomization that is added to [`BASE`].
const FEATURES: [&str; 89] = [
    "namespace: other\n",
    "namePrefix: pre-\n",
    "nameSuffix: -post\n",
    "labels:\n- pairs: {team: x}\n",
    "labels:\n- pairs: {team: x}\n  includeSelectors: true\n",
    "commonLabels: {team: other}\n",
    "commonAnnotations: {who: z}\n",
    "images:\n- {name: example/game, newTag: \"2\"}\n",
    "images:\n- {name: example/game, newName: other/game, digest: 'sha256:abc'}\n",
    "patches:\n- target: {kind: Kustomization}\n  patch: |\n    apiVersion: kustomize.toolkit.fluxcd.io/v1\n    kind: Kustomization\n    metadata: {name: _}\n    spec: {interval: 1m, prune: null}\n",
    "patches:\n- patch: |\n    apiVersion: kustomize.toolkit.fluxcd.io/v1\n    kind: Kustomization\n    metadata: {name: two}\n    spec: {postBuild: null, timeout: 5m}\n",
    "patches:\n- patch: |\n    apiVersion: kustomize.toolkit.fluxcd.io/v1\n    kind: Kustomization\n    metadata: {name: one, namespace: team-a}\n    spec: {dependsOn: [{name: only}]}\n",
    "patches:\n- patch: |\n    apiVersion: kustomize.toolkit.fluxcd.io/v1\n    kind: Kustomization\n    metadata: {name: one}\n    spec: {interval: 1m}\n",
    "patches:\n- target: {kind: HelmRelease, name: th.*}\n  patch: |\n    - {op: replace, path: /spec/interval, value: 1h}\n    - {op: add, path: /spec/values/list/1, value: 9}\n    - {op: add, path: /spec/values/list/-, value: 10}\n    - {op: remove, path: /spec/values/image}\n    - {op: add, path: /metadata/annotations/example.com~1x, value: \"yes\"}\n",
    "patches:\n- target: {group: kustomize.toolkit.fluxcd.io, labelSelector: app=one}\n  patch: |\n    - {op: test, path: /spec/path, value: ./x}\n    - {op: move, from: /spec/path, path: /spec/other}\n    - {op: copy, from: /spec/interval, path: /spec/retryInterval}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    - {op: remove, path: /spec/absent}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    $patch: delete\n    apiVersion: helm.toolkit.fluxcd.io/v2\n    kind: HelmRelease\n    metadata: {name: _}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    apiVersion: helm.toolkit.fluxcd.io/v2\n    kind: HelmRelease\n    metadata: {name: _}\n    spec: {values: {$patch: replace, only: this, not: null}}\n",
    "patches:\n- target: {kind: HelmRelease, namespace: team-b}\n  path: patch.yaml\n",
    "patchesStrategicMerge:\n- patch.yaml\n",
    "patchesJson6902:\n- target: {group: helm.toolkit.fluxcd.io, version: v2, kind: HelmRelease, name: three, namespace: team-b}\n  patch: |\n    - {op: replace, path: /spec/interval, value: 2h}\n",
    "components: [../component]\n",
    "namespace: other\nnamePrefix: pre-\npatches:\n- target: {kind: Kustomization, name: one, namespace: team-a}\n  patch: |\n    - {op: replace, path: /spec/interval, value: 1m}\n",
    "resources: [more.yaml]\nnamespace: other\n",
    "patches:\n- target: {kind: Kustomization, name: two}\n  options: {allowNameChange: true}\n  patch: |\n    - {op: replace, path: /metadata/name, value: renamed}\n",
    "patches:\n- target: {kind: Kustomization, name: two}\n  patch: |\n    - {op: replace, path: /metadata/name, value: renamed}\n",
    "patches:\n- target: {kind: Kustomization, annotationSelector: 'a in (b, c)'}\n  patch: |\n    - {op: replace, path: /spec/interval, value: 1m}\n- target: {annotationSelector: 'a in (b, c)'}\n  patch: |\n    - {op: replace, path: /spec/interval, value: 3m}\n",
    "patches:\n- target: {kind: Kustomization}\n  patch: |\n    apiVersion: kustomize.toolkit.fluxcd.io/v1\n    kind: Kustomization\n    metadata: {name: _, labels: {added: x}, annotations: {also: y}}\n    spec: {postBuild: {substitute: {B: b}}, nothing: null, deep: {inner: null, kept: 1, list: [{a: null, b: 2}, null]}}\n",
    "patches:\n- target: {kind: Nothing}\n  patch: |\n    - {op: remove, path: /spec/absent}\n",
    "configMapGenerator:\n- name: made\n  literals: [a=b]\n  options: {disableNameSuffixHash: true}\n",
    "resources: [more.yaml]\nconfigMapGenerator:\n- name: settings\n  behavior: merge\n  literals: [a=2, 'c=\"3\"']\n  options: {disableNameSuffixHash: true}\n",
    "resources: [more.yaml]\nconfigMapGenerator:\n- name: settings\n  behavior: replace\n  envs: [settings.env]\n  options: {disableNameSuffixHash: true}\n",
    "replacements:\n- source: {kind: Kustomization, name: two, fieldPath: spec.path}\n  targets:\n  - select: {kind: Kustomization, name: one}\n    fieldPaths: [spec.path, spec.sourceRef.name]\n",
    "replacements:\n- source: {kind: HelmRelease, fieldPath: metadata.namespace}\n  targets:\n  - select: {kind: Kustomization}\n    reject: [{name: two}]\n    fieldPaths: ['spec.dependsOn.[name=two].name', 'spec.dependsOn.*.namespace', 'metadata.annotations.[example.com/x]']\n    options: {create: true}\n",
    "replacements:\n- source: {kind: Kustomization, name: two, fieldPath: spec.path, options: {delimiter: /, index: 1}}\n  targets:\n  - select: {kind: Kustomization, labelSelector: app=one}\n    fieldPaths: [spec.path]\n    options: {delimiter: /, index: 1}\n  - select: {kind: HelmRelease}\n    fieldPaths: [spec.interval]\n    options: {delimiter: m, index: -1}\n",
    "replacements:\n- source: {kind: Fleet, fieldPath: spec.replicas}\n  targets:\n  - select: {kind: HelmRelease}\n    fieldPaths: [spec.values.list.0, spec.values.image.tag]\n  - select: {kind: HelmRelease}\n    fieldPaths: ['spec.values.new.deep.[name=x].v', spec.values.image]\n    options: {create: true}\n",
    "replacements:\n- source: {kind: HelmRelease, fieldPath: spec.values}\n  targets:\n  - select: {kind: Kustomization, name: two}\n    fieldPaths: [spec.postBuild]\n",
    "replacements:\n- source: {kind: Kustomization, name: one, fieldPath: spec.absent}\n  targets:\n  - select: {kind: HelmRelease}\n    fieldPaths: [spec.interval]\n",
    "replacements:\n- source: {kind: Kustomization, name: one, fieldPath: spec.interval}\n  targets:\n  - select: {kind: HelmRelease}\n    fieldPaths: [spec.absent]\n",
    "replacements:\n- source: {kind: Kustomization, fieldPath: spec.interval}\n  targets:\n  - select: {kind: HelmRelease}\n    fieldPaths: [spec.interval]\n",
    "replacements:\n- source: {kind: Kustomization, name: one, fieldPath: spec.interval}\n  targets:\n  - select: {kind: Fleet}\n    fieldPaths: [spec.replicas]\n",
    "replacements:\n- path: replacement.yaml\n",
    "namePrefix: pre-\nreplacements:\n- source: {kind: Kustomization, name: two}\n  targets:\n  - select: {kind: Kustomization, name: one}\n    fieldPaths: ['spec.dependsOn.[name=two].name', 'spec.list.[=x]']\n    options: {create: true}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    apiVersion: helm.toolkit.fluxcd.io/v2\n    kind: HelmRelease\n    metadata: {name: _}\n    spec: {interval: {a: b}}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    apiVersion: helm.toolkit.fluxcd.io/v2\n    kind: HelmRelease\n    metadata: {name: _}\n    spec: {values: 1}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    apiVersion: helm.toolkit.fluxcd.io/v2\n    kind: HelmRelease\n    metadata: {name: _}\n    spec: {values: {nothing: {a: b}, list: {c: d}}}\n",
    "replacements:\n- source: {kind: HelmRelease, fieldPath: spec.interval}\n  targets:\n  - select: {kind: HelmRelease}\n    fieldPaths: [spec.interval.deep]\n    options: {create: true}\n",
    "replacements:\n- source: {kind: HelmRelease, fieldPath: spec.interval}\n  targets:\n  - select: {kind: HelmRelease}\n    fieldPaths: [spec.values.list.deep]\n",
    "replacements:\n- source: {kind: HelmRelease, fieldPath: spec.interval, options: {encoding: base64}}\n  targets:\n  - select: {kind: Kustomization}\n    fieldPaths: [spec.interval]\n    options: {encoding: hex, create: true}\n",
    "generatorOptions: {labels: {all: x}, annotations: {kustomize.toolkit.fluxcd.io/substitute: disabled}, disableNameSuffixHash: true}\nconfigMapGenerator:\n- name: made\n  literals: [a=b]\n  options: {labels: {own: it}}\n",
    "configurations: [references.yaml]\nnamePrefix: pre-\n",
    "commonAnnotations: {who: z}\nlabels:\n- pairs: {team: x}\n  includeTemplates: true\n",
    "patches:\n- patch: |\n    apiVersion: helm.toolkit.fluxcd.io/v2\n    kind: HelmRelease\n    metadata: {name: three, namespace: team-b}\n    spec: {interval: 1m}\n    ---\n    apiVersion: kustomize.toolkit.fluxcd.io/v1\n    kind: Kustomization\n    metadata: {name: two}\n    spec: {interval: 2m}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    - {op: replace, path: /spec/interval, value: 8m}\n    ---\n    - {op: remove, path: /spec/values}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: other, namespace: elsewhere}\n    spec: {interval: 7m}\n",
    "commonLabels: {team: other}\nlabels:\n- pairs: {team: x}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    spec: {interval: 7m}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    apiVersion: v1\n    kind: ConfigMap\n    spec: {interval: 7m}\n",
    "patches:\n- patch: |\n    apiVersion: helm.toolkit.fluxcd.io/v2\n    kind: HelmRelease\n    metadata: {name: three, namespace: team-b}\n    spec: {values: {$patch: bogus, a: 1}}\n",
    "patches:\n- patch: |\n    apiVersion: helm.toolkit.fluxcd.io/v2\n    kind: HelmRelease\n    metadata: {name: three, namespace: team-b}\n    spec: {values: {$retainKeys: [a], list: [{$patch: delete, a: b}, {$patch: replace}]}}\n",
    "patches:\n- patch: |\n    apiVersion: helm.toolkit.fluxcd.io/v2\n    kind: HelmRelease\n    metadata: {name: three, namespace: team-b}\n    $patch: replace\n    spec: {interval: 4m}\n",
    "patches:\n- patch: |\n    apiVersion: helm.toolkit.fluxcd.io/v2\n    kind: HelmRelease\n    metadata: {name: three, namespace: team-b}\n    spec: {values: {image: {$patch: merge, tag: v2}, more: {$patch: replace, a: 1}}}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    - {op: replace, path: /spec/timeout, value: 4m}\n    - {op: add, path: /spec/values/list/-1, value: 8}\n    - {op: replace, path: /spec/values/list/-2, value: 7}\n    - {op: add, path: ignored/spec/wait, value: true}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    - {op: add, path: /spec/values/list/-3, value: 8}\n    - {op: remove, path: /spec/values/list/01}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    - {op: add, path: /spec/values/list/-4, value: 8}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    - {op: replace, path: /spec/values/list/2, value: 8}\n",
    "patches:\n- target: {group: kustomize.toolkit.fluxcd.io}\n  patch: |\n    - {op: test, path: /spec/absent, value: null}\n    - {op: add, path: /metadata/annotations/x, value: z}\n",
    "patches:\n- target: {group: kustomize.toolkit.fluxcd.io}\n  patch: |\n    - {op: remove, path: /metadata/annotations}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    - {op: add, path: \"\", value: 1}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    - {op: move, from: /spec/absent, path: /spec/interval}\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    - {op: copy, from: /spec/values/list/9, path: /spec/interval}\n",
    "patches:\n- patch: |\n    # nothing\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: '[]'\n",
    "patches:\n- target: {kind: HelmRelease}\n  patch: |\n    op: remove\n    path: /spec\n",
    "kind: Other\n",
    "apiVersion: kustomize.config.k8s.io/v2\n",
    "commonLabels: {a: 1}\n",
    "commonAnnotations: {a: true}\n",
    "labels:\n- pairs: {a: 1}\n",
    "namePrefix: [a]\n",
    "namespace: 1\n",
    "components: ../component\n",
    "patches: [text]\n",
    "configMapGenerator:\n- {literals: [a=b]}\n",
    "configMapGenerator:\n- {name: made, literals: [a=b, a=c]}\n",
    "configMapGenerator:\n- {name: made, literals: [ab]}\n",
    "configMapGenerator:\n- name: made\n  literals: ['a=\"\"b\"\"', c='x]\n  options: {disableNameSuffixHash: true}\n",
    "resources: [../base, ../component]\n",
    "components: [../base]\n",
];

fn tree(overlay: &str, resources: bool) -> Vec<(String, String)> {
    let head = if resources && !overlay.contains("resources:") {
        "resources: [../base]\n".to_owned()
    } else {
        String::new()
    };
    let overlay = overlay.replace("resources: [more.yaml]", "resources: [../base, more.yaml]");
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    vec![
        file("base/kustomization.yaml", "resources: [all.yaml]\n"),
        file("base/all.yaml", BASE),
        file("over/kustomization.yaml", &format!("{head}{overlay}")),
        file(
            "over/patch.yaml",
            "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: three, namespace: team-b}\nspec: {interval: 3h, values: {image: {pullPolicy: Always}}}\n",
        ),
        file(
            "over/more.yaml",
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: more}\nspec: {interval: 1m}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: \"1\", b: \"2\"}\n",
        ),
        file(
            "over/replacement.yaml",
            "- source: {kind: Kustomization, name: two, fieldPath: spec.postBuild.substitute.A}\n  targets:\n  - select: {kind: HelmRelease, name: three}\n    fieldPaths: [spec.values.image.tag]\n  - select: {kind: Fleet}\n    fieldPaths: [spec.replicas]\n",
        ),
        file(
            "over/references.yaml",
            "nameReference:\n- kind: ConfigMap\n  version: v1\n  fieldSpecs: [{path: spec/valuesFrom/name, kind: HelmRelease}]\n",
        ),
        file("over/settings.env", "# settings\nx=1\ny=two words\n  bare\n"),
        file(
            "component/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [extra.yaml]\npatches:\n- target: {kind: Kustomization}\n  patch: |\n    - {op: add, path: /spec/wait, value: true}\n",
        ),
        file(
            "component/extra.yaml",
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: extra, namespace: team-a}\nspec: {interval: 1m}\n",
        ),
    ]
}

#[test]
fn each_feature_is_built_as_kustomize_builds_it() {
    for (index, feature) in FEATURES.into_iter().enumerate() {
        println!("feature {index}");
        compare(&tree(feature, true), "over");
    }
}

#[test]
fn names_are_those_that_kustomize_reads() {
    let object = |metadata: &str| {
        format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {metadata}\nspec: {{interval: 1m}}\n"
        )
    };
    let list = format!("[{}]", "{\"kind\": \"x\"}");
    let kustomization = "resources: [one.yaml]\n".to_owned();
    for (name, text, builds) in [
        ("kustomization.yaml", object("{name: yes, namespace: no}"), true),
        ("kustomization.yaml", object("{generateName: a-}"), false),
        ("kustomization.yaml", object("null"), false),
        ("kustomization.yaml", object("{labels: {a: b}}"), false),
        ("kustomization.yaml", list, false),
        ("kustomization.yml", object("{name: a}"), true),
    ] {
        let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        let mut files = vec![file(&format!("d/{name}"), &kustomization), file("d/one.yaml", &text)];
        compare(&files, "d");
        assert_eq!(built(write(&files).path(), "d").is_ok(), builds, "{text}");
        // Two of them are not read.
        files.push(file("d/Kustomization", &kustomization));
        compare(&files, "d");
        assert!(built(write(&files).path(), "d").is_err());
    }
}

#[test]
fn two_objects_of_a_name_are_refused_as_kustomize_refuses_them() {
    let object = |namespace: &str, name: &str| {
        format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        )
    };
    let two = object("a", "x") + "---\n" + &object("b", "x");
    let component = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [one.yaml]\n";
    let cases = [
        ("resources: [one.yaml, same.yaml]\n", false),
        ("resources: [one.yaml, two.yaml]\n", false),
        ("resources: [two.yaml]\n", true),
        ("namespace: c\nresources: [two.yaml]\n", false),
        ("resources: [one.yaml]\ncomponents: [component]\n", false),
    ];
    for (kustomization, builds) in cases {
        let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        let files = [
            file("d/kustomization.yaml", kustomization),
            file("d/one.yaml", &object("a", "x")),
            file("d/same.yaml", &object("a", "x")),
            file("d/two.yaml", &two),
            file("d/component/kustomization.yaml", component),
            file("d/component/one.yaml", &object("a", "x")),
        ];
        compare(&files, "d");
        assert_eq!(built(write(&files).path(), "d").is_ok(), builds, "{kustomization}");
    }
}

/// Merges keys that two features share, as in one file.
fn joined(features: &[&str]) -> String {
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    let mut order = Vec::new();
    for feature in features {
        let mut section = "";
        for line in feature.lines() {
            let (key, rest) = line.split_once(':').unwrap_or((line, ""));
            if !line.starts_with([' ', '-']) {
                section = key;
                if rest.trim().is_empty() {
                    sections.entry(section).or_insert_with(|| line.to_owned() + "\n");
                } else {
                    sections.insert(section, line.to_owned() + "\n");
                }
                if !order.contains(&section) {
                    order.push(section);
                }
            } else if let Some(text) = sections.get_mut(section) {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    order.iter().map(|section| sections[section].as_str()).collect()
}

#[test]
fn random_overlays_of_overlays_are_built_as_kustomize_builds_them() {
    let trees = if std::env::var("GATEHOUSE_LONG").is_ok() { 1000 } else { 24 };
    let mut state = std::env::var("GATEHOUSE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7_u64);
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap_or(0)
    };
    for _ in 0..trees {
        let mut features =
            |count: usize| -> Vec<&str> { (0..count).map(|_| FEATURES[random(FEATURES.len())]).collect() };
        let (inner, outer) = (joined(&features(2)), joined(&features(2)));
        let mut files = tree(&inner, true);
        let top = tree(
            &outer
                .replace("[../component]", "[../component2]")
                .replace("more.yaml", "other.yaml")
                .replace("name: settings", "name: others"),
            false,
        );
        let of = |path: &str| &top.iter().find(|(known, _)| known == path).expect("made above").1;
        let text = of("over/kustomization.yaml");
        let text = if text.contains("resources:") {
            text.replace("../base", "../over")
        } else {
            format!("resources: [../over]\n{text}")
        };
        let other = of("over/more.yaml").replace("more", "other").replace("settings", "others");
        files.push(("top/kustomization.yaml".to_owned(), text));
        files.push(("top/other.yaml".to_owned(), other));
        for path in ["patch.yaml", "replacement.yaml", "references.yaml", "settings.env"] {
            files.push((format!("top/{path}"), of(&format!("over/{path}")).clone()));
        }
        let component = of("component/kustomization.yaml").clone();
        files.push(("component2/kustomization.yaml".to_owned(), component));
        let extra = of("component/extra.yaml").replace("name: extra", "name: extra2");
        files.push(("component2/extra.yaml".to_owned(), extra));
        compare(&files, "top");
    }
}

#[test]
fn a_patch_cannot_copy_an_object_into_itself_without_bound() {
    let copies = |path: fn(u32) -> String| {
        let copy = |n: u32| format!("    - {{op: copy, from: /spec, path: /spec{}}}\n", path(n));
        (0..25).map(copy).collect::<String>()
    };
    let deeper: String = (0..16)
        .map(|n| "/x".repeat(1 << n))
        .fold("    - {op: add, path: /spec/x, value: {}}\n".to_owned(), |patch, path| {
            patch + &format!("    - {{op: copy, from: /spec, path: /spec{path}}}\n")
        });
    for patch in [copies(|n| format!("/x{n}")), deeper] {
        let kustomization =
            format!("resources: [base.yaml]\npatches:\n- target: {{name: two}}\n  patch: |\n{patch}");
        let files = [("a/base.yaml", BASE.to_owned()), ("a/kustomization.yaml", kustomization)];
        let root = write(&files.map(|(path, text)| (path.to_owned(), text)));
        let error = built(root.path(), "a").expect_err("too large");
        assert!(error.contains("the object becomes too large"), "{error}");
    }
}
