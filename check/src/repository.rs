//! The files as a build sees them: files that kustomizations name are read on demand, inside the checked folders and
//! outside.

use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use gatehouse_inventory::yaml::{self, At, Data, Node};

use crate::{
    Files,
    build::{Built, FILE_NAMES, Failure, Repository},
    files, read,
};

impl Files {
    /// The folders from the root of the repository to this one, which are in one artifact.
    fn artifact<'a>(&self, folder: &'a Path) -> Vec<&'a Path> {
        let top = folder.ancestors().position(|above| above.join(".git").exists());
        let top =
            top.or_else(|| folder.ancestors().position(|above| self.folders.iter().any(|own| own == above)));
        let mut folders: Vec<&Path> = folder.ancestors().take(top.unwrap_or_default() + 1).collect();
        folders.reverse();
        folders
    }

    fn kustomization_file(folder: &Path) -> Option<PathBuf> {
        FILE_NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
    }
}

impl Repository for Files {
    fn place(&mut self, folder: &Path) -> At {
        let path = Self::kustomization_file(folder).unwrap_or_else(|| folder.to_path_buf());
        At { file: self.number(&path), line: 0, column: 0 }
    }

    fn kustomization(&mut self, folder: &Path) -> Result<Option<Node>, Failure> {
        if let Some(known) = self.kustomizations.get(folder) {
            return Ok(known.clone());
        }
        let Some(path) = Self::kustomization_file(folder) else {
            self.kustomizations.insert(folder.to_path_buf(), None);
            return Ok(None);
        };
        let file = self.number(&path);
        self.used.insert(file);
        let at = At { file, line: 0, column: 0 };
        if FILE_NAMES.iter().filter(|name| folder.join(name).is_file()).count() > 1 {
            let message = "the folder has several kustomization files".to_owned();
            return Err(Failure { at, message });
        }
        let text = std::fs::read(&path)
            .map_err(|error| Failure { at, message: format!("cannot be read: {error}") })?;
        let text = read::text(&text).map_err(|why| Failure { at, message: format!("passed over: {why}") })?;
        let start = At { file, line: 1, column: 1 };
        let document = yaml::document(text, start).map_err(|error| Failure {
            at: At { line: error.line, ..at },
            message: format!("does not parse: {}", error.message),
        })?;
        let node = match document {
            Some(yaml::Document { refused: Some((at, message)), .. }) => return Err(Failure { at, message }),
            document => document.map(|document| document.node),
        };
        let node = node.filter(|node| matches!(node.data, Data::Map(_))).unwrap_or_else(|| Node::map(start));
        self.kustomizations.insert(folder.to_path_buf(), Some(node.clone()));
        Ok(Some(node))
    }

    fn objects(&mut self, path: &Path, named: Option<At>) -> Result<Vec<Built>, Failure> {
        let Some(file) = self.load(path) else {
            return match named {
                Some(at) => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    Err(Failure { at, message: format!("{name} does not exist, or cannot be read") })
                }
                None => Ok(Vec::new()),
            };
        };
        self.used.insert(file);
        let at = At { file, line: 1, column: 1 };
        if let Some(line) = self.text_of(at).stray {
            let message = "a document without apiVersion and kind is no resource".to_owned();
            return Err(Failure { at: At { line, ..at }, message });
        }
        Ok(self.take_objects(file))
    }

    fn documents(&mut self, path: &Path, named: At) -> Result<Result<Vec<Node>, String>, Failure> {
        let file = self.number(path);
        self.used.insert(file);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let failure = |why: &dyn std::fmt::Display| Failure { at: named, message: format!("{name}: {why}") };
        let bytes = std::fs::File::open(path).and_then(files::bytes).map_err(|error| failure(&error))?;
        let text = match read::text(&bytes) {
            Ok(text) => text,
            // The tool that applies it may have the key.
            Err(why) => return Ok(Err(format!("{name} is passed over: {why}"))),
        };
        read::documents(text, file).map(Ok).map_err(|error| Failure {
            at: At { file, line: error.line, column: 0 },
            message: format!("does not parse: {}", error.message),
        })
    }

    fn inline(&mut self, text: &Node) -> Result<Vec<Node>, Failure> {
        yaml::load_inner(text).map_err(|error| Failure {
            at: At { line: error.line, column: 0, ..text.at },
            message: format!("does not parse: {}", error.message),
        })
    }

    fn manifests(&mut self, folder: &Path) -> Vec<PathBuf> {
        let mut walk = Walk { found: Vec::new(), ignored: Vec::new() };
        for above in self.artifact(folder) {
            walk.ignore(above);
        }
        walk.folder(folder, 0);
        walk.found
    }

    fn text(&mut self, path: &Path) -> std::io::Result<Option<String>> {
        let file = self.number(path);
        self.used.insert(file);
        let bytes = std::fs::File::open(path).and_then(files::bytes)?;
        Ok(read::text(&bytes).ok().map(str::to_owned))
    }
}

/// Deeper than any repository, because symbolic links may form cycles.
const MAX_DEPTH: usize = 64;

/// The file with patterns of what source-controller leaves out of an artifact.
const IGNORE_FILE: &str = ".sourceignore";

/// Walks a folder without a kustomization file as kustomize-controller does: including hidden files, and each folder
/// that has a kustomization file as a whole.
struct Walk {
    found: Vec<PathBuf>,
    /// Patterns of the folders above, the nearest last.
    ignored: Vec<Gitignore>,
}

impl Walk {
    fn ignore(&mut self, folder: &Path) {
        let file = folder.join(IGNORE_FILE);
        if file.is_file() {
            let mut builder = GitignoreBuilder::new(folder);
            // A line that is no pattern excludes nothing.
            builder.add(file);
            self.ignored.extend(builder.build().ok());
        }
    }

    fn is_ignored(&self, path: &Path, is_folder: bool) -> bool {
        let mut matches =
            self.ignored.iter().rev().map(|all| all.matched_path_or_any_parents(path, is_folder));
        matches.find(|matched| !matched.is_none()).is_some_and(|matched| matched.is_ignore())
    }

    fn folder(&mut self, folder: &Path, depth: usize) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                if path.file_name().is_some_and(|name| name == ".git") || depth >= MAX_DEPTH {
                    continue;
                }
                if let Some(file) = Files::kustomization_file(&path) {
                    if !self.is_ignored(&file, false) {
                        self.found.push(path);
                    }
                } else {
                    let known = self.ignored.len();
                    self.ignore(&path);
                    self.folder(&path, depth + 1);
                    self.ignored.truncate(known);
                }
            } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
                && !self.is_ignored(&path, false)
            {
                self.found.push(path);
            }
        }
    }
}
