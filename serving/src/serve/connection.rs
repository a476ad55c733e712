//! One connection: the handshake, its requests, and its end when it is idle or the server drains.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, ActivityStream, OnDrop};
use super::connection_slots::ConnectionSlot;
use super::tls::{ALPN_HTTP2, Certificates, TlsConfig};
use super::write_timeout::WriteTimeoutStream;
use crate::authn::{Peer, Trust};
use crate::body::{Body, with_observer};
use crate::pipeline::{Handler, Pipeline};
use crate::shutdown::Shutdown;

/// As `tlsHandshakeTimeout` of k8s.io/apiserver.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// As in k8s.io/apiserver: a kube-apiserver sends all its requests over one connection.
const MAX_STREAMS: u32 = 250;
/// A front proxy sends a header for each group of a user, which may be hundreds in a large directory. hyper's defaults
/// of 100 headers and 16 KiB would reject those users.
const MAX_HEADERS: usize = 1024;
/// The buffer of an HTTP/1.1 connection, in bytes. A head must fit in it. Go allows 1 MiB, but every client that
/// reaches the port can fill a buffer on each connection before it is authenticated.
const MAX_BUFFER: u32 = 64 * 1024;
/// The largest head on HTTP/2, which front proxies use. HTTP/2 counts 32 bytes for each header beside name and value.
const MAX_HEADER_LIST: u32 = 2 * MAX_BUFFER;
/// How many bytes of unread bodies HTTP/2 buffers for all requests of a connection together. The views read no bodies,
/// and kube-apiserver sends reviews over HTTP/1.1, where the limit is [`MAX_BUFFER`] too.
const WINDOW: u32 = MAX_BUFFER;
/// How many bytes of a response HTTP/2 buffers for a client that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// HTTP/2 keep-alive pings. After both times together, a client that vanished is noticed, and its watches end.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection is closed if its client reads nothing for this long while bytes wait. Front proxies always read, and
/// have their own limits for clients that do not.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// The text of Go's net/http, which people search for.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
/// The content type `handshake`, the first byte of a TLS record.
const TLS_HANDSHAKE: u8 = 22;

/// The parts that all connections share.
pub(super) struct Connections<H> {
    pipeline: Arc<Pipeline<H>>,
    shutdown: Arc<Shutdown>,
    certificates: Certificates,
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
}

impl<H: Handler> Connections<H> {
    pub(super) fn new(
        pipeline: Arc<Pipeline<H>>,
        shutdown: Arc<Shutdown>,
        certificates: Certificates,
    ) -> Self {
        let (http1, http2) = (builder().http1_only(), builder().http2_only());
        Self { pipeline, shutdown, certificates, http1, http2 }
    }

    /// Serves a connection until it is closed, or evicted for another one.
    pub(super) async fn serve(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        tls: Arc<TlsConfig>,
        slot: ConnectionSlot,
    ) {
        tokio::select! {
            () = self.serve_tls(socket, address, &tls, &slot) => {}
            () = slot.evicted() => {}
        }
    }

    async fn serve_tls(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        tls: &TlsConfig,
        slot: &ConnectionSlot,
    ) {
        let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(socket, tls)).await {
            Ok(Ok(Some(stream))) => stream,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => return tracing::debug!(%address, %error, "TLS handshake failed"),
            Err(_) => return tracing::debug!(%address, "TLS handshake timed out"),
        };
        let open = self.pipeline.metrics().connections();
        open.inc();
        let _open = OnDrop(|| open.dec());
        self.serve_http(stream, address, tls, slot).await;
    }

    async fn serve_http(
        &self,
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        tls: &TlsConfig,
        slot: &ConnectionSlot,
    ) {
        let session = stream.get_ref().1;
        let chain = session.peer_certificates().unwrap_or_default().to_vec();
        let is_http2 = session.alpn_protocol() == Some(ALPN_HTTP2);
        let builder = if is_http2 { &self.http2 } else { &self.http1 };
        let showed_certificate = !chain.is_empty();
        let peer = Arc::new(Peer::new(address, chain));
        if self.pipeline.is_verified(&peer) {
            peer.raise_trust(Trust::Verified);
        }
        slot.set_peer(&peer);
        let activity = slot.activity();
        let stream =
            TokioIo::new(ActivityStream::new(WriteTimeoutStream::new(stream, WRITE_TIMEOUT), activity));
        let is_last_request = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request: Request<Incoming>| {
            let (pipeline, peer) = (Arc::clone(&self.pipeline), Arc::clone(&peer));
            let request_is_open = Activity::begin_request(activity);
            let is_last_request = Arc::clone(&is_last_request);
            async move {
                let mut response = pipeline.handle(request, &peer).await;
                if is_last_request.load(Ordering::Relaxed) {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(hold_until_sent(response, request_is_open))
            }
        });
        let mut connection = pin!(builder.serve_connection_with_upgrades(stream, service));
        let mut ending = pin!(async {
            tokio::select! {
                () = self.shutdown.draining() => {}
                () = activity.idle_timeout() => {}
                () = self.client_ca_changed(tls, is_http2, &is_last_request), if !showed_certificate => {}
            }
        });
        let served = async {
            tokio::select! {
                result = connection.as_mut() => return result,
                () = ending.as_mut() => {}
            }
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        };
        let result = tokio::select! {
            result = served => result,
            () = activity.header_timeout(), if !is_http2 => {
                return tracing::debug!(%address, "request head timed out");
            }
            () = peer.connection().cancelled() => {
                return tracing::debug!(%address, "connection closed: the client stopped reading");
            }
        };
        if let Err(error) = result {
            tracing::debug!(%address, %error, "connection ended with an error");
        }
    }

    /// Resolves when the client has to connect again because it may have a certificate of an authority that the
    /// handshake did not name. After a rotation, a front proxy would otherwise be rejected for as long as it keeps this
    /// connection.
    ///
    /// On HTTP/1.1 it sets `is_last_request` in place of resolving: kube-apiserver does not repeat a POST that it sends
    /// while an idle connection is closed, so only the response to the next request may close it.
    async fn client_ca_changed(&self, tls: &TlsConfig, is_http2: bool, is_last_request: &AtomicBool) {
        self.certificates.client_ca_changed(tls).await;
        if !is_http2 {
            is_last_request.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
    }
}

/// `None` if the client does not speak TLS, or sends nothing.
async fn handshake(mut socket: TcpStream, tls: &TlsConfig) -> std::io::Result<Option<TlsStream<TcpStream>>> {
    // Watch events are small, and must not wait until the previous one is acknowledged (Nagle's algorithm).
    socket.set_nodelay(true)?;
    let mut first = [0];
    match socket.peek(&mut first).await? {
        0 => Ok(None),
        _ if first == [TLS_HANDSHAKE] => {
            TlsAcceptor::from(Arc::clone(&tls.config)).accept(socket).await.map(Some)
        }
        _ => {
            socket.write_all(NOT_TLS).await?;
            socket.shutdown().await?;
            Ok(None)
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper's timeout would count idle time too; `Activity::header_timeout` replaces it.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Keeps `guard` until the body is dropped, whether or not all of it was sent.
fn hold_until_sent(response: Response<Body>, guard: impl Send + Unpin + 'static) -> Response<Body> {
    response.map(|body| {
        with_observer(body, move |_| {
            let _guards = &guard;
        })
    })
}
