//! The listener and its connections: TLS, HTTP/1.1 and HTTP/2, limits, and graceful shutdown.
//!
//! **Invariants:** no client can end the accept loop. Every phase of a connection has a time limit. All connections are
//! closed before [`Server::run`] returns, except upgraded ones, which belong to their handlers. Clients without a
//! credential cannot lock out others: if all connections are taken, theirs are closed first.

mod activity;
mod connection;
mod connection_slots;
mod expiry;
#[cfg(test)]
mod tests;
mod tls;
mod write_timeout;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::pipeline::{Handler, Pipeline};
use crate::shutdown::Shutdown;
use connection::Connections;
use connection_slots::ConnectionSlots;
use expiry::ExpiryWarner;
pub use tls::Certificates;
use tls::TlsConfigs;

/// The default for the number of open connections. An idle connection takes about 50 KiB. One whose client stops in the
/// middle of the largest head takes 100 KiB on HTTP/1.1 and 180 KiB on HTTP/2: less than 2 GB if all do.
pub const MAX_CONNECTIONS: usize = 10_000;

/// How long to wait if `accept` fails because the process is out of file descriptors or memory. Go's net/http waits up
/// to as long.
const ACCEPT_BACK_OFF: Duration = Duration::from_secs(1);

/// The server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is in use, or does not belong to this machine.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// rustls refuses the TLS configuration.
    #[error("cannot configure TLS")]
    Tls(#[source] rustls::Error),
}

/// A listening socket, its TLS configuration and its limit of connections.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: TlsConfigs,
    slots: Arc<ConnectionSlots>,
}

impl Server {
    /// Listens on `address`. Port 0 chooses a free port; 0.0.0.0 means all addresses, IPv6 included. Each connection
    /// uses the latest of `certificates`. At most `max_connections` are open at a time.
    pub async fn bind(
        address: SocketAddr,
        certificates: Certificates,
        max_connections: usize,
    ) -> Result<Self, ServeError> {
        let tls = TlsConfigs::new(certificates).map_err(ServeError::Tls)?;
        let listen = |source| ServeError::Listen { address, source };
        let listener = listener(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address, tls, slots: ConnectionSlots::new(max_connections) })
    }

    /// The address that the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts and serves connections until `shutdown` drains, then waits until they are closed, but not longer than
    /// the grace.
    pub async fn run<H: Handler>(mut self, pipeline: Arc<Pipeline<H>>, shutdown: Arc<Shutdown>) {
        let certificates = self.tls.certificates().clone();
        let mut warner = ExpiryWarner::new(certificates.clone());
        let connections = Arc::new(Connections::new(pipeline, Arc::clone(&shutdown), certificates));
        let mut tasks = JoinSet::new();
        // One connection beyond the limit is accepted, so that another one is closed for it. More wait in the backlog
        // of the socket.
        let mut newcomer: Option<(TcpStream, SocketAddr)> = None;
        loop {
            let source = newcomer.as_ref().map(|(_, address)| address.ip());
            let slot = async {
                match source {
                    Some(source) => self.slots.acquire(source).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.draining() => break,
                Some(ended) = tasks.join_next() => report(ended),
                () = warner.next_check() => warner.warn(),
                accepted = self.accept(), if newcomer.is_none() => newcomer = Some(accepted),
                slot = slot => {
                    let Some((socket, address)) = newcomer.take() else { continue };
                    let connections = Arc::clone(&connections);
                    let tls = self.tls.latest();
                    tasks.spawn(async move { connections.serve(socket, address, tls, slot).await });
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

    /// Accepts the next connection, whatever errors occur before.
    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((socket, address)) => {
                    // An IPv4 client on an IPv6 socket has an IPv4-mapped address; convert it back.
                    return (socket, SocketAddr::new(address.ip().to_canonical(), address.port()));
                }
                // The client disconnected before `accept`.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted
                            | ErrorKind::ConnectionReset
                            | ErrorKind::ConnectionRefused
                            | ErrorKind::Interrupted
                    ) => {}
                // Out of file descriptors or memory: a retry at once would only burn CPU.
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }
}

/// Listens as Go's servers do: 0.0.0.0 means a dual-stack socket on all IPv6 and IPv4 addresses. If the machine has no
/// IPv6, or separates the two (`net.ipv6.bindv6only`), it means all IPv4 addresses.
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
