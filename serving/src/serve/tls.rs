//! The TLS configuration: what it is made from, and the one that the next connection takes.
//!
//! A configuration holds the serving certificate and the names of the authorities that a client's certificate may come
//! from. It is never changed: when one of these is, another takes its place as a whole, with tickets of its own, since a
//! session must not be resumed under a certificate that has been replaced. Open connections keep theirs and live on;
//! whether a client's certificate is worth anything is judged for each request, by the authorities of that moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use gatehouse_certs::expiry::{Unreadable, Validity};
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{DistinguishedName, ServerConfig};
use tokio::sync::watch;

use crate::authn::{AuthenticationConfig, CaBundle, ProofOfPossession};
use crate::metrics::Validities;

pub(super) const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Subjects of authorities, as DER without the sequence's head.
type Hints = BTreeSet<Vec<u8>>;

/// What TLS is configured from, as it is at each moment.
#[derive(Clone)]
pub struct Certificates {
    keys: watch::Receiver<Arc<CertifiedKey>>,
    authentication: watch::Receiver<Arc<AuthenticationConfig>>,
}

/// Keeps the configuration that is in use. Belongs to the loop that accepts connections.
pub(super) struct Tls {
    certificates: Certificates,
    key: Arc<CertifiedKey>,
    authentication: Arc<AuthenticationConfig>,
    in_use: Arc<InUse>,
}

/// A configuration, and whose certificates it asks for.
pub(super) struct InUse {
    pub(super) config: Arc<ServerConfig>,
    hints: Hints,
}

impl Certificates {
    /// The serving certificate is the latest of `keys`; clients are asked for a certificate of the authorities that the
    /// latest of `authentication` names.
    pub fn new(
        keys: watch::Receiver<Arc<CertifiedKey>>,
        authentication: watch::Receiver<Arc<AuthenticationConfig>>,
    ) -> Self {
        Self { keys, authentication }
    }

    /// When the serving certificate is valid, with its chain.
    pub(crate) fn serving(&self) -> Result<Validity, Unreadable> {
        Validity::of_key(&self.keys.borrow())
    }

    /// When the authorities are valid that issue the front proxy's certificate, and users'.
    pub(crate) fn authorities(&self) -> [(&'static str, Vec<Validity>); 2] {
        let authentication = self.authentication.borrow();
        let validities = |ca: Option<&CaBundle>| ca.map(|ca| ca.validities().collect()).unwrap_or_default();
        [
            (
                "requestheader-ca",
                validities(authentication.request_header.as_ref().map(|headers| &headers.ca)),
            ),
            ("client-ca", validities(authentication.client_ca.as_ref())),
        ]
    }

    /// When each certificate in use is valid, by what it is for.
    pub(crate) fn validities(&self) -> Validities {
        let serving = ("serving", self.serving().into_iter().collect());
        [serving].into_iter().chain(self.authorities()).collect()
    }

    /// Resolves once clients are asked for certificates of other authorities than in `tls`.
    pub(super) async fn asks_otherwise(&self, tls: &InUse) {
        let mut authentication = self.authentication.clone();
        if authentication.wait_for(|authentication| hints(authentication) != tls.hints).await.is_err() {
            // Nobody is left to change it.
            std::future::pending::<()>().await;
        }
    }
}

impl Tls {
    pub(super) fn new(certificates: Certificates) -> Result<Self, rustls::Error> {
        let key = certificates.keys.borrow().clone();
        let authentication = certificates.authentication.borrow().clone();
        let in_use = Arc::new(InUse::new(&key, hints(&authentication))?);
        Ok(Self { certificates, key, authentication, in_use })
    }

    pub(super) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// What the next connection takes.
    pub(super) fn latest(&mut self) -> Arc<InUse> {
        let key = self.certificates.keys.borrow().clone();
        let authentication = self.certificates.authentication.borrow().clone();
        let is_other_key = !Arc::ptr_eq(&key, &self.key);
        let is_other_authentication = !Arc::ptr_eq(&authentication, &self.authentication);
        if is_other_key || is_other_authentication {
            self.authentication = authentication;
            self.key = key;
            let hints = hints(&self.authentication);
            if is_other_key || hints != self.in_use.hints {
                match InUse::new(&self.key, hints) {
                    Ok(made) => self.in_use = Arc::new(made),
                    Err(error) => {
                        tracing::error!(%error, "cannot create a TLS configuration, keeping the previous one");
                    }
                }
            }
        }
        Arc::clone(&self.in_use)
    }
}

impl InUse {
    /// TLS 1.2 and later, with a client certificate asked for and not required.
    fn new(key: &CertifiedKey, hints: Hints) -> Result<Self, rustls::Error> {
        let names = hints.iter().map(|subject| DistinguishedName::in_sequence(subject)).collect();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = ProofOfPossession::new(Arc::clone(&provider), names);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())));
        config.ticketer = Ticketer::new()?;
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        Ok(Self { config: Arc::new(config), hints })
    }
}

/// Whose certificates clients are asked for. Anybody's, while one kind of client is not known: who finds its own
/// authority missing shows no certificate at all.
fn hints(authentication: &AuthenticationConfig) -> Hints {
    let (Some(headers), Some(client_ca)) = (&authentication.request_header, &authentication.client_ca) else {
        return Hints::new();
    };
    headers.ca.subjects().chain(client_ca.subjects()).map(<[u8]>::to_vec).collect()
}
