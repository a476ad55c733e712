//! Child processes and folders that never outlive their owner, even if the owner is killed.
//!
//! A shim runs between the owner and each program: this same executable, started with a hidden first argument
//! and with a pipe from the owner as stdin. However the owner ends, the pipe closes, and the shim ends the
//! program's whole process group: SIGTERM, then SIGKILL after [`GRACE`]. Another kind of shim guards the
//! folder. Its stdin is a pipe whose write end is held by the owner and by every shim. The pipe closes once
//! the last of them has ended, and the shim then removes the folder, which no process uses any more.
//!
//! Shims and programs have process groups of their own, so a Ctrl-C in the terminal reaches only the owner.
//! On Linux a program also dies with its shim if the shim is killed.

mod shim;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

pub use shim::intercept;

/// How long a program may take to end after SIGTERM.
pub const GRACE: Duration = Duration::from_secs(5);

/// How often the shim is polled while waiting for its end.
const POLL: Duration = Duration::from_millis(20);

/// A program with its arguments and environment.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment variables in addition to PATH, TMPDIR and its own HOME. No others are inherited.
    pub env: Vec<(String, OsString)>,
}

/// A folder that is removed once its owner and every program started in it have ended.
pub struct Scratch {
    path: PathBuf,
    lifeline: Option<PipeWriter>,
    guard: Child,
}

/// A program that runs until it is stopped or its owner ends.
pub struct Supervised {
    name: String,
    shim: Child,
    orders: Option<ChildStdin>,
    log: PathBuf,
    pid_file: PathBuf,
}

impl Scratch {
    /// Creates the folder, readable by this user only.
    pub fn new() -> anyhow::Result<Self> {
        ensure!(shim::intercepted(), "supervise::intercept() must be the first call in main");
        let path =
            tempfile::Builder::new().prefix("gatehouse-").tempdir().context("cannot make a folder")?.keep();
        let (closed, lifeline) = io::pipe()?;
        let guard = Command::new(shim::executable()?)
            .arg(shim::GUARD)
            .arg(&path)
            .stdin(closed)
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start the folder's guard")?;
        Ok(Self { path, lifeline: Some(lifeline), guard })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a program. Its output goes to `NAME.log` in the folder, appended if the program is restarted,
    /// and its process id to `NAME.pid`.
    pub fn spawn(&self, name: &str, program: &Program) -> anyhow::Result<Supervised> {
        let log = self.path.join(format!("{name}.log"));
        let pid_file = self.path.join(format!("{name}.pid"));
        let lifeline = self.lifeline.as_ref().expect("taken by drop alone").try_clone()?;
        let mut shim = Command::new(shim::executable()?)
            .arg(shim::SUPERVISE)
            .args([log.as_os_str(), pid_file.as_os_str(), program.path.as_os_str()])
            .args(&program.args)
            .env_clear()
            .envs(["PATH", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("HOME", &self.path)
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(lifeline)
            .stderr(File::options().create(true).append(true).open(&log)?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let orders = shim.stdin.take();
        Ok(Supervised { name: name.to_owned(), shim, orders, log, pid_file })
    }
}

impl Drop for Scratch {
    /// Waits until the folder has been removed, which takes as long as the slowest program in it takes to
    /// end.
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.guard.wait();
    }
}

impl Supervised {
    /// The program's process id.
    pub fn pid(&self) -> anyhow::Result<u32> {
        let text = std::fs::read_to_string(&self.pid_file)
            .with_context(|| format!("{} has not been started yet", self.name))?;
        Ok(text.trim().parse()?)
    }

    /// The file its output goes to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its output, for an error message.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The exit status of the shim, which reports the program's; `None` while it runs.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.shim.try_wait()?)
    }

    /// Kills the whole process group with SIGKILL, as a crash would.
    pub async fn kill(mut self) -> anyhow::Result<ExitStatus> {
        if let Some(orders) = &mut self.orders {
            // A broken pipe means that the program has ended already.
            let _ = orders.write_all(&[shim::KILL]);
        }
        self.wait().await
    }

    /// Stops the program with SIGTERM, and with SIGKILL if it takes longer than [`GRACE`].
    pub async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        self.end().await
    }

    /// The same, for a program that will be replaced.
    pub(crate) async fn end(&mut self) -> anyhow::Result<ExitStatus> {
        drop(self.orders.take());
        self.wait().await
    }

    /// Stops the program as a kubelet does: SIGTERM, then SIGKILL if it takes longer than `grace`.
    pub async fn terminate(mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        let pid = Pid::from_raw(self.pid()?.try_into()?).context("zero is nobody's")?;
        // The program may have ended already.
        let _ = kill_process(pid, Signal::TERM);
        match tokio::time::timeout(grace, self.wait()).await {
            Ok(ended) => ended,
            Err(_) => self.kill().await,
        }
    }

    async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Supervised {
    /// Stops the program and waits for it; blocks for a little more than [`GRACE`] at most.
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.shim.wait();
    }
}

/// A command in the foreground, with the terminal and the signals of its owner. On Linux it dies with its
/// owner.
///
/// Spawn it from a thread that lives at least as long as the command: the kernel watches that thread.
pub fn foreground(program: impl AsRef<OsStr>) -> io::Result<Command> {
    let mut command = Command::new(shim::executable()?);
    command.arg(shim::BIND).arg(std::process::id().to_string()).arg(program);
    Ok(command)
}
