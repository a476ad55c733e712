//! TLS handshakes: certificates, hints, refusals, and the effect of a changed configuration on open connections.

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::{HandshakeKind, SignatureScheme};
use tokio::sync::mpsc;

use super::*;
use crate::serve::activity::HEADER_TIMEOUT;
use crate::serve::connection::HANDSHAKE_TIMEOUT;

fn shown(stream: &TlsStream<TcpStream>) -> Vec<CertificateDer<'static>> {
    stream.get_ref().1.peer_certificates().expect("shown").to_vec()
}

/// Sends its certificate only if the server names its authority, as Go's clients and browsers do.
#[derive(Debug)]
struct AsAsked {
    key: Arc<CertifiedKey>,
    issuer: Vec<u8>,
    asked: mpsc::UnboundedSender<usize>,
}

impl AsAsked {
    fn new(authority: &Authority, pair: &KeyPair) -> (Arc<Self>, mpsc::UnboundedReceiver<usize>) {
        let (asked, answers) = mpsc::unbounded_channel();
        let authority = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).expect("PEM");
        let anchor = webpki::anchor_from_trusted_cert(&authority).expect("an authority");
        let issuer = rustls::DistinguishedName::in_sequence(&anchor.subject).as_ref().to_vec();
        (Arc::new(Self { key: gatehouse_certs::load::issued(pair).expect("loads"), issuer, asked }), answers)
    }
}

impl ResolvesClientCert for AsAsked {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.send(hints.len()).expect("counted");
        (hints.is_empty() || hints.contains(&self.issuer.as_slice())).then(|| Arc::clone(&self.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn open_connections_outlive_a_rotated_serving_certificate() {
    let server = Running::start().await;
    let mut connection = server.http2(Some(&server.jane())).await;
    let uri = format!("https://localhost{THINGS}");
    let watch = connection.send_request(get(&format!("https://localhost{WATCH}"))).await.expect("answered");
    server.keys.send_replace(serving_key(&server.authority, "localhost"));
    drop(server.connect(b"h2", None).await);
    let answer = connection.send_request(get(&uri)).await.expect("answered");
    assert_eq!(text(answer).await, "jane host");
    server.shutdown.run().await;
    assert_eq!(text(watch).await, "hello");
}

#[tokio::test]
async fn a_session_is_resumed_until_the_serving_certificate_is_rotated() {
    let server = Running::start().await;
    let mut tls = server.trusting().with_no_client_auth();
    tls.resumption = Resumption::in_memory_sessions(8);
    let tls = Arc::new(tls);
    let connect = async || {
        let mut stream = server.connect_as(&tls).await;
        // Tickets arrive after the handshake, before the first response.
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        stream.get_ref().1.handshake_kind().expect("done")
    };
    assert_eq!(connect().await, HandshakeKind::Full);
    assert_eq!(connect().await, HandshakeKind::Resumed);
    server.keys.send_replace(serving_key(&server.authority, "localhost"));
    assert_eq!(connect().await, HandshakeKind::Full, "else the old certificate would live on in tickets");
    assert_eq!(connect().await, HandshakeKind::Resumed);
}

#[tokio::test]
async fn clients_are_asked_for_certificates_of_the_authorities_of_the_moment() {
    let server = Running::start().await;
    let next =
        Authorities { client: Authority::new("client-ca-2").expect("authority"), ..Authorities::new() };
    let jane = issue(&next.client, "jane", None, Usage::ClientAuth);
    let (resolver, mut asked) = AsAsked::new(&next.client, &jane);
    let mut tls = server.trusting().with_client_cert_resolver(resolver);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = Arc::new(tls);
    let connect = async || {
        let stream = TokioIo::new(server.connect_as(&tls).await);
        let (sender, connection) =
            http2::Builder::new(TokioExecutor::new()).handshake(stream).await.expect("HTTP/2");
        (sender, tokio::spawn(connection))
    };
    let uri = format!("https://localhost{THINGS}");
    let ask = async |sender: &mut Http2| sender.send_request(get(&uri)).await.expect("answered").status();

    let (mut nobody, ended) = connect().await;
    assert_eq!(asked.recv().await, Some(2), "the proxy's and the users'");
    assert_eq!(ask(&mut nobody).await, StatusCode::FORBIDDEN, "shows nothing");

    server.config.send_replace(next.config());
    ended.await.expect("no panic").expect("ended in good order, so that the client comes again");
    let (mut known, ended) = connect().await;
    assert_eq!(asked.recv().await, Some(2));
    assert_eq!(ask(&mut known).await, StatusCode::OK);

    // A certificate that was sent is verified for each request, so the client need not reconnect.
    server.config.send_replace(server.authorities.config());
    assert_eq!(ask(&mut known).await, StatusCode::UNAUTHORIZED);
    server.config.send_replace(next.config());
    assert_eq!(ask(&mut known).await, StatusCode::OK);
    assert!(!ended.is_finished());

    let without_proxy = AuthenticationConfig { request_header: None, ..(*next.config()).clone() };
    server.config.send_replace(Arc::new(without_proxy));
    connect().await;
    assert_eq!(asked.recv().await, Some(0), "the proxy's authority is not known yet");
}

#[tokio::test]
async fn an_http1_connection_is_closed_by_the_response_after_the_authorities_changed() {
    let server = Running::start().await;
    let mut sender = server.http1(None).await;
    let next =
        Authorities { client: Authority::new("client-ca-2").expect("authority"), ..Authorities::new() };
    let answer = sender.send_request(get(THINGS)).await.expect("answered");
    assert!(!answer.headers().contains_key("connection"));
    text(answer).await;

    server.config.send_replace(next.config());
    let closed = async {
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(300), closed).await.expect_err("an idle connection is kept");
    let answer = sender.send_request(get(THINGS)).await.expect("not a request lost");
    assert_eq!(answer.headers()["connection"], "close");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_hung_up_on() {
    let server = Running::start().await;
    let mut socket = TcpStream::connect(server.address).await.expect("connected");
    let start = tokio::time::Instant::now();
    assert_eq!(socket.read(&mut [0]).await.expect("closed"), 0);
    assert!(start.elapsed() >= HANDSHAKE_TIMEOUT);
}

#[tokio::test]
async fn who_does_not_finish_a_header_is_hung_up_on() {
    let server = Running::start().await;
    let mut stream = server.connect(b"http/1.1", Some(&server.jane())).await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: local").await.expect("sent");
    // Pause only now: paused time jumps to the next timeout whenever all tasks wait for a socket.
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    assert!(start.elapsed() >= HEADER_TIMEOUT / 2);
}

#[tokio::test]
async fn a_rotated_serving_certificate_is_shown_to_the_next_connection() {
    let server = Running::start().await;
    let before = shown(&server.connect(b"h2", None).await);
    server.keys.send_replace(serving_key(&server.authority, "localhost"));
    assert_ne!(shown(&server.connect(b"h2", None).await), before);
}

#[tokio::test]
async fn plain_http_is_told_so() {
    let server = Running::start().await;
    let mut socket = TcpStream::connect(server.address).await.expect("connected");
    socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    // Unread bytes turn the close into a reset, which the test accepts too.
    let _ = socket.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.0 400 Bad Request"), "{answer}");
}

#[tokio::test]
async fn tls_1_1_is_refused_by_an_alert() {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    let server = Running::start().await;
    let mut socket = TcpStream::connect(server.address).await.expect("connected");
    // A ClientHello of TLS 1.1: version, random, no session, TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, no compression.
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x09, 1, 0]);
    let length = u8::try_from(hello.len()).expect("short");
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    socket.write_all(&record).await.expect("sent");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(matches!(answer.as_slice(), [ALERT, _, _, _, _, FATAL, _]), "{answer:?}");
}
