//! What `--snapshot` names, as a folder that can be served: a folder of manifests as it is, a repository as it would be
//! applied, a single file, or standard input.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use gatehouse_check::Applied;
use serde_json::{Value, json};

/// How often a repository is looked at for changes.
const LOOK: Duration = Duration::from_secs(1);

/// What is served, and what has to be built anew when it changes.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    repository: Option<(PathBuf, Stamps)>,
}

/// The files of a repository, as far as a listing tells them from changed ones.
type Stamps = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

impl Folder {
    /// `scratch`: a folder for what has to be written.
    pub(super) fn of(named: &Path, scratch: &Path) -> anyhow::Result<Self> {
        let path = scratch.join("snapshot");
        let plain = |path| Ok(Self { path, repository: None });
        if named == Path::new("-") {
            let mut text = Vec::new();
            std::io::stdin().lock().read_to_end(&mut text).context("cannot read standard input")?;
            anyhow::ensure!(!text.trim_ascii().is_empty(), "standard input is empty");
            std::fs::create_dir(&path)?;
            std::fs::write(path.join("stdin.yaml"), text).context("cannot write what was read")?;
            return plain(path);
        }
        if named.is_file() {
            let extension = named.extension().and_then(|extension| extension.to_str());
            let is_manifest = extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension));
            anyhow::ensure!(
                is_manifest,
                "snapshot {} is no manifest (*.yaml, *.yml, *.json)",
                named.display()
            );
            std::fs::create_dir(&path)?;
            let name = named.file_name().unwrap_or_default();
            std::os::unix::fs::symlink(std::path::absolute(named)?, path.join(name))?;
            return plain(path);
        }
        if !named.is_dir() || !gatehouse_check::has_kustomizations(named) {
            return plain(named.to_path_buf());
        }
        std::fs::create_dir(&path)?;
        let stamps = stamps(named);
        build(named, &path)?;
        Ok(Self { path, repository: Some((named.to_path_buf(), stamps)) })
    }

    /// Builds a repository anew whenever it changes; of anything else, the server sees the changes by itself.
    pub(super) async fn keep(self) {
        let Some((repository, mut known)) = self.repository else { return std::future::pending().await };
        let path = self.path;
        loop {
            tokio::time::sleep(LOOK).await;
            let (from, to) = (repository.clone(), path.clone());
            let looked = tokio::task::spawn_blocking(move || {
                let now = stamps(&from);
                if now != known
                    && let Err(error) = build(&from, &to)
                {
                    tracing::warn!(%error, "the repository cannot be built");
                }
                now
            });
            match looked.await {
                Ok(now) => known = now,
                Err(error) => {
                    tracing::error!(%error, "cannot scan the repository");
                    return std::future::pending().await;
                }
            }
        }
    }
}

fn stamps(folder: &Path) -> Stamps {
    let files = gatehouse_check::files(folder);
    let stamp = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok()?;
        Some((path, (metadata.modified().ok(), metadata.len())))
    };
    files.into_iter().filter_map(stamp).collect()
}

/// Writes what would be applied of a repository as one list.
fn build(repository: &Path, into: &Path) -> anyhow::Result<()> {
    let Applied { objects, problems } = gatehouse_check::applied(repository);
    for problem in problems {
        tracing::warn!(at = %problem.spot, reason = %problem.message, "skipping a document");
    }
    let mut seen = std::collections::HashSet::new();
    let first = |object: &Value| {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        seen.insert([text("/apiVersion"), text("/kind"), text("/metadata/namespace"), text("/metadata/name")])
    };
    // Bases of several clusters are one object here.
    let objects: Vec<Value> = objects.into_iter().filter(first).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    // Moved into place, so that nobody reads half of it. What is hidden is not served.
    let (unfinished, finished) = (into.join(".built.json"), into.join("built.json"));
    std::fs::write(&unfinished, list.to_string()).context("cannot write what was built")?;
    std::fs::rename(&unfinished, &finished).context("cannot write what was built")
}
