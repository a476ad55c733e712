//! The subcommand `up`: starts the control plane, loads CRDs and objects, starts Gatehouse and its webhooks,
//! then runs a command or waits for Ctrl-C.
//!
//! Ctrl-C and SIGTERM shut everything down in order at any time. While a command runs, it receives the Ctrl-C
//! as well and decides how to react.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use anyhow::Context;
use gatehouse_apiservice::policy::GROUP;
use gatehouse_conformance::control_plane::{self, ControlPlane};
use gatehouse_conformance::gatehouse::{self, Gatehouse};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::progress::{during, say};
use gatehouse_conformance::webhooks::{self, Settings, Webhooks};
use gatehouse_conformance::{crds, spokes, supervise};
use rustix::process::{Pid, kill_process};
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code that a shell reports for a program that was ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A folder of CustomResourceDefinitions; kinds it does not define get permissive ones
    #[arg(long, value_name = "DIR")]
    crds: Vec<PathBuf>,
    /// A folder of manifests to load, each with its status; without one, Gatehouse's example cluster is loaded
    #[arg(long, value_name = "DIR")]
    objects: Vec<PathBuf>,
    /// Pass a flag on to kube-apiserver
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    api_server_flag: Vec<String>,
    /// Pass a flag on to `gatehouse apiserver`
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    apiserver_flag: Vec<String>,
    /// Pass a flag on to `gatehouse webhooks`
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    webhooks_flag: Vec<String>,
    /// Start this many more control planes with the same objects, as remote clusters of the first; the first of these runs
    /// Gatehouse
    #[arg(long, value_name = "NUMBER", default_value_t = 0, conflicts_with = "without_gatehouse")]
    spokes: usize,
    /// Start the control plane alone
    #[arg(long)]
    without_gatehouse: bool,
    /// Run this with KUBECONFIG set, and exit with its code
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let prepared = tokio::select! {
        prepared = prepare(&arguments) => prepared?,
        () = signals.any() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let code = if let Some((program, args)) = arguments.command.split_first() {
        let command = spawn(program, args, prepared.control_plane.kubeconfig())?;
        exit_code(wait(command, &mut signals).await?)
    } else {
        explain(&prepared);
        signals.any().await;
        ExitCode::SUCCESS
    };
    let Prepared { control_plane, gatehouse, webhooks, spokes } = prepared;
    during("stopping", async {
        if let Some(webhooks) = webhooks {
            webhooks.end().await?;
        }
        if let Some(mut gatehouse) = gatehouse {
            gatehouse.stop().await?;
        }
        for Spoke { gatehouse, control_plane } in spokes {
            if let Some(mut gatehouse) = gatehouse {
                gatehouse.stop().await?;
            }
            control_plane.stop().await?;
        }
        control_plane.stop().await
    })
    .await?;
    Ok(code)
}

struct Prepared {
    // Dropped before the control plane that they use.
    gatehouse: Option<Gatehouse>,
    webhooks: Option<Webhooks>,
    control_plane: ControlPlane,
    spokes: Vec<Spoke>,
}

struct Spoke {
    // Dropped before the control plane that it uses.
    gatehouse: Option<Gatehouse>,
    control_plane: ControlPlane,
}

async fn prepare(arguments: &Arguments) -> anyhow::Result<Prepared> {
    // First, because the executable is built here, and a build fails most often.
    let executable = if arguments.without_gatehouse { None } else { Some(gatehouse::executable().await?) };
    let manifests = manifests(arguments, executable.as_deref()).await?;
    let options =
        control_plane::Options { api_server_flags: arguments.api_server_flag.clone(), assets: None };
    let control_plane = ControlPlane::start(&options).await?;
    let client = control_plane.client().await?;
    let what = format!("loading {} CRDs and objects", manifests.len());
    during(what, load::apply(&client, manifests.clone())).await?;
    if executable.is_none() {
        return Ok(Prepared { gatehouse: None, webhooks: None, control_plane, spokes: Vec::new() });
    }
    gatehouse::prepare(&control_plane).await?;
    webhooks::prepare(&control_plane).await?;
    let flags = arguments.webhooks_flag.clone();
    let settings = Settings { executable: executable.clone(), flags, ..Settings::default() };
    let mut spokes = Vec::new();
    for number in 0..arguments.spokes {
        let control_plane = spokes::start(manifests.clone()).await?;
        let options = gatehouse::Options { executable: executable.clone(), ..gatehouse::Options::default() };
        let gatehouse = match number {
            0 => Some(spokes::start_gatehouse(&control_plane, &options).await?),
            _ => None,
        };
        spokes.push(Spoke { gatehouse, control_plane });
    }
    let mut flags = [vec!["--enable-actions".to_owned()], arguments.apiserver_flag.clone()].concat();
    if !spokes.is_empty() {
        spokes::register(&control_plane, spokes.iter().map(|spoke| &spoke.control_plane)).await?;
        flags.push(spokes::flag());
    }
    let options = gatehouse::Options { executable, flags, ..gatehouse::Options::default() };
    let (gatehouse, webhooks) = tokio::try_join!(
        Gatehouse::start(&control_plane, &options),
        Webhooks::start(&control_plane, 1, &settings)
    )?;
    tokio::try_join!(gatehouse.register(&control_plane), webhooks.register(&control_plane))?;
    Ok(Prepared { gatehouse: Some(gatehouse), webhooks: Some(webhooks), control_plane, spokes })
}

async fn manifests(arguments: &Arguments, executable: Option<&Path>) -> anyhow::Result<Vec<Manifest>> {
    let mut manifests =
        if arguments.crds.is_empty() { crds::shared()? } else { read_folders(&arguments.crds)? };
    match executable {
        Some(executable) if arguments.objects.is_empty() => {
            let mut example = gatehouse::example(executable).await?;
            // Gatehouse itself must write the status of quotas and policies. It runs here, and would take a
            // TenantQuota whose status it did not write for one that has lost its ledger.
            for Manifest { object, .. } in &mut example {
                let is_policy =
                    object["apiVersion"].as_str().is_some_and(|version| version.starts_with(GROUP));
                if let Some(fields) = object.as_object_mut().filter(|_| is_policy) {
                    fields.remove("status");
                }
            }
            manifests.extend(example);
        }
        _ => manifests.extend(read_folders(&arguments.objects)?),
    }
    let missing = crds::missing_from(&manifests);
    manifests.extend(missing);
    Ok(manifests)
}

fn read_folders(folders: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let read: anyhow::Result<Vec<_>> = folders.iter().map(|folder| load::read_folder(folder)).collect();
    Ok(read?.concat())
}

fn explain(prepared: &Prepared) {
    let control_plane = &prepared.control_plane;
    say(format_args!("ready; logs are in {}", control_plane.folder().display()));
    println!("export KUBECONFIG={}", control_plane.kubeconfig().display());
    if prepared.gatehouse.is_some() {
        println!("kubectl get fluxsummaries,clusterhealths -A");
        println!("kubectl explain reconcilepolicies.spec.rules");
        println!("kubectl get gameserversummaries,tenantusages -A");
    }
    say("Ctrl-C stops it and leaves nothing behind");
}

fn spawn(program: &OsString, args: &[OsString], kubeconfig: &Path) -> anyhow::Result<Child> {
    let mut command = supervise::foreground(program)?;
    command.args(args).env("KUBECONFIG", kubeconfig);
    tokio::process::Command::from(command)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))
}

/// Waits for the command. A Ctrl-C reaches the command directly; a SIGTERM reaches only this process, which
/// passes it on.
async fn wait(mut command: Child, signals: &mut Signals) -> anyhow::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = command.wait() => return Ok(status?),
            _ = signals.interrupt.recv() => {}
            _ = signals.terminate.recv() => terminate(&command),
        }
    }
}

fn terminate(command: &Child) {
    let pid = command.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // If the command has just ended, there is nothing to do.
        let _ = kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
