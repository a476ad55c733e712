//! A TCP proxy that can be interrupted, as a network can.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A proxy, which stops when it is dropped.
pub(crate) struct Relay {
    port: u16,
    line: watch::Sender<Line>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Whole,
    Cut,
    /// Connections are accepted, but wait.
    Silent,
    /// Of what the server sends, a byte passes each second.
    Trickling,
}

impl Relay {
    /// Starts a proxy for a port on this machine. It is cut at first.
    pub(crate) async fn to(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let own = listener.local_addr()?.port();
        let (line, as_it_is) = watch::channel(Line::Cut);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(pass_on(connection, port, as_it_is.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { port: own, line, task })
    }

    /// The URL of the proxy.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.authority())
    }

    /// The host and the port of the proxy.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Forwards waiting and new connections.
    pub(crate) fn mend(&self) {
        self.line.send_replace(Line::Whole);
    }

    /// Lets new connections wait.
    pub(crate) fn hush(&self) {
        self.line.send_replace(Line::Silent);
    }

    /// Forwards a byte each second of what the server sends on new connections.
    pub(crate) fn trickle(&self) {
        self.line.send_replace(Line::Trickling);
    }

    /// Closes all connections, and each new one at once.
    pub(crate) fn cut(&self) {
        self.line.send_replace(Line::Cut);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(mut near: TcpStream, port: u16, mut line: watch::Receiver<Line>) {
    let Ok(state) = line.wait_for(|line| *line != Line::Silent).await.map(|line| *line) else { return };
    if state == Line::Cut {
        return;
    }
    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let passed_on = async {
        match state {
            Line::Trickling => trickle(&mut near, &mut far).await,
            _ => tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop),
        }
    };
    tokio::select! {
        _ = passed_on => {}
        _ = line.wait_for(|line| *line == Line::Cut) => {}
    }
}

async fn trickle(near: &mut TcpStream, far: &mut TcpStream) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = near.split();
    let (mut from_server, mut to_server) = far.split();
    let slowly = async {
        loop {
            to_client.write_all(&[from_server.read_u8().await?]).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        copied = tokio::io::copy(&mut from_client, &mut to_server) => copied.map(drop),
        ended = slowly => ended,
    }
}
