//! A client and a cache for TokenReviews and SubjectAccessReviews, which kube-apiserver answers. The cache keeps each
//! answer for a while, and sends one review for concurrent requests with the same question.
//!
//! **Invariants:** the cache is bounded in entries and in time. It never keeps failures. It does not hold its lock
//! while it waits.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use gatehouse_apiservice::client::explain;
use lru::LruCache;
use tokio::time::Instant;

/// A connection that takes longer than this cannot carry a review within its deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A client for reviews. It does not retry: kube's default client retries after 429, 503 and 504, and would spend a
/// request's deadline on waiting.
pub fn client(mut config: kube::Config) -> Result<kube::Client, kube::Error> {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    kube::Client::try_from(config)
}

/// The SHA-256 of a question. Its size does not depend on what a client sends.
pub(crate) type Key = [u8; 32];

/// Why a review has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ReviewError {
    /// kube-apiserver did not answer within the deadline.
    #[error("no answer within the deadline")]
    Deadline,
    /// kube-apiserver could not be reached, or answered with an error.
    #[error("{0}")]
    Failed(String),
}

impl From<kube::Error> for ReviewError {
    fn from(error: kube::Error) -> Self {
        Self::Failed(explain(&error))
    }
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The cache.
    Hit,
    /// A review, sent for this caller or one before it.
    Miss,
}

type PendingReview<V> = Shared<BoxFuture<'static, Result<V, ReviewError>>>;

enum Entry<V> {
    Cached { answer: V, asked: Instant, until: Instant },
    Pending { pending: PendingReview<V>, asked: Instant },
}

/// Answers and pending reviews by question.
pub(crate) struct ReviewCache<V> {
    entries: Mutex<LruCache<Key, Entry<V>>>,
    lifetime: Duration,
}

impl<V: Clone + Send + Sync + 'static> ReviewCache<V> {
    /// A cache of up to `size` answers, each kept for `lifetime`.
    pub(crate) fn new(size: usize, lifetime: Duration) -> Arc<Self> {
        let size = NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN);
        Arc::new(Self { entries: Mutex::new(LruCache::new(size)), lifetime })
    }

    /// The cached answer, or that of a pending review, or that of `ask`.
    ///
    /// `ask` runs in its own task: a caller that is dropped neither cancels it for the others nor wastes the answer.
    pub(crate) async fn get_or_ask(
        self: &Arc<Self>,
        key: Key,
        deadline: Duration,
        ask: impl Future<Output = Result<V, ReviewError>> + Send + 'static,
    ) -> (Result<V, ReviewError>, Lookup) {
        let (answer, lookup) = self.get_or_ask_after(key, None, deadline, ask).await;
        (answer.map(|(answer, _)| answer), lookup)
    }

    /// Like [`ReviewCache::get_or_ask`], but takes only answers to reviews that were sent later than `after`. Also
    /// returns when the review was sent.
    pub(crate) async fn get_or_ask_after(
        self: &Arc<Self>,
        key: Key,
        after: Option<Instant>,
        deadline: Duration,
        ask: impl Future<Output = Result<V, ReviewError>> + Send + 'static,
    ) -> (Result<(V, Instant), ReviewError>, Lookup) {
        let is_later = |asked: &Instant| after.is_none_or(|after| *asked > after);
        let (pending, asked) = {
            let mut entries = self.lock();
            match entries.get(&key) {
                Some(Entry::Cached { answer, asked, until })
                    if Instant::now() < *until && is_later(asked) =>
                {
                    return (Ok((answer.clone(), *asked)), Lookup::Hit);
                }
                // A review that has ended and still has its entry has panicked: `store_answer` replaces or removes the
                // entry.
                Some(Entry::Pending { pending, asked }) if pending.peek().is_none() && is_later(asked) => {
                    (pending.clone(), *asked)
                }
                _ => {
                    let asked = Instant::now();
                    let pending = self.ask(key, asked, deadline, ask);
                    entries.put(key, Entry::Pending { pending: pending.clone(), asked });
                    (pending, asked)
                }
            }
        };
        (pending.await.map(|answer| (answer, asked)), Lookup::Miss)
    }

    /// The caller holds the lock, so that the task cannot call `store_answer` before the entry exists.
    fn ask(
        self: &Arc<Self>,
        key: Key,
        asked: Instant,
        deadline: Duration,
        ask: impl Future<Output = Result<V, ReviewError>> + Send + 'static,
    ) -> PendingReview<V> {
        let cache = Arc::clone(self);
        let asking = tokio::spawn(async move {
            let answer = tokio::time::timeout(deadline, ask).await.unwrap_or(Err(ReviewError::Deadline));
            cache.store_answer(key, asked, &answer);
            answer
        });
        let ended = |ended: Result<_, tokio::task::JoinError>| {
            ended.unwrap_or_else(|error| Err(ReviewError::Failed(error.to_string())))
        };
        asking.map(ended).boxed().shared()
    }

    fn store_answer(&self, key: Key, asked: Instant, answer: &Result<V, ReviewError>) {
        let mut entries = self.lock();
        match answer {
            Ok(answer) => {
                let until = Instant::now() + self.lifetime;
                entries.put(key, Entry::Cached { answer: answer.clone(), asked, until });
            }
            Err(_) => {
                entries.pop(&key);
            }
        }
    }

    /// A poisoned lock is ignored: no code panics while it holds the lock, and the map is consistent between
    /// operations.
    fn lock(&self) -> MutexGuard<'_, LruCache<Key, Entry<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(5);

    fn cache(size: usize) -> Arc<ReviewCache<usize>> {
        ReviewCache::new(size, Duration::from_secs(10))
    }

    async fn answer(cache: &Arc<ReviewCache<usize>>, key: u8, answer: usize) -> (usize, Lookup) {
        let (result, lookup) = cache.get_or_ask([key; 32], DEADLINE, async move { Ok(answer) }).await;
        (result.expect("answered"), lookup)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_its_lifetime() {
        let cache = cache(10);
        assert_eq!(answer(&cache, 1, 100).await, (100, Lookup::Miss));
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(answer(&cache, 1, 200).await, (100, Lookup::Hit));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(answer(&cache, 1, 300).await, (300, Lookup::Miss));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_wants_a_later_answer_gets_one_and_so_does_everybody_after() {
        let cache = cache(10);
        let later = async |after, value| {
            let (answer, lookup) =
                cache.get_or_ask_after([1; 32], after, DEADLINE, async move { Ok(value) }).await;
            let (answer, asked) = answer.expect("answered");
            (answer, asked, lookup)
        };
        let (first, asked, _) = later(None, 100).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(later(None, 200).await, (first, asked, Lookup::Hit));
        let (second, asked_again, lookup) = later(Some(asked), 300).await;
        assert_eq!((second, lookup), (300, Lookup::Miss));
        assert_eq!(later(Some(asked), 400).await, (300, asked_again, Lookup::Hit));
        assert_eq!(answer(&cache, 1, 500).await, (300, Lookup::Hit));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_asks_once() {
        let (cache, asked) = (cache(10), Arc::new(AtomicUsize::new(0)));
        let burst = (0..50).map(|_| {
            let (cache, asked) = (Arc::clone(&cache), Arc::clone(&asked));
            async move {
                let ask = async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Ok(asked.fetch_add(1, Ordering::SeqCst))
                };
                cache.get_or_ask([0; 32], DEADLINE, ask).await.0.expect("answered")
            }
        });
        assert!(futures::future::join_all(burst).await.into_iter().all(|answer| answer == 0));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_silence_are_not_remembered() {
        let cache = cache(10);
        let failed = cache.get_or_ask([0; 32], DEADLINE, async { Err(ReviewError::Failed("no".to_owned())) });
        assert!(matches!(failed.await.0, Err(ReviewError::Failed(_))));
        let silent = cache.get_or_ask([0; 32], DEADLINE, std::future::pending());
        assert!(matches!(silent.await.0, Err(ReviewError::Deadline)));
        assert_eq!(answer(&cache, 0, 7).await, (7, Lookup::Miss));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_fails_once_and_is_not_remembered() {
        let cache = cache(10);
        let panicking = cache.get_or_ask([0; 32], DEADLINE, async { panic!("for the test") });
        assert!(panicking.await.0.is_err());
        assert_eq!(answer(&cache, 0, 7).await, (7, Lookup::Miss));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_answers_make_room() {
        let cache = cache(2);
        for key in 1..=3 {
            answer(&cache, key, usize::from(key)).await;
        }
        assert_eq!(answer(&cache, 3, 9).await, (3, Lookup::Hit));
        assert_eq!(answer(&cache, 1, 9).await, (9, Lookup::Miss));
    }
}
