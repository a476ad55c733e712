//! Finds the PolicyTests in files and folders.
//!
//! **Invariant:** Unknown fields are errors, because a misspelled field would expect nothing.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use gatehouse_inventory::{
    manifest,
    yaml::{self, At, Node},
};

use super::format::{GROUP, KIND, PolicyTest, VERSION};
use crate::{
    files::{absolute, is_address},
    read,
    report::{Problem, Spot},
};

/// A PolicyTest and its origin.
#[derive(Debug)]
pub(super) struct Suite {
    /// The display name of the file.
    shown: String,
    /// Its folder, as an absolute path: the base of paths in the test.
    pub(super) folder: PathBuf,
    node: Node,
    pub(super) test: PolicyTest,
}

impl Suite {
    /// The position of a field, or of the nearest existing field that encloses it.
    pub(super) fn spot(&self, field: &str) -> Spot {
        spot(&self.shown, &self.node, field)
    }

    /// Its policies that are elsewhere.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.test.policies.iter().map(String::as_str).filter(|text| is_address(text))
    }

    /// An error in a field.
    pub(super) fn problem(&self, field: &str, message: impl std::fmt::Display) -> Problem {
        Problem { spot: self.spot(field), message: format!("{field}: {message}") }
    }
}

/// The tests and the errors that were found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) suites: Vec<Suite>,
    pub(super) problems: Vec<Problem>,
}

/// Finds the PolicyTests in files, and in folders at any depth.
pub(super) fn suites(paths: &[PathBuf]) -> Found {
    let mut found = Found::default();
    let mut seen = HashSet::new();
    for path in paths {
        let before = (found.suites.len(), found.problems.len());
        let files = if path.is_dir() {
            match manifest::files(path) {
                Ok(listed) => {
                    for (folder, why) in listed.unreadable {
                        found.file(&folder, 0, format!("cannot be listed: {why}"));
                    }
                    listed.files
                }
                Err(error) => {
                    found.file(path, 0, format!("cannot be listed: {error}"));
                    continue;
                }
            }
        } else {
            vec![path.clone()]
        };
        let mut is_known = false;
        for file in files {
            if file.canonicalize().is_ok_and(|real| !seen.insert(real)) {
                is_known = true;
                continue;
            }
            found.read(&file);
        }
        if before == (found.suites.len(), found.problems.len()) && !is_known {
            found.file(path, 0, format!("holds no {KIND} of {GROUP}/{VERSION}"));
        }
    }
    found.same_names();
    found
}

impl Found {
    fn file(&mut self, path: &Path, line: u32, message: String) {
        let line = usize::try_from(line).unwrap_or(usize::MAX);
        self.problems.push(Problem { spot: Spot { line, ..Spot::file(shown(path)) }, message });
    }

    fn read(&mut self, path: &Path) {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return self.file(path, 0, "does not exist".to_owned());
            }
            Err(error) => return self.file(path, 0, format!("cannot be read: {error}")),
        };
        // Other files next to policies are ignored.
        let Ok(text) = read::text(&bytes) else { return };
        if !text.contains(GROUP) {
            return;
        }
        for (line, range) in manifest::documents(text) {
            let document = &text[range];
            if !document.contains(GROUP) {
                continue;
            }
            let line = u32::try_from(line).unwrap_or(u32::MAX);
            match yaml::load(document, At { file: 0, line, column: 1 }) {
                Ok(Some(node)) => self.take(path, node),
                Ok(None) => {}
                Err(error) => self.file(path, error.line, format!("does not parse: {}", error.message)),
            }
        }
    }

    fn take(&mut self, path: &Path, node: Node) {
        let api_version = node.str_of("apiVersion").unwrap_or_default();
        let Some((GROUP, version)) = api_version.split_once('/') else { return };
        let shown = shown(path);
        let kind = node.str_of("kind").unwrap_or_default();
        if (version, kind) != (VERSION, KIND) {
            let message =
                format!("{kind} of {api_version} is not known: expected {KIND} of {GROUP}/{VERSION}");
            return self.problems.push(Problem { spot: spot(&shown, &node, "kind"), message });
        }
        let test: PolicyTest = match serde_path_to_error::deserialize(&node.to_value()) {
            Ok(test) => test,
            Err(error) => {
                let outer = error.path().to_string();
                let message = error.inner().to_string();
                // The path ends at the parent of an unknown field.
                let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
                let field = match unknown {
                    Some(name) if outer == "." => name.to_owned(),
                    Some(name) if !outer.ends_with(name) => format!("{outer}.{name}"),
                    _ => outer,
                };
                let spot = spot(&shown, &node, &field);
                return self.problems.push(Problem { spot, message: format!("{field}: {message}") });
            }
        };
        let folder = absolute(path).parent().map(Path::to_path_buf).unwrap_or_default();
        let suite = Suite { shown, folder, node, test };
        self.problems.extend(empty(&suite));
        self.suites.push(suite);
    }

    /// Reports duplicate names, because results are identified by name.
    fn same_names(&mut self) {
        let mut names = HashSet::new();
        for suite in &self.suites {
            let name = &suite.test.metadata.name;
            if !names.insert(name.clone()) {
                let message = format!("another {KIND} is named {name:?} too");
                self.problems.push(suite.problem("metadata.name", message));
            }
            let mut cases = HashSet::new();
            for (index, case) in suite.test.cases.iter().enumerate() {
                if !cases.insert(&case.name) {
                    let message = format!("another case is named {:?} too", case.name);
                    self.problems.push(suite.problem(&format!("cases[{index}].name"), message));
                }
            }
        }
    }
}

/// Reports empty lists that would make a test check nothing.
fn empty(suite: &Suite) -> Vec<Problem> {
    let test = &suite.test;
    let lists = [("policies", test.policies.is_empty()), ("cases", test.cases.is_empty())];
    let lists = lists.into_iter().filter(|(_, is_empty)| *is_empty);
    let mut problems: Vec<Problem> =
        lists.map(|(field, _)| suite.problem(field, "must not be empty")).collect();
    if test.metadata.name.is_empty() {
        problems.push(suite.problem("metadata.name", "must not be empty"));
    }
    for (index, case) in test.cases.iter().enumerate() {
        if case.name.is_empty() {
            problems.push(suite.problem(&format!("cases[{index}].name"), "must not be empty"));
        }
    }
    problems
}

/// The position of a field, or of an enclosing field.
fn spot(shown: &str, node: &Node, field: &str) -> Spot {
    let mut rest = field;
    let at = loop {
        if rest.is_empty() {
            break node.at;
        }
        if let Some((at, _)) = node.field(rest) {
            break at;
        }
        rest = rest.rfind(['.', '[']).map_or("", |end| &rest[..end]);
    };
    let number = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    Spot { path: shown.to_owned(), line: number(at.line), column: number(at.column) }
}

fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}
