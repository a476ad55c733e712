//! The files as a build sees them: files that kustomizations name are read on demand, inside the checked folders and
//! outside.

use std::path::{Path, PathBuf};

use gatehouse_inventory::yaml::{self, At, Data, Node};

use crate::{
    Files,
    build::{Built, FILE_NAMES, Failure, Repository},
    files, read,
};

impl Files {
    fn kustomization_file(folder: &Path) -> Option<PathBuf> {
        FILE_NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
    }

    fn range(&self, file: u32) -> &[Built] {
        let text = &self.texts[usize::try_from(file).unwrap_or(usize::MAX)];
        &self.objects[text.objects.clone()]
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
        let text = std::fs::read(&path)
            .map_err(|error| Failure { at, message: format!("cannot be read: {error}") })?;
        let text = read::text(&text).map_err(|why| Failure { at, message: format!("passed over: {why}") })?;
        let start = At { file, line: 1, column: 1 };
        let node = yaml::load(text, start).map_err(|error| Failure {
            at: At { line: error.line, ..at },
            message: format!("does not parse: {}", error.message),
        })?;
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
        Ok(self.range(file).to_vec())
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
        yaml::load_inner(text).map(|node| node.into_iter().collect()).map_err(|error| Failure {
            at: At { line: error.line, column: 0, ..text.at },
            message: format!("does not parse: {}", error.message),
        })
    }

    fn manifests(&mut self, folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(folder, &mut found, 0);
        found
    }

    fn text(&mut self, path: &Path) -> Option<String> {
        let file = self.number(path);
        self.used.insert(file);
        std::fs::read(path).ok().and_then(|bytes| read::text(&bytes).ok().map(str::to_owned))
    }
}

/// Deeper than any repository, because symbolic links may form cycles.
const MAX_DEPTH: usize = 64;

/// Walks a folder without a kustomization file as kustomize-controller does: including hidden files, and each folder
/// that has a kustomization file as a whole.
fn walk(folder: &Path, found: &mut Vec<PathBuf>, depth: usize) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            if path.file_name().is_some_and(|name| name == ".git") || depth >= MAX_DEPTH {
                continue;
            }
            if Files::kustomization_file(&path).is_some() {
                found.push(path);
            } else {
                walk(&path, found, depth + 1);
            }
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            found.push(path);
        }
    }
}
