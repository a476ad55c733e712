//! Finds kube-apiserver and etcd: where KUBEBUILDER_ASSETS says, else in the user's cache folder, built there once from
//! their Go modules.

use std::path::{Path, PathBuf};

use crate::cache::{self, Filling, Unavailable};
use crate::progress;

const GO_MOD: &str = include_str!("../control-plane/go.mod");
const GO_SUM: &str = include_str!("../control-plane/go.sum");
/// What Kubernetes' programs are built from.
pub(crate) const MODULE: [(&str, &str); 2] = [("go.mod", GO_MOD), ("go.sum", GO_SUM)];

const KUBERNETES: &str = "k8s.io/kubernetes";
const ETCD: &str = "go.etcd.io/etcd/server/v3";

const API_SERVER_FILE: &str = "kube-apiserver";
const ETCD_FILE: &str = "etcd";

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
    #[error("KUBEBUILDER_ASSETS is not set, and no control plane can be built")]
    Unavailable(#[source] Unavailable),
}

/// Finds the executables; builds them if need be, which takes minutes.
pub async fn find() -> Result<Assets, AssetsError> {
    if let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()) {
        return in_folder(Path::new(&folder)).map_err(|missing| AssetsError::Missing { missing });
    }
    cached().await.map_err(AssetsError::Unavailable)
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

/// Without a stamp kube-apiserver calls itself v0.0.0, which clients do not know how to talk to.
pub(crate) fn ldflags() -> String {
    let version = kubernetes_version();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let package = "k8s.io/component-base/version";
    format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    )
}

async fn cached() -> Result<Assets, Unavailable> {
    let folder = cache::folder("control-plane", &[GO_MOD, GO_SUM, &ldflags()])?;
    if let Ok(assets) = in_folder(&folder) {
        return Ok(assets);
    }
    let filling = Filling::begin(&folder).await?;
    for (file, text) in MODULE {
        filling.write(file, text)?;
    }
    for (file, package, version) in [
        (ETCD_FILE, ETCD.to_owned(), module_version(ETCD)),
        (API_SERVER_FILE, format!("{KUBERNETES}/cmd/kube-apiserver"), kubernetes_version()),
    ] {
        if folder.join(file).is_file() {
            continue;
        }
        let what = format!("building {file} {version} for tests, once, into {}", folder.display());
        progress::during(what, filling.go(file, &package, &ldflags())).await?;
        filling.keep(file)?;
    }
    in_folder(&folder).map_err(|path| cache::at(&path)(std::io::ErrorKind::NotFound.into()))
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
