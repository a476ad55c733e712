//! The end, in order: not ready, but serving (`--shutdown-delay-duration`, in which load balancers and the
//! aggregator look elsewhere); then no new connections, and those there are are closed when what came through them is
//! answered; watches end spread over half of the grace, so that their clients do not all come back to the next replica
//! at once; then whatever is left is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::HealthCheck;

/// Watches end in this many groups. Fine enough that a thousand watchers come back some thirty at a time.
const WATCH_GROUPS: usize = 32;

/// How long the parts of the end take.
#[derive(Debug, Clone, Copy)]
pub struct ShutdownTiming {
    /// `--shutdown-delay-duration`: from being not ready to refusing.
    pub delay: Duration,
    /// `--shutdown-grace`: from refusing to cutting.
    pub grace: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    NotReady,
    Draining,
}

/// How far the end has come. Shared by all that have a part in it.
pub struct Shutdown {
    phase: watch::Sender<Phase>,
    watches: [CancellationToken; WATCH_GROUPS],
    next_group: AtomicUsize,
    timing: ShutdownTiming,
}

impl Shutdown {
    /// Nothing has ended yet.
    pub fn new(timing: ShutdownTiming) -> Arc<Self> {
        Arc::new(Self {
            phase: watch::channel(Phase::Serving).0,
            watches: std::array::from_fn(|_| CancellationToken::new()),
            next_group: AtomicUsize::new(0),
            timing,
        })
    }

    /// Runs the sequence up to the last watch's end. To be called once, when the process is told to stop;
    /// [`crate::serve::Server::run`] returns some time after.
    pub async fn run(&self) {
        tracing::info!(delay = ?self.timing.delay, "shutting down: /readyz fails from now on");
        self.phase.send_replace(Phase::NotReady);
        tokio::time::sleep(self.timing.delay).await;
        tracing::info!(grace = ?self.timing.grace, "shutting down: draining");
        self.phase.send_replace(Phase::Draining);
        let pause = self.timing.grace / 2 / u32::try_from(WATCH_GROUPS).unwrap_or(u32::MAX);
        for group in &self.watches {
            group.cancel();
            tokio::time::sleep(pause).await;
        }
    }

    /// Fails on `/readyz` as soon as the end begins.
    pub fn readiness_check(self: &Arc<Self>) -> HealthCheck {
        let shutdown = Arc::clone(self);
        HealthCheck::readiness("shutdown", move || match *shutdown.phase.borrow() {
            Phase::Serving => Ok(()),
            _ => Err("the process is shutting down".to_owned()),
        })
    }

    /// The process has been told to stop, whatever it still serves.
    pub(crate) fn has_begun(&self) -> bool {
        *self.phase.borrow() != Phase::Serving
    }

    /// Cancelled when the watch that it is given to should end.
    pub(crate) fn watch_token(&self) -> CancellationToken {
        let group = self.next_group.fetch_add(1, Ordering::Relaxed) % WATCH_GROUPS;
        self.watches[group].clone()
    }

    pub(crate) async fn draining(&self) {
        // The sender is this one's own, so the channel does not close.
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Draining).await;
    }

    pub(crate) fn grace(&self) -> Duration {
        self.timing.grace
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::Instant;

    use super::*;

    const TIMING: ShutdownTiming =
        ShutdownTiming { delay: Duration::from_secs(10), grace: Duration::from_secs(64) };

    #[tokio::test(start_paused = true)]
    async fn readiness_goes_first_then_new_requests_then_watches_one_group_after_another() {
        let shutdown = Shutdown::new(TIMING);
        let watches: Vec<_> = (0..WATCH_GROUPS).map(|_| shutdown.watch_token()).collect();
        let start = Instant::now();
        let running = tokio::spawn({
            let shutdown = Arc::clone(&shutdown);
            async move { shutdown.run().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(shutdown.has_begun());
        assert!(shutdown.draining().now_or_never().is_none());
        shutdown.draining().await;
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        watches[0].cancelled().await;
        assert!(!watches[1].is_cancelled());
        watches[31].cancelled().await;
        assert_eq!(start.elapsed(), Duration::from_secs(10 + 31));
        running.await.expect("ends");
    }
}
