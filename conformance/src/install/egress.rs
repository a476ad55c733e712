//! The pods' network, as far as kube-apiserver sees it: what it sends to a Service's address comes to the port of
//! those who serve it.
//!
//! kube-apiserver dials Services through an HTTP CONNECT proxy, as it does where it stands outside the pods' network
//! (konnectivity). So Services, APIService and webhook configurations are those of a real cluster, and with them the
//! names that certificates are verified for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::net::Ipv4Addr;

use anyhow::Context;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

/// No line of a CONNECT is longer.
const HEADERS: usize = 64;

/// Where addresses lead: `IP:PORT` to a port on loopback.
type Routes = Arc<Mutex<HashMap<String, u16>>>;

/// The proxy. Dropped, it is gone with every connection.
pub struct Egress {
    // Holds the socket and the file that names it.
    folder: tempfile::TempDir,
    routes: Routes,
    task: JoinHandle<()>,
}

impl Egress {
    /// Leads nowhere yet.
    pub fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("gatehouse-egress-").tempdir()?;
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).context("the egress proxy")?;
        let configuration = json!({
            "apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration",
            "egressSelections": [{
                "name": "cluster",
                "connection": {
                    "proxyProtocol": "HTTPConnect",
                    "transport": {"uds": {"udsName": socket}},
                },
            }],
        });
        std::fs::write(folder.path().join("egress.json"), configuration.to_string())?;
        let routes = Routes::default();
        let known = Arc::clone(&routes);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(pass_on(connection, Arc::clone(&known)));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { folder, routes, task })
    }

    /// What kube-apiserver is started with.
    pub fn flag(&self) -> String {
        format!("--egress-selector-config-file={}", self.folder.path().join("egress.json").display())
    }

    /// From here on, an address leads to a port on loopback.
    pub fn route(&self, address: String, port: u16) {
        lock(&self.routes).insert(address, port);
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(routes: &Routes) -> MutexGuard<'_, HashMap<String, u16>> {
    // Nothing that holds it can leave it half changed.
    routes.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn pass_on(near: UnixStream, routes: Routes) -> std::io::Result<()> {
    let mut near = BufReader::new(near);
    let asked = connect(&mut near).await?;
    let port = lock(&routes).get(&asked).copied();
    let Some(port) = port else {
        return near.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        return near.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    far.set_nodelay(true)?;
    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}

/// The address of a CONNECT, which is read to its end.
async fn connect(near: &mut BufReader<UnixStream>) -> std::io::Result<String> {
    let mut lines = near.lines();
    let first = lines.next_line().await?.unwrap_or_default();
    for _ in 0..HEADERS {
        if lines.next_line().await?.is_none_or(|line| line.is_empty()) {
            break;
        }
    }
    Ok(first.split(' ').nth(1).unwrap_or_default().to_owned())
}
