//! When certificates begin and end, by the wall clock.

use std::time::{Duration, SystemTime};

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// From when until when a certificate is valid, in whole seconds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// notBefore
    pub not_before: SystemTime,
    /// notAfter
    pub not_after: SystemTime,
}

/// Not a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate: {0}")]
pub struct Unreadable(String);

impl Unreadable {
    pub(crate) fn because(error: &impl ToString) -> Self {
        Self(error.to_string())
    }
}

impl Validity {
    /// Of one certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Unreadable> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|error| Unreadable::because(&error))?;
        Ok(Self::of_parsed(&parsed))
    }

    /// Of what a server shows: the time in which its whole chain is valid.
    pub fn of_key(key: &CertifiedKey) -> Result<Self, Unreadable> {
        let each = key.cert.iter().map(Self::of).collect::<Result<Vec<_>, _>>()?;
        each.into_iter().reduce(Self::and).ok_or_else(|| Unreadable("the chain is empty".to_owned()))
    }

    /// Of each certificate of a PEM text.
    pub fn of_pem(pem: &[u8]) -> Result<Vec<Self>, Unreadable> {
        CertificateDer::pem_slice_iter(pem)
            .map(|certificate| Self::of(&certificate.map_err(|error| Unreadable::because(&error))?))
            .collect()
    }

    /// Whether `now` lies within.
    pub fn contains(&self, now: SystemTime) -> bool {
        // The last second counts as a whole, as everybody else's clock is cut to seconds.
        self.not_before <= now && now < self.not_after + Duration::from_secs(1)
    }

    /// What is left at `now`; nothing, if it is over.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    pub(crate) fn of_parsed(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self { not_before: moment(validity.not_before), not_after: moment(validity.not_after) }
    }

    fn and(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }
}

/// Dates before 1970 are in the past all the same.
fn moment(time: ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}
