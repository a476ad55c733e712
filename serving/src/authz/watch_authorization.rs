//! Renews the authorization of a watch for as long as it is open.
//!
//! A watch is authorized once and may last an hour. A revoked right must not last longer on a watch than for new
//! requests (10 s, the lifetime of the cache), so each watch gets a newer answer before its last one is nine seconds
//! old. The first watch that needs one sends a review, and all watches with the same question share the answer: a
//! thousand watches of one user cost about one review in seven seconds.
//!
//! While kube-apiserver does not answer, watches go on for a minute, so that a restart of it does not make all clients
//! list again at once. Then they end: authorization fails closed here too.

use std::{sync::Arc, time::Duration};

use gatehouse_apiservice::client::jittered;
use tokio::time::{Instant, sleep_until};

use super::{Attributes, Authorizer, Reauthorization};
use crate::{ApiError, authn::UserInfo, request_info::RequestInfo};

/// How long an answer is used, before up to [`RENEW_JITTER`] of jitter. The two and a second for the review itself add
/// up to the ten seconds for which the authorizer caches an answer.
const RENEW_INTERVAL: Duration = Duration::from_secs(7);
/// Jitter, so that watches of different users do not send their reviews at once.
const RENEW_JITTER: Duration = Duration::from_secs(2);
/// The time between two retries while kube-apiserver does not answer, before as much jitter.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a watch goes on after its last answer. kube-apiserver restarts in less.
const OUTAGE_GRACE: Duration = Duration::from_mins(1);

/// The authorization of a watch.
pub struct WatchAuthorization {
    authorizer: Arc<Authorizer>,
    user: UserInfo,
    request: RequestInfo,
    /// When the review was sent that was answered last.
    review_sent: Option<Instant>,
    /// When to renew; `None` if that is not needed.
    due: Option<Instant>,
    /// When the last answered review was sent, or when the watch began.
    confirmed: Instant,
    is_failing: bool,
}

impl WatchAuthorization {
    /// For a `request` that has just been allowed to `user`.
    pub fn new(authorizer: Arc<Authorizer>, user: UserInfo, request: RequestInfo) -> Self {
        let now = Instant::now();
        // The answer may be a cached one of unknown age. Renewing at once makes its age known, and costs no review.
        Self {
            authorizer,
            user,
            request,
            review_sent: None,
            due: Some(now),
            confirmed: now,
            is_failing: false,
        }
    }

    /// Whether events must wait until [`WatchAuthorization::renew`] succeeds. While kube-apiserver does not answer, they
    /// do not wait until a minute is over.
    pub fn is_renewal_due(&self) -> bool {
        let deadline = if self.is_failing { Some(self.confirmed + OUTAGE_GRACE) } else { self.due };
        deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Renews the authorization. If that fails, the watch must end with the returned error (410, so that the client
    /// lists again). A review without an answer is no error before a minute is over.
    pub async fn renew(&mut self) -> Result<(), ApiError> {
        let attributes = Attributes { user: &self.user, request: &self.request };
        // Boxed, since the future takes some kilobytes, which an idle watch would hold for nothing.
        let reauthorized = Box::pin(self.authorizer.reauthorize(attributes, self.review_sent));
        match reauthorized.await {
            Ok(Reauthorization::AlwaysAllowed) => {
                self.is_failing = false;
                self.due = None;
            }
            Ok(Reauthorization::AllowedAt(review_sent)) => {
                self.is_failing = false;
                self.review_sent = Some(review_sent);
                self.confirmed = review_sent;
                self.due = Some(review_sent + jittered(RENEW_INTERVAL, RENEW_JITTER));
            }
            Ok(Reauthorization::Revoked) => {
                return Err(ApiError::expired("the right to this watch was revoked: list again"));
            }
            Err(error) if self.confirmed.elapsed() >= OUTAGE_GRACE => {
                tracing::warn!(%error, "watch ended: SubjectAccessReview has failed for a minute");
                return Err(ApiError::expired(
                    "the authorization of this watch cannot be renewed: list again",
                ));
            }
            Err(_) => {
                self.is_failing = true;
                self.due = Some(Instant::now() + jittered(RETRY_INTERVAL, RETRY_INTERVAL));
            }
        }
        Ok(())
    }

    /// Renews the authorization whenever it is due. Returns the error to end the watch with, once the right is revoked
    /// or cannot be renewed. Cancel safe.
    pub async fn revoked(&mut self) -> ApiError {
        loop {
            match self.due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
            if let Err(lost) = self.renew().await {
                return lost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::{
        super::testing::{cluster, request, user},
        *,
    };

    fn authorization(authorizer: &Arc<Authorizer>) -> WatchAuthorization {
        WatchAuthorization::new(Arc::clone(authorizer), user(), request())
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_taken_away_is_lost_within_ten_seconds() {
        for taken_after in [0, 1, 3, 5, 8, 9, 10, 100].map(Duration::from_secs) {
            let (cluster, authorizer) = cluster();
            let mut authorization = authorization(&authorizer);
            // The answer is cached by an earlier request.
            authorization.renew().await.expect("allowed");
            let began = Instant::now();
            let taken = async {
                sleep(taken_after).await;
                cluster.allow(false);
                Instant::now()
            };
            let (taken, lost) = tokio::join!(taken, authorization.revoked());
            assert_eq!(lost.reason(), "Expired");
            assert!(taken.elapsed() <= Duration::from_secs(10), "{taken_after:?}: {:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_answer_to_somebody_else_does_not_prolong_the_right() {
        let (cluster, authorizer) = cluster();
        authorizer.authorize(Attributes { user: &user(), request: &request() }).await.unwrap();
        cluster.allow(false);
        let taken = Instant::now();
        sleep(Duration::from_millis(9_900)).await;
        let lost = timeout(Duration::from_mins(1), authorization(&authorizer).revoked()).await;
        assert_eq!(lost.expect("lost").reason(), "Expired");
        assert!(taken.elapsed() <= Duration::from_secs(10), "{:?}", taken.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_watches_of_one_user_cost_one_review_each_time() {
        let (cluster, authorizer) = cluster();
        let watches: Vec<_> = (0..1000).map(|_| authorization(&authorizer)).collect();
        let all = futures::future::select_all(
            watches.into_iter().map(|mut watch| Box::pin(async move { watch.revoked().await })),
        );
        let (_, asked) = tokio::join!(timeout(Duration::from_secs(700), all), async {
            sleep(Duration::from_secs(699)).await;
            cluster.asked()
        });
        assert!((700 / 9..=700 / 7).contains(&asked), "{asked} reviews in 700 s");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_borne_for_a_minute() {
        let (cluster, authorizer) = cluster();
        let mut watch = authorization(&authorizer);
        watch.renew().await.expect("allowed");
        cluster.reach(false);
        assert!(timeout(Duration::from_secs(50), watch.revoked()).await.is_err());
        assert!(!watch.is_renewal_due(), "nothing is held back");
        cluster.reach(true);
        assert!(timeout(Duration::from_mins(10), watch.revoked()).await.is_err(), "it has recovered");
        cluster.reach(false);
        let start = Instant::now();
        let lost = watch.revoked().await;
        assert!(lost.to_string().contains("cannot be renewed"), "{lost}");
        assert!((51..=62).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_nobody_can_take_away_is_looked_at_once() {
        let mut watch = authorization(&Arc::new(Authorizer::CertificateHolders));
        assert!(timeout(Duration::from_hours(24), watch.revoked()).await.is_err());
        assert!(!watch.is_renewal_due());
    }
}
