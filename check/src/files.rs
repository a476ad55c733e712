//! The files to check, read: objects with their places, and what could not be read.

use std::{
    collections::HashSet,
    fs::File as OpenFile,
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
};

use gatehouse_inventory::manifest::{self, Fault, Manifest};
use serde_json::{Map, Value};

use crate::{
    place::{Place, Places},
    report::{Note, Problem, Spot},
};

/// Far more than any cluster's dump, and little enough to be held in memory.
const MAX_BYTES: u64 = 512 << 20;

/// What a file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its objects are judged; policies in it count too.
    Judged,
    /// Policies, quotas and namespaces alone are taken from it.
    Policies,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub struct Files {
    pub(crate) texts: Vec<Text>,
    pub(crate) objects: Vec<Object>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Note>,
    /// The folders named, as absolute paths: what Flux's `spec.path` is sought below.
    pub(crate) folders: Vec<PathBuf>,
    seen: HashSet<PathBuf>,
}

/// The text of a file.
#[derive(Debug)]
pub(crate) struct Text {
    /// As people are told.
    pub(crate) shown: String,
    /// Absolute, without `.` and `..`; none of standard input.
    pub(crate) path: Option<PathBuf>,
    /// Without its byte order mark.
    content: String,
}

/// An object in a file.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) group: String,
    pub(crate) kind: String,
    /// As written; where it will be is another question (`kustomize`).
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) value: Value,
    pub(crate) role: Role,
    pub(crate) source: Source,
}

/// Where an object stands.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Of [`Files::texts`].
    pub(crate) text: usize,
    line: usize,
    document: Range<usize>,
    items: Vec<usize>,
}

impl Files {
    /// Reads `path`: a file, a folder with all that is in it, or `-` for standard input.
    pub fn read(&mut self, path: &Path, role: Role) {
        if path == Path::new("-") {
            let read = bytes(io::stdin().lock());
            return self.take("<stdin>".to_owned(), None, read, role, true);
        }
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return self.problem(path, &error),
        };
        if !metadata.is_dir() {
            return self.file(path, role, true);
        }
        self.folders.push(absolute(path));
        match manifest::files(path) {
            Ok(found) => {
                if found.files.is_empty() && found.unreadable.is_empty() {
                    let message = "holds no manifest (*.yaml, *.yml, *.json)".to_owned();
                    self.problems.push(Problem { spot: Spot::file(shown(path)), message });
                }
                for (folder, why) in found.unreadable {
                    let message = format!("cannot be listed: {why}");
                    self.problems.push(Problem { spot: Spot::file(shown(&folder)), message });
                }
                for file in found.files {
                    if is_chart_template(&file) {
                        self.note(&file, 0, "passed over: a Helm template");
                    } else {
                        self.file(&file, role, false);
                    }
                }
            }
            Err(error) => self.problem(path, &error),
        }
    }

    /// `named`: by its own name, and so to be taken at its word.
    fn file(&mut self, path: &Path, role: Role, named: bool) {
        // A folder named twice, or beside a file in it, is read once. A first reading for judging serves policies too.
        if path.canonicalize().is_ok_and(|real| !self.seen.insert(real)) {
            return;
        }
        self.take(shown(path), Some(absolute(path)), OpenFile::open(path).and_then(bytes), role, named);
    }

    fn take(
        &mut self,
        name: String,
        path: Option<PathBuf>,
        read: io::Result<Vec<u8>>,
        role: Role,
        named: bool,
    ) {
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("cannot be read: {error}");
                return self.problems.push(Problem { spot: Spot::file(name), message });
            }
        };
        let json = path.as_deref().is_some_and(manifest::is_json);
        let mut parsed = manifest::parse(&bytes, json);
        if parsed.manifests.is_empty() && path.as_deref().is_some_and(is_kustomization) {
            // Kustomize fills these two in where they are left out.
            let header = b"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
            let mut whole = manifest::parse(&[header, bytes.as_slice()].concat(), false);
            parsed.manifests.append(&mut whole.manifests);
        }
        let text = String::from_utf8(bytes);
        for fault in parsed.faults {
            let broken =
                text.as_ref().map_or("", |text| &manifest::without_mark(text)[fault.document.clone()]);
            self.fault(&name, &fault, broken, named || text.is_err());
        }
        if named && parsed.manifests.is_empty() {
            self.notes
                .push(Note { spot: Some(Spot::file(name.clone())), message: "holds no object".to_owned() });
        }
        let content = manifest::without_mark(&text.unwrap_or_default()).to_owned();
        let index = self.texts.len();
        self.objects
            .extend(parsed.manifests.into_iter().filter_map(|manifest| object(manifest, index, role)));
        self.texts.push(Text { shown: name, path, content });
    }

    /// What does not parse. In a folder much is no manifest and never meant to be one: what does not even speak of an
    /// `apiVersion` and a `kind`, or is a template, is only mentioned.
    fn fault(&mut self, name: &str, fault: &Fault, broken: &str, named: bool) {
        let spot = Spot { line: fault.line, ..Spot::file(name.to_owned()) };
        let template = ["{{", "{%", "<%"].iter().any(|mark| broken.contains(mark));
        let manifest = broken.contains("apiVersion") && broken.contains("kind");
        if named || (manifest && !template) {
            self.problems.push(Problem { spot, message: format!("does not parse: {}", fault.message) });
        } else {
            let what = if template { "a template" } else { "no manifest" };
            self.notes.push(Note { spot: Some(spot), message: format!("passed over: {what}") });
        }
    }

    fn problem(&mut self, path: &Path, error: &io::Error) {
        let message = match error.kind() {
            io::ErrorKind::NotFound => "does not exist".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        self.problems.push(Problem { spot: Spot::file(shown(path)), message });
    }

    fn note(&mut self, path: &Path, line: usize, message: &str) {
        let spot = Some(Spot { line, ..Spot::file(shown(path)) });
        self.notes.push(Note { spot, message: message.to_owned() });
    }
}

/// Finds places in files. It remembers the last document, as findings come document by document.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    files: &'a Files,
    last: Option<(usize, usize, Places<'a>)>,
}

impl<'a> Lookup<'a> {
    pub(crate) fn of(files: &'a Files) -> Self {
        Self { files, last: None }
    }

    /// The place of the first of `fields` that the object has; else its own.
    pub(crate) fn spot(&mut self, source: &Source, fields: &[&str]) -> Spot {
        let path = self.files.texts[source.text].shown.clone();
        let places = self.places(source);
        let found = fields.iter().find_map(|field| places.field(&source.items, field));
        let place = found.or_else(|| places.object(&source.items)).unwrap_or_else(|| self.start(source));
        Spot { path, line: place.line, column: place.column }
    }

    /// What a field says, if it is there and no collection.
    pub(crate) fn text(&mut self, source: &Source, field: &str) -> Option<String> {
        self.places(source).text(&source.items, field).map(str::to_owned)
    }

    /// Whether the object has a field.
    pub(crate) fn has(&mut self, source: &Source, field: &str) -> bool {
        self.places(source).field(&source.items, field).is_some()
    }

    fn start(&self, source: &Source) -> Place {
        let text = &self.files.texts[source.text].content;
        Place { line: source.line, column: column(text, source.document.start) }
    }

    fn places(&mut self, source: &Source) -> &Places<'a> {
        let (text, start) = (source.text, source.document.start);
        let places = match self.last.take() {
            Some((last_text, last_start, places)) if (last_text, last_start) == (text, start) => places,
            _ => {
                let document =
                    self.files.texts[text].content.get(source.document.clone()).unwrap_or_default();
                Places::of(document, self.start(source))
            }
        };
        &self.last.insert((text, start, places)).2
    }
}

fn object(manifest: Manifest, text: usize, role: Role) -> Option<Object> {
    let Manifest { group, kind, line, document, items, object, .. } = manifest;
    // Encrypted by SOPS: what its fields say is not what they will be.
    if object.get("sops").is_some_and(Value::is_object) {
        return None;
    }
    let metadata = object.get("metadata").and_then(Value::as_object);
    let word = |field: &str| words(metadata, field);
    let name =
        word("name").or_else(|| word("generateName").map(|name| format!("{name}*"))).unwrap_or_default();
    let namespace = word("namespace");
    let source = Source { text, line, document, items };
    Some(Object { group, kind, namespace, name, value: Value::Object(object), role, source })
}

fn words(metadata: Option<&Map<String, Value>>, field: &str) -> Option<String> {
    metadata?.get(field)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// All of it, up to the limit: a path may lead to a device that never ends.
fn bytes(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {} MiB", MAX_BYTES >> 20),
        ));
    }
    Ok(bytes)
}

/// A file in the folder `templates` of a chart.
fn is_chart_template(path: &Path) -> bool {
    path.ancestors().skip(1).any(|folder| {
        folder.file_name().is_some_and(|name| name == "templates")
            && folder.with_file_name("Chart.yaml").is_file()
    })
}

pub(crate) fn is_kustomization(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "kustomization.yaml" || name == "kustomization.yml")
}

fn column(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or_default();
    before.rsplit('\n').next().unwrap_or_default().chars().count() + 1
}

/// As it was named, less what says nothing.
fn shown(path: &Path) -> String {
    path.strip_prefix(".")
        .ok()
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Absolute, without `.` and `..`. Links stay, as they do for kustomize.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}
