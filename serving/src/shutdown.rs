//! The shutdown sequence:
//!
//! 1. `/readyz` fails, and the server goes on serving for `--shutdown-delay-duration`, so that load balancers and the
//!    aggregator choose other replicas.
//! 2. The server accepts no more connections, and closes the open ones once their requests are answered.
//! 3. Watches end one group after the other, over half of `--shutdown-grace`, so that their clients do not all
//!    reconnect to other replicas at once.
//! 4. After the grace, the server closes the connections that are left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::HealthCheck;

/// The number of groups in which watches end: of a thousand watchers, about thirty reconnect at a time.
const WATCH_GROUPS: usize = 32;

/// How long the parts of the shutdown take.
#[derive(Debug, Clone, Copy)]
pub struct ShutdownTiming {
    /// `--shutdown-delay-duration`: from failing `/readyz` to refusing connections.
    pub delay: Duration,
    /// `--shutdown-grace`: from refusing connections to closing those that are left.
    pub grace: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    NotReady,
    Draining,
}

/// The state of the shutdown, shared by the server, its connections and its watches.
pub struct Shutdown {
    phase: watch::Sender<Phase>,
    watches: [CancellationToken; WATCH_GROUPS],
    next_group: AtomicUsize,
    timing: ShutdownTiming,
}

impl Shutdown {
    /// A shutdown that has not begun.
    pub fn new(timing: ShutdownTiming) -> Arc<Self> {
        Arc::new(Self {
            phase: watch::channel(Phase::Serving).0,
            watches: std::array::from_fn(|_| CancellationToken::new()),
            next_group: AtomicUsize::new(0),
            timing,
        })
    }

    /// Runs the sequence until the last group of watches ends. Call it once, when the process gets SIGTERM;
    /// [`crate::serve::Server::run`] returns later.
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

    /// A check that fails on `/readyz` from the beginning of the shutdown.
    pub fn readiness_check(self: &Arc<Self>) -> HealthCheck {
        let shutdown = Arc::clone(self);
        HealthCheck::readiness("shutdown", move || match *shutdown.phase.borrow() {
            Phase::Serving => Ok(()),
            _ => Err("the process is shutting down".to_owned()),
        })
    }

    /// Whether the shutdown has begun, even if the server still accepts connections.
    pub(crate) fn has_begun(&self) -> bool {
        *self.phase.borrow() != Phase::Serving
    }

    /// A token for a new watch, which is cancelled when that watch should end.
    pub(crate) fn watch_token(&self) -> CancellationToken {
        let group = self.next_group.fetch_add(1, Ordering::Relaxed) % WATCH_GROUPS;
        self.watches[group].clone()
    }

    pub(crate) async fn draining(&self) {
        // `self` owns the sender, so the channel does not close.
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
