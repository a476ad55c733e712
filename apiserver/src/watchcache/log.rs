//! The changes of the recent past, oldest first.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Expired, Row};

/// How long a change is kept: longer than a client that lists, loses its watch and backs off needs.
const AGE: Duration = Duration::from_mins(10);
/// How many bytes of rows are kept for the log alone, per resource: at a hundred changes a second, those of two
/// minutes, which is as long as a client may take to come back without having to list again.
const BYTES: usize = 8 << 20;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It says something else.
    Modified,
    /// It is gone.
    Deleted,
}

/// A change of one row. Its version is the row's.
#[derive(Debug)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The row after the change; for a deletion, the last row at the version of its end.
    pub row: Arc<Row>,
    /// The row before the change.
    pub previous: Option<Arc<Row>>,
    /// When.
    pub at: Instant,
}

impl Change {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.previous.as_ref().map_or(0, |row| row.size())
    }
}

/// Changes in the order of their versions.
#[derive(Debug)]
pub(super) struct Log {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Changes after this version are all here.
    start: u64,
}

impl Log {
    /// A log of what comes after `start`.
    pub(super) fn new(start: u64) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, start }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.bytes += change.bytes();
        self.changes.push_back(Arc::new(change));
    }

    /// Lets go of what is too old or too much.
    pub(super) fn compact(&mut self, now: Instant) {
        while let Some(oldest) = self.changes.front()
            && (self.bytes > BYTES || now.duration_since(oldest.at) > AGE)
        {
            self.bytes -= oldest.bytes();
            self.start = oldest.row.version;
            self.changes.pop_front();
        }
        self.changes.make_contiguous();
    }

    /// The changes after `version`.
    pub(super) fn after(&self, version: u64) -> Result<&[Arc<Change>], Expired> {
        if version < self.start {
            return Err(Expired { asked: version, oldest: self.start });
        }
        let (changes, rest) = self.changes.as_slices();
        debug_assert!(rest.is_empty(), "compact() follows every push");
        Ok(&changes[changes.partition_point(|change| change.row.version <= version)..])
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

    fn change(version: u64, at: Instant) -> Change {
        let row = |version| Arc::new(Row::new(Content::new(draft("a", "x", "Ready")), version));
        Change { kind: ChangeKind::Modified, row: row(version), previous: Some(row(version - 1)), at }
    }

    fn versions(log: &Log, after: u64) -> Result<Vec<u64>, Expired> {
        log.after(after).map(|changes| changes.iter().map(|change| change.row.version).collect())
    }

    #[test]
    fn a_log_tells_what_came_after_a_version_and_refuses_what_it_forgot() {
        let start = Instant::now();
        let mut log = Log::new(10);
        for (version, seconds) in [(12, 0), (15, 60), (20, 120)] {
            log.push(change(version, start + Duration::from_secs(seconds)));
        }
        log.compact(start);
        assert_eq!(versions(&log, 10), Ok(vec![12, 15, 20]));
        assert_eq!(versions(&log, 13), Ok(vec![15, 20]));
        assert_eq!(versions(&log, 20), Ok(vec![]));
        assert_eq!(versions(&log, 9), Err(Expired { asked: 9, oldest: 10 }));

        log.compact(start + AGE + Duration::from_secs(1));
        assert_eq!(versions(&log, 12), Ok(vec![15, 20]));
        assert_eq!(versions(&log, 11), Err(Expired { asked: 11, oldest: 12 }));
    }

    #[test]
    fn a_log_is_bounded_by_bytes() {
        let now = Instant::now();
        let mut log = Log::new(0);
        let each = change(2, now).bytes();
        for version in 2..u64::try_from(2 * BYTES / each).unwrap() {
            log.push(change(version, now));
            log.compact(now);
        }
        assert!(log.bytes() <= BYTES);
        assert!(log.after(1).is_err());
    }
}
