//! Builds one kustomization: collects its resources, applies its components and patches, and sets names and labels.
//!
//! **Invariant:** The order of these steps is that of kustomize.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use super::{
    Failure, Repository,
    kustomization::{self, Kustomization, PatchSource, Reference},
    object::{Built, Id, Target},
    patch::{self, Outcome},
    replacement::{self, Problem},
    transform,
};
use gatehouse_inventory::yaml::{At, Data, Node};

/// The references that kustomize knows: they change only with the names of generated objects.
const REFERENCES: [&str; 2] = ["nameReference", "varReference"];

/// What a folder is named as: by `resources`, by `components`, or by nothing.
#[derive(Clone, Copy)]
enum As {
    Root,
    Resource,
    Component,
}

/// The state of a build.
pub(crate) struct Layers<'a, R> {
    pub(crate) repository: &'a mut R,
    /// The enclosing folders, to detect cycles.
    within: Vec<PathBuf>,
    /// Every folder that was built.
    pub(crate) seen: Vec<PathBuf>,
    /// References that were skipped, with their positions.
    pub(crate) left_out: Vec<(At, String)>,
    /// Changes to objects that are unknown here; each gets a note.
    pub(crate) unknown: Vec<(At, String)>,
}

impl<'a, R: Repository> Layers<'a, R> {
    pub(crate) fn new(repository: &'a mut R) -> Self {
        Self { repository, within: Vec::new(), seen: Vec::new(), left_out: Vec::new(), unknown: Vec::new() }
    }

    /// Builds a folder. `more` holds the additions of a Flux Kustomization to its kustomization file, or to the one
    /// that Flux generates if there is none.
    pub(crate) fn folder(
        &mut self,
        folder: &Path,
        more: Option<&Kustomization>,
    ) -> Result<Vec<Built>, Failure> {
        let mut objects = Vec::new();
        self.into(folder, As::Root, more, &mut objects)?;
        Ok(objects)
    }

    fn into(
        &mut self,
        folder: &Path,
        named: As,
        more: Option<&Kustomization>,
        objects: &mut Vec<Built>,
    ) -> Result<(), Failure> {
        let at = self.repository.place(folder);
        if self.within.iter().any(|above| above == folder) {
            return Err(Failure { at, message: format!("{} leads to itself", folder.display()) });
        }
        let (mut layer, generated) = match self.repository.kustomization(folder)? {
            Some(node) => {
                if let Some((at, message)) = kustomization::refused(&node) {
                    return Err(Failure { at, message });
                }
                let is_component = node.str_of("kind") == Some("Component");
                match named {
                    As::Resource if is_component => {
                        return Err(Failure { at, message: "a Component is no resource".to_owned() });
                    }
                    As::Component if !is_component => {
                        return Err(Failure {
                            at,
                            message: "what components name must be a Component".to_owned(),
                        });
                    }
                    _ => {}
                }
                (Kustomization::of(&node), false)
            }
            None if more.is_some() => (Kustomization::default(), true),
            None => {
                return Err(Failure {
                    at,
                    message: format!("{} has no kustomization file", folder.display()),
                });
            }
        };
        if let Some(more) = more {
            add(&mut layer, more);
        }
        self.within.push(folder.to_path_buf());
        self.seen.push(folder.to_path_buf());
        let mut own = Vec::new();
        if generated {
            self.everything(folder, &mut own)?;
        }
        for resource in &layer.resources {
            self.resource(folder, resource, &mut own)?;
        }
        objects.append(&mut own);
        check_names(objects)?;
        for component in &layer.components {
            if let Some(path) = self.local(folder, component) {
                self.into(&path, As::Component, None, objects)?;
                check_names(objects)?;
            }
        }
        for generator in &layer.config_maps {
            let mut missing = Vec::new();
            let text = |name: &str| {
                self.repository.text(&folder.join(name)).unwrap_or_else(|_| {
                    missing.push(name.to_owned());
                    None
                })
            };
            let made = transform::config_map(generator, layer.generator_options.as_ref(), text)
                .map_err(|message| Failure { at: generator.at, message })?;
            self.left_out.extend(
                missing.into_iter().map(|name| {
                    (generator.at, format!("{name} does not exist: what it brings is not judged"))
                }),
            );
            transform::generate(objects, made, generator, self.left_out.is_empty())?;
        }
        self.transform(folder, &layer, objects)?;
        self.within.pop();
        Ok(())
    }

    /// As Flux does without a kustomization file: adds every manifest below, and every folder that has a kustomization
    /// file.
    fn everything(&mut self, folder: &Path, objects: &mut Vec<Built>) -> Result<(), Failure> {
        for path in self.repository.manifests(folder) {
            if path.is_dir() {
                // What the folder changes is its own.
                let mut own = Vec::new();
                self.into(&path, As::Resource, None, &mut own)?;
                objects.append(&mut own);
            } else {
                self.file(&path, None, objects)?;
            }
        }
        Ok(())
    }

    fn resource(
        &mut self,
        folder: &Path,
        resource: &Reference,
        objects: &mut Vec<Built>,
    ) -> Result<(), Failure> {
        let Some(path) = self.local(folder, resource) else { return Ok(()) };
        if path.is_dir() {
            let mut own = Vec::new();
            self.into(&path, As::Resource, None, &mut own)?;
            objects.append(&mut own);
            return Ok(());
        }
        self.file(&path, Some(resource.at), objects)
    }

    fn file(&mut self, path: &Path, named: Option<At>, objects: &mut Vec<Built>) -> Result<(), Failure> {
        let mut own = self.repository.objects(path, named)?;
        if let Some((at, message)) = own.iter().find_map(|object| object.refused.as_deref()) {
            return Err(Failure { at: *at, message: message.clone() });
        }
        own.iter_mut().for_each(Built::read_by_kustomize);
        if let Some(Built { id, at, .. }) = own.iter().find(|object| object.is_nameless()) {
            return Err(Failure { at: *at, message: format!("{} without metadata.name", id.kind) });
        }
        objects.append(&mut own);
        Ok(())
    }

    /// The path of a reference; `None` if it is remote or missing, which is noted.
    fn local(&mut self, folder: &Path, reference: &Reference) -> Option<PathBuf> {
        let path = super::clean(&folder.join(&reference.name));
        if path.exists() {
            return Some(path);
        }
        // What cannot be built is not applied, so a missing file hides nothing that a cluster would get.
        let why = if is_remote(&reference.name) { "is elsewhere" } else { "does not exist" };
        self.left_out.push((reference.at, format!("{} {why}: what it brings is not judged", reference.name)));
        None
    }

    fn transform(
        &mut self,
        folder: &Path,
        layer: &Kustomization,
        objects: &mut Vec<Built>,
    ) -> Result<(), Failure> {
        for patch in layer.merges.iter().chain(&layer.patches) {
            self.patch(folder, patch, objects)?;
        }
        if let Some((namespace, at)) = &layer.namespace {
            transform::namespace(objects, namespace, *at);
            check_names(objects)?;
        }
        transform::names(objects, layer.prefix.as_deref(), layer.suffix.as_deref());
        for (field, pairs) in layer
            .labels
            .iter()
            .map(|pairs| ("labels", pairs))
            .chain(layer.annotations.iter().map(|pairs| ("annotations", pairs)))
        {
            transform::metadata(objects, field, pairs);
        }
        for patch in &layer.operations {
            self.patch(folder, patch, objects)?;
        }
        transform::images(objects, &layer.images);
        self.replacements(folder, layer, objects)?;
        for file in &layer.configurations {
            let path = super::clean(&folder.join(&file.name));
            let documents = self.repository.documents(&path, file.at)?.unwrap_or_default();
            if !documents.iter().flat_map(Node::entries).all(|entry| REFERENCES.contains(&&*entry.key)) {
                let message = format!("{} is not built: what it changes is not judged", file.name);
                self.unknown.push((file.at, message));
            }
        }
        for (field, at) in &layer.unsupported {
            if matches!(field.as_str(), "helmCharts" | "helmChartInflationGenerator" | "generators") {
                self.left_out.push((*at, format!("{field}: what it generates is not judged")));
            } else {
                self.unknown.push((*at, format!("{field} is not built: what it changes is not judged")));
            }
        }
        Ok(())
    }

    fn replacements(
        &mut self,
        folder: &Path,
        layer: &Kustomization,
        objects: &mut [Built],
    ) -> Result<(), Failure> {
        for item in &layer.replacements {
            let mut replacements = match item.str_of("path") {
                Some(path) => {
                    match self.repository.documents(&super::clean(&folder.join(path)), item.at)? {
                        // A file holds one patch or a list of them.
                        Ok(documents) => documents
                            .into_iter()
                            .flat_map(|document| match document.data {
                                Data::List(items) => items,
                                _ => vec![document],
                            })
                            .collect(),
                        Err(why) => {
                            self.unknown.push((item.at, format!("{why}: what it changes is not judged")));
                            continue;
                        }
                    }
                }
                None => vec![item.clone()],
            };
            for replacement in &mut replacements {
                replacement.without_words();
                match replacement::replace(objects, replacement) {
                    Ok(()) => {}
                    // The source may be among the skipped resources.
                    Err(Problem::Wrong(message)) if self.left_out.is_empty() => {
                        return Err(Failure { at: replacement.at, message });
                    }
                    Err(Problem::Wrong(why) | Problem::Unknown(why)) => {
                        let message =
                            format!("a replacement is not made, since {why}: what it changes is not judged");
                        self.unknown.push((replacement.at, message));
                    }
                }
            }
        }
        Ok(())
    }

    fn patch(
        &mut self,
        folder: &Path,
        source: &PatchSource,
        objects: &mut Vec<Built>,
    ) -> Result<(), Failure> {
        let failure = |message: String| Failure { at: source.at, message };
        let target = source.target.as_ref().map(Target::of).transpose().map_err(failure)?;
        let mut patches = match (&source.inline, &source.path) {
            (Some(inline), _) => self.repository.inline(inline)?,
            (None, Some(path)) => {
                match self.repository.documents(&super::clean(&folder.join(&path.name)), path.at)? {
                    Ok(documents) => documents,
                    Err(why) => {
                        self.unknown.push((path.at, format!("{why}: what it changes is not judged")));
                        return Ok(());
                    }
                }
            }
            (None, None) => return Err(failure("a patch needs path or patch".to_owned())),
        };
        // Of a JSON 6902 patch, the first document counts.
        if patches.first().is_some_and(|patch| matches!(patch.data, Data::List(_))) {
            patches.truncate(1);
        }
        let is_empty = |patch: &Node| match &patch.data {
            Data::List(operations) => operations.is_empty(),
            data => *data == Data::Null,
        };
        if patches.iter().all(is_empty) {
            return Err(failure("the patch is empty".to_owned()));
        }
        for patch in &mut patches {
            if matches!(patch.data, Data::Map(_)) {
                patch.without_words();
            }
            let patch = &*patch;
            match patch.data {
                Data::List(_) => {
                    let target = target
                        .as_ref()
                        .ok_or_else(|| failure("a JSON 6902 patch needs a target".to_owned()))?;
                    for object in objects.iter_mut().filter(|object| target.selects(object)) {
                        operate(object, patch).map_err(failure)?;
                    }
                }
                Data::Map(_) => {
                    let is_whole = self.left_out.is_empty();
                    merge(objects, patch, target.as_ref(), source, is_whole).map_err(failure)?;
                }
                _ => return Err(failure("neither a strategic merge patch nor a JSON 6902 patch".to_owned())),
            }
        }
        Ok(())
    }
}

/// kustomize rejects two objects with the same ID.
fn check_names(objects: &[Built]) -> Result<(), Failure> {
    let mut known = HashSet::new();
    // An object without a final name has no ID yet.
    let named = |object: &&Built| !object.id.name.is_empty() && !object.id.name.ends_with('*');
    match objects.iter().filter(named).find(|object| !known.insert(object.id.key())) {
        None => Ok(()),
        Some(object) => {
            let message = format!("{} {} is there already", object.id.kind, object.id.name);
            Err(Failure { at: object.at, message })
        }
    }
}

/// JSON 6902 operations may change name and kind like any other field.
fn operate(object: &mut Built, patch: &Node) -> Result<(), String> {
    object.remember();
    let at = object.at;
    let Some(node) = object.node_mut() else { return Ok(()) };
    // kustomize keeps annotations of its own during a build, so the map is always there.
    let has_annotations = node.at_path(&["metadata", "annotations"]).is_some();
    if !has_annotations {
        node.child("metadata", at).child("annotations", at);
    }
    let removed = patch::apply(node, patch)?;
    if let Some(metadata) = node.get_mut("metadata").filter(|_| !has_annotations)
        && metadata.get("annotations").is_some_and(|all| all.data == Data::Map(Vec::new()))
    {
        metadata.remove("annotations");
    }
    object.removed.extend(removed);
    object.reread();
    Ok(())
}

fn merge(
    objects: &mut Vec<Built>,
    patch: &Node,
    target: Option<&Target>,
    source: &PatchSource,
    is_whole: bool,
) -> Result<(), String> {
    let id = Id::of(patch).filter(|id| !id.name.is_empty());
    let id = id.ok_or("a strategic merge patch needs apiVersion, kind and metadata.name")?;
    let selects = |object: &Built| target.map_or_else(|| object.is(&id), |target| target.selects(object));
    if target.is_none() && !objects.iter().any(selects) {
        // It may be one of those that are elsewhere.
        if !is_whole {
            return Ok(());
        }
        return Err(format!("no object is {} {}: kustomize refuses the patch", id.kind, id.name));
    }
    let deletes = patch.get("$patch").and_then(Node::as_str) == Some("delete");
    if deletes {
        objects.retain(|object| !selects(object));
        return Ok(());
    }
    for object in objects.iter_mut().filter(|object| selects(object)) {
        let before = object.id.clone();
        let Some(node) = object.node_mut() else { continue };
        if let Outcome::Patched(removed) = patch::merge(node, patch)? {
            object.removed.extend(removed);
        }
        keep(object, &before, source);
    }
    Ok(())
}

/// A strategic merge patch does not change name, namespace, kind and version, unless its options allow it for name and
/// kind.
fn keep(object: &mut Built, before: &Id, source: &PatchSource) {
    object.reread();
    if object.id == *before {
        return;
    }
    object.former.push(before.clone());
    let at = object.at;
    let (name, kind, namespace) = (before.name.clone(), before.kind.clone(), before.namespace.clone());
    let api_version = before.api_version();
    if let Some(node) = object.node_mut() {
        if node.str_of("apiVersion") != Some(&api_version) {
            node.set("apiVersion", at, Node::text(&api_version, at));
        }
        if !source.changes_kind && node.str_of("kind") != Some(&kind) {
            node.set("kind", at, Node::text(&kind, at));
        }
        let metadata = node.child("metadata", at);
        if !source.changes_name && metadata.str_of("name") != Some(&name) {
            metadata.set("name", at, Node::text(&name, at));
        }
        match namespace {
            Some(namespace) if metadata.str_of("namespace") != Some(&namespace) => {
                metadata.set("namespace", at, Node::text(&namespace, at));
            }
            None if metadata.get("namespace").is_some() => {
                metadata.remove("namespace");
            }
            _ => {}
        }
    }
    object.reread();
}

/// Adds the fields of a Flux Kustomization as kustomize-controller does: its patches after those of the file, its
/// namespace in place of the one in the file.
fn add(layer: &mut Kustomization, more: &Kustomization) {
    layer.components.extend(more.components.iter().cloned());
    layer.patches.extend(more.patches.iter().cloned());
    layer.images.extend(more.images.iter().cloned());
    if more.namespace.is_some() {
        layer.namespace.clone_from(&more.namespace);
    }
    if more.prefix.is_some() {
        layer.prefix.clone_from(&more.prefix);
    }
    if more.suffix.is_some() {
        layer.suffix.clone_from(&more.suffix);
    }
}

fn is_remote(name: &str) -> bool {
    name.contains("://")
        || name.contains("?ref=")
        || name.contains("//")
        || name.starts_with("git@")
        || name
            .split('/')
            .next()
            .is_some_and(|host| host.contains('.') && !host.starts_with('.') && name.contains('/'))
}
