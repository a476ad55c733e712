//! Assembles the API server: a source feeds the inventory, the views render rows from it, and the HTTP server
//! serves them.

use std::{net::SocketAddr, sync::Arc};

use gatehouse_inventory::{ClusterId, Interner, Inventory, Sink, Source, Str, catalogue::Catalogue};
use gatehouse_serving::{
    health::HealthCheck,
    pipeline::WebhookPaths,
    serve::ServeError,
    server::{RunningServer, ServerBuilder},
    tasks::{EndError, Tasks},
};
use tokio::sync::mpsc;

use crate::{
    clock::Clock,
    endpoints::Endpoints,
    engine::{self, LagReporter},
    metrics::ViewMetrics,
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
    /// Observes the cluster's objects.
    pub source: S,
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

/// An API server that runs.
pub struct Running {
    caches: Vec<Arc<WatchCache>>,
    server: RunningServer,
}

impl Running {
    /// Listens, and starts to observe. Discovery is served at once, each resource as soon as its view has
    /// synced.
    pub async fn start<S: Source>(parts: Parts<S>) -> Result<Self, ServeError> {
        let Parts { cluster, catalogue, flux_series, source, clock, checks, server, mut background, leases } =
            parts;
        let metrics = Arc::new(ViewMetrics::new(Arc::clone(&server.metrics)));
        let server = server.bind().await?;

        let (sender, events) = mpsc::channel(EVENTS);
        let (catalogue, interner) = (Arc::new(catalogue), Arc::new(Interner::default()));
        let flux_series = flux_series.then(|| Arc::new(FluxSeries::new(&catalogue)));
        let views = Views::new(&clock, &interner).with_flux_series(flux_series.clone());
        let caches = views.caches();
        let now = jiff::Timestamp::now().as_second();
        let inventory = Inventory::new(Arc::clone(&catalogue), [cluster], now);
        let sink = Sink::new(catalogue, interner, ClusterId(0), sender);
        let stop = background.stop();
        background.spawn("source", source.run(sink, stop.clone()));
        let (lag, upstream_lag) = LagReporter::new();
        let engine = engine::run(inventory, views, clock, events, Arc::clone(&metrics), lag, stop);
        background.spawn("inventory", engine);

        let endpoints = Endpoints::new(caches.clone(), metrics).with_flux_series(flux_series);
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
