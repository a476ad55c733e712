//! The user as which this process authenticates to the cluster. Policies do not judge its own writes; otherwise a
//! freeze would deny them.
//!
//! **Invariant:** while the user is unknown, policies judge no review and the replica is not ready. It listens all the
//! same, since a restart would not help.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gatehouse_apiservice::UserInfo;
use gatehouse_apiservice::client::own_user;
use gatehouse_apiservice::registration::NAME;
use gatehouse_policy::Accounts;
use gatehouse_serving::ApiError;
use gatehouse_serving::health::HealthCheck;
use tokio_util::sync::CancellationToken;

/// The time limit of a SelfSubjectReview.
const ANSWER: Duration = Duration::from_secs(5);
/// The interval of attempts.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The user of this process, once it is known. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OwnUser {
    known: Arc<OnceLock<Known>>,
    flux_namespace: Arc<str>,
    agones_namespace: Arc<str>,
    /// The user of `gatehouse apiserver`, if a flag names it.
    apiserver: Option<Arc<str>>,
}

/// The user of this process.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// The service accounts of the controllers, and that of this process if it uses one.
    pub accounts: Arc<Accounts>,
    /// The user of `gatehouse apiserver`, which alone may report for whom it writes: by default its service account in
    /// the namespace of ours. `None` if it is not known, and nobody may.
    pub apiserver: Option<Arc<str>>,
}

impl OwnUser {
    /// Unknown user; the namespaces of the controllers of Flux and Agones are given.
    pub fn unknown(flux_namespace: &str, agones_namespace: &str) -> Self {
        Self {
            known: Arc::default(),
            flux_namespace: flux_namespace.into(),
            agones_namespace: agones_namespace.into(),
            apiserver: None,
        }
    }

    /// Names the user of `gatehouse apiserver`.
    #[must_use]
    pub fn with_apiserver(self, user: Option<&str>) -> Self {
        Self { apiserver: user.map(Into::into), ..self }
    }

    /// Sets the user, unless it is already known.
    pub fn learn(&self, name: String) {
        let user = UserInfo { name, ..UserInfo::default() };
        let mut accounts = Accounts {
            flux_namespace: self.flux_namespace.to_string(),
            agones_namespace: self.agones_namespace.to_string(),
            ..Accounts::default()
        };
        let mut apiserver = self.apiserver.clone();
        if let Some((namespace, name)) = user.service_account() {
            accounts.gatehouse = (namespace.to_owned(), name.to_owned());
            apiserver =
                apiserver.or_else(|| Some(format!("system:serviceaccount:{namespace}:{NAME}").into()));
        }
        self.known.get_or_init(|| Known { name: user.name, accounts: Arc::new(accounts), apiserver });
    }

    /// The user, or an error to answer a review with.
    pub(crate) fn known(&self) -> Result<&Known, ApiError> {
        let why = "own identity is unknown (SelfSubjectReview pending): try again";
        self.known.get().ok_or_else(|| ApiError::try_again(why, ASK_AGAIN))
    }

    /// A check that fails on `/readyz` until the user is known.
    pub(crate) fn readiness_check(&self) -> HealthCheck {
        let own = self.clone();
        HealthCheck::readiness("own-user", move || match own.known.get() {
            Some(_) => Ok(()),
            None => Err("own identity is unknown (SelfSubjectReview pending)".to_owned()),
        })
    }

    /// Sends SelfSubjectReviews until one succeeds, unless the user is known. Then waits for `stop`.
    pub(crate) async fn find_out(self, client: kube::Client, stop: CancellationToken) {
        let asking = async {
            while self.known.get().is_none() {
                match ask(&client).await {
                    Ok(name) => {
                        tracing::info!(user = name, "own identity is known");
                        self.learn(name);
                    }
                    Err(problem) => {
                        tracing::warn!(
                            problem,
                            "own identity is unknown (SelfSubjectReview failed), retrying"
                        );
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                }
            }
        };
        if stop.run_until_cancelled(asking).await.is_some() {
            stop.cancelled().await;
        }
    }
}

/// The name of the user.
async fn ask(client: &kube::Client) -> Result<String, String> {
    let answer = tokio::time::timeout(ANSWER, own_user(client)).await;
    answer.unwrap_or_else(|_| Err("no answer".to_owned())).map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::client::Body;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    const OWN: &str = "system:serviceaccount:here:gate";

    /// The first request gets no answer, the next two get one without a name, then one with a name.
    fn client(asked: &Arc<AtomicUsize>) -> kube::Client {
        let asked = Arc::clone(asked);
        let service = tower::service_fn(move |_| {
            let asked = Arc::clone(&asked);
            async move {
                let user = match asked.fetch_add(1, Ordering::SeqCst) {
                    0 => std::future::pending().await,
                    1 => json!({}),
                    2 => json!({"username": ""}),
                    _ => json!({"username": OWN}),
                };
                let review = json!({
                    "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {},
                    "status": {"userInfo": user},
                });
                let body = Body::from(review.to_string().into_bytes());
                Ok::<_, Infallible>(http::Response::builder().status(201).body(body).expect("response"))
            }
        });
        kube::Client::new(service, "default")
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_for_until_there_is_a_name_and_silence_is_no_answer() {
        let (own, asked, stop) =
            (OwnUser::unknown("flux", "agones"), Arc::default(), CancellationToken::new());
        let started = Instant::now();
        let asking = tokio::spawn(own.clone().find_out(client(&asked), stop.clone()));
        assert!(own.known().is_err());
        while own.known().is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        assert!(started.elapsed() < ANSWER + 4 * ASK_AGAIN, "{:?}", started.elapsed());
        let known = own.known().expect("known");
        let user = UserInfo { name: OWN.to_owned(), ..UserInfo::default() };
        assert!(known.name == OWN && known.accounts.is_gatehouse(&user));
        assert_eq!(known.accounts.flux_namespace, "flux");
        assert_eq!(known.apiserver.as_deref(), Some("system:serviceaccount:here:gatehouse-apiserver"));

        assert!(!asking.is_finished(), "a part of the server does not end by itself");
        stop.cancel();
        asking.await.expect("ends");
    }

    #[tokio::test]
    async fn who_was_told_does_not_ask() {
        let (own, asked, stop) =
            (OwnUser::unknown("flux", "agones"), Arc::default(), CancellationToken::new());
        own.learn("jane".to_owned());
        assert_eq!(own.known().expect("known").apiserver, None, "jane has no namespace");
        stop.cancel();
        own.clone().find_out(client(&asked), stop).await;
        let known = own.known().expect("known");
        assert_eq!(
            (known.name.as_str(), &known.accounts.gatehouse),
            ("jane", &Accounts::default().gatehouse)
        );
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }
}
