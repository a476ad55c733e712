//! Feeds: watches with the same selection and representation share the work for each change.
//!
//! Of the watches of a [`Feed`], the first that reads further evaluates the selectors for the new changes and
//! encodes their events; the others take the encoded bytes. All feeds of a resource share the encoded events,
//! so that a change is encoded once per representation, however many selections it matches.
//!
//! **Invariant:** a feed is only a cache. It holds the events of two seconds, and is bounded by bytes. A
//! watch that is further behind reads the log itself, with the same result, until it has caught up.
//!
//! **Invariant:** watches never wait for each other. A slow watch shares less of the work, until it falls out
//! of the log.

mod encoded_events;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;

use self::encoded_events::{EncodedEvents, Key};
use super::{
    encode::{Encoder, now},
    select::{EventType, Selection},
};
use crate::{
    callers::Visible,
    options::IncludeObject,
    watchcache::{CatchUpRow, Change, ChangeKind, Expired, RowKey, WatchCache},
};
use gatehouse_serving::negotiate::Representation;

/// Changes read per step, after which a watch checks its deadline again.
pub(super) const BATCH: usize = 512;
/// Bytes per chunk of a response.
pub(super) const CHUNK: usize = 64 << 10;
/// How long a feed keeps an event. Watches whose clients read come within milliseconds.
const RETENTION: Duration = Duration::from_secs(2);
/// Bytes of events that a feed keeps. Most of them are shared with `EncodedEvents`, so they take no extra
/// memory.
const MAX_BYTES: usize = 256 << 10;
/// Unused feeds are removed once there are more feeds than this, or than twice as many as were left the last
/// time.
const CLEANUP_THRESHOLD: usize = 64;

/// How a watch shows its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Style {
    pub(super) representation: Representation,
    pub(super) include_object: IncludeObject,
}

impl Style {
    fn is_table(self) -> bool {
        matches!(self.representation, Representation::Table(_))
    }
}

/// The feeds of one resource, by selection and style.
pub(super) struct Feeds {
    cache: Arc<WatchCache>,
    encoded_events: Arc<EncodedEvents>,
    open: Mutex<OpenFeeds>,
}

#[derive(Default)]
struct OpenFeeds {
    feeds: HashMap<(Selection, Style), Weak<Feed>>,
    /// The number of feeds at which unused ones are removed.
    limit: usize,
}

/// The recent events of one selection in one style, shared by all watches of them.
pub(super) struct Feed {
    pub(super) selection: Selection,
    pub(super) encoder: Encoder,
    style: Style,
    cache: Arc<WatchCache>,
    encoded_events: Arc<EncodedEvents>,
    recent: Mutex<RecentEvents>,
}

/// A change, and the event that it is to a selection.
type MatchedChange = (EventType, Arc<Change>);

/// The recent events of a feed.
#[derive(Debug, Default)]
struct RecentEvents {
    /// All events after `start` and up to `position` are here.
    start: u64,
    position: u64,
    events: VecDeque<Event>,
    bytes: usize,
}

#[derive(Debug)]
struct Event {
    version: u64,
    made: Instant,
    text: Bytes,
}

/// Events for one watch.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) events: Vec<Bytes>,
    /// There are no other events up to this version.
    pub(super) position: u64,
}

impl Feeds {
    pub(super) fn new(cache: Arc<WatchCache>) -> Self {
        Self { cache, encoded_events: Arc::default(), open: Mutex::default() }
    }

    /// The feed of a selection, shared with every other watch of it.
    pub(super) fn feed(
        &self,
        selection: Selection,
        representation: Representation,
        include_object: IncludeObject,
    ) -> Arc<Feed> {
        // `includeObject` only affects Tables.
        let is_table = matches!(representation, Representation::Table(_));
        let include_object = if is_table { include_object } else { IncludeObject::default() };
        let style = Style { representation, include_object };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (selection.clone(), style);
        if let Some(feed) = open.feeds.get(&key).and_then(Weak::upgrade) {
            return feed;
        }
        if open.feeds.len() >= open.limit {
            open.feeds.retain(|_, feed| feed.strong_count() > 0);
            open.limit = CLEANUP_THRESHOLD.max(2 * open.feeds.len());
        }
        let feed = Arc::new(Feed {
            selection,
            encoder: Encoder::new(self.cache.resource, representation, include_object),
            style,
            cache: Arc::clone(&self.cache),
            encoded_events: Arc::clone(&self.encoded_events),
            recent: Mutex::default(),
        });
        open.feeds.insert(key, Arc::downgrade(&feed));
        feed
    }

    /// How many events have been encoded.
    #[cfg(test)]
    pub(super) fn encoded_count(&self) -> usize {
        self.encoded_events.encoded_count()
    }

    /// The number of feeds, including unused ones.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).feeds.len()
    }
}

impl Feed {
    /// The events after `position`, up to [`CHUNK`] bytes of them.
    pub(super) fn after(&self, position: u64) -> Result<Batch, Expired> {
        match self.read_shared(position) {
            Some(batch) => Ok(batch),
            None => self.read_unshared(position),
        }
    }

    /// The first event of a watch after `position`. In a Table it carries the columns, so it is not shared.
    pub(super) fn first(&self, position: u64) -> Result<Batch, Expired> {
        if !self.style.is_table() {
            return self.after(position);
        }
        let (events, reached) = self.read_log(position)?;
        let Some((event, change)) = events.first() else {
            return Ok(Batch { events: Vec::new(), position: reached });
        };
        let text = self.encode(*event, change, now(), true).into();
        Ok(Batch { events: vec![text], position: change.row.version })
    }

    /// The events after `position` from the shared ones, which are brought up to date first. `None` if
    /// `position` is older than those.
    fn read_shared(&self, position: u64) -> Option<Batch> {
        let mut recent = self.recent();
        let now = Instant::now();
        recent.trim(now);
        // The feed was unused for a while: no watch needs the events between its position and this one.
        let is_stale = recent.events.is_empty() && position > recent.position;
        if is_stale || self.advance(&mut recent, now).is_err() || position > recent.position {
            *recent = RecentEvents { start: position, position, ..RecentEvents::default() };
            self.advance(&mut recent, now).ok()?;
        }
        recent.trim(now);
        (position >= recent.start).then(|| recent.after(position))
    }

    /// Reads the next changes from the log and encodes their events.
    fn advance(&self, recent: &mut RecentEvents, now: Instant) -> Result<(), Expired> {
        let (events, reached) = self.read_log(recent.position)?;
        for (event, change) in events {
            let text = self.encoded(event, &change);
            recent.bytes += text.len();
            recent.events.push_back(Event { version: change.row.version, made: now, text });
        }
        recent.position = reached;
        Ok(())
    }

    /// The events after `position`, read from the log for this watch only.
    pub(super) fn read_unshared(&self, position: u64) -> Result<Batch, Expired> {
        let (events, reached) = self.read_log(position)?;
        let mut batch = Batch { events: Vec::new(), position: reached };
        let mut bytes = 0;
        for (event, change) in events {
            if bytes >= CHUNK {
                break;
            }
            let text = self.encoded(event, &change);
            bytes += text.len();
            batch.events.push(text);
            batch.position = change.row.version;
        }
        if bytes < CHUNK {
            batch.position = reached;
        }
        Ok(batch)
    }

    /// The next changes after `position` that are events to this selection, and the version up to which it
    /// read.
    fn read_log(&self, position: u64) -> Result<(Vec<MatchedChange>, u64), Expired> {
        let (changes, reached) = self.cache.changes_after(position, BATCH)?;
        let events = changes.into_iter().filter_map(|change| Some((self.selection.event(&change)?, change)));
        Ok((events.collect(), reached))
    }

    fn encoded(&self, event: EventType, change: &Change) -> Bytes {
        let second = if self.style.is_table() { now() } else { 0 };
        let key = Key { version: change.row.version, event, style: self.style, second };
        self.encoded_events.get(key, || self.encode(event, change, second, false))
    }

    fn encode(&self, event: EventType, change: &Change, now: i64, with_columns: bool) -> Vec<u8> {
        let left = change.previous.as_ref().filter(|_| {
            // The object still exists but no longer matches. Its DELETED event shows it as it last matched,
            // as kube-apiserver does.
            event == EventType::Deleted && change.kind != ChangeKind::Deleted
        });
        let mut out = Vec::with_capacity(2 * change.row.size());
        match left {
            Some(last) => {
                let last = last.at_version(change.row.version);
                self.encoder.event(&mut out, event.as_str(), &last, now, with_columns);
            }
            None => self.encoder.event(&mut out, event.as_str(), &change.row, now, with_columns),
        }
        out
    }

    /// The events of rows for a client that is catching up. No other watch gets these.
    pub(super) fn catch_up_events(&self, rows: &[CatchUpRow], mut with_columns: bool) -> Vec<Bytes> {
        let now = now();
        let matched =
            rows.iter().filter_map(|stamped| Some((stamped, self.selection.catch_up_event(stamped)?)));
        let events = matched.map(|(stamped, (event, row))| {
            let mut out = Vec::new();
            let with_columns = std::mem::take(&mut with_columns);
            match row {
                Some(row) => {
                    let row = row.at_version(stamped.version);
                    self.encoder.event(&mut out, event.as_str(), &row, now, with_columns);
                }
                None => self.encoder.deleted_name_only(&mut out, &stamped.key, stamped.version, with_columns),
            }
            out.into()
        });
        events.collect()
    }

    /// The events of changes that one watch alone is shown, up to [`CHUNK`] bytes of them. There are no others up to
    /// `reached`. Rows that its user sees no longer are not shown any more: that they are gone is all he is told.
    pub(super) fn own_events(
        &self,
        changes: Vec<Arc<Change>>,
        reached: u64,
        visible: &Visible,
        mut with_columns: bool,
    ) -> Batch {
        let mut batch = Batch { events: Vec::new(), position: reached };
        let mut bytes = 0;
        let events = changes.into_iter().filter_map(|change| Some((self.selection.event(&change)?, change)));
        let is_told =
            |(event, change): &MatchedChange| visible.shows(change.row.key()) || *event == EventType::Deleted;
        for (event, change) in events.filter(is_told) {
            if bytes >= CHUNK {
                // The next call continues after the last event taken.
                return batch;
            }
            let text = if !visible.shows(change.row.key()) {
                self.gone(change.row.key(), change.row.version, with_columns)
            } else if with_columns && self.style.is_table() {
                self.encode(event, &change, now(), true).into()
            } else {
                self.encoded(event, &change)
            };
            with_columns = false;
            bytes += text.len();
            batch.position = change.row.version;
            batch.events.push(text);
        }
        batch.position = reached;
        batch
    }

    /// A DELETED event that shows only the name of the row.
    pub(super) fn gone(&self, key: &RowKey, version: u64, with_columns: bool) -> Bytes {
        let mut out = Vec::new();
        self.encoder.deleted_name_only(&mut out, key, version, with_columns);
        out.into()
    }

    /// The cache that the events come from.
    pub(super) fn cache(&self) -> &WatchCache {
        &self.cache
    }

    /// Drops all events, as if their time were over.
    #[cfg(test)]
    pub(super) fn expire_events(&self) {
        let mut recent = self.recent();
        recent.trim(Instant::now() + 2 * RETENTION);
    }

    fn recent(&self) -> MutexGuard<'_, RecentEvents> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecentEvents {
    /// Drops the events that are too old, or too many for the limit of bytes.
    fn trim(&mut self, now: Instant) {
        while let Some(oldest) = self.events.front()
            && (self.bytes > MAX_BYTES || now.duration_since(oldest.made) > RETENTION)
        {
            self.bytes -= oldest.text.len();
            self.start = oldest.version;
            self.events.pop_front();
        }
    }

    fn after(&self, position: u64) -> Batch {
        let first = self.events.partition_point(|event| event.version <= position);
        let mut batch = Batch { events: Vec::new(), position: self.position };
        let mut bytes = 0;
        for event in self.events.range(first..) {
            if bytes >= CHUNK {
                // The next call continues after the last event taken.
                return batch;
            }
            bytes += event.text.len();
            batch.position = event.version;
            batch.events.push(event.text.clone());
        }
        batch.position = self.position;
        batch
    }
}
