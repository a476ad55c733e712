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

use crate::lease::candidate::{Candidate, Held, Refusal, Trace};
use crate::lease::{RETRY_PERIOD, jittered};

#[cfg(test)]
mod tests;

/// Between two renewals, before jitter: a third of `LEASE_DURATION`, so that one renewal may fail.
const RENEW_PERIOD: Duration = Duration::from_secs(5);

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
pub enum Standing {
    /// It has none, for this reason.
    Without(String),
    /// It has this one, or had it, if the claim has expired.
    Claimed(Claim),
}

/// A replica's attempt to get and keep a number; [`Numbers::run`] is its task.
pub struct Numbers {
    candidates: Vec<Candidate>,
    standing: watch::Sender<Standing>,
    time: fn() -> SystemTime,
}

impl Standing {
    /// Ready while the claim has not expired. The error is the reason for `/readyz`.
    pub fn readiness(&self) -> Result<(), String> {
        match self {
            Self::Without(reason) => Err(format!("no replica number yet: {reason}")),
            Self::Claimed(claim) if claim.until <= SystemTime::now() => {
                Err(format!("cannot renew the Lease of replica number {}", claim.number))
            }
            Self::Claimed(_) => Ok(()),
        }
    }
}

impl Numbers {
    /// Acquires one number of as many as there are `leases` (names). Each number is the index of its Lease. `identity`
    /// must be unique to this process.
    pub fn new(
        client: &Client,
        namespace: &str,
        identity: &str,
        leases: impl IntoIterator<Item = String>,
    ) -> (Self, watch::Receiver<Standing>) {
        let candidate =
            |lease: String| Candidate::new(Api::namespaced(client.clone(), namespace), &lease, identity);
        let candidates = leases.into_iter().map(candidate).collect();
        let (standing, receiver) = watch::channel(Standing::Without("none was asked for".to_owned()));
        (Self { candidates, standing, time: SystemTime::now }, receiver)
    }

    /// Acquires and renews a number until `stop` is cancelled, then releases it. Tasks that use the number should have
    /// ended before.
    pub async fn run(mut self, stop: CancellationToken) {
        if stop.run_until_cancelled(self.hold()).await.is_none() {
            for candidate in &mut self.candidates {
                candidate.release(Trace::Kept).await;
            }
        }
    }

    async fn hold(&mut self) {
        loop {
            let index = self.claim().await;
            self.keep(index).await;
            tracing::warn!(
                number = index,
                "replica number was taken by another replica, acquiring another one"
            );
        }
    }

    /// Tries one number after the other, from a random one on: replicas that start together should not all try the
    /// same.
    async fn claim(&mut self) -> usize {
        let count = self.candidates.len();
        let mut index = usize::try_from(random() >> 32).unwrap_or_default() % count;
        let mut taken = 0;
        loop {
            match self.attempt(index).await {
                Ok(held) => {
                    self.publish(index, held);
                    return index;
                }
                Err(Refusal::Held | Refusal::Conflict) => {
                    index = (index + 1) % count;
                    taken += 1;
                    if taken < count {
                        continue;
                    }
                    self.without(format!("all {count} are taken"));
                }
                // The other Leases would fail for the same reason, each with another name in its message.
                Err(Refusal::Failed(reason)) => self.without(reason),
            }
            taken = 0;
            sleep(jittered(RETRY_PERIOD)).await;
        }
    }

    /// Renews until another replica has the number. When renewals fail it goes on trying, even past the expiry: if no
    /// other replica has taken the number, keeping it is better than another number.
    async fn keep(&mut self, index: usize) {
        loop {
            sleep(jittered(RENEW_PERIOD)).await;
            match self.attempt(index).await {
                Ok(held) => self.publish(index, held),
                Err(Refusal::Held) => return,
                Err(Refusal::Conflict) => {}
                Err(Refusal::Failed(reason)) => {
                    tracing::warn!(number = index, %reason, "replica number Lease was not renewed");
                }
            }
        }
    }

    async fn attempt(&mut self, index: usize) -> Result<Held, Refusal> {
        let time = self.time;
        self.candidates[index].attempt(|before| before.is_none_or(|until| until <= time())).await
    }

    fn publish(&self, index: usize, held: Held) {
        let number = u8::try_from(index).unwrap_or(u8::MAX);
        let claim = Claim { number, after: held.before, until: held.until };
        let before = self.standing.send_replace(Standing::Claimed(claim));
        if !matches!(before, Standing::Claimed(before) if before.number == number) {
            tracing::info!(number, lease = self.candidates[index].name(), "acquired a replica number");
        }
    }

    fn without(&self, reason: String) {
        let told = Standing::Without(reason);
        let is_news = self.standing.send_if_modified(|standing| {
            let is_news = matches!(standing, Standing::Without(_)) && *standing != told;
            if is_news {
                *standing = told.clone();
            }
            is_news
        });
        if is_news && let Standing::Without(reason) = told {
            tracing::warn!(%reason, "replica has no number yet");
        }
    }
}
