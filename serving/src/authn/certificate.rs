//! Verifies the client certificate of a connection.
//!
//! The handshake (`client_verifier`) has already proved that the peer holds the key. Here the chain is verified, and
//! again when the configuration changes, a certificate may have expired, or a minute is over. A rotated authority thus
//! takes effect at once on open connections, such as the aggregator's single HTTP/2 connection, which lasts for days.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use gatehouse_certs::expiry::Validity;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::config::{AuthenticationConfig, CaBundle, earliest_expiry, system_time};
use super::trust::{HighestTrust, Trust};
use super::{Unauthenticated, UserInfo};

/// A certificate is verified again after this long, in case one in the chain or an authority has become valid. That
/// costs a fraction of a millisecond.
const VERIFICATION_LIFETIME: Duration = Duration::from_mins(1);

/// The `extra` key by which authorizers and the audit log learn from kube-apiserver which credential was used.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The client of a connection.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    certificate: Option<PeerCertificate>,
    trust: HighestTrust,
    connection: CancellationToken,
}

/// A certificate whose private key the peer holds, and its last verification.
#[derive(Debug)]
pub struct PeerCertificate {
    chain: Vec<CertificateDer<'static>>,
    subject: Result<Subject, String>,
    validities: Vec<Validity>,
    verification: ArcSwapOption<Verification>,
}

#[derive(Debug)]
struct Subject {
    common_name: String,
    organizations: Vec<String>,
}

/// The result of verifying a certificate with one configuration, until a time.
#[derive(Debug)]
pub(super) struct Verification {
    /// Holding the configuration keeps its address from being reused, so that configurations can be compared by
    /// address.
    config: Arc<AuthenticationConfig>,
    until: SystemTime,
    /// Ok if the peer is a front proxy, whose identity headers count; otherwise the reason.
    pub(super) front_proxy: Result<(), String>,
    /// Ok if the certificate's subject is a user; otherwise the reason.
    pub(super) client: Result<(), String>,
}

impl Peer {
    /// A peer that sent `chain` in the handshake, its own certificate first; empty if it sent none.
    pub fn new(address: SocketAddr, chain: Vec<CertificateDer<'static>>) -> Self {
        Self {
            address,
            certificate: PeerCertificate::new(chain),
            trust: HighestTrust::default(),
            connection: CancellationToken::new(),
        }
    }

    /// The address that it connects from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The highest trust that it has earned.
    pub(crate) fn trust(&self) -> Trust {
        self.trust.get()
    }

    /// Raises its trust to `trust`, if that is higher.
    pub(crate) fn raise_trust(&self, trust: Trust) {
        self.trust.raise(trust);
    }

    /// Closes its connection when it is cancelled.
    pub(crate) fn connection(&self) -> &CancellationToken {
        &self.connection
    }

    /// The certificate that it sent, if any. It proved that it holds the key.
    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.certificate.as_ref()
    }
}

impl PeerCertificate {
    fn new(chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        let subject = Subject::parse(chain.first()?);
        let validities = chain.iter().filter_map(|certificate| Validity::of(certificate).ok()).collect();
        Some(Self { chain, subject, validities, verification: ArcSwapOption::empty() })
    }

    /// Verifies the certificate. The result is cached for [`VERIFICATION_LIFETIME`], or until the configuration changes
    /// or a certificate expires.
    pub(super) fn verification(
        &self,
        config: &Arc<AuthenticationConfig>,
        now: UnixTime,
    ) -> Arc<Verification> {
        if let Some(verification) = &*self.verification.load()
            && Arc::ptr_eq(&verification.config, config)
            && system_time(now) <= verification.until
        {
            return Arc::clone(verification);
        }
        let verification = Arc::new(self.verify_with(config, now));
        self.verification.store(Some(Arc::clone(&verification)));
        verification
    }

    fn verify_with(&self, config: &Arc<AuthenticationConfig>, now: UnixTime) -> Verification {
        let bundles = [config.request_header.as_ref().map(|headers| &headers.ca), config.client_ca.as_ref()];
        let authorities = bundles.into_iter().flatten().flat_map(CaBundle::validities);
        Verification {
            config: Arc::clone(config),
            until: earliest_expiry(
                now,
                VERIFICATION_LIFETIME,
                self.validities.iter().copied().chain(authorities),
            ),
            front_proxy: self.verify_front_proxy(config, now),
            client: match &config.client_ca {
                Some(ca) => self.verify(ca, now),
                None => Err("no client CA is configured".to_owned()),
            },
        }
    }

    fn verify_front_proxy(&self, config: &AuthenticationConfig, now: UnixTime) -> Result<(), String> {
        let Some(headers) = &config.request_header else {
            return Err("no front proxy is configured".to_owned());
        };
        self.verify(&headers.ca, now)?;
        let name = &self.subject.as_ref().map_err(Clone::clone)?.common_name;
        if headers.allowed_names.is_empty() || headers.allowed_names.contains(name) {
            Ok(())
        } else {
            Err(format!("the certificate's name {name:?} is not an allowed one"))
        }
    }

    fn verify(&self, ca: &CaBundle, now: UnixTime) -> Result<(), String> {
        let refused = |error: webpki::Error| format!("the certificate does not verify: {error}");
        let [leaf, intermediates @ ..] = self.chain.as_slice() else {
            return Err("there is no certificate".to_owned());
        };
        let anchors = ca.anchors(now);
        EndEntityCert::try_from(leaf)
            .and_then(|leaf| {
                let usage = KeyUsage::client_auth();
                leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, intermediates, now, usage, None, None)
                    .map(|_| ())
            })
            .map_err(refused)
    }

    /// The user that the subject names. It counts only if the verification's `client` is Ok.
    pub(super) fn user(&self) -> Result<UserInfo, String> {
        let subject = self.subject.as_ref().map_err(Clone::clone)?;
        if subject.common_name.is_empty() {
            return Err("the certificate has no common name".to_owned());
        }
        let fingerprint = Sha256::digest(&self.chain[0]);
        Ok(UserInfo {
            name: subject.common_name.clone(),
            groups: subject.organizations.clone(),
            extra: [(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={fingerprint:x}")])].into(),
            ..UserInfo::default()
        })
    }
}

impl Subject {
    fn parse(leaf: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|error| format!("the certificate cannot be read: {error}"))?;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().map(str::to_owned).map_err(|error| format!("the subject cannot be read: {error}"))
        };
        // If there are several common names, Go takes the last one.
        let common_name =
            parsed.subject().iter_common_name().last().map(text).transpose()?.unwrap_or_default();
        let organizations = parsed.subject().iter_organization().map(text).collect::<Result<_, _>>()?;
        Ok(Self { common_name, organizations })
    }
}

impl From<String> for Unauthenticated {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}
