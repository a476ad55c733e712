//! Flags that several subcommands have, and what they stand for.

mod origins;
mod replicas;
mod self_managed;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use gatehouse_apiservice::{client::explain, dns};
use gatehouse_certs::{
    issue::{Authority, Leaf, Usage},
    load,
    reload::CertificateFiles,
};
use gatehouse_inventory::{
    catalogue::Catalogue,
    source::{Streaming, WatchSettings},
};
use gatehouse_serving::{
    authn::{self, AuthenticationConfig, AuthenticationFiles, Authenticator, TokenReviewer},
    authz::DelegatedAuthorizer,
    health::HealthCheck,
    metrics::RequestMetrics,
    pipeline::Limits,
    serve::MAX_CONNECTIONS,
    shutdown::ShutdownTiming,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::sign::CertifiedKey;
use tokio::sync::{Semaphore, watch};

pub(crate) use self::{
    origins::OriginArgs,
    replicas::Replicas,
    self_managed::{SelfManaged, Service},
};

/// How often files of certificates and CAs are read again. A kubelet takes about a minute to update a Secret in a
/// volume, so this adds little.
const POLL_FILES: Duration = Duration::from_secs(10);
/// Of a self-signed certificate. The process does not live that long.
const SELF_SIGNED_LIFETIME: Duration = Duration::from_hours(365 * 24);
/// How long the start waits for the cluster's authentication settings before it continues without them.
const FIRST_LOOKUP: Duration = Duration::from_secs(5);

/// Flags that select the cluster.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Upstream {
    /// Kubeconfig of the cluster. Default: the pod's service account, then $KUBECONFIG.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig. Default: its current context.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Whether to list objects by streaming watches (KEP-3157), which take less memory in kube-apiserver.
    #[arg(long, value_enum, default_value_t = StreamingLists::Auto)]
    streaming_lists: StreamingLists,
}

/// How objects are listed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum StreamingLists {
    /// If the API server is version 1.34 or later.
    Auto,
    /// Always.
    Always,
    /// Never; objects are listed in pages.
    Never,
}

/// Flags for serving and shutting down.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Serving")]
pub(crate) struct Serving {
    /// IP address to listen on. 0.0.0.0 listens on all IPv4 and IPv6 addresses.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// Port to serve HTTPS on. 0 selects a free port.
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    secure_port: u16,
    /// File with the PEM-encoded serving certificate and its chain. Reloaded when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// File with the PEM-encoded private key of the serving certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// Time between SIGTERM and refusing new connections. /readyz fails during it, so that load balancers stop sending
    /// requests.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    shutdown_delay_duration: Duration,
    /// Time between refusing new connections and aborting requests that are still running.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    shutdown_grace: Duration,
    #[command(flatten)]
    pub(crate) own: SelfManaged,
}

/// Flags for authentication and authorization.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Authentication and authorization")]
pub(crate) struct Authentication {
    /// CA bundle for client certificates. A certificate that it signed authenticates the user named by its common name.
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// CA bundle for the front proxy's client certificates, which may name users in request headers. Default: from the
    /// ConfigMap kube-system/extension-apiserver-authentication.
    #[arg(long, value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names that a front proxy's certificate may have. Default: any.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    /// Request headers with the user name. Usually X-Remote-User.
    #[arg(long, value_name = "HEADER", value_delimiter = ',')]
    requestheader_username_headers: Vec<String>,
    /// Request headers with the user's UID. Usually X-Remote-Uid.
    #[arg(long, value_name = "HEADER", value_delimiter = ',')]
    requestheader_uid_headers: Vec<String>,
    /// Request headers with the user's groups. Usually X-Remote-Group.
    #[arg(long, value_name = "HEADER", value_delimiter = ',')]
    requestheader_group_headers: Vec<String>,
    /// Prefixes of request headers with extra fields of the user. Usually X-Remote-Extra-.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    requestheader_extra_headers_prefix: Vec<String>,
    /// Do not read the ConfigMap kube-system/extension-apiserver-authentication; use only the flags.
    #[arg(long = "authentication-skip-lookup")]
    skip_lookup: bool,
    /// Accept requests without credentials as the user system:anonymous. Authorization still applies.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    anonymous_auth: bool,
    /// Timeout of a TokenReview. A review that times out fails the request with 401.
    #[arg(
        long = "authentication-token-webhook-timeout",
        value_name = "DURATION",
        default_value = "5s",
        value_parser = duration
    )]
    token_timeout: Duration,
    /// Timeout of a SubjectAccessReview. A review that times out denies the request.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    authorization_webhook_timeout: Duration,
}

/// Flags that limit load.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Maximum number of requests that are served at a time, without watches. Further requests get 429. One user gets
    /// at most three quarters. 0 for no limit.
    #[arg(long, value_name = "NUMBER", default_value_t = 400)]
    max_requests_inflight: usize,
    /// Time after which a request, except a watch, gets 504.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    request_timeout: Duration,
    /// Maximum number of connections. When it is reached, a connection that showed no credential is closed for a new
    /// one. A connection takes 50 KiB of memory, or up to 180 KiB from a malicious client.
    #[arg(long, value_name = "NUMBER", default_value_t = MAX_CONNECTIONS, value_parser = connections)]
    pub(crate) max_connections: usize,
}

/// Parses a duration in the form of Go's flags: `10s`, `1m30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = gatehouse_apiservice::duration::parse(text)?;
    Duration::try_from(parsed).map_err(|_| "must not be negative".to_owned())
}

/// As many as there can be slots for.
fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) if number <= Semaphore::MAX_PERMITS => Ok(number),
        Ok(_) => Err("is too large".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

/// Parses the name of an object.
pub(crate) fn object_name(text: &str) -> Result<String, String> {
    if dns::is_subdomain(text) {
        return Ok(text.to_owned());
    }
    Err("must be lower-case letters, digits, `-` and `.`, and begin and end with a letter or digit"
        .to_owned())
}

/// Reads the client configuration for a cluster.
pub(crate) async fn kubeconfig(file: Option<&Path>, context: Option<String>) -> anyhow::Result<kube::Config> {
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let config = match file {
        Some(file) => {
            let kubeconfig =
                Kubeconfig::read_from(file).with_context(|| format!("--kubeconfig {}", file.display()))?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &options).await
        }
        None if options.context.is_some() => kube::Config::from_kubeconfig(&options).await,
        None => {
            return kube::Config::infer()
                .await
                .context("no cluster configured: not running in a pod, and no kubeconfig was found");
        }
    };
    config.context("invalid kubeconfig")
}

impl Upstream {
    /// How to reach the cluster.
    pub(crate) async fn config(&self) -> anyhow::Result<kube::Config> {
        kubeconfig(self.kubeconfig.as_deref(), self.context.clone()).await
    }

    /// How objects are watched.
    pub(crate) fn watching(&self) -> WatchSettings {
        let streaming = match self.streaming_lists {
            StreamingLists::Auto => Streaming::Auto,
            StreamingLists::Always => Streaming::Always,
            StreamingLists::Never => Streaming::Never,
        };
        WatchSettings { streaming, ..WatchSettings::default() }
    }
}

impl Serving {
    /// Where to listen.
    pub(crate) fn address(&self) -> SocketAddr {
        (self.bind_address, self.secure_port).into()
    }

    /// How long the end takes.
    pub(crate) fn shutdown(&self) -> ShutdownTiming {
        ShutdownTiming { delay: self.shutdown_delay_duration, grace: self.shutdown_grace }
    }

    /// The serving certificate: that of the files, kept up to date; else one made on the spot for a Service of this
    /// name, which is all there is, unless certificates are self-managed: then it serves until those are there.
    pub(crate) fn keys(
        &self,
        namespace: &str,
        service: &str,
    ) -> anyhow::Result<watch::Receiver<Arc<CertifiedKey>>> {
        if let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_private_key_file) {
            let files = CertificateFiles::open(certificate.clone(), key.clone())?;
            let keys = files.subscribe();
            tokio::spawn(files.poll_every(POLL_FILES));
            return Ok(keys);
        }
        if !self.own.is_on() {
            tracing::warn!(
                "neither --tls-cert-file nor --tls-secret is set: serving with a self-signed certificate, which \
                 clients cannot verify"
            );
        }
        let authority = Authority::new("gatehouse-self-signed")?;
        let leaf = authority.issue(&self.on_the_spot(namespace, service))?;
        // The sender may go: receivers keep the last value.
        Ok(watch::channel(load::issued(&leaf)?).1)
    }

    /// What a certificate is made for where nobody has another.
    fn on_the_spot(&self, namespace: &str, service: &str) -> Leaf {
        let address = Some(self.bind_address).filter(|address| !address.is_unspecified());
        Leaf {
            common_name: service.to_owned(),
            organization: None,
            dns_names: vec!["localhost".into(), format!("{service}.{namespace}.svc")],
            ips: address.into_iter().collect(),
            usage: Usage::ServerAuth,
            lifetime: SELF_SIGNED_LIFETIME,
        }
    }
}

impl Authentication {
    /// Whether callers' certificates have an authority of their own.
    pub(crate) fn names_client_ca(&self) -> bool {
        self.client_ca_file.is_some()
    }

    /// Authenticates requests. `review` sends TokenReviews.
    pub(crate) async fn authenticator(
        &self,
        client: kube::Client,
        review: kube::Client,
    ) -> anyhow::Result<Authenticator> {
        let tokens = TokenReviewer::new(review, self.token_timeout);
        Ok(Authenticator::new(self.configs(client).await?, Some(tokens), self.anonymous_auth))
    }

    /// Fails until the front proxy's CA is known, if it is read from the cluster.
    pub(crate) fn readiness_check(&self, authenticator: &Authenticator) -> Option<HealthCheck> {
        let is_looked_up = !self.skip_lookup && self.requestheader_client_ca_file.is_none();
        is_looked_up.then(|| authenticator.readiness_check())
    }

    /// Authorizes requests by SubjectAccessReviews.
    pub(crate) fn authorizer(
        &self,
        review: kube::Client,
        metrics: &Arc<RequestMetrics>,
    ) -> DelegatedAuthorizer {
        DelegatedAuthorizer::new(review, self.authorization_webhook_timeout, Arc::clone(metrics))
    }

    /// The authentication settings, kept up to date.
    async fn configs(
        &self,
        client: kube::Client,
    ) -> anyhow::Result<watch::Receiver<Arc<AuthenticationConfig>>> {
        let files = AuthenticationFiles {
            client_ca_file: self.client_ca_file.clone(),
            requestheader_client_ca_file: self.requestheader_client_ca_file.clone(),
            requestheader_allowed_names: self.requestheader_allowed_names.clone(),
            requestheader_username_headers: self.requestheader_username_headers.clone(),
            requestheader_uid_headers: self.requestheader_uid_headers.clone(),
            requestheader_group_headers: self.requestheader_group_headers.clone(),
            requestheader_extra_headers_prefix: self.requestheader_extra_headers_prefix.clone(),
        };
        let fixed = files.load()?;
        if self.skip_lookup {
            let (publish, configs) = watch::channel(Arc::new(fixed));
            tokio::spawn(files.poll_every(publish, POLL_FILES));
            return Ok(configs);
        }
        let looked_up = tokio::time::timeout(FIRST_LOOKUP, authn::config_map::read(&client)).await;
        let initial = match looked_up {
            Ok(Ok(config)) => fixed.clone().or(config),
            // Not fatal: discovery must be served while the upstream is away, and the lookup goes on.
            Ok(Err(error)) => {
                tracing::warn!(error = %explain(&error), "cannot read the ConfigMap extension-apiserver-authentication yet, retrying");
                fixed.clone()
            }
            Err(_) => {
                tracing::warn!(
                    "cannot read the ConfigMap extension-apiserver-authentication yet, retrying: timed out"
                );
                fixed.clone()
            }
        };
        let (publish, configs) = watch::channel(Arc::new(initial));
        tokio::spawn(authn::config_map::follow(client, fixed, publish));
        Ok(configs)
    }
}

impl LimitArgs {
    /// The limits of the pipeline.
    pub(crate) fn limits(&self) -> Limits {
        Limits { max_requests_in_flight: self.max_requests_inflight, request_timeout: self.request_timeout }
    }
}

/// The built-in kinds and those of `--catalogue-file`.
pub(crate) fn catalogue(files: &[PathBuf]) -> anyhow::Result<Catalogue> {
    let mut catalogue = Catalogue::builtin();
    for file in files {
        catalogue = catalogue.with_file(file).context("--catalogue-file")?;
    }
    Ok(catalogue)
}
