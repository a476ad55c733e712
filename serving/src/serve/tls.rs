//! The TLS configuration of new connections.
//!
//! A configuration has the serving certificate and the names of the authorities of client certificates. It is
//! immutable. When one of these changes, a new configuration replaces it, with its own session tickets, since a session
//! must not be resumed under a certificate that has been replaced. Open connections keep their configuration. Client
//! certificates are verified for each request, with the authorities of that moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use gatehouse_certs::expiry::{InvalidCertificate, Validity};
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{DistinguishedName, ServerConfig};
use tokio::sync::watch;

use crate::authn::{AuthenticationConfig, CaBundle, ProofOfPossession};
use crate::metrics::Validities;

pub(super) const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Subjects of authorities, as DER without the header of the sequence.
type CaSubjects = BTreeSet<Vec<u8>>;

/// The inputs of the TLS configuration, which change over time.
#[derive(Clone)]
pub struct Certificates {
    keys: watch::Receiver<Arc<CertifiedKey>>,
    authentication: watch::Receiver<Arc<AuthenticationConfig>>,
}

/// The configuration of new connections. The accept loop owns it.
pub(super) struct TlsConfigs {
    certificates: Certificates,
    key: Arc<CertifiedKey>,
    authentication: Arc<AuthenticationConfig>,
    current: Arc<TlsConfig>,
}

/// A configuration, and the authorities whose certificates it asks clients for.
pub(super) struct TlsConfig {
    pub(super) config: Arc<ServerConfig>,
    ca_subjects: CaSubjects,
}

impl Certificates {
    /// The latest of `keys` is the serving certificate. Clients are asked for certificates of the authorities in the
    /// latest of `authentication`.
    pub fn new(
        keys: watch::Receiver<Arc<CertifiedKey>>,
        authentication: watch::Receiver<Arc<AuthenticationConfig>>,
    ) -> Self {
        Self { keys, authentication }
    }

    /// The validity of the serving certificate and its chain.
    pub(crate) fn serving(&self) -> Result<Validity, InvalidCertificate> {
        Validity::of_key(&self.keys.borrow())
    }

    /// The validities of the authorities of front proxies and of users.
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

    /// The validities of all certificates in use, by their name in metrics.
    pub(crate) fn validities(&self) -> Validities {
        let serving = ("serving", self.serving().into_iter().collect());
        [serving].into_iter().chain(self.authorities()).collect()
    }

    /// Resolves once clients should be asked for certificates of other authorities than in `tls`.
    pub(super) async fn client_ca_changed(&self, tls: &TlsConfig) {
        let mut authentication = self.authentication.clone();
        if authentication
            .wait_for(|authentication| ca_subjects(authentication) != tls.ca_subjects)
            .await
            .is_err()
        {
            // The sender is gone, so the configuration does not change any more.
            std::future::pending::<()>().await;
        }
    }
}

impl TlsConfigs {
    pub(super) fn new(certificates: Certificates) -> Result<Self, rustls::Error> {
        let key = certificates.keys.borrow().clone();
        let authentication = certificates.authentication.borrow().clone();
        let current = Arc::new(TlsConfig::new(&key, ca_subjects(&authentication))?);
        Ok(Self { certificates, key, authentication, current })
    }

    pub(super) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The configuration for the next connection, rebuilt if its inputs have changed.
    pub(super) fn latest(&mut self) -> Arc<TlsConfig> {
        let key = self.certificates.keys.borrow().clone();
        let authentication = self.certificates.authentication.borrow().clone();
        let is_other_key = !Arc::ptr_eq(&key, &self.key);
        let is_other_authentication = !Arc::ptr_eq(&authentication, &self.authentication);
        if is_other_key || is_other_authentication {
            self.authentication = authentication;
            self.key = key;
            let ca_subjects = ca_subjects(&self.authentication);
            if is_other_key || ca_subjects != self.current.ca_subjects {
                match TlsConfig::new(&self.key, ca_subjects) {
                    Ok(made) => self.current = Arc::new(made),
                    Err(error) => {
                        tracing::error!(%error, "cannot create a TLS configuration, keeping the previous one");
                    }
                }
            }
        }
        Arc::clone(&self.current)
    }
}

impl TlsConfig {
    /// TLS 1.2 and 1.3. A client certificate is requested, but not required.
    fn new(key: &CertifiedKey, ca_subjects: CaSubjects) -> Result<Self, rustls::Error> {
        let names = ca_subjects.iter().map(|subject| DistinguishedName::in_sequence(subject)).collect();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = ProofOfPossession::new(Arc::clone(&provider), names);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())));
        config.ticketer = Ticketer::new()?;
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        Ok(Self { config: Arc::new(config), ca_subjects })
    }
}

/// The authorities to name in the certificate request. Empty, which means any, while the authorities of front proxies
/// or of users are unknown: a client whose authority is missing in the list sends no certificate.
fn ca_subjects(authentication: &AuthenticationConfig) -> CaSubjects {
    let (Some(headers), Some(client_ca)) = (&authentication.request_header, &authentication.client_ca) else {
        return CaSubjects::new();
    };
    headers.ca.subjects().chain(client_ca.subjects()).map(<[u8]>::to_vec).collect()
}
