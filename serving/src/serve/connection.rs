//! One connection: handshake, HTTP, and an end when it is idle or the server drains.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, Guard, WatchedStream};
use super::places::Place;
use super::progress::Progress;
use super::tls::{ALPN_HTTP2, Certificates, InUse};
use crate::authn::{Peer, Trust};
use crate::body::{Body, observed};
use crate::pipeline::{Handler, Pipeline};
use crate::shutdown::Shutdown;

/// As k8s.io/apiserver's `tlsHandshakeTimeout`.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// As k8s.io/apiserver's: one kube-apiserver sends everything through one connection.
const MAX_STREAMS: u32 = 250;
/// A front proxy sends a header for each of a user's groups, some hundreds in a large directory; hyper's usual 100
/// headers and 16 KiB would shut those users out.
const MAX_HEADERS: usize = 1024;
/// The buffer of an HTTP/1.1 connection, which a head has to fit in. Go takes 1 MiB; but whoever reaches the port can have
/// as many filled as there are connections, before anybody asks who they are.
const MAX_BUFFER: u32 = 64 * 1024;
/// What HTTP/2 counts of a head: 32 bytes a header beside its name and value. Front proxies speak HTTP/2.
const MAX_HEADER_LIST: u32 = 2 * MAX_BUFFER;
/// What HTTP/2 keeps of bodies that nobody has read yet, of all requests of a connection together. The views take none, and
/// reviews come through HTTP/1.1, where it is [`MAX_BUFFER`] too.
const WINDOW: u32 = MAX_BUFFER;
/// What HTTP/2 keeps of an answer that is on its way to a peer which does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// A peer that vanished without a word is noticed after both together, and its watches end.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A client that takes nothing for this long does not read. Front proxies read at once, and watch on their own behalf
/// whether their clients do.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// What Go's net/http says, which people search for.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
/// The first byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 22;

/// What all connections share.
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

    /// Returns when the connection is closed, or its place is given to another.
    pub(super) async fn serve(&self, socket: TcpStream, address: SocketAddr, tls: Arc<InUse>, place: Place) {
        tokio::select! {
            () = self.serve_tls(socket, address, &tls, &place) => {}
            () = place.is_needed() => {}
        }
    }

    async fn serve_tls(&self, socket: TcpStream, address: SocketAddr, tls: &InUse, place: &Place) {
        let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(socket, tls)).await {
            Ok(Ok(Some(stream))) => stream,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => return tracing::debug!(%address, %error, "TLS handshake failed"),
            Err(_) => return tracing::debug!(%address, "TLS handshake timed out"),
        };
        let open = self.pipeline.metrics().connections();
        open.inc();
        let _open = Guard(|| open.dec());
        self.serve_http(stream, address, tls, place).await;
    }

    async fn serve_http(
        &self,
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        tls: &InUse,
        place: &Place,
    ) {
        let session = stream.get_ref().1;
        let chain = session.peer_certificates().unwrap_or_default().to_vec();
        let is_http2 = session.alpn_protocol() == Some(ALPN_HTTP2);
        let builder = if is_http2 { &self.http2 } else { &self.http1 };
        let showed_certificate = !chain.is_empty();
        let peer = Arc::new(Peer::new(address, chain));
        if self.pipeline.vouches_for(&peer) {
            peer.earn(Trust::Verified);
        }
        place.know(&peer);
        let activity = place.activity();
        let stream = TokioIo::new(WatchedStream::new(Progress::new(stream, WRITE_TIMEOUT), activity));
        let service = service_fn(|request: Request<Incoming>| {
            let (pipeline, peer) = (Arc::clone(&self.pipeline), Arc::clone(&peer));
            let request_is_open = Activity::begin(activity);
            async move {
                let response = pipeline.handle(request, &peer).await;
                Ok::<_, Infallible>(until_sent(response, request_is_open))
            }
        });
        let mut connection = pin!(builder.serve_connection_with_upgrades(stream, service));
        let mut ending = pin!(async {
            tokio::select! {
                () = self.shutdown.draining() => {}
                () = activity.idle() => {}
                // The client may hold a certificate of an authority that it was not asked about: a front proxy whose
                // new authority was not known yet would be refused for as long as it keeps this connection.
                () = self.certificates.asks_otherwise(tls), if !showed_certificate => {}
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
            () = activity.late_head(), if !is_http2 => {
                return tracing::debug!(%address, "request head timed out");
            }
        };
        if let Err(error) = result {
            tracing::debug!(%address, %error, "connection ended with an error");
        }
    }
}

/// `None` if the peer does not speak TLS, or nothing at all.
async fn handshake(mut socket: TcpStream, tls: &InUse) -> std::io::Result<Option<TlsStream<TcpStream>>> {
    // Watch events are small, and must not wait for the acknowledgement of the one before.
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
        // It would count idle time too.
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

/// Keeps `guard` until the body has been sent or given up.
fn until_sent(response: Response<Body>, guard: impl Send + Unpin + 'static) -> Response<Body> {
    response.map(|body| {
        observed(body, move |_| {
            let _kept = &guard;
        })
    })
}
