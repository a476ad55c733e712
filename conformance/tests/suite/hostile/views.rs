//! Users of the views who ask and do not read: lists that hold every slot there is, pings that want their answers. Others
//! are served, and the process keeps little for those.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options, client_identity};
use gatehouse_conformance::process::Process;
use gatehouse_conformance::progress;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::site::{API, Site};

/// Connections of the one who does not read, and the lists asked for on each: as many as a connection may have.
const CONNECTIONS: usize = 2;
const LISTS: usize = 240;
/// The bytes of an answer that its client takes.
const TAKEN: u32 = 1024;
/// The lists that others ask for meanwhile.
const SHORT: usize = 50;
const LONG: usize = 2000;
/// For all slots to be held, on a machine that has much else to do.
const HELD: Duration = Duration::from_mins(2);
/// For how long the beginning of an answer is kept and nothing else read.
const UNREAD: Duration = Duration::from_secs(30);
/// What a process may grow by for somebody who sends and does not read. Systems keep some megabytes on the way.
const KEPT: u64 = 64 << 20;
/// Nothing is read where nothing can be written for so long.
const BLOCKED: Duration = Duration::from_secs(10);

/// How often each code was answered.
type Codes = Arc<Mutex<BTreeMap<StatusCode, usize>>>;

pub(super) async fn unread() -> anyhow::Result<()> {
    let control_plane = Arc::new(ControlPlane::start(&Options::default()).await?);
    let (site, gatehouse) = Site::new(Arc::clone(&control_plane)).await?;
    let process = Process(gatehouse.process().context("it runs")?.pid()?);
    let identity = client_identity(control_plane.client_ca(), "greedy", Some("system:masters"))?;
    let greedy = Greedy {
        port: gatehouse.port(),
        ca: gatehouse.serving_ca().to_owned(),
        certificate: identity.certificate_pem,
        key: identity.key_pem,
    };
    let polite = site.direct_as("polite", Some("system:masters")).await?;
    let path = format!("{API}/fluxresources");
    polite.get(&path).await?.ok()?;

    let codes = Codes::default();
    let mut lists = JoinSet::new();
    for _ in 0..CONNECTIONS {
        greedy.ask(&path, &codes, &mut lists).await?;
    }
    let count = |code: StatusCode| lock(&codes).get(&code).copied().unwrap_or_default();
    let all_held = async {
        while count(StatusCode::TOO_MANY_REQUESTS) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(HELD, all_held).await.with_context(|| format!("slots are left: {:?}", lock(&codes)))?;
    let is_long = std::env::var_os("GATEHOUSE_LONG").is_some();
    for number in 0..if is_long { LONG } else { SHORT } {
        polite
            .get(&path)
            .await?
            .ok()
            .with_context(|| format!("the list {number} beside others that nobody reads"))?;
    }
    progress::say(format_args!("hostile, lists that nobody reads: {:?}", lock(&codes)));
    ensure!(count(StatusCode::OK) >= 200, "too few were held: {:?}", lock(&codes));
    lists.shutdown().await;

    let (mut websocket, mut http2) = (greedy.websocket(&path).await?, greedy.http2().await?);
    for (what, stream, ping) in
        [("WebSocket", &mut websocket, &websocket_ping()[..]), ("HTTP/2", &mut http2, &http2_ping()[..])]
    {
        let before = process.memory()?.resident;
        let (taken, most) = send(stream, ping, process).await?;
        let grown = most.saturating_sub(before);
        progress::say(format_args!(
            "hostile, pings over {what} and nothing read: {} KiB taken, {} MiB more resident",
            taken >> 10,
            grown >> 20
        ));
        ensure!(taken < KEPT, "{what}: {} MiB were read of one who reads nothing", taken >> 20);
        ensure!(grown < KEPT, "{what}: {} MiB", grown >> 20);
        polite.get(&path).await?.ok()?;
    }
    drop((site, gatehouse));
    drop(control_plane);
    Ok(())
}

/// Who asks and does not read.
struct Greedy {
    port: u16,
    ca: String,
    certificate: String,
    key: String,
}

type Stream = TlsStream<TcpStream>;

impl Greedy {
    async fn connect(&self, protocol: &[u8]) -> anyhow::Result<Stream> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca.as_bytes()) {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from("localhost")?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, socket).await?)
    }

    /// Asks for as many lists as a connection may, and for each again when it has ended. Of an answer its beginning is taken.
    async fn ask(&self, path: &str, codes: &Codes, lists: &mut JoinSet<()>) -> anyhow::Result<()> {
        let stream = TokioIo::new(self.connect(b"h2").await?);
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(TAKEN);
        let (sender, connection) = builder.handshake::<_, Empty<Bytes>>(stream).await?;
        lists.spawn(async {
            // It ends with the trial.
            let _ = connection.await;
        });
        for _ in 0..LISTS {
            let (mut sender, codes) = (sender.clone(), Arc::clone(codes));
            let uri = format!("https://localhost{path}");
            lists.spawn(async move {
                loop {
                    let request = Request::get(uri.as_str()).body(Empty::new()).expect("a request");
                    let Ok(response) = sender.send_request(request).await else { return };
                    let code = response.status();
                    *lock(&codes).entry(code).or_default() += 1;
                    // Held for longer than the server lets it, or a moment.
                    let held = if code == StatusCode::OK { UNREAD } else { Duration::from_millis(100) };
                    sleep(held).await;
                    drop(response);
                }
            });
        }
        Ok(())
    }

    /// A watch over WebSocket.
    async fn websocket(&self, path: &str) -> anyhow::Result<Stream> {
        let mut stream = self.connect(b"http/1.1").await?;
        let head = format!(
            "GET {path}?watch=true HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             origin: https://localhost\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        Ok(stream)
    }

    /// A connection whose preface and settings were sent.
    async fn http2(&self) -> anyhow::Result<Stream> {
        let mut stream = self.connect(b"h2").await?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
        Ok(stream)
    }
}

/// A ping of the largest size, masked by nothing.
fn websocket_ping() -> Vec<u8> {
    const LENGTH: u8 = 0x7d;
    [&[0x89, 0x80 | LENGTH, 0, 0, 0, 0][..], &[b'x'; LENGTH as usize]].concat()
}

fn http2_ping() -> Vec<u8> {
    [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], b"gatehous"].concat()
}

/// Sends the same again and again and reads nothing, until nothing more is taken, or far too much. How many bytes were, and the
/// most resident memory meanwhile.
async fn send(stream: &mut Stream, frame: &[u8], process: Process) -> anyhow::Result<(u64, u64)> {
    let frames = frame.repeat(512);
    let (mut taken, mut most) = (0, 0);
    while taken < 4 * KEPT {
        // Cut, or blocked.
        let Ok(Ok(())) = timeout(BLOCKED, stream.write_all(&frames)).await else { break };
        taken += frames.len() as u64;
        most = most.max(process.memory()?.resident);
    }
    Ok((taken, most.max(process.memory()?.resident)))
}

fn lock(codes: &Codes) -> std::sync::MutexGuard<'_, BTreeMap<StatusCode, usize>> {
    codes.lock().unwrap_or_else(PoisonError::into_inner)
}
