//! Stamps: which rows were rendered recently, and when each of them was rendered last. A client that comes
//! from another replica gets these rows, because it may lack them (see [`catch_up`](super::catch_up)).
//!
//! The log contains the changes of this replica, and such a client needs more. A row that was rendered
//! without a change here may have changed meanwhile on another replica, which took in an object's changes one
//! by one, or those of two kinds in another order. A row that was added and deleted within one batch here may
//! have been visible there. Therefore every rendering stamps its row, whether the row changed or not. Stamps
//! do not cover states that this replica never took in one by one, for example when a kind is listed again.
//! Clients cannot resume from before such a *gap*.
//!
//! **Invariant:** only a key's latest stamp counts; stamps are ordered by version and by time.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{Expired, Row, RowKey};

/// As long as the log keeps changes.
const MAX_AGE: Duration = Duration::from_mins(10);
/// The limit of bytes for each resource: enough for some twenty thousand rows.
const MAX_BYTES: usize = 4 << 20;
/// Superseded stamps are removed once there are more of them than of those that count, and more stamps than
/// this in total.
const CLEANUP_THRESHOLD: usize = 1024;

/// Records that a row was rendered.
#[derive(Debug)]
struct Stamp {
    version: u64,
    /// By [`Clock::now`](crate::clock::Clock::now).
    at: Duration,
    key: RowKey,
    /// The last content of a row that was deleted.
    last: Option<Arc<Row>>,
}

/// The latest stamp of a key: the one that counts.
#[derive(Debug, Clone, Copy)]
struct LatestStamp {
    version: u64,
    /// The version at which the row was added; 0 if that was before the oldest stamp.
    added: u64,
}

/// The recent stamps, oldest first.
#[derive(Debug)]
pub(super) struct StampLog {
    stamps: VecDeque<Stamp>,
    latest: HashMap<RowKey, LatestStamp>,
    bytes: usize,
    /// All stamps after this version that count are here.
    start: u64,
    /// The same as a time: all stamps after it that count are here.
    since: Duration,
}

/// The result of rendering a row.
#[derive(Debug, Clone)]
pub(super) enum RenderOutcome {
    Added,
    /// The row existed before; its content may have changed.
    Existing,
    /// There is no such row now. Carries the last row if there was one.
    Absent(Option<Arc<Row>>),
}

/// A row that was rendered recently, at its latest stamp.
#[derive(Debug)]
pub(super) struct StampedRow<'a> {
    pub(super) version: u64,
    pub(super) key: &'a RowKey,
    /// See [`LatestStamp::added`].
    pub(super) added: u64,
    pub(super) last: Option<&'a Arc<Row>>,
}

impl StampLog {
    /// No stamps yet; they will be those after `start`.
    pub(super) fn new(start: u64, now: Duration) -> Self {
        Self { stamps: VecDeque::new(), latest: HashMap::new(), bytes: 0, start, since: now }
    }

    pub(super) fn stamp(&mut self, key: RowKey, version: u64, at: Duration, outcome: RenderOutcome) {
        let known = self.latest.get(&key);
        let (added, last) = match outcome {
            RenderOutcome::Added => (version, None),
            RenderOutcome::Existing => (known.map_or(0, |known| known.added), None),
            RenderOutcome::Absent(last) => (0, last),
        };
        let superseded = self.latest.insert(key.clone(), LatestStamp { version, added });
        if let Some(superseded) = superseded
            && let Ok(at) = self.stamps.binary_search_by_key(&superseded.version, |stamp| stamp.version)
        {
            // The superseded stamp stays in the queue until `compact` removes it, but no longer keeps a row
            // alive.
            self.bytes -= self.stamps[at].bytes();
            self.stamps[at].last = None;
            self.bytes += self.stamps[at].bytes();
        }
        let stamp = Stamp { version, at, key, last };
        self.bytes += stamp.bytes();
        self.stamps.push_back(stamp);
    }

    /// Removes stamps that are too old, or too many for the limit of bytes.
    pub(super) fn compact(&mut self, now: Duration) {
        if self.stamps.len() > CLEANUP_THRESHOLD.max(2 * self.latest.len()) {
            let latest = &self.latest;
            self.stamps.retain(|stamp| is_latest(latest, stamp));
            self.bytes = self.stamps.iter().map(Stamp::bytes).sum();
        }
        let oldest = now.saturating_sub(MAX_AGE);
        while let Some(stamp) = self.stamps.front()
            && (self.bytes > MAX_BYTES || stamp.at < oldest)
        {
            self.bytes -= stamp.bytes();
            if is_latest(&self.latest, stamp) {
                (self.start, self.since) = (stamp.version, stamp.at);
                self.latest.remove(&stamp.key);
            }
            self.stamps.pop_front();
        }
    }

    /// The version after which a client that has everything up to `time` needs all stamps; `None` if they are
    /// no longer complete from that time on.
    pub(super) fn from(&self, time: Duration) -> Option<u64> {
        if time < self.since {
            return None;
        }
        let first = self.stamps.partition_point(|stamp| stamp.at <= time);
        Some(first.checked_sub(1).map_or(self.start, |before| self.stamps[before].version))
    }

    /// The rows rendered after `version`, each at its latest stamp, in the order of versions.
    pub(super) fn after(&self, version: u64) -> Result<impl Iterator<Item = StampedRow<'_>>, Expired> {
        if version < self.start {
            return Err(Expired { asked: version, oldest: self.start });
        }
        let first = self.stamps.partition_point(|stamp| stamp.version <= version);
        Ok(self.stamps.range(first..).filter_map(|stamp| {
            let latest = self.latest.get(&stamp.key).filter(|latest| latest.version == stamp.version)?;
            let Stamp { version, key, last, .. } = stamp;
            Some(StampedRow { version: *version, key, added: latest.added, last: last.as_ref() })
        }))
    }

    /// The oldest version from which [`StampLog::after`] is complete.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn is_latest(latest: &HashMap<RowKey, LatestStamp>, stamp: &Stamp) -> bool {
    latest.get(&stamp.key).is_some_and(|latest| latest.version == stamp.version)
}

impl Stamp {
    fn bytes(&self) -> usize {
        let entry = size_of::<Self>() + size_of::<(RowKey, LatestStamp)>();
        entry + self.last.as_ref().map_or(0, |row| row.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> RowKey {
        RowKey { namespace: "a".into(), name: name.into() }
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn reported(recent: &StampLog, after: u64) -> Option<Vec<(String, u64)>> {
        let stamps = recent.after(after).ok()?;
        Some(stamps.map(|stamp| (stamp.key.name.to_string(), stamp.version)).collect())
    }

    fn stamped(versions: &[(&str, u64, u64)]) -> StampLog {
        let mut recent = StampLog::new(1, at(0));
        for (name, version, second) in versions {
            recent.stamp(key(name), *version, at(*second), RenderOutcome::Existing);
        }
        recent
    }

    #[test]
    fn each_row_is_told_once_at_its_latest_stamp_and_in_order() {
        let recent = stamped(&[("x", 2, 1), ("y", 3, 2), ("x", 4, 3), ("z", 5, 4)]);
        let named = |reported: &[(&str, u64)]| {
            Some(reported.iter().map(|(name, at)| ((*name).into(), *at)).collect())
        };
        assert_eq!(reported(&recent, 1), named(&[("y", 3), ("x", 4), ("z", 5)]));
        assert_eq!(reported(&recent, 3), named(&[("x", 4), ("z", 5)]));
        assert_eq!(reported(&recent, 5), named(&[]));
        assert_eq!(reported(&recent, 0), None, "from before all that is known");
    }

    #[test]
    fn a_time_is_found_even_if_versions_were_ahead_of_it() {
        let recent = stamped(&[("x", 200, 10), ("y", 300, 20), ("z", 400, 20)]);
        assert_eq!(recent.from(at(5)), Some(1));
        assert_eq!(recent.from(at(10)), Some(200));
        assert_eq!(recent.from(at(25)), Some(400));
    }

    #[test]
    fn what_is_too_old_is_forgotten_and_known_to_be() {
        let mut recent = stamped(&[("x", 2, 1), ("y", 3, 2), ("x", 4, 500)]);
        recent.compact(at(602));
        assert_eq!(
            (recent.start(), recent.from(at(1))),
            (1, Some(1)),
            "the stamp that counts is a later one"
        );
        recent.compact(at(603));
        assert_eq!((recent.start(), recent.from(at(1)), recent.from(at(2))), (3, None, Some(3)));
        assert!(reported(&recent, 2).is_none());
    }

    #[test]
    fn rows_made_again_and_again_take_no_room() {
        let mut recent = StampLog::new(1, at(0));
        for version in 2..100_000 {
            recent.stamp(
                key(["x", "y"][usize::from(version % 2 == 0)]),
                version,
                at(1),
                RenderOutcome::Existing,
            );
            recent.compact(at(1));
        }
        assert!(recent.stamps.len() <= CLEANUP_THRESHOLD + 1);
        assert_eq!((recent.start(), reported(&recent, 1).unwrap().len()), (1, 2));
    }

    #[test]
    fn stamps_are_bounded_by_bytes() {
        let mut recent = StampLog::new(1, at(0));
        for version in 2..60_000 {
            recent.stamp(key(&version.to_string()), version, at(1), RenderOutcome::Added);
            recent.compact(at(1));
        }
        assert!(recent.bytes() <= MAX_BYTES);
        assert_eq!(recent.latest.len(), recent.stamps.len());
        assert!(recent.start() > 1 && recent.from(at(0)).is_none());
    }
}
