//! A control plane: etcd and kube-apiserver on loopback, with RBAC and the aggregation layer configured as in
//! a real cluster.
//!
//! There is no kube-controller-manager: nothing is garbage-collected, no namespace finishes terminating, and
//! pods get no service account.

mod backup;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use gatehouse_certs::issue::{self, Authority, KeyPair, Leaf, Usage};

pub use self::backup::Backup;
use crate::assets::{self, Assets};
use crate::kubeconfig;
use crate::supervise::{Program, Scratch, Supervised};
use crate::{pace, ports, progress};

/// Longer than any run.
const CERTIFICATE_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// A cold start on two busy cores takes about ten seconds.
const START_TIMEOUT: Duration = Duration::from_mins(2);

/// On a busy machine a post-start hook of kube-apiserver may time out, which ends kube-apiserver.
const START_ATTEMPTS: u32 = 3;

/// How many lines of a log an error message shows.
const LOG_LINES: usize = 20;

/// The options of a control plane.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The executables. `None`: they are found or built.
    pub assets: Option<Assets>,
    /// Flags of kube-apiserver. They come after the default ones, and so override them.
    pub api_server_flags: Vec<String>,
}

/// A running control plane. Dropping it stops it and removes its folder; `stop` does the same without
/// blocking.
pub struct ControlPlane {
    // In the order in which they must be dropped.
    api_server: Supervised,
    etcd: Supervised,
    programs: Programs,
    scratch: Arc<Scratch>,
    url: String,
    etcd_url: String,
    cluster_ca: Authority,
    front_proxy: FrontProxy,
    admin: PathBuf,
    kubeconfigs: AtomicU32,
}

/// The programs, for a restart.
struct Programs {
    api_server: Program,
    etcd: Program,
    etcd_port: u16,
}

/// The identity that kube-apiserver shows to aggregated API servers.
pub struct FrontProxy {
    /// The CA of request headers (`--requestheader-client-ca-file`).
    pub authority: Authority,
    /// The client certificate, with the allowed name.
    pub client: KeyPair,
}

impl ControlPlane {
    /// Starts a control plane and waits until it is ready.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let assets = match &options.assets {
            Some(assets) => assets.clone(),
            None => assets::find().await?,
        };
        let mut attempt = 1;
        loop {
            match Self::start_once(&assets, &options.api_server_flags).await {
                Err(error) if attempt < START_ATTEMPTS => {
                    progress::say(format_args!("the control plane did not start, trying again: {error:#}"));
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn start_once(assets: &Assets, extra_flags: &[String]) -> anyhow::Result<Self> {
        let (api_port, client_port, peer_port) = (ports::free()?, ports::free()?, ports::free()?);
        let scratch = Arc::new(Scratch::new()?);
        let cluster_ca = Authority::new("cluster-ca")?;
        let front_proxy_ca = Authority::new("front-proxy-ca")?;
        let front_proxy = FrontProxy {
            client: client_identity(&front_proxy_ca, "front-proxy-client", None)?,
            authority: front_proxy_ca,
        };
        let files = Files::write(scratch.path(), &cluster_ca, &front_proxy)?;

        let programs = Programs {
            api_server: api_server_program(assets, &files, api_port, client_port, extra_flags),
            etcd: etcd_program(assets, scratch.path(), client_port, peer_port),
            etcd_port: client_port,
        };
        let mut etcd = scratch.spawn("etcd", &programs.etcd)?;
        wait_for_port(&mut etcd, client_port).await?;
        let api_server = scratch.spawn("kube-apiserver", &programs.api_server)?;

        let url = format!("https://127.0.0.1:{api_port}");
        let etcd_url = format!("http://127.0.0.1:{client_port}");
        let admin = scratch.path().join("admin.kubeconfig");
        let identity = client_identity(&cluster_ca, "admin", Some("system:masters"))?;
        kubeconfig::write(&admin, &url, cluster_ca.certificate_pem(), "admin", &identity)?;

        let kubeconfigs = AtomicU32::new(0);
        let mut started = Self {
            api_server,
            etcd,
            programs,
            scratch,
            url,
            etcd_url,
            cluster_ca,
            front_proxy,
            admin,
            kubeconfigs,
        };
        let client = started.client().await?;
        let what = "starting etcd and kube-apiserver";
        let begun = Instant::now();
        let ready = wait_until_ready(&mut started.api_server, &client, "/readyz", START_TIMEOUT);
        let ready = progress::during(what, ready).await;
        // If etcd has ended, kube-apiserver's log explains little, so etcd is checked first.
        check_alive(&mut started.etcd)?;
        ready?;
        pace::started_within(begun.elapsed());
        Ok(started)
    }

    /// The URL of kube-apiserver.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL of etcd, for other API servers that store their objects in it.
    pub fn etcd_url(&self) -> &str {
        &self.etcd_url
    }

    /// The folder of logs and certificates; it is removed with the control plane.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The kubeconfig of an administrator (system:masters).
    pub fn kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// Writes a kubeconfig with a client certificate for a user.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> anyhow::Result<PathBuf> {
        self.kubeconfig_at(&self.url, self.cluster_ca.certificate_pem(), user, group)
    }

    /// Writes a kubeconfig with a client certificate for another server that trusts this cluster's CA.
    pub fn kubeconfig_at(
        &self,
        server: &str,
        server_ca: &str,
        user: &str,
        group: Option<&str>,
    ) -> anyhow::Result<PathBuf> {
        let identity = client_identity(&self.cluster_ca, user, group)?;
        let number = self.kubeconfigs.fetch_add(1, Ordering::Relaxed);
        let path = self.folder().join(format!("user-{number}.kubeconfig"));
        kubeconfig::write(&path, server, server_ca, user, &identity)?;
        Ok(path)
    }

    /// A client with the rights of an administrator.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        kubeconfig::client(&self.admin).await
    }

    /// The CA that has issued kube-apiserver's certificate and signs client certificates.
    pub fn client_ca(&self) -> &Authority {
        &self.cluster_ca
    }

    /// The identity that kube-apiserver shows to aggregated API servers.
    pub fn front_proxy(&self) -> &FrontProxy {
        &self.front_proxy
    }

    /// kube-apiserver, for its process id and log.
    pub fn api_server(&self) -> &Supervised {
        &self.api_server
    }

    /// etcd, for its process id and log.
    pub fn etcd(&self) -> &Supervised {
        &self.etcd
    }

    /// Holds the folder for as long as another program runs in it.
    pub(crate) fn scratch(&self) -> Arc<Scratch> {
        Arc::clone(&self.scratch)
    }

    /// Stops both programs in order. The folder is removed with the last program in it.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Self { api_server, etcd, scratch, .. } = self;
        api_server.stop().await?;
        etcd.stop().await?;
        tokio::task::spawn_blocking(move || drop(scratch)).await?;
        Ok(())
    }
}

/// Waits until `path` of a server responds without an error. Returns an error if the program ends or the time
/// is over.
pub(crate) async fn wait_until_ready(
    program: &mut Supervised,
    client: &kube::Client,
    path: &str,
    timeout: Duration,
) -> anyhow::Result<()> {
    let timeout = pace::patience(timeout);
    let deadline = Instant::now() + timeout;
    loop {
        let request = http_get(path)?;
        let answer =
            tokio::time::timeout(pace::patience(Duration::from_secs(5)), client.request_text(request)).await;
        let problem = match answer {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => anyhow::Error::from(error),
            Err(late) => anyhow::Error::from(late),
        };
        check_alive(program)?;
        if Instant::now() > deadline {
            let log = program.log_tail(LOG_LINES);
            return Err(
                problem.context(format!("not ready after {} s; its log ends:\n{log}", timeout.as_secs()))
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn http_get(path: &str) -> anyhow::Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

fn check_alive(program: &mut Supervised) -> anyhow::Result<()> {
    if let Some(status) = program.ended()? {
        let (log, tail) = (program.log().display(), program.log_tail(LOG_LINES));
        bail!("the program that logs to {log} ended with {status}; its log ends:\n{tail}");
    }
    Ok(())
}

async fn wait_for_port(program: &mut Supervised, port: u16) -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let deadline = Instant::now() + pace::patience(START_TIMEOUT);
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        check_alive(program)?;
        if Instant::now() > deadline {
            bail!("nothing listens on {address}; the log ends:\n{}", program.log_tail(LOG_LINES));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A client certificate for `user` in `group`, issued by `authority`.
pub fn client_identity(authority: &Authority, user: &str, group: Option<&str>) -> anyhow::Result<KeyPair> {
    Ok(authority.issue(&Leaf {
        common_name: user.to_owned(),
        organization: group.map(ToOwned::to_owned),
        dns_names: Vec::new(),
        ips: Vec::new(),
        usage: Usage::ClientAuth,
        lifetime: CERTIFICATE_LIFETIME,
    })?)
}

pub(crate) fn server_identity(authority: &Authority, dns_names: &[&str]) -> anyhow::Result<KeyPair> {
    Ok(authority.issue(&Leaf {
        common_name: dns_names.first().copied().unwrap_or("localhost").to_owned(),
        organization: None,
        dns_names: dns_names.iter().map(|&name| name.to_owned()).collect(),
        ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        usage: Usage::ServerAuth,
        lifetime: CERTIFICATE_LIFETIME,
    })?)
}

/// The files that kube-apiserver's flags name.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn write(folder: &Path, cluster_ca: &Authority, front_proxy: &FrontProxy) -> anyhow::Result<Self> {
        let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
        let serving = server_identity(cluster_ca, &names)?;
        let (account_public, account_private) = issue::bare_key()?;
        for (name, text) in [
            ("client-ca.crt", cluster_ca.certificate_pem()),
            ("front-proxy-ca.crt", front_proxy.authority.certificate_pem()),
            ("front-proxy-client.crt", &front_proxy.client.certificate_pem),
            ("front-proxy-client.key", &front_proxy.client.key_pem),
            ("kube-apiserver.crt", &serving.certificate_pem),
            ("kube-apiserver.key", &serving.key_pem),
            ("service-account.pub", &account_public),
            ("service-account.key", &account_private),
        ] {
            kubeconfig::write_private(&folder.join(name), text)?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    fn flag(&self, flag: &str, file: &str) -> OsString {
        let mut argument = OsString::from(format!("--{flag}="));
        argument.push(self.folder.join(file));
        argument
    }
}

fn etcd_program(assets: &Assets, folder: &Path, client_port: u16, peer_port: u16) -> Program {
    let mut data_dir = OsString::from("--data-dir=");
    data_dir.push(folder.join("etcd"));
    let (client, peer) = (format!("http://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
    let mut args = vec![data_dir];
    args.extend(
        [
            "--name=default".to_owned(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // The data is not needed after the run.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]
        .map(OsString::from),
    );
    Program { path: assets.etcd.clone(), args, env: Vec::new() }
}

fn api_server_program(
    assets: &Assets,
    files: &Files,
    port: u16,
    etcd_port: u16,
    extra_flags: &[String],
) -> Program {
    let mut args = vec![
        files.flag("cert-dir", ""),
        files.flag("client-ca-file", "client-ca.crt"),
        files.flag("tls-cert-file", "kube-apiserver.crt"),
        files.flag("tls-private-key-file", "kube-apiserver.key"),
        files.flag("requestheader-client-ca-file", "front-proxy-ca.crt"),
        files.flag("proxy-client-cert-file", "front-proxy-client.crt"),
        files.flag("proxy-client-key-file", "front-proxy-client.key"),
        files.flag("service-account-key-file", "service-account.pub"),
        files.flag("service-account-signing-key-file", "service-account.key"),
    ];
    args.extend(
        [format!("--secure-port={port}"), format!("--etcd-servers=http://127.0.0.1:{etcd_port}")]
            .map(OsString::from),
    );
    args.extend(
        [
            "--bind-address=127.0.0.1",
            // Without this flag, kube-apiserver looks for the address of the default route, which an isolated
            // machine does not have.
            "--advertise-address=127.0.0.1",
            // Endpoints, such as those of the Service `kubernetes`, do not accept loopback addresses.
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-cluster-ip-range=10.0.0.0/24",
            // No controller creates the service accounts that this plugin would wait for.
            "--disable-admission-plugins=ServiceAccount",
            "--profiling=false",
        ]
        .map(OsString::from),
    );
    args.extend(extra_flags.iter().map(OsString::from));
    Program { path: assets.kube_apiserver.clone(), args, env: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_flags_come_last_and_so_win() {
        let assets = Assets { kube_apiserver: PathBuf::new(), etcd: PathBuf::new() };
        let files = Files { folder: PathBuf::from("/scratch") };
        let program = api_server_program(&assets, &files, 1, 2, &["--profiling=true".to_owned()]);
        assert_eq!(program.args.last(), Some(&OsString::from("--profiling=true")));
        assert!(program.args.contains(&OsString::from("--client-ca-file=/scratch/client-ca.crt")));
    }
}
