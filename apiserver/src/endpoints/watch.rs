//! Handles watches: the initial rows if they are asked for, then every change until the watch ends.
//!
//! A watch holds a position in the shared log, and takes bytes only as fast as its client reads them. It ends
//! cleanly at its timeout or when the server drains. It ends with an ERROR event of code 410 if the log has
//! moved past its position, or if its user has lost the right to watch. The client then lists again, and that
//! request is authorised on its own.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use gatehouse_apiservice::{
    client::jittered,
    view::{GROUP, VERSION},
};
use http::{HeaderValue, Response, header};
use prometheus::IntCounter;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    encode::{self, now},
    fanout::{Batch, CHUNK, Feed},
    own_events::OwnEvents,
    read,
    scope::Scope,
    select::EventType,
};
use crate::{
    clusters::access::WatchRights,
    metrics::{ResumeOutcome, ViewMetrics},
    options::{ListOptions, ResourceVersion},
    watchcache::{CatchUp, CatchUpStep, Expired, Resume, ResumeError, Row},
};
use gatehouse_serving::{ApiError, Body, body::streamed, negotiate::JSON};

/// The interval of bookmarks, so that clients that see no change can resume from a recent version. Clients
/// may count on one a minute; the rest of it allows for a slow network.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(50);
/// A watch of a quiet namespace moves its position on this often: much sooner than the log drops it.
const POSITION_REFRESH: Duration = Duration::from_mins(1);
/// Without `timeoutSeconds` a watch lasts between this long and twice as long, like kube-apiserver's
/// (`--min-request-timeout`), so that watches that began together do not end together.
const MIN_REQUEST_TIMEOUT: Duration = Duration::from_mins(30);
/// Rows per step for a client that is catching up: about [`CHUNK`] bytes.
const CATCH_UP_ROWS: usize = 64;
/// How often a client that is catching up gets newly rendered rows. Rows that are rendered without a change
/// wake no watch.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(250);

/// A stream of chunks. Each chunk consists of whole events, each on a line of its own.
pub(super) async fn watch(
    scope: Scope<'_>,
    feed: Arc<Feed>,
    options: ListOptions,
    metrics: &ViewMetrics,
    ends: EndConditions,
    own: Option<OwnEvents>,
) -> Result<impl Stream<Item = Bytes> + Send + use<>, ApiError> {
    let cache = scope.cache();
    let follow = match &feed.selection.namespace {
        Some(namespace) => cache.follow_namespace(namespace),
        None => cache.follow(),
    };
    let (phase, position) = match options.resource_version {
        version if options.initial_events() => {
            read::wait_until_at_least(cache, version).await?;
            let snapshot = scope.snapshot()?;
            let rows: Vec<_> = feed.selection.rows(&snapshot.rows, None).cloned().collect();
            let announce_end = options.initial_events_end();
            (Phase::Initial { rows: rows.into_iter(), announce_end }, snapshot.version)
        }
        // The client declined initial events and named no version: the watch starts now.
        None | Some(ResourceVersion::ANY) => (Phase::Live, scope.snapshot()?.version),
        Some(ResourceVersion(version)) => {
            let (outcome, phase, position) = match resume(scope, version).await {
                Ok(Resume::Follow(version)) => (ResumeOutcome::Followed, Phase::Live, version),
                Ok(Resume::CatchUp(catch_up)) => (ResumeOutcome::CaughtUp, Phase::CatchUp(catch_up), version),
                Err(expired) => (ResumeOutcome::Expired, Phase::Expired(expired), version),
            };
            metrics.watch_resumed(cache.resource.plural, outcome);
            (phase, position)
        }
    };
    let start = Instant::now();
    let mut bookmarks =
        interval_at(start + jittered(BOOKMARK_INTERVAL / 2, BOOKMARK_INTERVAL / 2), BOOKMARK_INTERVAL);
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watch = Watch {
        follow,
        feed,
        is_first: true,
        phase,
        position,
        bookmarks: options.allow_watch_bookmarks.then_some(bookmarks),
        deadline: start
            + options.timeout.unwrap_or_else(|| jittered(MIN_REQUEST_TIMEOUT, MIN_REQUEST_TIMEOUT)),
        events: metrics.watch_events(GROUP, VERSION, cache.resource.plural),
        ends,
        own: own.map(Box::new),
    };
    Ok(stream::unfold(watch, |mut watch| async move {
        let chunk = watch.next_chunk().await?;
        Some((chunk, watch))
    }))
}

/// Decides how a watch from `version` begins.
///
/// Like kube-apiserver, a watch reports an expired version by an ERROR event: the watcher of kube-rs lists
/// again after such an event, but repeats a request that was refused with a status for ever. A version that
/// is still too far ahead after [`read::WAIT_FOR_VERSION`] counts as expired, too: a replica with a wrong
/// clock made it, and its clients should not wait until that time comes.
async fn resume(scope: Scope<'_>, version: u64) -> Result<Resume, ApiError> {
    let resumed = match scope.resume(version) {
        Err(ResumeError::TooLarge) => {
            // Whether the version was reached shows in the second attempt.
            let _ = read::wait_until_reached(scope.cache(), version, read::WAIT_FOR_VERSION).await;
            scope.resume(version)
        }
        result => result,
    };
    resumed.map_err(|error| match error {
        ResumeError::AnotherReplica => ApiError::expired(
            "the version is another replica's, and rows of remote clusters are seen: list again",
        ),
        ResumeError::Expired(expired) => ApiError::expired(expired.to_string()),
        ResumeError::TooLarge => {
            let current = scope.cache().snapshot().version;
            ApiError::expired(format!("too large resource version: {version}, current: {current}"))
        }
    })
}

/// The response to a watch over plain HTTP.
pub(super) fn respond(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(streamed(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

struct Watch {
    follow: watch::Receiver<u64>,
    feed: Arc<Feed>,
    /// Whether no event has been sent yet.
    is_first: bool,
    phase: Phase,
    /// Every change up to this version has been sent.
    position: u64,
    bookmarks: Option<Interval>,
    deadline: Instant,
    events: IntCounter,
    ends: EndConditions,
    /// `None`: the user sees all rows. Boxed, since nearly all watches are of other resources.
    own: Option<Box<OwnEvents>>,
}

/// The memory that each watch takes, apart from what it shares.
#[cfg(test)]
pub(super) const SIZE: usize = size_of::<Watch>();

/// What ends a watch, apart from its own timeout.
pub(super) struct EndConditions {
    /// Cancelled when the server drains.
    pub(super) stop: CancellationToken,
    /// Reports when the user has lost the right to watch, or may see other clusters than before.
    pub(super) authorization: WatchRights,
}

enum Phase {
    Initial {
        rows: std::vec::IntoIter<Arc<Row>>,
        announce_end: bool,
    },
    /// The client was served by another replica before.
    CatchUp(CatchUp),
    /// The watch cannot start from the client's version.
    Expired(ApiError),
    Live,
    Ended,
}

impl Watch {
    /// The next bytes for the client; `None` once the watch has ended.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        loop {
            // Checked here as well, because a watch never waits if its client reads slowly or if changes come
            // without a pause.
            if self.ends.stop.is_cancelled() || Instant::now() >= self.deadline {
                self.phase = Phase::Ended;
            }
            if self.ends.authorization.is_renewal_due()
                && !matches!(self.phase, Phase::Ended)
                && let Err(lost) = self.ends.authorization.renew().await
            {
                self.fail(&mut out, &lost);
            }
            if let Some(own) = &mut self.own
                && !matches!(self.phase, Phase::Ended)
                && let Err(lost) = own.rights().check()
            {
                self.fail(&mut out, &lost);
            }
            match &mut self.phase {
                Phase::Initial { .. } => self.initial(&mut out),
                Phase::CatchUp(_) => self.catch_up(&mut out).await,
                Phase::Expired(error) => {
                    encode::error(&mut out, error);
                    self.phase = Phase::Ended;
                }
                Phase::Live => {
                    self.follow.borrow_and_update();
                    match self.live() {
                        Ok(batch) if !batch.events.is_empty() && self.ends.authorization.is_stale() => {
                            if let Err(lost) = self.ends.authorization.renew().await {
                                self.fail(&mut out, &lost);
                            }
                        }
                        Ok(batch) => {
                            let has_moved = batch.position > self.position;
                            self.position = batch.position;
                            self.events.inc_by(batch.events.len() as u64);
                            if let Some(chunk) = joined(batch.events) {
                                self.is_first = false;
                                return Some(chunk);
                            }
                            if !has_moved {
                                self.wait(&mut out).await;
                            }
                        }
                        Err(error) => self.fail(&mut out, &ApiError::expired(error.to_string())),
                    }
                }
                Phase::Ended => return Some(out.into()).filter(|out: &Bytes| !out.is_empty()),
            }
            if !out.is_empty() {
                return Some(out.into());
            }
        }
    }

    /// The next events after the position.
    fn live(&mut self) -> Result<Batch, Expired> {
        match &mut self.own {
            Some(own) => own.after(&self.feed, self.position, self.is_first),
            None if self.is_first => self.feed.first(self.position),
            None => self.feed.after(self.position),
        }
    }

    fn initial(&mut self, out: &mut Vec<u8>) {
        let Phase::Initial { rows, announce_end } = &mut self.phase else { return };
        let now = now();
        for row in rows.by_ref() {
            // The client may read slowly, and lose rights meanwhile.
            if self.own.as_ref().is_some_and(|own| !own.sees(&row)) {
                continue;
            }
            let is_first = std::mem::take(&mut self.is_first);
            self.feed.encoder.event(out, EventType::Added.as_str(), &row, now, is_first);
            self.events.inc();
            if out.len() >= CHUNK {
                return;
            }
        }
        if *announce_end {
            self.bookmark(out, true);
        }
        self.phase = Phase::Live;
    }

    /// Sends no bookmarks: no version stands for everything that the client has yet.
    async fn catch_up(&mut self, out: &mut Vec<u8>) {
        let Phase::CatchUp(catch_up) = &mut self.phase else { return };
        let (rows, then) = match catch_up.next(self.feed.cache(), CATCH_UP_ROWS) {
            Ok(next) => next,
            Err(error) => return self.fail(out, &ApiError::expired(error.to_string())),
        };
        let rows = match &self.own {
            Some(own) => own.caught_up(rows),
            None => Ok(rows),
        };
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return self.fail(out, &error),
        };
        let events = self.feed.catch_up_events(&rows, self.is_first);
        self.is_first &= events.is_empty();
        self.events.inc_by(events.len() as u64);
        out.extend(events.into_iter().flatten());
        match then {
            CatchUpStep::Follow(version) => {
                self.position = version;
                self.phase = Phase::Live;
                if let Some(bookmarks) = &mut self.bookmarks {
                    bookmarks.reset();
                    self.bookmark(out, false);
                }
            }
            CatchUpStep::Wait if out.is_empty() => {
                let next = tokio::time::sleep(CATCH_UP_INTERVAL);
                tokio::select! {
                    () = next => {}
                    () = sleep_until(self.deadline) => self.phase = Phase::Ended,
                    () = self.ends.stop.cancelled() => self.phase = Phase::Ended,
                    lost = self.ends.authorization.revoked() => self.fail(out, &lost),
                }
            }
            CatchUpStep::More | CatchUpStep::Wait => {}
        }
    }

    fn bookmark(&mut self, out: &mut Vec<u8>, initial_events_end: bool) {
        let is_first = std::mem::take(&mut self.is_first);
        self.feed.encoder.bookmark(out, self.position, initial_events_end, is_first);
    }

    /// Sends a bookmark of the latest version if there are no events up to it. Otherwise those events are
    /// sent next, and carry their own versions.
    fn bookmark_if_caught_up(&mut self, out: &mut Vec<u8>) {
        let quiet_until = if let Some(own) = &self.own {
            own.quiet_until(&self.feed, self.position)
        } else {
            let batch = self.feed.after(self.position).ok();
            batch.filter(|batch| batch.events.is_empty()).map(|batch| batch.position)
        };
        if let Some(position) = quiet_until {
            self.position = position;
            self.bookmark(out, false);
        }
    }

    /// Waits for a change, until a bookmark is due, or until the watch ends.
    async fn wait(&mut self, out: &mut Vec<u8>) {
        let bookmark = async {
            match &mut self.bookmarks {
                Some(bookmarks) => drop(bookmarks.tick().await),
                None => std::future::pending().await,
            }
        };
        let rights = async {
            match &mut self.own {
                Some(own) => own.rights().changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = rights => if let Err(lost) = changed { self.fail(out, &lost) },
            changed = self.follow.changed() => if changed.is_err() { self.phase = Phase::Ended },
            () = tokio::time::sleep(POSITION_REFRESH) => {}
            () = bookmark => self.bookmark_if_caught_up(out),
            () = sleep_until(self.deadline) => self.phase = Phase::Ended,
            () = self.ends.stop.cancelled() => self.phase = Phase::Ended,
            lost = self.ends.authorization.revoked() => self.fail(out, &lost),
        }
    }

    /// Ends the watch with an ERROR event.
    fn fail(&mut self, out: &mut Vec<u8>, error: &ApiError) {
        encode::error(out, error);
        self.phase = Phase::Ended;
    }
}

/// The chunk that contains all events. It usually is one event, which is not copied.
fn joined(mut events: Vec<Bytes>) -> Option<Bytes> {
    if events.len() > 1 { Some(events.concat().into()) } else { events.pop() }
}
