//! Who is asking.
//!
//! In this order, the first that knows wins: identity headers behind a verified front-proxy certificate, a client
//! certificate, a bearer token, and nobody (`system:anonymous`) where that is allowed.
//!
//! Invariants: identity headers and tokens leave the request here, whatever the outcome. A request that carries
//! identity headers without a front proxy's certificate is refused, and never served as somebody else: who sends
//! them believes to be a proxy, or wants to be taken for one. A credential that cannot be verified is refused too,
//! and does not fall back to anonymous.

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
mod user;

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
pub(crate) use trust::Trust;
pub use user::UserInfo;

use crate::health::HealthCheck;

/// The request's credentials are missing, or nothing vouches for them. The reason is for the log, not for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unauthenticated(pub(crate) String);

/// Finds out who sends a request.
pub struct Authenticator {
    config: watch::Receiver<Arc<AuthenticationConfig>>,
    tokens: Option<TokenReviewer>,
    anonymous: bool,
}

impl Authenticator {
    /// Follows `config` as it changes. Without `tokens`, every bearer token is refused.
    pub fn new(
        config: watch::Receiver<Arc<AuthenticationConfig>>,
        tokens: Option<TokenReviewer>,
        anonymous: bool,
    ) -> Self {
        Self { config, tokens, anonymous }
    }

    /// What users are verified against, as it changes.
    pub fn configuration(&self) -> watch::Receiver<Arc<AuthenticationConfig>> {
        self.config.clone()
    }

    /// Fails on `/readyz` until it is known who the front proxy is: everything that comes through it would be refused.
    /// What was known once stays in use, whatever becomes of where it came from.
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

    /// Says who sends a request with these `headers` from `peer`, and takes all credentials out of them.
    pub async fn authenticate(
        &self,
        headers: &mut HeaderMap,
        peer: &Peer,
        now: UnixTime,
    ) -> Result<UserInfo, Unauthenticated> {
        let config = self.config.borrow().clone();
        let claimed = request_header::take(headers, config.request_header.as_ref());
        let token = bearer_token::take(headers);
        let verdict = peer.certificate().map(|certificate| (certificate, certificate.verdict(&config, now)));

        if let Some(claimed) = claimed {
            return match verdict {
                None => Err(Unauthenticated("identity headers without a client certificate".to_owned())),
                Some((_, verdict)) => match &verdict.front_proxy {
                    Ok(()) => claimed.map(UserInfo::authenticated),
                    Err(reason) => Err(Unauthenticated(format!("identity headers, but {reason}"))),
                },
            };
        }
        let refused = match verdict {
            None => None,
            Some((certificate, verdict)) => match verdict.client.clone().and_then(|()| certificate.user()) {
                Ok(user) => return Ok(user.authenticated()),
                Err(reason) => Some(reason),
            },
        };
        match (token, refused) {
            (Some(token), _) => self.review(token?).await.map(UserInfo::authenticated),
            (None, Some(reason)) => Err(Unauthenticated(reason)),
            (None, None) if self.anonymous => Ok(UserInfo::anonymous()),
            (None, None) => Err(Unauthenticated("no credentials".to_owned())),
        }
    }

    /// Whether the peer has a certificate that verifies now, as the front proxy's or as a user's.
    pub(crate) fn is_verified(&self, peer: &Peer, now: UnixTime) -> bool {
        let config = self.config.borrow().clone();
        let verdict = peer.certificate().map(|certificate| certificate.verdict(&config, now));
        verdict.is_some_and(|verdict| verdict.front_proxy.is_ok() || verdict.client.is_ok())
    }

    /// Says who holds the client certificate of `peer`, whatever else the request carries; that is taken out of it.
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
        certificate.verdict(&config, now).client.clone()?;
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
