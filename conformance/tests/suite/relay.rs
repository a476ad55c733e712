//! A line to a server that can be cut and mended, as a network does.

use std::net::Ipv4Addr;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Passes connections on while it is whole. Dropped, it is gone.
pub(crate) struct Relay {
    port: u16,
    whole: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Relay {
    /// To the port of a server on this machine; cut at first.
    pub(crate) async fn to(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let own = listener.local_addr()?.port();
        let (whole, is_whole) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(pass_on(connection, port, is_whole.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { port: own, whole, task })
    }

    /// Where to connect instead.
    pub(crate) fn url(&self) -> String {
        format!("https://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Passes on what comes from now on.
    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }

    /// Ends every connection, and each new one at once.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(mut near: TcpStream, port: u16, mut is_whole: watch::Receiver<bool>) {
    if !*is_whole.borrow_and_update() {
        return;
    }
    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = is_whole.wait_for(|whole| !whole) => {}
    }
}
