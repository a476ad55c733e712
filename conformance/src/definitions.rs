//! The CRDs of other projects: of the kinds that the chart creates objects of, and of those that the controllers work on.
//! They are read from pinned Go modules in Go's module cache.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use serde::Deserialize;
use tokio::process::Command;

use crate::cache::Unavailable;
use crate::load::{self, Manifest};
use crate::progress;

/// A Go module that contains CRDs.
struct Module {
    path: &'static str,
    version: &'static str,
    /// Its hash, as in go.sum.
    sum: &'static str,
    files: &'static [&'static str],
}

const OF_THE_CHART: [Module; 2] = [
    Module {
        path: "github.com/prometheus-operator/prometheus-operator",
        version: "v0.94.1",
        sum: "h1:QEIb2wenPH+SdMN1xMf8l4Pmj00YYXXI6HlbLlQWkww=",
        files: &[
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        ],
    },
    Module {
        path: "github.com/cert-manager/cert-manager",
        version: "v1.21.2",
        sum: "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
        files: &["deploy/crds/cert-manager.io_certificates.yaml", "deploy/crds/cert-manager.io_issuers.yaml"],
    },
];

/// In the versions of `flux/go.mod`.
const OF_FLUX: [Module; 2] = [
    Module {
        path: "github.com/fluxcd/source-controller",
        version: "v1.9.6",
        sum: "h1:nG534/bI6nVpyHra7ONAk6xDB3xPsVT+EOLHZHXPrrc=",
        files: &[
            "config/crd/bases/source.toolkit.fluxcd.io_buckets.yaml",
            "config/crd/bases/source.toolkit.fluxcd.io_externalartifacts.yaml",
            "config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml",
            "config/crd/bases/source.toolkit.fluxcd.io_helmcharts.yaml",
            "config/crd/bases/source.toolkit.fluxcd.io_helmrepositories.yaml",
            "config/crd/bases/source.toolkit.fluxcd.io_ocirepositories.yaml",
        ],
    },
    Module {
        path: "github.com/fluxcd/kustomize-controller",
        version: "v1.9.6",
        sum: "h1:XB+G3A0mky0j5uVHZWv4oSlS2RvZBoNIUhstIvY0JKE=",
        files: &["config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml"],
    },
];

/// In the version of `notification/go.mod`.
const OF_NOTIFICATION: [Module; 1] = [Module {
    path: "github.com/fluxcd/notification-controller",
    version: "v1.6.0",
    sum: "h1:5C06VdqTVsbBFjtSZejnKT60U00Uyj6DAtKrqU1Si/w=",
    files: &[
        "config/crd/bases/notification.toolkit.fluxcd.io_alerts.yaml",
        "config/crd/bases/notification.toolkit.fluxcd.io_providers.yaml",
        "config/crd/bases/notification.toolkit.fluxcd.io_receivers.yaml",
    ],
}];

/// The output of `go mod download -json`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Downloaded {
    dir: PathBuf,
    sum: String,
    error: String,
}

/// The CRDs of the Prometheus operator and of cert-manager.
pub async fn foreign() -> anyhow::Result<Vec<Manifest>> {
    read(&OF_THE_CHART).await
}

/// The CRDs of source-controller and kustomize-controller.
pub async fn flux() -> anyhow::Result<Vec<Manifest>> {
    read(&OF_FLUX).await
}

/// The CRDs of notification-controller.
pub async fn notification() -> anyhow::Result<Vec<Manifest>> {
    read(&OF_NOTIFICATION).await
}

async fn read(modules: &[Module]) -> anyhow::Result<Vec<Manifest>> {
    let mut definitions = Vec::new();
    for module in modules {
        let what = format!("fetching the definitions of {} {}", module.path, module.version);
        let folder = progress::during(what, module.download()).await?;
        for file in module.files {
            let path = folder.join(file);
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            definitions.extend(load::parse(file, &text)?);
        }
    }
    Ok(definitions)
}

impl Module {
    /// Downloads the module if needed, and returns its folder in Go's module cache.
    async fn download(&self) -> anyhow::Result<PathBuf> {
        let module = format!("{}@{}", self.path, self.version);
        let failed =
            |output: String| Unavailable::Build { program: "go".to_owned(), what: module.clone(), output };
        // Runs outside of any module, whose requirements would otherwise matter.
        let nowhere = tempfile::Builder::new().prefix("gatehouse-definitions-").tempdir()?;
        let mut command = Command::new("go");
        command.args(["mod", "download", "-json", &module]).env("GOWORK", "off").current_dir(nowhere.path());
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
        let output = output.map_err(|source| Unavailable::NoProgram { program: "go".to_owned(), source })?;
        let Ok(downloaded) = serde_json::from_slice::<Downloaded>(&output.stdout) else {
            return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()).into());
        };
        if !downloaded.error.is_empty() {
            return Err(failed(downloaded.error).into());
        }
        anyhow::ensure!(downloaded.sum == self.sum, "{module} is {}, not {}", downloaded.sum, self.sum);
        Ok(downloaded.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_of_flux_are_those_of_its_controllers() {
        let flux = (&OF_FLUX[..], include_str!("../flux/go.sum"));
        let notification = (&OF_NOTIFICATION[..], include_str!("../notification/go.sum"));
        for (modules, go_sum) in [flux, notification] {
            for Module { path, version, sum, .. } in modules {
                let line = format!("{path} {version} {sum}");
                assert!(go_sum.lines().any(|known| known == line), "{line}");
            }
        }
    }
}
