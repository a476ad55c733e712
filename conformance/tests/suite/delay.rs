//! A TCP proxy that delays data which a server sends unasked: the events of watches, in practice.
//!
//! It cannot decrypt TLS. Data that arrives long after the last request is considered an event. A slow response may be
//! delayed too, which is harmless.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::chance::Chance;

/// The usual maximum duration of a response.
const ANSWERED: Duration = Duration::from_millis(250);

/// A proxy, which stops when it is dropped.
pub(crate) struct Delay {
    port: u16,
    task: JoinHandle<()>,
}

impl Delay {
    /// Starts a proxy for a port on this machine. Events are delayed by up to `longest`, and those of a connection stay
    /// in order.
    pub(crate) async fn to(port: u16, longest: Duration, mut chance: Chance) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let own = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(pass_on(near, port, longest, chance.fork()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { port: own, task })
    }

    /// The URL of the proxy.
    pub(crate) fn url(&self) -> String {
        format!("https://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// When the client last sent data, in milliseconds since the connection was opened.
#[derive(Clone)]
struct Asked {
    since: Instant,
    last: Arc<AtomicU64>,
}

impl Asked {
    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn note(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    fn is_long_ago(&self) -> bool {
        let ago = self.now().saturating_sub(self.last.load(Ordering::Relaxed));
        u128::from(ago) > ANSWERED.as_millis()
    }
}

async fn pass_on(near: TcpStream, port: u16, longest: Duration, chance: Chance) {
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    let asked = Asked { since: Instant::now(), last: Arc::default() };
    // When either side closes, both are closed.
    tokio::select! {
        () = ask(from_near, to_far, asked.clone()) => {}
        () = tell(from_far, to_near, asked, longest, chance) => {}
    }
}

async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: Asked) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        asked.note();
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn tell(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: Asked,
    longest: Duration,
    mut chance: Chance,
) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if asked.is_long_ago() {
            tokio::time::sleep(chance.up_to(longest)).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
