//! What strangers do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use gatehouse_conformance::gatehouse::Gatehouse;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::crowd::{Counts, Crowd, Part, Target};
use crate::gate::creation;

/// The largest body that is taken in.
const LARGEST: usize = 7 << 20;
/// How long a peer waits whom nobody ends.
const HELD: Duration = Duration::from_mins(5);
/// Of those that dribble, between two bytes.
const DRIBBLE: Duration = Duration::from_millis(500);
const HTTP: &str = "http/1.1";

/// What a stranger does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attack {
    /// A socket, and nothing else.
    Idle,
    /// A handshake, and nothing else.
    Silent,
    /// A head that does not end.
    Head,
    /// A body that is declared and not sent.
    Declared,
    /// A body that dribbles.
    Dribbled,
    /// A body without a length that does not end.
    Endless,
    /// A review of the largest size.
    Large,
}

impl Attack {
    pub(super) const ALL: [Self; 7] =
        [Self::Idle, Self::Silent, Self::Head, Self::Declared, Self::Dribbled, Self::Endless, Self::Large];

    /// Before one that was ended comes again. Handshakes cost both sides the same, and this machine is both.
    fn pause(self) -> Duration {
        match self {
            Self::Idle | Self::Silent => Duration::from_secs(2),
            _ => Duration::from_millis(200),
        }
    }

    /// How many do it at a time.
    fn peers(self) -> usize {
        match self {
            Self::Idle => 400,
            Self::Silent => 900,
            Self::Head | Self::Declared | Self::Dribbled => 100,
            Self::Endless => 20,
            Self::Large => 4,
        }
    }
}

/// Strangers of every kind, at work at a replica until they are ended.
pub(super) fn begin(replica: &Gatehouse, namespace: &str) -> anyhow::Result<Crowd<Attack>> {
    let strangers = Strangers {
        target: Target::new(replica.port(), replica.serving_ca(), None)?,
        large: Arc::new(large(namespace)),
        turn: Arc::default(),
    };
    let parts = Attack::ALL.map(|attack| Part { attack, peers: attack.peers(), pause: attack.pause() });
    Crowd::begin(&parts, move |attack, counts| {
        let strangers = strangers.clone();
        async move { strangers.attack(attack, counts).await }
    })
}

#[derive(Clone)]
struct Strangers {
    target: Target,
    large: Arc<Vec<Vec<u8>>>,
    turn: Arc<AtomicU64>,
}

impl Strangers {
    /// Returns when the server has ended it.
    async fn attack(&self, attack: Attack, counts: Counts<Attack>) -> anyhow::Result<()> {
        if attack == Attack::Idle {
            let mut socket = self.target.socket().await?;
            counts.took_place(attack);
            until_ended(&mut socket).await;
            return Ok(());
        }
        let mut stream = self.target.stream(HTTP).await?;
        counts.took_place(attack);
        match attack {
            Attack::Idle | Attack::Silent => {}
            Attack::Head => {
                stream.write_all(b"POST /validate HTTP/1.1\r\nhost: localhost\r\nx-padding: ").await?;
                dribble(&mut stream, b"x").await;
            }
            Attack::Declared => stream.write_all(&head(&format!("content-length: {LARGEST}"))).await?,
            Attack::Dribbled => {
                stream.write_all(&head(&format!("content-length: {LARGEST}"))).await?;
                dribble(&mut stream, &[b' '; 1024]).await;
            }
            Attack::Endless => {
                stream.write_all(&head("transfer-encoding: chunked")).await?;
                let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
                while stream.write_all(chunk.as_bytes()).await.is_ok() {}
            }
            Attack::Large => {
                let turn = usize::try_from(self.turn.fetch_add(1, Ordering::Relaxed))?;
                let body = self.large.get(turn % self.large.len()).context("a body")?;
                stream.write_all(&head(&format!("content-length: {}", body.len()))).await?;
                stream.write_all(body).await?;
            }
        }
        until_ended(&mut stream).await;
        Ok(())
    }
}

/// While the other side takes it.
async fn dribble(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) {
    while stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok() {
        sleep(DRIBBLE).await;
    }
}

/// Waits for the end, for an answer, or for a reset, which is an end too.
async fn until_ended(stream: &mut (impl AsyncReadExt + Unpin)) {
    let _ = timeout(HELD, stream.read(&mut [0; 4096])).await;
}

fn head(length: &str) -> Vec<u8> {
    format!(
        "POST /validate?timeout=30s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
    )
    .into_bytes()
}

/// Reviews that are as large as may be, each in another way.
fn large(namespace: &str) -> Vec<Vec<u8>> {
    let release = |values: Value| {
        creation(
            namespace,
            &json!({
                "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
                "metadata": {"namespace": namespace, "name": "large"},
                "spec": {"interval": "10m", "chart": {"spec": {"chart": "a"}}, "values": values},
            }),
        )
    };
    let fill = |value: &str, separator: &str, bytes: usize| {
        let count = bytes / (value.len() + separator.len());
        vec![value; count].join(separator)
    };
    let small = LARGEST - 4096;
    let texts = [
        // Lists and objects of nothing, numbers, text, keys; before and after.
        format!("[{}]", fill("[]", ",", small)),
        format!("[{}]", fill("{\"a\":0}", ",", small)),
        format!("[{}]", fill("0", ",", small)),
        format!("\"{}\"", fill("x", "", small)),
    ];
    let mut bodies: Vec<Vec<u8>> = texts
        .iter()
        .map(|text| release(json!("VALUES")).to_string().replacen("\"VALUES\"", text, 1).into_bytes())
        .collect();
    let half = format!("[{}]", fill("[]", ",", small / 2));
    let mut both = release(json!("VALUES"));
    both["request"]["operation"] = json!("UPDATE");
    both["request"]["oldObject"] = both["request"]["object"].clone();
    bodies.push(both.to_string().replace("\"VALUES\"", &half).into_bytes());
    bodies
}
