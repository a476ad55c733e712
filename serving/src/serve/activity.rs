//! Since when a connection is idle, and since when its client has been sending a request head.
//!
//! Each has its own limit. A client may keep a connection for minutes without a request. Once it has begun a head, it
//! must finish it soon, since an unfinished head occupies a buffer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long a connection may be idle. Go's clients close one after 90 s, and the server must not be first:
/// kube-apiserver calls webhooks over HTTP/1.1, and a POST that is sent while the server closes the connection is not
/// retried, so the reviewed write fails. The same limit holds for connections that were never used, since Go opens some
/// in advance.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(3);
/// How long a head may take from its first byte, as `ReadHeaderTimeout` of k8s.io/apiserver.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(32);

/// The requests and heads of a connection.
pub(super) struct Activity {
    since: Instant,
    open_requests: AtomicUsize,
    last_begin_millis: AtomicU64,
    last_end_millis: AtomicU64,
    /// When the current head began, plus one; 0 if no head has begun.
    head_millis: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            open_requests: AtomicUsize::new(0),
            last_begin_millis: AtomicU64::new(0),
            last_end_millis: AtomicU64::new(0),
            head_millis: AtomicU64::new(0),
        })
    }

    /// Records that a head is complete. Its request is open until the returned value is dropped.
    pub(super) fn begin_request(activity: &Arc<Self>) -> impl Send + Unpin + use<> {
        activity.open_requests.fetch_add(1, Ordering::SeqCst);
        activity.head_millis.store(0, Ordering::SeqCst);
        activity.last_begin_millis.store(activity.millis(), Ordering::SeqCst);
        let activity = Arc::clone(activity);
        OnDrop(move || {
            activity.last_end_millis.store(activity.millis(), Ordering::SeqCst);
            activity.open_requests.fetch_sub(1, Ordering::SeqCst);
        })
    }

    /// Records that the client has sent bytes. On HTTP/1.1, while no request is open, they belong to a head.
    fn record_received(&self) {
        if self.open_requests.load(Ordering::SeqCst) == 0 && self.head_millis.load(Ordering::SeqCst) == 0 {
            self.head_millis.store(self.millis().saturating_add(1), Ordering::SeqCst);
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a request is open, and when the last one began; if none is open, when the last one ended.
    pub(super) fn state(&self) -> (bool, Instant) {
        let is_busy = self.open_requests.load(Ordering::SeqCst) > 0;
        let last = if is_busy { &self.last_begin_millis } else { &self.last_end_millis };
        (is_busy, self.since + Duration::from_millis(last.load(Ordering::SeqCst)))
    }

    /// Returns once the connection has been idle for [`IDLE_TIMEOUT`].
    pub(super) async fn idle_timeout(&self) {
        loop {
            let is_used = self.open_requests.load(Ordering::SeqCst) > 0;
            let last_end = self.since + Duration::from_millis(self.last_end_millis.load(Ordering::SeqCst));
            let deadline = if is_used { Instant::now() } else { last_end } + IDLE_TIMEOUT;
            if !is_used && deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }

    /// Returns once a head has taken longer than [`HEADER_TIMEOUT`]. Use it on HTTP/1.1 only: on HTTP/2, clients send
    /// other frames between requests too.
    ///
    /// It polls instead of being woken, which would cost two wakes for each request. A head that begins while it sleeps
    /// is not late before the sleep ends.
    pub(super) async fn header_timeout(&self) {
        loop {
            let begun = self.head_millis.load(Ordering::SeqCst).checked_sub(1);
            let begun = begun.map_or_else(Instant::now, |millis| self.since + Duration::from_millis(millis));
            let deadline = begun + HEADER_TIMEOUT;
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// A stream that records in an [`Activity`] when the client sends bytes.
pub(super) struct ActivityStream<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> ActivityStream<S> {
    pub(super) fn new(stream: S, activity: &Arc<Activity>) -> Self {
        Self { stream, activity: Arc::clone(activity) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ActivityStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.record_received();
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ActivityStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Calls a function when it is dropped, also if its task is aborted.
pub(super) struct OnDrop<F: FnMut()>(pub(super) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idle_is_counted_from_the_last_request_and_not_while_one_is_open() {
        let activity = Activity::new();
        let request = Activity::begin_request(&activity);
        let idle = tokio::spawn({
            let activity = Arc::clone(&activity);
            async move { activity.idle_timeout().await }
        });
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert!(!idle.is_finished());
        drop(request);
        let ended = Instant::now();
        idle.await.expect("ends");
        assert!(ended.elapsed() >= IDLE_TIMEOUT && ended.elapsed() < 2 * IDLE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_is_late_by_its_own_time_and_nothing_else_is() {
        let activity = Activity::new();
        tokio::time::sleep(2 * HEADER_TIMEOUT).await;
        assert!(activity.header_timeout().now_or_never().is_none(), "not used yet");

        activity.record_received();
        let request = Activity::begin_request(&activity);
        activity.record_received();
        tokio::time::sleep(2 * HEADER_TIMEOUT).await;
        assert!(activity.header_timeout().now_or_never().is_none(), "a body");
        drop(request);
        tokio::time::sleep(2 * HEADER_TIMEOUT).await;
        assert!(activity.header_timeout().now_or_never().is_none(), "idle");

        activity.record_received();
        let begun = Instant::now();
        let dribbling = async {
            loop {
                tokio::time::sleep(HEADER_TIMEOUT / 4).await;
                activity.record_received();
            }
        };
        tokio::select! {
            () = activity.header_timeout() => {}
            () = dribbling => {}
        }
        assert_eq!(begun.elapsed(), HEADER_TIMEOUT, "a byte now and then does not help");
    }
}
