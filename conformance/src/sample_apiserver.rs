//! k8s.io/sample-apiserver, Kubernetes' example of an aggregated API server, for comparison in the benchmark.
//! It is built once from its Go module, and stores its objects in the etcd of a control plane.
//!
//! It runs with its own defaults. Users authenticate by client certificate, and only administrators are
//! admitted, so that it sends no reviews to kube-apiserver.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_certs::issue::Authority;

use crate::cache::{self, Filling, Unavailable};
use crate::control_plane::{ControlPlane, server_identity, wait_until_ready};
use crate::kubeconfig;
use crate::supervise::{Program, Scratch, Supervised};
use crate::{ports, progress};

const GO_MOD: &str = include_str!("../sample-apiserver/go.mod");
const GO_SUM: &str = include_str!("../sample-apiserver/go.sum");
const PACKAGE: &str = "k8s.io/sample-apiserver";
const FILE: &str = "sample-apiserver";

/// Far longer than it takes to become ready.
const READY_TIMEOUT: Duration = Duration::from_mins(2);

/// A running server. Dropping it stops it.
pub struct SampleApiServer {
    // Dropped before the folder it runs in.
    process: Option<Supervised>,
    scratch: Arc<Scratch>,
    program: Program,
    admin: PathBuf,
}

/// The version that is built.
pub fn version() -> &'static str {
    let required = GO_MOD.lines().find_map(|line| line.trim().strip_prefix(PACKAGE)?.strip_prefix(' '));
    required
        .and_then(|rest| rest.split_whitespace().next())
        .expect("the module file, part of this crate, requires it")
}

/// The executable. It is built if needed, which takes minutes.
pub async fn executable() -> Result<PathBuf, Unavailable> {
    const LDFLAGS: &str = "-s -w";
    let folder = cache::folder(FILE, &[GO_MOD, GO_SUM, LDFLAGS])?;
    let file = folder.join(FILE);
    if file.is_file() {
        return Ok(file);
    }
    let filling = Filling::begin(&folder).await?;
    if file.is_file() {
        return Ok(file);
    }
    filling.write("go.mod", GO_MOD)?;
    filling.write("go.sum", GO_SUM)?;
    let what = format!("building {FILE} {} for the benchmark, once, into {}", version(), folder.display());
    progress::during(what, filling.go(FILE, PACKAGE, LDFLAGS)).await?;
    filling.keep(FILE)?;
    Ok(file)
}

impl SampleApiServer {
    /// Starts a server beside a control plane, and waits until it is ready.
    pub async fn start(executable: PathBuf, control_plane: &ControlPlane) -> anyhow::Result<Self> {
        let port = ports::free()?;
        let authority = Authority::new("sample-serving-ca")?;
        let serving = server_identity(&authority, &["localhost"])?;
        let file = |name: &str| control_plane.folder().join(format!("{FILE}.{name}"));
        let (certificate, key) = (file("crt"), file("key"));
        kubeconfig::write_private(&certificate, &serving.certificate_pem)?;
        kubeconfig::write_private(&key, &serving.key_pem)?;
        let url = format!("https://{}:{port}", Ipv4Addr::LOCALHOST);
        let ca = authority.certificate_pem();
        let admin = control_plane.kubeconfig_at(&url, ca, "bench", Some("system:masters"))?;

        let upstream = control_plane.kubeconfig().as_os_str();
        let client_ca = control_plane.folder().join("client-ca.crt");
        let etcd = control_plane.etcd_url();
        let mut args = Vec::new();
        for (flag, value) in [
            ("--etcd-servers", etcd.as_ref()),
            ("--bind-address", "127.0.0.1".as_ref()),
            ("--secure-port", port.to_string().as_ref()),
            ("--tls-cert-file", certificate.as_os_str()),
            ("--tls-private-key-file", key.as_os_str()),
            ("--client-ca-file", client_ca.as_os_str()),
            ("--kubeconfig", upstream),
            ("--authentication-kubeconfig", upstream),
            ("--authorization-kubeconfig", upstream),
        ] {
            args.extend([OsString::from(flag), value.to_owned()]);
        }
        let program = Program { path: executable, args, env: Vec::new() };
        let mut server = Self { process: None, scratch: control_plane.scratch(), program, admin };
        server.launch().await?;
        Ok(server)
    }

    /// Starts the server again after it was killed.
    pub async fn launch(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "{FILE} runs already");
        let client = self.client().await?;
        let process = self.process.insert(self.scratch.spawn(FILE, &self.program)?);
        let ready = wait_until_ready(process, &client, "/readyz", READY_TIMEOUT);
        progress::during(format_args!("starting {FILE}"), ready).await
    }

    /// Kills the server as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// Its process id; an error if it does not run.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.process.as_ref().with_context(|| format!("{FILE} is not running"))?.pid()
    }

    /// A client with the rights of an administrator.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        kubeconfig::client(&self.admin).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_the_same_version_as_the_control_plane() {
        let kubernetes = crate::assets::kubernetes_version();
        assert_eq!(kubernetes.strip_prefix("v1."), version().strip_prefix("v0."));
    }
}
