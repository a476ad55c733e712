//! The validity of certificates (RFC 5280, section 4.1.2.5), by the wall clock.

use std::time::{Duration, SystemTime};

use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// When a certificate is valid, in whole seconds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// notBefore
    pub not_before: SystemTime,
    /// notAfter
    pub not_after: SystemTime,
}

/// The bytes are not an X.509 certificate that can be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid certificate: {0}")]
pub struct InvalidCertificate(String);

impl InvalidCertificate {
    pub(crate) fn new(error: &impl ToString) -> Self {
        Self(error.to_string())
    }
}

/// The time in which every certificate of a PEM text is valid. A text without a certificate is an error.
pub fn of_pem(pem: &[u8]) -> Result<Validity, InvalidCertificate> {
    let mut all: Option<Validity> = None;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let validity = Validity::of(&certificate.map_err(|error| InvalidCertificate::new(&error))?)?;
        all = Some(all.map_or(validity, |all| all.and(validity)));
    }
    all.ok_or_else(|| InvalidCertificate("no certificate in PEM".to_owned()))
}

impl Validity {
    /// The validity of one certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, InvalidCertificate> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|error| InvalidCertificate::new(&error))?;
        Ok(Self::of_parsed(&parsed))
    }

    /// The time in which every certificate of a server's chain is valid. An empty chain is an error.
    pub fn of_key(key: &CertifiedKey) -> Result<Self, InvalidCertificate> {
        let each = key.cert.iter().map(Self::of).collect::<Result<Vec<_>, _>>()?;
        each.into_iter().reduce(Self::and).ok_or_else(|| InvalidCertificate("the chain is empty".to_owned()))
    }

    /// Whether a certificate is valid at `now`.
    pub fn contains(&self, now: SystemTime) -> bool {
        // The whole last second counts, since TLS libraries compare times cut to seconds.
        self.not_before <= now && now < self.not_after + Duration::from_secs(1)
    }

    /// The time from `now` until `notAfter`; zero if that has passed.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    pub(crate) fn of_parsed(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self { not_before: system_time(validity.not_before), not_after: system_time(validity.not_after) }
    }

    fn and(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }
}

/// Dates before 1970 count as 1970: they are in the past either way.
fn system_time(time: ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::{Authority, Leaf, Usage};
    use crate::load;

    const HOUR: Duration = Duration::from_hours(1);

    fn system_time(hours: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + HOUR * u32::try_from(500_000 + hours).expect("small")
    }

    #[test]
    fn a_chain_is_valid_while_each_of_it_is() {
        let authority = Authority::generation("ca", system_time(0), 3 * HOUR).expect("authority");
        let leaf = Leaf {
            common_name: "a".to_owned(),
            organization: None,
            dns_names: Vec::new(),
            ips: Vec::new(),
            usage: Usage::ServerAuth,
            lifetime: 9 * HOUR,
        };
        let mut pair = authority.issue_at(system_time(1), &leaf).expect("leaf");
        pair.certificate_pem += authority.certificate_pem();
        let key = load::issued(&pair).expect("loads");
        let each: Vec<_> = key.cert.iter().map(|one| Validity::of(one).expect("readable")).collect();
        assert_eq!(
            each.iter().map(|validity| validity.not_after).collect::<Vec<_>>(),
            [system_time(10), system_time(3)]
        );
        let validity = Validity::of_key(&key).expect("readable");
        assert_eq!((validity.not_before, validity.not_after), (each[0].not_before, system_time(3)));
    }

    #[test]
    fn the_first_and_the_last_second_count() {
        let validity = Validity { not_before: system_time(0), not_after: system_time(1) };
        let (moment_before, second) = (Duration::from_millis(1), Duration::from_secs(1));
        assert!(validity.contains(system_time(0)) && !validity.contains(system_time(0) - moment_before));
        assert!(
            validity.contains(system_time(1) + second - moment_before)
                && !validity.contains(system_time(1) + second)
        );
        assert_eq!(validity.remaining(system_time(0)), HOUR);
        assert_eq!(validity.remaining(system_time(2)), Duration::ZERO);
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        let error = Validity::of(&CertificateDer::from(vec![1, 2, 3])).expect_err("refused").to_string();
        assert!(error.starts_with("invalid certificate: "), "{error}");
    }
}
