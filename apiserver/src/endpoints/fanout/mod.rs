//! One change, many watchers.
//!
//! Watches of the same selection in the same representation share a [`Feed`]: whichever of them comes first looks at
//! what has changed, evaluates the selectors and has the events written; the others take the bytes. Feeds of one
//! resource share the texts, so that a change is written once for each representation, however many selections it
//! matches.
//!
//! Invariants: a feed is a cache. It holds the events of two seconds and is bounded by bytes; who has fallen behind
//! that reads the log on its own, with the same outcome, until it has caught up. Nobody waits for anybody: a slow
//! watcher only gets less of what it reads for nothing, until the log has left it behind.

mod renderings;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;

use self::renderings::{Key, Renderings};
use super::{
    encode::{Encoder, now},
    select::{EventType, Selection},
};
use crate::{
    options::IncludeObject,
    watchcache::{CatchUpRow, Change, ChangeKind, Expired, WatchCache},
};
use gatehouse_serving::negotiate::Representation;

/// Changes looked at before a watch looks at its clock again.
const BATCH: usize = 512;
/// Bytes handed over at once.
pub(super) const CHUNK: usize = 64 << 10;
/// How long a feed keeps an event: watchers that read come within milliseconds.
const KEPT: Duration = Duration::from_secs(2);
/// How many bytes of events a feed keeps. Mostly they are kept by others, too.
const BYTES: usize = 256 << 10;
/// Forgotten feeds are cleared away when there are more than this, or twice as many as were left the last time.
const FEW: usize = 64;

/// How the objects of a watch are shown.
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

/// The feeds of one resource.
pub(super) struct Feeds {
    cache: Arc<WatchCache>,
    renderings: Arc<Renderings>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    feeds: HashMap<(Selection, Style), Weak<Feed>>,
    /// How many there may be before the forgotten ones are cleared away.
    limit: usize,
}

/// The events of one selection in one style, for every watch of them.
pub(super) struct Feed {
    pub(super) selection: Selection,
    pub(super) encoder: Encoder,
    style: Style,
    cache: Arc<WatchCache>,
    renderings: Arc<Renderings>,
    latest: Mutex<Latest>,
}

/// A change, and what it means to a selection.
type Matched = (EventType, Arc<Change>);

/// The latest events.
#[derive(Debug, Default)]
struct Latest {
    /// All events after this version and up to `position` are here.
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
    /// There are no others up to this version.
    pub(super) position: u64,
}

impl Feeds {
    pub(super) fn new(cache: Arc<WatchCache>) -> Self {
        Self { cache, renderings: Arc::default(), open: Mutex::default() }
    }

    /// The feed of a selection, shared with every other watch of it.
    pub(super) fn feed(
        &self,
        selection: Selection,
        representation: Representation,
        include_object: IncludeObject,
    ) -> Arc<Feed> {
        // It has a meaning in Tables only.
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
            open.limit = FEW.max(2 * open.feeds.len());
        }
        let feed = Arc::new(Feed {
            selection,
            encoder: Encoder::new(self.cache.resource, representation, include_object),
            style,
            cache: Arc::clone(&self.cache),
            renderings: Arc::clone(&self.renderings),
            latest: Mutex::default(),
        });
        open.feeds.insert(key, Arc::downgrade(&feed));
        feed
    }

    /// How many events have been written.
    #[cfg(test)]
    pub(super) fn written(&self) -> usize {
        self.renderings.made()
    }

    /// How many feeds are known, forgotten ones too.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).feeds.len()
    }
}

impl Feed {
    /// The events after `position`, up to [`CHUNK`] bytes of them.
    pub(super) fn after(&self, position: u64) -> Result<Batch, Expired> {
        match self.shared(position) {
            Some(batch) => Ok(batch),
            None => self.own(position),
        }
    }

    /// The first event of a watch after `position`; in a Table that is the one with the columns, so it is nobody
    /// else's.
    pub(super) fn first(&self, position: u64) -> Result<Batch, Expired> {
        if !self.style.is_table() {
            return self.after(position);
        }
        let (events, reached) = self.look(position)?;
        let Some((event, change)) = events.first() else {
            return Ok(Batch { events: Vec::new(), position: reached });
        };
        let text = self.write(*event, change, now(), true).into();
        Ok(Batch { events: vec![text], position: change.row.version })
    }

    /// From what is there for all; `None` if that does not reach back so far.
    fn shared(&self, position: u64) -> Option<Batch> {
        let mut latest = self.latest();
        let now = Instant::now();
        latest.trim(now);
        // Left alone for long: what it would have to catch up with is of no interest to anybody.
        let is_stale = latest.events.is_empty() && position > latest.position;
        if is_stale || self.advance(&mut latest, now).is_err() || position > latest.position {
            *latest = Latest { start: position, position, ..Latest::default() };
            self.advance(&mut latest, now).ok()?;
        }
        latest.trim(now);
        (position >= latest.start).then(|| latest.after(position))
    }

    /// Looks at the next changes.
    fn advance(&self, latest: &mut Latest, now: Instant) -> Result<(), Expired> {
        let (events, reached) = self.look(latest.position)?;
        for (event, change) in events {
            let text = self.text(event, &change);
            latest.bytes += text.len();
            latest.events.push_back(Event { version: change.row.version, made: now, text });
        }
        latest.position = reached;
        Ok(())
    }

    /// The same by a look of one's own.
    pub(super) fn own(&self, position: u64) -> Result<Batch, Expired> {
        let (events, reached) = self.look(position)?;
        let mut batch = Batch { events: Vec::new(), position: reached };
        let mut bytes = 0;
        for (event, change) in events {
            if bytes >= CHUNK {
                break;
            }
            let text = self.text(event, &change);
            bytes += text.len();
            batch.events.push(text);
            batch.position = change.row.version;
        }
        if bytes < CHUNK {
            batch.position = reached;
        }
        Ok(batch)
    }

    /// What the next changes after `position` mean to the selection, and how far that looked.
    fn look(&self, position: u64) -> Result<(Vec<Matched>, u64), Expired> {
        let (changes, reached) = self.cache.changes_after(position, BATCH)?;
        let events = changes.into_iter().filter_map(|change| Some((self.selection.event(&change)?, change)));
        Ok((events.collect(), reached))
    }

    fn text(&self, event: EventType, change: &Change) -> Bytes {
        let second = if self.style.is_table() { now() } else { 0 };
        let key = Key { version: change.row.version, event, style: self.style, second };
        self.renderings.get(key, || self.write(event, change, second, false))
    }

    fn write(&self, event: EventType, change: &Change, now: i64, with_columns: bool) -> Vec<u8> {
        let left = change.previous.as_ref().filter(|_| {
            // It is still there, and was last seen as it was when it matched.
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

    /// Events of rows that a client from another replica may lack; nobody else is to be told these.
    pub(super) fn retold(&self, rows: &[CatchUpRow], mut with_columns: bool) -> Vec<Bytes> {
        let now = now();
        let told = rows.iter().filter_map(|retold| Some((retold, self.selection.retold(retold)?)));
        let events = told.map(|(retold, (event, row))| {
            let mut out = Vec::new();
            let with_columns = std::mem::take(&mut with_columns);
            match row {
                Some(row) => {
                    let row = row.at_version(retold.version);
                    self.encoder.event(&mut out, event.as_str(), &row, now, with_columns);
                }
                None => self.encoder.gone(&mut out, &retold.key, retold.version, with_columns),
            }
            out.into()
        });
        events.collect()
    }

    /// What the events are of.
    pub(super) fn cache(&self) -> &WatchCache {
        &self.cache
    }

    /// Lets go of all events, as time does.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        let mut latest = self.latest();
        latest.trim(Instant::now() + 2 * KEPT);
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    /// Lets go of what is too old or too much.
    fn trim(&mut self, now: Instant) {
        while let Some(oldest) = self.events.front()
            && (self.bytes > BYTES || now.duration_since(oldest.made) > KEPT)
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
                // There is more: it goes on behind the last one taken.
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
