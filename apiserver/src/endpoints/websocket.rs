//! Watches over WebSocket (RFC 6455), for browsers, which cannot read a stream of JSON well otherwise.
//!
//! As `HandleWS` of k8s.io/apiserver: the very events of the plain watch, a text frame each, and nothing is read but
//! the client's close. What differs is for the better: a client that offers several subprotocols is not refused, an
//! Origin is not needed, and peers that vanish or stop reading are noticed, by pings and a limit on each write.
//!
//! Invariants: the connection has left the server's hands, so its number is bounded here; its task ends with the
//! watch, which ends when the server drains; nothing more is read while an answer to what was read waits to be sent, so
//! that a client cannot make the process hold answers that it does not take.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use prometheus::IntGauge;
use sha1_smol::Sha1;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message, Utf8Bytes,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use gatehouse_serving::{
    ApiError, Body,
    audit::Kept,
    body::full,
    fair::{FairShare, Held},
    pipeline::Holder,
};

/// Open at once. A connection with its TLS buffers takes some 50 KiB: 100 MiB when all are in use.
const MAX_SOCKETS: usize = 2_000;
/// Proxies close what is silent for a minute.
const PING: Duration = Duration::from_secs(30);
/// A client that takes no more than some 64 KiB in this time is not reading.
const WRITE: Duration = Duration::from_secs(30);
/// For the other side to close too.
const CLOSE: Duration = Duration::from_secs(2);
/// Clients have nothing to say but `close`.
const MAX_MESSAGE: usize = 4 << 10;
/// The one version there is.
const VERSION: &str = "13";
/// Carries a bearer token; it is no protocol that could be spoken.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Takes connections over, up to a number that users share.
#[derive(Debug)]
pub(super) struct WebSockets {
    slots: Arc<FairShare<Holder>>,
}

/// A request to watch through a WebSocket that can be granted.
pub(super) struct Upgrade {
    connection: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
    slot: Held<Holder>,
    /// The request's trail in the audit log goes on for as long as the connection does.
    trail: Option<Kept>,
}

impl WebSockets {
    pub(super) fn new() -> Self {
        Self { slots: FairShare::new(MAX_SOCKETS) }
    }

    /// How many more there may be.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.slots.free()
    }

    /// A place for one more, out of a user's share.
    pub(super) fn take(&self, holder: Holder) -> Option<Held<Holder>> {
        self.slots.try_take(holder, 1)
    }

    /// `None` if the request does not ask for a WebSocket.
    pub(super) fn requested(&self, parts: &mut Parts, holder: Holder) -> Result<Option<Upgrade>, ApiError> {
        let headers = &parts.headers;
        if !tokens(headers, &header::UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"))
            || !tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
        {
            return Ok(None);
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
            return Err(ApiError::bad_request("Sec-WebSocket-Version must be 13"));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| ApiError::bad_request("Sec-WebSocket-Key is missing"))?;
        let (accept, protocol) = (accept(key), protocol(headers));
        let connection = parts.extensions.remove::<OnUpgrade>();
        let connection = connection
            .ok_or_else(|| ApiError::bad_request("a connection of this kind cannot become a WebSocket"))?;
        let slot = self.take(holder).ok_or_else(ApiError::too_many_requests)?;
        let trail = parts.extensions.remove();
        Ok(Some(Upgrade { connection, accept, protocol, slot, trail }))
    }
}

impl Upgrade {
    /// Answers the request; then sends the events, as many a chunk as there are lines in it. `open` is raised while
    /// the connection is.
    pub(super) fn respond(
        self,
        events: impl Stream<Item = Bytes> + Send + 'static,
        open: IntGauge,
    ) -> Response<Body> {
        let Self { connection, accept, protocol, slot, trail } = self;
        tokio::spawn(async move {
            match connection.await {
                Ok(connection) => {
                    open.inc();
                    send(TokioIo::new(connection), events).await;
                    open.dec();
                }
                Err(error) => tracing::debug!(%error, "WebSocket upgrade failed"),
            }
            drop((slot, trail));
        });
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// The items of a header that is a list.
fn tokens<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The proof that the request was read as what it is.
fn accept(key: &HeaderValue) -> HeaderValue {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = Sha1::from([key.as_bytes(), GUID].concat()).digest().bytes();
    match serde_json::to_value(ByteString(digest.to_vec())) {
        Ok(serde_json::Value::String(base64)) => base64.parse().expect("base64 is printable"),
        _ => unreachable!("a ByteString is written as a string"),
    }
}

/// The first of those offered, as kube-apiserver returns the one it takes: the frames are the same under any name, and
/// browsers give up where they offered some and none is chosen.
fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut offered = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    let chosen = offered.find(|protocol| !protocol.starts_with(TOKEN_PROTOCOL))?;
    HeaderValue::from_str(chosen).ok()
}

/// Sends the events until they end, or the client does.
async fn send<S>(connection: S, events: impl Stream<Item = Bytes>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        // Made at once and for good: the usual 128 KiB would be most of what an idle watch takes.
        .read_buffer_size(MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
    let mut events = std::pin::pin!(events);
    let mut pings = interval_at(Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_heard = true;
    loop {
        let written = tokio::select! {
            received = socket.next() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                // tungstenite makes the answer to a ping, and would hold as many as it is sent: each has to be on its way
                // before anything more is read. Anything else is of no interest.
                Some(Ok(_)) => {
                    is_heard = true;
                    timeout(WRITE, socket.flush()).await
                }
            },
            _ = pings.tick() => {
                if !std::mem::take(&mut is_heard) {
                    return;
                }
                timeout(WRITE, socket.send(Message::Ping(Bytes::new()))).await
            }
            chunk = events.next() => match chunk {
                Some(chunk) => timeout(WRITE, write(&mut socket, chunk)).await,
                None => break,
            },
        };
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
    // The handshake of the end, whoever began it.
    let closed = async {
        socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() })).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<_, tungstenite::Error>(())
    };
    let _ = timeout(CLOSE, closed).await;
}

/// A frame for each line.
async fn write<S>(socket: &mut WebSocketStream<S>, mut chunk: Bytes) -> tungstenite::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while !chunk.is_empty() {
        let end = chunk.iter().position(|byte| *byte == b'\n').map_or(chunk.len(), |at| at + 1);
        let event = Utf8Bytes::try_from(chunk.split_to(end))?;
        socket.feed(Message::Text(event)).await?;
    }
    socket.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_answered_as_rfc_6455_has_it() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_first_protocol_is_chosen_and_a_token_is_none() {
        let chosen = |offered: &[&'static str]| {
            let offered =
                offered.iter().map(|value| (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value)));
            protocol(&offered.collect())
        };
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&["base64.binary.k8s.io"]).unwrap(), "base64.binary.k8s.io");
        assert_eq!(
            chosen(&["base64url.bearer.authorization.k8s.io.eA, binary.k8s.io, x"]).unwrap(),
            "binary.k8s.io"
        );
        assert_eq!(chosen(&["base64url.bearer.authorization.k8s.io.eA", "x"]).unwrap(), "x");
    }
}
