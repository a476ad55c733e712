//! A server from its parts to its shutdown. The API server and the webhooks both start from [`ServerBuilder`].
//!
//! **Invariants:** the server listens before any other task starts. On shutdown it answers requests until the last
//! connection is closed, then the background tasks stop, then the tasks that hold Leases release them. If a task exits
//! unexpectedly, the server ends with an error.

use std::{net::SocketAddr, sync::Arc};

use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::{
    authn::Authenticator,
    authz::Authorizer,
    health::{Health, HealthCheck},
    metrics::RequestMetrics,
    pipeline::{Handler, Limits, Observers, Pipeline, WebhookPaths},
    serve::{Certificates, ServeError, Server},
    shutdown::{Shutdown, ShutdownTiming},
    tasks::{EndError, Tasks},
};

/// The parts that every server needs.
pub struct ServerBuilder {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The serving certificate and its key, and later ones.
    pub keys: watch::Receiver<Arc<CertifiedKey>>,
    /// Identifies the user of a request.
    pub authenticator: Authenticator,
    /// Decides whether the user may send the request.
    pub authorizer: Arc<Authorizer>,
    /// The metrics of requests.
    pub metrics: Arc<RequestMetrics>,
    /// How many requests are in flight at a time, and how long each may take.
    pub limits: Limits,
    /// How many connections may be open at a time.
    pub max_connections: usize,
    /// The audit log and traces.
    pub observers: Observers,
    /// How long the parts of the shutdown take.
    pub shutdown: ShutdownTiming,
}

/// A server that listens and does not accept connections yet: clients wait in the backlog of the socket.
pub struct BoundServer {
    server: Server,
    certificates: Certificates,
    authenticator: Authenticator,
    authorizer: Arc<Authorizer>,
    metrics: Arc<RequestMetrics>,
    limits: Limits,
    observers: Observers,
    shutdown: Arc<Shutdown>,
}

/// A server that accepts connections.
pub struct RunningServer {
    address: SocketAddr,
    shutdown: Arc<Shutdown>,
    serving: Tasks,
    background: Tasks,
    leases: Tasks,
}

impl ServerBuilder {
    /// Binds the address and listens on it.
    pub async fn bind(self) -> Result<BoundServer, ServeError> {
        let certificates = Certificates::new(self.keys, self.authenticator.configuration());
        let in_use = certificates.clone();
        self.metrics.register_certificate_expiry(move || in_use.validities());
        let server = Server::bind(self.address, certificates.clone(), self.max_connections).await?;
        Ok(BoundServer {
            server,
            certificates,
            authenticator: self.authenticator,
            authorizer: self.authorizer,
            metrics: self.metrics,
            limits: self.limits,
            observers: self.observers,
            shutdown: Shutdown::new(self.shutdown),
        })
    }
}

impl BoundServer {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Starts to serve. `/readyz` passes while `checks` and the server's own checks pass. `background` and `leases` are
    /// tasks that end after the server, in this order.
    pub fn serve<H: Handler>(
        self,
        handler: H,
        webhook_paths: WebhookPaths,
        checks: impl IntoIterator<Item = HealthCheck>,
        background: Tasks,
        leases: Tasks,
    ) -> RunningServer {
        let own = [self.shutdown.readiness_check(), self.certificates.readiness_check()];
        let address = self.server.local_addr();
        let pipeline = Pipeline::new(
            self.authenticator,
            self.authorizer,
            Health::new(own.into_iter().chain(checks)),
            self.metrics,
            Arc::clone(&self.shutdown),
            self.limits,
            handler,
        );
        let pipeline = Arc::new(pipeline.with_webhook_paths(webhook_paths).with_observers(self.observers));
        let mut serving = Tasks::default();
        serving.spawn("server", self.server.run(pipeline, Arc::clone(&self.shutdown)));
        tracing::info!(%address, "serving");
        RunningServer { address, shutdown: self.shutdown, serving, background, leases }
    }
}

impl RunningServer {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when a task has exited unexpectedly or panicked.
    pub async fn failed(&mut self) -> EndError {
        tokio::select! {
            failure = self.serving.failed() => failure,
            failure = self.background.failed() => failure,
            failure = self.leases.failed() => failure,
        }
    }

    /// Serves until `end` resolves, then shuts down in order. Returns an error if a task exits unexpectedly before
    /// that, or panics.
    pub async fn until(mut self, end: impl Future<Output = ()>) -> Result<(), EndError> {
        tokio::select! {
            () = end => {}
            failure = self.failed() => return Err(failure),
        }
        // When the last connection is closed, the rest of the grace is skipped.
        let shutting_down = async {
            self.shutdown.run().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = self.serving.end() => ended?,
            () = shutting_down => {}
        }
        self.background.end().await?;
        self.leases.end().await
    }
}
