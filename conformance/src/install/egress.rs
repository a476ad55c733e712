//! The pod network from kube-apiserver's point of view: connections to a Service's address reach the port of
//! a local process.
//!
//! kube-apiserver connects to Services through an HTTP CONNECT proxy, as it does when it runs outside the pod
//! network (konnectivity). So Services, the APIService and the webhook configurations are the same as in a
//! real cluster, including the names that certificates are verified for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::net::Ipv4Addr;

use anyhow::Context;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

/// The most header lines of a CONNECT request.
const HEADERS: usize = 64;

/// Maps `IP:PORT` to a port on loopback.
type Routes = Arc<Mutex<HashMap<String, u16>>>;

/// The proxy. Dropping it closes all connections.
pub struct Egress {
    // Contains the socket and the configuration that names it.
    folder: tempfile::TempDir,
    routes: Routes,
    task: JoinHandle<()>,
}

impl Egress {
    /// Starts a proxy without routes.
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

    /// The flag that makes kube-apiserver use the proxy.
    pub fn flag(&self) -> String {
        format!("--egress-selector-config-file={}", self.folder.path().join("egress.json").display())
    }

    /// From now on, connections to `address` reach `port` on loopback.
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
    // No holder of the lock can leave the state inconsistent.
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

/// Reads a CONNECT request to its end, and returns its address.
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
