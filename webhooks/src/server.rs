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
use gatehouse_serving::health::HealthCheck;
use gatehouse_serving::pipeline::{Callers, Credential};
use gatehouse_serving::serve::ServeError;
use gatehouse_serving::server::{RunningServer, ServerBuilder};
use gatehouse_serving::tasks::{EndError, Tasks};
use tokio::sync::Notify;

use crate::controllers;
use crate::controllers::Counts;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::own_user::OwnUser;
use crate::quota::Quotas;
use crate::review::{Judge, PATHS, Reviews, Room, Verdicts};
use crate::sar::Access;
use crate::world::{Live, World};
use gatehouse_apiservice::registration::{webhook_account, webhooks::COUNTS_NAME};
use gatehouse_installation::certificates::{SelfManaged, Settings};
use gatehouse_installation::lease::Election;
use gatehouse_installation::registration::{Make, Registration};

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
    /// What kube-apiserver must show.
    pub credential: Credential,
    /// The server before it. What is counted of admission is rendered with its metrics.
    pub server: ServerBuilder,
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

/// The webhooks at work.
pub struct Running(RunningServer);

impl Running {
    /// Listens, and starts to observe.
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

        let (world, observation) = World::new(parts.client.clone(), parts.watching);
        background.spawn("observation", observation.run(stop.clone()));
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
            own_user: parts.own_user,
            quotas,
            events,
            metrics,
            room: Room::default(),
            verdicts: Verdicts::default(),
        });
        let callers = Callers { paths: PATHS, credential: parts.credential };
        Ok(Self(server.serve(reviews, callers, checks, background, leases)))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Serves until `end` resolves, then shuts down in order; or until a task exits by itself.
    pub async fn until(self, end: impl Future<Output = ()>) -> Result<(), EndError> {
        self.0.until(end).await
    }
}

/// Ready once reviews can be answered from what is observed.
fn observed(world: World) -> HealthCheck {
    HealthCheck::readiness("informer-sync", move || world.readiness())
}
