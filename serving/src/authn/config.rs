//! The authentication configuration: the CAs of users and of front proxies, and the identity headers.

use std::time::{Duration, SystemTime};

use gatehouse_certs::expiry::Validity;
use http::HeaderName;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

/// The authentication configuration. It is immutable, and replaced as a whole when any part changes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AuthenticationConfig {
    /// How a front proxy is verified, and its identity headers. Without it, requests with identity headers are
    /// rejected.
    pub request_header: Option<RequestHeaderConfig>,
    /// The CA that issues certificates to users. Without it, no client certificate counts.
    pub client_ca: Option<CaBundle>,
}

/// How a front proxy is verified, and the headers in which it names users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeaderConfig {
    /// The CA that issues the front proxy's certificate.
    pub ca: CaBundle,
    /// The common names that a front proxy's certificate may have; empty for any.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name; the first that is not empty counts.
    pub username_headers: Vec<HeaderName>,
    /// Headers with the user's UID. Empty by default, as in kube-apiserver: a front proxy that is older than this
    /// header passes its client's header on.
    pub uid_headers: Vec<HeaderName>,
    /// Headers with the user's groups; all values count.
    pub group_headers: Vec<HeaderName>,
    /// Prefixes, in lower case, of headers with `extra` attributes.
    pub extra_header_prefixes: Vec<String>,
}

/// The certificates of one or more authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaBundle(Vec<Authority>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    anchor: TrustAnchor<'static>,
    validity: Validity,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A CA bundle is not PEM.
    #[error("{origin} is not valid PEM")]
    Pem {
        /// The file or key that contains it.
        origin: String,
        /// The error of the PEM parser.
        source: pem::Error,
    },
    /// A CA bundle contains no certificate.
    #[error("{0} contains no certificate")]
    Empty(String),
    /// A CA bundle contains a certificate that cannot be parsed.
    #[error("{origin} contains an invalid certificate: {problem}")]
    Certificate {
        /// The file or key that contains it.
        origin: String,
        /// The error of the parser.
        problem: String,
    },
    /// The name is not a valid HTTP header name.
    #[error("{origin}: {name:?} is not a header name")]
    HeaderName {
        /// The flag or key that contains it.
        origin: String,
        /// The name.
        name: String,
    },
    /// A key of the ConfigMap that should be a JSON list of strings.
    #[error("{key} is not a JSON list of strings")]
    List {
        /// The key.
        key: String,
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// The ConfigMap cannot be read.
    #[error("cannot read the ConfigMap kube-system/extension-apiserver-authentication")]
    ConfigMap(#[source] Box<kube::Error>),
}

impl AuthenticationConfig {
    /// This configuration, completed with the parts of `other` that it lacks.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            request_header: self.request_header.or(other.request_header),
            client_ca: self.client_ca.or(other.client_ca),
        }
    }
}

impl CaBundle {
    /// Parses all certificates of a PEM text; `origin` names it in errors.
    pub fn from_pem(origin: &str, pem: &[u8]) -> Result<Self, ConfigError> {
        let authorities = CertificateDer::pem_slice_iter(pem)
            .map(|certificate| {
                let certificate =
                    certificate.map_err(|source| ConfigError::Pem { origin: origin.to_owned(), source })?;
                Authority::parse(&certificate)
                    .map_err(|problem| ConfigError::Certificate { origin: origin.to_owned(), problem })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if authorities.is_empty() {
            return Err(ConfigError::Empty(origin.to_owned()));
        }
        Ok(Self(authorities))
    }

    /// The authorities whose own certificates are valid at `now`. Go checks this for trust anchors too, and webpki does
    /// not.
    pub(super) fn anchors(&self, now: UnixTime) -> Vec<TrustAnchor<'static>> {
        let now = system_time(now);
        let valid = |authority: &&Authority| authority.validity.contains(now);
        self.0.iter().filter(valid).map(|authority| authority.anchor.clone()).collect()
    }

    /// The validity of each authority.
    pub(crate) fn validities(&self) -> impl Iterator<Item = Validity> {
        self.0.iter().map(|authority| authority.validity)
    }

    /// The subjects of the authorities, as DER without the header of the sequence.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|authority| authority.anchor.subject.as_ref())
    }
}

impl Authority {
    fn parse(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let anchor =
            webpki::anchor_from_trusted_cert(certificate).map_err(|error| error.to_string())?.to_owned();
        let validity = Validity::of(certificate).map_err(|error| error.to_string())?;
        Ok(Self { anchor, validity })
    }
}

impl RequestHeaderConfig {
    /// The default headers of kube-apiserver.
    pub fn with_default_headers(ca: CaBundle, allowed_names: Vec<String>) -> Self {
        Self {
            ca,
            allowed_names,
            username_headers: vec![HeaderName::from_static("x-remote-user")],
            uid_headers: Vec::new(),
            group_headers: vec![HeaderName::from_static("x-remote-group")],
            extra_header_prefixes: vec!["x-remote-extra-".to_owned()],
        }
    }
}

/// Parses header names in any case; `origin` names the flag or key in errors.
pub(super) fn header_names(origin: &str, names: &[String]) -> Result<Vec<HeaderName>, ConfigError> {
    let parse = |name: &String| {
        HeaderName::try_from(name.trim())
            .map_err(|_| ConfigError::HeaderName { origin: origin.to_owned(), name: name.clone() })
    };
    names.iter().map(parse).collect()
}

/// Parses prefixes of header names. An empty prefix is an error, since it would make every header an identity header.
pub(super) fn header_prefixes(origin: &str, prefixes: &[String]) -> Result<Vec<String>, ConfigError> {
    Ok(header_names(origin, prefixes)?.into_iter().map(|name| name.as_str().to_owned()).collect())
}

/// The earliest `notAfter` that is not before `now`, but at most `at_most` from now.
pub(super) fn earliest_expiry(
    now: UnixTime,
    at_most: Duration,
    validities: impl Iterator<Item = Validity>,
) -> SystemTime {
    let now = system_time(now);
    let ends = validities.map(|validity| validity.not_after).filter(|end| *end >= now);
    ends.fold(now + at_most, SystemTime::min)
}

pub(super) fn system_time(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}
