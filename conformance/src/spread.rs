//! A load balancer on loopback that does what a Service does: it distributes connections over the ready
//! replicas.
//!
//! The connections of a replica that has died are cut, as in a cluster. [`Spread::start`] and
//! [`Spread::strict`] differ in what happens to new ones.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

/// What happens to a connection that its replica refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// It goes to another replica.
    PassedOver,
    /// It is closed.
    Lost,
}

/// Listens on its own port. Dropping it closes the port and all connections.
pub struct Spread {
    port: u16,
    ready: Arc<Mutex<Ready>>,
    task: JoinHandle<()>,
}

/// The ports of the ready replicas, the next one in turn, and the open connections (some may have ended).
#[derive(Debug, Default)]
struct Ready {
    ports: Vec<u16>,
    turn: usize,
    open: Vec<AbortHandle>,
}

impl Spread {
    /// A balancer without replicas. It skips replicas that refuse connections.
    pub async fn start() -> anyhow::Result<Self> {
        Self::listen(Refused::PassedOver).await
    }

    /// A balancer without replicas. Like kube-proxy, it closes a connection whose replica refuses it.
    pub async fn strict() -> anyhow::Result<Self> {
        Self::listen(Refused::Lost).await
    }

    async fn listen(refused: Refused) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let port = listener.local_addr()?.port();
        let ready: Arc<Mutex<Ready>> = Arc::default();
        let replicas = Arc::clone(&ready);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let passing = pass_on(connection, Arc::clone(&replicas), refused);
                lock(&replicas).open.push(connections.spawn(passing));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { port, ready, task })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL that it listens on.
    pub fn url(&self) -> String {
        format!("https://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Adds a replica, which gets its share of new connections from now on.
    pub fn add(&self, port: u16) {
        let mut ready = lock(&self.ready);
        if !ready.ports.contains(&port) {
            ready.ports.push(port);
        }
    }

    /// Whether a replica gets new connections.
    pub fn has(&self, port: u16) -> bool {
        lock(&self.ready).ports.contains(&port)
    }

    /// Removes a replica. It gets no new connections, and keeps those that are open.
    pub fn remove(&self, port: u16) {
        lock(&self.ready).ports.retain(|one| *one != port);
    }

    /// Aborts one of the open connections, as a network may. Returns whether there was one.
    pub fn cut(&self, which: usize) -> bool {
        let open = &mut lock(&self.ready).open;
        open.retain(|connection| !connection.is_finished());
        let Some(at) = which.checked_rem(open.len()) else { return false };
        open[at].abort();
        true
    }
}

impl Drop for Spread {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(ready: &Mutex<Ready>) -> std::sync::MutexGuard<'_, Ready> {
    // No holder of the lock can leave the state inconsistent.
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn pass_on(mut near: TcpStream, ready: Arc<Mutex<Ready>>, refused: Refused) {
    let asked = if refused == Refused::Lost { 1 } else { usize::MAX };
    for port in in_turn(&ready).into_iter().take(asked) {
        if let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            // Small writes are sent at once, because latency is measured through this proxy.
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            return;
        }
    }
}

/// The ports of all ready replicas, starting with the next one in turn.
fn in_turn(ready: &Mutex<Ready>) -> Vec<u16> {
    let mut ready = lock(ready);
    let mut ports = ready.ports.clone();
    if !ports.is_empty() {
        ports.rotate_left(ready.turn % ready.ports.len());
        ready.turn = ready.turn.wrapping_add(1);
    }
    ports
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn replica(word: &'static [u8]) -> (u16, JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let task = tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut connection, word).await;
            }
        });
        (port, task)
    }

    async fn ask(spread: &Spread) -> String {
        let mut text = String::new();
        let mut connection =
            TcpStream::connect((Ipv4Addr::LOCALHOST, spread.port)).await.expect("it listens");
        connection.read_to_string(&mut text).await.expect("text");
        text
    }

    #[tokio::test]
    async fn connections_are_spread_and_the_dead_passed_over() {
        let spread = Spread::start().await.expect("a port");
        assert_eq!(ask(&spread).await, "");
        let (a, task) = replica(b"a").await;
        let (b, _) = replica(b"b").await;
        spread.add(a);
        spread.add(b);
        assert_eq!([ask(&spread).await, ask(&spread).await, ask(&spread).await], ["a", "b", "a"]);
        task.abort();
        let _ = task.await;
        assert_eq!([ask(&spread).await, ask(&spread).await], ["b", "b"]);
        spread.remove(b);
        assert_eq!(ask(&spread).await, "");
    }

    #[tokio::test]
    async fn a_connection_that_is_cut_ends() {
        let spread = Spread::start().await.expect("a port");
        assert!(!spread.cut(7));
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        spread.add(silent.local_addr().expect("bound").port());
        let asked = ask(&spread);
        let cut = async {
            // Held open, so that only the cut ends it.
            let _held = silent.accept().await.expect("a connection");
            assert!(spread.cut(7));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            text = asked => assert_eq!(text, ""),
            () = cut => unreachable!("it waits for ever"),
        }
    }
}
