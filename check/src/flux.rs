//! What Flux applies: the kustomization that a Flux Kustomization makes of its `spec`, the folder that it leads to, and
//! what its `spec.postBuild` fills in.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gatehouse_inventory::yaml::{At, Data, Node};

use crate::{
    Files,
    build::{Built, Kustomization, Reference, Variables, clean, patch_source},
    files::absolute,
};

/// Whether an object is a Kustomization of Flux.
pub(crate) fn is_kustomization(object: &Built) -> bool {
    object.id.group == "kustomize.toolkit.fluxcd.io" && object.id.kind == "Kustomization"
}

/// What its `spec` adds to the kustomization file that it leads to.
pub(crate) fn added(spec: &Node) -> Kustomization {
    let list = |field: &str| spec.get(field).map(Node::items).unwrap_or_default();
    let text = |field: &str| spec.str_of(field).filter(|text| !text.contains("${")).map(str::to_owned);
    let target = spec.entry("targetNamespace").map(|entry| entry.at);
    let reference = |item: &Node| Some(Reference { name: item.as_str()?.to_owned(), at: item.at });
    Kustomization {
        components: list("components").iter().filter_map(reference).collect(),
        patches: list("patches").iter().map(patch_source).collect(),
        images: list("images").to_vec(),
        namespace: text("targetNamespace").zip(target),
        prefix: text("namePrefix"),
        suffix: text("nameSuffix"),
        ..Kustomization::default()
    }
}

/// Labels and annotations that it puts on everything.
pub(crate) fn common_metadata(spec: &Node) -> impl Iterator<Item = (&'static str, &Node)> {
    ["labels", "annotations"]
        .into_iter()
        .filter_map(|field| Some((field, spec.at_path(&["commonMetadata", field])?)))
}

/// The folder that `spec.path` leads to, if it is among the files. An artifact is mostly the repository; where it is a
/// folder of one, the path counts from there, which the Kustomization itself mostly is in.
pub(crate) fn folder(files: &Files, object: &Built) -> Option<PathBuf> {
    let path = object.node.as_deref()?.at_path(&["spec", "path"])?.as_str()?.trim_start_matches('/');
    // Everything there is: then the path says nothing about which repository is meant.
    if clean(&Path::new("/").join(path)) == Path::new("/") || path.contains("${") || path.contains("<<") {
        return None;
    }
    let own = files.text_of(object.at).path.as_deref().and_then(Path::parent);
    let above = own.into_iter().flat_map(|folder| {
        let top = files
            .folders
            .iter()
            .filter(|top| folder.starts_with(top))
            .min_by_key(|top| top.components().count());
        let depth = top.map_or(0, |top| folder.components().count() - top.components().count() + 1);
        folder.ancestors().take(depth).map(Path::to_path_buf).collect::<Vec<_>>()
    });
    // Mostly the check runs where the repository begins.
    let here = files.here();
    let here = files.folders.iter().any(|folder| folder.starts_with(&here)).then_some(here);
    let roots = files.folders.iter().flat_map(|folder| roots(folder)).chain(above).chain(here);
    roots.map(|root| absolute(&root.join(path))).find(|folder| folder.is_dir() && files.is_checked(folder))
}

/// Where a repository that `folder` is in, or is, may begin: the folder itself, and what is above it up to a `.git`.
fn roots(folder: &Path) -> Vec<PathBuf> {
    match folder.ancestors().position(|above| above.join(".git").exists()) {
        Some(depth) => folder.ancestors().take(depth + 1).map(Path::to_path_buf).collect(),
        None => vec![folder.to_path_buf()],
    }
}

impl Files {
    /// Whether a folder is below one that is checked, or holds one.
    fn is_checked(&self, folder: &Path) -> bool {
        self.folders.iter().any(|checked| folder.starts_with(checked) || checked.starts_with(folder))
    }
}

/// What `spec.postBuild` fills in: none if it fills in nothing. `built`: the ConfigMaps that will be applied, as far as
/// is known; else what files say counts.
pub(crate) fn variables(
    files: &Files,
    built: &[Built],
    namespace: Option<&str>,
    spec: &Node,
) -> Option<Variables> {
    let post_build = spec.get("postBuild")?;
    let mut variables = Variables::default();
    for from in post_build.get("substituteFrom").map(Node::items).unwrap_or_default() {
        let name = from.str_of("name").unwrap_or_default();
        let found = if from.str_of("kind") == Some("ConfigMap") {
            config_map(files, built, namespace, name)
        } else {
            None
        };
        match found {
            Some(data) => variables.known.extend(data),
            None => variables.others = true,
        }
    }
    for entry in post_build.get("substitute").map(Node::entries).unwrap_or_default() {
        variables.known.insert(entry.name().to_owned(), scalar(&entry.value));
    }
    Some(variables)
}

/// The data of a ConfigMap, if there is one of that name and no other.
fn config_map(
    files: &Files,
    built: &[Built],
    namespace: Option<&str>,
    name: &str,
) -> Option<BTreeMap<String, String>> {
    let is_meant = |object: &&Built| {
        object.id.name == name
            && (object.id.namespace.is_none()
                || namespace.is_none()
                || object.id.namespace.as_deref() == namespace)
    };
    let as_built: Vec<&Built> = built.iter().filter(is_meant).collect();
    let found =
        if as_built.is_empty() { files.config_maps(name).filter(is_meant).collect() } else { as_built };
    let mut found = found.into_iter();
    let data = found.next()?.node.as_deref()?.get("data")?;
    let data: BTreeMap<String, String> =
        data.entries().iter().map(|entry| (entry.name().to_owned(), scalar(&entry.value))).collect();
    let is_plain = !data.values().any(|value| value.contains("${"));
    (found.next().is_none() && is_plain).then_some(data)
}

fn scalar(node: &Node) -> String {
    match &node.data {
        Data::Text(text, _) => text.to_string(),
        Data::Null => String::new(),
        _ => node.to_value().to_string(),
    }
}

/// Whether Flux fills in nothing in an object.
pub(crate) fn substitutes(object: &Built) -> bool {
    let disabled = |field: &str| {
        let metadata = object.node.as_deref().and_then(|node| node.at_path(&["metadata", field]));
        metadata.and_then(|all| all.str_of("kustomize.toolkit.fluxcd.io/substitute")) == Some("disabled")
    };
    !disabled("labels") && !disabled("annotations")
}

/// Whether a text holds what is filled in later, by Flux or by a ResourceSet.
pub(crate) fn is_open(text: &str) -> bool {
    text.contains("${") || (text.contains("<<") && text.contains(">>"))
}

/// A place that stands for a file as a whole.
pub(crate) fn whole(file: u32) -> At {
    At { file, line: 0, column: 0 }
}
