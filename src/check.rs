//! `gatehouse check`: admission, on files.

mod against;
mod baseline;
mod config;
mod live;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use gatehouse_check::{FailOn, Files, Labels, Live, Options, Report, Role};

use self::config::Config;
use crate::{
    flags,
    remote::{self, Policies},
};

/// Check whether policies and quotas would admit the objects in files
///
/// Objects are judged as they would be applied. Kustomizations are built (resources, components, patches, namespace,
/// names, labels, annotations, images). Paths of Flux Kustomizations are built with their patches, target namespace and
/// variables, and ResourceSets are rendered. A finding names the file and line that set the field: the patch, not the
/// base. Files that no kustomization names are not judged, except with --all-files.
///
/// Each object is judged as if it were created, after the defaults of the policies were applied. Quotas are compared
/// with the sum of the objects in the namespaces that they select. What depends on unknown data (a variable of a
/// Secret, an unknown namespace, a field that is not built) is reported as a note, not as a finding.
///
/// In a folder, files without Kubernetes objects, Helm templates, encrypted and binary files are skipped. A file that
/// does not parse is an error if it has an apiVersion and a kind, or if it is named on the command line.
///
/// Options can be set in the file .gatehouse.yaml of the current folder. docs/check.md has examples for CI.
///
/// Exit codes: 0 if nothing would be denied; 1 if an object would be denied (--fail-on); 2 for bad input: a file that
/// cannot be read, parsed or built, a policy that does not compile, or no policy at all.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files and folders with YAML or JSON manifests to check, or `-` for standard input. Policies, quotas and
    /// namespaces in them are used too.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The same as PATH, as for kubectl. May be repeated.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Policies, quotas and namespaces to use; other objects are not checked. A file or folder; https://… of a file or
    /// .tar.gz, with #sha256=DIGEST if its content must not change; or oci://REGISTRY/REPOSITORY@sha256:DIGEST as `flux
    /// push artifact` makes it. May be repeated.
    #[arg(long, value_name = "PATH|URL")]
    policies: Vec<PathBuf>,
    /// Label of a namespace that the files do not contain. May be repeated.
    #[arg(long, value_name = "NAMESPACE:KEY=VALUE", value_parser = label)]
    namespace_labels: Vec<Label>,
    /// Also judge files that no kustomization names. Without it, a file beside or below a kustomization.yaml is judged
    /// only as part of the build.
    #[arg(long)]
    all_files: bool,
    /// Skip files that match a pattern in the form of .gitignore. May be repeated. A file .gatehouseignore in a checked
    /// folder does the same.
    #[arg(long, value_name = "PATTERN")]
    ignore: Vec<String>,
    /// Report only findings that do not exist at another git revision, for example origin/main.
    #[arg(long, value_name = "REVISION")]
    against: Option<String>,
    /// Report only findings that are not in this file, which --write-baseline wrote.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write the findings to this file and exit with 0.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["baseline", "against"])]
    write_baseline: Option<PathBuf>,
    /// File with options, instead of .gatehouse.yaml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also read namespaces, policies, quotas, dependencies and usage from a live cluster. Objects in files replace
    /// those of the cluster.
    #[arg(long)]
    cluster: bool,
    /// Kubeconfig of that cluster. Default: the pod's service account, then $KUBECONFIG.
    #[arg(long, value_name = "FILE", requires = "cluster")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig. Default: its current context.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    context: Option<String>,
    /// Output format. With all but `json` and `sarif`, notes and the summary are written to standard error.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
    /// Lowest level of a finding that makes the exit code 1: deny, warn, audit or note. Default: deny.
    #[arg(long, value_name = "LEVEL")]
    fail_on: Option<Level>,
    /// The same as --fail-on=audit.
    #[arg(long, conflicts_with = "fail_on")]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// `path:line:column: policy/rule: field: message`, and a hint.
    Text,
    /// One object with findings, notes, problems and summary.
    Json,
    /// SARIF 2.1.0, which code hosts show.
    Sarif,
    /// GitHub's workflow commands: annotations of a pull request.
    Github,
    /// JUnit's XML, which CI servers show as test results.
    Junit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Deny,
    Warn,
    Audit,
    Note,
}

impl From<Level> for FailOn {
    fn from(level: Level) -> Self {
        match level {
            Level::Deny => Self::Deny,
            Level::Warn => Self::Warn,
            Level::Audit => Self::Audit,
            Level::Note => Self::Note,
        }
    }
}

#[derive(Debug, Clone)]
struct Label {
    namespace: String,
    key: String,
    value: String,
}

fn label(text: &str) -> Result<Label, String> {
    let parts = text.split_once(':').and_then(|(namespace, label)| Some((namespace, label.split_once('=')?)));
    match parts {
        Some((namespace, (key, value))) if !namespace.is_empty() && !key.is_empty() => {
            Ok(Label { namespace: namespace.into(), key: key.into(), value: value.into() })
        }
        _ => Err("not of the form NAMESPACE:KEY=VALUE".to_owned()),
    }
}

/// Checks, and prints what was found.
pub(crate) async fn run(args: Args) -> ExitCode {
    checked(args).await.unwrap_or_else(|error| {
        eprintln!("gatehouse: {error:#}");
        // 1 would say that the check was made, and something found.
        ExitCode::from(2)
    })
}

async fn checked(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::read(args.config.as_deref())?;
    let live = if args.cluster {
        let config = flags::kubeconfig(args.kubeconfig.as_deref(), args.context).await?;
        let client = kube::Client::try_from(config).context("cannot make a client of the kubeconfig")?;
        live::fetch(&client).await.context("--cluster")?
    } else {
        Live::default()
    };
    let mut labels: BTreeMap<String, Labels> = config.namespace_labels;
    for Label { namespace, key, value } in args.namespace_labels {
        labels.entry(namespace).or_default().insert(key, value);
    }
    let mut paths = [args.paths, args.files].concat();
    if paths.is_empty() {
        paths = config.files;
    }
    anyhow::ensure!(!paths.is_empty(), "nothing to check: name a file or folder");
    let policies = if args.policies.is_empty() { config.policies } else { args.policies };
    let policies = remote::fetch(&policies).await?;
    let ignore = [config.ignore, args.ignore].concat();
    let options = Options { live, namespace_labels: labels, all_files: args.all_files || config.all_files };
    let run = Run { paths: &paths, policies: &policies, ignore: &ignore, options: &options };

    let progress = Progress::begin();
    let mut report = run.report(None);
    if let Some(revision) = args.against.or(config.against) {
        let known = against::findings(&revision, &run)?;
        report.without(&known);
    }
    if let Some(baseline) = args.baseline.or(config.baseline) {
        report.without(&baseline::read(&baseline)?);
    }
    progress.end();
    if let Some(file) = args.write_baseline {
        baseline::write(&file, &report)?;
        gatehouse_check::remarks(&report, &mut io::stderr().lock(), false).context("cannot write")?;
        return Ok(ExitCode::from(if report.problems.is_empty() { 0 } else { 2 }));
    }
    let fail_on = match (args.strict, args.fail_on.or(config.fail_on)) {
        (true, _) => FailOn::Audit,
        (false, level) => level.map(FailOn::from).unwrap_or_default(),
    };
    let format = args.output.or(config.output).unwrap_or(Format::Text);
    print(&report, format, fail_on)?;
    Ok(ExitCode::from(report.exit_code(fail_on)))
}

/// What is checked, by what.
struct Run<'a> {
    paths: &'a [PathBuf],
    policies: &'a [Policies],
    ignore: &'a [String],
    options: &'a Options,
}

impl Run<'_> {
    /// `within`: the current folder of another revision, in place of this one.
    fn report(&self, within: Option<&Path>) -> Report {
        let mut files = within.map_or_else(Files::default, |folder| Files::within(folder.to_path_buf()));
        files.ignore(self.ignore);
        for path in self.paths {
            files.read(path, Role::Judged);
        }
        for policies in self.policies {
            policies.read_into(&mut files);
        }
        gatehouse_check::check(&mut files, self.options, jiff::Timestamp::now())
    }
}

/// Whether standard output shows colours.
pub(crate) fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn print(report: &Report, format: Format, fail_on: FailOn) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match format {
        Format::Text => gatehouse_check::text(report, colour(), &mut out),
        Format::Json => gatehouse_check::json(report, &mut out),
        Format::Sarif => gatehouse_check::sarif(report, &mut out),
        Format::Github => gatehouse_check::github(report, &mut out),
        Format::Junit => gatehouse_check::junit(report, fail_on, &mut out),
    };
    match written.and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("cannot write")?,
    }
    drop(out);
    // With JSON and SARIF the notes are part of the output; people still want to see how it went.
    let notes = !matches!(format, Format::Json | Format::Sarif);
    gatehouse_check::remarks(report, &mut io::stderr().lock(), notes).context("cannot write")
}

/// A line on a terminal while files are read.
struct Progress(bool);

impl Progress {
    fn begin() -> Self {
        let shown = io::stderr().is_terminal();
        if shown {
            eprint!("checking …");
        }
        Self(shown)
    }

    fn end(self) {
        if self.0 {
            eprint!("\r\x1b[K");
        }
    }
}
