//! Loads certificates and keys from PEM files for rustls. Every error names its file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::issue::KeyPair;

/// A certificate and its key could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not PEM.
    #[error("{} is not valid PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The error of the PEM parser.
        source: pem::Error,
    },
    /// The file is PEM, but holds no certificate.
    #[error("{} contains no certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The file is PEM, but holds no private key.
    #[error("{} contains no private key", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Both files parse, but rustls cannot use them together: the kind of key is not supported, or the key belongs to
    /// another certificate.
    #[error("the certificate in {} does not match the private key in {}", certificate.display(), key.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The error of rustls.
        source: rustls::Error,
    },
}

/// Converts a certificate from [`crate::issue`] for rustls. Errors say `the issued certificate` instead of a path.
pub fn issued(pair: &KeyPair) -> Result<Arc<CertifiedKey>, LoadError> {
    let contents = PemPair::new(pair.certificate_pem.as_bytes().to_vec(), pair.key_pem.as_bytes().to_vec());
    contents.parse(Path::new("the issued certificate"), Path::new("the issued key"))
}

/// The bytes of a certificate file and a key file, not parsed yet.
#[derive(PartialEq, Eq)]
pub(crate) struct PemPair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl PemPair {
    pub(crate) fn new(certificate: Vec<u8>, key: Vec<u8>) -> Self {
        Self { certificate, key }
    }

    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, LoadError> {
        Ok(Self { certificate: read(certificate)?, key: read(key)? })
    }

    /// The paths are used in error messages only.
    pub(crate) fn parse(&self, certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, LoadError> {
        let chain = parse_certificates(certificate, &self.certificate)?;
        let private_key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| match source {
            pem::Error::NoItemsFound => LoadError::NoKey { path: key.to_owned() },
            source => LoadError::Pem { path: key.to_owned(), source },
        })?;
        let parsed = CertifiedKey::from_der(chain, private_key, &aws_lc_rs::default_provider());
        parsed.map(Arc::new).map_err(|source| LoadError::Mismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            source,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })
}

pub(crate) fn parse_certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| LoadError::Pem { path: path.to_owned(), source })?;
    if chain.is_empty() {
        return Err(LoadError::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::issue::{Authority, KeyPair, Leaf, Usage};

    pub(crate) fn key_pair(common_name: &str) -> KeyPair {
        let leaf = Leaf {
            common_name: common_name.to_owned(),
            organization: None,
            dns_names: Vec::new(),
            ips: Vec::new(),
            usage: Usage::ServerAuth,
            lifetime: Duration::from_hours(1),
        };
        Authority::new("test-ca").and_then(|authority| authority.issue(&leaf)).expect("a leaf")
    }

    fn contents(certificate: &str, key: &str) -> Result<Arc<CertifiedKey>, LoadError> {
        let contents = PemPair::new(certificate.into(), key.into());
        contents.parse(Path::new("tls.crt"), Path::new("tls.key"))
    }

    #[test]
    fn chain_and_key_load() {
        let pair = key_pair("a");
        let chain = format!("{}{}", pair.certificate_pem, key_pair("intermediate").certificate_pem);
        assert_eq!(contents(&chain, &pair.key_pem).expect("loads").cert.len(), 2);
    }

    #[test]
    fn key_of_another_certificate_is_refused() {
        let error = contents(&key_pair("a").certificate_pem, &key_pair("b").key_pem).expect_err("refused");
        assert_eq!(error.to_string(), "the certificate in tls.crt does not match the private key in tls.key");
    }

    #[test]
    fn swapped_files_are_told_apart() {
        let pair = key_pair("a");
        let error = contents(&pair.key_pem, &pair.certificate_pem).expect_err("refused");
        assert_eq!(error.to_string(), "tls.crt contains no certificate");
        let error = contents(&pair.certificate_pem, "").expect_err("refused");
        assert_eq!(error.to_string(), "tls.key contains no private key");
    }

    #[test]
    fn file_that_breaks_off_is_named() {
        let pair = key_pair("a");
        let error = contents(&pair.certificate_pem[..80], &pair.key_pem).expect_err("refused");
        assert_eq!(error.to_string(), "tls.crt is not valid PEM");
    }

    #[test]
    fn missing_file_is_named() {
        let missing = Path::new("/nonexistent/ca.crt");
        let error = PemPair::read(missing, missing).err().expect("refused");
        assert_eq!(error.to_string(), "cannot read /nonexistent/ca.crt");
    }
}
