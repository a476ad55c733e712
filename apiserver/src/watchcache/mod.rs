//! The watch cache: the rendered rows of one resource, and the changes that lately led there.
//!
//! One writer (the task that owns the inventory) publishes; any number of readers take snapshots, which
//! share structure and cost nothing to hold, or follow the log of changes from a version on. Each change
//! has a version of its own, and no version ever has two contents. The log is bounded by bytes and age:
//! who asks for what has left it is told so (410) and lists again. Nothing is queued per watcher: each
//! keeps a position in the shared log, so a slow one is left behind instead of being waited for.

mod age;
mod log;
mod packed;
mod row;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use gatehouse_apiservice::Resource;
use imbl::OrdMap;
use tokio::sync::watch;

pub use log::{Change, ChangeKind};
pub(crate) use row::object_head;
pub use row::{Cells, Draft, Label, Row, RowKey};

use self::{log::Log, row::Content};
use crate::clock::Clock;

/// Changes made between two moments at which readers get their turn.
const BATCH: usize = 256;

/// The rows of a resource at one version.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The version of the latest change in it.
    pub version: u64,
    /// The rows, in the order of lists.
    pub rows: OrdMap<RowKey, Arc<Row>>,
}

/// What a view has to say about a row.
#[derive(Debug)]
pub enum Update {
    /// The row is to say this.
    Apply(Draft),
    /// There is to be no such row.
    Delete(RowKey),
}

/// How many rows an [`WatchCache::publish`] added, changed and removed; the others said the same before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// New rows.
    pub added: u64,
    /// Rows with other content.
    pub modified: u64,
    /// Rows that are gone.
    pub deleted: u64,
}

impl std::ops::AddAssign for Published {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.modified += other.modified;
        self.deleted += other.deleted;
    }
}

/// The version asked for has left the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Expired {
    /// The version asked for.
    pub asked: u64,
    /// The oldest one that changes can still be told from.
    pub oldest: u64,
}

/// The rows of one resource. See the module.
#[derive(Debug)]
pub struct WatchCache {
    /// What the rows are.
    pub resource: &'static Resource,
    clock: Arc<Clock>,
    state: RwLock<State>,
    /// The version of the latest change; 0 until all there is at first has been published.
    version: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    current: Snapshot,
    log: Log,
    synced: bool,
}

impl WatchCache {
    /// A cache without rows, not yet synced.
    pub fn new(resource: &'static Resource, clock: Arc<Clock>) -> Self {
        let version = clock.next();
        let state = State {
            current: Snapshot { version, rows: OrdMap::new() },
            log: Log::new(version),
            synced: false,
        };
        Self { resource, clock, state: RwLock::new(state), version: watch::Sender::new(0) }
    }

    /// Takes over what a view says, in order; what the rows said already is passed over.
    pub fn publish(&self, updates: impl IntoIterator<Item = Update>) -> Published {
        let mut published = Published::default();
        let mut updates = updates.into_iter().map(|update| match update {
            Update::Apply(draft) => (draft.key.clone(), Some(Content::new(draft))),
            Update::Delete(key) => (key, None),
        });
        loop {
            // Packed before the lock is taken, which is let go now and then: thousands of changes do not hold
            // readers up.
            let batch: Vec<_> = updates.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return published;
            }
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for (key, content) in batch {
                state.apply(key, content, &self.clock, &mut published);
            }
            state.log.compact(Instant::now());
            let version = state.current.version;
            let synced = state.synced;
            drop(state);
            if synced {
                self.version.send_replace(version);
            }
        }
    }

    /// Says that all there is at first has been published: from here on the cache answers.
    pub fn mark_synced(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if !state.synced {
            state.synced = true;
            state.log = Log::new(state.current.version);
            self.version.send_replace(state.current.version);
        }
    }

    /// Whether [`WatchCache::mark_synced`] has been called.
    pub fn is_synced(&self) -> bool {
        *self.version.borrow() != 0
    }

    /// The rows as they are now.
    pub fn snapshot(&self) -> Snapshot {
        self.read(|state| state.current.clone())
    }

    /// The rows as they were at `version`, which is not in the future.
    pub fn snapshot_at(&self, version: u64) -> Result<Snapshot, Expired> {
        self.read(|state| {
            let mut rows = state.current.rows.clone();
            for change in state.log.after(version)?.iter().rev() {
                match &change.previous {
                    Some(previous) => rows.insert(change.row.key().clone(), Arc::clone(previous)),
                    None => rows.remove(change.row.key()),
                };
            }
            Ok(Snapshot { version, rows })
        })
    }

    /// At most `limit` changes that came after `version`, the oldest first.
    pub fn changes_after(&self, version: u64, limit: usize) -> Result<Vec<Arc<Change>>, Expired> {
        self.read(|state| {
            let changes = state.log.after(version)?;
            Ok(changes[..changes.len().min(limit)].to_vec())
        })
    }

    /// Follows the version of the latest change.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Rows, the bytes they occupy, and the bytes of the log.
    pub fn size(&self) -> (usize, usize, usize) {
        self.read(|state| {
            let rows = &state.current.rows;
            (rows.len(), rows.values().map(|row| row.size()).sum(), state.log.bytes())
        })
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn apply(&mut self, key: RowKey, content: Option<Content>, clock: &Clock, published: &mut Published) {
        let previous = self.current.rows.get(&key).cloned();
        let (kind, row) = match (&previous, content) {
            (None, None) => return,
            (Some(row), Some(content)) if row.says(&content) => return,
            (None, Some(content)) => (ChangeKind::Added, Row::new(content, clock.next())),
            (Some(_), Some(content)) => (ChangeKind::Modified, Row::new(content, clock.next())),
            (Some(row), None) => (ChangeKind::Deleted, row.at_version(clock.next())),
        };
        let row = Arc::new(row);
        self.current.version = row.version;
        match kind {
            ChangeKind::Added => published.added += 1,
            ChangeKind::Modified => published.modified += 1,
            ChangeKind::Deleted => published.deleted += 1,
        }
        if kind == ChangeKind::Deleted {
            self.current.rows.remove(&key);
        } else {
            self.current.rows.insert(key, Arc::clone(&row));
        }
        if self.synced {
            self.log.push(Change { kind, row, previous, at: Instant::now() });
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
            snapshot.rows.iter().map(|(key, row)| (key.clone(), row.version)).collect()
        };
        assert_eq!(versions(&again), versions(&before));
        assert_eq!(again.version, before.version);
    }

    #[test]
    fn versions_from_before_the_cache_was_synced_have_expired() {
        let cache = cache();
        let early = cache.snapshot().version;
        cache.publish([Update::Apply(draft("a", "x", "Ready"))]);
        cache.mark_synced();
        assert!(cache.changes_after(early, 10).is_err(), "the past is 410, never silence");
        assert_eq!(cache.changes_after(cache.snapshot().version, 10).unwrap().len(), 0);
    }
}
