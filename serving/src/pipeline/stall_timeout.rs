//! Aborts responses that their clients do not read.
//!
//! A response is produced as its client reads it. Until its end it pins the rows that it is made of, and counts as a
//! request in flight. If the client reads nothing for a while, both are released, and the body ends with an error, so
//! that the response cannot pass for a complete one.
//!
//! Time counts only between a chunk and the next poll for another, so a watch without events is never aborted. While
//! few slots are free for other requests, the limit is shorter.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::body::{Body, Stalled};

/// How long a response may remain unread.
pub(super) struct StallTimeout {
    pub(super) usual: Duration,
    /// The limit while `use_short` returns true.
    pub(super) short: Duration,
    /// Whether few slots are free for other requests.
    pub(super) use_short: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The same body, aborted once nothing was read of it for as long as `timeout` allows. `held` is dropped when the body
/// ends or is aborted.
pub(super) fn with_stall_timeout(body: Body, timeout: StallTimeout, held: impl Send + 'static) -> Body {
    let pending = PendingBody { body, _held: Box::new(held) };
    let shared =
        Arc::new(Mutex::new(Shared { pending: Some(pending), last_chunk_at: None, has_watchdog: false }));
    StallTimeoutBody { shared, timeout: Arc::new(timeout), watchdog: None, is_over: false }.boxed_unsync()
}

struct PendingBody {
    body: Body,
    _held: Box<dyn Send>,
}

struct Shared {
    /// `None` once it has ended or was aborted.
    pending: Option<PendingBody>,
    /// When the last chunk was returned; `None` while the client waits for the next one.
    last_chunk_at: Option<Instant>,
    /// Whether a watchdog is running.
    has_watchdog: bool,
}

struct StallTimeoutBody {
    shared: Arc<Mutex<Shared>>,
    timeout: Arc<StallTimeout>,
    /// The last watchdog. A body of a single chunk never needs one.
    watchdog: Option<AbortHandle>,
    is_over: bool,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn enforce(shared: Arc<Mutex<Shared>>, timeout: Arc<StallTimeout>) {
    loop {
        let use_short = (timeout.use_short)();
        let (last_chunk_at, waited) = {
            let mut shared = lock(&shared);
            let Some(last_chunk_at) = shared.last_chunk_at else {
                shared.has_watchdog = false;
                return;
            };
            let waited = last_chunk_at.elapsed();
            if waited >= timeout.usual || use_short && waited >= timeout.short {
                let aborted = shared.pending.take();
                // Unlock before `aborted` is dropped, which may take long.
                drop(shared);
                if aborted.is_some() {
                    tracing::debug!(?waited, "response aborted: the client stopped reading");
                }
                return;
            }
            (last_chunk_at, waited)
        };
        // No event tells when slots become short, so `use_short` is polled.
        let next = if waited < timeout.short { timeout.short } else { waited + timeout.short };
        tokio::time::sleep_until(last_chunk_at + next.min(timeout.usual)).await;
    }
}

impl hyper::body::Body for StallTimeoutBody {
    type Data = Bytes;
    type Error = Stalled;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Stalled>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let (frame, ended, wants_watchdog) = {
            let mut shared = lock(&self.shared);
            shared.last_chunk_at = None;
            let Some(pending) = &mut shared.pending else {
                drop(shared);
                self.is_over = true;
                return Poll::Ready(Some(Err(Stalled)));
            };
            let frame = Pin::new(&mut pending.body).poll_frame(context);
            let is_over = matches!(frame, Poll::Ready(None | Some(Err(_)))) || pending.body.is_end_stream();
            let is_handed = frame.is_ready() && !is_over;
            shared.last_chunk_at = is_handed.then(Instant::now);
            let wants_watchdog = is_handed && !std::mem::replace(&mut shared.has_watchdog, true);
            (frame, is_over.then(|| shared.pending.take()), wants_watchdog)
        };
        if ended.is_some() {
            self.is_over = true;
        } else if wants_watchdog {
            let watchdog = tokio::spawn(enforce(Arc::clone(&self.shared), Arc::clone(&self.timeout)));
            self.watchdog = Some(watchdog.abort_handle());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
            || lock(&self.shared).pending.as_ref().is_some_and(|pending| pending.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.shared).pending.as_ref().map_or_else(SizeHint::default, |pending| pending.body.size_hint())
    }
}

impl Drop for StallTimeoutBody {
    fn drop(&mut self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use hyper::body::Body as _;

    use super::*;
    use crate::body::{full, streamed};

    const TIMEOUT: Duration = Duration::from_mins(1);

    /// A body of `count` chunks, and a pointer that tells whether `held` still exists.
    fn pieces(count: usize) -> (Body, std::sync::Weak<()>) {
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let body = streamed(stream::iter((0..count).map(|_| Bytes::from_static(b"piece"))));
        (with_stall_timeout(body, timeout(), held), weak)
    }

    fn timeout() -> StallTimeout {
        StallTimeout { usual: TIMEOUT, short: TIMEOUT / 10, use_short: Box::new(|| false) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_let_go_and_does_not_end_well() {
        let (mut body, held) = pieces(10);
        body.frame().await.expect("a piece").expect("whole");
        tokio::time::sleep(TIMEOUT / 2).await;
        assert!(held.upgrade().is_some());
        tokio::time::sleep(TIMEOUT).await;
        assert!(held.upgrade().is_none());
        body.frame().await.expect("an error").expect_err("not the end");
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_let_go_soon_once_others_lack_it() {
        let use_short = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let lacks = Arc::clone(&use_short);
        let timeout = StallTimeout {
            use_short: Box::new(move || lacks.load(std::sync::atomic::Ordering::Relaxed)),
            ..timeout()
        };
        let mut body =
            with_stall_timeout(streamed(stream::repeat(Bytes::from_static(b"piece"))), timeout, held);
        body.frame().await.expect("a piece").expect("whole");
        tokio::time::sleep(TIMEOUT / 2).await;
        assert!(weak.upgrade().is_some(), "nobody lacks it");
        use_short.store(true, std::sync::atomic::Ordering::Relaxed);
        let since = Instant::now();
        while weak.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(since.elapsed() <= TIMEOUT / 5, "{:?}", since.elapsed());
        body.frame().await.expect("an error").expect_err("not the end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_all() {
        let (mut body, held) = pieces(10);
        let mut count = 0;
        while let Some(piece) = body.frame().await {
            piece.expect("whole");
            count += 1;
            tokio::time::sleep(TIMEOUT / 2).await;
        }
        assert_eq!(count, 10);
        assert!(held.upgrade().is_none(), "the end lets go");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_may_have_nothing_to_tell_for_long_but_not_tell_it_to_nobody() {
        let (news, told) = futures::channel::mpsc::unbounded();
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let mut body = with_stall_timeout(streamed(told), timeout(), held);
        for _ in 0..3 {
            let quiet = tokio::time::timeout(3 * TIMEOUT, body.frame()).await;
            assert!(quiet.is_err() && weak.upgrade().is_some());
            assert_eq!(
                tokio::runtime::Handle::current().metrics().num_alive_tasks(),
                0,
                "nothing is watched"
            );
            news.unbounded_send(Bytes::from_static(b"news")).expect("it is there");
            body.frame().await.expect("a piece").expect("whole");
        }
        tokio::time::sleep(2 * TIMEOUT).await;
        assert!(weak.upgrade().is_none());
        body.frame().await.expect("an error").expect_err("not the end");
    }

    #[tokio::test]
    async fn a_whole_body_needs_no_watching() {
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let mut body = with_stall_timeout(full("whole"), timeout(), held);
        assert_eq!(body.size_hint().exact(), Some(5));
        body.frame().await.expect("a piece").expect("whole");
        assert!(body.is_end_stream() && weak.upgrade().is_none());
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    }
}
