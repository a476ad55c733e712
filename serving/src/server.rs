//! One server from its parts to its end: what the API server and the webhooks both start from.
//!
//! Invariants: it listens before anything else begins. On the way out requests are answered until the last connection is
//! closed, then the background tasks stop, then the leases are released. A task that exits by itself ends the process.

use std::{net::SocketAddr, sync::Arc};

use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::{
    authn::Authenticator,
    authz::Authorizer,
    health::{Health, HealthCheck},
    metrics::RequestMetrics,
    pipeline::{Callers, Handler, Limits, Observers, Pipeline},
    serve::{Certificates, ServeError, Server},
    shutdown::{Shutdown, ShutdownTiming},
    tasks::{EndError, Tasks},
};

/// What a server is made of, whatever it serves.
pub struct ServerBuilder {
    /// Where to listen.
    pub address: SocketAddr,
    /// The serving certificate.
    pub keys: watch::Receiver<Arc<CertifiedKey>>,
    /// Finds out who sends a request.
    pub authenticator: Authenticator,
    /// Decides who may do what.
    pub authorizer: Arc<Authorizer>,
    /// What is counted of each request.
    pub metrics: Arc<RequestMetrics>,
    /// How many requests are served at a time, and for how long.
    pub limits: Limits,
    /// How many connections are open at a time.
    pub max_connections: usize,
    /// The audit log and traces.
    pub observers: Observers,
    /// How long a shutdown takes.
    pub shutdown: ShutdownTiming,
}

/// A server that listens and does not serve yet: whoever connects waits.
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

/// A server at work.
pub struct RunningServer {
    address: SocketAddr,
    shutdown: Arc<Shutdown>,
    serving: Tasks,
    background: Tasks,
    leases: Tasks,
}

impl ServerBuilder {
    /// Listens.
    pub async fn bind(self) -> Result<BoundServer, ServeError> {
        let certificates = Certificates::new(self.keys, self.authenticator.configuration());
        let in_use = certificates.clone();
        self.metrics.tell_certificates(move || in_use.validities());
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
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Serves. It is ready while `checks` pass, beside those of the server itself. `background` and `leases` are the tasks
    /// that end with it, in this order.
    pub fn serve<H: Handler>(
        self,
        handler: H,
        callers: Callers,
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
        let pipeline = Arc::new(pipeline.with_callers(callers).with_observers(self.observers));
        let mut serving = Tasks::default();
        serving.spawn("server", self.server.run(pipeline, Arc::clone(&self.shutdown)));
        tracing::info!(%address, "serving");
        RunningServer { address, shutdown: self.shutdown, serving, background, leases }
    }
}

impl RunningServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when a task has exited, though nobody asked it to.
    pub async fn failed(&mut self) -> EndError {
        tokio::select! {
            failure = self.serving.failed() => failure,
            failure = self.background.failed() => failure,
            failure = self.leases.failed() => failure,
        }
    }

    /// Serves until `end` resolves, then shuts down in order; or until a task exits by itself.
    pub async fn until(mut self, end: impl Future<Output = ()>) -> Result<(), EndError> {
        tokio::select! {
            () = end => {}
            failure = self.failed() => return Err(failure),
        }
        // When the last connection is closed, the rest of the grace need not be waited for.
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
