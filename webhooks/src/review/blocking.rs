//! Runs the long work of large reviews.
//!
//! **Invariant:** on a runtime with several threads, small reviews do not wait for large ones.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::block_in_place;

/// Longer texts take milliseconds to read. An ordinary review has some kilobytes.
const LONG: usize = 128 * 1024;

/// Parses one long text at a time, so that processors stay free for other work.
#[derive(Debug)]
pub(super) struct Lane(Semaphore);

impl Lane {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(1))
    }

    /// Runs `work` on a text of `length` bytes.
    pub(super) async fn work<T>(&self, length: usize, work: impl FnOnce() -> T) -> T {
        if length <= LONG {
            return work();
        }
        // The semaphore is never closed.
        let _turn = self.0.acquire().await;
        block_in_place_if_long(length, work)
    }
}

/// Runs `work` on a text of `length` bytes. If it is long, other tasks of this thread move to another thread.
pub(super) fn block_in_place_if_long<T>(length: usize, work: impl FnOnce() -> T) -> T {
    let has_others = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if length > LONG && has_others() { block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_long_text_leaves_the_thread_to_others_and_waits_for_no_other_kind() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        let lane = Arc::new(Lane::new());
        let (begun, waits) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let long = runtime.spawn({
            let lane = Arc::clone(&lane);
            async move {
                let work = move || {
                    begun.send(()).expect("somebody waits");
                    ends.recv().expect("it is ended");
                };
                lane.work(LONG + 1, work).await;
            }
        });
        waits.recv().expect("it has begun");
        // The only worker of the runtime is busy with the long text; the short task still runs.
        let done = Arc::new(AtomicUsize::new(0));
        let short = runtime.spawn({
            let (lane, done) = (Arc::clone(&lane), Arc::clone(&done));
            async move { lane.work(LONG, || done.fetch_add(1, Ordering::SeqCst)).await }
        });
        runtime.block_on(short).expect("it ends");
        assert_eq!(done.load(Ordering::SeqCst), 1);
        assert!(lane.0.try_acquire().is_err(), "one long text at a time");
        end.send(()).expect("it waits");
        runtime.block_on(long).expect("it ends");
    }
}
