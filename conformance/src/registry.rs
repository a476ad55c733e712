//! A registry of OCI artifacts on loopback, and the client for it: crane, built once from its Go module.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::cache::{GoProgram, Unavailable};
use crate::control_plane::ControlPlane;
use crate::pace::patience;
use crate::ports;
use crate::supervise::{Program, Supervised};

const MODULE: [(&str, &str); 2] =
    [("go.mod", include_str!("../registry/go.mod")), ("go.sum", include_str!("../registry/go.sum"))];
const PACKAGE: &str = "github.com/google/go-containerregistry/cmd/crane";

const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// A running registry, which keeps artifacts in memory. Dropped, it stops.
pub struct Registry {
    process: Supervised,
    crane: PathBuf,
    port: u16,
}

/// Finds crane; builds it if need be, which takes seconds.
pub async fn crane() -> Result<PathBuf, Unavailable> {
    let program = GoProgram { name: "crane", files: &MODULE, package: PACKAGE, ldflags: GoProgram::LDFLAGS };
    program.find().await
}

impl Registry {
    /// Starts one beside a control plane, and waits until it accepts connections.
    pub async fn start(control_plane: &ControlPlane) -> anyhow::Result<Self> {
        let (crane, port) = (crane().await?, ports::free()?);
        let args = ["registry", "serve", "--address", &format!("{}:{port}", Ipv4Addr::LOCALHOST)];
        let args = args.map(Into::into).to_vec();
        let program = Program { path: crane.clone(), args, env: Vec::new() };
        let process = control_plane.scratch().spawn("registry", &program)?;
        let deadline = Instant::now() + patience(READY_TIMEOUT);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            ensure!(Instant::now() < deadline, "the registry does not listen: {}", process.log_tail(5));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { process, crane, port })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A reference to what it holds under a name: `HOST:PORT/NAME`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}:{}/{name}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Runs crane, and returns what it writes to standard output.
    ///
    /// # Errors
    /// crane fails; the message is its own.
    pub async fn crane<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> anyhow::Result<Vec<u8>> {
        let mut command = Command::new(&self.crane);
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.context("cannot run crane")?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "crane: {}", message.trim());
        Ok(output.stdout)
    }

    /// Stops it.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.process.stop().await?;
        Ok(())
    }
}
