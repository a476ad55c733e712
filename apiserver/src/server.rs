//! The API server, put together: a source into the inventory, views out of it, and the server before them.

use std::{net::SocketAddr, sync::Arc};

use gatehouse_inventory::{ClusterId, Interner, Inventory, Sink, Source, Str, catalogue::Catalogue};
use gatehouse_serving::{
    health::HealthCheck,
    pipeline::Callers,
    serve::ServeError,
    server::{RunningServer, ServerBuilder},
    tasks::{EndError, Tasks},
};
use tokio::sync::mpsc;

use crate::{
    clock::Clock,
    endpoints::Endpoints,
    engine::{self, Lag},
    metrics::ViewMetrics,
    views::{FluxSeries, Views},
    watchcache::WatchCache,
};

/// Events on their way to the inventory. A source that is ahead waits.
const EVENTS: usize = 4096;

/// What an API server is made of.
pub struct Parts<S> {
    /// What the cluster is called in rows.
    pub cluster: Str,
    /// The kinds that are observed.
    pub catalogue: Catalogue,
    /// Whether `/metrics/flux` is served.
    pub flux_series: bool,
    /// Where objects come from.
    pub source: S,
    /// Makes the versions. The replica's number may come later.
    pub clock: Arc<Clock>,
    /// What else has to be well for it to be ready.
    pub checks: Vec<HealthCheck>,
    /// The server before it.
    pub server: ServerBuilder,
    /// Tasks that end when nothing is served any more.
    pub background: Tasks,
    /// The leases that are released last.
    pub leases: Tasks,
}

/// An API server at work.
pub struct Running {
    caches: Vec<Arc<WatchCache>>,
    server: RunningServer,
}

impl Running {
    /// Listens, and starts to observe. Discovery is answered from here on.
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
        let (lag, upstream_lag) = Lag::new();
        let engine = engine::run(inventory, views, clock, events, Arc::clone(&metrics), lag, stop);
        background.spawn("inventory", engine);

        let endpoints = Endpoints::new(caches.clone(), metrics).with_flux_series(flux_series);
        let checks = [synced_check(caches.clone()), upstream_lag].into_iter().chain(checks);
        let server = server.serve(endpoints, Callers::default(), checks, background, leases);
        Ok(Self { caches, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Waits until every resource answers, unless a task exits before.
    pub async fn synced(&mut self) -> Result<(), EndError> {
        let synced = async {
            for cache in &self.caches {
                // The sender lives in the cache, so waiting ends only with the version.
                let _ = cache.follow().wait_for(|version| *version > 0).await;
            }
        };
        tokio::select! {
            () = synced => Ok(()),
            failure = self.server.failed() => Err(failure),
        }
    }

    /// Serves until `end` resolves, then shuts down in order; or until a task exits by itself.
    pub async fn until(self, end: impl Future<Output = ()>) -> Result<(), EndError> {
        self.server.until(end).await
    }
}

/// Ready once every view has rows to show; until then the resources answer 503 one by one.
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
