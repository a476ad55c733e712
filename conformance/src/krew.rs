//! The manifest by which krew, kubectl's plugin manager, installs a release of the plugin.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What an archive is called: `kubectl-gatehouse_linux_amd64.tar.gz`.
const PREFIX: &str = "kubectl-gatehouse_";
const SUFFIX: &str = ".tar.gz";
/// In every archive, beside the license.
const EXECUTABLE: &str = "kubectl-gatehouse";

const DESCRIPTION: &str = "\
Shows why a Flux object is not ready, down to the end of its chain of causes, what it depends on, and what is left of a
tenant's quota. Where Gatehouse's actions are enabled, it also reconciles, suspends and resumes by rights of their own.
";
const CAVEATS: &str = "\
The cluster must serve Gatehouse's API: `kubectl get --raw /apis/view.gatehouse.dev/v1alpha1`.
For completion, link the executable as kubectl_complete-gatehouse on the PATH.
";

/// A release of the plugin.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The release, such as 0.1.0
    #[arg(long)]
    release: String,
    /// The folder that the archives are downloaded from
    #[arg(long, value_name = "URL")]
    url: String,
    /// The address of the project
    #[arg(long, value_name = "URL")]
    homepage: String,
    /// The archives, each named kubectl-gatehouse_OS_ARCHITECTURE.tar.gz
    #[arg(value_name = "FILE", required = true)]
    archives: Vec<PathBuf>,
}

/// Prints the manifest.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    print!("{}", manifest(arguments)?);
    Ok(())
}

fn manifest(arguments: &Arguments) -> anyhow::Result<String> {
    let Arguments { release, url, homepage, archives } = arguments;
    let platforms: Vec<Value> =
        archives.iter().map(|archive| platform(url, archive)).collect::<anyhow::Result<_>>()?;
    let manifest = json!({
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "gatehouse"},
        "spec": {
            "version": format!("v{release}"),
            "homepage": homepage,
            "shortDescription": "Show why Flux objects fail, and act on them",
            "description": DESCRIPTION,
            "caveats": CAVEATS,
            "platforms": platforms,
        },
    });
    let text = serde_saphyr::to_string(&manifest)?;
    Ok(format!("# Made by `gatehouse-conformance krew`.\n{text}"))
}

fn platform(url: &str, archive: &Path) -> anyhow::Result<Value> {
    let shown = archive.display();
    let name = archive.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parts = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX)?.split_once('_'));
    let (os, arch) =
        parts.with_context(|| format!("{shown} is not named {PREFIX}OS_ARCHITECTURE{SUFFIX}"))?;
    let content = std::fs::read(archive).with_context(|| format!("cannot read {shown}"))?;
    let mut entries = tar::Archive::new(flate2::read::GzDecoder::new(&*content));
    let has_executable = entries
        .entries()
        .and_then(|mut entries| {
            entries.try_fold(false, |found, entry| Ok(found || entry?.path()?.as_os_str() == EXECUTABLE))
        })
        .with_context(|| format!("{shown} is no archive"))?;
    ensure!(has_executable, "{shown} has no {EXECUTABLE}");
    Ok(json!({
        "selector": {"matchLabels": {"os": os, "arch": arch}},
        "uri": format!("{}/{name}", url.trim_end_matches('/')),
        "sha256": format!("{:x}", Sha256::digest(&content)),
        "bin": EXECUTABLE,
    }))
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn archive(folder: &Path, name: &str, file: &str) -> PathBuf {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        tar.append_data(&mut header, file, &[][..]).expect("written to memory");
        let path = folder.join(name);
        let bytes = tar.into_inner().and_then(GzEncoder::finish).expect("written to memory");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn of(archives: Vec<PathBuf>) -> anyhow::Result<String> {
        let url = "https://example.com/releases/v0.1.0/".to_owned();
        let homepage = "https://example.com".to_owned();
        manifest(&Arguments { release: "0.1.0".to_owned(), url, homepage, archives })
    }

    #[test]
    fn a_manifest_has_what_krew_requires() {
        let folder = tempfile::tempdir().expect("a folder");
        let archives = ["linux_amd64", "linux_arm64"]
            .map(|platform| archive(folder.path(), &format!("{PREFIX}{platform}{SUFFIX}"), EXECUTABLE));
        let content = std::fs::read(&archives[0]).expect("written");
        let text = of(archives.to_vec()).expect("archives of the plugin");
        let read: Value = serde_saphyr::from_str(&text).expect("YAML");
        assert_eq!(read["spec"]["version"], "v0.1.0");
        let platform = &read["spec"]["platforms"][1];
        assert_eq!(platform["selector"]["matchLabels"], json!({"os": "linux", "arch": "arm64"}));
        let uri = "https://example.com/releases/v0.1.0/kubectl-gatehouse_linux_arm64.tar.gz";
        assert_eq!(platform["uri"], uri);
        let digest = format!("{:x}", Sha256::digest(&content));
        assert_eq!(read["spec"]["platforms"][0]["sha256"], *digest);
        // krew's index refuses longer ones.
        let short = read["spec"]["shortDescription"].as_str().expect("text");
        assert!(short.len() <= 50, "{short}");
    }

    #[test]
    fn what_is_no_archive_of_the_plugin_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let misnamed = archive(folder.path(), "gatehouse.tar.gz", EXECUTABLE);
        assert!(of(vec![misnamed]).is_err());
        let empty = archive(folder.path(), "kubectl-gatehouse_linux_amd64.tar.gz", "LICENSE");
        assert!(of(vec![empty]).is_err());
    }
}
