//! Timeouts that adapt to the speed of the machine.
//!
//! The timeouts in the tests are written for a quiet machine. A test waits for an event, and a timeout only
//! decides that the event will not come. On a slow or busy machine it must be longer; a timeout that is too
//! long costs nothing while tests pass. Each start of a control plane measures how slow the machine is.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long etcd and kube-apiserver take to start on two quiet cores while other tests run.
const QUIET_START: Duration = Duration::from_secs(10);

/// The least factor of timeouts, because tests run side by side.
const LEAST: u32 = 4;

/// The greatest factor: beyond this, the machine is considered stopped.
const MOST: u32 = 40;

/// The slowest start so far, in percent of a quiet machine's time.
static SLOWNESS: AtomicU32 = AtomicU32::new(100);

/// Records how long a control plane took to start.
pub(crate) fn started_within(took: Duration) {
    let percent = took.as_millis() * 100 / QUIET_START.as_millis();
    let percent = u32::try_from(percent).unwrap_or(u32::MAX).clamp(100, MOST * 100);
    SLOWNESS.fetch_max(percent, Ordering::Relaxed);
}

/// How many times longer things take than on a quiet machine, rounded up; at least 1.
pub fn slowness() -> u32 {
    SLOWNESS.load(Ordering::Relaxed).div_ceil(100)
}

/// The timeout for an event that takes up to `quiet` on a quiet machine.
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
