//! Versions without storage: a hybrid logical clock.
//!
//! A version is the time in microseconds since 2026-01-01 with the replica in the low bits. On one
//! replica versions strictly increase, whatever its clock does; between replicas they are comparable as
//! far as the clocks agree, and never equal. They stay below 2^53, which clients that parse them as
//! floating-point numbers need (Headlamp does), until the year 2043.
//!
//! After Kulkarni et al., "Logical Physical Clocks" (2014), with the logical part spilling into the
//! microseconds: a server makes far fewer than a million changes a second.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

/// The low bits that name the replica.
const REPLICA_BITS: u32 = 4;
/// How many replicas can tell their versions apart.
pub const REPLICAS: u8 = 1 << REPLICA_BITS;
/// 2026-01-01T00:00:00Z.
const EPOCH: Duration = Duration::from_hours(490_896);

/// Makes versions. One for each process; shared by every resource.
#[derive(Debug)]
pub struct Clock {
    replica: u64,
    /// The microseconds of the last version made.
    last: AtomicU64,
}

impl Clock {
    /// A clock for the replica with this number, below [`REPLICAS`].
    pub fn new(replica: u8) -> Self {
        Self { replica: u64::from(replica % REPLICAS), last: AtomicU64::new(0) }
    }

    /// A version later than every one this clock has made.
    pub fn next(&self) -> u64 {
        self.next_at(SystemTime::now())
    }

    fn next_at(&self, now: SystemTime) -> u64 {
        // A clock set before the epoch counts as the epoch: versions still increase from the last.
        let since = now.duration_since(SystemTime::UNIX_EPOCH + EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_micros()).unwrap_or(u64::MAX >> REPLICA_BITS);
        let later = |last: u64| Some(now.max(last + 1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).unwrap_or_default();
        (now.max(last + 1) << REPLICA_BITS) | self.replica
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + EPOCH + Duration::from_micros(micros)
    }

    #[test]
    fn versions_increase_when_time_stands_still_and_when_it_goes_back() {
        let clock = Clock::new(3);
        let versions: Vec<_> = [10, 10, 9, 0, 11, 50].map(|micros| clock.next_at(at(micros))).into();
        assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
        assert_eq!(versions[5] >> REPLICA_BITS, 50, "time takes over again once it is ahead");
    }

    #[test]
    fn replicas_never_make_the_same_version() {
        let (a, b) = (Clock::new(0), Clock::new(1));
        assert_ne!(a.next_at(at(7)), b.next_at(at(7)));
    }

    #[test]
    fn versions_are_exact_as_floating_point_numbers_until_2043() {
        let year = 365 * 24 * 3600 * 1_000_000_u64;
        assert!(Clock::new(REPLICAS - 1).next_at(at(17 * year)) < 1 << 53);
    }

    #[test]
    fn a_clock_before_the_epoch_still_makes_increasing_versions() {
        let clock = Clock::new(0);
        assert!(clock.next_at(SystemTime::UNIX_EPOCH) < clock.next_at(SystemTime::UNIX_EPOCH));
    }
}
