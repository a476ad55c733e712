//! What every way of serving has in common: sources into the inventory, views out of it, and the server
//! before them.

use std::{net::SocketAddr, sync::Arc};

use gatehouse_apiserver::{
    clock::Clock,
    endpoints::Endpoints,
    engine::{self, Lag},
    views::Views,
    watchcache::WatchCache,
};
use gatehouse_inventory::{ClusterId, Interner, Inventory, Sink, Source, Str, catalogue::Catalogue};
use gatehouse_serving::{
    authn::Authenticator,
    authz::Authorizer,
    health::{Health, HealthCheck},
    metrics::Metrics,
    pipeline::{Limits, Observers, Pipeline},
    serve::{Certificates, Server, Shutdown, ShutdownTiming},
    tasks::{EndError, Tasks},
};
use rustls::sign::CertifiedKey;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

/// Events on their way to the inventory. A source that is ahead waits.
const EVENTS: usize = 4096;

/// What is different from one way of serving to another.
pub(crate) struct Parts<S> {
    pub(crate) cluster: Str,
    pub(crate) catalogue: Catalogue,
    pub(crate) source: S,
    /// Tells the replica's number, if not now then soon.
    pub(crate) clock: Arc<Clock>,
    /// What else has to be well for it to be ready.
    pub(crate) checks: Vec<HealthCheck>,
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    pub(crate) max_connections: usize,
    pub(crate) observers: Observers,
    pub(crate) shutdown: ShutdownTiming,
    pub(crate) address: SocketAddr,
    pub(crate) keys: watch::Receiver<Arc<CertifiedKey>>,
}

/// A server with all that it serves from.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    caches: Vec<Arc<WatchCache>>,
    shutdown: Arc<Shutdown>,
    stop: CancellationToken,
    tasks: Tasks,
}

impl Running {
    /// Listens, and starts to observe. Discovery is answered from here on.
    pub(crate) async fn start<S: Source>(parts: Parts<S>) -> anyhow::Result<Self> {
        let certificates = Certificates::new(parts.keys, parts.authenticator.configuration());
        parts.metrics.tell_certificates(&certificates);
        let server = Server::bind(parts.address, certificates.clone(), parts.max_connections).await?;
        let address = server.local_addr();
        let stop = CancellationToken::new();
        let mut tasks = Tasks::default();

        let (sender, events) = mpsc::channel(EVENTS);
        let (catalogue, interner) = (Arc::new(parts.catalogue), Arc::new(Interner::default()));
        let views = Views::new(&parts.clock, &interner);
        let caches = views.caches();
        let now = jiff::Timestamp::now().as_second();
        let inventory = Inventory::new(Arc::clone(&catalogue), [parts.cluster], now);
        let sink = Sink::new(catalogue, interner, ClusterId(0), sender);
        let source = parts.source.run(sink, stop.clone());
        tasks.spawn("the source", source);
        let (lag, upstream_lag) = Lag::new();
        let engine =
            engine::run(inventory, views, parts.clock, events, Arc::clone(&parts.metrics), lag, stop.clone());
        tasks.spawn("the inventory", engine);

        let shutdown = Shutdown::new(parts.shutdown);
        let checks = [
            shutdown.readiness_check(),
            certificates.readiness_check(),
            synced_check(caches.clone()),
            upstream_lag,
        ];
        let health = Health::new(checks.into_iter().chain(parts.checks));
        let endpoints = Endpoints::new(caches.clone(), Arc::clone(&parts.metrics));
        let pipeline = Pipeline::new(
            parts.authenticator,
            parts.authorizer,
            health,
            parts.metrics,
            Arc::clone(&shutdown),
            parts.limits,
            endpoints,
        );
        let pipeline = Arc::new(pipeline.with_observers(parts.observers));
        let serving = server.run(pipeline, Arc::clone(&shutdown));
        tasks.spawn("the server", serving);
        tracing::info!(%address, "serving");
        Ok(Self { address, caches, shutdown, stop, tasks })
    }

    /// Waits until every resource answers, unless a part fails before.
    pub(crate) async fn synced(&mut self) -> Result<(), EndError> {
        let synced = async {
            for cache in &self.caches {
                // The sender lives in the cache, so waiting ends only with the version.
                let _ = cache.follow().wait_for(|version| *version > 0).await;
            }
        };
        tokio::select! {
            () = synced => Ok(()),
            failure = self.tasks.failed() => Err(failure),
        }
    }

    /// Serves until `end` resolves, then ends in good order; or until a part fails.
    pub(crate) async fn until(mut self, end: impl Future<Output = ()>) -> Result<(), EndError> {
        tokio::select! {
            () = end => {}
            failure = self.tasks.failed() => return Err(failure),
        }
        self.shutdown.run().await;
        self.stop.cancel();
        self.tasks.end().await
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

/// What asks the process to end. From being made on, the signals no longer end it by themselves.
pub(crate) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// Begins to listen. Made before anything that others take as a sign that the process is up.
    pub(crate) fn listen() -> Self {
        Self { terminate: listen(SignalKind::terminate()), interrupt: listen(SignalKind::interrupt()) }
    }

    /// Resolves at the first SIGTERM or SIGINT; a second one ends the process at once.
    pub(crate) async fn received(mut self) {
        self.next().await;
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!("a second signal: ending at once");
            std::process::exit(130);
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Receives a signal instead of being ended by it.
pub(crate) fn listen(kind: SignalKind) -> Signal {
    signal(kind).expect("the runtime drives signals, and these can be caught")
}
