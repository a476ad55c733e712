//! Reads the files to check: objects with their positions, and errors.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::File as OpenFile,
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use gatehouse_apiservice::policy::GROUP;
use gatehouse_inventory::{
    manifest,
    yaml::{At, Node},
};

use gatehouse_policy::Kind;

use crate::{
    build::{Built, FILE_NAMES, Id, clean},
    read::{self, NotText, Parsed},
    report::{Note, Problem, Spot},
};

/// More than any cluster's dump, and small enough to be held in memory.
const MAX_BYTES: u64 = 512 << 20;

/// The purpose of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its objects are judged; its policies count too.
    Judged,
    /// Only its policies, quotas and namespaces are used.
    Policies,
}

/// Files from elsewhere, by the names that they are shown by.
pub type Content = Vec<(String, Vec<u8>)>;

/// Whether a text names policies that are elsewhere, such as `https://…`, rather than a file or folder.
pub fn is_address(text: &str) -> bool {
    text.contains("://")
}

/// Everything that was read.
#[derive(Debug, Default)]
pub struct Files {
    pub(crate) texts: Vec<Text>,
    /// The objects, in the order of the files.
    pub(crate) objects: Vec<Built>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Note>,
    /// The folders that were given, as absolute paths; Flux's `spec.path` is resolved below them.
    pub(crate) folders: Vec<PathBuf>,
    /// The listed folders that have a kustomization file.
    pub(crate) layers: BTreeSet<PathBuf>,
    /// Files that were used in a build; nothing refers to the others.
    pub(crate) used: HashSet<u32>,
    by_path: HashMap<PathBuf, u32>,
    /// The indexes of ConfigMaps, by name.
    config_maps: HashMap<String, Vec<usize>>,
    /// Canonical paths: each file is read once, under whatever name.
    seen: HashSet<PathBuf>,
    pub(crate) kustomizations: HashMap<PathBuf, Option<Node>>,
    ignored: Vec<ignore::gitignore::Gitignore>,
    /// The base of relative paths, if it is not the current folder.
    base: Option<PathBuf>,
    /// Whether every object is kept completely, for any kind.
    whole: bool,
}

/// A file.
#[derive(Debug)]
pub(crate) struct Text {
    /// The display name.
    pub(crate) shown: String,
    /// The absolute path, without `.` and `..`; `None` for standard input.
    pub(crate) path: Option<PathBuf>,
    /// Its range in [`Files::objects`].
    pub(crate) objects: Range<usize>,
    pub(crate) role: Role,
    /// Whether the file itself was given, rather than its folder.
    pub(crate) named: bool,
    /// The line of a document that is no object.
    pub(crate) stray: Option<u32>,
    /// Whether a build has taken its objects.
    is_taken: bool,
}

/// A file to read.
struct Job {
    path: PathBuf,
    named: bool,
}

impl Files {
    /// Files of another folder in place of the current one: relative paths start there, and are displayed as relative
    /// to here.
    pub fn within(base: PathBuf) -> Self {
        Self { base: Some(base), ..Self::default() }
    }

    /// Files whose objects are all kept completely, to be displayed and not judged.
    pub(crate) fn whole() -> Self {
        Self { whole: true, ..Self::default() }
    }

    /// The current folder, or its replacement.
    pub(crate) fn here(&self) -> PathBuf {
        self.base.clone().unwrap_or_else(|| absolute(Path::new(".")))
    }

    /// The path for display: as it was given, or relative to the current folder, or absolute; without redundant parts.
    fn shown(&self, path: &Path) -> String {
        let here = self.here();
        let below = if path.is_absolute() { path.strip_prefix(&here) } else { path.strip_prefix(".") };
        let short = below.ok().filter(|path| !path.as_os_str().is_empty()).unwrap_or(path);
        short.display().to_string()
    }

    /// Excludes files that match these patterns, in the syntax of `.gitignore`, below the current folder.
    pub fn ignore(&mut self, patterns: &[String]) {
        let mut builder = ignore::gitignore::GitignoreBuilder::new(self.here());
        for pattern in patterns {
            if let Err(error) = builder.add_line(None, pattern) {
                let message = format!("not a pattern: {error}");
                self.problems.push(Problem { spot: Spot::file(pattern.clone()), message });
            }
        }
        self.ignored.extend(builder.build().ok());
    }

    /// Reads `path`: a file, a folder with all of its content, or `-` for standard input.
    pub fn read(&mut self, path: &Path, role: Role) {
        if path == Path::new("-") {
            let read = bytes(io::stdin().lock());
            let file = self.text("<stdin>".to_owned(), None, role, true);
            let parsed = read.map(|bytes| parsed(&bytes, file, false, self.whole));
            return self.take(file, parsed);
        }
        let path = &match &self.base {
            Some(base) => clean(&base.join(path)),
            None => path.to_path_buf(),
        };
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return self.problem(path, &error),
        };
        let jobs =
            if metadata.is_dir() { self.list(path) } else { vec![Job { path: path.clone(), named: true }] };
        self.run(jobs, role);
    }

    /// Adds content that was read elsewhere, under a display name.
    pub fn add(&mut self, name: &str, bytes: &[u8], role: Role) {
        let file = self.text(name.to_owned(), None, role, true);
        let parsed = parsed(bytes, file, manifest::is_json(Path::new(name)), self.whole);
        self.take(file, Ok(parsed));
    }

    fn list(&mut self, folder: &Path) -> Vec<Job> {
        let root = absolute(folder);
        self.folders.push(root.clone());
        let own = folder.join(".gatehouseignore");
        if own.is_file() {
            let mut builder = ignore::gitignore::GitignoreBuilder::new(&root);
            if let Some(error) = builder.add(&own) {
                let message = format!("not a list of patterns: {error}");
                self.problems.push(Problem { spot: Spot::file(self.shown(&own)), message });
            }
            self.ignored.extend(builder.build().ok());
        }
        let found = match manifest::files(folder) {
            Ok(found) => found,
            Err(error) => {
                self.problem(folder, &error);
                return Vec::new();
            }
        };
        if found.files.is_empty() && found.unreadable.is_empty() {
            let message = "holds no manifest (*.yaml, *.yml, *.json)".to_owned();
            self.problems.push(Problem { spot: Spot::file(self.shown(folder)), message });
        }
        for (folder, why) in found.unreadable {
            let message = format!("cannot be listed: {why}");
            self.problems.push(Problem { spot: Spot::file(self.shown(&folder)), message });
        }
        for templates in found.templates {
            self.note(&templates, 0, "passed over: Helm templates");
        }
        let mut jobs = Vec::new();
        let mut folders: HashSet<PathBuf> = HashSet::new();
        for path in found.files {
            let full = absolute(&path);
            if self.is_ignored(&full) {
                continue;
            }
            if let Some(folder) = full.parent()
                && folders.insert(folder.to_path_buf())
                && FILE_NAMES.iter().any(|name| folder.join(name).is_file())
            {
                self.layers.insert(folder.to_path_buf());
            }
            jobs.push(Job { path, named: false });
        }
        jobs
    }

    pub(crate) fn is_ignored(&self, path: &Path) -> bool {
        self.ignored.iter().any(|patterns| {
            path.starts_with(patterns.path()) && patterns.matched_path_or_any_parents(path, false).is_ignore()
        })
    }

    /// Reads files in parallel.
    fn run(&mut self, jobs: Vec<Job>, role: Role) {
        // A folder given twice, or with one of its files, is read once. A file that was read to be judged also provides
        // policies.
        let jobs: Vec<Job> = jobs
            .into_iter()
            .filter(|job| !job.path.canonicalize().is_ok_and(|real| !self.seen.insert(real)))
            .collect();
        let first = self.texts.len();
        for job in &jobs {
            let shown = self.shown(&job.path);
            self.text(shown, Some(absolute(&job.path)), role, job.named);
        }
        let threads =
            std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len().div_ceil(16)).max(1);
        let whole = self.whole;
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(jobs.len())));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut buffer = Vec::new();
                    while let Some((index, job)) = {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        jobs.get(index).map(|job| (index, job))
                    } {
                        buffer.clear();
                        let read = OpenFile::open(&job.path).and_then(|file| bytes_into(file, &mut buffer));
                        let file = u32::try_from(first + index).unwrap_or(u32::MAX);
                        let parsed =
                            read.map(|()| parsed(&buffer, file, manifest::is_json(&job.path), whole));
                        done.lock().unwrap_or_else(PoisonError::into_inner).push((file, parsed));
                        if buffer.capacity() > 4 << 20 {
                            buffer = Vec::new();
                        }
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(file, _)| *file);
        for (file, parsed) in done {
            self.take(file, parsed);
        }
    }

    /// A file that a kustomization names, in any folder; `None` if it cannot be read.
    pub(crate) fn load(&mut self, path: &Path) -> Option<u32> {
        if let Some(file) = self.by_path.get(path) {
            return Some(*file);
        }
        let bytes = OpenFile::open(path).and_then(bytes).ok()?;
        let shown = self.shown(path);
        let file = self.text(shown, Some(path.to_path_buf()), Role::Judged, false);
        let parsed = parsed(&bytes, file, manifest::is_json(path), self.whole);
        self.take(file, Ok(parsed));
        Some(file)
    }

    /// The number of a file, without reading its objects.
    pub(crate) fn number(&mut self, path: &Path) -> u32 {
        if let Some(file) = self.by_path.get(path) {
            return *file;
        }
        let shown = self.shown(path);
        self.text(shown, Some(path.to_path_buf()), Role::Judged, false)
    }

    fn text(&mut self, shown: String, path: Option<PathBuf>, role: Role, named: bool) -> u32 {
        let file = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        if let Some(path) = &path {
            self.by_path.insert(path.clone(), file);
        }
        let end = self.objects.len();
        self.texts.push(Text { shown, path, objects: end..end, role, named, stray: None, is_taken: false });
        file
    }

    fn take(&mut self, file: u32, parsed: io::Result<Result<Parsed, NotText>>) {
        let index = usize::try_from(file).unwrap_or(usize::MAX);
        let Text { shown: name, named, .. } = &self.texts[index];
        let (name, named) = (name.clone(), *named);
        let parsed = match parsed {
            Ok(Ok(parsed)) => parsed,
            Ok(Err(not_text)) => {
                let line = if let NotText::NotUtf8(line) = not_text { line } else { 0 };
                let spot = Spot { line, ..Spot::file(name) };
                if named {
                    self.problems.push(Problem { spot, message: format!("does not parse: {not_text}") });
                } else {
                    self.notes.push(Note { spot: Some(spot), message: format!("passed over: {not_text}") });
                }
                return;
            }
            Err(error) => {
                let message = format!("cannot be read: {error}");
                return self.problems.push(Problem { spot: Spot::file(name), message });
            }
        };
        // Many files in a folder are not meant as manifests. A document that does not parse only gets a note if it has
        // no `apiVersion` and `kind`, or is a template.
        for fault in &parsed.faults {
            let line = usize::try_from(fault.line).unwrap_or(usize::MAX);
            let spot = Spot { line, ..Spot::file(name.clone()) };
            if named || (fault.manifest && !fault.template) {
                self.problems.push(Problem { spot, message: format!("does not parse: {}", fault.message) });
            } else {
                let what = if fault.template { "a template" } else { "no manifest" };
                self.notes.push(Note { spot: Some(spot), message: format!("passed over: {what}") });
            }
        }
        if named && parsed.objects.is_empty() && parsed.faults.is_empty() {
            let spot = Spot::file(name);
            if parsed.blank {
                self.problems.push(Problem { spot, message: "is empty".to_owned() });
            } else {
                self.notes.push(Note { spot: Some(spot), message: "holds no object".to_owned() });
            }
        }
        let start = self.objects.len();
        for (offset, object) in parsed.objects.iter().enumerate() {
            if object.id.group.is_empty() && object.id.kind == "ConfigMap" {
                self.config_maps.entry(object.id.name.clone()).or_default().push(start + offset);
            }
        }
        self.objects.extend(parsed.objects);
        self.texts[index].objects = start..self.objects.len();
        self.texts[index].stray = parsed.stray;
    }

    /// The objects of a file, for a build to change. Those that are judged are kept once, in the build; who builds with
    /// the file a second time reads it anew.
    pub(crate) fn take_objects(&mut self, file: u32) -> Vec<Built> {
        let index = usize::try_from(file).unwrap_or(usize::MAX);
        let range = self.texts[index].objects.clone();
        if self.texts[index].path.is_none() {
            return self.objects[range].to_vec();
        }
        if std::mem::replace(&mut self.texts[index].is_taken, true) {
            let path = self.texts[index].path.clone().unwrap_or_default();
            let read = OpenFile::open(&path).and_then(bytes).ok();
            let parsed =
                read.and_then(|bytes| parsed(&bytes, file, manifest::is_json(&path), self.whole).ok());
            return parsed.map(|parsed| parsed.objects).unwrap_or_default();
        }
        let take = |object: &mut Built| {
            if Kind::of_kind(&object.id.group, &object.id.kind).is_none() {
                return object.clone();
            }
            let taken = Built::new(Id::default(), None, object.at);
            std::mem::replace(object, taken)
        };
        self.objects[range].iter_mut().map(take).collect()
    }

    /// The ConfigMaps with this name.
    pub(crate) fn config_maps(&self, name: &str) -> impl Iterator<Item = &Built> {
        self.config_maps.get(name).into_iter().flatten().map(|index| &self.objects[*index])
    }

    /// Frees what only planning needed. Only objects that describe other objects are needed afterwards.
    pub(crate) fn release(&mut self) {
        self.config_maps = HashMap::new();
        self.kustomizations = HashMap::new();
        self.by_path = HashMap::new();
        self.seen = HashSet::new();
        let texts = &mut self.texts;
        let role = |at: At| texts[usize::try_from(at.file).unwrap_or(usize::MAX)].role;
        self.objects.retain(|object| {
            object.id.group == GROUP
                || object.id.kind == "CustomResourceDefinition"
                || role(object.at) == Role::Policies
        });
        self.objects.shrink_to_fit();
        for text in texts {
            text.objects = 0..0;
        }
    }

    fn problem(&mut self, path: &Path, error: &io::Error) {
        let message = match error.kind() {
            io::ErrorKind::NotFound => "does not exist".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        self.problems.push(Problem { spot: Spot::file(self.shown(path)), message });
    }

    fn note(&mut self, path: &Path, line: usize, message: &str) {
        let spot = Some(Spot { line, ..Spot::file(self.shown(path)) });
        self.notes.push(Note { spot, message: message.to_owned() });
    }

    /// The file of a position.
    pub(crate) fn text_of(&self, at: At) -> &Text {
        &self.texts[usize::try_from(at.file).unwrap_or(usize::MAX)]
    }

    /// A position, for display.
    pub(crate) fn spot(&self, at: At) -> Spot {
        let number = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        Spot { path: self.text_of(at).shown.clone(), line: number(at.line), column: number(at.column) }
    }

    /// The position of the first of `fields` that the object has, or that a patch removed; else that of the object.
    pub(crate) fn spot_of(&self, object: &Built, fields: &[&str]) -> Spot {
        self.spot(object.place(fields))
    }
}

fn parsed(bytes: &[u8], file: u32, json: bool, whole: bool) -> Result<Parsed, NotText> {
    read::text(bytes).map(|text| read::parse(text, file, json, whole))
}

/// Reads everything, up to the limit, because a path may lead to an endless device.
pub(crate) fn bytes(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes_into(from, &mut bytes)?;
    Ok(bytes)
}

fn bytes_into(from: impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    from.take(MAX_BYTES + 1).read_to_end(bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {} MiB", MAX_BYTES >> 20),
        ));
    }
    Ok(())
}

/// Absolute, without `.` and `..`. Symbolic links are kept, as in kustomize.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    clean(&std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()))
}
