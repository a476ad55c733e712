//! Children and folders that never outlive their owner, even when it is killed.
//!
//! Between the owner and each program stands a shim: this very executable, started with a hidden first argument, with
//! a pipe from the owner as its stdin. However the owner ends, the pipe closes, and the shim ends the program's whole
//! process group: SIGTERM, then SIGKILL after [`GRACE`]. A second kind of shim guards the folder: its stdin is a pipe
//! whose other end is held by the owner and by every shim, so it closes once the last of them is gone, and the folder
//! is then removed under nobody's feet.
//!
//! Shims and programs live in process groups of their own: a Ctrl-C in the terminal reaches the owner alone. On Linux
//! a program also dies with its shim, should that be killed.

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

/// How often a shim is asked whether it has ended.
const POLL: Duration = Duration::from_millis(20);

/// A program and what it is given.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment, beside PATH, TMPDIR and a HOME of its own: nothing else is inherited.
    pub env: Vec<(String, OsString)>,
}

/// A folder that is removed when its owner and every program started in it have ended.
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
    /// Makes the folder, readable by its owner alone.
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

    /// Starts a program whose output goes to `NAME.log` in the folder (appended, for a program that is restarted) and
    /// whose process id to `NAME.pid`.
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
    /// Waits until the folder is gone: as long as the slowest program still in it takes to end.
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

    /// How it ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.shim.try_wait()?)
    }

    /// Ends it as a crash would: SIGKILL to the whole group.
    pub async fn kill(mut self) -> anyhow::Result<ExitStatus> {
        if let Some(orders) = &mut self.orders {
            // A broken pipe means that it has ended already.
            let _ = orders.write_all(&[shim::KILL]);
        }
        self.wait().await
    }

    /// Ends it in good order: SIGTERM, and SIGKILL if it takes longer than [`GRACE`].
    pub async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        self.end().await
    }

    /// The same, for one that something else is to take the place of.
    pub(crate) async fn end(&mut self) -> anyhow::Result<ExitStatus> {
        drop(self.orders.take());
        self.wait().await
    }

    /// Ends it as a kubelet does: SIGTERM, and SIGKILL if it takes longer than `grace`.
    pub async fn terminate(mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        let pid = Pid::from_raw(self.pid()?.try_into()?).context("zero is nobody's")?;
        // One that has ended by itself cannot be told.
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
    /// Stops it in good order and waits for that; blocks up to a little more than [`GRACE`].
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.shim.wait();
    }
}

/// A command in the foreground, with the terminal and the signals of its owner, that dies with it (on Linux).
///
/// To be spawned from a thread that lives as long as the command may: the kernel watches the thread.
pub fn foreground(program: impl AsRef<OsStr>) -> io::Result<Command> {
    let mut command = Command::new(shim::executable()?);
    command.arg(shim::BIND).arg(std::process::id().to_string()).arg(program);
    Ok(command)
}
