//! Bearer tokens, which kube-apiserver verifies by TokenReview.
//!
//! **Invariant:** tokens are cached only as a SHA-256, and never logged.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};

use super::{Unauthenticated, UserInfo};
use crate::review::{Key, ReviewCache, ReviewError};

/// How long an answer is cached, as in k8s.io/apiserver: a busy client costs few reviews, and a revoked token stops
/// working soon.
const CACHE_LIFETIME: Duration = Duration::from_secs(10);
/// The number of cached answers, as in the authorization cache. An entry takes a few hundred bytes.
const CACHE_SIZE: usize = 4096;

/// A bearer token. It does not implement Debug, so that it cannot be logged.
pub(super) struct Token(String);

/// Removes the `Authorization` header, and returns its token. Another scheme is an error; `None` if there is no header.
pub(super) fn take(headers: &mut HeaderMap) -> Option<Result<Token, Unauthenticated>> {
    let header = headers.remove(header::AUTHORIZATION)?;
    let token =
        header.to_str().ok().and_then(|value| value.trim().split_once(' ')).and_then(|(scheme, token)| {
            let token = token.trim();
            let is_bearer =
                scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ');
            is_bearer.then(|| Token(token.to_owned()))
        });
    Some(token.ok_or_else(|| Unauthenticated("the Authorization header holds no bearer token".to_owned())))
}

/// Sends TokenReviews, and caches the answers for ten seconds.
pub struct TokenReviewer {
    api: Api<TokenReview>,
    cache: Arc<ReviewCache<Option<Arc<UserInfo>>>>,
    deadline: Duration,
}

impl TokenReviewer {
    /// `client` should come from [`crate::review::client`], which does not retry; `deadline` is the time for each
    /// review.
    pub fn new(client: kube::Client, deadline: Duration) -> Self {
        Self { api: Api::all(client), cache: ReviewCache::new(CACHE_SIZE, CACHE_LIFETIME), deadline }
    }

    pub(super) async fn review(&self, token: Token) -> Result<UserInfo, Unauthenticated> {
        let key: Key = Sha256::digest(token.0.as_bytes()).into();
        let api = self.api.clone();
        let ask = async move { ask(&api, token).await };
        match self.cache.get_or_ask(key, self.deadline, ask).await.0 {
            Ok(Some(user)) => Ok(Arc::unwrap_or_clone(user)),
            Ok(None) => Err(Unauthenticated("the cluster does not know the bearer token".to_owned())),
            Err(error) => {
                tracing::warn!(%error, "TokenReview failed");
                Err(Unauthenticated("the bearer token could not be reviewed".to_owned()))
            }
        }
    }
}

async fn ask(api: &Api<TokenReview>, token: Token) -> Result<Option<Arc<UserInfo>>, ReviewError> {
    let spec = TokenReviewSpec { token: token.0, ..TokenReviewSpec::default() };
    let review = TokenReview { spec, ..TokenReview::default() };
    let reviewed = api.create(&PostParams::default(), &review).await.map_err(ReviewError::from)?;
    Ok(reviewed.status.and_then(user).map(Arc::new))
}

fn user(status: TokenReviewStatus) -> Option<UserInfo> {
    let user = status.user.filter(|_| status.authenticated == Some(true))?;
    Some(UserInfo {
        name: user.username.filter(|name| !name.is_empty())?,
        uid: user.uid.unwrap_or_default(),
        groups: user.groups.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use http::{Request, Response, StatusCode};
    use http_body_util::BodyExt;
    use kube::client::Body as KubeBody;
    use serde_json::{Value, json};

    use super::*;

    /// A cluster that knows one token, fails for another, and never answers for a third; and the tokens that it got.
    fn reviewer() -> (TokenReviewer, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<KubeBody>| {
            let seen = Arc::clone(&seen);
            async move {
                assert_eq!(request.uri().path(), "/apis/authentication.k8s.io/v1/tokenreviews");
                let body = request.into_body().collect().await.expect("body").to_bytes();
                let mut review: Value = serde_json::from_slice(&body).expect("JSON");
                let token = review["spec"]["token"].as_str().expect("a token").to_owned();
                seen.lock().expect("lock").push(token.clone());
                let user = json!({"username": "jane", "uid": "1", "groups": ["a"], "extra": {"k": ["v"]}});
                let (code, status) = match token.as_str() {
                    "good" => (StatusCode::CREATED, json!({"authenticated": true, "user": user})),
                    "nameless" => (StatusCode::CREATED, json!({"authenticated": true, "user": {}})),
                    "failing" => (StatusCode::SERVICE_UNAVAILABLE, Value::Null),
                    "silent" => std::future::pending().await,
                    _ => (StatusCode::CREATED, json!({"authenticated": false, "user": user})),
                };
                review["status"] = status;
                let response = Response::builder().status(code);
                Ok::<_, Infallible>(
                    response.body(KubeBody::from(review.to_string().into_bytes())).expect("response"),
                )
            }
        });
        (TokenReviewer::new(kube::Client::new(service, "default"), Duration::from_secs(5)), asked)
    }

    async fn review(reviewer: &TokenReviewer, token: &str) -> Result<UserInfo, Unauthenticated> {
        reviewer.review(Token(token.to_owned())).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_cluster_says_whose_token_it_is_and_is_asked_once_in_ten_seconds() {
        let (reviewer, asked) = reviewer();
        for _ in 0..3 {
            let user = review(&reviewer, "good").await.expect("known");
            assert_eq!(
                (user.name.as_str(), user.uid.as_str(), user.groups),
                ("jane", "1", vec!["a".to_owned()])
            );
            assert_eq!(user.extra["k"], ["v"]);
            review(&reviewer, "bad").await.expect_err("unknown");
        }
        assert_eq!(*asked.lock().expect("lock"), ["good", "bad"]);
        tokio::time::advance(CACHE_LIFETIME).await;
        review(&reviewer, "good").await.expect("known");
        assert_eq!(asked.lock().expect("lock").len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_no_user_and_is_not_remembered() {
        let (reviewer, asked) = reviewer();
        for token in ["failing", "silent", "nameless"] {
            review(&reviewer, token).await.expect_err(token);
            review(&reviewer, token).await.expect_err(token);
        }
        assert_eq!(*asked.lock().expect("lock"), ["failing", "failing", "silent", "silent", "nameless"]);
    }

    #[test]
    fn tokens_leave_the_request_whether_they_can_be_read_or_not() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer   abc ", Some("abc")),
            ("Bearer", None),
            ("Bearer a b", None),
            ("Basic abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("value"));
            let token = take(&mut headers).expect("present").ok().map(|token| token.0);
            assert_eq!(token.as_deref(), expected, "{value}");
            assert!(headers.is_empty());
        }
        assert!(take(&mut HeaderMap::new()).is_none());
    }
}
