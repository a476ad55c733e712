//! Taking part in an election: one task looks at the Lease, and says whether this replica leads.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Decision, LEASE_DURATION, RENEW_DEADLINE, RETRY_PERIOD, evaluate};
use crate::blank;

/// One request. Two of them, a look and a write, have to fit between two renewals and the deadline.
const REQUEST: Duration = Duration::from_secs(4);
/// For giving the Lease back at the end; without, the next holder waits for it to run out.
const RELEASE: Duration = Duration::from_secs(2);

const TOO_LATE: &str = "could not renew in time";

/// A replica that takes part in an election.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    leading: watch::Sender<bool>,
    until: Arc<Mutex<Option<Instant>>>,
    /// The Lease as it was last seen, and since when it has been so.
    seen: Option<(Lease, Instant)>,
}

/// Whether this replica leads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leadership {
    leading: watch::Receiver<bool>,
    until: Arc<Mutex<Option<Instant>>>,
    /// Of one that is fixed: receivers must not take it for over.
    _fixed: Option<Arc<watch::Sender<bool>>>,
}

impl Leadership {
    /// Whether this replica leads now. Never true longer than [`RENEW_DEADLINE`] after the last renewal began,
    /// even if the task that renews stands still.
    pub fn is_leading(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Tells of every change.
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Somebody who always leads, or never.
    pub fn fixed(leads: bool) -> Self {
        let far = Duration::from_hours(24 * 365 * 30);
        let (sender, leading) = watch::channel(leads);
        let until = Arc::new(Mutex::new(leads.then(|| Instant::now() + far)));
        Self { leading, until, _fixed: Some(Arc::new(sender)) }
    }
}

impl Election {
    /// Takes part in the election by the Lease `namespace`/`name`. `identity` has to be this process's alone: two
    /// with the same would both lead.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> (Self, Leadership) {
        let (sender, leading) = watch::channel(false);
        let until = Arc::default();
        let election = Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            leading: sender,
            until: Arc::clone(&until),
            seen: None,
        };
        (election, Leadership { leading, until, _fixed: None })
    }

    /// Takes part until `stop`, then gives back what is held. What is led should have come to rest before.
    pub async fn run(mut self, stop: CancellationToken) {
        if stop.run_until_cancelled(self.take_part()).await.is_none() {
            self.step_down("shutting down");
            // Whether it worked makes a difference of seconds to others, and none to us.
            if let Ok(Err(error)) = timeout(RELEASE, self.release()).await {
                tracing::debug!(%error, lease = %self.name, "could not be given back");
            }
        }
    }

    async fn take_part(&mut self) {
        loop {
            let deadline = self.deadline();
            let attempted = tokio::select! {
                attempted = self.attempt() => Some(attempted),
                // An attempt that hangs must not keep an office that ran out.
                () = sleep_until_some(deadline) => None,
            };
            match attempted {
                Some(Ok(began)) => self.lead(began),
                Some(Err(Refusal::Held)) => self.step_down("somebody else holds the lease"),
                // Ours until the deadline, for all that others know.
                Some(Err(Refusal::Conflict)) => {
                    tracing::debug!(lease = %self.name, "somebody else was quicker");
                }
                Some(Err(Refusal::Failed(reason))) => {
                    tracing::warn!(lease = %self.name, %reason, "no renewal");
                }
                None => self.step_down(TOO_LATE),
            }
            tokio::select! {
                () = sleep(jittered(RETRY_PERIOD)) => {}
                () = sleep_until_some(self.deadline()) => self.step_down(TOO_LATE),
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the Lease and takes or renews it, if that is in order. Returns when the write began.
    async fn attempt(&mut self) -> Result<Instant, Refusal> {
        let lease = limited(self.api.get_opt(&self.name)).await?;
        let now = Instant::now();
        self.observe(lease, now);
        let (lease, since) = match &self.seen {
            Some((lease, since)) => (Some(lease), *since),
            None => (None, now),
        };
        let spec = lease.map(|lease| lease.spec.clone().unwrap_or_default());
        let decision = evaluate(spec.as_ref(), &self.identity, since, now);
        let mut lease = match (decision, lease) {
            (Decision::Wait(_), _) => return Err(Refusal::Held),
            (Decision::Renew | Decision::Take, Some(lease)) => lease.clone(),
            // It is nobody's then, and taken as any other.
            (_, _) => limited(blank::make(&self.api, &self.name)).await?,
        };
        let is_new = decision != Decision::Renew;
        lease.spec = Some(self.renewed(lease.spec.unwrap_or_default(), is_new));
        // With its resourceVersion: of two that take it, one does.
        let written = limited(self.api.replace(&self.name, &PostParams::default(), &lease)).await?;
        self.observe(Some(written), now);
        Ok(now)
    }

    fn observe(&mut self, lease: Option<Lease>, now: Instant) {
        self.seen = lease.map(|lease| match self.seen.take() {
            Some((known, since)) if known.spec == lease.spec => (lease, since),
            _ => (lease, now),
        });
    }

    fn renewed(&self, before: LeaseSpec, is_new: bool) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let transitions = before.lease_transitions.unwrap_or(0);
        let is_first = before.renew_time.is_none();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: if is_new { Some(now.clone()) } else { before.acquire_time },
            renew_time: Some(now),
            lease_transitions: Some(transitions.saturating_add(i32::from(is_new && !is_first))),
            ..before
        }
    }

    async fn release(&mut self) -> kube::Result<()> {
        let Some((lease, _)) = self.seen.take() else { return Ok(()) };
        let mut lease = lease;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        // What client-go leaves behind, so that its eyes see a lease that is over.
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.api.replace(&self.name, &PostParams::default(), &lease).await.map(drop)
    }

    fn lead(&self, began: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(began + RENEW_DEADLINE);
        if !self.leading.send_replace(true) {
            tracing::info!(lease = %self.name, identity = %self.identity, "leads");
        }
    }

    fn step_down(&self, reason: &str) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.leading.send_replace(false) {
            tracing::info!(lease = %self.name, identity = %self.identity, reason, "leads no more");
        }
    }
}

impl std::fmt::Debug for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Election")
            .field("name", &self.name)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Why an attempt did not make this replica the leader.
enum Refusal {
    /// Somebody else holds the Lease, or was quicker.
    Held,
    /// Somebody else wrote at the same time.
    Conflict,
    /// The API server refused, or could not be reached.
    Failed(String),
}

async fn limited<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
    match timeout(REQUEST, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Refusal::Conflict),
        Ok(Err(error)) => Err(Refusal::Failed(error.to_string())),
        Err(_) => Err(Refusal::Failed(format!("no answer within {} s", REQUEST.as_secs()))),
    }
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// `base`, and up to a fifth more: replicas that started together must not stay in step.
fn jittered(base: Duration) -> Duration {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // Every RandomState hashes nothing to another number.
    let random = RandomState::new().build_hasher().finish() % 1000;
    base + base * u32::try_from(random).unwrap_or(0) / 5000
}
