//! Authentication: which user sends a request.
//!
//! The first of these that applies counts: identity headers from a front proxy with a verified certificate, a client
//! certificate that verifies, a bearer token, and `system:anonymous`, if anonymous requests are allowed.
//!
//! **Invariants:** identity headers and tokens are removed from the request, whatever the outcome. A request with
//! identity headers and without a front proxy's certificate is rejected, and never falls back to another credential:
//! its sender is a misconfigured proxy, or pretends to be one. If a request has other credentials and none of them
//! verifies, it is rejected too, and does not fall back to anonymous.

mod bearer_token;
mod certificate;
mod client_verifier;
mod config;
pub mod config_map;
mod files;
mod request_header;
#[cfg(test)]
pub(crate) mod testing;
mod trust;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use rustls_pki_types::UnixTime;
use tokio::sync::watch;

pub use bearer_token::TokenReviewer;
pub use certificate::{Peer, PeerCertificate};
pub(crate) use client_verifier::ProofOfPossession;
pub use config::{AuthenticationConfig, CaBundle, ConfigError, RequestHeaderConfig};
pub use files::AuthenticationFiles;
pub use gatehouse_apiservice::UserInfo;
pub(crate) use trust::Trust;

use crate::health::HealthCheck;

/// The request's credentials are missing or do not verify. The reason is for the log, not for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unauthenticated(pub(crate) String);

/// Identifies the user of a request.
pub struct Authenticator {
    config: watch::Receiver<Arc<AuthenticationConfig>>,
    tokens: Option<TokenReviewer>,
    anonymous: bool,
}

impl Authenticator {
    /// Uses the latest `config` for each request. Without `tokens`, all bearer tokens are rejected. `anonymous` allows
    /// requests without credentials.
    pub fn new(
        config: watch::Receiver<Arc<AuthenticationConfig>>,
        tokens: Option<TokenReviewer>,
        anonymous: bool,
    ) -> Self {
        Self { config, tokens, anonymous }
    }

    /// The configuration that users are verified with; reports changes.
    pub fn configuration(&self) -> watch::Receiver<Arc<AuthenticationConfig>> {
        self.config.clone()
    }

    /// A check that fails on `/readyz` until the CA of the front proxy is known, since all requests through
    /// kube-apiserver would be rejected. Once known, it stays in use even if its source disappears.
    pub fn readiness_check(&self) -> HealthCheck {
        let config = self.config.clone();
        let is_known = AtomicBool::new(false);
        HealthCheck::readiness("request-header", move || {
            if config.borrow().request_header.is_some() {
                is_known.store(true, Ordering::Relaxed);
            }
            if is_known.load(Ordering::Relaxed) {
                return Ok(());
            }
            Err("the ConfigMap kube-system/extension-apiserver-authentication cannot be read or has no \
                 requestheader-client-ca-file: every request through kube-apiserver would be refused"
                .to_owned())
        })
    }

    /// Identifies the user of a request with these `headers` from `peer`, and removes all credentials from them.
    pub async fn authenticate(
        &self,
        headers: &mut HeaderMap,
        peer: &Peer,
        now: UnixTime,
    ) -> Result<UserInfo, Unauthenticated> {
        let config = self.config.borrow().clone();
        let claimed = request_header::take(headers, config.request_header.as_ref());
        let token = bearer_token::take(headers);
        let verification =
            peer.certificate().map(|certificate| (certificate, certificate.verification(&config, now)));

        if let Some(claimed) = claimed {
            return match verification {
                None => Err(Unauthenticated("identity headers without a client certificate".to_owned())),
                Some((_, verification)) => match &verification.front_proxy {
                    Ok(()) => claimed.map(UserInfo::authenticated),
                    Err(reason) => Err(Unauthenticated(format!("identity headers, but {reason}"))),
                },
            };
        }
        let refused = match verification {
            None => None,
            Some((certificate, verification)) => {
                match verification.client.clone().and_then(|()| certificate.user()) {
                    Ok(user) => return Ok(user.authenticated()),
                    Err(reason) => Some(reason),
                }
            }
        };
        match (token, refused) {
            (Some(token), _) => self.review(token?).await.map(UserInfo::authenticated),
            (None, Some(reason)) => Err(Unauthenticated(reason)),
            (None, None) if self.anonymous => Ok(UserInfo::anonymous()),
            (None, None) => Err(Unauthenticated("no credentials".to_owned())),
        }
    }

    /// Whether the peer has a certificate that verifies now, as that of a front proxy or a user.
    pub(crate) fn is_verified(&self, peer: &Peer, now: UnixTime) -> bool {
        let config = self.config.borrow().clone();
        let verification = peer.certificate().map(|certificate| certificate.verification(&config, now));
        verification
            .is_some_and(|verification| verification.front_proxy.is_ok() || verification.client.is_ok())
    }

    /// Whether the peer has the front proxy's certificate, and so carries the requests of many users.
    pub(crate) fn is_front_proxy(&self, peer: &Peer, now: UnixTime) -> bool {
        let config = self.config.borrow().clone();
        peer.certificate()
            .is_some_and(|certificate| certificate.verification(&config, now).front_proxy.is_ok())
    }

    /// The user of the client certificate of `peer`. All other credentials are removed from `headers` and ignored.
    pub fn certificate_holder(
        &self,
        headers: &mut HeaderMap,
        peer: &Peer,
        now: UnixTime,
    ) -> Result<UserInfo, Unauthenticated> {
        let config = self.config.borrow().clone();
        request_header::take(headers, config.request_header.as_ref());
        bearer_token::take(headers);
        let certificate = peer.certificate().ok_or_else(|| "no client certificate".to_owned())?;
        certificate.verification(&config, now).client.clone()?;
        Ok(certificate.user()?.authenticated())
    }

    async fn review(&self, token: bearer_token::Token) -> Result<UserInfo, Unauthenticated> {
        match &self.tokens {
            Some(reviewer) => reviewer.review(token).await,
            None => Err(Unauthenticated("a bearer token, but no TokenReview to verify it".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
