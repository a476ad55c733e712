//! The watch cache: the rendered rows of one resource, and the log of their recent changes.
//!
//! The inventory's task is the only writer. Any number of readers take snapshots, which share structure with
//! the cache and are cheap to hold, or follow the log of changes from a version on.
//!
//! **Invariant:** each change has its own version, and no version ever has two contents.
//!
//! **Invariant:** the log is bounded by bytes and age. A reader that asks for a version that has left the log
//! gets [`Expired`] (410) and lists again.
//!
//! **Invariant:** nothing is queued per watcher. Each watcher holds a position in the shared log, so a slow
//! watcher falls out of the log and never blocks the writer.

mod catch_up;
mod change_notifier;
mod instant;
mod log;
#[cfg(test)]
mod model;
mod packed;
mod row;
mod rows;
mod stamp_log;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use gatehouse_apiservice::Resource;
use gatehouse_inventory::Str;
use tokio::sync::watch;

pub use catch_up::{CatchUp, CatchUpRow, CatchUpStep, Resume, ResumeError, ResumeFrom};
pub use log::{Change, ChangeKind};
pub(crate) use row::object_head;
pub use row::{Cells, Draft, Label, Row, RowKey, Selectable};
pub use rows::Rows;

use self::{
    change_notifier::ChangeNotifier,
    log::Log,
    row::Content,
    stamp_log::{RenderOutcome, StampLog},
};
use crate::clock::Clock;

/// Changes applied while the write lock is held once; readers get their turn between two batches.
const BATCH: usize = 256;

/// The rows of a resource at one version.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The version of the latest change, or a later one to which the cache was advanced without a change.
    pub version: u64,
    /// The rows by namespace and name, which is the order of lists.
    pub rows: Rows,
}

/// What a view wants of one row.
#[derive(Debug)]
pub enum Update {
    /// Create the row, or replace its content.
    Apply(Draft),
    /// Delete the row, if there is one.
    Delete(RowKey),
}

/// Whose rows are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Those of the cluster that serves this API.
    Local,
    /// Those of another cluster.
    Remote,
}

/// How many rows a [`WatchCache::publish`] added, modified and deleted. Rows whose content stayed the same
/// are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// Rows that did not exist before.
    pub added: u64,
    /// Rows whose content changed.
    pub modified: u64,
    /// Rows that were removed.
    pub deleted: u64,
}

impl std::ops::AddAssign for Published {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.modified += other.modified;
        self.deleted += other.deleted;
    }
}

/// The requested version is older than the log; a handler answers with 410.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Expired {
    /// The requested version.
    pub asked: u64,
    /// The oldest version from which the changes are still known.
    pub oldest: u64,
}

/// The rows of one resource and their recent changes. See the module.
#[derive(Debug)]
pub struct WatchCache {
    /// The resource whose objects the rows are.
    pub resource: &'static Resource,
    clock: Arc<Clock>,
    state: RwLock<State>,
    notifier: ChangeNotifier,
}

#[derive(Debug)]
struct State {
    current: Snapshot,
    log: Log,
    stamps: StampLog,
    synced: bool,
    /// The namespace of each change since the write lock was taken, for [`ChangeNotifier`].
    changed: Vec<Str>,
}

impl WatchCache {
    /// A cache without rows, not yet synced.
    pub fn new(resource: &'static Resource, clock: Arc<Clock>) -> Self {
        let state = State {
            current: Snapshot { version: 0, rows: Rows::default() },
            log: Log::new(0),
            stamps: StampLog::new(0, Duration::ZERO),
            synced: false,
            changed: Vec::new(),
        };
        Self { resource, clock, state: RwLock::new(state), notifier: ChangeNotifier::new() }
    }

    /// Applies the updates of a view in order. An update that leaves its row's content as it was emits no
    /// event.
    pub fn publish(&self, updates: impl IntoIterator<Item = Update>) -> Published {
        self.publish_from(Origin::Local, updates)
    }

    /// The same for rows of a remote cluster. They leave no stamps: what replicas know of a remote cluster may
    /// differ by more than a window, so whoever sees such rows resumes at the replica that made its version,
    /// and nobody else may hear of them.
    pub fn publish_remote(&self, updates: impl IntoIterator<Item = Update>) -> Published {
        self.publish_from(Origin::Remote, updates)
    }

    fn publish_from(&self, origin: Origin, updates: impl IntoIterator<Item = Update>) -> Published {
        let mut published = Published::default();
        let mut updates = updates.into_iter().map(|update| match update {
            Update::Apply(draft) => (draft.key.clone(), Some(Content::new(draft))),
            Update::Delete(key) => (key, None),
        });
        loop {
            // Rows are packed before the lock is taken, and the lock is released after each batch, so that
            // thousands of changes do not block readers.
            let batch: Vec<_> = updates.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return published;
            }
            self.write(|state| {
                let now = self.clock.now();
                for (key, content) in batch {
                    state.apply(origin, key, content, &self.clock, now, &mut published);
                }
                state.log.compact(now);
                state.stamps.compact(now);
            });
        }
    }

    /// Marks the cache as synced: the initial rows are complete, and requests are answered from now on.
    pub fn mark_synced(&self) {
        self.write(|state| {
            if !state.synced {
                state.synced = true;
                state.current.version = self.clock.next();
                state.log = Log::new(state.current.version);
                state.stamps = StampLog::new(state.current.version, self.clock.now());
            }
        });
    }

    /// Records that this replica may have missed intermediate states, for example because a kind was listed
    /// again. From now on only clients of this very cache can resume from versions before the gap; clients of
    /// other replicas get 410.
    pub fn record_gap(&self) {
        self.write(|state| state.stamps = StampLog::new(self.clock.next(), self.clock.now()));
    }

    /// Moves the cache to a new version although nothing has changed, so that bookmarks stay recent. Does
    /// nothing until the cache is synced.
    pub fn advance(&self) {
        self.write(|state| {
            if state.synced {
                state.advance(&self.clock);
            }
        });
    }

    /// Like [`WatchCache::advance`], unless the cache's version is at or after `version` already. Returns
    /// whether it is in the end: the clock refuses to move too far ahead, see [`Clock::advance_past`].
    pub fn advance_past(&self, version: u64) -> bool {
        self.write(|state| {
            let is_past = state.current.version >= version;
            if !is_past && self.clock.advance_past(version) {
                state.advance(&self.clock);
            }
            state.current.version >= version
        })
    }

    /// Whether [`WatchCache::mark_synced`] has been called.
    pub fn is_synced(&self) -> bool {
        self.notifier.latest() != 0
    }

    /// The current rows, and their version.
    pub fn snapshot(&self) -> Snapshot {
        self.read(|state| state.current.clone())
    }

    /// The rows as they were at `version`, if this cache issued exactly that version and its log reaches back
    /// to it.
    pub fn snapshot_at(&self, version: u64) -> Result<Snapshot, Expired> {
        self.snapshot_at_or(version, false)
    }

    /// The same for a version that was [issued](WatchCache::issue) for a reader, who vouches for that.
    pub(crate) fn snapshot_at_or(&self, version: u64, is_issued: bool) -> Result<Snapshot, Expired> {
        self.read(|state| {
            if !is_issued && !state.log.has(version) {
                return Err(Expired { asked: version, oldest: state.log.start() });
            }
            let mut rows = state.current.rows.clone();
            for change in state.log.after(version)?.iter().rev() {
                match &change.previous {
                    Some(previous) => rows.insert(Arc::clone(previous)),
                    None => rows.remove(change.row.key()),
                }
            }
            Ok(Snapshot { version, rows })
        })
    }

    /// The current rows under a version of their own, for a reader that shows them in another way than before. No other
    /// reader is told of that version. It is later than all changes up to now, and earlier than all that follow, since
    /// nobody writes meanwhile.
    pub(crate) fn issue(&self) -> Snapshot {
        self.read(|state| Snapshot { version: self.clock.next(), rows: state.current.rows.clone() })
    }

    /// At most `limit` changes after `version`, oldest first, and the version up to which there are no
    /// others.
    pub fn changes_after(&self, version: u64, limit: usize) -> Result<(Vec<Arc<Change>>, u64), Expired> {
        self.read(|state| {
            let changes = state.log.after(version)?;
            let first = &changes[..changes.len().min(limit)];
            let is_all = first.len() == changes.len();
            let last = first.last().map_or(version, |change| change.row.version);
            Ok((first.to_vec(), if is_all { state.current.version.max(last) } else { last }))
        })
    }

    /// Subscribes to the version of the latest change; 0 until the cache is synced.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.notifier.follow()
    }

    /// Subscribes to the changes of one namespace: each wakes the receiver with a version at or after its
    /// own. Some changes of other namespaces wake it as well.
    pub fn follow_namespace(&self, namespace: &str) -> watch::Receiver<u64> {
        self.notifier.follow_namespace(namespace)
    }

    /// The number of rows, the bytes they occupy, and the bytes of the log and the stamps.
    pub fn size(&self) -> (usize, usize, usize) {
        self.read(|state| {
            let rows = &state.current.rows;
            (rows.len(), rows.iter().map(|row| row.size()).sum(), state.log.bytes() + state.stamps.bytes())
        })
    }

    /// The clock that makes and judges this cache's versions.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The same, to share.
    pub(crate) fn shared_clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// Changes the state under the write lock, then wakes the subscribers.
    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        let changed = std::mem::take(&mut state.changed);
        let version = Some(state.current.version).filter(|_| state.synced);
        drop(state);
        if let Some(version) = version {
            self.notifier.notify(version, &changed);
        }
        result
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn advance(&mut self, clock: &Clock) {
        self.current.version = clock.next();
        self.log.mark(self.current.version);
    }

    /// Stamps a row of the local cluster.
    fn stamp(
        &mut self,
        origin: Origin,
        key: RowKey,
        version: impl FnOnce() -> u64,
        now: Duration,
        outcome: RenderOutcome,
    ) {
        if self.synced && origin == Origin::Local {
            self.stamps.stamp(key, version(), now, outcome);
        }
    }

    fn apply(
        &mut self,
        origin: Origin,
        key: RowKey,
        content: Option<Content>,
        clock: &Clock,
        now: Duration,
        published: &mut Published,
    ) {
        let previous = self.current.rows.get(&key).cloned();
        let (kind, row) = match (&previous, content) {
            (None, None) => {
                return self.stamp(origin, key, || clock.next(), now, RenderOutcome::Absent(None));
            }
            (Some(row), Some(content)) if row.has_content(&content) => {
                return self.stamp(origin, key, || clock.next(), now, RenderOutcome::Existing);
            }
            (None, Some(content)) => (ChangeKind::Added, Row::new(content, clock.next())),
            (Some(_), Some(content)) => (ChangeKind::Modified, Row::new(content, clock.next())),
            (Some(row), None) => (ChangeKind::Deleted, row.at_version(clock.next())),
        };
        let row = Arc::new(row);
        self.current.version = row.version;
        let (count, outcome) = match kind {
            ChangeKind::Added => (&mut published.added, RenderOutcome::Added),
            ChangeKind::Modified => (&mut published.modified, RenderOutcome::Existing),
            ChangeKind::Deleted => (&mut published.deleted, RenderOutcome::Absent(Some(Arc::clone(&row)))),
        };
        *count += 1;
        self.stamp(origin, key.clone(), || row.version, now, outcome);
        if kind == ChangeKind::Deleted {
            self.current.rows.remove(&key);
        } else {
            self.current.rows.insert(Arc::clone(&row));
        }
        if self.synced {
            self.changed.push(Str::clone(&row.key().namespace));
            self.log.push(Change { kind, row, previous, at: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};

    #[test]
    fn equal_content_is_published_once() {
        let cache = cache();
        cache.mark_synced();
        let first = cache.publish([Update::Apply(draft("a", "x", "Ready"))]);
        let version = cache.snapshot().version;
        let second = cache.publish([Update::Apply(draft("a", "x", "Ready"))]);
        assert_eq!((first.added, second), (1, Published::default()));
        assert_eq!(cache.snapshot().version, version, "a row whose content did not change emits nothing");
    }

    #[test]
    fn deleting_what_is_not_there_says_nothing() {
        let cache = cache();
        cache.mark_synced();
        let key = RowKey { namespace: "a".into(), name: "x".into() };
        assert_eq!(cache.publish([Update::Delete(key)]), Published::default());
    }

    #[test]
    fn an_older_snapshot_is_what_it_was() {
        let cache = cache();
        cache.publish([Update::Apply(draft("a", "x", "Ready")), Update::Apply(draft("a", "y", "Ready"))]);
        cache.mark_synced();
        let before = cache.snapshot();
        let key = |name: &str| RowKey { namespace: "a".into(), name: name.into() };
        cache.publish([
            Update::Apply(draft("a", "x", "Failed")),
            Update::Delete(key("y")),
            Update::Apply(draft("a", "z", "Ready")),
            Update::Apply(draft("a", "x", "Stalled")),
        ]);
        let again = cache.snapshot_at(before.version).unwrap();
        let versions = |snapshot: &Snapshot| -> Vec<_> {
            snapshot.rows.iter().map(|row| (row.key().clone(), row.version)).collect()
        };
        assert_eq!(versions(&again), versions(&before));
        assert_eq!(again.version, before.version);
    }

    #[test]
    fn versions_from_before_the_cache_was_synced_have_expired() {
        let cache = cache();
        cache.publish([Update::Apply(draft("a", "x", "Ready"))]);
        let early = cache.snapshot().version;
        cache.mark_synced();
        assert!(cache.changes_after(early, 10).is_err(), "a forgotten position gets 410, never a gap");
        assert!(cache.resume(early, ResumeFrom::AnyReplica).is_err());
        let version = cache.snapshot().version;
        assert!(
            matches!(cache.changes_after(version, 10), Ok((changes, at)) if changes.is_empty() && at == version)
        );
    }
}
