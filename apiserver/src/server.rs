//! Assembles the API server: a source feeds the inventory, the views render rows from it, and the HTTP server
//! serves them.

use std::{net::SocketAddr, sync::Arc};

use gatehouse_inventory::{
    ClusterId, Event, Interner, Inventory, LOCAL, Registration, Sink, Source, Str, catalogue::Catalogue,
    source::Upstream,
};
use gatehouse_serving::{
    authz::Access,
    health::HealthCheck,
    pipeline::WebhookPaths,
    serve::ServeError,
    server::{RunningServer, ServerBuilder},
    tasks::{EndError, Tasks},
};
use tokio::sync::{mpsc, watch};

use crate::{
    actions::{ActionParts, Actions, Observed, Seen},
    callers::{self, Callers, Limits},
    clock::Clock,
    clusters::{ClusterParts, Registrar, Registry, access::ClusterAccess},
    endpoints::Endpoints,
    engine::{self, LagReporter},
    fit::Existing,
    metrics::ViewMetrics,
    tree,
    views::{FluxSeries, Views},
    watchcache::WatchCache,
};

/// The capacity of the channel of events from the source to the inventory. A source that is ahead waits.
const EVENTS: usize = 4096;

/// The parts of an API server.
pub struct Parts<S> {
    /// The name of the cluster in rows.
    pub cluster: Str,
    /// The observed kinds.
    pub catalogue: Catalogue,
    /// Whether `/metrics/flux` is served.
    pub flux_series: bool,
    /// Other clusters, whose rows are shown as well.
    pub clusters: RemoteClusters<S>,
    /// What actions need; `None`: Gatehouse writes nothing.
    pub actions: Option<ActionParts>,
    /// Observes the cluster's objects.
    pub source: S,
    /// The cluster whose RBAC tells which namespaces a user may see, beside the authorizer of the server. `None` where
    /// that allows everything to everybody whom it knows.
    pub rbac: Option<RbacParts>,
    /// Reads objects of the cluster for users who may read them. `None` where there is no cluster.
    pub reader: Option<kube::Client>,
    /// Makes the resourceVersions. Its replica number may be granted later.
    pub clock: Arc<Clock>,
    /// Readiness checks in addition to those of the views and of the upstream.
    pub checks: Vec<HealthCheck>,
    /// The HTTP server.
    pub server: ServerBuilder,
    /// Tasks that end after the last request has been served.
    pub background: Tasks,
    /// Tasks that hold Leases; they end, and release them, last.
    pub leases: Tasks,
}

/// What observes RBAC.
pub struct RbacParts {
    /// The cluster.
    pub upstream: Upstream,
    /// Learns how many changes were observed; `None` while they are not observed.
    pub changes: watch::Sender<Option<u64>>,
}

/// Other clusters.
pub enum RemoteClusters<S> {
    /// There are none.
    None,
    /// Those that Secrets register.
    Registered(Box<ClusterParts>),
    /// These, and no others.
    Fixed(Vec<(Registration, S)>),
}

/// An API server that runs.
pub struct Running {
    caches: Vec<Arc<WatchCache>>,
    server: RunningServer,
}

impl Running {
    /// Listens, and starts to observe. Discovery is served at once, each resource as soon as its view has
    /// synced.
    pub async fn start<S: Source>(parts: Parts<S>) -> Result<Self, ServeError> {
        let Parts {
            cluster,
            catalogue,
            flux_series,
            clusters,
            actions,
            source,
            rbac,
            reader,
            clock,
            checks,
            server,
            mut background,
            leases,
        } = parts;
        let authorizer = Arc::clone(&server.authorizer);
        let metrics = Arc::new(ViewMetrics::new(Arc::clone(&server.metrics)));
        let server = server.bind().await?;

        let (sender, events) = mpsc::channel(EVENTS);
        let (catalogue, interner) = (Arc::new(catalogue), Arc::new(Interner::default()));
        let flux_series = flux_series.then(|| Arc::new(FluxSeries::new(&catalogue)));
        let (trees, questions) = tree::channel();
        let observed = actions.is_some().then(Arc::<Observed>::default);
        let views = Views::new(&clock, &interner)
            .with_flux_series(flux_series.clone())
            .with_trees(questions)
            .with_observed(observed.clone());
        let caches = views.caches();
        let now = jiff::Timestamp::now().as_second();
        let inventory = Inventory::new(Arc::clone(&catalogue), [Str::clone(&cluster)], now);
        let registry = Arc::new(Registry::new(Str::clone(&cluster)));
        let shared = (Arc::clone(&catalogue), Arc::clone(&interner));
        let registry = match clusters {
            RemoteClusters::None => None,
            RemoteClusters::Registered(parts) => {
                let (stop, lag) = (background.stop(), clock.window() / 2);
                let registrar = Registrar::new(*parts, Arc::clone(&registry), shared, sender.clone(), lag);
                background.spawn("clusters", registrar.run(stop));
                Some(registry)
            }
            RemoteClusters::Fixed(clusters) => {
                registry.fix(clusters.iter().map(|(registration, _)| registration.name.clone()).collect());
                for (id, (registration, source)) in (LOCAL.0 + 1..).map(ClusterId).zip(clusters) {
                    // Before its own events, and before the local cluster's.
                    let _ = sender.send((id, Event::Registered(Box::new(registration)))).await;
                    let sink = Sink::new(Arc::clone(&catalogue), Arc::clone(&interner), id, sender.clone());
                    background.spawn("source of a remote cluster", source.run(sink, background.stop()));
                }
                Some(registry)
            }
        };
        let sink = Sink::new(Arc::clone(&catalogue), interner, LOCAL, sender);
        let stop = background.stop();
        background.spawn("source", source.run(sink, stop.clone()));
        let (lag, upstream_lag) = LagReporter::new();
        let lag = lag.with_registry(registry.clone());
        let engine = engine::run(inventory, views, clock, events, Arc::clone(&metrics), lag, stop);
        background.spawn("inventory", engine);

        let own = caches.iter().find(|cache| cache.resource.plural == callers::RESOURCE);
        let own = Arc::clone(own.expect("it is one of the resources"));
        let access = Access::new(Arc::clone(&authorizer));
        let (rbac, changes) = rbac.map(|rbac| (rbac.upstream, rbac.changes)).unzip();
        let callers = Callers::new(access, own, changes, Limits::default(), &metrics);
        if let Some(upstream) = rbac {
            let stop = background.stop();
            background.spawn("rbac", Arc::clone(&callers).run(upstream, stop));
        }
        let existing =
            reader.map(|client| Existing::new(client, Arc::clone(&authorizer), Str::clone(&cluster)));
        let actions = actions.zip(observed).map(|(parts, observed)| {
            let rows = caches.iter().find(|cache| cache.resource.plural == "fluxresources");
            let seen = Seen {
                cluster,
                remotes: registry.clone(),
                catalogue,
                observed,
                rows: Arc::clone(rows.expect("it is one of the resources")),
            };
            Actions::start(parts, seen, authorizer, &metrics, &mut background)
        });
        let endpoints = Endpoints::new(caches.clone(), metrics)
            .with_flux_series(flux_series)
            .with_trees(trees)
            .with_existing(existing)
            .with_clusters(registry.map(ClusterAccess::new))
            .with_callers(callers)
            .with_actions(actions);
        let checks = [synced_check(caches.clone()), upstream_lag].into_iter().chain(checks);
        let server = server.serve(endpoints, WebhookPaths::default(), checks, background, leases);
        Ok(Self { caches, server })
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Waits until every resource is served, or until a task exits, which is an error.
    pub async fn synced(&mut self) -> Result<(), EndError> {
        let synced = async {
            for cache in &self.caches {
                // The sender lives in the cache, so the wait ends only with a version.
                let _ = cache.follow().wait_for(|version| *version > 0).await;
            }
        };
        tokio::select! {
            () = synced => Ok(()),
            failure = self.server.failed() => Err(failure),
        }
    }

    /// Serves until `end` resolves, then shuts down in order. Returns an error if a task exits unexpectedly.
    pub async fn until(self, end: impl Future<Output = ()>) -> Result<(), EndError> {
        self.server.until(end).await
    }
}

/// Fails until every view has synced. Meanwhile each resource whose view has not synced answers with 503.
fn synced_check(caches: Vec<Arc<WatchCache>>) -> HealthCheck {
    HealthCheck::readiness("informer-sync", move || {
        let missing: Vec<_> = caches.iter().filter(|cache| !cache.is_synced()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(|cache| cache.resource.plural).collect();
        Err(format!("not synced yet: {}", names.join(", ")))
    })
}
