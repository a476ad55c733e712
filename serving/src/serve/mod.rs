//! From a socket to the pipeline: TLS, HTTP/1.1 and HTTP/2, limits, and a graceful end.
//!
//! Invariants: nothing a peer does ends the accept loop; every phase of a connection has a time limit; every
//! connection has ended or been cut before [`Server::run`] returns. An upgraded connection is its handler's. Strangers
//! cannot keep others out: where connections are short, theirs are ended first.

mod activity;
mod connection;
mod expiry;
mod places;
mod progress;
#[cfg(test)]
mod tests;
mod tls;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::pipeline::{Handler, Pipeline};
use crate::shutdown::Shutdown;
use connection::Connections;
use expiry::Reminder;
use places::Places;
pub use tls::Certificates;
use tls::Tls;

/// An idle connection takes some 50 KiB. One whose peer stops in the middle of the largest head takes 100 on HTTP/1.1 and
/// 180 on HTTP/2: less than 2 GB when all do.
pub const MAX_CONNECTIONS: usize = 10_000;

/// How long to wait when the system has no sockets to give, as Go's net/http does.
const ACCEPT_BACK_OFF: Duration = Duration::from_secs(1);

/// The server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The TLS configuration is refused.
    #[error("cannot configure TLS")]
    Tls(#[source] rustls::Error),
}

/// A socket that listens, and what it takes to serve it.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Tls,
    places: Arc<Places>,
}

impl Server {
    /// Listens on `address`, port 0 for any; 0.0.0.0 is all addresses, of IPv6 too. Each connection is made under the
    /// latest of `certificates`.
    pub async fn bind(
        address: SocketAddr,
        certificates: Certificates,
        max_connections: usize,
    ) -> Result<Self, ServeError> {
        let tls = Tls::new(certificates).map_err(ServeError::Tls)?;
        let listen = |source| ServeError::Listen { address, source };
        let listener = listener(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address, tls, places: Places::new(max_connections) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` has run its course: stops accepting when it drains, then waits for what is being
    /// served, but not longer than its grace.
    pub async fn run<H: Handler>(mut self, pipeline: Arc<Pipeline<H>>, shutdown: Arc<Shutdown>) {
        let certificates = self.tls.certificates().clone();
        let mut reminder = Reminder::new(certificates.clone());
        let connections = Arc::new(Connections::new(pipeline, Arc::clone(&shutdown), certificates));
        let mut tasks = JoinSet::new();
        // One beyond the limit may be accepted, or nobody would know that somebody lacks a place; a flood queues in the kernel.
        let mut newcomer: Option<(TcpStream, SocketAddr)> = None;
        loop {
            let source = newcomer.as_ref().map(|(_, address)| address.ip());
            let place = async {
                match source {
                    Some(source) => self.places.take(source).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.draining() => break,
                Some(ended) = tasks.join_next() => report(ended),
                () = reminder.is_due() => reminder.remind(),
                accepted = self.accept(), if newcomer.is_none() => newcomer = Some(accepted),
                place = place => {
                    let Some((socket, address)) = newcomer.take() else { continue };
                    let connections = Arc::clone(&connections);
                    let tls = self.tls.latest();
                    tasks.spawn(async move { connections.serve(socket, address, tls, place).await });
                }
            }
        }
        drop(self);
        let drained = async {
            while let Some(ended) = tasks.join_next().await {
                report(ended);
            }
        };
        if tokio::time::timeout(shutdown.grace(), drained).await.is_err() {
            tracing::warn!(connections = tasks.len(), "shutdown grace period is over, closing connections");
            tasks.shutdown().await;
        }
    }

    /// The next connection.
    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((socket, address)) => {
                    // An IPv4 address as such, also where IPv6 took it in.
                    return (socket, SocketAddr::new(address.ip().to_canonical(), address.port()));
                }
                // One peer went away between SYN and accept.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted
                            | ErrorKind::ConnectionReset
                            | ErrorKind::ConnectionRefused
                            | ErrorKind::Interrupted
                    ) => {}
                // Out of descriptors or memory: asking again at once would only burn CPU.
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }
}

/// As Go's servers listen: 0.0.0.0 is for all addresses, and IPv6 takes in IPv4. Where a machine has no IPv6, or keeps the
/// two apart (`net.ipv6.bindv6only`), it is IPv4's alone.
async fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    if address.ip() != Ipv4Addr::UNSPECIFIED || is_ipv6_apart() {
        return TcpListener::bind(address).await;
    }
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, address.port())).await {
        Err(error) if error.kind() != ErrorKind::AddrInUse => TcpListener::bind(address).await,
        bound => bound,
    }
}

fn is_ipv6_apart() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").is_ok_and(|text| text.trim() != "0")
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "connection task panicked");
    }
}
