//! Plans which objects will be applied: the results of kustomization files, and what Flux in turn applies from them.
//!
//! Planning starts with what no other file applies: kustomizations that no other names, and files that are not next to
//! one. Each Flux Kustomization in the results refers to a folder, which is built with its patches, namespace and
//! variables; each ResourceSet generates objects. This repeats until nothing new is found. The files that nothing
//! refers to are left over.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use gatehouse_inventory::yaml::{At, Node};
use gatehouse_policy::Kind;

use crate::{
    Files, Role,
    build::{Built, Failure, Id, Kustomization, Layers, Repository as _, clean, substitute},
    external,
    files::Text,
    flux,
    report::{Note, Problem},
    resource_set,
};

/// The objects that will be applied.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) objects: Vec<Built>,
    pub(crate) notes: Vec<Note>,
    pub(crate) problems: Vec<Problem>,
}

/// A unit that is built at once.
enum Unit {
    /// A kustomization.
    Folder(PathBuf),
    /// The folder of a Flux Kustomization.
    Flux(Box<Built>, PathBuf),
    /// A file, without kustomize.
    File(u32),
}

/// Plans what will be applied. `all`: including files that no kustomization names.
pub(crate) fn plan(files: &mut Files, all: bool) -> Plan {
    let providers =
        files.objects.iter().filter(|object| resource_set::is_provider(object)).cloned().collect();
    let mut planner = Planner {
        files,
        providers,
        config_maps: Vec::new(),
        plan: Plan::default(),
        open: VecDeque::new(),
        done: HashSet::new(),
        built: HashSet::new(),
        applied: HashSet::new(),
    };
    planner.run(all);
    planner.plan
}

struct Planner<'a> {
    files: &'a mut Files,
    plan: Plan,
    open: VecDeque<Unit>,
    /// The Flux Kustomizations that were followed, each by namespace, name and folder.
    done: HashSet<(Option<String>, String, PathBuf)>,
    /// Kustomizations that were built, or are part of one that was.
    built: HashSet<PathBuf>,
    /// Folders that Flux Kustomizations apply, as far as they could be built.
    applied: HashSet<PathBuf>,
    /// ConfigMaps that will be applied.
    config_maps: Vec<Built>,
    /// Objects that provide inputs of ResourceSets, as written.
    providers: Vec<Built>,
}

impl Planner<'_> {
    fn run(&mut self, all: bool) {
        let inner = self.inner();
        let (applied, own) = self.applied();
        for (object, folder) in own {
            self.follow(&object, folder);
        }
        self.work();
        let covered = |folder: &Path| folder.ancestors().any(|above| applied.contains(above));
        let layers: Vec<PathBuf> =
            self.files.layers.iter().filter(|folder| !inner.contains(*folder)).cloned().collect();
        let judged: Vec<u32> = self.judged();
        // First the folders that no Flux Kustomization refers to, then the rest: those whose Flux Kustomization is
        // itself applied by nothing, and components that none adds.
        for first in [true, false] {
            for folder in &layers {
                let waits = first && (covered(folder) || self.is_component(folder));
                if !waits && !self.built.contains(folder) && !self.above(folder) {
                    self.open.push_back(Unit::Folder(folder.clone()));
                }
            }
            // Those that lead elsewhere come first: what they use is not judged as it is written as well.
            let (leading, others): (Vec<u32>, Vec<u32>) = judged.iter().partition(|file| self.leads(**file));
            for files in [leading, others] {
                for file in files {
                    let Text { path, named, .. } = self.files.text_of(flux::whole(file));
                    let folder = path.as_deref().and_then(Path::parent);
                    let loose = *named
                        || folder.is_none_or(|folder| {
                            !self.files.layers.contains(folder)
                                && !self.above(folder)
                                && (!first || !covered(folder))
                                && !self.is_in_applied(folder)
                        });
                    if loose && !self.files.used.contains(&file) {
                        self.open.push_back(Unit::File(file));
                    }
                }
                self.work();
            }
        }
        self.left_over(&judged, all);
    }

    /// Whether a file holds Flux Kustomizations.
    fn leads(&self, file: u32) -> bool {
        let range = self.files.text_of(flux::whole(file)).objects.clone();
        self.files.objects[range].iter().any(flux::is_kustomization)
    }

    /// The files to judge.
    fn judged(&self) -> Vec<u32> {
        let judged = self.files.texts.iter().enumerate().filter(|(_, text)| text.role == Role::Judged);
        judged.filter_map(|(file, _)| u32::try_from(file).ok()).collect()
    }

    /// The folders that other kustomizations name.
    fn inner(&mut self) -> BTreeSet<PathBuf> {
        let mut inner = BTreeSet::new();
        for folder in self.files.layers.clone() {
            let Ok(Some(node)) = self.files.kustomization(&folder) else { continue };
            let layer = Kustomization::of(&node);
            for reference in layer.resources.iter().chain(&layer.components) {
                let path = clean(&folder.join(&reference.name));
                if path != folder {
                    inner.insert(path);
                }
            }
        }
        inner
    }

    /// Whether a Flux Kustomization applies a folder: a file that it passes over is then not applied.
    fn is_in_applied(&self, folder: &Path) -> bool {
        folder.ancestors().any(|above| self.applied.contains(above))
    }

    /// Whether a folder is a component, which a Flux Kustomization may add.
    fn is_component(&mut self, folder: &Path) -> bool {
        let node = self.files.kustomization(folder);
        node.is_ok_and(|node| node.is_some_and(|node| node.str_of("kind") == Some("Component")))
    }

    /// Whether a parent folder has a kustomization, which then decides what of this folder is applied.
    fn above(&self, folder: &Path) -> bool {
        folder.ancestors().skip(1).any(|above| self.files.layers.contains(above))
    }

    /// The folders that Flux Kustomizations in the files refer to, as written; and the Flux Kustomizations that apply
    /// themselves, which are the entry points of Flux.
    fn applied(&self) -> (BTreeSet<PathBuf>, Vec<(Built, PathBuf)>) {
        let (mut folders, mut own) = (BTreeSet::new(), Vec::new());
        for object in self.files.objects.iter().filter(|object| flux::is_kustomization(object)) {
            let Some(folder) = flux::folder(self.files, object) else { continue };
            let path = self.files.text_of(object.at).path.as_deref();
            if path.is_some_and(|path| path.starts_with(&folder)) {
                own.push((object.clone(), folder.clone()));
            }
            folders.insert(folder);
        }
        (folders, own)
    }

    fn follow(&mut self, object: &Built, folder: PathBuf) {
        let key = (object.id.namespace.clone(), object.id.name.clone(), folder.clone());
        if self.done.insert(key) {
            self.open.push_back(Unit::Flux(Box::new(object.clone()), folder));
        }
    }

    fn work(&mut self) {
        while let Some(unit) = self.open.pop_front() {
            match unit {
                Unit::File(file) => {
                    self.files.used.insert(file);
                    let range = self.files.text_of(flux::whole(file)).objects.clone();
                    let objects = self.files.objects[range].to_vec();
                    for object in objects {
                        self.put(object);
                    }
                }
                Unit::Folder(folder) => self.build(&folder, None),
                Unit::Flux(object, folder) => self.build(&folder, Some(&object)),
            }
        }
    }

    fn build(&mut self, folder: &Path, by: Option<&Built>) {
        let spec = by.and_then(|object| object.node.as_deref()?.get("spec").cloned());
        let more = spec.as_ref().map(flux::added);
        let mut layers = Layers::new(&mut *self.files);
        let built = layers.folder(folder, more.as_ref());
        let (left_out, mut unknown, within) = (layers.left_out, layers.unknown, layers.seen);
        let is_incomplete = !left_out.is_empty();
        self.built.extend(within);
        for (at, message) in left_out {
            self.note(at, message);
        }
        let mut objects = match built {
            Ok(objects) => objects,
            Err(Failure { at, message }) => {
                let message = format!("kustomize cannot build this: {message}");
                self.plan.problems.push(Problem { spot: self.files.spot(at), message });
                return;
            }
        };
        if by.is_some() {
            self.applied.insert(folder.to_path_buf());
        }
        objects.retain(|object| !object.is_local());
        // Not if it would fetch remote resources, nor if Flux adds to the build.
        let own = more.as_ref().is_none_or(Kustomization::adds_nothing) && !is_incomplete;
        if let Some((at, _)) = unknown.first().filter(|_| own)
            && let Some(by_kubectl) = external::built(folder, &objects, *at)
        {
            objects = by_kubectl;
            unknown.clear();
        }
        if let Some(spec) = &spec {
            let namespace = by.and_then(|object| object.id.namespace.as_deref());
            if let Err(Failure { at, message }) = self.finish(&mut objects, namespace, spec) {
                let message = format!("Flux cannot build this: {message}");
                self.plan.problems.push(Problem { spot: self.files.spot(at), message });
                return;
            }
            self.leave_out_unapplied(&mut objects);
        }
        for (at, message) in unknown {
            let spot = self.files.spot(at);
            for object in objects.iter().filter(|object| is_governed(object)) {
                let message = format!("{} {}: {spot}: {message}", object.id.kind, object.id.name);
                self.plan.notes.push(Note { spot: Some(self.files.spot(object.at)), message });
            }
        }
        for object in objects {
            self.put(object);
        }
    }

    /// The steps of Flux after the build.
    fn finish(&self, objects: &mut [Built], namespace: Option<&str>, spec: &Node) -> Result<(), Failure> {
        let variables = flux::variables(self.files, &self.config_maps, namespace, spec);
        for object in objects {
            let at = object.at;
            let substitutes = flux::substitutes(object);
            let Some(node) = object.node.as_mut() else { continue };
            if let Some(variables) = variables.as_ref().filter(|_| substitutes && has_open(node)) {
                let done = substitute(Arc::make_mut(node), variables);
                // Of other kinds, parts are not read as Flux reads them.
                if Kind::of_kind(&object.id.group, &object.id.kind).is_some() {
                    done?;
                }
            }
            for (field, pairs) in flux::common_metadata(spec) {
                let metadata = Arc::make_mut(node).child("metadata", at);
                for pair in pairs.entries() {
                    metadata.child(field, pair.at).set(&pair.key, pair.at, pair.value.clone());
                }
            }
            object.reread();
        }
        Ok(())
    }

    /// Removes the objects that Flux leaves alone.
    fn leave_out_unapplied(&mut self, objects: &mut Vec<Built>) {
        for object in objects.iter().filter(|object| is_governed(object)) {
            if let Some((field, what)) = flux::unapplied(object) {
                let Id { kind, name, .. } = &object.id;
                let message = format!("not judged: Flux does not apply the {kind} {name} ({what})");
                self.note(object.place(&[&field]), message);
            }
        }
        objects.retain(|object| flux::unapplied(object).is_none());
    }

    fn put(&mut self, mut object: Built) {
        // Only patches and replacements of its own build select it by what it was.
        object.former = Vec::new();
        if flux::is_kustomization(&object) {
            match flux::folder(self.files, &object) {
                Some(folder) => self.follow(&object, folder),
                None => self.not_followed(&object),
            }
        }
        if object.id.group.is_empty() && object.id.kind == "ConfigMap" {
            self.config_maps.push(object.clone());
        }
        if resource_set::is_resource_set(&object) {
            let (made, unknown) = resource_set::made(&object, &self.providers);
            for (at, message) in unknown {
                self.note(at, message);
            }
            for object in made {
                self.put(object);
            }
        }
        let Text { path, named, .. } = self.files.text_of(object.at);
        let ignored = !named && path.as_deref().is_some_and(|path| self.files.is_ignored(path));
        if !ignored {
            self.plan.objects.push(object);
        }
    }

    /// The changes that it would make to its folder are not judged.
    fn not_followed(&mut self, object: &Built) {
        let spec = object.node.as_deref().and_then(|node| node.get("spec"));
        let adds =
            |field: &&str| spec.and_then(|spec| spec.get(field)).is_some_and(|list| !list.items().is_empty());
        if let Some(field) = ["patches", "components"].into_iter().find(adds) {
            let message = format!(
                "spec.{field}: the folder of spec.path is not among the files: what it brings is not judged"
            );
            self.note(object.place(&[&format!("spec.{field}")]), message);
        }
    }

    fn note(&mut self, at: At, message: String) {
        self.plan.notes.push(Note { spot: Some(self.files.spot(at)), message });
    }

    /// Handles the files that no kustomization names.
    fn left_over(&mut self, judged: &[u32], all: bool) {
        for file in judged {
            if self.files.used.contains(file) {
                continue;
            }
            let range = self.files.text_of(flux::whole(*file)).objects.clone();
            let objects = self.files.objects[range].to_vec();
            if all {
                for object in objects {
                    self.put(object);
                }
            } else if objects.iter().any(is_governed) {
                let folder = self.files.text_of(flux::whole(*file)).path.as_deref().and_then(Path::parent);
                let why = match folder {
                    Some(folder) if self.is_in_applied(folder) && !self.files.layers.contains(folder) => {
                        ".sourceignore leaves it out of what Flux applies"
                    }
                    _ => "no kustomization names it",
                };
                self.note(flux::whole(*file), format!("not judged: {why} (--all-files judges it)"));
            }
        }
        if all {
            self.work();
        }
    }
}

fn is_governed(object: &Built) -> bool {
    Kind::of_kind(&object.id.group, &object.id.kind).is_some()
}

fn has_open(node: &Node) -> bool {
    use gatehouse_inventory::yaml::Data;
    match &node.data {
        Data::Text(text, _) => text.contains('$'),
        Data::List(items) => items.iter().any(has_open),
        Data::Map(entries) => entries.iter().any(|entry| entry.key.contains('$') || has_open(&entry.value)),
        _ => false,
    }
}
