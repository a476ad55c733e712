//! Runs kubectl as one user, with its own kubeconfig and discovery cache, so that tests do not share cached
//! discovery.
//!
//! The executable is `kubectl`, or the one that KUBECTL names.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::pace::patience;

/// Far longer than any call takes.
const TIMEOUT: Duration = Duration::from_mins(1);

/// kubectl as one user.
pub struct Kubectl {
    kubeconfig: PathBuf,
    cache_dir: tempfile::TempDir,
}

/// The output and the exit code of a run of kubectl.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// What it printed on stdout.
    pub stdout: String,
    /// What it printed on stderr.
    pub stderr: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
}

/// A `kubectl get -w` that runs until it is dropped.
pub struct Watch {
    command: String,
    lines: Lines<BufReader<ChildStdout>>,
    // Killed on drop.
    _child: Child,
}

impl Kubectl {
    /// kubectl as the user of this kubeconfig.
    pub fn new(kubeconfig: &Path) -> anyhow::Result<Self> {
        let cache_dir = tempfile::Builder::new().prefix("gatehouse-kubectl-").tempdir()?;
        Ok(Self { kubeconfig: kubeconfig.to_owned(), cache_dir })
    }

    /// Runs a command to its end, and returns its output whether or not it failed.
    pub async fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> anyhow::Result<Output> {
        let (mut command, text) = self.command(args);
        let output = tokio::time::timeout(patience(TIMEOUT), command.stdin(Stdio::null()).output())
            .await
            .with_context(|| format!("`{text}` took longer than {:?}", patience(TIMEOUT)))?
            .with_context(|| format!("cannot run `{text}`"))?;
        Ok(Output {
            command: text,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        })
    }

    /// Starts a command that runs until its [`Watch`] is dropped.
    pub fn watch<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> anyhow::Result<Watch> {
        let (mut command, text) = self.command(args);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run `{text}`"))?;
        let stdout = child.stdout.take().expect("piped above");
        Ok(Watch { command: text, lines: BufReader::new(stdout).lines(), _child: child })
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> (Command, String) {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let text = args.iter().fold("kubectl".to_owned(), |text, arg| format!("{text} {}", arg.display()));
        let program = std::env::var_os("KUBECTL").unwrap_or_else(|| "kubectl".into());
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &self.kubeconfig).arg("--cache-dir").arg(self.cache_dir.path()).args(args);
        command.kill_on_drop(true);
        (command, text)
    }
}

impl Output {
    /// Its stdout if it succeeded, otherwise an error.
    pub fn ok(self) -> anyhow::Result<String> {
        ensure!(
            self.code == Some(0),
            "`{}` ended with {:?}:\n{}{}",
            self.command,
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout)
    }

    /// Its stderr if it failed, otherwise an error.
    pub fn failed(self) -> anyhow::Result<String> {
        ensure!(self.code != Some(0), "`{}` should have failed, but printed:\n{}", self.command, self.stdout);
        Ok(self.stderr)
    }
}

impl Watch {
    /// The next line. `timeout` is for a quiet machine.
    pub async fn next_line(&mut self, timeout: Duration) -> anyhow::Result<String> {
        self.line_within(patience(timeout)).await
    }

    async fn line_within(&mut self, timeout: Duration) -> anyhow::Result<String> {
        match tokio::time::timeout(timeout, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => bail!("`{}` ended", self.command),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => bail!("`{}` printed nothing for {timeout:?}", self.command),
        }
    }

    /// The first line that is wanted; an error with the lines before it if none comes in time.
    pub async fn line_where(
        &mut self,
        timeout: Duration,
        mut wanted: impl FnMut(&str) -> bool,
    ) -> anyhow::Result<String> {
        let deadline = tokio::time::Instant::now() + patience(timeout);
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let line = self
                .line_within(left)
                .await
                .with_context(|| format!("no such line after:\n{}", seen.join("\n")))?;
            if wanted(&line) {
                return Ok(line);
            }
            seen.push(line);
        }
    }
}
