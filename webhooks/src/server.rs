//! `gatehouse webhooks`, put together: what observes, what answers, what works in the background, and how all of it
//! ends.
//!
//! Invariants: ready only once everything that decides is observed; whatever ends by itself ends the process, and its
//! place is taken by a fresh one; the lease is given back last, when nothing acts on it any more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_apiserver::authn::Authenticator;
use gatehouse_apiserver::authz::Authorizer;
use gatehouse_apiserver::health::{Health, HealthCheck};
use gatehouse_apiserver::metrics::Metrics as RequestMetrics;
use gatehouse_apiserver::pipeline::{Callers, Credential, Limits, Observers, Pipeline};
use gatehouse_apiserver::serve::{
    Certificates, MAX_CONNECTIONS, ServeError, Server, Shutdown, ShutdownTiming,
};
use gatehouse_inventory::source::WatchSettings;
use gatehouse_policy::Accounts;
use rustls::sign::CertifiedKey;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::control;
use crate::control::Counts;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::quota::Quotas;
use crate::review::{Judge, PATHS, Reviews};
use crate::sar::Access;
use crate::world::{Live, World};
use gatehouse_apiservice::registration::{webhook_account, webhooks::COUNTS_NAME};
use gatehouse_keeper::certificates::{SelfManaged, Settings};
use gatehouse_keeper::lease::Election;
use gatehouse_keeper::registration::{Make, Registration};

#[cfg(test)]
mod tests;

/// How long admission waits for a single object that is not observed yet. Half of what is left of the shortest timeout
/// in use, so that there is time to say that it could not be had.
const PATIENCE: Duration = Duration::from_secs(2);
/// The version of [`COUNTS_NAME`], which trusts what the static configurations do.
const COUNTS_VERSION: &str = "admissionregistration.k8s.io/v1";
/// Its kind.
const COUNTS_KIND: &str = "ValidatingWebhookConfiguration";

/// What a server is made of.
pub struct Parts {
    /// Observes, and writes.
    pub client: kube::Client,
    /// Asks within a deadline: it does not retry.
    pub review: kube::Client,
    /// How to observe.
    pub watching: WatchSettings,
    /// Who asks for metrics.
    pub authenticator: Authenticator,
    /// Who may, and who may suspend and resume.
    pub authorizer: Arc<Authorizer>,
    /// What is counted of each request; what is counted of admission is rendered along.
    pub metrics: Arc<RequestMetrics>,
    /// What kube-apiserver must show.
    pub credential: Credential,
    /// How much is taken on.
    pub limits: Limits,
    /// Who writes down what is asked.
    pub observers: Observers,
    /// How long the end takes.
    pub shutdown: ShutdownTiming,
    /// Where to listen.
    pub address: SocketAddr,
    /// The serving certificate.
    pub keys: watch::Receiver<Arc<CertifiedKey>>,
    /// Where Flux runs.
    pub flux_namespace: String,
    /// The user that this process is.
    pub own_user: String,
    /// This replica, among others.
    pub identity: String,
    /// How long kube-apiserver works on a request at most.
    pub request_timeout: Duration,
    /// Where the lease is.
    pub lease_namespace: String,
    /// What the lease is called.
    pub lease_name: String,
    /// The serving certificates that follow, if they are self-managed.
    pub certificates: Option<SelfManagedParts>,
}

/// What certificates of its own are made and trusted by.
pub struct SelfManagedParts {
    /// Where they are kept, and how they are made.
    pub settings: Settings,
    /// The configurations that lead here, for a bundle.
    pub configurations: Make,
}

/// Why a server that was serving is not any more.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// A part of it ended, which none should.
    #[error("{0} ended by itself")]
    Ended(&'static str),
    /// A part of it panicked.
    #[error("a part of the server panicked")]
    Panicked(#[from] JoinError),
}

/// A server at work.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    shutdown: Arc<Shutdown>,
    serving: JoinSet<&'static str>,
    stop: CancellationToken,
    background: JoinSet<&'static str>,
    release: CancellationToken,
    lease: JoinSet<&'static str>,
}

impl Running {
    /// Listens, and starts to observe.
    pub async fn start(parts: Parts) -> Result<Self, ServeError> {
        let stop = CancellationToken::new();
        let mut background = JoinSet::new();
        let mut lease = JoinSet::new();
        let release = CancellationToken::new();
        let (election, leadership) =
            Election::new(parts.review.clone(), &parts.lease_namespace, &parts.lease_name, &parts.identity);

        let registered = Arc::new(Notify::new());
        let mut keys = parts.keys;
        let mut secret_check = None;
        if let Some(SelfManagedParts { settings, configurations }) = parts.certificates {
            let client = parts.review.clone();
            let registration = Registration::new(client.clone(), webhook_account::NAME, configurations)
                .with_follower(COUNTS_VERSION, COUNTS_KIND, COUNTS_NAME, Arc::clone(&registered));
            let first = Arc::clone(&keys.borrow());
            let (kept, served) = SelfManaged::new(
                client,
                settings,
                registration,
                leadership.clone(),
                parts.metrics.registry(),
                first,
            );
            keys = served.keys.clone();
            let check = HealthCheck::readiness("serving-certificate-secret", move || served.readiness());
            secret_check = Some(check);
            spawn(&mut background, "keeping certificates", kept.run(stop.clone()));
        }
        let certificates = Certificates::new(keys, parts.authenticator.configuration());
        parts.metrics.tell_certificates(&certificates);
        let server = Server::bind(parts.address, certificates.clone(), MAX_CONNECTIONS).await?;
        let address = server.local_addr();
        spawn(&mut lease, "the election", election.run(release.clone()));
        let metrics = Arc::new(Metrics::new(parts.metrics.registry()));

        let (world, observation) = World::new(parts.client.clone(), parts.watching);
        spawn(&mut background, "the observation", observation.run(stop.clone()));
        let (events, outbox) = Events::new(Arc::clone(&metrics), parts.identity.clone());
        spawn(&mut background, "telling Events", outbox.run(parts.review.clone(), stop.clone()));

        let live = Live::new(parts.client.clone(), PATIENCE);
        let (counts, interception) =
            Counts::new(parts.client.clone(), world.clone(), leadership.clone(), registered);
        spawn(&mut background, "registering what is counted", counts.run(stop.clone()));
        let quotas = Quotas::new(
            world.clone(),
            live.clone(),
            parts.review,
            Arc::clone(&metrics),
            leadership.receiver(),
            interception,
            parts.request_timeout,
        );
        spawn(&mut background, "the quotas", quotas.clone().run(stop.clone()));
        let accounts = Arc::new(accounts(parts.flux_namespace, &parts.own_user));
        let context = control::Context {
            client: parts.client,
            world: world.clone(),
            leadership,
            events: events.clone(),
            metrics: Arc::clone(&metrics),
            accounts: Arc::clone(&accounts),
        };
        spawn(&mut background, "the controllers", control::run(context, stop.clone()));

        let shutdown = Shutdown::new(parts.shutdown);
        let checks = [shutdown.readiness_check(), certificates.readiness_check(), observed(world.clone())];
        let health = Health::new(checks.into_iter().chain(secret_check));
        let reviews = Reviews::new(Judge {
            world,
            live,
            access: Access::new(Arc::clone(&parts.authorizer)),
            accounts,
            own_user: parts.own_user,
            quotas,
            events,
            metrics,
        });
        let pipeline = Pipeline::new(
            parts.authenticator,
            parts.authorizer,
            health,
            parts.metrics,
            Arc::clone(&shutdown),
            parts.limits,
            reviews,
        );
        let callers = Callers { paths: PATHS, credential: parts.credential };
        let pipeline = Arc::new(pipeline.with_callers(callers).with_observers(parts.observers));
        let mut serving = JoinSet::new();
        spawn(&mut serving, "the server", server.run(pipeline, Arc::clone(&shutdown)));
        tracing::info!(%address, "serving");
        Ok(Self { address, shutdown, serving, stop, background, release, lease })
    }

    /// Serves until `end` resolves, then ends in good order; or until a part fails.
    pub async fn until(mut self, end: impl Future<Output = ()>) -> Result<(), EndError> {
        tokio::select! {
            () = end => {}
            Some(ended) = self.serving.join_next() => return Err(EndError::Ended(ended?)),
            Some(ended) = self.background.join_next() => return Err(EndError::Ended(ended?)),
            Some(ended) = self.lease.join_next() => return Err(EndError::Ended(ended?)),
        }
        // Reviews are answered until the last connection is closed, so what they need goes on until then. Nothing here
        // is watched, so that the rest of the grace need not be waited for.
        let drained = async {
            while let Some(ended) = self.serving.join_next().await {
                ended?;
            }
            Ok::<_, EndError>(())
        };
        let ending = async {
            self.shutdown.run().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            drained = drained => drained?,
            () = ending => {}
        }
        self.stop.cancel();
        while let Some(ended) = self.background.join_next().await {
            ended?;
        }
        self.release.cancel();
        while let Some(ended) = self.lease.join_next().await {
            ended?;
        }
        Ok(())
    }
}

/// Spawns a part of a server, which tells its name when it ends: none should by itself.
pub fn spawn(
    tasks: &mut JoinSet<&'static str>,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        task.await;
        name
    });
}

/// Ready once reviews can be answered from what is observed.
fn observed(world: World) -> HealthCheck {
    HealthCheck::readiness("informer-sync", move || world.readiness())
}

/// The accounts of controllers; ours, if it is a service account at all.
fn accounts(flux_namespace: String, own_user: &str) -> Accounts {
    let own = own_user.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'));
    let accounts = Accounts { flux_namespace, ..Accounts::default() };
    match own {
        Some((namespace, name)) => {
            Accounts { gatehouse: (namespace.to_owned(), name.to_owned()), ..accounts }
        }
        None => accounts,
    }
}
