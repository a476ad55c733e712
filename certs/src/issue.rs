//! Issues certificates: an authority made on the spot, and leaves signed by it.
//!
//! ECDSA P-256 throughout. An authority's key lives in memory only. A leaf is valid from a minute ago, so that a peer
//! whose clock runs slightly behind accepts it at once.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;

/// How far behind a peer's clock may run.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// Ten years: an authority outlives every leaf it signs by far, and is replaced by making a new one.
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A DNS name that cannot stand in a certificate.
    #[error("{name:?} is not a DNS name")]
    DnsName {
        /// The name as it was asked for.
        name: String,
        /// What is wrong with it.
        source: rcgen::Error,
    },
    /// A lifetime that ends after the last date a certificate can express.
    #[error("the lifetime of {common_name:?} ends too far in the future")]
    Lifetime {
        /// The subject that was asked for.
        common_name: String,
    },
    /// Key generation or signing failed.
    #[error("signing the certificate of {common_name:?} failed")]
    Sign {
        /// The subject that was asked for.
        common_name: String,
        /// The provider's reason.
        source: rcgen::Error,
    },
}

/// A certificate authority whose key never leaves memory.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

/// What a leaf may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// It identifies a server.
    ServerAuth,
    /// It identifies a client.
    ClientAuth,
    /// It identifies a peer that is both.
    Both,
}

/// The certificate that is asked for.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Subject CN; Kubernetes reads it as the user's name.
    pub common_name: String,
    /// Subject O; Kubernetes reads it as the user's group. One at most: rcgen keeps a single value of each attribute.
    pub organization: Option<String>,
    /// Subject alternative names of type DNS.
    pub dns_names: Vec<String>,
    /// Subject alternative names of type IP.
    pub ips: Vec<IpAddr>,
    /// Extended key usage.
    pub usage: Usage,
    /// Counted from now.
    pub lifetime: Duration,
}

/// A certificate and its private key.
#[derive(Clone)]
pub struct KeyPair {
    /// The leaf alone, as PEM.
    pub certificate_pem: String,
    /// PKCS#8, as PEM.
    pub key_pem: String,
}

impl Authority {
    /// Makes a new key and a self-signed certificate for it.
    pub fn new(common_name: &str) -> Result<Self, IssueError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        set_validity(&mut params, common_name, AUTHORITY_LIFETIME)?;

        let sign = |source| IssueError::Sign { common_name: common_name.to_owned(), source };
        let key = generate_key().map_err(sign)?;
        let certificate_pem = params.self_signed(&key).map_err(sign)?.pem();
        Ok(Self { certificate_pem, issuer: Issuer::new(params, key) })
    }

    /// The authority's own certificate, to be trusted by peers.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Makes a new key and a certificate for it.
    pub fn issue(&self, leaf: &Leaf) -> Result<KeyPair, IssueError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&leaf.common_name, leaf.organization.as_deref());
        params.subject_alt_names = alternative_names(leaf)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match leaf.usage {
            Usage::ServerAuth => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::ClientAuth => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, &leaf.common_name, leaf.lifetime)?;

        let sign = |source| IssueError::Sign { common_name: leaf.common_name.clone(), source };
        let key = generate_key().map_err(sign)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(sign)?;
        Ok(KeyPair { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

/// A fresh key pair that no certificate names, as PEM: `(public key, private key)`. Signs service account tokens.
pub fn bare_key() -> Result<(String, String), IssueError> {
    let key = generate_key().map_err(|source| IssueError::Sign {
        common_name: "(a key without a certificate)".to_owned(),
        source,
    })?;
    Ok((key.public_key_pem(), key.serialize_pem()))
}

fn generate_key() -> Result<rcgen::KeyPair, rcgen::Error> {
    rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn subject(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn alternative_names(leaf: &Leaf) -> Result<Vec<SanType>, IssueError> {
    let dns_names = leaf.dns_names.iter().map(|name| match name.as_str().try_into() {
        Ok(name) => Ok(SanType::DnsName(name)),
        Err(source) => Err(IssueError::DnsName { name: name.clone(), source }),
    });
    let ips = leaf.ips.iter().map(|ip| Ok(SanType::IpAddress(*ip)));
    dns_names.chain(ips).collect()
}

fn set_validity(
    params: &mut CertificateParams,
    common_name: &str,
    lifetime: Duration,
) -> Result<(), IssueError> {
    let too_long = || IssueError::Lifetime { common_name: common_name.to_owned() };
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now.checked_add(lifetime.try_into().map_err(|_| too_long())?).ok_or_else(too_long)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    fn leaf() -> Leaf {
        Leaf {
            common_name: "alice".to_owned(),
            organization: Some("team-a".to_owned()),
            dns_names: vec!["localhost".to_owned()],
            ips: vec![IpAddr::from([127, 0, 0, 1])],
            usage: Usage::ClientAuth,
            lifetime: Duration::from_hours(1),
        }
    }

    fn parse(pem: &str) -> Pem {
        parse_x509_pem(pem.as_bytes()).expect("PEM").1
    }

    #[test]
    fn leaf_carries_subject_names_and_usage_and_is_signed_by_its_authority() {
        let authority = Authority::new("test-ca").expect("authority");
        let issued = authority.issue(&leaf()).expect("leaf");

        let authority = parse(authority.certificate_pem());
        let authority = authority.parse_x509().expect("certificate");
        let pem = parse(&issued.certificate_pem);
        let certificate = pem.parse_x509().expect("certificate");

        assert_eq!(certificate.issuer(), authority.subject());
        let organizations: Vec<_> =
            certificate.subject().iter_organization().map(|value| value.as_str().expect("UTF-8")).collect();
        assert_eq!(organizations, ["team-a"]);
        let common_names: Vec<_> =
            certificate.subject().iter_common_name().map(|value| value.as_str().expect("UTF-8")).collect();
        assert_eq!(common_names, ["alice"]);

        let names = certificate.subject_alternative_name().expect("extension").expect("present");
        assert_eq!(
            names.value.general_names,
            [GeneralName::DNSName("localhost"), GeneralName::IPAddress(&[127, 0, 0, 1])]
        );
        let usage = certificate.extended_key_usage().expect("extension").expect("present");
        assert!(usage.value.client_auth && !usage.value.server_auth);
        assert!(authority.is_ca() && !certificate.is_ca());
    }

    #[test]
    fn leaf_is_valid_from_a_minute_ago_until_its_lifetime_ends() {
        let authority = Authority::new("test-ca").expect("authority");
        let issued = authority.issue(&leaf()).expect("leaf");
        let pem = parse(&issued.certificate_pem);
        let validity = pem.parse_x509().expect("certificate").validity().clone();
        let span = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert_eq!(span, 3600 + 60);
        assert!(validity.is_valid());
    }

    #[test]
    fn name_that_is_not_ascii_is_refused() {
        let authority = Authority::new("test-ca").expect("authority");
        let refused = authority.issue(&Leaf { dns_names: vec!["bücher".to_owned()], ..leaf() });
        assert!(matches!(refused, Err(IssueError::DnsName { name, .. }) if name == "bücher"));
    }

    #[test]
    fn lifetime_beyond_the_calendar_is_refused() {
        let authority = Authority::new("test-ca").expect("authority");
        let refused = authority.issue(&Leaf { lifetime: Duration::MAX, ..leaf() });
        assert!(matches!(refused, Err(IssueError::Lifetime { .. })));
    }
}
