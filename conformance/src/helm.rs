//! Runs Helm on the chart of this repository.
//!
//! The executable is the one that HELM names, otherwise one that is built once from its Go module. It reads
//! no configuration of the user, and connects to a cluster only by a kubeconfig that it is given.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::cache::{GoProgram, Unavailable};
use crate::kubectl::Output;
use crate::load::{self, Manifest};

const MODULE: [(&str, &str); 2] =
    [("go.mod", include_str!("../tools/go.mod")), ("go.sum", include_str!("../tools/go.sum"))];
const PACKAGE: &str = "helm.sh/helm/v4/cmd/helm";

/// The release's name.
pub const RELEASE: &str = "gatehouse";
/// The release's namespace, as in the README.
pub const NAMESPACE: &str = "gatehouse-system";

/// Helm's executable.
#[derive(Debug, Clone)]
pub struct Helm {
    executable: PathBuf,
    kubeconfig: PathBuf,
}

/// The values of a release, in addition to the chart's defaults.
#[derive(Debug, Clone, Default)]
pub struct Values {
    /// Names of files in the chart's `ci/`, without `-values.yaml`.
    pub files: Vec<String>,
    /// `key=value`, as `--set` takes them.
    pub set: Vec<String>,
}

impl Values {
    /// The values of one file in the chart's `ci/`; `default` stands for the chart's defaults.
    pub fn of(file: &str) -> Self {
        let files = if file == "default" { Vec::new() } else { vec![file.to_owned()] };
        Self { files, set: Vec::new() }
    }

    /// Adds some `--set` values.
    #[must_use]
    pub fn and<S: Into<String>>(mut self, set: impl IntoIterator<Item = S>) -> Self {
        self.set.extend(set.into_iter().map(Into::into));
        self
    }

    fn args(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        for file in &self.files {
            args.push("--values".into());
            args.push(chart().join("ci").join(format!("{file}-values.yaml")).into());
        }
        for set in &self.set {
            args.extend(["--set".into(), set.into()]);
        }
        args
    }
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/gatehouse")
}

impl Helm {
    /// Finds Helm. It is built if needed, which takes minutes.
    pub async fn find() -> Result<Self, Unavailable> {
        if let Some(executable) = std::env::var_os("HELM").filter(|value| !value.is_empty()) {
            return Ok(Self { executable: executable.into(), kubeconfig: PathBuf::new() });
        }
        let program =
            GoProgram { name: "helm", files: &MODULE, package: PACKAGE, ldflags: GoProgram::LDFLAGS };
        Ok(Self { executable: program.find().await?, kubeconfig: PathBuf::new() })
    }

    /// Helm with a cluster, as the user of a kubeconfig.
    #[must_use]
    pub fn on(self, kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), ..self }
    }

    /// The output of `helm lint --strict`.
    pub async fn lint(&self, values: &Values) -> anyhow::Result<Output> {
        let chart = chart();
        let mut args: Vec<OsString> = vec!["lint".into(), "--strict".into(), chart.into()];
        args.extend(values.args());
        self.run(args).await
    }

    /// The output of `helm template`: the rendered release, CRDs first.
    pub async fn template(&self, values: &Values) -> anyhow::Result<Output> {
        let args = ["template", RELEASE, "--namespace", NAMESPACE, "--include-crds"];
        let mut args: Vec<OsString> = args.map(OsString::from).into();
        args.push(chart().into());
        args.extend(values.args());
        self.run(args).await
    }

    /// The objects of a release; an error if the chart refuses the values.
    pub async fn objects(&self, values: &Values) -> anyhow::Result<Vec<Manifest>> {
        load::parse("the chart", &self.template(values).await?.ok()?)
    }

    /// The chart's notes, which Helm prints after an installation.
    pub async fn notes(&self, values: &Values) -> anyhow::Result<String> {
        let args = ["install", RELEASE, "--namespace", NAMESPACE, "--dry-run=client", "--output", "json"];
        let mut args: Vec<OsString> = args.map(OsString::from).into();
        args.push(chart().into());
        args.extend(values.args());
        let text = self.run(args).await?.ok()?;
        let release: serde_json::Value = serde_json::from_str(&text).context("helm install --output json")?;
        let notes = release["info"]["notes"].as_str().unwrap_or_default().to_owned();
        ensure!(!notes.is_empty(), "the chart has no notes");
        Ok(notes)
    }

    /// Packages a chart as a version of it and of the application, and returns the archive, which is in `folder`.
    pub async fn package(&self, chart: &Path, version: &str, folder: &Path) -> anyhow::Result<PathBuf> {
        let versions = ["--version", version, "--app-version", version].map(OsString::from);
        let mut args: Vec<OsString> =
            vec!["package".into(), chart.into(), "--destination".into(), folder.into()];
        args.extend(versions);
        self.run(args).await?.ok()?;
        Ok(folder.join(format!("{RELEASE}-{version}.tgz")))
    }

    /// The files that `helm package` includes, by their paths in the chart.
    pub async fn packaged(&self) -> anyhow::Result<BTreeSet<String>> {
        let folder = tempfile::Builder::new().prefix("gatehouse-package-").tempdir()?;
        let archive = self.package(&chart(), env!("CARGO_PKG_VERSION"), folder.path()).await?;
        let output = Command::new("tar").arg("-tzf").arg(archive).output().await.context("tar")?;
        ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
        let prefix = format!("{RELEASE}/");
        let paths = String::from_utf8(output.stdout)?;
        Ok(paths.lines().filter_map(|path| path.strip_prefix(&prefix)).map(ToOwned::to_owned).collect())
    }

    /// Runs a command to its end, and returns its output whether or not it failed.
    pub async fn run(&self, args: Vec<OsString>) -> anyhow::Result<Output> {
        let home = tempfile::Builder::new().prefix("gatehouse-helm-").tempdir()?;
        let text = args.iter().fold("helm".to_owned(), |text, arg| format!("{text} {}", arg.display()));
        let mut command = Command::new(&self.executable);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, home.path());
        }
        command.env("KUBECONFIG", &self.kubeconfig).args(args).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("cannot run `{text}`"))?;
        Ok(Output {
            command: text,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        })
    }
}
