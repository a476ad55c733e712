//! Watches over WebSocket (RFC 6455), for browsers, which cannot easily read a stream of JSON.
//!
//! Like `HandleWS` of k8s.io/apiserver, a WebSocket carries the same events as the plain watch, each in a
//! text frame, and reads nothing but the client's close. It differs on purpose: a client may offer several
//! subprotocols, needs no Origin, and pings and a limit on each write detect clients that vanish or stop
//! reading.
//!
//! **Invariant:** the connections are bounded here, since they have left the server's hands.
//!
//! **Invariant:** a connection's task ends with its watch, which ends when the server drains.
//!
//! **Invariant:** nothing is read while the answer to an earlier frame waits to be sent, so that a client
//! cannot make the process hold answers that it does not take.

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
    audit::AuditGuard,
    body::full,
    fair::{FairShare, Held},
    pipeline::Holder,
};

/// The most connections that are open at once. One with its TLS buffers takes some 50 KiB: 100 MiB for all.
const MAX_SOCKETS: usize = 2_000;
/// The interval of pings. Proxies close connections that are silent for a minute.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// A client that takes no more than some 64 KiB in this time counts as not reading.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for the other side to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The size limit of a client's message: clients only send `close`.
const MAX_MESSAGE: usize = 4 << 10;
/// The only version of RFC 6455.
const VERSION: &str = "13";
/// The prefix of a subprotocol that carries a bearer token. It names no protocol that could be chosen.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Upgrades connections, up to a number that users share fairly.
#[derive(Debug)]
pub(super) struct WebSockets {
    slots: Arc<FairShare<Holder>>,
}

/// A WebSocket request that has been checked and holds a slot.
pub(super) struct Upgrade {
    connection: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
    slot: Held<Holder>,
    /// Keeps the request's entry in the audit log open as long as the connection is.
    audit: Option<AuditGuard>,
}

impl WebSockets {
    pub(super) fn new() -> Self {
        Self { slots: FairShare::new(MAX_SOCKETS) }
    }

    /// How many more connections can be opened.
    #[cfg(test)]
    pub(super) fn free_slots(&self) -> usize {
        self.slots.free()
    }

    /// Takes a slot out of the user's share; `None` if there is none left.
    pub(super) fn acquire_slot(&self, holder: Holder) -> Option<Held<Holder>> {
        self.slots.try_acquire(holder, 1)
    }

    /// Checks a request for a WebSocket. `None` if the request does not ask for one. Errors: 400 for a bad
    /// handshake, 429 if all slots are in use.
    pub(super) fn upgrade(&self, parts: &mut Parts, holder: Holder) -> Result<Option<Upgrade>, ApiError> {
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
        let slot = self.acquire_slot(holder).ok_or_else(ApiError::too_many_requests)?;
        let audit = parts.extensions.remove();
        Ok(Some(Upgrade { connection, accept, protocol, slot, audit }))
    }
}

impl Upgrade {
    /// Responds with 101 Switching Protocols, and sends each line of `events` as a frame from a task of its
    /// own. `open` counts the connection while it is open.
    pub(super) fn respond(
        self,
        events: impl Stream<Item = Bytes> + Send + 'static,
        open: IntGauge,
    ) -> Response<Body> {
        let Self { connection, accept, protocol, slot, audit } = self;
        tokio::spawn(async move {
            match connection.await {
                Ok(connection) => {
                    open.inc();
                    send(TokioIo::new(connection), events).await;
                    open.dec();
                }
                Err(error) => tracing::debug!(%error, "WebSocket upgrade failed"),
            }
            drop((slot, audit));
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

/// The tokens of a header whose value is a comma-separated list.
fn tokens<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The value of `Sec-WebSocket-Accept`: it proves that the server has read the request as a WebSocket
/// handshake.
fn accept(key: &HeaderValue) -> HeaderValue {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = Sha1::from([key.as_bytes(), GUID].concat()).digest().bytes();
    match serde_json::to_value(ByteString(digest.to_vec())) {
        Ok(serde_json::Value::String(base64)) => base64.parse().expect("base64 is printable"),
        _ => unreachable!("a ByteString is written as a string"),
    }
}

/// The first subprotocol that the client offers, since kube-apiserver also returns one of them. The frames
/// are the same under any name, and browsers give up if none of those they offered is chosen.
fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut offered = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    let chosen = offered.find(|protocol| !protocol.starts_with(TOKEN_PROTOCOL))?;
    HeaderValue::from_str(chosen).ok()
}

/// Sends the events until they end or the client closes.
async fn send<S>(connection: S, events: impl Stream<Item = Bytes>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        // The read buffer is allocated at once and kept: the default of 128 KiB would be most of an idle
        // watch's memory.
        .read_buffer_size(MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
    let mut events = std::pin::pin!(events);
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_alive = true;
    loop {
        let written = tokio::select! {
            received = socket.next() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                // tungstenite queues the answer to each ping. Each answer is flushed before anything more is
                // read, so that a client cannot fill memory with them. Other messages are ignored.
                Some(Ok(_)) => {
                    is_alive = true;
                    timeout(WRITE_TIMEOUT, socket.flush()).await
                }
            },
            _ = pings.tick() => {
                if !std::mem::take(&mut is_alive) {
                    return;
                }
                timeout(WRITE_TIMEOUT, socket.send(Message::Ping(Bytes::new()))).await
            }
            chunk = events.next() => match chunk {
                Some(chunk) => timeout(WRITE_TIMEOUT, write(&mut socket, chunk)).await,
                None => break,
            },
        };
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
    // The closing handshake, whichever side began it.
    let closed = async {
        socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() })).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<_, tungstenite::Error>(())
    };
    let _ = timeout(CLOSE_TIMEOUT, closed).await;
}

/// Sends each line of the chunk as a text frame.
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
