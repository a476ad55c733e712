//! `gatehouse webhooks`, put together: what observes, what answers, what works in the background, and how all of it
//! ends.
//!
//! Invariants: it listens before anything that a cluster must answer first; ready only once everything that decides is
//! observed; whatever ends by itself ends the process, and its place is taken by a fresh one; the lease is given back
//! last, when nothing acts on it any more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_inventory::source::WatchSettings;
use gatehouse_serving::authn::Authenticator;
use gatehouse_serving::authz::Authorizer;
use gatehouse_serving::health::{Health, HealthCheck};
use gatehouse_serving::metrics::Metrics as RequestMetrics;
use gatehouse_serving::pipeline::{Callers, Credential, Limits, Observers, Pipeline};
use gatehouse_serving::serve::{Certificates, ServeError, Server, Shutdown, ShutdownTiming};
use gatehouse_serving::tasks::{EndError, Tasks};
use rustls::sign::CertifiedKey;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::control;
use crate::control::Counts;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::own_user::OwnUser;
use crate::quota::Quotas;
use crate::review::{Judge, PATHS, Reviews, Room, Verdicts};
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
    /// Connections at a time.
    pub max_connections: usize,
    /// Who writes down what is asked.
    pub observers: Observers,
    /// How long the end takes.
    pub shutdown: ShutdownTiming,
    /// Where to listen.
    pub address: SocketAddr,
    /// The serving certificate.
    pub keys: watch::Receiver<Arc<CertifiedKey>>,
    /// The user that this process is; asked of the cluster, if it is not known.
    pub own_user: OwnUser,
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

/// A server at work.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    shutdown: Arc<Shutdown>,
    serving: Tasks,
    stop: CancellationToken,
    background: Tasks,
    release: CancellationToken,
    lease: Tasks,
}

impl Running {
    /// Listens, and starts to observe.
    pub async fn start(parts: Parts) -> Result<Self, ServeError> {
        let stop = CancellationToken::new();
        let mut background = Tasks::default();
        let mut lease = Tasks::default();
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
            background.spawn("keeping certificates", kept.run(stop.clone()));
        }
        let certificates = Certificates::new(keys, parts.authenticator.configuration());
        parts.metrics.tell_certificates(&certificates);
        let server = Server::bind(parts.address, certificates.clone(), parts.max_connections).await?;
        let address = server.local_addr();
        lease.spawn("the election", election.run(release.clone()));
        let metrics = Arc::new(Metrics::new(parts.metrics.registry()));
        let asking = parts.own_user.clone().find_out(parts.review.clone(), stop.clone());
        background.spawn("finding out who we are", asking);

        let (world, observation) = World::new(parts.client.clone(), parts.watching);
        background.spawn("the observation", observation.run(stop.clone()));
        let (events, outbox) = Events::new(Arc::clone(&metrics), parts.identity.clone());
        background.spawn("telling Events", outbox.run(parts.review.clone(), stop.clone()));

        let live = Live::new(parts.client.clone(), PATIENCE);
        let (counts, interception) =
            Counts::new(parts.client.clone(), world.clone(), leadership.clone(), registered);
        background.spawn("registering what is counted", counts.run(stop.clone()));
        let quotas = Quotas::new(
            world.clone(),
            live.clone(),
            parts.review,
            Arc::clone(&metrics),
            leadership.receiver(),
            interception,
            parts.request_timeout,
        );
        background.spawn("the quotas", quotas.clone().run(stop.clone()));
        let context = control::Context {
            client: parts.client,
            world: world.clone(),
            leadership,
            events: events.clone(),
            metrics: Arc::clone(&metrics),
        };
        background.spawn("the controllers", control::run(context, stop.clone()));

        let shutdown = Shutdown::new(parts.shutdown);
        let checks = [
            shutdown.readiness_check(),
            certificates.readiness_check(),
            parts.own_user.readiness_check(),
            observed(world.clone()),
        ];
        let health = Health::new(checks.into_iter().chain(secret_check));
        let reviews = Reviews::new(Judge {
            world,
            live,
            access: Access::new(Arc::clone(&parts.authorizer)),
            own_user: parts.own_user,
            quotas,
            events,
            metrics,
            room: Room::default(),
            verdicts: Verdicts::default(),
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
        let mut serving = Tasks::default();
        serving.spawn("the server", server.run(pipeline, Arc::clone(&shutdown)));
        tracing::info!(%address, "serving");
        Ok(Self { address, shutdown, serving, stop, background, release, lease })
    }

    /// Serves until `end` resolves, then ends in good order; or until a part fails.
    pub async fn until(mut self, end: impl Future<Output = ()>) -> Result<(), EndError> {
        tokio::select! {
            () = end => {}
            failure = self.serving.failed() => return Err(failure),
            failure = self.background.failed() => return Err(failure),
            failure = self.lease.failed() => return Err(failure),
        }
        // Reviews are answered until the last connection is closed, so what they need goes on until then. Nothing here
        // is watched, so that the rest of the grace need not be waited for.
        let ending = async {
            self.shutdown.run().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = self.serving.end() => ended?,
            () = ending => {}
        }
        self.stop.cancel();
        self.background.end().await?;
        self.release.cancel();
        self.lease.end().await
    }
}

/// Ready once reviews can be answered from what is observed.
fn observed(world: World) -> HealthCheck {
    HealthCheck::readiness("informer-sync", move || world.readiness())
}
