//! Compares the content of a folder with the events that were sent for it.
//!
//! **Invariant:** the observed objects depend only on the content of the folder, so a restart finds the same. If a
//! document no longer parses, its object is deleted. Of two documents for one object, the last in path order wins. The
//! exception is a root, folder or file that cannot be read: its objects are unknown, so the last known ones stay.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

use kube::core::Version;
use serde_json::Value;

use super::folder::{self, Listing, Stamp};
use crate::{
    ObjectKey, Seconds,
    catalogue::KindId,
    manifest::{self, Fault, Manifest},
    source::{Event, KindStatus, Sink},
};

/// The files of a folder, and the objects that were sent for them.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: BTreeMap<PathBuf, File>,
    sent: BTreeMap<ObjectKey, LastEvent>,
    /// The version at which each kind was last reported as served; no entry while the kind is absent.
    versions: BTreeMap<KindId, String>,
    /// Objects with two documents, and the places of these, so that each is logged once.
    twice: HashMap<ObjectKey, String>,
    /// Folders of Helm templates that have been logged.
    templates: BTreeSet<PathBuf>,
    begun: bool,
}

#[derive(Debug)]
struct File {
    stamp: Stamp,
    /// The hash of the bytes, since many writes change nothing but the time.
    digest: u64,
    objects: Vec<Found>,
    faults: Vec<Fault>,
}

/// An object in a file.
#[derive(Debug)]
struct Found {
    key: ObjectKey,
    version: String,
    line: usize,
    digest: u64,
    /// The object as JSON, until it has been sent; afterwards it can be read from the file.
    json: Option<String>,
}

#[derive(Debug)]
struct LastEvent {
    digest: u64,
    /// The key in the record; `None` if the object could not be decoded.
    key: Option<ObjectKey>,
}

impl Index {
    /// Reads the files that changed, and returns the events. The first call returns all objects.
    pub(super) fn update(&mut self, root: &Path, listing: Listing, sink: &Sink, now: Seconds) -> Vec<Event> {
        let mut events = Vec::new();
        let changed = self.read(root, listing, sink, &mut events);
        if changed || !self.begun {
            self.send_changes(root, sink, now, &mut events);
            for found in self.files.values_mut().flat_map(|file| &mut file.objects) {
                found.json = None;
            }
        }
        self.begun = true;
        events
    }

    /// Reads the files. Returns whether any file appeared, disappeared or changed.
    fn read(&mut self, root: &Path, listing: Listing, sink: &Sink, events: &mut Vec<Event>) -> bool {
        let Listing { files, templates, unreadable, .. } = listing;
        for folder in templates {
            if !self.templates.contains(&folder) {
                tracing::info!(folder = %folder.display(), "skipping Helm templates");
                self.templates.insert(folder);
            }
        }
        let before = self.files.len();
        self.files.retain(|path, _| {
            files.contains_key(path) || unreadable.iter().any(|(folder, _)| path.starts_with(folder))
        });
        let mut changed = self.files.len() != before;
        for (folder, why) in unreadable {
            let fault = Fault { line: 0, message: format!("cannot be listed: {why}") };
            // Reported once, like the faults of a file.
            changed |= self.replace(folder, None, vec![fault], events);
        }
        for (path, stamp) in files {
            let known = self.files.get(&path);
            if known.is_some_and(|known| known.stamp == stamp && stamp.is_settled()) {
                continue;
            }
            match fs::read(root.join(&path)) {
                Ok(bytes) => {
                    let digest = digest(&bytes);
                    if let Some(known) = self.files.get_mut(&path)
                        && known.digest == digest
                    {
                        known.stamp = stamp;
                        continue;
                    }
                    let (objects, faults) = objects(&path, &bytes, sink);
                    changed |= self.replace(
                        path,
                        Some(File { stamp, digest, objects, faults: vec![] }),
                        faults,
                        events,
                    );
                }
                // The file was removed since it was listed; the next scan will not find it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let fault = Fault { line: 0, message: format!("cannot be read: {error}") };
                    changed |= self.replace(path, None, vec![fault], events);
                }
            }
        }
        changed
    }

    /// Replaces the content of a file. If `new` is `None`, the file keeps its objects. Reports faults that are new.
    fn replace(
        &mut self,
        path: PathBuf,
        new: Option<File>,
        faults: Vec<Fault>,
        events: &mut Vec<Event>,
    ) -> bool {
        let old = self.files.remove(&path);
        let known = old.as_ref().map_or(&[][..], |file| &file.faults);
        for fault in faults.iter().filter(|fault| !known.contains(fault)) {
            let place = place(&path, fault.line);
            tracing::warn!(at = %place, reason = %fault.message, "skipping a document");
            events.push(Event::Undecodable(None, format!("{place}: {}", fault.message)));
        }
        if !known.is_empty() && faults.is_empty() {
            tracing::info!(file = %path.display(), "file is readable again");
        }
        let changed = new.is_some();
        let kept = new.or(old.map(|file| File { digest: 0, ..file }));
        let mut file = kept.unwrap_or_else(File::unread);
        file.faults = faults;
        self.files.insert(path, file);
        changed
    }

    fn send_changes(&mut self, root: &Path, sink: &Sink, now: Seconds, events: &mut Vec<Event>) {
        let winners = self.winners();
        let versions = versions(&winners, &self.files);
        if self.begun {
            self.tell_served(&versions, sink, events);
            self.tell_gone(&winners, events);
            for (key, at) in &winners {
                self.tell_object(root, key, at, sink, now, events);
            }
            for kind in self.versions.keys().filter(|kind| !versions.contains_key(kind)) {
                events.push(Event::Kind(*kind, KindStatus::Absent));
            }
        } else {
            for (kind, _) in sink.catalogue.kinds() {
                let status = versions.get(&kind).map_or(KindStatus::Absent, |version| served(version, sink));
                events.extend([Event::Kind(kind, status), Event::Restart(kind)]);
                for (key, at) in winners.iter().filter(|(key, _)| key.kind == kind) {
                    self.tell_object(root, key, at, sink, now, events);
                }
                events.push(Event::Synced(kind));
            }
        }
        self.versions = versions;
    }

    /// For each object, the document that counts: its file and index.
    fn winners(&mut self) -> BTreeMap<ObjectKey, (PathBuf, usize)> {
        let mut winners: BTreeMap<ObjectKey, (PathBuf, usize)> = BTreeMap::new();
        let mut twice = HashMap::new();
        for (path, file) in &self.files {
            for (index, found) in file.objects.iter().enumerate() {
                let Some((other, at)) = winners.insert(found.key.clone(), (path.clone(), index)) else {
                    continue;
                };
                let hidden = place(&other, self.files[&other].objects[at].line);
                let counts = place(path, found.line);
                let note = format!("{hidden} {counts}");
                if self.twice.get(&found.key) != Some(&note) {
                    tracing::warn!(
                        namespace = %found.key.namespace, name = %found.key.name, %hidden, %counts,
                        "two documents name one object"
                    );
                }
                twice.insert(found.key.clone(), note);
            }
        }
        self.twice = twice;
        winners
    }

    fn tell_served(&self, versions: &BTreeMap<KindId, String>, sink: &Sink, events: &mut Vec<Event>) {
        for (kind, version) in versions {
            if self.versions.get(kind) != Some(version) {
                events.push(Event::Kind(*kind, served(version, sink)));
            }
        }
    }

    fn tell_gone(&mut self, winners: &BTreeMap<ObjectKey, (PathBuf, usize)>, events: &mut Vec<Event>) {
        self.sent.retain(|key, sent| {
            let stays = winners.contains_key(key);
            if !stays && let Some(key) = sent.key.take() {
                events.push(Event::Delete(key));
            }
            stays
        });
    }

    fn tell_object(
        &mut self,
        root: &Path,
        key: &ObjectKey,
        (path, index): &(PathBuf, usize),
        sink: &Sink,
        now: Seconds,
        events: &mut Vec<Event>,
    ) {
        let found = &self.files[path].objects[*index];
        let digest = found.digest;
        if self.sent.get(key).is_some_and(|sent| sent.digest == digest) {
            return;
        }
        let line = found.line;
        let Some(json) = self.json(root, path, *index, sink) else { return };
        let sent = match sink.catalogue.observe(key.kind, &json, &sink.interner, now) {
            Ok(record) => {
                let sent = LastEvent { digest, key: Some(record.key.clone()) };
                events.push(Event::Apply(Box::new(record)));
                sent
            }
            Err(error) => {
                let place = place(path, line);
                tracing::warn!(at = %place, %error, "skipping a document");
                events.push(Event::Undecodable(Some(key.kind), format!("{place}: {error}")));
                if let Some(LastEvent { key: Some(before), .. }) = self.sent.remove(key) {
                    events.push(Event::Delete(before));
                }
                LastEvent { digest, key: None }
            }
        };
        self.sent.insert(key.clone(), sent);
    }

    /// The JSON of an object. If it was sent or hidden by another document before, its file is read again.
    fn json(&mut self, root: &Path, path: &Path, index: usize, sink: &Sink) -> Option<String> {
        let file = self.files.get_mut(path)?;
        if file.objects[index].json.is_none() {
            let bytes = fs::read(root.join(path)).ok();
            match bytes.filter(|bytes| digest(bytes) == file.digest) {
                Some(bytes) => file.objects = objects(path, &bytes, sink).0,
                // The file has changed since the scan. Without its digest, the next scan reads it again.
                None => file.digest = 0,
            }
        }
        file.objects[index].json.take()
    }
}

impl File {
    /// A placeholder for a file that could never be read, which keeps its faults.
    fn unread() -> Self {
        File { stamp: Stamp::default(), digest: 0, objects: Vec::new(), faults: Vec::new() }
    }
}

/// The observed objects and the faults of a file.
fn objects(path: &Path, bytes: &[u8], sink: &Sink) -> (Vec<Found>, Vec<Fault>) {
    let parsed = manifest::parse(bytes, folder::is_json(path));
    let mut faults = parsed.faults;
    let mut objects = Vec::new();
    for manifest in parsed.manifests {
        let Some(kind) = sink.catalogue.find(&manifest.group, &manifest.kind) else { continue };
        let line = manifest.line;
        match found(manifest, kind, sink) {
            Ok(found) => objects.push(found),
            Err(message) => faults.push(Fault { line, message: message.to_owned() }),
        }
    }
    (objects, faults)
}

fn found(manifest: Manifest, kind: KindId, sink: &Sink) -> Result<Found, &'static str> {
    let Manifest { version, line, mut object, .. } = manifest;
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else { return Err("has no metadata") };
    let Some(Value::String(name)) = metadata.get("name").filter(|name| *name != "") else {
        return Err("metadata.name is missing or no string");
    };
    let name = sink.interner.intern(name);
    let namespace = if sink.catalogue.kind(kind).namespaced {
        // As `kubectl apply` does if the kubeconfig sets no namespace.
        match metadata.entry("namespace").or_insert(Value::Null) {
            Value::String(namespace) if !namespace.is_empty() => sink.interner.intern(namespace),
            unset => {
                *unset = "default".into();
                sink.interner.intern("default")
            }
        }
    } else {
        metadata.remove("namespace");
        sink.interner.intern("")
    };
    let json = Value::Object(object).to_string();
    let digest = digest(json.as_bytes());
    Ok(Found { key: ObjectKey::new(kind, namespace, name), version, line, digest, json: Some(json) })
}

/// For each kind, the version to report: of those in use, the one with the highest Kubernetes version priority.
fn versions(
    winners: &BTreeMap<ObjectKey, (PathBuf, usize)>,
    files: &BTreeMap<PathBuf, File>,
) -> BTreeMap<KindId, String> {
    let mut versions: BTreeMap<KindId, String> = BTreeMap::new();
    for (key, (path, index)) in winners {
        let version = &files[path].objects[*index].version;
        match versions.get_mut(&key.kind) {
            Some(known) if known == version => {}
            Some(known) if Version::parse(known).priority() >= Version::parse(version).priority() => {}
            Some(known) => known.clone_from(version),
            None => {
                versions.insert(key.kind, version.clone());
            }
        }
    }
    versions
}

fn served(version: &str, sink: &Sink) -> KindStatus {
    KindStatus::Served { version: sink.interner.intern(version) }
}

fn place(path: &Path, line: usize) -> String {
    if line == 0 { path.display().to_string() } else { format!("{}:{line}", path.display()) }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
