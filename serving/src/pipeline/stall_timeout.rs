//! Aborts responses that their clients do not read.
//!
//! A response is produced as its client reads it. Until all of it was sent it pins the rows that it is made of, and counts
//! as a request in flight. If the client reads nothing for a while, both are released, and the body ends with an error, so
//! that the response cannot pass for a complete one.
//!
//! Time counts only while a chunk is not sent yet, or until the next poll for another, so a watch without events is never
//! aborted. While few slots are free for other requests, the limit is shorter.
//!
//! Chunks that were returned are kept by the connection until they are sent or the connection ends. So that a client
//! cannot have them kept without end, its connection is closed with the first response that is aborted, unless it carries
//! the requests of other users too.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::body::{Body, Stalled};

/// How long a response may remain unread.
pub(super) struct StallTimeout {
    pub(super) usual: Duration,
    /// The limit while `use_short` returns true.
    pub(super) short: Duration,
    /// Whether few slots are free for other requests.
    pub(super) use_short: Box<dyn Fn() -> bool + Send + Sync>,
    /// Closes the connection when it is cancelled.
    pub(super) connection: Option<CancellationToken>,
}

/// The same body, aborted once nothing of it was read for as long as `timeout` allows. `held` is dropped when all of the
/// body was sent, or when it is aborted.
pub(super) fn with_stall_timeout(body: Body, timeout: StallTimeout, held: impl Send + 'static) -> Body {
    let shared = Shared {
        body: Some(body),
        held: Some(Box::new(held)),
        unsent: 0,
        is_unpolled: false,
        last_progress: Instant::now(),
        watchdog: None,
    };
    let (shared, timeout) = (Arc::new(Mutex::new(shared)), Arc::new(timeout));
    StallTimeoutBody { shared, timeout, is_over: false }.boxed_unsync()
}

struct Shared {
    /// `None` once it has ended or was aborted.
    body: Option<Body>,
    /// `None` once all was sent, or the body was aborted.
    held: Option<Box<dyn Send>>,
    /// The chunks that were returned and not sent yet.
    unsent: usize,
    /// Whether a chunk was returned and not followed by a poll.
    is_unpolled: bool,
    /// When a chunk was last polled for, returned or sent.
    last_progress: Instant,
    watchdog: Option<AbortHandle>,
}

impl Shared {
    fn waits_for_client(&self) -> bool {
        self.unsent > 0 || self.is_unpolled
    }

    /// What is to be dropped, if nothing is left of the response.
    fn release(&mut self) -> Option<Box<dyn Send>> {
        if self.body.is_some() || self.unsent > 0 {
            return None;
        }
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.abort();
        }
        self.held.take()
    }
}

/// A chunk that was returned. It is dropped when it was sent, or when its connection ends.
struct Chunk {
    bytes: Bytes,
    shared: Arc<Mutex<Shared>>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let released = {
            let mut shared = lock(&self.shared);
            shared.unsent -= 1;
            shared.last_progress = Instant::now();
            shared.release()
        };
        drop(released);
    }
}

struct StallTimeoutBody {
    shared: Arc<Mutex<Shared>>,
    timeout: Arc<StallTimeout>,
    is_over: bool,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn enforce(shared: Arc<Mutex<Shared>>, timeout: Arc<StallTimeout>) {
    loop {
        let use_short = (timeout.use_short)();
        let (last_progress, waited) = {
            let mut shared = lock(&shared);
            if !shared.waits_for_client() {
                shared.watchdog = None;
                return;
            }
            let waited = shared.last_progress.elapsed();
            if waited >= timeout.usual || use_short && waited >= timeout.short {
                let aborted = (shared.body.take(), shared.held.take());
                // Unlock before `aborted` is dropped, which may take long.
                drop(shared);
                drop(aborted);
                tracing::debug!(?waited, "response aborted: the client stopped reading");
                if let Some(connection) = &timeout.connection {
                    connection.cancel();
                }
                return;
            }
            (shared.last_progress, waited)
        };
        // No event says that slots have become short, so `use_short` is polled.
        let next = if waited < timeout.short { timeout.short } else { waited + timeout.short };
        tokio::time::sleep_until(last_progress + next.min(timeout.usual)).await;
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
        let (frame, is_over, released) = {
            let mut shared = lock(&self.shared);
            let shared = &mut *shared;
            (shared.is_unpolled, shared.last_progress) = (false, Instant::now());
            match &mut shared.body {
                None => (Poll::Ready(Some(Err(Stalled))), true, (None, None)),
                Some(body) => {
                    let frame = Pin::new(&mut *body).poll_frame(context);
                    let is_over = matches!(frame, Poll::Ready(None | Some(Err(_)))) || body.is_end_stream();
                    shared.is_unpolled = frame.is_ready() && !is_over;
                    let frame = frame.map_ok(|frame| {
                        frame.map_data(|bytes| {
                            shared.unsent += 1;
                            Bytes::from_owner(Chunk { bytes, shared: Arc::clone(&self.shared) })
                        })
                    });
                    if shared.waits_for_client() && shared.watchdog.is_none() {
                        let watchdog = enforce(Arc::clone(&self.shared), Arc::clone(&self.timeout));
                        shared.watchdog = Some(tokio::spawn(watchdog).abort_handle());
                    }
                    let body = if is_over { shared.body.take() } else { None };
                    (frame, is_over, (body, shared.release()))
                }
            }
        };
        drop(released);
        self.is_over = is_over;
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || lock(&self.shared).body.as_ref().is_some_and(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.shared).body.as_ref().map_or_else(SizeHint::default, hyper::body::Body::size_hint)
    }
}

impl Drop for StallTimeoutBody {
    fn drop(&mut self) {
        let released = {
            let mut shared = lock(&self.shared);
            shared.is_unpolled = false;
            (shared.body.take(), shared.release())
        };
        drop(released);
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
        StallTimeout { usual: TIMEOUT, short: TIMEOUT / 10, use_short: Box::new(|| false), connection: None }
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
        let (news, reported) = futures::channel::mpsc::unbounded();
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let mut body = with_stall_timeout(streamed(reported), timeout(), held);
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

    #[tokio::test(start_paused = true)]
    async fn a_whole_body_is_held_until_it_was_sent_and_watched_no_longer() {
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let mut body = with_stall_timeout(full("whole"), timeout(), held);
        assert_eq!(body.size_hint().exact(), Some(5));
        let piece = body.frame().await.expect("a piece").expect("whole").into_data().expect("data");
        assert_eq!(piece, "whole");
        assert!(body.is_end_stream() && weak.upgrade().is_some(), "it waits to be sent");
        drop(body);
        assert!(weak.upgrade().is_some());
        drop(piece);
        assert!(weak.upgrade().is_none());
        tokio::task::yield_now().await;
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_handed_out_and_is_never_sent_is_given_up_with_its_connection() {
        for (body, pieces) in
            [(full("whole"), 1), (streamed(stream::iter([Bytes::from("a"), Bytes::from("b")])), 2)]
        {
            let (held, connection) = (Arc::new(()), CancellationToken::new());
            let weak = Arc::downgrade(&held);
            let mut body = with_stall_timeout(
                body,
                StallTimeout { connection: Some(connection.clone()), ..timeout() },
                held,
            );
            let mut unsent = Vec::new();
            for _ in 0..pieces {
                unsent.push(body.frame().await.expect("a piece").expect("whole"));
            }
            assert!(pieces == 1 || body.frame().await.is_none());
            drop(body);
            tokio::time::sleep(TIMEOUT / 2).await;
            assert!(weak.upgrade().is_some() && !connection.is_cancelled());
            tokio::time::sleep(TIMEOUT).await;
            assert!(weak.upgrade().is_none() && connection.is_cancelled());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_in_time_ends_no_connection() {
        let connection = CancellationToken::new();
        let body = streamed(stream::iter([Bytes::from("a"), Bytes::from("b")]));
        let mut body =
            with_stall_timeout(body, StallTimeout { connection: Some(connection.clone()), ..timeout() }, ());
        for _ in 0..2 {
            let unsent = body.frame().await.expect("a piece").expect("whole");
            tokio::time::sleep(TIMEOUT / 2).await;
            drop(unsent);
        }
        assert!(body.frame().await.is_none());
        tokio::time::sleep(10 * TIMEOUT).await;
        assert!(!connection.is_cancelled());
    }
}
