//! Watches: the rows there are at first where they are asked for, then every change, until it ends.
//!
//! A watch holds a position in the shared log and makes bytes only as fast as its client reads them. It
//! ends cleanly: at its timeout, when the server drains, or with a 410 when the log has moved past its
//! position or the right to it has been taken away. (A client that gets a 410 lists again, and is refused then
//! or not.)

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, stream};
use http::{HeaderValue, Response, header};
use prometheus::IntCounter;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{encode::Encoder, read, select::Selection};
use crate::{
    ApiError, Body,
    authz::Standing,
    body::streamed,
    negotiate::{JSON, Representation},
    options::{ListOptions, ResourceVersion},
    watchcache::{Change, ChangeKind, Row, WatchCache},
};

/// A bookmark at least this often lets clients that see no change resume from a recent version. A minute is
/// what clients may count on; a little less leaves room for a slow network.
const BOOKMARKS: Duration = Duration::from_secs(50);
/// Without `timeoutSeconds` a watch lasts between this long and twice that, as kube-apiserver's do
/// (`--min-request-timeout`), so that watches of one moment do not end at one moment.
const SHORTEST: Duration = Duration::from_mins(30);
/// Bytes made before they are handed over.
const CHUNK: usize = 64 << 10;
/// Changes looked at between two looks at the clock.
const BATCH: usize = 512;

/// Chunks of whole events, each on a line of its own.
pub(super) async fn watch(
    cache: &Arc<WatchCache>,
    selection: Selection,
    options: ListOptions,
    representation: Representation,
    events: IntCounter,
    ends: Ends,
) -> Result<impl Stream<Item = Bytes> + Send + use<>, ApiError> {
    read::at_least(cache, options.resource_version).await?;
    let follow = cache.follow();
    let encoder = Encoder::new(cache.resource, representation, options.include_object);
    let (initial, position) = if options.initial_events() {
        let snapshot = cache.snapshot();
        (selection.rows(&snapshot.rows, None).cloned().collect(), snapshot.version)
    } else {
        let version = match options.resource_version {
            // Initial events declined, and no version to start from: from now on.
            None | Some(ResourceVersion::ANY) => cache.snapshot().version,
            Some(ResourceVersion(version)) => version,
        };
        cache.changes_after(version, 0).map_err(|error| ApiError::expired(error.to_string()))?;
        (Vec::new(), version)
    };
    let start = Instant::now();
    let mut bookmarks = interval_at(start + jittered(BOOKMARKS / 2), BOOKMARKS);
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watch = Watch {
        cache: Arc::clone(cache),
        follow,
        selection,
        encoder,
        phase: Phase::Initial { rows: initial.into_iter(), announce_end: options.initial_events_end() },
        position,
        bookmarks: options.allow_watch_bookmarks.then_some(bookmarks),
        deadline: start + options.timeout.unwrap_or_else(|| jittered(SHORTEST)),
        events,
        ends,
    };
    Ok(stream::unfold(watch, |mut watch| async move {
        let chunk = watch.next_chunk().await?;
        Some((chunk, watch))
    }))
}

/// The answer over plain HTTP.
pub(super) fn respond(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(streamed(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Between `base` and twice that.
fn jittered(base: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) % 1024;
    base + base.mul_f64(f64::from(u32::try_from(random).unwrap_or_default()) / 1024.0)
}

struct Watch {
    cache: Arc<WatchCache>,
    follow: watch::Receiver<u64>,
    selection: Selection,
    encoder: Encoder,
    phase: Phase,
    /// Every change up to this version has been sent.
    position: u64,
    bookmarks: Option<Interval>,
    deadline: Instant,
    events: IntCounter,
    ends: Ends,
}

/// What ends a watch beside its own timeout.
pub(super) struct Ends {
    /// The server drains.
    pub(super) stop: CancellationToken,
    /// The right to it has been taken away.
    pub(super) standing: Standing,
}

enum Phase {
    Initial { rows: std::vec::IntoIter<Arc<Row>>, announce_end: bool },
    Live,
    Ended,
}

impl Watch {
    /// The next bytes for the client; `None` once the watch has ended.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        loop {
            // Looked at here too: a client that reads slowly, or changes without a pause, never get to wait.
            if self.ends.stop.is_cancelled() || Instant::now() >= self.deadline {
                self.phase = Phase::Ended;
            }
            if self.ends.standing.must_look()
                && !matches!(self.phase, Phase::Ended)
                && let Err(lost) = self.ends.standing.look().await
            {
                self.fail(&mut out, &lost);
            }
            match &mut self.phase {
                Phase::Initial { .. } => self.initial(&mut out),
                Phase::Live => {
                    self.follow.borrow_and_update();
                    self.changes(&mut out);
                    if out.is_empty() && !matches!(self.phase, Phase::Ended) {
                        self.wait(&mut out).await;
                    }
                }
                Phase::Ended => return Some(out.into()).filter(|out: &Bytes| !out.is_empty()),
            }
            if !out.is_empty() {
                return Some(out.into());
            }
        }
    }

    fn initial(&mut self, out: &mut Vec<u8>) {
        let Phase::Initial { rows, announce_end } = &mut self.phase else { return };
        for row in rows.by_ref() {
            self.encoder.event(out, "ADDED", &row);
            self.events.inc();
            if out.len() >= CHUNK {
                return;
            }
        }
        if *announce_end {
            self.encoder.bookmark(out, self.position, true);
        }
        self.phase = Phase::Live;
    }

    /// Sends what has changed since the position.
    fn changes(&mut self, out: &mut Vec<u8>) {
        while out.len() < CHUNK {
            let changes = match self.cache.changes_after(self.position, BATCH) {
                Ok(changes) => changes,
                Err(error) => {
                    return self.fail(out, &ApiError::expired(error.to_string()));
                }
            };
            if changes.is_empty() {
                return;
            }
            for change in changes {
                self.position = change.row.version;
                self.change(out, &change);
            }
        }
    }

    /// A change as the selection sees it: an object that stops matching is gone, one that starts is new.
    fn change(&mut self, out: &mut Vec<u8>, change: &Change) {
        let before = change.previous.as_ref().filter(|row| self.selection.matches(row));
        let matches = change.kind != ChangeKind::Deleted && self.selection.matches(&change.row);
        match (before, matches) {
            (None, false) => return,
            (None, true) => self.encoder.event(out, "ADDED", &change.row),
            (Some(_), true) => self.encoder.event(out, "MODIFIED", &change.row),
            (Some(_), false) if change.kind == ChangeKind::Deleted => {
                self.encoder.event(out, "DELETED", &change.row);
            }
            (Some(last), false) => {
                self.encoder.event(out, "DELETED", &last.at_version(change.row.version));
            }
        }
        self.events.inc();
    }

    /// Waits for a change, a bookmark that is due, or the end.
    async fn wait(&mut self, out: &mut Vec<u8>) {
        let bookmark = async {
            match &mut self.bookmarks {
                Some(bookmarks) => drop(bookmarks.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.follow.changed() => if changed.is_err() { self.phase = Phase::Ended },
            () = bookmark => self.encoder.bookmark(out, self.position, false),
            () = sleep_until(self.deadline) => self.phase = Phase::Ended,
            () = self.ends.stop.cancelled() => self.phase = Phase::Ended,
            lost = self.ends.standing.lost() => self.fail(out, &lost),
        }
    }

    /// Tells why there is nothing more to come.
    fn fail(&mut self, out: &mut Vec<u8>, error: &ApiError) {
        self.encoder.error(out, error);
        self.phase = Phase::Ended;
    }
}
