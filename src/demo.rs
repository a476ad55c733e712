//! `gatehouse demo`: the embedded default. Serves a folder of manifests, by default a bundled example
//! cluster, on loopback, with certificates made on the spot.

mod example;
mod snapshot;
mod tables;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use gatehouse_apiserver::{
    clock::Clock,
    engine,
    server::{Parts, Running},
};
use gatehouse_apiservice::kubeconfig::{self, Access};
use gatehouse_certs::{
    issue::{Authority, KeyPair, Leaf, Usage},
    load,
};
use gatehouse_inventory::source::Snapshot;
use gatehouse_serving::{
    authn::{AuthenticationConfig, Authenticator, CaBundle},
    authz::Authorizer,
    metrics::RequestMetrics,
    pipeline::{Limits, Observers},
    serve::MAX_CONNECTIONS,
    server::ServerBuilder,
    shutdown::ShutdownTiming,
    tasks::Tasks,
};
use rustix::process::Pid;
use tempfile::TempDir;
use tokio::{signal::unix::SignalKind, sync::watch};

use self::snapshot::Folder;
use crate::flags;
use crate::signals::{self, EndSignals};

/// The user's certificate and the server's are thrown away with the process.
const LIFETIME: Duration = Duration::from_hours(24 * 365);
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Serve an example cluster, or a folder of manifests, on this machine
///
/// With a COMMAND, runs it with KUBECONFIG set and exits with its exit code. Without one, prints the views and keeps
/// serving; edits of manifests show in `kubectl get -w`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder or file of YAML or JSON manifests to serve instead of the example, or `-` for standard input
    /// (`kubectl get kustomizations,helmreleases -A -o yaml | gatehouse demo --snapshot -`). A repository with
    /// kustomizations is served as it would be applied. Changes are picked up.
    #[arg(long, value_name = "PATH", conflicts_with = "export")]
    snapshot: Option<PathBuf>,
    /// File with kinds to observe in addition to the built-in ones, or instead of some. May be repeated.
    #[arg(long, value_name = "FILE")]
    catalogue_file: Vec<PathBuf>,
    /// Port to serve HTTPS on. 0 selects a free port.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    secure_port: u16,
    /// Write the example's manifests to this folder, which must not exist or must be empty, and exit.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["command", "secure_port"])]
    export: Option<PathBuf>,
    /// Command to run, for example `kubectl get fluxsummaries -A`.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Serves, and runs the command if there is one.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.export {
        example::write(folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Before there is a folder that has to go, and a key in it.
    let end = EndSignals::listen().received();
    tokio::pin!(end);
    let scratch = tempfile::Builder::new()
        .prefix("gatehouse-demo-")
        .tempdir()
        .context("cannot create a temporary folder")?;
    let folder = if let Some(named) = &args.snapshot {
        Folder::of(named, scratch.path())?
    } else {
        let folder = scratch.path().join("cluster");
        example::write(&folder)?;
        Folder::of(&folder, scratch.path())?
    };
    let served = args.snapshot.as_deref().unwrap_or(&folder.path).display().to_string();
    let mut running = start(&folder.path, &args.catalogue_file, args.secure_port, &scratch).await?;
    tokio::select! {
        synced = running.synced() => synced?,
        () = &mut end => return Ok(ExitCode::SUCCESS),
    }
    // Ends with the process.
    tokio::spawn(folder.keep());
    let kubeconfig = scratch.path().join("kubeconfig");
    if let Some((program, arguments)) = args.command.split_first() {
        return command(program, arguments, &kubeconfig).await;
    }
    tokio::select! {
        printed = tables::print(&kubeconfig) => printed?,
        () = &mut end => return Ok(ExitCode::SUCCESS),
    }
    eprintln!(
        "\nServing {} on https://{}. Try:\n\n  export KUBECONFIG={}\n  kubectl get fluxresources -A\n  \
         kubectl get fluxdependencies -A -o wide\n  kubectl get gameserversummaries,tenantusages -A -o wide\n  kubectl explain fluxsummaries.status\n\nPress Ctrl-C to stop.",
        served,
        running.address(),
        kubeconfig.display(),
    );
    running.until(end).await?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a command with KUBECONFIG set, and ends as it does.
async fn command(program: &str, arguments: &[String], kubeconfig: &Path) -> anyhow::Result<ExitCode> {
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut terminate = signals::listen(SignalKind::terminate());
    // A terminal sends Ctrl-C to the command as well; a shell, for one, does not end by it.
    let _interrupt = signals::listen(SignalKind::interrupt());
    let status = tokio::select! {
        status = child.wait() => status,
        _ = terminate.recv() => {
            if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
                // It may have ended by itself meanwhile.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            child.wait().await
        }
    };
    Ok(exit_code(status.context("cannot wait for the command")?))
}

async fn start(
    folder: &Path,
    catalogue_files: &[PathBuf],
    port: u16,
    scratch: &TempDir,
) -> anyhow::Result<Running> {
    let source = Snapshot::open(folder)?;
    let catalogue = flags::catalogue(catalogue_files)?;
    let authority = Authority::new("gatehouse-demo")?;
    let serving = issue(&authority, "localhost", None, Usage::ServerAuth)?;
    let user = issue(&authority, "demo", Some("system:masters"), Usage::ClientAuth)?;
    let authentication = AuthenticationConfig {
        client_ca: Some(CaBundle::from_pem("the demo's CA", authority.certificate_pem().as_bytes())?),
        request_header: None,
    };
    // The senders may go: receivers keep the last value, and nothing here ever changes.
    let (_, configs) = watch::channel(Arc::new(authentication));
    let (_, keys) = watch::channel(load::issued(&serving)?);
    let running = Running::start(Parts {
        cluster: "local".into(),
        catalogue,
        flux_series: false,
        source,
        clock: Arc::new(Clock::new(0)),
        checks: Vec::new(),
        server: ServerBuilder {
            address: (HOST, port).into(),
            keys,
            authenticator: Authenticator::new(configs, None, true),
            authorizer: Arc::new(Authorizer::CertificateHolders),
            metrics: Arc::new(RequestMetrics::new(&engine::served_resources())),
            limits: Limits::default(),
            max_connections: MAX_CONNECTIONS,
            observers: Observers::default(),
            shutdown: ShutdownTiming { delay: Duration::ZERO, grace: Duration::from_secs(2) },
        },
        background: Tasks::default(),
        leases: Tasks::default(),
    })
    .await?;
    let server = format!("https://{}", running.address());
    let access = Access {
        server: &server,
        server_ca: authority.certificate_pem(),
        user: "demo",
        certificate: &user.certificate_pem,
        key: &user.key_pem,
    };
    // The folder is readable to its owner alone, as temporary folders are made.
    let kubeconfig = scratch.path().join("kubeconfig");
    std::fs::write(&kubeconfig, kubeconfig::document(access).to_string())
        .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
    Ok(running)
}

fn issue(authority: &Authority, name: &str, group: Option<&str>, usage: Usage) -> anyhow::Result<KeyPair> {
    let leaf = Leaf {
        common_name: name.into(),
        organization: group.map(Into::into),
        dns_names: if usage == Usage::ServerAuth { vec![name.into()] } else { Vec::new() },
        ips: if usage == Usage::ServerAuth { vec![HOST] } else { Vec::new() },
        usage,
        lifetime: LIFETIME,
    };
    Ok(authority.issue(&leaf)?)
}

/// A shell's: a command that a signal ended counts as 128 and the signal's number.
fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
