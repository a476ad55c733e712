//! Leader election: the replica that holds a Lease leads.
//!
//! The protocol is that of client-go's `leaderelection`. A candidate measures the holder's lease duration on its own
//! monotonic clock, from the moment when it observed the last renewal: clocks need not agree, only run equally fast.
//!
//! **Invariant:** at most one replica leads at any time, because a holder that cannot renew gives up after
//! [`RENEW_DEADLINE`], and others take over after [`LEASE_DURATION`]. Work that must never be done twice is fenced by a
//! compare-and-swap (`resourceVersion`) as well.
//!
//! The module does not know what the leader does.

pub(crate) mod candidate;
mod election;
#[cfg(test)]
mod tests;

use std::time::Duration;

use gatehouse_apiservice::client;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use tokio::time::Instant;

pub use self::election::{Election, Leadership};

/// How long candidates wait for a holder that no longer renews.
pub const LEASE_DURATION: Duration = Duration::from_secs(24);
/// A holder that has not renewed for this long stops leading. The difference to [`LEASE_DURATION`] covers its last
/// request, which may still be in flight.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(18);
/// The time between two attempts to take the Lease, before jitter.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// The time between two renewals, and after one that failed, before jitter. Of the longest, 9.6 s, a renewal that hangs,
/// 4 s, and the second, 1.2 s, something is left of [`RENEW_DEADLINE`] for another attempt.
const RENEW_PERIOD: Duration = Duration::from_secs(8);
const AGAIN: Duration = Duration::from_secs(1);

/// What a candidate does next about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The Lease does not exist: create it.
    Create,
    /// This candidate holds it: renew it.
    Renew,
    /// It has no holder, or its holder has not renewed for the lease duration: take it.
    Take,
    /// Another candidate holds it, until this time unless it renews.
    Wait(Instant),
}

/// Decides what to do about a Lease. `observed_at` is when this candidate first observed its current spec, by its own
/// monotonic clock.
pub fn evaluate(lease: Option<&LeaseSpec>, identity: &str, observed_at: Instant, now: Instant) -> Decision {
    let Some(lease) = lease else { return Decision::Create };
    match lease.holder_identity.as_deref().unwrap_or_default() {
        "" => Decision::Take,
        holder if holder == identity => Decision::Renew,
        _ => {
            let until = observed_at + duration(lease);
            if now < until { Decision::Wait(until) } else { Decision::Take }
        }
    }
}

/// The `leaseDurationSeconds` of the Lease; [`LEASE_DURATION`] if it has none that is positive.
fn duration(lease: &LeaseSpec) -> Duration {
    let seconds = lease.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.filter(|seconds| *seconds > 0).map_or(LEASE_DURATION, Duration::from_secs)
}

/// `base` plus up to a fifth, at random. Replicas that started together must not stay in step, and a renewal must not
/// come late.
pub(crate) fn jittered(base: Duration) -> Duration {
    client::jittered(base, base / 5)
}
