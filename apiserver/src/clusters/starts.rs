//! Which clusters begin to be observed: some at a time, so that two hundred do not all answer at once when the hub
//! starts.
//!
//! **Invariant:** a turn is short. A cluster that hangs holds others up for [`Starts::PATIENCE`] and no longer.

use std::{sync::Arc, time::Duration};

use gatehouse_apiservice::client::jittered;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

/// How many clusters begin at a time. A cluster is some fifty lists.
const AT_ONCE: usize = 16;
/// The most that a turn waits before it begins.
const JITTER: Duration = Duration::from_millis(200);

/// Gives turns. Clones give the same ones.
#[derive(Debug, Clone)]
pub(super) struct Starts(Arc<Semaphore>);

/// Held while a cluster begins.
pub(super) type Turn = Option<OwnedSemaphorePermit>;

impl Default for Starts {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Starts {
    /// How long a cluster that does not answer holds its turn.
    pub(super) const PATIENCE: Duration = Duration::from_secs(2);
    /// How long a cluster that has answered holds its turn: as long as most take to be listed.
    pub(super) const LISTING: Duration = Duration::from_millis(500);

    /// Waits for a turn.
    pub(super) async fn turn(&self) -> Turn {
        // It is never closed.
        let turn = Arc::clone(&self.0).acquire_owned().await.ok();
        sleep(jittered(Duration::ZERO, JITTER)).await;
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::{task::JoinSet, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_hundred_begin_some_at_a_time_and_those_that_hang_delay_the_others_little() {
        let (starts, under_way, most) = (Starts::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let counts = Arc::new((under_way, most));
        let mut tasks = JoinSet::new();
        for number in 0..200 {
            let (starts, counts) = (starts.clone(), Arc::clone(&counts));
            tasks.spawn(async move {
                let turn = starts.turn().await;
                let (under_way, most) = &*counts;
                most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // A third hangs.
                sleep(if number % 3 == 0 { Starts::PATIENCE } else { Starts::LISTING }).await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                drop(turn);
            });
        }
        let began = Instant::now();
        tasks.join_all().await;
        assert_eq!(counts.1.load(Ordering::SeqCst), AT_ONCE);
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
