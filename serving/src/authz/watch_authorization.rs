//! Renews the authorization of a watch for as long as it is open.
//!
//! A watch is authorized once and may last an hour. A revoked right must not last longer on a watch than for new
//! requests (10 s, the lifetime of the cache): **no event is sent by an answer that is older than nine seconds.** Watches
//! with the same question share an answer: a thousand watches of one user cost about one review in seven seconds.
//!
//! A watch without events has nothing to protect. Where RBAC is observed ([`RbacChanges`]) its authorization is renewed
//! soon after each change of RBAC, so that it ends within ten seconds of its right, and otherwise every five minutes, for
//! other authorizers. Where RBAC is not observed it is renewed as if there were events.
//!
//! While kube-apiserver does not answer, watches go on for a minute, so that a restart of it does not make all clients
//! list again at once. Then they end: authorization fails closed here too.

use std::{sync::Arc, time::Duration};

use gatehouse_apiservice::client::jittered;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Attributes, Authorizer, RbacChanges, Reauthorization};
use crate::{ApiError, authn::UserInfo, request_info::RequestInfo};

/// How long an answer is used, before up to [`RENEW_JITTER`] of jitter. The two and a second for the review itself add
/// up to the ten seconds for which the authorizer caches an answer.
const RENEW_INTERVAL: Duration = Duration::from_secs(7);
/// Jitter, so that watches of different users do not send their reviews at once.
const RENEW_JITTER: Duration = Duration::from_secs(2);
/// How long an answer is used while there are no events and RBAC does not change, before a fifth of jitter.
const IDLE_INTERVAL: Duration = Duration::from_mins(5);
/// How long kube-apiserver may take to decide by a change of RBAC that is observed here.
const SETTLED: Duration = Duration::from_secs(1);
/// The time between two retries while kube-apiserver does not answer, before as much jitter.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a watch goes on after its last answer. kube-apiserver restarts in less.
const OUTAGE_GRACE: Duration = Duration::from_mins(1);
/// How long kube-apiserver may fail to answer about a watch whose last answer is older than that.
const FAILING_GRACE: Duration = Duration::from_secs(50);

/// The authorization of a watch.
pub struct WatchAuthorization {
    authorizer: Arc<Authorizer>,
    user: UserInfo,
    request: RequestInfo,
    changes: Option<RbacChanges>,
    /// What happened before is known to reviews that are sent from then on: the start, and changes of RBAC.
    settled: Instant,
    /// When the review was sent that was answered last.
    review_sent: Option<Instant>,
    times: Option<Times>,
    /// When the last answered review was sent, or when the watch began.
    confirmed: Instant,
    failing_since: Option<Instant>,
}

/// Until when the last answer is used. `None` in its place: for ever.
#[derive(Clone, Copy)]
struct Times {
    /// For events.
    fresh_until: Instant,
    /// While there are none.
    renew_at: Instant,
}

impl WatchAuthorization {
    /// For a `request` that has just been allowed to `user`.
    pub fn new(authorizer: Arc<Authorizer>, user: UserInfo, request: RequestInfo) -> Self {
        let now = Instant::now();
        Self {
            changes: authorizer.rbac_changes(),
            authorizer,
            user,
            request,
            settled: now,
            review_sent: None,
            // The answer may be a cached one of unknown age. Renewing at once makes its age known, and costs no review.
            times: Some(Times { fresh_until: now, renew_at: now }),
            confirmed: now,
            failing_since: None,
        }
    }

    /// Whether events must wait until [`WatchAuthorization::renew`] succeeds. While kube-apiserver does not answer, they
    /// do not wait until a minute is over.
    pub fn is_stale(&self) -> bool {
        self.times.is_some_and(|times| match self.failing_since {
            Some(_) => self.confirmed.elapsed() >= OUTAGE_GRACE,
            None => Instant::now() >= times.fresh_until,
        })
    }

    /// Whether it is time for [`WatchAuthorization::renew`], events or not.
    pub fn is_renewal_due(&self) -> bool {
        self.times.is_some_and(|times| Instant::now() >= times.renew_at)
    }

    /// Renews the authorization. If that fails, the watch must end with the returned error (410, so that the client
    /// lists again). A review without an answer is no error before a minute is over; if the last answer is older than
    /// that, this goes on until there is one. Cancel safe.
    pub async fn renew(&mut self) -> Result<(), ApiError> {
        loop {
            let attributes = Attributes { user: &self.user, request: &self.request };
            // Boxed, since the future takes some kilobytes, which an idle watch would hold for nothing.
            let reauthorized = Box::pin(self.authorizer.reauthorize(attributes, self.review_sent));
            match reauthorized.await {
                Ok(Reauthorization::AlwaysAllowed) => self.times = None,
                Ok(Reauthorization::AllowedAt(review_sent)) => self.allowed(review_sent),
                Ok(Reauthorization::Revoked) => {
                    return Err(ApiError::expired("the right to this watch was revoked: list again"));
                }
                Err(error) => {
                    let failing = self.failing_since.get_or_insert_with(Instant::now).elapsed();
                    let is_old = self.confirmed.elapsed() >= OUTAGE_GRACE;
                    if is_old && failing >= FAILING_GRACE {
                        tracing::warn!(%error, "watch ended: SubjectAccessReview has failed for a minute");
                        return Err(ApiError::expired(
                            "the authorization of this watch cannot be renewed: list again",
                        ));
                    }
                    let again = jittered(RETRY_INTERVAL, RETRY_INTERVAL);
                    if is_old {
                        sleep(again).await;
                        continue;
                    }
                    let again = Instant::now() + again;
                    self.times = Some(Times { fresh_until: again, renew_at: again });
                    return Ok(());
                }
            }
            self.failing_since = None;
            return Ok(());
        }
    }

    fn allowed(&mut self, review_sent: Instant) {
        self.review_sent = Some(review_sent);
        self.confirmed = review_sent;
        let fresh_until = review_sent + jittered(RENEW_INTERVAL, RENEW_JITTER);
        let is_observed = self.changes.as_ref().is_some_and(|changes| changes.borrow().is_some());
        let renew_at = if is_observed && review_sent >= self.settled {
            review_sent + jittered(IDLE_INTERVAL, IDLE_INTERVAL / 5)
        } else {
            fresh_until
        };
        self.times = Some(Times { fresh_until, renew_at });
    }

    /// Renews the authorization whenever it is due. Returns the error to end the watch with, once the right is revoked
    /// or cannot be renewed. Cancel safe.
    pub async fn revoked(&mut self) -> ApiError {
        loop {
            let Some(times) = self.times else { return std::future::pending().await };
            tokio::select! {
                () = sleep_until(times.renew_at) => if let Err(lost) = self.renew().await {
                    return lost;
                },
                () = changed(&mut self.changes) => self.rbac_changed(times),
            }
        }
    }

    /// Renews once kube-apiserver knows the change, and no more often than if there were events.
    fn rbac_changed(&mut self, times: Times) {
        let now = Instant::now();
        self.settled = now + SETTLED;
        let soon = times.fresh_until.max(now + jittered(SETTLED * 3 / 2, SETTLED * 3 / 2));
        self.times = Some(Times { renew_at: times.renew_at.min(soon), ..times });
    }
}

async fn changed(changes: &mut Option<RbacChanges>) {
    let is_over = match changes {
        Some(changes) => changes.changed().await.is_err(),
        None => std::future::pending().await,
    };
    if is_over {
        // Nobody observes any more.
        *changes = None;
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_fake_api::Reviews;
    use tokio::{
        sync::watch,
        time::{sleep, timeout},
    };

    use super::{
        super::testing::{cluster, cluster_with, request, user},
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
        assert!(!watch.is_stale(), "nothing is held back");
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
        assert!(!watch.is_renewal_due() && !watch.is_stale());
    }

    /// An authorizer beside which RBAC is observed, with the number of its changes.
    fn observed() -> (Arc<Reviews>, Arc<Authorizer>, watch::Sender<Option<u64>>) {
        let (noticed, changes) = watch::channel(Some(0));
        let (cluster, authorizer) = cluster_with(Some(changes));
        (cluster, authorizer, noticed)
    }

    fn change(noticed: &watch::Sender<Option<u64>>) {
        noticed.send_modify(|number| *number = number.map(|number| number + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_watch_costs_a_review_in_five_minutes_and_one_for_each_change_of_rbac() {
        let (cluster, authorizer, noticed) = observed();
        let mut watch = authorization(&authorizer);
        assert!(timeout(Duration::from_secs(20), watch.revoked()).await.is_err());
        assert_eq!(cluster.asked(), 1);
        assert!(timeout(Duration::from_mins(30), watch.revoked()).await.is_err());
        let asked = cluster.asked();
        assert!((1 + 5..=1 + 6).contains(&asked), "{asked}");
        change(&noticed);
        assert!(timeout(Duration::from_secs(20), watch.revoked()).await.is_err());
        assert!((asked + 1..=asked + 2).contains(&cluster.asked()), "{} after {asked}", cluster.asked());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_before_the_watch_is_renewed_once() {
        let (cluster, authorizer, _noticed) = observed();
        authorizer.authorize(Attributes { user: &user(), request: &request() }).await.unwrap();
        sleep(Duration::from_secs(3)).await;
        let mut watch = authorization(&authorizer);
        assert!(timeout(Duration::from_secs(30), watch.revoked()).await.is_err());
        assert_eq!(cluster.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_rbac_ends_an_idle_watch_within_ten_seconds() {
        for idle in [0, 1, 5, 20, 1000].map(Duration::from_secs) {
            let (cluster, authorizer, noticed) = observed();
            let mut watch = authorization(&authorizer);
            assert!(timeout(idle, watch.revoked()).await.is_err());
            let revoked = Instant::now();
            change(&noticed);
            // kube-apiserver takes a moment to know it, too.
            let later = async {
                sleep(SETTLED.mul_f64(0.99)).await;
                cluster.allow(false);
            };
            let (lost, ()) = tokio::join!(watch.revoked(), later);
            assert_eq!(lost.reason(), "Expired");
            assert!(revoked.elapsed() <= Duration::from_secs(10), "{idle:?}: {:?}", revoked.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_wait_for_an_answer_of_the_last_ten_seconds_however_idle_the_watch_was() {
        let (cluster, authorizer, _noticed) = observed();
        let mut watch = authorization(&authorizer);
        assert!(timeout(Duration::from_mins(2), watch.revoked()).await.is_err());
        // Another authorizer than RBAC takes the right away.
        cluster.allow(false);
        assert!(watch.is_stale() && !watch.is_renewal_due());
        assert_eq!(watch.renew().await.expect_err("revoked").reason(), "Expired");
    }

    #[tokio::test(start_paused = true)]
    async fn events_of_an_idle_watch_wait_while_nobody_answers() {
        let (cluster, authorizer, _noticed) = observed();
        let mut watch = authorization(&authorizer);
        assert!(timeout(Duration::from_mins(2), watch.revoked()).await.is_err());
        cluster.reach(false);
        assert!(timeout(Duration::from_secs(30), watch.renew()).await.is_err(), "it goes on");
        assert!(watch.is_stale());
        cluster.reach(true);
        watch.renew().await.expect("allowed");
        assert!(!watch.is_stale());
        assert!(timeout(Duration::from_mins(2), watch.revoked()).await.is_err());
        cluster.reach(false);
        let start = Instant::now();
        assert!(watch.renew().await.expect_err("too long").to_string().contains("cannot be renewed"));
        assert!((50..=62).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_observation_an_idle_watch_is_renewed_as_if_there_were_events() {
        let (cluster, authorizer, noticed) = observed();
        let mut watch = authorization(&authorizer);
        assert!(timeout(Duration::from_mins(1), watch.revoked()).await.is_err());
        noticed.send_replace(None);
        let before = cluster.asked();
        assert!(timeout(Duration::from_secs(700), watch.revoked()).await.is_err());
        let asked = cluster.asked() - before;
        assert!((700 / 10..=700 / 7 + 1).contains(&asked), "{asked} reviews in 700 s");
    }
}
