//! One of several replicas leads: whoever holds a Lease.
//!
//! As client-go does it. When the holder's time is over is judged by when *we* saw its last renewal: clocks need not
//! agree, only run equally fast. A holder stops believing in itself well before others may take over, so that
//! there is at most one at any time; work that must never be done twice is fenced by a compare-and-swap all the same.
//!
//! Nothing here knows what is led.

pub(crate) mod candidate;
mod election;
#[cfg(test)]
mod tests;

use std::time::Duration;

use gatehouse_apiservice::client;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use tokio::time::Instant;

pub use self::election::{Election, Leadership};

/// How long a holder that is not heard from is waited for.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A holder that has not renewed for this long leads no more. The difference to [`LEASE_DURATION`] is the time that
/// its last request may have been under way.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// The time between two looks at the Lease.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// What to do about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// There is none: make it.
    Create,
    /// It is ours: renew it.
    Renew,
    /// Nobody holds it, or whoever did is not heard from: take it.
    Take,
    /// Somebody holds it, until then if nothing more is heard.
    Wait(Instant),
}

/// Decides what to do about a Lease. `observed_at`: when we first saw it as it is now, on our own clock.
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

/// What the holder asked for; ours, where it did not say.
fn duration(lease: &LeaseSpec) -> Duration {
    let seconds = lease.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.filter(|seconds| *seconds > 0).map_or(LEASE_DURATION, Duration::from_secs)
}

/// `base`, and up to a fifth more: replicas that started together must not stay in step, and renewals must be in time.
pub(crate) fn jittered(base: Duration) -> Duration {
    client::jittered(base, base / 5)
}
