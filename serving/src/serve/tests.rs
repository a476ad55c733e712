//! The server with real sockets and TLS, on loopback.

use std::net::SocketAddr;

use bytes::Bytes;
use gatehouse_certs::issue::{Authority, KeyPair, Usage};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::WantsClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::authn::AuthenticationConfig;
use crate::authn::testing::{Authorities, chain, issue};
use crate::pipeline::Credential;
use crate::pipeline::testing::{Fake, THINGS, TIMING, WATCH, pipeline};

mod clients;
mod crowded;
mod idle;
mod stalled;
mod tls;

struct Running {
    address: SocketAddr,
    authority: Authority,
    authorities: Authorities,
    config: watch::Sender<Arc<AuthenticationConfig>>,
    keys: watch::Sender<Arc<CertifiedKey>>,
    shutdown: Arc<Shutdown>,
    pipeline: Arc<Pipeline<Fake>>,
    serving: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        Self::with_max_connections(MAX_CONNECTIONS).await
    }

    async fn with_max_connections(max_connections: usize) -> Self {
        let (authority, authorities) = (Authority::new("server-ca").expect("authority"), Authorities::new());
        let (keys, latest_key) = watch::channel(serving_key(&authority, "localhost"));
        let (config, latest_config) = watch::channel(authorities.config());
        let shutdown = Shutdown::new(TIMING);
        let certificates = Certificates::new(latest_key, latest_config.clone());
        let server =
            Server::bind(([127, 0, 0, 1], 0).into(), certificates, max_connections).await.expect("listening");
        let address = server.local_addr();
        let pipeline = pipeline(latest_config, &shutdown, Credential::Certificate);
        let serving = tokio::spawn(server.run(Arc::clone(&pipeline), Arc::clone(&shutdown)));
        Self { address, authority, authorities, config, keys, shutdown, pipeline, serving }
    }

    fn jane(&self) -> KeyPair {
        issue(&self.authorities.client, "jane", None, Usage::ClientAuth)
    }

    /// A client that trusts the server.
    fn trusting(&self) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.authority.certificate_pem().as_bytes()).expect("PEM");
        roots.add(root).expect("root");
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
    }

    async fn connect(&self, alpn: &[u8], client: Option<&KeyPair>) -> TlsStream<TcpStream> {
        let mut tls = match client {
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).expect("PEM");
                self.trusting().with_client_auth_cert(chain(pair), key).expect("key")
            }
            None => self.trusting().with_no_client_auth(),
        };
        tls.alpn_protocols = vec![alpn.to_vec()];
        self.connect_as(&Arc::new(tls)).await
    }

    async fn connect_as(&self, tls: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
        let socket = TcpStream::connect(self.address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("name");
        TlsConnector::from(Arc::clone(tls)).connect(name, socket).await.expect("handshake")
    }

    async fn http1(&self, client: Option<&KeyPair>) -> Http1 {
        let stream = TokioIo::new(self.connect(b"http/1.1", client).await);
        let (sender, connection) = http1::handshake(stream).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        sender
    }

    async fn http2(&self, client: Option<&KeyPair>) -> Http2 {
        let stream = TokioIo::new(self.connect(b"h2", client).await);
        let (sender, connection) =
            http2::Builder::new(TokioExecutor::new()).handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        sender
    }
}

type Http1 = http1::SendRequest<Empty<Bytes>>;
type Http2 = http2::SendRequest<Empty<Bytes>>;

fn serving_key(authority: &Authority, common_name: &str) -> Arc<CertifiedKey> {
    let pair = issue(authority, common_name, None, Usage::ServerAuth);
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).expect("PEM");
    Arc::new(CertifiedKey::from_der(chain(&pair), key, &aws_lc_rs::default_provider()).expect("key"))
}

fn get(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).header("host", "localhost").body(Empty::new()).expect("request")
}

/// A request with `count` headers of `bytes` bytes each.
fn with_headers(uri: &str, count: usize, bytes: usize) -> Request<Empty<Bytes>> {
    let mut request = get(uri);
    for index in 0..count {
        let name = http::HeaderName::try_from(format!("x-{index}")).expect("name");
        request.headers_mut().insert(name, "a".repeat(bytes).try_into().expect("value"));
    }
    request
}

async fn text(response: http::Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.expect("whole").to_bytes().to_vec()).expect("text")
}

#[tokio::test]
async fn both_protocols_serve_by_alpn() {
    let server = Running::start().await;
    let jane = server.jane();
    let answer = server.http1(Some(&jane)).await.send_request(get(THINGS)).await.expect("answered");
    assert_eq!(text(answer).await, "jane host");
    let uri = format!("https://localhost{THINGS}");
    let answer = server.http2(Some(&jane)).await.send_request(get(&uri)).await.expect("answered");
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(text(answer).await, "jane host");
}

#[tokio::test]
async fn a_stranger_s_certificate_is_told_401_and_not_cut_off() {
    let server = Running::start().await;
    let stranger = issue(&server.authorities.stranger, "jane", None, Usage::ClientAuth);
    let answer = server.http1(Some(&stranger)).await.send_request(get(THINGS)).await.expect("answered");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(text(answer).await.contains(r#""kind":"Status""#));
    let answer = server.http1(None).await.send_request(get(THINGS)).await.expect("answered");
    assert_eq!(answer.status(), StatusCode::FORBIDDEN, "anonymous");
}

#[tokio::test]
async fn a_rotated_authority_counts_on_an_open_connection() {
    let server = Running::start().await;
    let mut connection = server.http1(Some(&server.jane())).await;
    let answer = connection.send_request(get(THINGS)).await.expect("answered");
    assert_eq!(answer.status(), StatusCode::OK);
    text(answer).await;
    server.config.send_replace(Authorities::new().config());
    let answer = connection.send_request(get(THINGS)).await.expect("answered");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn many_headers_pass_and_oversized_ones_are_refused_without_harm() {
    let server = Running::start().await;
    let jane = server.jane();
    let uri = format!("https://localhost{THINGS}");
    let (many, oversized) = ((500, 100), (9, 16 * 1024));

    for ((count, bytes), expected) in [(many, 200), (oversized, 431), ((2000, 1), 431)] {
        let answer = server.http1(Some(&jane)).await.send_request(with_headers(THINGS, count, bytes)).await;
        assert_eq!(answer.expect("answered").status().as_u16(), expected, "HTTP/1.1, {count} × {bytes}");
    }
    let mut connection = server.http2(Some(&jane)).await;
    let answer = connection.send_request(with_headers(&uri, many.0, many.1)).await.expect("answered");
    assert_eq!(answer.status(), StatusCode::OK);
    // The client may know the limit from the server's SETTINGS frame, and fail itself.
    if let Ok(answer) = connection.send_request(with_headers(&uri, oversized.0, oversized.1)).await {
        assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    let answer = server.http2(Some(&jane)).await.send_request(get(&uri)).await.expect("answered");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_end_lets_watches_finish_and_refuses_newcomers() {
    let server = Running::start().await;
    let jane = server.jane();
    let mut connection = server.http2(Some(&jane)).await;
    let uri = format!("https://localhost{WATCH}");
    let mut watches = Vec::new();
    for _ in 0..40 {
        watches.push(connection.send_request(get(&uri)).await.expect("answered"));
    }
    let idle = server.http1(Some(&jane)).await;
    // Paused time advances only when the test says so: tokio does not advance it while a blocking task runs.
    tokio::time::pause();
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let blocking = tokio::task::spawn_blocking(move || blocked.recv());
    let shutdown = Arc::clone(&server.shutdown);
    let ending = tokio::spawn(async move { shutdown.run().await });
    while !ending.is_finished() {
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    for watch in watches {
        assert_eq!(text(watch).await, "hello", "a clean end of the stream");
    }
    server.serving.await.expect("the server ends");
    drop((idle, unblock));
    blocking.await.expect("unblocked").expect_err("nothing was sent");
    TcpStream::connect(server.address).await.expect_err("nobody listens any more");
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_when_the_grace_is_over() {
    let server = Running::start().await;
    let mut connection = server.http1(Some(&server.jane())).await;
    let request = connection.send_request(get(crate::pipeline::testing::SILENT));
    let (answer, ended) = tokio::join!(request, async {
        // Wait until the request is being served, since an idle connection would be closed.
        while server.pipeline.metrics().in_flight(true).get() == 0 {
            tokio::task::yield_now().await;
        }
        server.shutdown.run().await;
        server.serving.await
    });
    answer.expect_err("cut");
    ended.expect("the server ends");
}

#[tokio::test]
async fn all_addresses_are_those_of_both_families() {
    let listener = listener(([0, 0, 0, 0], 0).into()).await.expect("listening");
    let port = listener.local_addr().expect("an address").port();
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("connected");
    let has_ipv6 = tokio::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok();
    let connected = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await;
    assert_eq!(connected.is_ok(), has_ipv6 && !is_ipv6_apart(), "{connected:?}");
}
