//! The recent changes of a resource, oldest first, bounded by age and bytes.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{Expired, Row};

/// How long a change is kept: longer than a client needs to list, lose its watch and back off.
const MAX_AGE: Duration = Duration::from_mins(10);
/// How many bytes of rows are kept for the log alone, per resource. At a hundred changes a second they last
/// two minutes, which is how long a client may stay away without having to list again.
const MAX_BYTES: usize = 8 << 20;
/// How many versions without a change are remembered. A client that resumes from a forgotten one catches up,
/// with more events than it needs, or lists again.
const MAX_MARKS: usize = 64;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The row was added.
    Added,
    /// The row's content changed.
    Modified,
    /// The row was deleted.
    Deleted,
}

/// A change of one row. The version of the change is the version of `row`.
#[derive(Debug)]
pub struct Change {
    /// Added, modified or deleted.
    pub kind: ChangeKind,
    /// The row after the change; for a deletion, the last content at the version of the deletion.
    pub row: Arc<Row>,
    /// The row before the change; `None` if it was added.
    pub previous: Option<Arc<Row>>,
    /// The time of the change by [`Clock::now`](crate::clock::Clock::now).
    pub(super) at: Duration,
}

impl Change {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.previous.as_ref().map_or(0, |row| row.size())
    }
}

/// The recent changes in the order of their versions.
#[derive(Debug)]
pub(super) struct Log {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// All changes after this version are here.
    start: u64,
    /// Versions after `start` that clients were given although nothing changed.
    marks: VecDeque<u64>,
}

impl Log {
    /// An empty log of the changes after `start`.
    pub(super) fn new(start: u64) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, start, marks: VecDeque::new() }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.bytes += change.bytes();
        self.changes.push_back(Arc::new(change));
    }

    /// Remembers `version`, which is later than every change, as one that clients may hold.
    pub(super) fn mark(&mut self, version: u64) {
        if self.marks.len() == MAX_MARKS {
            self.marks.pop_front();
        }
        self.marks.push_back(version);
    }

    /// Whether this cache issued exactly this version and still knows all changes after it.
    pub(super) fn has(&self, version: u64) -> bool {
        version == self.start
            || self.changes.binary_search_by_key(&version, |change| change.row.version).is_ok()
            || self.marks.contains(&version)
    }

    /// Removes changes that are too old, or too many for the limit of bytes.
    pub(super) fn compact(&mut self, now: Duration) {
        let oldest_kept = now.saturating_sub(MAX_AGE);
        while let Some(oldest) = self.changes.front()
            && (self.bytes > MAX_BYTES || oldest.at < oldest_kept)
        {
            self.bytes -= oldest.bytes();
            self.start = oldest.row.version;
            self.changes.pop_front();
        }
        let start = self.start;
        self.marks.retain(|mark| *mark > start);
        self.changes.make_contiguous();
    }

    /// The changes after `version`, oldest first.
    pub(super) fn after(&self, version: u64) -> Result<&[Arc<Change>], Expired> {
        if version < self.start {
            return Err(Expired { asked: version, oldest: self.start });
        }
        let (changes, rest) = self.changes.as_slices();
        debug_assert!(rest.is_empty(), "compact() follows every push");
        Ok(&changes[changes.partition_point(|change| change.row.version <= version)..])
    }

    /// The oldest version from which all changes are known.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{row::Content, testing::draft},
        *,
    };

    fn change(version: u64, at: Duration) -> Change {
        let row = |version| Arc::new(Row::new(Content::new(draft("a", "x", "Ready")), version));
        Change { kind: ChangeKind::Modified, row: row(version), previous: Some(row(version - 1)), at }
    }

    fn versions(log: &Log, after: u64) -> Result<Vec<u64>, Expired> {
        log.after(after).map(|changes| changes.iter().map(|change| change.row.version).collect())
    }

    #[test]
    fn a_log_tells_what_came_after_a_version_and_refuses_what_it_forgot() {
        let start = Duration::ZERO;
        let mut log = Log::new(10);
        for (version, seconds) in [(12, 0), (15, 60), (20, 120)] {
            log.push(change(version, start + Duration::from_secs(seconds)));
        }
        log.compact(start);
        assert_eq!(versions(&log, 10), Ok(vec![12, 15, 20]));
        assert_eq!(versions(&log, 13), Ok(vec![15, 20]));
        assert_eq!(versions(&log, 20), Ok(vec![]));
        assert_eq!(versions(&log, 9), Err(Expired { asked: 9, oldest: 10 }));

        log.compact(start + MAX_AGE + Duration::from_secs(1));
        assert_eq!(versions(&log, 12), Ok(vec![15, 20]));
        assert_eq!(versions(&log, 11), Err(Expired { asked: 11, oldest: 12 }));
    }

    #[test]
    fn a_log_knows_the_versions_that_were_told_and_no_others() {
        let mut log = Log::new(10);
        log.push(change(12, Duration::ZERO));
        log.mark(14);
        log.push(change(16, Duration::from_secs(1)));
        assert_eq!((9..18).filter(|version| log.has(*version)).collect::<Vec<_>>(), [10, 12, 14, 16]);
        log.compact(MAX_AGE + Duration::from_millis(500));
        assert_eq!((9..18).filter(|version| log.has(*version)).collect::<Vec<_>>(), [12, 14, 16]);
        for mark in 0..1_000 {
            log.mark(100 + mark);
        }
        assert!(log.marks.len() <= MAX_MARKS && log.has(1_099));
    }

    #[test]
    fn a_log_is_bounded_by_bytes() {
        let now = Duration::ZERO;
        let mut log = Log::new(0);
        let each = change(2, now).bytes();
        for version in 2..u64::try_from(2 * MAX_BYTES / each).unwrap() {
            log.push(change(version, now));
            log.compact(now);
        }
        assert!(log.bytes() <= MAX_BYTES);
        assert!(log.after(1).is_err());
    }
}
