//! `gatehouse apiserver`: the aggregated API server of the cluster it runs in.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use clap::ValueEnum;
use gatehouse_apiserver::{
    authn::{self, AuthenticationConfig, AuthenticationFiles, Authenticator, TokenReviewer},
    authz::{self, DelegatedAuthorizer},
    clock::REPLICAS,
    engine,
    metrics::Metrics,
    pipeline::Limits,
    serve::ShutdownTiming,
};
use gatehouse_certs::{
    issue::{Authority, Leaf, Usage},
    load,
    reload::CertificateFiles,
};
use gatehouse_inventory::{
    catalogue::Catalogue,
    source::{Streaming, Watch, WatchSettings},
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::server::{EndSignals, Parts, Running};

/// How often files of certificates and CAs are looked at. A kubelet takes about a minute to bring a changed Secret
/// into a volume, so this adds little.
const POLL_FILES: Duration = Duration::from_secs(10);
/// Of a certificate made on the spot. The process does not live that long.
const SELF_SIGNED_LIFETIME: Duration = Duration::from_hours(365 * 24);
/// How long the start waits for the upstream's authentication settings, before it goes on without.
const FIRST_LOOKUP: Duration = Duration::from_secs(5);

/// Serve the views of the cluster as an aggregated API server.
///
/// Needs an APIService that points to it, and an account that may read what it summarises, review tokens and
/// access (system:auth-delegator) and read the ConfigMap extension-apiserver-authentication.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kubeconfig of the cluster to observe. Without it: the account of the pod, else $KUBECONFIG.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig, if not its current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// What the views call the observed cluster.
    #[arg(long, value_name = "NAME", default_value = "local")]
    cluster_name: String,
    /// A file of kinds to observe beyond the built-in ones, or instead of some. May be repeated.
    #[arg(long, value_name = "FILE")]
    catalogue_file: Vec<PathBuf>,
    /// Whether objects are listed by watching (KEP-3157), which costs kube-apiserver less.
    #[arg(long, value_enum, default_value_t = StreamingLists::Auto)]
    streaming_lists: StreamingLists,

    #[command(flatten)]
    serving: Serving,
    #[command(flatten)]
    authentication: Authentication,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Serving")]
struct Serving {
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// The port to serve HTTPS on; 0 for any free one.
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    secure_port: u16,
    /// The serving certificate with its chain, as PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// The key of the serving certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// The number of this replica, from 0 to 15, different for each: no two replicas then make the same
    /// resourceVersion. Without it, one is drawn by chance.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(0..i64::from(REPLICAS)))]
    replica: Option<u8>,
    /// From being asked to end until requests are refused; /readyz says no meanwhile, so that load balancers notice.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    shutdown_delay_duration: Duration,
    /// From refusing requests until those still running are cut.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    shutdown_grace: Duration,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Authentication and authorisation")]
struct Authentication {
    /// Client certificates signed by this CA name their users directly.
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Certificates signed by this CA may name other users by headers. Without it: as the cluster's ConfigMap
    /// extension-apiserver-authentication says.
    #[arg(long, value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// The common names such certificates may have; any, if none is given.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    /// The headers that name the user. Usually X-Remote-User.
    #[arg(long, value_name = "HEADER", value_delimiter = ',')]
    requestheader_username_headers: Vec<String>,
    /// The headers that give the user's uid. Usually X-Remote-Uid.
    #[arg(long, value_name = "HEADER", value_delimiter = ',')]
    requestheader_uid_headers: Vec<String>,
    /// The headers that name the user's groups. Usually X-Remote-Group.
    #[arg(long, value_name = "HEADER", value_delimiter = ',')]
    requestheader_group_headers: Vec<String>,
    /// What the headers of extra facts about the user begin with. Usually X-Remote-Extra-.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    requestheader_extra_headers_prefix: Vec<String>,
    /// Do not read the ConfigMap extension-apiserver-authentication: the flags say all.
    #[arg(long = "authentication-skip-lookup")]
    skip_lookup: bool,
    /// Whether requests without credentials are served, as system:anonymous, as far as the cluster's roles allow.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    anonymous_auth: bool,
    /// How long a review of a token may take. One that takes longer is a refusal.
    #[arg(
        long = "authentication-token-webhook-timeout",
        value_name = "DURATION",
        default_value = "5s",
        value_parser = duration
    )]
    token_timeout: Duration,
    /// How long a review of access may take. One that takes longer is a refusal.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    authorization_webhook_timeout: Duration,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Requests served at a time, watches not counted; more are answered 429. 0 for no limit.
    #[arg(long, value_name = "NUMBER", default_value_t = 400)]
    max_requests_inflight: usize,
    /// How long a request may take, watches excepted, before it is answered 504.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    request_timeout: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StreamingLists {
    /// Where the API server is known to do it well: from 1.34 on.
    Auto,
    /// Always.
    Always,
    /// Never: lists in pages.
    Never,
}

/// A duration as Go's flags take it: `10s`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from(parsed).map_err(|_| "must not be negative".to_owned())
}

/// Serves until it is asked to end.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let catalogue = catalogue(&args.catalogue_file)?;
    let config = upstream(args.kubeconfig, args.context).await?;
    let client = kube::Client::try_from(config.clone()).context("cannot make a client of the kubeconfig")?;
    let review = authz::review_client(config).context("cannot make a client for access reviews")?;
    let authentication = &args.authentication;

    let metrics = Arc::new(Metrics::new(&engine::served_resources()));
    let streaming = match args.streaming_lists {
        StreamingLists::Auto => Streaming::Auto,
        StreamingLists::Always => Streaming::Always,
        StreamingLists::Never => Streaming::Never,
    };
    let settings = WatchSettings { streaming, ..WatchSettings::default() };
    let tokens = TokenReviewer::new(review.clone(), authentication.token_timeout);
    let delegated =
        DelegatedAuthorizer::new(review, authentication.authorization_webhook_timeout, Arc::clone(&metrics));
    let configs = authentication.configs(client.clone()).await?;
    let parts = Parts {
        cluster: args.cluster_name.into(),
        catalogue,
        source: Watch::with_settings(client, settings),
        replica: args.serving.replica.unwrap_or_else(replica),
        authenticator: Authenticator::new(configs, Some(tokens), authentication.anonymous_auth),
        authorizer: Arc::new(delegated.into()),
        metrics,
        limits: Limits {
            max_requests_in_flight: args.limits.max_requests_inflight,
            request_timeout: args.limits.request_timeout,
        },
        shutdown: ShutdownTiming {
            delay: args.serving.shutdown_delay_duration,
            grace: args.serving.shutdown_grace,
        },
        address: (args.serving.bind_address, args.serving.secure_port).into(),
        keys: args.serving.keys()?,
    };
    let signals = EndSignals::listen();
    Running::start(parts).await?.until(signals.received()).await
}

fn catalogue(files: &[PathBuf]) -> anyhow::Result<Catalogue> {
    let mut catalogue = Catalogue::builtin();
    for file in files {
        catalogue = catalogue.with_file(file).context("--catalogue-file")?;
    }
    Ok(catalogue)
}

/// How to reach the observed cluster.
async fn upstream(file: Option<PathBuf>, context: Option<String>) -> anyhow::Result<kube::Config> {
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let config = match &file {
        Some(file) => {
            let kubeconfig =
                Kubeconfig::read_from(file).with_context(|| format!("--kubeconfig {}", file.display()))?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &options).await
        }
        None if options.context.is_some() => kube::Config::from_kubeconfig(&options).await,
        None => {
            return kube::Config::infer()
                .await
                .context("no cluster: not in a pod, and no kubeconfig was found");
        }
    };
    config.context("the kubeconfig cannot be used")
}

/// Numbers the replica where nobody has.
fn replica() -> u8 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's hashers are seeded by the operating system's random numbers.
    let chance = RandomState::new().hash_one(());
    u8::try_from(chance % u64::from(REPLICAS)).unwrap_or_default()
}

impl Serving {
    /// The serving certificate: that of the files, kept up to date; else one made on the spot.
    fn keys(&self) -> anyhow::Result<watch::Receiver<Arc<CertifiedKey>>> {
        if let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_private_key_file) {
            let files = CertificateFiles::open(certificate.clone(), key.clone())?;
            let keys = files.subscribe();
            tokio::spawn(files.poll_every(POLL_FILES));
            return Ok(keys);
        }
        tracing::warn!(
            "no --tls-cert-file: serving with a certificate made on the spot, which nobody can verify"
        );
        let authority = Authority::new("gatehouse-self-signed")?;
        let leaf = authority.issue(&Leaf {
            common_name: "gatehouse-apiserver".into(),
            organization: None,
            dns_names: vec!["localhost".into(), "gatehouse-apiserver.gatehouse-system.svc".into()],
            ips: vec![self.bind_address],
            usage: Usage::ServerAuth,
            lifetime: SELF_SIGNED_LIFETIME,
        })?;
        // The sender may go: receivers keep the last value.
        Ok(watch::channel(load::issued(&leaf)?).1)
    }
}

impl Authentication {
    /// Whom to believe, kept up to date.
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
            tokio::spawn(files.follow(publish, POLL_FILES));
            return Ok(configs);
        }
        let looked_up = tokio::time::timeout(FIRST_LOOKUP, authn::config_map::read(&client)).await;
        let initial = match looked_up {
            Ok(Ok(config)) => fixed.clone().or(config),
            // Not fatal: discovery must be served while the upstream is away, and the lookup goes on.
            Ok(Err(error)) => {
                tracing::warn!(%error, "the cluster's authentication settings are not known yet");
                fixed.clone()
            }
            Err(_) => {
                tracing::warn!("the cluster's authentication settings are not known yet: no answer");
                fixed.clone()
            }
        };
        let (publish, configs) = watch::channel(Arc::new(initial));
        tokio::spawn(authn::config_map::follow(client, fixed, publish));
        Ok(configs)
    }
}
