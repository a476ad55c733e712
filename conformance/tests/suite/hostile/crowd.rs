//! Many who attack at once, from an address of their own as other pods do, and apart from the trial, whose own requests
//! would wait for them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use gatehouse_certs::issue::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// kube-apiserver, and all else of a trial, comes from 127.0.0.1.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// So many do the same, and each again after a pause.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<A> {
    pub(super) attack: A,
    pub(super) peers: usize,
    /// Before one that was ended comes again.
    pub(super) pause: Duration,
}

/// At work until they are ended.
pub(super) struct Crowd<A> {
    runtime: Option<Runtime>,
    counts: Counts<A>,
    kinds: usize,
}

/// How often each attack has taken place.
#[derive(Debug)]
pub(super) struct Counts<A>(Arc<Mutex<BTreeMap<A, u64>>>);

impl<A> Clone for Counts<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Ord> Counts<A> {
    pub(super) fn took_place(&self, attack: A) {
        *self.lock().entry(attack).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<A, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Copy + Ord + Send + 'static> Crowd<A> {
    /// Has every part attack. `attack` returns when the server has ended it; whatever ends it, it comes again.
    pub(super) fn begin<F>(
        parts: &[Part<A>],
        attack: impl Fn(A, Counts<A>) -> F + Clone + Send + 'static,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let counts = Counts(Arc::default());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        for part in parts {
            for _ in 0..part.peers {
                let (part, attack, counts) = (*part, attack.clone(), counts.clone());
                runtime.spawn(async move {
                    loop {
                        let _ = attack(part.attack, counts.clone()).await;
                        sleep(part.pause).await;
                    }
                });
            }
        }
        Ok(Self { runtime: Some(runtime), counts, kinds: parts.len() })
    }

    /// Resolves when each attack has taken place.
    pub(super) async fn all_begun(&self) {
        while self.counts.lock().len() < self.kinds {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// How often each took place.
    pub(super) fn end(self) -> BTreeMap<A, u64> {
        std::mem::take(&mut *self.counts.lock())
    }
}

impl<A> Drop for Crowd<A> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A server that is attacked.
#[derive(Clone)]
pub(super) struct Target {
    port: u16,
    config: Arc<ClientConfig>,
}

impl Target {
    /// The server at this port, whose certificates `ca` has signed; `identity` is presented to it, if there is one.
    pub(super) fn new(port: u16, ca: &str, identity: Option<&KeyPair>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?;
                builder.with_client_auth_cert(chain.collect::<Result<_, _>>()?, key)?
            }
        };
        Ok(Self { port, config: Arc::new(config) })
    }

    pub(super) async fn socket(&self) -> anyhow::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((ADDRESS, 0).into())?;
        Ok(socket.connect((Ipv4Addr::LOCALHOST, self.port).into()).await?)
    }

    /// A connection that speaks `protocol`.
    pub(super) async fn stream(&self, protocol: &str) -> anyhow::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, self.socket().await?).await;
        stream.context("no TLS")
    }
}
