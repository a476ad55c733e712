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
use crate::flags;

/// Tell what a cluster would say to these files: whether reconcile policies and tenant quotas would admit them.
///
/// What is judged is what would be applied. Kustomizations are built (resources, components, patches, namespace, names,
/// labels, annotations, images), and what a Flux Kustomization of the files leads to is built with its patches, its
/// target namespace and its variables; so is what a ResourceSet makes. A finding names the file and line that brought
/// the field: the patch, not the base. Files that no kustomization names are not judged (--all-files).
///
/// Each object is judged as if it were created, after the defaults of the policies were filled in as admission does: a
/// field that a default fills is no violation. Quotas are held against the sum of the objects in the namespaces that
/// they select. What depends on something that is not known here is a note and no finding: a variable of a Secret, a
/// namespace that nobody names, a field that is not built.
///
/// In a folder, what is no Kubernetes object is passed over, and so are Helm templates, files that are encrypted or no
/// text, and what does not parse, unless it speaks of an apiVersion and a kind and is no template. A file that is named
/// must parse.
///
/// Options may stand in a file .gatehouse.yaml of the current folder. docs/check.md has examples for CI.
///
/// Ends with 0 if nothing was found, 1 if something would be denied (--fail-on), 2 if the input is bad: a file that
/// cannot be read, does not parse or cannot be built, a policy that does not compile, or none at all.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files and folders of manifests, YAML or JSON; `-` for standard input. Policies, quotas and namespaces in them
    /// count too.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The same, as kubectl has it. May be repeated.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// A file or folder of which policies, quotas and namespaces are taken, and nothing is judged. May be repeated.
    #[arg(long, value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// Labels of a namespace that the files do not describe. May be repeated.
    #[arg(long, value_name = "NAMESPACE:KEY=VALUE", value_parser = label)]
    namespace_labels: Vec<Label>,
    /// Judge files that no kustomization names, too. Without it, a file beside or below a kustomization.yaml is judged
    /// only as part of what is built.
    #[arg(long)]
    all_files: bool,
    /// Leave out files below the current folder that match a pattern, written as in a .gitignore. May be repeated. A
    /// file .gatehouseignore in a folder that is checked does the same.
    #[arg(long, value_name = "PATTERN")]
    ignore: Vec<String>,
    /// Report only what was not there at another revision of the git repository, for example origin/main.
    #[arg(long, value_name = "REVISION")]
    against: Option<String>,
    /// Report only what is not in this file, which --write-baseline wrote.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write what is found to this file, and end with 0.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["baseline", "against"])]
    write_baseline: Option<PathBuf>,
    /// A file of options instead of .gatehouse.yaml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Add what a live cluster holds: namespaces, policies, quotas, what objects depend on and what they take up. What
    /// files say of the same objects counts instead.
    #[arg(long)]
    cluster: bool,
    /// The kubeconfig of that cluster. Without it: the account of the pod, else $KUBECONFIG.
    #[arg(long, value_name = "FILE", requires = "cluster")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig, if not its current one.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    context: Option<String>,
    /// How to write what was found. With all but `json` and `sarif`, notes and a summary go to standard error.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
    /// What ends with 1: findings that would be denied, those to be warned of too, those to be audited too, or anything,
    /// notes too. The default is deny.
    #[arg(long, value_name = "LEVEL")]
    fail_on: Option<Level>,
    /// The same as --fail-on=audit.
    #[arg(long, conflicts_with = "fail_on")]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// `path:line:column: policy/rule: field: message`, and how to mend it.
    Text,
    /// One object: findings, notes, problems, summary.
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
    policies: &'a [PathBuf],
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
        for path in self.policies {
            files.read(path, Role::Policies);
        }
        gatehouse_check::check(&mut files, self.options, jiff::Timestamp::now())
    }
}

fn print(report: &Report, format: Format, fail_on: FailOn) -> anyhow::Result<()> {
    let colour =
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match format {
        Format::Text => gatehouse_check::text(report, colour, &mut out),
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
