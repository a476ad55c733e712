//! As much of kustomize as tells where objects will be: `namespace` of the kustomization files above them, and
//! `spec.targetNamespace` of the Flux Kustomization whose `spec.path` leads to them. And which files are patches, not
//! objects. Nothing is built.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Bound,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::files::{Files, Object, absolute, is_kustomization};

/// Where the objects of each file will be.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// By file, the namespaces its objects are put in; none: the one they name themselves.
    namespaces: HashMap<PathBuf, BTreeSet<Option<String>>>,
    /// Files that hold patches.
    patches: HashSet<PathBuf>,
}

/// What the kustomization file of a folder says.
#[derive(Debug, Default)]
struct Layer {
    namespace: Option<String>,
    /// Files and folders.
    resources: Vec<PathBuf>,
}

impl Layout {
    /// Reads the kustomization files among what was read.
    pub(crate) fn of(files: &Files) -> Self {
        let mut layout = Self::default();
        let mut layers = BTreeMap::new();
        for object in &files.objects {
            if object.group == "kustomize.config.k8s.io"
                && let Some(path) =
                    files.texts[object.source.text].path.as_deref().filter(|path| is_kustomization(path))
                && let Some(folder) = path.parent()
            {
                layers.insert(folder.to_path_buf(), layout.layer(folder, &object.value));
            }
        }
        let paths: BTreeSet<&Path> = files.texts.iter().filter_map(|text| text.path.as_deref()).collect();
        let applied = applied(files, &paths);
        let mut inner: HashSet<&Path> = layers
            .iter()
            .flat_map(|(folder, layer)| layer.resources.iter().filter(move |path| *path != folder))
            .map(PathBuf::as_path)
            .collect();
        for (folder, _) in &applied {
            inner.insert(folder);
            inner.extend(nearest(&layers, folder));
        }
        let outermost = layers.keys().filter(|folder| !inner.contains(folder.as_path()));
        for folder in outermost {
            layout.assign(&layers, &paths, folder, None, &mut Vec::new());
        }
        for (folder, target) in &applied {
            layout.assign(&layers, &paths, folder, target.as_deref(), &mut Vec::new());
        }
        layout
    }

    /// The namespaces an object will be in; none where nobody says.
    pub(crate) fn namespaces(&self, path: Option<&Path>, object: &Object) -> Vec<Option<String>> {
        let Some(put) = path.and_then(|path| self.namespaces.get(path)) else {
            return vec![object.namespace.clone()];
        };
        let mut namespaces: Vec<_> =
            put.iter().map(|into| into.clone().or_else(|| object.namespace.clone())).collect();
        namespaces.sort();
        namespaces.dedup();
        namespaces
    }

    /// Whether a file holds patches, which are no whole objects.
    pub(crate) fn is_patch(&self, path: Option<&Path>) -> bool {
        path.is_some_and(|path| self.patches.contains(path) && !self.namespaces.contains_key(path))
    }

    fn layer(&mut self, folder: &Path, kustomization: &Value) -> Layer {
        let list = |field: &str| kustomization.get(field).and_then(Value::as_array).into_iter().flatten();
        let local = |text: &str| (!text.contains("://")).then(|| absolute(&folder.join(text)));
        let resources = ["resources", "components", "bases"].into_iter().flat_map(list);
        let resources = resources.filter_map(Value::as_str).filter_map(local).collect();
        let patches = ["patches", "patchesStrategicMerge", "patchesJson6902", "replacements", "transformers"];
        for patch in patches.into_iter().flat_map(list) {
            let path = patch.as_str().or_else(|| patch.get("path")?.as_str());
            // A patch may stand where its path would.
            self.patches.extend(path.filter(|path| !path.contains('\n')).and_then(local));
        }
        let namespace =
            kustomization.get("namespace").and_then(Value::as_str).filter(|name| !name.is_empty());
        Layer { namespace: namespace.map(str::to_owned), resources }
    }

    /// What a folder's files are put into, when what is around it says `outer`, which wins.
    fn assign(
        &mut self,
        layers: &BTreeMap<PathBuf, Layer>,
        paths: &BTreeSet<&Path>,
        folder: &Path,
        outer: Option<&str>,
        within: &mut Vec<PathBuf>,
    ) {
        let Some(layer) = layers.get(folder) else {
            // Flux makes a kustomization of everything below a folder that has none: of files, and of the folders
            // that have one.
            let layered: Vec<&Path> = nearest(layers, folder).collect();
            for path in
                below(paths, folder).filter(|path| !layered.iter().any(|layer| path.starts_with(layer)))
            {
                self.namespaces.entry(path.to_path_buf()).or_default().insert(outer.map(str::to_owned));
            }
            for layer in layered {
                self.assign(layers, paths, layer, outer, within);
            }
            return;
        };
        // A cycle is kustomize's to report.
        if within.iter().any(|above| above == folder) {
            return;
        }
        within.push(folder.to_path_buf());
        let namespace = outer.or(layer.namespace.as_deref());
        for resource in &layer.resources {
            if layers.contains_key(resource) {
                self.assign(layers, paths, resource, namespace, within);
            } else {
                self.namespaces.entry(resource.clone()).or_default().insert(namespace.map(str::to_owned));
            }
        }
        within.pop();
    }
}

/// The folders below one, which has no kustomization file, that have one, less what is in them.
fn nearest<'a>(layers: &'a BTreeMap<PathBuf, Layer>, folder: &Path) -> impl Iterator<Item = &'a Path> {
    let from = layers
        .range::<Path, _>((Bound::Included(folder), Bound::Unbounded))
        .map(|(below, _)| below.as_path());
    let mut last: Option<&Path> = None;
    from.take_while(move |below| below.starts_with(folder)).filter(move |below| {
        let inside = last.is_some_and(|last| below.starts_with(last));
        if !inside {
            last = Some(below);
        }
        !inside
    })
}

/// The folders that Flux Kustomizations apply, and what into.
fn applied(files: &Files, paths: &BTreeSet<&Path>) -> BTreeSet<(PathBuf, Option<String>)> {
    let roots: Vec<PathBuf> = files.folders.iter().flat_map(|folder| roots(folder)).collect();
    let kustomizations = files.objects.iter().filter(|object| object.group == "kustomize.toolkit.fluxcd.io");
    kustomizations
        .filter_map(|object| {
            let spec = object.value.get("spec")?;
            let path = spec.get("path")?.as_str()?.trim_start_matches('/');
            let target = spec.get("targetNamespace").and_then(Value::as_str);
            // `${…}` is filled in by Flux, from what is not known here.
            let target = target.filter(|target| !target.is_empty() && !target.contains("${"));
            // Everything there is: then the path says nothing about which repository is meant.
            if absolute(&Path::new("/").join(path)) == Path::new("/") {
                return None;
            }
            let found = roots.iter().map(|root| absolute(&root.join(path)));
            let folder = found.into_iter().find(|folder| below(paths, folder).next().is_some())?;
            Some((folder, target.map(str::to_owned)))
        })
        .collect()
}

/// The paths at or below a folder, which stand together.
fn below<'a>(paths: &BTreeSet<&'a Path>, folder: &Path) -> impl Iterator<Item = &'a Path> {
    let from = paths.range::<Path, _>((Bound::Included(folder), Bound::Unbounded)).copied();
    from.take_while(move |path| path.starts_with(folder))
}

/// Where a repository that `folder` is in, or is, may begin: the folder itself, and what is above it up to a `.git`.
fn roots(folder: &Path) -> Vec<PathBuf> {
    match folder.ancestors().position(|above| above.join(".git").exists()) {
        Some(depth) => folder.ancestors().take(depth + 1).map(Path::to_path_buf).collect(),
        None => vec![folder.to_path_buf()],
    }
}
