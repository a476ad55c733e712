//! `gatehouse check`: admission, on files.

mod live;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use gatehouse_check::{Files, Labels, Live, Role};

use crate::flags;

/// Tell what a cluster would say to these files: whether reconcile policies and tenant quotas would admit them.
///
/// Each object is judged as if it were created, after the defaults of the policies were filled in as admission does: a
/// field that a default fills is no violation. Quotas are held against the sum of the objects in the namespaces that
/// they select. Nothing is built: a namespace that a kustomization.yaml or a Flux Kustomization's targetNamespace sets
/// is taken into account, patches are passed over.
///
/// In a folder, what is no Kubernetes object is passed over, and so are Helm templates, files encrypted by SOPS, and
/// what does not parse, unless it speaks of an apiVersion and a kind and is no template. A file that is named must parse.
/// Fields that Flux fills in (`${VAR}`) are not judged, and named.
///
/// An object without a namespace, and one in a namespace whose labels are not known, is judged by every policy that
/// might select it, and counted by no quota; notes tell which.
///
/// Ends with 0 if nothing was found, 1 if something would be denied, 2 if the input is bad: a file that cannot be read
/// or does not parse, a policy that does not compile, or none at all.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file or folder of manifests, YAML or JSON; `-` for standard input. May be repeated. Policies, quotas and
    /// namespaces in it count too.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// A file or folder of which policies, quotas and namespaces are taken, and nothing is judged. May be repeated.
    #[arg(long, value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// Labels of a namespace that the files do not describe. May be repeated.
    #[arg(long, value_name = "NAMESPACE:KEY=VALUE", value_parser = label)]
    namespace_labels: Vec<Label>,
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
    /// How to write what was found. With `text`, notes and a summary go to standard error.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
    /// End with 1 for findings of policies that only warn or audit, too.
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// `path:line:column: policy/rule: field: message`, and how to mend it.
    Text,
    /// One object: findings, notes, problems, summary.
    Json,
    /// SARIF 2.1.0.
    Sarif,
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
    let live = if args.cluster {
        let config = flags::kubeconfig(args.kubeconfig.as_deref(), args.context).await?;
        let client = kube::Client::try_from(config).context("cannot make a client of the kubeconfig")?;
        live::fetch(&client).await.context("--cluster")?
    } else {
        Live::default()
    };
    let mut labels: BTreeMap<String, Labels> = BTreeMap::new();
    for Label { namespace, key, value } in args.namespace_labels {
        labels.entry(namespace).or_default().insert(key, value);
    }
    let mut files = Files::default();
    let roles = [(&args.files, Role::Judged), (&args.policies, Role::Policies)];
    for (path, role) in roles.into_iter().flat_map(|(paths, role)| paths.iter().map(move |path| (path, role)))
    {
        files.read(path, role);
    }
    let report = gatehouse_check::check(&files, &live, &labels, jiff::Timestamp::now());
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match args.output {
        Format::Text => gatehouse_check::text(&report, &mut out),
        Format::Json => gatehouse_check::json(&report, &mut out),
        Format::Sarif => gatehouse_check::sarif(&report, &mut out),
    };
    match written.and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("cannot write")?,
    }
    drop(out);
    // With the other formats the notes are part of the output; people still want to see how it went.
    gatehouse_check::remarks(&report, &mut io::stderr().lock(), args.output == Format::Text)
        .context("cannot write")?;
    Ok(ExitCode::from(report.exit_code(args.strict)))
}
