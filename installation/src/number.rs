//! Gives every replica a number of its own. There is one Lease for each number.
//!
//! The holder of a Lease owns its number until the Lease expires ([`Claim::until`]), and extends that time by renewals.
//! Another replica takes the number only once that time has passed by its own wall clock too, and learns it
//! ([`Claim::after`]).
//!
//! **Invariant:** the times that holders of one number own do not overlap. A value made of a number and a time after
//! [`Claim::after`] and before [`Claim::until`] is therefore unique, even if the replicas' clocks differ.

use std::time::{Duration, SystemTime};

use gatehouse_apiservice::client::random;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::lease::candidate::{AcquireError, Candidate, LeaseTerm, ReleaseMode};
use crate::lease::{RETRY_PERIOD, jittered};

#[cfg(test)]
mod tests;

/// How long a claim lasts. There are more numbers than replicas, so that nobody waits for that of one that was killed.
const DURATION: Duration = Duration::from_secs(45);
/// Between two renewals, before jitter: a third of [`DURATION`], so that one renewal may fail.
const RENEW_PERIOD: Duration = Duration::from_secs(15);

/// A number that this replica owns for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The number.
    pub number: u8,
    /// When the previous claim expired or expires: mostly this replica's own, before it renewed. `None` if the number
    /// was never claimed.
    pub after: Option<SystemTime>,
    /// When this claim expires, by the wall clock.
    pub until: SystemTime,
}

/// Whether a replica has a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimState {
    /// It has none, for this reason.
    Unclaimed(String),
    /// It has this one, or had it, if the claim has expired.
    Claimed(Claim),
}

/// A replica's attempt to get and keep a number; [`ReplicaNumbers::run`] is its task.
pub struct ReplicaNumbers {
    candidates: Vec<Candidate>,
    claim_state: watch::Sender<ClaimState>,
    time: fn() -> SystemTime,
}

impl ClaimState {
    /// Ready while the claim has not expired. The error is the reason for `/readyz`.
    pub fn readiness(&self) -> Result<(), String> {
        match self {
            Self::Unclaimed(reason) => Err(format!("no replica number yet: {reason}")),
            Self::Claimed(claim) if claim.until <= SystemTime::now() => {
                Err(format!("cannot renew the Lease of replica number {}", claim.number))
            }
            Self::Claimed(_) => Ok(()),
        }
    }
}

impl ReplicaNumbers {
    /// Acquires one number of as many as there are `leases` (names). Each number is the index of its Lease. `identity`
    /// must be unique to this process.
    pub fn new(
        client: &Client,
        namespace: &str,
        identity: &str,
        leases: impl IntoIterator<Item = String>,
    ) -> (Self, watch::Receiver<ClaimState>) {
        let candidate = |lease: String| {
            Candidate::new(Api::namespaced(client.clone(), namespace), &lease, identity, DURATION)
        };
        let candidates = leases.into_iter().map(candidate).collect();
        let (claim_state, receiver) = watch::channel(ClaimState::Unclaimed("none was asked for".to_owned()));
        (Self { candidates, claim_state, time: SystemTime::now }, receiver)
    }

    /// Acquires and renews a number until `stop` is cancelled, then releases it. Tasks that use the number should have
    /// ended before.
    pub async fn run(mut self, stop: CancellationToken) {
        if stop.run_until_cancelled(self.hold_a_number()).await.is_none() {
            for candidate in &mut self.candidates {
                candidate.release(ReleaseMode::KeepExpiry).await;
            }
        }
    }

    async fn hold_a_number(&mut self) {
        loop {
            let index = self.acquire().await;
            self.renew_until_lost(index).await;
            tracing::warn!(
                number = index,
                "replica number was taken by another replica, acquiring another one"
            );
        }
    }

    /// Tries one number after the other, from a random one on: replicas that start together should not all try the
    /// same.
    async fn acquire(&mut self) -> usize {
        let count = self.candidates.len();
        let mut index = usize::try_from(random() >> 32).unwrap_or_default() % count;
        let mut taken = 0;
        loop {
            match self.try_acquire_or_renew(index).await {
                Ok(term) => {
                    self.publish(index, term);
                    return index;
                }
                Err(AcquireError::HeldByOther | AcquireError::Conflict) => {
                    index = (index + 1) % count;
                    taken += 1;
                    if taken < count {
                        continue;
                    }
                    self.report_unclaimed(format!("all {count} are taken"));
                }
                // The other Leases would fail for the same reason, each with another name in its message.
                Err(AcquireError::Failed(reason)) => self.report_unclaimed(reason),
            }
            taken = 0;
            sleep(jittered(RETRY_PERIOD)).await;
        }
    }

    /// Renews until another replica has the number. When renewals fail it goes on trying, even past the expiry: if no
    /// other replica has taken the number, keeping it is better than another number.
    async fn renew_until_lost(&mut self, index: usize) {
        loop {
            sleep(jittered(RENEW_PERIOD)).await;
            match self.try_acquire_or_renew(index).await {
                Ok(term) => self.publish(index, term),
                Err(AcquireError::HeldByOther) => return,
                Err(AcquireError::Conflict) => {}
                Err(AcquireError::Failed(reason)) => {
                    tracing::warn!(number = index, %reason, "replica number Lease was not renewed");
                }
            }
        }
    }

    async fn try_acquire_or_renew(&mut self, index: usize) -> Result<LeaseTerm, AcquireError> {
        let time = self.time;
        self.candidates[index].try_acquire_or_renew(|before| before.is_none_or(|until| until <= time())).await
    }

    fn publish(&self, index: usize, term: LeaseTerm) {
        let number = u8::try_from(index).unwrap_or(u8::MAX);
        let claim = Claim { number, after: term.previous_expiry, until: term.expires };
        let before = self.claim_state.send_replace(ClaimState::Claimed(claim));
        if !matches!(before, ClaimState::Claimed(before) if before.number == number) {
            tracing::info!(number, lease = self.candidates[index].name(), "acquired a replica number");
        }
    }

    fn report_unclaimed(&self, reason: String) {
        let unclaimed = ClaimState::Unclaimed(reason);
        let is_news = self.claim_state.send_if_modified(|claim_state| {
            let is_news = matches!(claim_state, ClaimState::Unclaimed(_)) && *claim_state != unclaimed;
            if is_news {
                *claim_state = unclaimed.clone();
            }
            is_news
        });
        if is_news && let ClaimState::Unclaimed(reason) = unclaimed {
            tracing::warn!(%reason, "replica has no number yet");
        }
    }
}
