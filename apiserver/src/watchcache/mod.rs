//! The watch cache: the rendered rows of one resource, and the changes that lately led there.
//!
//! One writer (the task that owns the inventory) publishes; any number of readers take snapshots, which
//! share structure and cost nothing to hold, or follow the log of changes from a version on. Each change
//! has a version of its own, and no version ever has two contents. The log is bounded by bytes and age:
//! who asks for what has left it is told so (410) and lists again. Nothing is queued per watcher: each
//! keeps a position in the shared log, so a slow one is left behind instead of being waited for.

mod age;
mod catch_up;
mod log;
#[cfg(test)]
mod model;
mod packed;
mod recent;
mod row;
#[cfg(test)]
pub(crate) mod testing;
mod wakes;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use gatehouse_apiservice::Resource;
use gatehouse_inventory::Str;
use imbl::OrdMap;
use tokio::sync::watch;

pub use catch_up::{CatchUp, CatchUpRow, Refused, Resume, Then};
pub use log::{Change, ChangeKind};
pub(crate) use row::object_head;
pub use row::{Cells, Draft, Label, Row, RowKey};

use self::{
    log::Log,
    recent::{Outcome, Recent},
    row::Content,
    wakes::Wakes,
};
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
    wakes: Wakes,
}

#[derive(Debug)]
struct State {
    current: Snapshot,
    log: Log,
    recent: Recent,
    synced: bool,
    /// Where something has changed in this turn of the writer's: a namespace for each change.
    changed: Vec<Str>,
}

impl WatchCache {
    /// A cache without rows, not yet synced.
    pub fn new(resource: &'static Resource, clock: Arc<Clock>) -> Self {
        let state = State {
            current: Snapshot { version: 0, rows: OrdMap::new() },
            log: Log::new(0),
            recent: Recent::new(0, Duration::ZERO),
            synced: false,
            changed: Vec::new(),
        };
        Self { resource, clock, state: RwLock::new(state), wakes: Wakes::new() }
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
            self.write(|state| {
                let now = self.clock.now();
                for (key, content) in batch {
                    state.apply(key, content, &self.clock, now, &mut published);
                }
                state.log.compact(now);
                state.recent.compact(now);
            });
        }
    }

    /// Says that all there is at first has been published: from here on the cache answers.
    pub fn mark_synced(&self) {
        self.write(|state| {
            if !state.synced {
                state.synced = true;
                state.current.version = self.clock.next();
                state.log = Log::new(state.current.version);
                state.recent = Recent::new(state.current.version, self.clock.now());
            }
        });
    }

    /// Says that something may have happened which was not taken in step by step: nobody is told from before what
    /// may have been missed, but those who have been told by this cache alone.
    pub fn gap(&self) {
        self.write(|state| state.recent = Recent::new(self.clock.next(), self.clock.now()));
    }

    /// Tells a later version from here on, though nothing has changed.
    pub fn advance(&self) {
        self.write(|state| {
            if state.synced {
                state.advance(&self.clock);
            }
        });
    }

    /// The same, unless it tells a version later than `version` already; the new one is. Not if that is too far ahead,
    /// see [`Clock::pass`].
    pub fn advance_past(&self, version: u64) -> bool {
        self.write(|state| {
            let is_past = state.current.version >= version;
            if !is_past && self.clock.pass(version) {
                state.advance(&self.clock);
            }
            state.current.version >= version
        })
    }

    /// Whether [`WatchCache::mark_synced`] has been called.
    pub fn is_synced(&self) -> bool {
        self.wakes.latest() != 0
    }

    /// The rows as they are now.
    pub fn snapshot(&self) -> Snapshot {
        self.read(|state| state.current.clone())
    }

    /// The rows as they were at `version`, if that was told here.
    pub fn snapshot_at(&self, version: u64) -> Result<Snapshot, Expired> {
        self.read(|state| {
            if !state.log.has(version) {
                return Err(Expired { asked: version, oldest: state.log.start() });
            }
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

    /// At most `limit` changes that came after `version`, the oldest first, and the version up to which there are no
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

    /// Follows the version of the latest change.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.wakes.follow()
    }

    /// Follows the changes of a namespace, and some others, by a version at or after each.
    pub fn follow_namespace(&self, namespace: &str) -> watch::Receiver<u64> {
        self.wakes.follow_namespace(namespace)
    }

    /// Rows, the bytes they occupy, and the bytes of the log.
    pub fn size(&self) -> (usize, usize, usize) {
        self.read(|state| {
            let rows = &state.current.rows;
            (rows.len(), rows.values().map(|row| row.size()).sum(), state.log.bytes() + state.recent.bytes())
        })
    }

    /// What makes and judges versions.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Changes the state, and lets those who follow know.
    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        let changed = std::mem::take(&mut state.changed);
        let version = Some(state.current.version).filter(|_| state.synced);
        drop(state);
        if let Some(version) = version {
            self.wakes.tell(version, &changed);
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

    fn stamp(&mut self, key: RowKey, version: u64, now: Duration, outcome: Outcome) {
        if self.synced {
            self.recent.stamp(key, version, now, outcome);
        }
    }

    fn apply(
        &mut self,
        key: RowKey,
        content: Option<Content>,
        clock: &Clock,
        now: Duration,
        published: &mut Published,
    ) {
        let previous = self.current.rows.get(&key).cloned();
        let (kind, row) = match (&previous, content) {
            (None, None) => return self.stamp(key, clock.next(), now, Outcome::Gone(None)),
            (Some(row), Some(content)) if row.says(&content) => {
                return self.stamp(key, clock.next(), now, Outcome::Kept);
            }
            (None, Some(content)) => (ChangeKind::Added, Row::new(content, clock.next())),
            (Some(_), Some(content)) => (ChangeKind::Modified, Row::new(content, clock.next())),
            (Some(row), None) => (ChangeKind::Deleted, row.at_version(clock.next())),
        };
        let row = Arc::new(row);
        self.current.version = row.version;
        let (count, made) = match kind {
            ChangeKind::Added => (&mut published.added, Outcome::Added),
            ChangeKind::Modified => (&mut published.modified, Outcome::Kept),
            ChangeKind::Deleted => (&mut published.deleted, Outcome::Gone(Some(Arc::clone(&row)))),
        };
        *count += 1;
        self.stamp(key.clone(), row.version, now, made);
        if kind == ChangeKind::Deleted {
            self.current.rows.remove(&key);
        } else {
            self.current.rows.insert(key, Arc::clone(&row));
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
            snapshot.rows.iter().map(|(key, row)| (key.clone(), row.version)).collect()
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
        assert!(cache.changes_after(early, 10).is_err(), "the past is 410, never silence");
        assert!(cache.resume(early).is_err());
        let version = cache.snapshot().version;
        assert!(
            matches!(cache.changes_after(version, 10), Ok((changes, at)) if changes.is_empty() && at == version)
        );
    }
}
