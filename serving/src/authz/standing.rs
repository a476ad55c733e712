//! A right that is used for as long as a watch is open.
//!
//! A watch is allowed once and goes on for an hour. So that a right which is taken away is not used for longer than
//! by somebody who asks anew (10 s), each answer is replaced by a later one before it is nine seconds old. Whoever is
//! first asks the cluster, and all who have the same question get the answer: a thousand watches of one user cost one
//! review in some seven seconds.
//!
//! While the cluster cannot be asked, watches go on for a minute: an apiserver that is restarted does not make every
//! client list again at one moment. Then they end. Fails closed, as everything here.

use std::{sync::Arc, time::Duration};

use gatehouse_apiservice::client::jittered;
use tokio::time::{Instant, sleep_until};

use super::{Attributes, Authorizer, Right};
use crate::{ApiError, authn::UserInfo, request_info::RequestInfo};

/// An answer is used for this long, and up to [`SPREAD`] longer. Together, with a second for the review itself, this
/// is the time that the authoriser remembers an answer for others.
const RENEWED: Duration = Duration::from_secs(7);
/// Keeps those who share a right from asking at one moment.
const SPREAD: Duration = Duration::from_secs(2);
/// Until the next try, up to twice that, while the cluster does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// From the last answer to giving up: an apiserver restarts in less.
const GRACE: Duration = Duration::from_mins(1);

/// The right to something that goes on.
pub struct Standing {
    authorizer: Arc<Authorizer>,
    user: UserInfo,
    request: RequestInfo,
    /// When the question was asked that was answered last.
    asked: Option<Instant>,
    /// When to look next; `None` for never again.
    due: Option<Instant>,
    /// Since when there has been no answer, at the most.
    confirmed: Instant,
    is_failing: bool,
}

impl Standing {
    /// The right that `user` has just been found to have.
    pub fn new(authorizer: Arc<Authorizer>, user: UserInfo, request: RequestInfo) -> Self {
        let now = Instant::now();
        // The answer may have been a remembered one: only looking tells how old it is, and costs nothing then.
        Self { authorizer, user, request, asked: None, due: Some(now), confirmed: now, is_failing: false }
    }

    /// Whether nothing more may be told before [`Standing::look`] has said so. While the cluster does not answer,
    /// nothing is held back for that, until the time for answers is over.
    pub fn must_look(&self) -> bool {
        let deadline = if self.is_failing { Some(self.confirmed + GRACE) } else { self.due };
        deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Asks. An error is what to tell the client at last.
    pub async fn look(&mut self) -> Result<(), ApiError> {
        let attributes = Attributes { user: &self.user, request: &self.request };
        // Boxed: a review's future takes some kilobytes, which an idle watch would hold for nothing.
        let confirm = Box::pin(self.authorizer.confirm(attributes, self.asked));
        match confirm.await {
            Ok(Right::Forever) => {
                self.is_failing = false;
                self.due = None;
            }
            Ok(Right::Since(asked)) => {
                self.is_failing = false;
                self.asked = Some(asked);
                self.confirmed = asked;
                self.due = Some(asked + jittered(RENEWED, SPREAD));
            }
            Ok(Right::Gone) => {
                return Err(ApiError::expired("the right to this watch was revoked: list again"));
            }
            Err(error) if self.confirmed.elapsed() >= GRACE => {
                tracing::warn!(%error, "watch ended: SubjectAccessReview has failed for a minute");
                return Err(ApiError::expired(
                    "the authorization of this watch cannot be renewed: list again",
                ));
            }
            Err(_) => {
                self.is_failing = true;
                self.due = Some(Instant::now() + jittered(RETRY, RETRY));
            }
        }
        Ok(())
    }

    /// Looks whenever it is time to; returns what to tell the client when the right is gone. May be dropped at any
    /// time and called again.
    pub async fn lost(&mut self) -> ApiError {
        loop {
            match self.due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
            if let Err(lost) = self.look().await {
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

    fn standing(authorizer: &Arc<Authorizer>) -> Standing {
        Standing::new(Arc::clone(authorizer), user(), request())
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_taken_away_is_lost_within_ten_seconds() {
        for taken_after in [0, 1, 3, 5, 8, 9, 10, 100].map(Duration::from_secs) {
            let (cluster, authorizer) = cluster();
            let mut standing = standing(&authorizer);
            // Somebody has asked just before, and what was answered is remembered.
            standing.look().await.expect("allowed");
            let began = Instant::now();
            let taken = async {
                sleep(taken_after).await;
                cluster.allow(false);
                Instant::now()
            };
            let (taken, lost) = tokio::join!(taken, standing.lost());
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
        let lost = timeout(Duration::from_mins(1), standing(&authorizer).lost()).await;
        assert_eq!(lost.expect("lost").reason(), "Expired");
        assert!(taken.elapsed() <= Duration::from_secs(10), "{:?}", taken.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_watches_of_one_user_cost_one_review_each_time() {
        let (cluster, authorizer) = cluster();
        let watches: Vec<_> = (0..1000).map(|_| standing(&authorizer)).collect();
        let all = futures::future::select_all(
            watches.into_iter().map(|mut watch| Box::pin(async move { watch.lost().await })),
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
        let mut watch = standing(&authorizer);
        watch.look().await.expect("allowed");
        cluster.reach(false);
        assert!(timeout(Duration::from_secs(50), watch.lost()).await.is_err());
        assert!(!watch.must_look(), "nothing is held back");
        cluster.reach(true);
        assert!(timeout(Duration::from_mins(10), watch.lost()).await.is_err(), "it has recovered");
        cluster.reach(false);
        let start = Instant::now();
        let lost = watch.lost().await;
        assert!(lost.to_string().contains("cannot be renewed"), "{lost}");
        assert!((51..=62).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_nobody_can_take_away_is_looked_at_once() {
        let mut watch = standing(&Arc::new(Authorizer::CertificateHolders));
        assert!(timeout(Duration::from_hours(24), watch.lost()).await.is_err());
        assert!(!watch.must_look());
    }
}
