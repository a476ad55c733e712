//! The task that takes part in an election and publishes whether this replica leads.

use std::sync::{Arc, Mutex, PoisonError};

use kube::{Api, Client};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    AGAIN, LEASE_DURATION, RENEW_DEADLINE, RENEW_PERIOD, RETRY_PERIOD,
    candidate::{AcquireError, Candidate, ReleaseMode},
    jittered,
};

const TOO_LATE: &str = "could not renew in time";

/// A replica's part in an election; [`Election::run`] is its task.
pub struct Election {
    candidate: Candidate,
    leading: watch::Sender<bool>,
    until: Arc<Mutex<Option<Instant>>>,
}

/// Whether this replica leads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leadership {
    leading: watch::Receiver<bool>,
    until: Arc<Mutex<Option<Instant>>>,
}

impl Leadership {
    /// Whether this replica leads now. Never true later than [`RENEW_DEADLINE`] after the last renewal began, even if
    /// the task that renews is stuck.
    pub fn is_leading(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// A channel that holds whether this replica leads, and reports changes.
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// A leadership that never changes, for processes without an election and for tests.
    pub fn fixed(leads: bool) -> Self {
        let far = std::time::Duration::from_hours(24 * 365 * 30);
        let (sender, leading) = watch::channel(leads);
        // A dropped sender would close the channel, which receivers take for the end of the election.
        std::mem::forget(sender);
        let until = Arc::new(Mutex::new(leads.then(|| Instant::now() + far)));
        Self { leading, until }
    }
}

impl Election {
    /// Takes part in the election by the Lease `namespace`/`name`. `identity` must be unique to this process: two
    /// processes with the same identity would both lead.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> (Self, Leadership) {
        let (sender, leading) = watch::channel(false);
        let until = Arc::default();
        let election = Self {
            candidate: Candidate::new(Api::namespaced(client, namespace), name, identity, LEASE_DURATION),
            leading: sender,
            until: Arc::clone(&until),
        };
        (election, Leadership { leading, until })
    }

    /// Takes part until `stop` is cancelled, then releases the Lease. The leader's work should have ended before.
    pub async fn run(mut self, stop: CancellationToken) {
        if stop.run_until_cancelled(self.renew_until_stopped()).await.is_none() {
            self.step_down("shutting down");
            self.candidate.release(ReleaseMode::Expire).await;
        }
    }

    async fn renew_until_stopped(&mut self) {
        loop {
            let deadline = self.deadline();
            let attempted = tokio::select! {
                attempted = self.candidate.try_acquire_or_renew(|_| true) => Some(attempted),
                // An attempt that hangs must not extend the leadership.
                () = sleep_until_some(deadline) => None,
            };
            let wait = match (&attempted, deadline) {
                (Some(Ok(_)), _) => RENEW_PERIOD,
                // While there is time to renew.
                (_, Some(_)) => AGAIN,
                (_, None) => RETRY_PERIOD,
            };
            match attempted {
                Some(Ok(term)) => self.extend_leadership(term.started),
                Some(Err(AcquireError::HeldByOther)) => self.step_down("another replica holds the Lease"),
                // If this replica leads, it may do so until its deadline: other candidates wait even longer.
                Some(Err(AcquireError::Conflict)) => {
                    tracing::debug!(lease = %self.candidate.name(), "another replica acquired the Lease first");
                }
                Some(Err(AcquireError::Failed(reason))) => {
                    tracing::warn!(lease = %self.candidate.name(), %reason, "cannot renew the Lease");
                }
                None => self.step_down(TOO_LATE),
            }
            tokio::select! {
                () = sleep(jittered(wait)) => {}
                () = sleep_until_some(self.deadline()) => self.step_down(TOO_LATE),
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend_leadership(&self, started: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(started + RENEW_DEADLINE);
        // Whoever follows it is woken only by a change, and not by each renewal.
        if self.leading.send_if_modified(|leading| !std::mem::replace(leading, true)) {
            tracing::info!(lease = %self.candidate.name(), identity = %self.candidate.identity(), "acquired leadership");
        }
    }

    fn step_down(&self, reason: &str) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.leading.send_if_modified(|leading| std::mem::replace(leading, false)) {
            tracing::info!(lease = %self.candidate.name(), identity = %self.candidate.identity(), reason, "lost leadership");
        }
    }
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
