//! The stored state of the rotation: authorities, their keys, and the serving certificate, as the data of a Secret.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::expiry::{InvalidCertificate, Validity};
use crate::issue::KeyPair;
use crate::load::{LoadError, PemPair};

const LEAF: [&str; 2] = ["tls.crt", "tls.key"];
const CURRENT: [&str; 2] = ["current-ca.crt", "ca.key"];
const NEXT: [&str; 2] = ["next-ca.crt", "next-ca.key"];
const PREVIOUS: &str = "previous-ca.crt";
/// The bundle, for other readers of the Secret. It is written, and never read here.
const BUNDLE: &str = "ca.crt";
/// The time of the last step (RFC 3339), for people who read the Secret.
const CHANGED_AT: &str = "changed-at";

/// The authorities and the serving certificate at one point of the rotation.
#[derive(Clone)]
pub struct Store {
    pub(super) current: Authority,
    /// In the bundle already; signs from the next [`super::Step::Switch`] on.
    pub(super) next: Option<Authority>,
    /// Still in the bundle; signs no more.
    pub(super) previous: Option<Certificate>,
    pub(super) leaf: Option<Leaf>,
    pub(super) changed_at: Option<Timestamp>,
    pub(super) problems: Vec<StoreError>,
}

/// An authority with its private key, which can sign.
#[derive(Clone)]
pub(super) struct Authority {
    pub(super) certificate: Certificate,
    pub(super) key_pem: String,
}

/// The certificate of an authority, without its key.
#[derive(Clone)]
pub(super) struct Certificate {
    pub(super) pem: String,
    pub(super) validity: Validity,
    der: CertificateDer<'static>,
}

/// A serving certificate and its key.
#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) pair: KeyPair,
    pub(super) validity: Validity,
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

/// A stored key, or a pair of them, cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The key does not exist.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The content is not a PEM certificate or private key, or the two do not match.
    #[error(transparent)]
    Content(#[from] Arc<LoadError>),
    /// The key of an authority holds more than one certificate.
    #[error("{0} contains more than one certificate")]
    Several(&'static str),
    /// rustls accepts the certificate, but its validity or its names cannot be parsed.
    #[error("{key} is invalid")]
    Certificate {
        /// The key that holds it.
        key: &'static str,
        /// The error of the parser.
        source: InvalidCertificate,
    },
}

impl Store {
    /// Reads what [`Store::to_data`] has written. It is an error if the current authority cannot be read. A serving
    /// certificate, or a next or previous authority, that cannot be read is listed in [`Store::problems`] and otherwise
    /// treated as missing.
    pub fn from_data(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, StoreError> {
        let mut problems = Vec::new();
        let current = Authority::read(data, CURRENT)?.ok_or(StoreError::Missing(CURRENT[0]))?;
        let next = usable(Authority::read(data, NEXT), &mut problems);
        let previous = usable(Certificate::read(data, PREVIOUS), &mut problems);
        let leaf = Leaf::read(data).and_then(|leaf| leaf.ok_or(StoreError::Missing(LEAF[0])));
        let leaf = usable(leaf.map(Some), &mut problems);
        let changed_at = data.get(CHANGED_AT).and_then(|text| str::from_utf8(text).ok()?.parse().ok());
        Ok(Self { current, next, previous, leaf, changed_at, problems })
    }

    /// The data to store, by key. It contains private keys.
    pub fn to_data(&self) -> BTreeMap<String, Vec<u8>> {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: &str| data.insert(key.to_owned(), text.as_bytes().to_vec());
        for (keys, authority) in [(CURRENT, Some(&self.current)), (NEXT, self.next.as_ref())] {
            if let Some(authority) = authority {
                put(keys[0], &authority.certificate.pem);
                put(keys[1], &authority.key_pem);
            }
        }
        if let Some(previous) = &self.previous {
            put(PREVIOUS, &previous.pem);
        }
        if let Some(leaf) = &self.leaf {
            put(LEAF[0], &leaf.pair.certificate_pem);
            put(LEAF[1], &leaf.pair.key_pem);
        }
        if let Some(changed_at) = self.changed_at {
            put(CHANGED_AT, &changed_at.to_string());
        }
        put(BUNDLE, &self.bundle());
        data
    }

    pub(super) fn new(current: Authority, leaf: Leaf) -> Self {
        Self { current, next: None, previous: None, leaf: Some(leaf), changed_at: None, problems: Vec::new() }
    }

    /// All trusted authorities as PEM, the oldest first, so that [`super::Step::Switch`] does not change it.
    pub fn bundle(&self) -> String {
        self.trusted().map(|certificate| certificate.pem.as_str()).collect()
    }

    pub(super) fn trusted(&self) -> impl Iterator<Item = &Certificate> {
        let next = self.next.as_ref().map(|next| &next.certificate);
        [self.previous.as_ref(), Some(&self.current.certificate), next].into_iter().flatten()
    }

    /// The certificate and key to serve with; `None` if those in the store cannot be used.
    pub fn serving(&self) -> Option<Arc<CertifiedKey>> {
        self.leaf.as_ref().map(|leaf| Arc::clone(&leaf.key))
    }

    /// What could not be used when the store was read, for the log. The next step that is written repairs it.
    pub fn problems(&self) -> &[StoreError] {
        &self.problems
    }
}

/// Shows when each certificate expires, and no private keys.
impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = |certificate: &Certificate| certificate.validity.not_after;
        formatter
            .debug_struct("Store")
            .field("current_until", &until(&self.current.certificate))
            .field("next_until", &self.next.as_ref().map(|next| until(&next.certificate)))
            .field("previous_until", &self.previous.as_ref().map(until))
            .field("leaf_until", &self.leaf.as_ref().map(|leaf| leaf.validity.not_after))
            .field("changed_at", &self.changed_at)
            .finish_non_exhaustive()
    }
}

impl Authority {
    fn read(data: &BTreeMap<String, Vec<u8>>, keys: [&'static str; 2]) -> Result<Option<Self>, StoreError> {
        let Some((key, contents)) = pair(data, keys)? else { return Ok(None) };
        let certificate = Certificate::parse(keys[0], contents.certificate(), &key.cert)?;
        let key_pem = String::from_utf8_lossy(contents.key()).into_owned();
        Ok(Some(Self { certificate, key_pem }))
    }

    /// Converts an authority that was just created.
    pub(super) fn from_issued(authority: &crate::issue::Authority) -> Result<Self, StoreError> {
        let data = [
            (CURRENT[0].to_owned(), authority.certificate_pem().as_bytes().to_vec()),
            (CURRENT[1].to_owned(), authority.key_pem().into_bytes()),
        ];
        Self::read(&data.into(), CURRENT)?.ok_or(StoreError::Missing(CURRENT[0]))
    }
}

impl Certificate {
    fn read(data: &BTreeMap<String, Vec<u8>>, key: &'static str) -> Result<Option<Self>, StoreError> {
        let Some(pem) = data.get(key) else { return Ok(None) };
        let chain = crate::load::parse_certificates(Path::new(key), pem).map_err(Arc::new)?;
        Self::parse(key, pem, &chain).map(Some)
    }

    fn parse(key: &'static str, pem: &[u8], chain: &[CertificateDer<'static>]) -> Result<Self, StoreError> {
        let [der] = chain else { return Err(StoreError::Several(key)) };
        let validity = Validity::of(der).map_err(|source| StoreError::Certificate { key, source })?;
        // The newline keeps the certificates apart when they are concatenated to the bundle.
        let pem = format!("{}\n", String::from_utf8_lossy(pem).trim());
        Ok(Self { pem, validity, der: der.clone() })
    }
}

impl Leaf {
    fn read(data: &BTreeMap<String, Vec<u8>>) -> Result<Option<Self>, StoreError> {
        let Some((key, contents)) = pair(data, LEAF)? else { return Ok(None) };
        let unreadable = |source| StoreError::Certificate { key: LEAF[0], source };
        let (validity, names) = read_leaf(&key.cert[0]).map_err(unreadable)?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let pair = KeyPair { certificate_pem: text(contents.certificate()), key_pem: text(contents.key()) };
        Ok(Some(Self { pair, validity, names, key }))
    }

    /// Converts a certificate and key that were just issued.
    pub(super) fn from_issued(pair: KeyPair) -> Result<Self, StoreError> {
        let data = [
            (LEAF[0].to_owned(), pair.certificate_pem.into_bytes()),
            (LEAF[1].to_owned(), pair.key_pem.into_bytes()),
        ];
        Self::read(&data.into())?.ok_or(StoreError::Missing(LEAF[0]))
    }

    /// Whether its alternative names are exactly these, ignoring case and order.
    pub(super) fn has_names(&self, names: &[String]) -> bool {
        let contains =
            |names: &[String], name: &String| names.iter().any(|other| other.eq_ignore_ascii_case(name));
        names.iter().all(|name| contains(&self.names, name))
            && self.names.iter().all(|name| contains(names, name))
    }

    /// Whether a client that trusts `authority` accepts it as a server certificate at `now`. Names are not checked.
    pub(super) fn verifies(&self, authority: &Certificate, now: SystemTime) -> bool {
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let Ok(anchor) = webpki::anchor_from_trusted_cert(&authority.der) else { return false };
        let [leaf, intermediates @ ..] = self.key.cert.as_slice() else { return false };
        EndEntityCert::try_from(leaf).is_ok_and(|leaf| {
            leaf.verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &[anchor],
                intermediates,
                UnixTime::since_unix_epoch(since_epoch),
                KeyUsage::server_auth(),
                None,
                None,
            )
            .is_ok()
        })
    }
}

fn read_leaf(certificate: &CertificateDer<'_>) -> Result<(Validity, Vec<String>), InvalidCertificate> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| InvalidCertificate::new(&error))?;
    let names = match parsed.subject_alternative_name().map_err(|error| InvalidCertificate::new(&error))? {
        Some(names) => names.value.general_names.iter().map(name).collect(),
        None => Vec::new(),
    };
    Ok((Validity::of_parsed(&parsed), names))
}

/// A name that is not a DNS name becomes text that no policy contains, so [`Leaf::has_names`] finds one too many.
fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        other => other.to_string(),
    }
}

/// Reads a certificate and its key, which must match; `None` if neither exists.
fn pair(
    data: &BTreeMap<String, Vec<u8>>,
    [certificate, key]: [&'static str; 2],
) -> Result<Option<(Arc<CertifiedKey>, PemPair)>, StoreError> {
    let contents = match (data.get(certificate), data.get(key)) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(StoreError::Missing(key)),
        (None, Some(_)) => return Err(StoreError::Missing(certificate)),
        (Some(certificate), Some(key)) => PemPair::new(certificate.clone(), key.clone()),
    };
    let parsed = contents.parse(Path::new(certificate), Path::new(key)).map_err(Arc::new)?;
    Ok(Some((parsed, contents)))
}

fn usable<T>(read: Result<Option<T>, StoreError>, problems: &mut Vec<StoreError>) -> Option<T> {
    read.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    })
}
