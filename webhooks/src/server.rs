//! The server of `gatehouse webhooks`: its observation, reviews, background tasks and shutdown.
//!
//! **Invariants:** the server listens before anything that needs an answer of the cluster. It is ready only after all
//! that decisions depend on is observed. If a task exits unexpectedly, the process ends, and Kubernetes restarts it.
//! The Lease is released last, when no task depends on it any more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_inventory::source::WatchSettings;
use gatehouse_serving::authz::Access;
use gatehouse_serving::events::{EventRecorder, Reporter};
use gatehouse_serving::health::HealthCheck;
use gatehouse_serving::pipeline::{Credential, WebhookPaths};
use gatehouse_serving::serve::ServeError;
use gatehouse_serving::server::{RunningServer, ServerBuilder};
use gatehouse_serving::tasks::{EndError, Tasks};
use tokio::sync::Notify;

use crate::controllers;
use crate::controllers::Counts;
use crate::metrics::Metrics;
use crate::own_user::OwnUser;
use crate::quota::Quotas;
use crate::review::{Judge, PATHS, ReviewMemory, Reviews, Verdicts};
use crate::tenant_metrics::TenantMetrics;
use crate::world::{Live, World};
use gatehouse_apiservice::registration::{webhook_account, webhooks::COUNTS_NAME};
use gatehouse_installation::certificates::{SelfManaged, Settings};
use gatehouse_installation::lease::Election;
use gatehouse_installation::registration::{BuildObjects, Registration};

#[cfg(test)]
mod tests;

/// How long a review waits for an object that is not observed yet. Half of what remains of the shortest webhook timeout
/// in use, so that there is time to answer that the object is unavailable.
const PATIENCE: Duration = Duration::from_secs(2);
/// The API version of the configuration [`COUNTS_NAME`], whose caBundle follows that of the static configurations.
const COUNTS_VERSION: &str = "admissionregistration.k8s.io/v1";
/// Its kind.
const COUNTS_KIND: &str = "ValidatingWebhookConfiguration";

/// How decisions become Events. The queue holds some seconds of denials at full speed; the limits of a namespace are
/// those of client-go's spam filter.
pub(crate) fn reporter(instance: &str) -> Reporter {
    Reporter {
        controller: "gatehouse.dev/webhooks",
        instance: instance.to_owned(),
        queue: 512,
        burst: 25.0,
        refill: Duration::from_secs(10),
    }
}

/// The parts of a server.
pub struct Parts {
    /// The client for watches and writes.
    pub client: kube::Client,
    /// The client for requests with a deadline; it does not retry.
    pub review: kube::Client,
    /// The settings of watches.
    pub watching: WatchSettings,
    /// The credential that kube-apiserver must present.
    pub credential: Credential,
    /// The HTTP server. Metrics of admission are registered with its metrics.
    pub server: ServerBuilder,
    /// The user of this process. If it is unknown, the cluster is asked.
    pub own_user: OwnUser,
    /// The name of this replica.
    pub identity: String,
    /// The longest time that kube-apiserver works on a request.
    pub request_timeout: Duration,
    /// The namespace of the Lease.
    pub lease_namespace: String,
    /// The name of the Lease.
    pub lease_name: String,
    /// The self-managed serving certificates, if there are any.
    pub certificates: Option<SelfManagedParts>,
}

/// Self-managed serving certificates and their registration.
pub struct SelfManagedParts {
    /// Where the certificates are stored, and how they are issued.
    pub settings: Settings,
    /// Makes the webhook configurations for a CA bundle.
    pub configurations: BuildObjects,
}

/// A running server.
pub struct Running(RunningServer);

impl Running {
    /// Listens, and starts the observation and the background tasks.
    pub async fn start(parts: Parts) -> Result<Self, ServeError> {
        let mut server = parts.server;
        let request_metrics = Arc::clone(&server.metrics);
        let authorizer = Arc::clone(&server.authorizer);
        let mut background = Tasks::default();
        let mut leases = Tasks::default();
        let stop = background.stop();
        let (election, leadership) =
            Election::new(parts.review.clone(), &parts.lease_namespace, &parts.lease_name, &parts.identity);

        let registered = Arc::new(Notify::new());
        let mut secret_check = None;
        if let Some(SelfManagedParts { settings, configurations }) = parts.certificates {
            let client = parts.review.clone();
            let registration = Registration::new(client.clone(), webhook_account::NAME, configurations)
                .with_follower(COUNTS_VERSION, COUNTS_KIND, COUNTS_NAME, Arc::clone(&registered));
            let first = Arc::clone(&server.keys.borrow());
            let (kept, secret) = SelfManaged::new(
                client,
                settings,
                registration,
                leadership.clone(),
                request_metrics.registry(),
                first,
            );
            server.keys = secret.keys.clone();
            let check = HealthCheck::readiness("serving-certificate-secret", move || secret.readiness());
            secret_check = Some(check);
            background.spawn("keeping certificates", kept.run(stop.clone()));
        }
        let server = server.bind().await?;
        leases.spawn("election", election.run(leases.stop()));
        let metrics = Arc::new(Metrics::new(request_metrics.registry()));
        let asking = parts.own_user.clone().find_out(parts.review.clone(), stop.clone());
        background.spawn("finding out who we are", asking);

        let (world, observation) = World::new(parts.client.clone(), parts.watching, &parts.lease_namespace);
        background.spawn("observation", observation.run(stop.clone()));
        let of_tenants = Box::new(TenantMetrics::new(world.clone()));
        request_metrics.registry().register(of_tenants).expect("no other metrics have these names");
        let (events, broadcaster) = EventRecorder::new(metrics.events(), reporter(&parts.identity));
        background.spawn("sending Events", broadcaster.run(parts.review.clone(), stop.clone()));

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
        background.spawn("quotas", quotas.clone().run(stop.clone()));
        let context = controllers::Context {
            client: parts.client,
            world: world.clone(),
            leadership,
            events: events.clone(),
            metrics: Arc::clone(&metrics),
        };
        background.spawn("controllers", controllers::run(context, stop.clone()));

        let checks =
            [parts.own_user.readiness_check(), observed(world.clone())].into_iter().chain(secret_check);
        let reviews = Reviews::new(Judge {
            world,
            live,
            access: Access::new(authorizer),
            namespace: parts.lease_namespace,
            own_user: parts.own_user,
            quotas,
            events,
            metrics,
            room: ReviewMemory::default(),
            verdicts: Verdicts::default(),
        });
        let webhook_paths = WebhookPaths { paths: PATHS, credential: parts.credential };
        Ok(Self(server.serve(reviews, webhook_paths, checks, background, leases)))
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Serves until `end` resolves, then shuts down gracefully; or until a task exits unexpectedly.
    pub async fn until(self, end: impl Future<Output = ()>) -> Result<(), EndError> {
        self.0.until(end).await
    }
}

/// A check that succeeds once reviews can be decided from the observed state.
fn observed(world: World) -> HealthCheck {
    HealthCheck::readiness("informer-sync", move || world.readiness())
}
