//! Sends a request on a new connection, and reports a certificate error separately from others.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The result of a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// The status line of the response.
    Http(String),
    /// The certificate was refused, and nothing was sent.
    NotTrusted(CertificateError),
}

/// A TLS client that trusts only `roots`, and presents a certificate if the server asks for one.
pub(super) fn connector(roots: &[u8], certificate: &str, key: &str) -> anyhow::Result<TlsConnector> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots) {
        store.add(root.context("the bundle")?).context("the bundle")?;
    }
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_client_auth_cert(chain, key)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Sends a GET on a new connection and closes it.
pub(super) async fn get(
    connector: &TlsConnector,
    port: u16,
    name: &str,
    path: &str,
) -> anyhow::Result<Answer> {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.context("cannot connect")?;
    let server = ServerName::try_from(name.to_owned())?;
    let mut stream = match connector.connect(server, socket).await {
        Ok(stream) => stream,
        Err(error) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if let Some(rustls::Error::InvalidCertificate(reason)) = inner {
                return Ok(Answer::NotTrusted(reason.clone()));
            }
            return Err(error).context("TLS handshake");
        }
    };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {name}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.context("sending")?;
    let mut answer = Vec::new();
    // A connection that ends without close_notify is an error, because the response may be truncated.
    stream.read_to_end(&mut answer).await.context("reading")?;
    match String::from_utf8_lossy(&answer).lines().next() {
        Some(line) => Ok(Answer::Http(line.to_owned())),
        None => bail!("no answer"),
    }
}
