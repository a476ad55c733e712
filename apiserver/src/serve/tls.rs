//! The TLS configuration.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::authn::ProofOfPossession;

pub(super) const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// TLS 1.2 and later, with a client certificate asked for and not required.
///
/// One configuration serves for ever: the key is looked up in each handshake, and no authority is part of it. So
/// session tickets stay valid over rotations, and harmless: a resumed session's certificate is judged anew.
pub(super) fn acceptor(keys: watch::Receiver<Arc<CertifiedKey>>) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(Arc::new(ProofOfPossession(provider)))
        .with_cert_resolver(Arc::new(LatestKey(keys)));
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[derive(Debug)]
struct LatestKey(watch::Receiver<Arc<CertifiedKey>>);

impl ResolvesServerCert for LatestKey {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.borrow()))
    }
}
