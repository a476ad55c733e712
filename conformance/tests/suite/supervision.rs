//! No process and no folder is left behind, however a run ends.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::supervise::{GRACE, Program, Scratch};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::world::{World, eventually};

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.trial(
            "supervision::program_that_ignores_sigterm_is_killed",
            program_that_ignores_sigterm_is_killed,
        ),
        world.trial("supervision::crash_takes_the_whole_group", crash_takes_the_whole_group),
        world.trial("supervision::stop_leaves_nothing_behind", stop_leaves_nothing_behind),
        world.trial("supervision::owner_that_is_killed_leaves_nothing_behind", killed),
        world.trial("supervision::owner_that_is_interrupted_leaves_nothing_behind", interrupted),
        world.trial("supervision::command_gives_its_exit_code", command_gives_its_exit_code),
    ]
}

async fn program_that_ignores_sigterm_is_killed(_: Arc<ControlPlane>) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let program = scratch.spawn("stubborn", &shell("trap '' TERM; echo up; while :; do sleep 1; done"))?;
    eventually("it is up", Duration::from_secs(5), || program.log_tail(1) == "up").await?;
    let started = Instant::now();
    program.stop().await?;
    ensure!(started.elapsed() >= GRACE, "it had only {:?}", started.elapsed());
    Ok(())
}

async fn crash_takes_the_whole_group(_: Arc<ControlPlane>) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let program = scratch.spawn("parent", &shell("sleep 1000 & echo $!; wait"))?;
    eventually("it is up", Duration::from_secs(5), || !program.log_tail(1).is_empty()).await?;
    let child = Pid::from_raw(program.log_tail(1).parse()?).context("zero is nobody's")?;
    let status = program.kill().await?;
    ensure!(status.code() == Some(137), "{status}");
    eventually("its child is gone", Duration::from_secs(2), || test_kill_process(child).is_err()).await
}

fn shell(script: &str) -> Program {
    Program { path: "sh".into(), args: vec!["-c".into(), script.into()], env: Vec::new() }
}

/// Beside the shared control plane, which shows that two can run at the same time.
async fn stop_leaves_nothing_behind(_: Arc<ControlPlane>) -> anyhow::Result<()> {
    let control_plane = ControlPlane::start(&Options::default()).await?;
    let remains = Remains::of(control_plane.folder())?;
    ensure!(remains.pids.len() == 2, "etcd and kube-apiserver run: {:?}", remains.pids);
    control_plane.stop().await?;
    ensure!(remains.gone(), "{remains:?} is left");
    Ok(())
}

async fn killed(_: Arc<ControlPlane>) -> anyhow::Result<()> {
    ends_clean_after(Signal::KILL).await
}

async fn interrupted(_: Arc<ControlPlane>) -> anyhow::Result<()> {
    ends_clean_after(Signal::TERM).await
}

async fn ends_clean_after(signal: Signal) -> anyhow::Result<()> {
    let mut owner = up(&["sh", "-c", "echo $KUBECONFIG; exec sleep 1000"])?;
    let stdout = owner.stdout.take().context("piped")?;
    let kubeconfig = BufReader::new(stdout).lines().next_line().await?.context("the command runs")?;
    let folder = Path::new(&kubeconfig).parent().context("it lies in the folder")?;
    let remains = Remains::of(folder)?;
    ensure!(!remains.gone(), "nothing runs");

    let owner_pid = owner.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    kill_process(owner_pid.context("still running")?, signal)?;
    owner.wait().await?;
    eventually("nothing is left", GRACE + Duration::from_secs(5), || remains.gone()).await
}

async fn command_gives_its_exit_code(_: Arc<ControlPlane>) -> anyhow::Result<()> {
    let status = up(&["sh", "-c", "exit 7"])?.wait().await?;
    ensure!(status.code() == Some(7), "{status}");
    Ok(())
}

fn up(command: &[&str]) -> anyhow::Result<Child> {
    let started = Command::new(env!("CARGO_BIN_EXE_gatehouse-conformance"))
        .args(["up", "--without-gatehouse", "--"])
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    started.context("cannot start `up`")
}

/// A folder and the processes that run in it.
#[derive(Debug)]
struct Remains {
    folder: PathBuf,
    pids: Vec<Pid>,
}

impl Remains {
    fn of(folder: &Path) -> anyhow::Result<Self> {
        let mut pids = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "pid") {
                let pid = std::fs::read_to_string(&path)?.trim().parse()?;
                pids.push(Pid::from_raw(pid).context("zero is nobody's")?);
            }
        }
        Ok(Self { folder: folder.to_owned(), pids })
    }

    fn gone(&self) -> bool {
        !self.folder.exists() && self.pids.iter().all(|&pid| test_kill_process(pid).is_err())
    }
}
