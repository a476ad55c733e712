//! Bearer tokens, which the cluster verifies by TokenReview.
//!
//! Tokens are kept only as a SHA-256, and never logged.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};

use super::{Key, ReviewCache, ReviewError, Unauthenticated, UserInfo};

/// As upstream: long enough to spare a busy client's token, short enough for a revoked one to die.
const CACHE_LIFETIME: Duration = Duration::from_secs(10);
/// As the authorisation cache; an entry is a few hundred bytes.
const CACHE_SIZE: usize = 4096;

/// A bearer token as it was sent. Has no Debug, so that it cannot be logged.
pub(super) struct Token(String);

/// Takes the `Authorization` header out, and the token out of it. Any other scheme is an error.
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

/// Asks the cluster whom a token belongs to.
pub struct TokenReviewer {
    api: Api<TokenReview>,
    cache: Arc<ReviewCache<Option<Arc<UserInfo>>>>,
    deadline: Duration,
}

impl TokenReviewer {
    /// `client` should not retry (see [`crate::authz::review_client`]): `deadline` is all the time there is.
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
