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
pub(super) struct Patience {
    pub(super) long: Duration,
    /// The limit while `is_short` returns true.
    pub(super) short: Duration,
    /// Whether few slots are free for other requests.
    pub(super) is_short: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The same body, aborted once nothing was read of it for as long as `patience` allows. `held` is dropped when the body
/// ends or is aborted.
pub(super) fn attended(body: Body, patience: Patience, held: impl Send + 'static) -> Body {
    let answer = Answer { body, _held: Box::new(held) };
    let shared = Arc::new(Mutex::new(Shared { answer: Some(answer), handed: None, is_watched: false }));
    Attended { shared, patience: Arc::new(patience), watchdog: None, is_over: false }.boxed_unsync()
}

struct Answer {
    body: Body,
    _held: Box<dyn Send>,
}

struct Shared {
    /// `None` once it has ended or was aborted.
    answer: Option<Answer>,
    /// When the last chunk was returned; `None` while the client waits for the next one.
    handed: Option<Instant>,
    /// Whether a watchdog is running.
    is_watched: bool,
}

struct Attended {
    shared: Arc<Mutex<Shared>>,
    patience: Arc<Patience>,
    /// The last watchdog. A body of a single chunk never needs one.
    watchdog: Option<AbortHandle>,
    is_over: bool,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch(shared: Arc<Mutex<Shared>>, patience: Arc<Patience>) {
    loop {
        let is_short = (patience.is_short)();
        let (handed, waited) = {
            let mut shared = lock(&shared);
            let Some(handed) = shared.handed else {
                shared.is_watched = false;
                return;
            };
            let waited = handed.elapsed();
            if waited >= patience.long || is_short && waited >= patience.short {
                let given_up = shared.answer.take();
                // Unlock before `given_up` is dropped, which may take long.
                drop(shared);
                if given_up.is_some() {
                    tracing::debug!(?waited, "response aborted: the client stopped reading");
                }
                return;
            }
            (handed, waited)
        };
        // No event tells when slots become short, so `is_short` is polled.
        let next = if waited < patience.short { patience.short } else { waited + patience.short };
        tokio::time::sleep_until(handed + next.min(patience.long)).await;
    }
}

impl hyper::body::Body for Attended {
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
            shared.handed = None;
            let Some(answer) = &mut shared.answer else {
                drop(shared);
                self.is_over = true;
                return Poll::Ready(Some(Err(Stalled)));
            };
            let frame = Pin::new(&mut answer.body).poll_frame(context);
            let is_over = matches!(frame, Poll::Ready(None | Some(Err(_)))) || answer.body.is_end_stream();
            let is_handed = frame.is_ready() && !is_over;
            shared.handed = is_handed.then(Instant::now);
            let wants_watchdog = is_handed && !std::mem::replace(&mut shared.is_watched, true);
            (frame, is_over.then(|| shared.answer.take()), wants_watchdog)
        };
        if ended.is_some() {
            self.is_over = true;
        } else if wants_watchdog {
            let watchdog = tokio::spawn(watch(Arc::clone(&self.shared), Arc::clone(&self.patience)));
            self.watchdog = Some(watchdog.abort_handle());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || lock(&self.shared).answer.as_ref().is_some_and(|answer| answer.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.shared).answer.as_ref().map_or_else(SizeHint::default, |answer| answer.body.size_hint())
    }
}

impl Drop for Attended {
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

    const PATIENCE: Duration = Duration::from_mins(1);

    /// A body of `count` chunks, and a pointer that tells whether `held` still exists.
    fn pieces(count: usize) -> (Body, std::sync::Weak<()>) {
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let body = streamed(stream::iter((0..count).map(|_| Bytes::from_static(b"piece"))));
        (attended(body, patience(), held), weak)
    }

    fn patience() -> Patience {
        Patience { long: PATIENCE, short: PATIENCE / 10, is_short: Box::new(|| false) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_let_go_and_does_not_end_well() {
        let (mut body, held) = pieces(10);
        body.frame().await.expect("a piece").expect("whole");
        tokio::time::sleep(PATIENCE / 2).await;
        assert!(held.upgrade().is_some());
        tokio::time::sleep(PATIENCE).await;
        assert!(held.upgrade().is_none());
        body.frame().await.expect("an error").expect_err("not the end");
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_let_go_soon_once_others_lack_it() {
        let is_short = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let lacks = Arc::clone(&is_short);
        let patience = Patience {
            is_short: Box::new(move || lacks.load(std::sync::atomic::Ordering::Relaxed)),
            ..patience()
        };
        let mut body = attended(streamed(stream::repeat(Bytes::from_static(b"piece"))), patience, held);
        body.frame().await.expect("a piece").expect("whole");
        tokio::time::sleep(PATIENCE / 2).await;
        assert!(weak.upgrade().is_some(), "nobody lacks it");
        is_short.store(true, std::sync::atomic::Ordering::Relaxed);
        let since = Instant::now();
        while weak.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(since.elapsed() <= PATIENCE / 5, "{:?}", since.elapsed());
        body.frame().await.expect("an error").expect_err("not the end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_all() {
        let (mut body, held) = pieces(10);
        let mut count = 0;
        while let Some(piece) = body.frame().await {
            piece.expect("whole");
            count += 1;
            tokio::time::sleep(PATIENCE / 2).await;
        }
        assert_eq!(count, 10);
        assert!(held.upgrade().is_none(), "the end lets go");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_may_have_nothing_to_tell_for_long_but_not_tell_it_to_nobody() {
        let (news, told) = futures::channel::mpsc::unbounded();
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let mut body = attended(streamed(told), patience(), held);
        for _ in 0..3 {
            let quiet = tokio::time::timeout(3 * PATIENCE, body.frame()).await;
            assert!(quiet.is_err() && weak.upgrade().is_some());
            assert_eq!(
                tokio::runtime::Handle::current().metrics().num_alive_tasks(),
                0,
                "nothing is watched"
            );
            news.unbounded_send(Bytes::from_static(b"news")).expect("it is there");
            body.frame().await.expect("a piece").expect("whole");
        }
        tokio::time::sleep(2 * PATIENCE).await;
        assert!(weak.upgrade().is_none());
        body.frame().await.expect("an error").expect_err("not the end");
    }

    #[tokio::test]
    async fn a_whole_body_needs_no_watching() {
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let mut body = attended(full("whole"), patience(), held);
        assert_eq!(body.size_hint().exact(), Some(5));
        body.frame().await.expect("a piece").expect("whole");
        assert!(body.is_end_stream() && weak.upgrade().is_none());
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    }
}
