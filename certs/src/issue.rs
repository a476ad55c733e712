//! Issues certificates: creates certificate authorities, and signs leaf certificates with them.
//!
//! All keys are ECDSA P-256. The validity of a certificate begins five minutes before it is issued, so that a peer
//! whose clock is slow accepts it at once.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;

/// How far behind a peer's clock may be. kube-controller-manager's signers backdate certificates by as much.
pub const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// Ten years, far longer than any leaf. Such an authority is not rotated, but replaced by a new one.
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);

/// A certificate could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A DNS name that a certificate cannot contain, such as one that is not ASCII.
    #[error("{name:?} is not a DNS name")]
    DnsName {
        /// The name as given.
        name: String,
        /// The error of rcgen.
        source: rcgen::Error,
    },
    /// A lifetime that ends after the last date a certificate can express.
    #[error("the validity of {common_name:?} ends too far in the future")]
    Lifetime {
        /// The subject that was asked for.
        common_name: String,
    },
    /// The certificate or the key of a stored authority cannot be parsed.
    #[error("invalid CA certificate or key")]
    Load(#[source] rcgen::Error),
    /// Key generation or signing failed.
    #[error("cannot sign the certificate of {common_name:?}")]
    Sign {
        /// The subject that was asked for.
        common_name: String,
        /// The error of rcgen.
        source: rcgen::Error,
    },
}

/// A certificate authority.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

/// The extended key usage of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// It identifies a server.
    ServerAuth,
    /// It identifies a client.
    ClientAuth,
}

/// The content of a leaf certificate to issue.
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
    /// How long it is valid from the time of issue.
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
    /// Creates an authority for the lifetime of the process, with a new key and a self-signed certificate that is valid
    /// for ten years.
    pub fn new(common_name: &str) -> Result<Self, IssueError> {
        let key = new_key(common_name)?;
        Self::self_signed(common_name.to_owned(), key, SystemTime::now(), AUTHORITY_LIFETIME)
    }

    /// Creates one of a series of authorities. The common name is `prefix` and the first four bytes of the key
    /// identifier in hexadecimal, so that no two have the same subject, and a peer that trusts several finds the one
    /// that signed.
    pub fn generation(prefix: &str, now: SystemTime, lifetime: Duration) -> Result<Self, IssueError> {
        let key = new_key(prefix)?;
        let mut name = format!("{prefix}-");
        for byte in CertificateParams::default().key_identifier(&key).iter().take(4) {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        Self::self_signed(name, key, now, lifetime)
    }

    /// Loads an authority that was stored.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, IssueError> {
        let key = rcgen::KeyPair::from_pem(key_pem).map_err(IssueError::Load)?;
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key).map_err(IssueError::Load)?;
        Ok(Self { certificate_pem: certificate_pem.to_owned(), issuer })
    }

    /// The authority's own certificate as PEM, which peers trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's private key as PKCS#8 PEM. It allows its owner to issue certificates.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Creates a key pair, and signs a certificate for it that is valid from five minutes ago.
    pub fn issue(&self, leaf: &Leaf) -> Result<KeyPair, IssueError> {
        self.issue_at(SystemTime::now(), leaf)
    }

    /// [`Authority::issue`] at the time `now`.
    pub fn issue_at(&self, now: SystemTime, leaf: &Leaf) -> Result<KeyPair, IssueError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&leaf.common_name, leaf.organization.as_deref());
        params.subject_alt_names = alternative_names(leaf)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match leaf.usage {
            Usage::ServerAuth => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::ClientAuth => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, &leaf.common_name, now, leaf.lifetime)?;

        let key = new_key(&leaf.common_name)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(|source| IssueError::Sign { common_name: leaf.common_name.clone(), source })?;
        Ok(KeyPair { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    fn self_signed(
        common_name: String,
        key: rcgen::KeyPair,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Self, IssueError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&common_name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        set_validity(&mut params, &common_name, now, lifetime)?;

        let certificate_pem = match params.self_signed(&key) {
            Ok(certificate) => certificate.pem(),
            Err(source) => return Err(IssueError::Sign { common_name, source }),
        };
        Ok(Self { certificate_pem, issuer: Issuer::new(params, key) })
    }
}

/// A new key pair without a certificate, as PEM: `(public key, private key)`. It signs service account tokens.
pub fn bare_key() -> Result<(String, String), IssueError> {
    let key = new_key("(a key without a certificate)")?;
    Ok((key.public_key_pem(), key.serialize_pem()))
}

fn new_key(common_name: &str) -> Result<rcgen::KeyPair, IssueError> {
    rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|source| IssueError::Sign { common_name: common_name.to_owned(), source })
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
    now: SystemTime,
    lifetime: Duration,
) -> Result<(), IssueError> {
    let too_long = || IssueError::Lifetime { common_name: common_name.to_owned() };
    let now = OffsetDateTime::from(now);
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
    fn leaf_is_valid_from_five_minutes_ago_until_its_lifetime_ends() {
        let authority = Authority::new("test-ca").expect("authority");
        let issued = authority.issue(&leaf()).expect("leaf");
        let pem = parse(&issued.certificate_pem);
        let validity = pem.parse_x509().expect("certificate").validity().clone();
        let span = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert_eq!(span, 3600 + 300);
        assert!(validity.is_valid());
    }

    #[test]
    fn authority_that_was_kept_signs_as_before_and_generations_have_names_of_their_own() {
        let generation = || Authority::generation("test-ca", SystemTime::now(), Duration::from_hours(1));
        let (first, second) = (generation().expect("authority"), generation().expect("authority"));
        let again = Authority::from_pem(first.certificate_pem(), &first.key_pem()).expect("kept");
        let issued = again.issue(&leaf()).expect("leaf");

        let (first, second) = (parse(first.certificate_pem()), parse(second.certificate_pem()));
        let (first, second) =
            (first.parse_x509().expect("certificate"), second.parse_x509().expect("certificate"));
        let pem = parse(&issued.certificate_pem);
        let certificate = pem.parse_x509().expect("certificate");
        assert_eq!(certificate.issuer(), first.subject());
        assert_ne!(first.subject(), second.subject());
        let signer =
            certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.key_identifier.clone(),
                _ => None,
            });
        let own = first.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.clone()),
            _ => None,
        });
        assert!(own.is_some());
        assert_eq!(signer, own);
        assert!(matches!(Authority::from_pem("", ""), Err(IssueError::Load(_))));
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
