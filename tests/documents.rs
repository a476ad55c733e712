//! The documents hold together: lines that fit a terminal, links that lead somewhere, flags that exist.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails with what it met")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// How long a line of a document may be.
const COLUMNS: usize = 100;
/// How long the README may be.
const README: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file of the repository, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                let skipped = ["target", "node_modules"].iter().any(|skipped| name == *skipped);
                if !skipped && !name.to_string_lossy().starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

/// The anchor that a heading has, as forges make it.
fn anchor(heading: &str) -> String {
    let heading = heading.to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The lines that are not in a block of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(str::lines)
}

#[test]
fn lines_fit_and_the_readme_is_short() {
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        let mut is_printed = false;
        for (at, line) in text.lines().enumerate() {
            // Tables that other tests print are as wide as what they hold.
            is_printed |= line.starts_with("<!-- ");
            is_printed &= !line.starts_with("<!-- end");
            let is_row = is_printed && line.starts_with('|');
            if line.chars().count() > COLUMNS && !is_row {
                wrong.push(format!("{}:{}: {line}", path.display(), at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "longer than {COLUMNS} columns:\n{}", wrong.join("\n"));
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() <= README, "README.md has {} lines", readme.lines().count());
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        for link in prose(&text).flat_map(|line| line.split("](").skip(1)) {
            let link = link.split(')').next().unwrap_or_default();
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let leads = target.exists()
                && (heading.is_empty()
                    || prose(&fs::read_to_string(&target).unwrap())
                        .filter(|line| line.starts_with('#'))
                        .any(|line| anchor(line.trim_start_matches('#').trim()) == heading));
            if !leads {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links to nothing:\n{}", wrong.join("\n"));
}

#[test]
fn every_document_has_a_table_of_its_contents() {
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        let of_docs = path.parent() == Some(&*root().join("docs"));
        if !of_docs && !["ARCHITECTURE.md", "KNOWN_ISSUES.md"].iter().any(|name| path.ends_with(name)) {
            continue;
        }
        for heading in prose(&text).filter_map(|line| line.strip_prefix("## ")) {
            if !text.contains(&format!("](#{})", anchor(heading))) {
                wrong.push(format!("{}: {heading}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "not in the table of contents:\n{}", wrong.join("\n"));
}

/// Words that look like flags of `gatehouse` in what a person would copy from a document.
#[test]
fn flags_of_the_command_that_documents_name_exist() {
    let mut known = BTreeSet::new();
    let commands =
        ["apiserver", "webhooks", "check", "demo", "manifests", "crds"].map(|command| vec![command]);
    let of_plugin = ["why", "tree", "reconcile", "suspend", "resume", "quota", "clusters"];
    let of_clusters = ["add", "list", "remove"].map(|command| vec!["clusters", command]);
    let of_plugin = of_plugin.map(|command| vec!["plugin", command]);
    for command in commands.into_iter().chain(of_plugin).chain(of_clusters) {
        let mut gatehouse = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        let help = gatehouse.args(command).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        known.extend(flags(&help).map(ToOwned::to_owned));
    }
    assert!(known.contains("--secure-port"), "{known:?}");
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        let commands = text.lines().filter(|line| {
            line.contains("gatehouse check -")
                || line.contains("-- check -")
                || line.contains("-- demo -")
                || line.contains("gatehouse apiserver -")
                || line.contains("gatehouse webhooks -")
                || line.contains("kubectl gatehouse ")
                || line.contains("gatehouse clusters ")
        });
        for line in commands {
            // Behind the `--` of `cargo run` are the command's own.
            let own = line.split_once("-- ").map_or(line, |(_, own)| own);
            let own = own.split_once(" -- ").map_or(own, |(own, _)| own);
            let unknown = flags(own).filter(|flag| !known.contains(*flag) && *flag != "--help");
            wrong.extend(unknown.map(|flag| format!("{}: {flag} in {line}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "flags that do not exist:\n{}", wrong.join("\n"));
}

fn flags(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 2)
}
