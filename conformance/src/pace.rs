//! How patient to be on this machine.
//!
//! Limits in the trials are written for a quiet machine. A trial waits for an event, and a limit only tells that the
//! event is not going to come: on a slow or busy machine it has to be longer, and one that is too long costs nothing
//! where trials pass. Each start of a control plane measures how slow the machine is.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long etcd and kube-apiserver take to start on two quiet cores, with other trials beside them.
const QUIET_START: Duration = Duration::from_secs(10);

/// Limits are at least so many times as long as written: trials run side by side.
const LEAST: u32 = 4;

/// Beyond this the machine is not slow but stopped.
const MOST: u32 = 40;

/// Percent of a quiet machine's time: the slowest start until now.
static SLOWNESS: AtomicU32 = AtomicU32::new(100);

/// Takes note of how long a control plane took to start.
pub(crate) fn started_within(took: Duration) {
    let percent = took.as_millis() * 100 / QUIET_START.as_millis();
    let percent = u32::try_from(percent).unwrap_or(u32::MAX).clamp(100, MOST * 100);
    SLOWNESS.fetch_max(percent, Ordering::Relaxed);
}

/// How many times longer than on a quiet machine things take, at least once.
pub fn slowness() -> u32 {
    SLOWNESS.load(Ordering::Relaxed).div_ceil(100)
}

/// How long to wait for an event that comes within `quiet` on a quiet machine.
pub fn patience(quiet: Duration) -> Duration {
    quiet * (LEAST * slowness()).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_start_makes_patient_and_a_quick_one_does_not_take_it_back() {
        let second = Duration::from_secs(1);
        assert_eq!(patience(second), second * LEAST);
        started_within(QUIET_START * 3);
        started_within(QUIET_START / 2);
        assert_eq!((slowness(), patience(second)), (3, second * 3 * LEAST));
        started_within(Duration::MAX);
        assert_eq!(patience(second), second * MOST);
    }
}
