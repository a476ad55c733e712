//! `gatehouse demo`: the embedded default. Serves a folder of manifests, by default a bundled example
//! cluster, on loopback, with certificates made on the spot.

mod example;
mod named;
mod snapshot;

use std::{
    ffi::{OsStr, OsString},
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
    server::{Parts, RemoteClusters, Running},
};
use gatehouse_apiservice::kubeconfig::{self, Access};
use gatehouse_certs::{
    issue::{Authority, KeyPair, Leaf, Usage},
    load,
};
use gatehouse_inventory::{Mode, Registration, source::Snapshot};
use gatehouse_plugin::ConnectionArgs;
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
use jiff::Timestamp;
use rustix::process::Pid;
use tempfile::TempDir;
use tokio::{signal::unix::SignalKind, sync::watch};

use self::{named::Named, snapshot::Folder};
use crate::{
    flags, plugin,
    signals::{self, EndSignals},
};

/// The user's certificate and the server's are thrown away with the process.
const LIFETIME: Duration = Duration::from_hours(24 * 365);
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Views that are printed without a command: the README's, and what only some clusters have.
const SHOWN: [&str; 5] =
    ["fluxsummaries", "clusterhealths", "problems", "gameserversummaries", "tenantusages"];

/// Serve an example cluster, or a folder of manifests, on this machine
///
/// With a COMMAND, runs it with KUBECONFIG set and exits with its exit code. Without one, prints the views and keeps
/// serving; edits of manifests show in `kubectl get -w`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder or file of YAML or JSON manifests to serve instead of the example, or `-` for standard input
    /// (`kubectl get kustomizations,helmreleases -A -o yaml | gatehouse demo --snapshot -`). A repository with
    /// kustomizations is served as it would be applied. Changes are picked up. Several clusters: NAME=PATH for each,
    /// of which the first, or the one without a name, is that which serves the views.
    #[arg(long, value_name = "[NAME=]PATH", conflicts_with = "export", value_parser = Named::parse)]
    snapshot: Vec<Named>,
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
    let mut named = args.snapshot.clone();
    let is_example = named.is_empty();
    if is_example {
        let folder = scratch.path().join("cluster");
        example::write(&folder)?;
        named.push(Named { cluster: None, path: folder });
        for remote in &example::REMOTE {
            let folder = scratch.path().join(remote.name);
            remote.write(&folder)?;
            named.push(Named { cluster: Some(remote.name.to_owned()), path: folder });
        }
    }
    let clusters = named::clusters(named)?;
    let served: Vec<_> = clusters.iter().map(|(_, path)| path.display().to_string()).collect();
    let mut folders = Vec::new();
    for (cluster, path) in clusters {
        let own = scratch.path().join(format!("of-{cluster}"));
        std::fs::create_dir(&own)?;
        folders.push((cluster, Folder::of(&path, &own)?));
    }
    let mut running = start(&folders, is_example, &args.catalogue_file, args.secure_port, &scratch).await?;
    tokio::select! {
        synced = running.synced() => synced?,
        () = &mut end => return Ok(ExitCode::SUCCESS),
    }
    // They end with the process.
    for (_, folder) in folders {
        tokio::spawn(folder.keep());
    }
    let kubeconfig = scratch.path().join("kubeconfig");
    if let Some((program, arguments)) = args.command.split_first() {
        let path = with_plugin(scratch.path())?;
        return command(program, arguments, &kubeconfig, &path).await;
    }
    tokio::select! {
        printed = print_tables(&kubeconfig) => printed?,
        () = &mut end => return Ok(ExitCode::SUCCESS),
    }
    eprintln!(
        "\nServing {} on https://{}. Try:\n\n  export KUBECONFIG={}\n  kubectl get fluxresources -A\n  \
         kubectl get problems -A --field-selector status.isCause=true\n  \
         kubectl get fluxdependencies -A -o wide\n  kubectl get gameserversummaries,gamefleets,gameinstances,tenantusages -A -o wide\n  kubectl explain fluxsummaries.status\n\nPress Ctrl-C to stop.",
        served.join(", "),
        running.address(),
        kubeconfig.display(),
    );
    running.until(end).await?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the views for those who have no kubectl at hand. Asks the server as any client would.
async fn print_tables(kubeconfig: &Path) -> anyhow::Result<()> {
    let config = flags::kubeconfig(Some(kubeconfig), None).await?;
    let connection = ConnectionArgs::default().connect(config)?;
    for resource in SHOWN {
        let table = connection.table(resource).await.with_context(|| format!("cannot list {resource}"))?;
        // A folder of manifests need not hold game servers or quotas.
        if !table.is_empty() {
            println!("{}", table.render(false));
        }
    }
    Ok(())
}

/// A PATH on which this executable is kubectl's plugin, too.
fn with_plugin(scratch: &Path) -> anyhow::Result<OsString> {
    let folder = scratch.join("bin");
    std::fs::create_dir(&folder)?;
    let executable = std::env::current_exe().context("cannot find this executable")?;
    for name in plugin::NAMES {
        std::os::unix::fs::symlink(&executable, folder.join(name))?;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&path)))?)
}

/// Runs a command with KUBECONFIG set, and ends as it does.
async fn command(
    program: &str,
    arguments: &[String],
    kubeconfig: &Path,
    path: &OsStr,
) -> anyhow::Result<ExitCode> {
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .env("PATH", path)
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
                // It may have exited meanwhile.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            child.wait().await
        }
    };
    Ok(exit_code(status.context("cannot wait for the command")?))
}

async fn start(
    folders: &[(String, Folder)],
    is_example: bool,
    catalogue_files: &[PathBuf],
    port: u16,
    scratch: &TempDir,
) -> anyhow::Result<Running> {
    let ((cluster, folder), others) = folders.split_first().context("nothing is to be served")?;
    let source = Snapshot::open(&folder.path)?;
    let now = Timestamp::now();
    let remote = |(name, folder): &(String, Folder)| {
        let mut registration = Registration {
            name: name.as_str().into(),
            origin: folder.path.display().to_string().into(),
            refused: None,
            expires: None,
            mode: Mode::Snapshot,
        };
        let mut snapshot = Snapshot::open(&folder.path)?;
        if let Some(example) = example::REMOTE.iter().find(|example| is_example && example.name == name) {
            registration.origin = "the bundled example".into();
            registration.expires = Some((now + example.expires).as_second());
            if let Some((ago, error)) = example.lost {
                snapshot = snapshot.of_lost((now - ago).as_second(), error.into());
            }
        }
        anyhow::Ok((registration, snapshot))
    };
    let others = others.iter().map(remote).collect::<anyhow::Result<Vec<_>>>()?;
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
        cluster: cluster.as_str().into(),
        catalogue,
        flux_series: false,
        clusters: if others.is_empty() { RemoteClusters::None } else { RemoteClusters::Fixed(others) },
        actions: None,
        source,
        rbac: None,
        reader: None,
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
