//! `gatehouse apiserver`: the aggregated API server of the cluster it runs in.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use gatehouse_apiserver::{
    actions::ActionParts,
    clock::{Clock, REPLICAS},
    clusters::{ClusterParts, Origins},
    engine,
    server::{Parts, RbacParts, RemoteClusters, Running},
};
use gatehouse_apiservice::{client::random, registration};
use gatehouse_inventory::{
    catalogue::HISTORY_ENTRIES,
    source::{Watch, WatchSettings},
};
use gatehouse_serving::{metrics::RequestMetrics, review, server::ServerBuilder, upstream};
use http::Uri;
use tokio::sync::watch;

use crate::{
    flags::{self, Authentication, LimitArgs, OriginArgs, Replicas, Serving, Upstream},
    observing::Observing,
    replica::ReplicaTasks,
    signals::EndSignals,
};

/// Versions are vouched for once a second, so half a window must be a few seconds.
const SHORTEST_WINDOW: Duration = Duration::from_secs(4);

/// Serve the views of the cluster as an aggregated API server
///
/// Needs an APIService that points to it, and a service account that may read the observed kinds, create TokenReviews
/// and SubjectAccessReviews (system:auth-delegator) and read the ConfigMap
/// kube-system/extension-apiserver-authentication.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the observed cluster in the views.
    #[arg(long, value_name = "NAME", default_value = "local")]
    cluster_name: String,
    /// Observe remote clusters that run Gatehouse through its views. With `false`, the objects of all clusters are watched.
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    cluster_views: bool,
    /// File with kinds to observe in addition to the built-in ones, or instead of some. May be repeated.
    #[arg(long, value_name = "FILE")]
    catalogue_file: Vec<PathBuf>,
    /// Do not observe Pods. Problems then end at what owns the Pods, and do not tell which container fails and why. Saves
    /// the watch of the kind that has the most objects and changes most often.
    #[arg(long)]
    without_pods: bool,
    /// How many entries of the history of each Flux object fluxhistories show: the newest, and of the others the last good
    /// one and the first failure. Controllers keep five. Each takes about 0.6 KiB.
    #[arg(long, value_name = "NUMBER", default_value_t = HISTORY_ENTRIES, value_parser = clap::value_parser!(u8).range(1..=8))]
    history_entries: u8,
    /// Number of this replica, 0 to 15; must be unique, so that no two replicas create the same resourceVersion.
    /// Default: a number held by a Lease, or a random one outside of a pod if neither --lease-namespace nor
    /// --tls-secret is set.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(0..i64::from(REPLICAS)))]
    replica: Option<u8>,
    /// How far back a watch that continues from another replica repeats events. A replica may lag half of it behind
    /// kube-apiserver and its clock may be off by an eighth. Must be the same for all replicas. A shorter window renews
    /// watches more often; a longer one makes clients list again for longer after a start.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = resume_window)]
    resume_window: Duration,

    /// Serve gotk_resource_info on /metrics/flux: one series per Flux object, with the labels that Flux's
    /// kube-state-metrics configuration uses, so that Flux's dashboards work. Whoever may read that path sees names,
    /// URLs and revisions of all namespaces, and the paths of Receivers. Every replica serves all series: scrape one,
    /// through the Service. Takes about 50 bytes per source.
    #[arg(long)]
    flux_resource_metrics: bool,

    #[command(flatten)]
    actions: ActionArgs,
    #[command(flatten)]
    clusters: OriginArgs,
    #[command(flatten)]
    upstream: Upstream,
    #[command(flatten)]
    replicas: Replicas,
    #[command(flatten)]
    serving: Serving,
    #[command(flatten)]
    authentication: Authentication,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    observing: Observing,
}

/// Flags about what Gatehouse writes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Actions")]
struct ActionArgs {
    /// Serve the subresources that reconcile, suspend and resume Flux objects. The account of this process needs the
    /// rights that `gatehouse manifests actions` prints.
    #[arg(long)]
    enable_actions: bool,
    /// URL of Flux's notification-controller, which gets an event of each action for its Alerts, for example
    /// http://notification-controller.flux-system.svc.cluster.local./
    #[arg(long, value_name = "URL", value_parser = http_url, requires = "enable_actions")]
    events_addr: Option<Uri>,
}

/// How often a remote cluster is asked for a sign of life. The local one is asked twice as often.
const REMOTE_HEARTBEAT: Duration = Duration::from_secs(10);

/// The clusters that the objects of these origins register.
fn clusters(
    (origins, views): (Origins, bool),
    client: &kube::Client,
    server: Uri,
    watching: &WatchSettings,
) -> RemoteClusters<Watch> {
    if origins.is_empty() {
        return RemoteClusters::None;
    }
    let settings = WatchSettings { heartbeat: REMOTE_HEARTBEAT, ..watching.clone() };
    let client = client.clone();
    RemoteClusters::Registered(Box::new(ClusterParts { client, server, origins, views, settings }))
}

/// Parses the URL of a server without TLS, as notification-controller is.
fn http_url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("{error}"))?;
    if url.scheme_str() != Some("http") || url.authority().is_none() {
        return Err("must be a URL that begins with http://".to_owned());
    }
    Ok(url)
}

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let end = EndSignals::listen().received();
    tokio::pin!(end);
    let mut catalogue = flags::catalogue(&args.catalogue_file)?;
    let metrics = Arc::new(RequestMetrics::new(&engine::served_resources()));
    catalogue = catalogue.with_history_entries(args.history_entries);
    if args.without_pods {
        catalogue = catalogue.without_pods();
    }
    if args.flux_resource_metrics {
        catalogue = catalogue.with_flux_texts();
    }
    let observers = args.observing.observers(&metrics, "gatehouse-apiserver")?;
    let config = args.upstream.config().await?;
    let server = config.cluster_url.clone();
    let lag = args.resume_window / 2;
    let client =
        upstream::builder(config.clone(), lag).context("cannot create a client from the kubeconfig")?.build();
    let review = review::client(config).context("cannot create a client for access reviews")?;

    let authenticator = tokio::select! {
        authenticator = args.authentication.authenticator(client.clone(), review.clone()) => authenticator?,
        () = &mut end => return Ok(()),
    };
    let (changes, rbac_changes) = watch::channel(None);
    let authorizer = args.authentication.authorizer(review.clone(), &metrics).with_rbac_changes(rbac_changes);
    let actions = args.actions.enable_actions.then(|| ActionParts {
        client: review.clone(),
        identity: args.replicas.identity(),
        events_address: args.actions.events_addr.clone(),
    });
    let reader = review.clone();
    let mut tasks = ReplicaTasks::new(review, &args.replicas);
    let clock = Arc::new(args.clock());
    if args.is_numbered_by_lease() {
        tasks.number(Arc::clone(&clock));
    }
    let namespace = args.replicas.namespace();
    let mut keys = args.serving.keys(&namespace, registration::NAME)?;
    if let Some(settings) = args.serving.own.settings(&namespace, registration::NAME)? {
        keys = tasks.certificates(&args.replicas.lease(registration::NAME), settings, &keys, &metrics);
    }
    let source = Watch::with_settings(client.clone(), args.upstream.watching().within(lag));
    let parts = Parts {
        cluster: args.cluster_name.into(),
        catalogue,
        flux_series: args.flux_resource_metrics,
        clusters: clusters(
            (args.clusters.origins(), args.cluster_views),
            &client,
            server,
            &args.upstream.watching(),
        ),
        actions,
        checks: tasks.checks.into_iter().chain(args.authentication.readiness_check(&authenticator)).collect(),
        rbac: Some(RbacParts { upstream: source.upstream(), changes }),
        reader: Some(reader),
        source,
        clock,
        server: ServerBuilder {
            address: args.serving.address(),
            keys,
            authenticator,
            authorizer: Arc::new(authorizer.into()),
            metrics,
            limits: args.limits.limits(),
            max_connections: args.limits.max_connections,
            observers: observers.clone(),
            shutdown: args.serving.shutdown(),
        },
        background: tasks.background,
        leases: tasks.leases,
    };
    let ended = Running::start(parts).await?.until(end).await;
    observers.flush().await;
    Ok(ended?)
}

impl Args {
    fn is_numbered_by_lease(&self) -> bool {
        self.replica.is_none() && (self.serving.own.is_on() || self.replicas.known_namespace().is_some())
    }

    fn clock(&self) -> Clock {
        let clock = match self.replica {
            Some(number) => Clock::new(number),
            None if self.is_numbered_by_lease() => Clock::unnumbered(),
            None => Clock::new(replica()),
        };
        clock.with_window(self.resume_window)
    }
}

/// Parses the window. With none, clients would continue while events that they lack are unknown.
fn resume_window(text: &str) -> Result<Duration, String> {
    let window = flags::duration(text)?;
    if window < SHORTEST_WINDOW {
        return Err(format!("must be at least {} s", SHORTEST_WINDOW.as_secs()));
    }
    Ok(window)
}

/// A random number for a replica without one.
fn replica() -> u8 {
    u8::try_from(random() % u64::from(REPLICAS)).unwrap_or_default()
}
