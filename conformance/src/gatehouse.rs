//! A `gatehouse` process beside a control plane, `apiserver` or `webhooks`: builds, starts, registers, stops
//! and restarts it.

use std::ffi::{OsStr, OsString};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use gatehouse_apiservice::registration::{self as account, api_service, api_service_name, webhook_account};
use gatehouse_apiservice::view::{GROUP, VERSION};
use gatehouse_certs::issue::Authority;
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::control_plane::{ControlPlane, server_identity, wait_until_ready};
use crate::kubeconfig;
use crate::load::{self, Manifest};
use crate::pace::patience;
use crate::registration;
use crate::supervise::{Program, Scratch, Supervised};
use crate::{ports, progress};

/// Far longer than it takes to serve, even if its caches are not filled yet.
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// The aggregator checks a new APIService at once, and every 30 seconds while it is not available.
const AVAILABLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The aggregator fetches OpenAPI documents in the background, and serves them a moment later.
const OPENAPI_TIMEOUT: Duration = Duration::from_secs(90);

/// A child process is killed [`crate::supervise::GRACE`] after SIGTERM. No load balancer has to notice the
/// end first, so the process refuses requests without delay.
const SHUTDOWN: [(&str, &str); 2] = [("--shutdown-delay-duration", "0s"), ("--shutdown-grace", "3s")];

/// One replica of Gatehouse. Dropping it stops it.
pub struct Gatehouse {
    // Dropped before the folder it runs in.
    process: Option<Supervised>,
    scratch: Arc<Scratch>,
    name: String,
    program: Program,
    port: u16,
    serving_ca: String,
    probe: PathBuf,
    awaited: Awaited,
}

/// What a start waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Awaited {
    /// `/readyz` succeeds: every resource is served.
    #[default]
    Ready,
    /// `/livez` succeeds: discovery is served.
    Alive,
}

impl Awaited {
    fn path(self) -> &'static str {
        match self {
            Self::Ready => "/readyz",
            Self::Alive => "/livez",
        }
    }
}

/// What a replica serves; each is a subcommand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Serves {
    /// `gatehouse apiserver`.
    #[default]
    Views,
    /// `gatehouse webhooks`.
    Webhooks,
}

impl Serves {
    pub(crate) fn subcommand(self) -> &'static str {
        match self {
            Self::Views => "apiserver",
            Self::Webhooks => "webhooks",
        }
    }

    /// Its account, and the server name that kube-apiserver verifies in a cluster.
    fn identity(self) -> (&'static str, &'static str) {
        match self {
            Self::Views => (account::USER, account::SERVER_NAME),
            Self::Webhooks => (webhook_account::USER, webhook_account::SERVER_NAME),
        }
    }
}

/// The source of the serving certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Certificate {
    /// A CA is created for this replica only.
    #[default]
    Own,
    /// Files that other replicas use as well.
    Shared(Files),
    /// That of its flags: the replica manages it itself, or reads other files.
    OfFlags,
}

/// The files of a serving certificate and its key, and the CA that issued it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    ca: String,
}

impl Files {
    /// Creates a CA and a serving certificate. `name` is the prefix of the files' names.
    pub fn issue(control_plane: &ControlPlane, serves: Serves, name: &str) -> anyhow::Result<Self> {
        let (_, server_name) = serves.identity();
        let authority = Authority::new("gatehouse-serving-ca")?;
        let serving = server_identity(&authority, &[server_name, "localhost"])?;
        let file = |extension| control_plane.folder().join(format!("{name}.{extension}"));
        let (certificate, key) = (file("crt"), file("key"));
        kubeconfig::write_private(&certificate, &serving.certificate_pem)?;
        kubeconfig::write_private(&key, &serving.key_pem)?;
        Ok(Self { certificate, key, ca: authority.certificate_pem().to_owned() })
    }

    /// The CA's certificate, as PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }
}

/// The options of a replica.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What it serves.
    pub serves: Serves,
    /// The executable. `None`: it is found or built.
    pub executable: Option<PathBuf>,
    /// The name of its log and files; needed if several replicas run beside one control plane.
    pub name: Option<String>,
    /// Flags that are appended to the others.
    pub flags: Vec<String>,
    /// Its serving certificate.
    pub certificate: Certificate,
    /// Additional environment variables, such as `RUST_LOG`.
    pub env: Vec<(String, OsString)>,
    /// The kubeconfig for its connection to the cluster. `None`: a direct connection with its own account.
    pub kubeconfig: Option<PathBuf>,
    /// What its start waits for.
    pub awaited: Awaited,
    /// Whether it shuts down as slowly as its flags or defaults say. Otherwise it ends at once.
    pub takes_its_time: bool,
}

impl Gatehouse {
    /// Builds the executable if needed, starts it and waits until it is ready. Its account needs its rights
    /// first, see [`prepare`].
    pub async fn start(control_plane: &ControlPlane, options: &Options) -> anyhow::Result<Self> {
        let executable = match &options.executable {
            Some(executable) => executable.clone(),
            None => executable().await?,
        };
        let name = options.name.clone().unwrap_or_else(|| "gatehouse".to_owned());
        let port = ports::free()?;

        let (user, _) = options.serves.identity();
        let files = match &options.certificate {
            Certificate::Own => Some(Files::issue(control_plane, options.serves, &name)?),
            Certificate::Shared(files) => Some(files.clone()),
            Certificate::OfFlags => None,
        };
        let upstream = match &options.kubeconfig {
            Some(kubeconfig) => kubeconfig.clone(),
            None => control_plane.kubeconfig_for(user, None)?,
        };
        let mut args: Vec<OsString> = vec![options.serves.subcommand().into()];
        let port_text = port.to_string();
        let mut flags = vec![
            ("--kubeconfig", upstream.as_os_str()),
            ("--bind-address", "127.0.0.1".as_ref()),
            ("--secure-port", port_text.as_ref()),
        ];
        if let Some(files) = &files {
            flags.push(("--tls-cert-file", files.certificate.as_os_str()));
            flags.push(("--tls-private-key-file", files.key.as_os_str()));
        }
        if !options.takes_its_time {
            flags.extend(SHUTDOWN.map(|(flag, value)| (flag, value.as_ref())));
        }
        for (flag, value) in flags {
            args.extend([flag.into(), value.to_owned()]);
        }
        args.extend(options.flags.iter().map(OsString::from));

        let serving_ca = files.map(|files| files.ca).unwrap_or_default();
        let url = url(port);
        let probe = control_plane.kubeconfig_at(&url, &serving_ca, "probe", Some("system:masters"))?;
        let program = Program { path: executable, args, env: options.env.clone() };
        let scratch = control_plane.scratch();
        let awaited = options.awaited;
        let mut gatehouse = Self { process: None, scratch, name, program, port, serving_ca, probe, awaited };
        gatehouse.launch().await?;
        Ok(gatehouse)
    }

    /// Starts it again after it was stopped or killed, on the same port and with the same certificate.
    pub async fn launch(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        let client = self.prober().await?;
        let process = self.process.insert(self.scratch.spawn(&self.name, &self.program)?);
        let ready = wait_until_ready(process, &client, self.awaited.path(), READY_TIMEOUT);
        progress::during(format_args!("starting {}", self.name), ready).await
    }

    /// Stops it in order and returns its exit status; `None` if it did not run.
    pub async fn stop(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        match self.process.take() {
            Some(process) => Ok(Some(process.stop().await?)),
            None => Ok(None),
        }
    }

    /// Stops it as a kubelet does and returns its exit status.
    pub async fn terminate(&mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        self.process.take().context("it runs")?.terminate(grace).await
    }

    /// Kills it as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// The process, for its id and log; `None` if it does not run.
    pub fn process(&self) -> Option<&Supervised> {
        self.process.as_ref()
    }

    /// A client for its health endpoints, which accepts any certificate as a kubelet does.
    pub async fn prober(&self) -> anyhow::Result<kube::Client> {
        let mut config = kubeconfig::config(&self.probe).await?;
        config.accept_invalid_certs = true;
        Ok(kube::Client::try_from(config)?)
    }

    /// The port that it serves on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL, for connections that bypass the aggregator.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// The CA of its serving certificate, as PEM; empty if the certificate is that of its flags.
    pub fn serving_ca(&self) -> &str {
        &self.serving_ca
    }

    /// Writes a kubeconfig for connections that bypass the aggregator.
    pub fn kubeconfig_for(
        &self,
        control_plane: &ControlPlane,
        user: &str,
        group: Option<&str>,
    ) -> anyhow::Result<PathBuf> {
        control_plane.kubeconfig_at(&self.url(), &self.serving_ca, user, group)
    }

    /// Creates the APIService, and waits until it is available and the aggregator serves Gatehouse's OpenAPI,
    /// which `kubectl explain` reads.
    pub async fn register(&self, control_plane: &ControlPlane) -> anyhow::Result<()> {
        let client = control_plane.client().await?;
        apply(&client, vec![api_service(self.port, &self.serving_ca)]).await?;
        progress::during("registering Gatehouse", async {
            wait_until_available(&client).await?;
            wait_until_explained(&client).await
        })
        .await
    }
}

fn url(port: u16) -> String {
    format!("https://{}:{port}", Ipv4Addr::LOCALHOST)
}

/// Creates the namespace, the Service and the rights of Gatehouse's account: everything but the APIService.
pub async fn prepare(control_plane: &ControlPlane) -> anyhow::Result<()> {
    apply(&control_plane.client().await?, registration::prerequisites()).await
}

pub(crate) async fn apply(client: &kube::Client, objects: Vec<Value>) -> anyhow::Result<()> {
    let manifest = |object| Manifest { origin: "(registration)".to_owned(), object };
    load::apply(client, objects.into_iter().map(manifest).collect()).await
}

/// Waits until Gatehouse's APIService is available.
pub async fn wait_until_available(client: &kube::Client) -> anyhow::Result<()> {
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}", api_service_name());
    let deadline = Instant::now() + patience(AVAILABLE_TIMEOUT);
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

/// Waits until kube-apiserver serves the OpenAPI of Gatehouse's group.
async fn wait_until_explained(client: &kube::Client) -> anyhow::Result<()> {
    let wanted = format!("apis/{GROUP}/{VERSION}");
    let deadline = Instant::now() + patience(OPENAPI_TIMEOUT);
    loop {
        let root: Value = client.request(http::Request::get("/openapi/v3").body(Vec::new())?).await?;
        if let Some(path) = root["paths"][&wanted]["serverRelativeURL"].as_str() {
            let document = client.request::<Value>(http::Request::get(path).body(Vec::new())?).await;
            if document.is_ok_and(|document| document["components"]["schemas"].is_object()) {
                return Ok(());
            }
        }
        ensure!(Instant::now() < deadline, "kube-apiserver does not serve the OpenAPI of {wanted}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The executable that [`executable`] has built.
static BUILT: OnceCell<PathBuf> = OnceCell::const_new();

/// The executable that GATEHOUSE_BIN names, otherwise one that is built once in the profile of this
/// executable.
pub async fn executable() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("GATEHOUSE_BIN").map(PathBuf::from) {
        ensure!(path.is_file(), "GATEHOUSE_BIN is set, but {} does not exist", path.display());
        return Ok(path);
    }
    BUILT.get_or_try_init(|| progress::during("building gatehouse", build())).await.cloned()
}

/// The objects of the example cluster that the executable contains, with their times filled in.
pub async fn example(executable: &Path) -> anyhow::Result<Vec<Manifest>> {
    let folder = tempfile::Builder::new().prefix("gatehouse-example-").tempdir()?;
    let mut command = Command::new(executable);
    command.args(["demo", "--export"]).arg(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.with_context(|| format!("cannot run {}", executable.display()))?;
    ensure!(
        output.status.success(),
        "`gatehouse demo --export` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    load::read_folder(folder.path())
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

/// The profile of this executable, by the folder that cargo put it in.
fn profile() -> anyhow::Result<String> {
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let mut folders = executable.ancestors().skip(1).filter_map(Path::file_name).filter_map(OsStr::to_str);
    let folder = folders.find(|name| *name != "deps").context("this executable is in no folder")?;
    Ok(if folder == "debug" { "dev" } else { folder }.to_owned())
}

/// Builds `gatehouse`. It names the whole workspace so that the features are those of a workspace build, and
/// compiled dependencies are reused.
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
        .args(["--profile", &profile()?])
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
