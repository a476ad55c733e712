//! SECURITY.md names, for each threat, the tests that show what somebody gets. They exist.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A source file: where it is below the repository, and what it says.
struct Source {
    path: String,
    text: String,
}

#[test]
fn every_threat_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(root, root, &mut sources).expect("the repository is read");
    let security = fs::read_to_string(root.join("SECURITY.md")).expect("SECURITY.md");
    let threats = security.split("## Threats").nth(1).expect("a section of threats");
    let threats = threats.split("\n## ").next().unwrap_or_default();
    let rows: Vec<_> = threats.split("\n- ").skip(1).collect();
    assert!(rows.len() > 30, "{} rows", rows.len());
    for row in rows {
        let row = row.split("\n\n").next().unwrap_or_default();
        let gets = row.split("**Result**").nth(1).expect("what somebody gets");
        let names: Vec<_> = gets.split('`').skip(1).step_by(2).filter(|name| is_test(name)).collect();
        assert!(!names.is_empty(), "no test is named: {row}");
        for name in names {
            assert!(sources.iter().any(|source| has(source, name)), "there is no {name}: {row}");
        }
    }
}

/// `module::of_a_test`, `a_test_s_name`, `path/to/tests.rs`; with `…` for what is left out.
fn is_test(name: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:/.…".contains(c);
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(is_of_name)
        && name.contains(['_', '/', ':'])
}

/// Whether a file has this test, or is this module with tests.
fn has(source: &Source, name: &str) -> bool {
    let Source { path, text } = source;
    let is_below = |module: &str| {
        let (path, module) = (format!("/{path}"), format!("/{}", module.trim_end_matches(".rs")));
        path.ends_with(&format!("{module}.rs")) || path.contains(&format!("{module}/"))
    };
    if name.contains('/') {
        return is_below(name) && has_tests(text);
    }
    let (module, test) = name.rsplit_once("::").unwrap_or(("", name));
    let beginning = test.trim_end_matches('…');
    let end = if beginning == test { "(" } else { "" };
    let is_function = (module.is_empty() || is_below(&module.replace("::", "/")))
        && text.contains(&format!("fn {beginning}{end}"))
        && has_tests(text);
    let quote = if beginning == test { "\"" } else { "" };
    let is_trial = !module.is_empty() && text.contains(&format!("\"{module}::{beginning}{quote}"));
    is_function || is_trial || is_below(&name.replace("::", "/")) && has_tests(text)
}

fn has_tests(text: &str) -> bool {
    ["#[test]", "#[tokio::test", "proptest!", "Vec<Trial>", "world."].iter().any(|mark| text.contains(mark))
}

/// The Rust files below a folder, without what was built.
fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with(['.', '_']) && name != "target" {
            collect(root, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let below = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            sources.push(Source { path: below, text: fs::read_to_string(&path)? });
        }
    }
    Ok(())
}
