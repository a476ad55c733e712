//! The real `gatehouse apiserver` process beside a control plane: built, started, registered, stopped, started again.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use gatehouse_certs::issue::Authority;
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use crate::control_plane::{ControlPlane, free_ports, server_identity, wait_until_ready};
use crate::crds;
use crate::kubeconfig;
use crate::load::{self, Manifest};
use crate::progress;
use crate::registration;
use crate::supervise::{Program, Scratch, Supervised};

/// Far longer than it takes to serve; its caches may still be filling after that.
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// The aggregator looks at a new APIService at once, and again each 30 seconds where it was not ready.
const AVAILABLE_TIMEOUT: Duration = Duration::from_secs(75);

/// One replica of Gatehouse. Dropped, it stops.
pub struct Gatehouse {
    // Before the folder it runs in.
    process: Option<Supervised>,
    scratch: Arc<Scratch>,
    name: String,
    program: Program,
    port: u16,
    serving_ca: String,
    probe: PathBuf,
}

/// What may be different from one replica to another.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The executable; found or built where it is not given.
    pub executable: Option<PathBuf>,
    /// Names its log and files; needed where several replicas run beside one control plane.
    pub name: Option<String>,
    /// Appended to its flags.
    pub flags: Vec<String>,
    /// Its environment, `RUST_LOG` for example.
    pub env: Vec<(String, OsString)>,
}

impl Gatehouse {
    /// Builds the executable if need be, starts it and waits until it is ready. Its account needs its rights first:
    /// see [`prepare`].
    pub async fn start(control_plane: &ControlPlane, options: &Options) -> anyhow::Result<Self> {
        let executable = match &options.executable {
            Some(executable) => executable.clone(),
            None => executable().await?,
        };
        let name = options.name.clone().unwrap_or_else(|| "gatehouse".to_owned());
        let [port] = free_ports()?;

        let authority = Authority::new("gatehouse-serving-ca")?;
        let serving = server_identity(&authority, &[registration::SERVER_NAME, "localhost"])?;
        let file = |extension| control_plane.folder().join(format!("{name}.{extension}"));
        let (certificate, key) = (file("crt"), file("key"));
        kubeconfig::write_private(&certificate, &serving.certificate_pem)?;
        kubeconfig::write_private(&key, &serving.key_pem)?;

        let upstream = control_plane.kubeconfig_for(registration::USER, None)?;
        let mut args: Vec<OsString> = vec!["apiserver".into()];
        for (flag, value) in [
            ("--kubeconfig", upstream.as_os_str()),
            ("--bind-address", "127.0.0.1".as_ref()),
            ("--secure-port", port.to_string().as_ref()),
            ("--tls-cert-file", certificate.as_os_str()),
            ("--tls-private-key-file", key.as_os_str()),
        ] {
            args.extend([flag.into(), value.to_owned()]);
        }
        args.extend(options.flags.iter().map(OsString::from));

        let serving_ca = authority.certificate_pem().to_owned();
        let url = url(port);
        let probe = control_plane.kubeconfig_at(&url, &serving_ca, "probe", Some("system:masters"))?;
        let program = Program { path: executable, args, env: options.env.clone() };
        let scratch = control_plane.scratch();
        let mut gatehouse = Self { process: None, scratch, name, program, port, serving_ca, probe };
        gatehouse.launch().await?;
        Ok(gatehouse)
    }

    /// Starts it again, on the same port and with the same certificate; it must have been stopped or killed.
    pub async fn launch(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        let client = kubeconfig::client(&self.probe).await?;
        let process = self.process.insert(self.scratch.spawn(&self.name, &self.program)?);
        progress::during("starting Gatehouse", wait_until_ready(process, &client, READY_TIMEOUT)).await
    }

    /// Ends it in good order.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.stop().await?;
        }
        Ok(())
    }

    /// Ends it as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// The process, while it runs, for its process id and log.
    pub fn process(&self) -> Option<&Supervised> {
        self.process.as_ref()
    }

    /// Where it serves.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same as a URL, for direct access.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// The CA of its serving certificate, as PEM.
    pub fn serving_ca(&self) -> &str {
        &self.serving_ca
    }

    /// Writes a kubeconfig for direct access, past the aggregator.
    pub fn kubeconfig_for(
        &self,
        control_plane: &ControlPlane,
        user: &str,
        group: Option<&str>,
    ) -> anyhow::Result<PathBuf> {
        control_plane.kubeconfig_at(&self.url(), &self.serving_ca, user, group)
    }

    /// Registers it with the control plane and waits until the aggregator says that it is available.
    pub async fn register(&self, control_plane: &ControlPlane) -> anyhow::Result<()> {
        let client = control_plane.client().await?;
        apply(&client, vec![registration::api_service(self.port, &self.serving_ca)]).await?;
        progress::during("registering Gatehouse", wait_until_available(&client)).await
    }
}

fn url(port: u16) -> String {
    format!("https://{}:{port}", Ipv4Addr::LOCALHOST)
}

/// Makes the namespace, the Service and the rights of Gatehouse's account: everything but the APIService.
pub async fn prepare(control_plane: &ControlPlane) -> anyhow::Result<()> {
    apply(&control_plane.client().await?, registration::prerequisites(&crds::kinds())).await
}

async fn apply(client: &kube::Client, objects: Vec<Value>) -> anyhow::Result<()> {
    let manifest = |object| Manifest { origin: "(registration)".to_owned(), object };
    load::apply(client, objects.into_iter().map(manifest).collect()).await
}

/// Waits until the aggregator says that Gatehouse is available.
pub async fn wait_until_available(client: &kube::Client) -> anyhow::Result<()> {
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}", registration::API_SERVICE);
    let deadline = Instant::now() + AVAILABLE_TIMEOUT;
    loop {
        let object: Value = client.request(http::Request::get(&path).body(Vec::new())?).await?;
        let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let available = conditions.iter().find(|condition| condition["type"] == "Available");
        if available.is_some_and(|condition| condition["status"] == "True") {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the APIService is not available: {}", available.unwrap_or(&Value::Null));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The executable: what GATEHOUSE_BIN says, else built in the profile that this one was built in.
pub async fn executable() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("GATEHOUSE_BIN").map(PathBuf::from) {
        ensure!(path.is_file(), "GATEHOUSE_BIN is set, but {} does not exist", path.display());
        return Ok(path);
    }
    progress::during("building gatehouse", build()).await
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// The whole workspace is named, so that features, and with them everything already compiled, are those of a build of
/// the workspace.
async fn build() -> anyhow::Result<PathBuf> {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("this crate is part of a workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--workspace",
            "--bin",
            "gatehouse",
            "--quiet",
            "--message-format=json-render-diagnostics",
        ])
        .args((!cfg!(debug_assertions)).then_some("--release"))
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    let output = command.output().await.context("cannot run cargo")?;
    ensure!(output.status.success(), "gatehouse does not build");
    let built = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter(|message| message.target.as_ref().is_some_and(|target| target.name == "gatehouse"))
        .find_map(|message| message.executable);
    built.context("cargo built gatehouse, but did not say where")
}
