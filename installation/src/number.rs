//! A number that is this replica's alone, among as many as there are Leases for numbers.
//!
//! Whoever holds the Lease of a number has the number until the Lease says so: renewal by renewal, and no longer if it
//! cannot renew. A number changes hands only when that time is past by its next holder's clock too, and the next holder
//! is told of it ([`Claim::after`]). So whatever is made with a number and a time has no second maker, however clocks
//! differ.

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

/// Between two renewals: a third of what one lasts, so that one may fail.
const RENEW_PERIOD: Duration = Duration::from_secs(5);

/// A number that is ours for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The number.
    pub number: u8,
    /// Whoever had it before (we ourselves, mostly) had it until then.
    pub after: Option<SystemTime>,
    /// It is ours until then.
    pub until: SystemTime,
}

/// How far a replica is with having a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has none, and why.
    Without(String),
    /// It has, or had, one.
    Claimed(Claim),
}

/// A replica that wants a number.
pub struct Numbers {
    candidates: Vec<Candidate>,
    standing: watch::Sender<Standing>,
    time: fn() -> SystemTime,
}

impl Standing {
    /// Ready while a number is held.
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
    /// Takes one of the numbers below the number of `leases`, each by its Lease. `identity` has to be this process's
    /// alone.
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

    /// Has a number until `stop`, then gives it back. What uses it should have come to rest before.
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

    /// Tries one number after the other, beginning anywhere: replicas that start together should not all want the same.
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
                // The others would fail as well, and say so of another Lease each.
                Err(Refusal::Failed(reason)) => self.without(reason),
            }
            taken = 0;
            sleep(jittered(RETRY_PERIOD)).await;
        }
    }

    /// Renews until somebody else has the number. While that fails it may still be ours afterwards, and is worth more than
    /// another.
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
