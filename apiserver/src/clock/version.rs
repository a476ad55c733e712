//! The bits of a resourceVersion.
//!
//! `time in 4-µs ticks since 2026 | 4 bits: replica | vouched | settled`. This takes 53 bits until 2043, so
//! that clients which parse versions as floating-point numbers, such as Headlamp, do not confuse them.

use std::time::{Duration, SystemTime};

/// The bits of the replica's number.
const REPLICA_BITS: u32 = 4;
/// The low bits: [`SETTLED`] and [`VOUCHED`].
const FLAG_BITS: u32 = 2;
const SHIFT: u32 = REPLICA_BITS + FLAG_BITS;
/// How many replica numbers there are.
pub const REPLICAS: u8 = 1 << REPLICA_BITS;

/// Set if the version stands for everything up to it, as its replica has it. Not set in the *twin* of such a
/// version, which has the same content and is sent to a client that is catching up and may still lack
/// something before it.
const SETTLED: u64 = 1;
/// Set if the replica had observed everything that happened upstream, as far as it could tell.
const VOUCHED: u64 = 2;

/// 2026-01-01T00:00:00Z.
const EPOCH: Duration = Duration::from_hours(490_896);
/// Microseconds of a tick.
const TICK: u64 = 4;
/// The last tick that fits into a version.
const LAST_TICK: u64 = (1 << (53 - SHIFT)) - 1;

/// The time part of a version: ticks since the beginning of 2026.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub(super) u64);

impl Ticks {
    /// The tick of a time. A time out of range gives the first or the last tick.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH + EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).map_or(LAST_TICK, |micros| LAST_TICK.min(micros / TICK)))
    }

    /// The time part of a version. A number too large for a version gives the last tick.
    pub fn of_version(version: u64) -> Self {
        Self(LAST_TICK.min(version >> SHIFT))
    }

    /// The tick `time` later, or the last one.
    #[must_use]
    pub fn plus(self, time: Duration) -> Self {
        Self(LAST_TICK.min(self.0.saturating_add(ticks(time))))
    }

    /// How long this is after `earlier`.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0) * TICK)
    }

    /// The tick `time` earlier, or the first one.
    #[must_use]
    pub fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(ticks(time)))
    }
}

fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).map_or(u64::MAX, |micros| micros / TICK)
}

/// The settled version of a replica at a tick.
pub(super) fn compose(at: Ticks, replica: u8, vouched: bool) -> u64 {
    let flags = SETTLED | if vouched { VOUCHED } else { 0 };
    (at.0 << SHIFT) | (u64::from(replica % REPLICAS) << FLAG_BITS) | flags
}

/// The number of the replica that made the version.
pub(super) fn replica(version: u64) -> u8 {
    u8::try_from((version >> FLAG_BITS) % u64::from(REPLICAS)).unwrap_or_default()
}

/// The same version without the settled flag: it has the same content and is never used for another.
pub fn twin(version: u64) -> u64 {
    version & !SETTLED
}

/// Whether the replica that made the version had observed everything upstream, as far as it could tell.
pub fn is_vouched(version: u64) -> bool {
    version & VOUCHED != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_exact_as_floating_point_numbers_until_2043() {
        let year = Duration::from_hours(365 * 24);
        let end = SystemTime::UNIX_EPOCH + EPOCH + 17 * year;
        assert!(Ticks::of(end) < Ticks(LAST_TICK));
        assert!(compose(Ticks(LAST_TICK), REPLICAS - 1, true) < 1 << 53);
        assert_eq!(Ticks::of(end + 100 * year), Ticks(LAST_TICK), "and do not overflow then");
    }

    #[test]
    fn a_twin_comes_right_before_its_version_and_after_every_other() {
        for vouched in [false, true] {
            let version = compose(Ticks(7), 3, vouched);
            assert_eq!(twin(version), version - 1);
            assert!(twin(version) > compose(Ticks(6), REPLICAS - 1, true));
            assert_eq!((is_vouched(version), is_vouched(twin(version))), (vouched, vouched));
            assert_eq!(Ticks::of_version(version), Ticks(7));
        }
    }

    #[test]
    fn a_time_before_the_epoch_is_the_epoch() {
        assert_eq!(Ticks::of(SystemTime::UNIX_EPOCH), Ticks(0));
        assert_eq!(Ticks(3).minus(Duration::from_secs(1)), Ticks(0));
    }
}
