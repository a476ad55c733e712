//! Finds kube-apiserver and etcd: where KUBEBUILDER_ASSETS says, else in the user's cache folder, built there once from
//! their Go modules.
//!
//! The cache is keyed by everything that goes into the build, so that a change of versions builds anew. A binary
//! appears under its name only when it is complete; builders that run at the same time wait for each other.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::progress;

const GO_MOD: &str = include_str!("../control-plane/go.mod");
const GO_SUM: &str = include_str!("../control-plane/go.sum");

const KUBERNETES: &str = "k8s.io/kubernetes";
const ETCD: &str = "go.etcd.io/etcd/server/v3";

const API_SERVER_FILE: &str = "kube-apiserver";
const ETCD_FILE: &str = "etcd";

/// A folder that a build runs in.
const WORK_PREFIX: &str = "build-";

/// The lines of a failed build worth showing.
const ERROR_LINES: usize = 15;

/// Where the executables are.
#[derive(Debug, Clone)]
pub struct Assets {
    /// kube-apiserver.
    pub kube_apiserver: PathBuf,
    /// etcd.
    pub etcd: PathBuf,
}

/// The executables cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AssetsError {
    /// KUBEBUILDER_ASSETS is set, to a folder without one of them: a mistake, not a missing means.
    #[error("KUBEBUILDER_ASSETS is set, but {} does not exist", missing.display())]
    Missing {
        /// The file that is looked for.
        missing: PathBuf,
    },
    /// This machine has no means to get them.
    #[error("no control plane here")]
    Unavailable(#[source] Unavailable),
}

/// Why this machine has no control plane.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// Neither a cache folder nor a home folder is known.
    #[error(
        "KUBEBUILDER_ASSETS is not set, and neither XDG_CACHE_HOME nor a home folder says where to build one"
    )]
    NoCacheFolder,
    /// The cache folder cannot be used.
    #[error("cannot use {}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no Go toolchain.
    #[error("KUBEBUILDER_ASSETS is not set, and building one takes `go`, which cannot be run")]
    NoGo {
        /// Why.
        source: io::Error,
    },
    /// The Go toolchain did not succeed: no network, too old a version, a full disk.
    #[error("go cannot build {package}:\n{output}")]
    Build {
        /// The package that was built.
        package: String,
        /// The last lines of its output.
        output: String,
    },
}

/// Finds the executables; builds them if need be, which takes minutes.
pub async fn find() -> Result<Assets, AssetsError> {
    if let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()) {
        return in_folder(Path::new(&folder)).map_err(|missing| AssetsError::Missing { missing });
    }
    let folder = cache_folder().ok_or(AssetsError::Unavailable(Unavailable::NoCacheFolder))?;
    cached(&folder).await.map_err(AssetsError::Unavailable)
}

/// The Kubernetes version that is built where nothing else is given.
pub fn kubernetes_version() -> &'static str {
    module_version(KUBERNETES)
}

fn module_version(module: &str) -> &'static str {
    GO_MOD
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("require ").split_once(' '))
        .find_map(|(name, version)| (name == module && version.starts_with('v')).then_some(version))
        .and_then(|version| version.split_whitespace().next())
        .expect("the module file, part of this crate, requires it")
}

fn in_folder(folder: &Path) -> Result<Assets, PathBuf> {
    let file = |name| {
        let path = folder.join(name);
        if path.is_file() { Ok(path) } else { Err(path) }
    };
    Ok(Assets { kube_apiserver: file(API_SERVER_FILE)?, etcd: file(ETCD_FILE)? })
}

fn cache_folder() -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .and_then(absolute)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    Some(cache.join("gatehouse").join("control-plane").join(cache_key()))
}

fn cache_key() -> String {
    let platform = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let parts = [GO_MOD, GO_SUM, &ldflags(), &platform];
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    let mut key = format!("{:x}", hash.finalize());
    // Enough to tell apart the few builds that a machine ever sees.
    key.truncate(16);
    key
}

/// Without a stamp kube-apiserver calls itself v0.0.0, which clients do not know how to talk to.
fn ldflags() -> String {
    let version = kubernetes_version();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let package = "k8s.io/component-base/version";
    format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    )
}

async fn cached(folder: &Path) -> Result<Assets, Unavailable> {
    if let Ok(assets) = in_folder(folder) {
        return Ok(assets);
    }
    let cache_error = |source| Unavailable::Cache { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(cache_error)?;
    let _lock = lock(&folder.join("lock")).await?;
    if let Ok(assets) = in_folder(folder) {
        return Ok(assets);
    }

    remove_abandoned(folder);
    // Beside the results, so that renaming stays within one file system; removed however the build ends.
    let work = tempfile::Builder::new().prefix(WORK_PREFIX).tempdir_in(folder).map_err(cache_error)?;
    std::fs::write(work.path().join("go.mod"), GO_MOD).map_err(cache_error)?;
    std::fs::write(work.path().join("go.sum"), GO_SUM).map_err(cache_error)?;
    for (file, package, version) in [
        (ETCD_FILE, ETCD.to_owned(), module_version(ETCD)),
        (API_SERVER_FILE, format!("{KUBERNETES}/cmd/kube-apiserver"), kubernetes_version()),
    ] {
        if folder.join(file).is_file() {
            continue;
        }
        let what = format!("building {file} {version} for tests, once, into {}", folder.display());
        progress::during(what, build(work.path(), file, &package)).await?;
        std::fs::rename(work.path().join(file), folder.join(file)).map_err(cache_error)?;
    }
    in_folder(folder).map_err(|path| Unavailable::Cache { path, source: io::ErrorKind::NotFound.into() })
}

/// What a builder that was killed has left behind; called under the lock, so nobody is using it. Best effort: what
/// cannot be removed is only in the way of disk space.
fn remove_abandoned(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Held until it is dropped, or its process ends.
async fn lock(path: &Path) -> Result<File, Unavailable> {
    let cache_error = |source| Unavailable::Cache { path: path.to_owned(), source };
    let file = File::options().create(true).append(true).open(path).map_err(cache_error)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(cache_error(error)),
    }
    progress::during("waiting for another process that builds the control plane", async {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(cache_error(error)),
            }
        }
    })
    .await?;
    Ok(file)
}

async fn build(module: &Path, file: &str, package: &str) -> Result<(), Unavailable> {
    let output = Command::new("go")
        .args(["build", "-ldflags", &ldflags(), "-o", file, package])
        .current_dir(module)
        // A workspace file above the cache folder must not take part; a C compiler must not be needed.
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| Unavailable::NoGo { source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().collect();
    let output = lines[lines.len().saturating_sub(ERROR_LINES)..].join("\n");
    Err(Unavailable::Build { package: package.to_owned(), output })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_module_file() {
        assert!(kubernetes_version().starts_with("v1.3"));
        assert!(module_version(ETCD).starts_with("v3.6."));
        assert!(ldflags().contains(&format!("gitVersion={}", kubernetes_version())));
    }

    #[test]
    fn missing_executable_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(in_folder(folder.path()).expect_err("empty"), folder.path().join("kube-apiserver"));
        std::fs::write(folder.path().join("kube-apiserver"), "").expect("write");
        assert_eq!(in_folder(folder.path()).expect_err("half empty"), folder.path().join("etcd"));
    }
}
