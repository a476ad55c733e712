//! What was found at another revision of the git repository: `--against`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use super::Run;

/// The fingerprints of what is found at a revision, in the same paths.
pub(super) fn findings(revision: &str, run: &Run<'_>) -> anyhow::Result<BTreeSet<String>> {
    if let Some(path) = run
        .paths
        .iter()
        .find(|path| path.is_absolute() || path.starts_with("..") || path.as_path() == Path::new("-"))
    {
        anyhow::bail!("--against compares what is below the current folder, not {}", path.display());
    }
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"], None)?);
    let below = git(&["rev-parse", "--show-prefix"], None)?;
    let commit = git(&["rev-parse", "--verify", "--end-of-options", &format!("{revision}^{{commit}}")], None)
        .with_context(|| format!("--against {revision}"))?;
    let scratch =
        tempfile::Builder::new().prefix("gatehouse-check-").tempdir().context("no temporary folder")?;
    let index = scratch.path().join("index");
    let tree = scratch.path().join("tree");
    std::fs::create_dir(&tree).context("no temporary folder")?;
    // Through an index of its own: neither the repository's index nor its work trees change.
    git_at(&top, &["read-tree", &commit], Some(&index))?;
    let prefix = format!("--prefix={}/", tree.display());
    git_at(&top, &["checkout-index", "--all", "--quiet", &prefix], Some(&index))?;
    let report = run.report(Some(&tree.join(below.trim_end_matches('/'))));
    Ok(report.findings.into_iter().map(|finding| finding.fingerprint).collect())
}

fn git(arguments: &[&str], index: Option<&Path>) -> anyhow::Result<String> {
    git_at(Path::new("."), arguments, index)
}

fn git_at(folder: &Path, arguments: &[&str], index: Option<&Path>) -> anyhow::Result<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(arguments);
    if let Some(index) = index {
        command.env("GIT_INDEX_FILE", index);
    }
    let output = command.output().context("cannot run git")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("git {}: {}", arguments.first().copied().unwrap_or_default(), why.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
}
