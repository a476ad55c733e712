//! Reads Flux Kustomizations: the kustomization that `spec` amounts to, the folder that it refers to, and the variables
//! of `spec.postBuild`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gatehouse_inventory::yaml::{At, Data, Node};

use crate::{
    Files,
    build::{Built, Kustomization, PatchSource, Reference, Variables, clean},
    files::absolute,
};

/// Whether an object is a Flux Kustomization.
pub(crate) fn is_kustomization(object: &Built) -> bool {
    object.id.group == "kustomize.toolkit.fluxcd.io" && object.id.kind == "Kustomization"
}

/// The additions of its `spec` to the kustomization file in its folder.
pub(crate) fn added(spec: &Node) -> Kustomization {
    let list = |field: &str| spec.get(field).map(Node::items).unwrap_or_default();
    let text = |field: &str| spec.str_of(field).filter(|text| !text.contains("${")).map(str::to_owned);
    let target = spec.entry("targetNamespace").map(|entry| entry.at);
    let reference = |item: &Node| Some(Reference { name: item.as_str()?.to_owned(), at: item.at });
    Kustomization {
        components: list("components").iter().filter_map(reference).collect(),
        patches: list("patches").iter().map(patch).collect(),
        images: list("images").to_vec(),
        namespace: text("targetNamespace").zip(target),
        prefix: text("namePrefix"),
        suffix: text("nameSuffix"),
        ..Kustomization::default()
    }
}

/// An item of `spec.patches`, which has neither files nor options.
fn patch(item: &Node) -> PatchSource {
    PatchSource {
        path: None,
        inline: item.get("patch").cloned(),
        target: item.get("target").cloned(),
        changes_name: false,
        changes_kind: false,
        at: item.at,
    }
}

/// The labels and annotations that it adds to every object.
pub(crate) fn common_metadata(spec: &Node) -> impl Iterator<Item = (&'static str, &Node)> {
    ["labels", "annotations"]
        .into_iter()
        .filter_map(|field| Some((field, spec.at_path(&["commonMetadata", field])?)))
}

/// The folder of `spec.path`, if it is among the files. An artifact usually contains the whole repository. If it
/// contains only a folder of it, the path is relative to that folder, which usually also holds the Kustomization.
pub(crate) fn folder(files: &Files, object: &Built) -> Option<PathBuf> {
    let path = object.node.as_deref()?.at_path(&["spec", "path"])?.as_str()?.trim_start_matches('/');
    // Every repository has this path, so it does not show which one is meant.
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
    // The check usually runs in the root of the repository.
    let here = files.here();
    let here = files.folders.iter().any(|folder| folder.starts_with(&here)).then_some(here);
    let roots = files.folders.iter().flat_map(|folder| roots(folder)).chain(above).chain(here);
    roots.map(|root| absolute(&root.join(path))).find(|folder| folder.is_dir() && files.is_checked(folder))
}

/// Candidates for the root of the repository of `folder`: the folder itself and its parents up to one with a `.git`.
fn roots(folder: &Path) -> Vec<PathBuf> {
    match folder.ancestors().position(|above| above.join(".git").exists()) {
        Some(depth) => folder.ancestors().take(depth + 1).map(Path::to_path_buf).collect(),
        None => vec![folder.to_path_buf()],
    }
}

impl Files {
    /// Whether a folder is below a checked folder, or contains one.
    fn is_checked(&self, folder: &Path) -> bool {
        self.folders.iter().any(|checked| folder.starts_with(checked) || checked.starts_with(folder))
    }
}

/// The variables of `spec.postBuild`; `None` if it substitutes nothing. `built`: the ConfigMaps that will be applied,
/// as far as known; otherwise those in the files count.
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
            Some(data) => variables.known.extend(data.into_iter().map(joined)),
            None => variables.others = true,
        }
    }
    for entry in post_build.get("substitute").map(Node::entries).unwrap_or_default() {
        variables.known.extend([joined((entry.name().to_owned(), scalar(&entry.value)))]);
    }
    // Without a variable, Flux leaves even defaults as they are, unless it is configured otherwise.
    let is_done = variables.others
        || !variables.known.is_empty()
        || post_build.str_of("substituteStrategy") == Some("Always");
    is_done.then_some(variables)
}

/// Flux joins the lines of a value.
fn joined((name, value): (String, String)) -> (String, String) {
    (name, value.replace('\n', ""))
}

/// The data of a ConfigMap, if exactly one has this name.
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

/// Whether Flux substitutes variables in an object.
pub(crate) fn substitutes(object: &Built) -> bool {
    let disabled = |field: &str| {
        let metadata = object.node.as_deref().and_then(|node| node.at_path(&["metadata", field]));
        metadata.and_then(|all| all.str_of("kustomize.toolkit.fluxcd.io/substitute")) == Some("disabled")
    };
    !disabled("labels") && !disabled("annotations")
}

/// Why Flux does not apply an object: the field, and what it says.
pub(crate) fn unapplied(object: &Built) -> Option<(String, String)> {
    let marks = [("reconcile", "disabled"), ("ssa", "ignore")];
    let annotated = |(mark, off): (&str, &str), of: &str| {
        let key = format!("kustomize.toolkit.fluxcd.io/{mark}");
        let value = object.node.as_deref()?.at_path(&["metadata", of])?.str_of(&key)?;
        value
            .eq_ignore_ascii_case(off)
            .then(|| (format!("metadata.{of}[\"{key}\"]"), format!("{key}: {value}")))
    };
    marks.into_iter().find_map(|mark| annotated(mark, "labels").or_else(|| annotated(mark, "annotations")))
}

/// Whether a text contains placeholders that Flux or a ResourceSet fills in later.
pub(crate) fn is_open(text: &str) -> bool {
    text.contains("${") || (text.contains("<<") && text.contains(">>"))
}

/// The position of a whole file.
pub(crate) fn whole(file: u32) -> At {
    At { file, line: 0, column: 0 }
}
