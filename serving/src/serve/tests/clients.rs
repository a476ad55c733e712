//! The client by which Gatehouse watches a cluster, against this server.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use kube::client::Body;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::*;
use crate::upstream;

/// Of the client that the tests make. Its connections are pinged twice in this time.
const PATIENCE: Duration = Duration::from_millis(500);
/// No test waits that long, unless it fails.
const GENEROUS: Duration = Duration::from_mins(1);

/// Forwards connections to the server until it is muted: then it goes on to read, and sends nothing.
#[derive(Default)]
struct Network {
    accepted: AtomicUsize,
    is_muted: AtomicBool,
}

impl Network {
    async fn to(address: SocketAddr) -> (SocketAddr, Arc<Self>) {
        let (network, listener) =
            (Arc::new(Self::default()), TcpListener::bind("127.0.0.1:0").await.expect("bound"));
        let (local, shared) = (listener.local_addr().expect("address"), Arc::clone(&network));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let (near_read, near_write) = near.into_split();
                let far = TcpStream::connect(address).await.expect("connected");
                let (far_read, far_write) = far.into_split();
                tokio::spawn(Arc::clone(&shared).forward(near_read, far_write));
                tokio::spawn(Arc::clone(&shared).forward(far_read, near_write));
            }
        });
        (local, network)
    }

    async fn forward(self: Arc<Self>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if !self.is_muted.load(Ordering::SeqCst) && to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}

/// A client of the server behind `address`, with the certificate of jane.
fn client(server: &Running, address: SocketAddr) -> kube::Client {
    let mut config = kube::Config::new(format!("https://{address}").parse().expect("URI"));
    let root = CertificateDer::from_pem_slice(server.authority.certificate_pem().as_bytes()).expect("PEM");
    config.root_cert = Some(vec![root.to_vec()]);
    config.tls_server_name = Some("localhost".to_owned());
    let files = tempfile::tempdir().expect("folder");
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("written");
        Some(path.display().to_string())
    };
    let jane = server.jane();
    config.auth_info.client_certificate = file("jane.crt", &jane.certificate_pem);
    config.auth_info.client_key = file("jane.key", &jane.key_pem);
    upstream::builder(config, PATIENCE).expect("a client").build()
}

fn request(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).expect("request")
}

#[tokio::test]
async fn watches_share_connections_whose_silent_end_is_noticed() {
    let server = Running::start().await;
    let (address, network) = Network::to(server.address).await;
    let client = client(&server, address);
    let uris = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| format!("/apis/g/v1/{name}?watch=1"));
    let accepted = || network.accepted.load(Ordering::SeqCst);
    // The first makes the connection for the others.
    let answer = client.send(request(THINGS)).await.expect("answered");
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, http::Version::HTTP_2));
    let watches = join_all(uris.iter().map(|uri| client.send(request(uri)))).await;
    assert_eq!(accepted(), 1);
    // More than a load balancer may allow on one.
    let more = async |count| join_all((0..count).map(|_| client.send(request(WATCH)))).await;
    let full = more(81).await;
    assert_eq!(accepted(), 1);
    let beyond = more(1).await;
    assert_eq!(accepted(), 2);
    assert!(full.iter().chain(&beyond).all(Result::is_ok));
    drop(full);
    assert!(more(80).await.iter().all(Result::is_ok));
    assert_eq!(accepted(), 2, "those that have ended make room");

    // Quiet watches go on for longer than the client is patient, since pings are answered.
    let mut bodies: Vec<_> =
        watches.into_iter().map(|answer| answer.expect("answered").into_body()).collect();
    for body in &mut bodies {
        let hello = body.frame().await.expect("a frame").expect("data");
        assert_eq!(hello.into_data().expect("data"), "hello");
    }
    let quiet =
        join_all(bodies.iter_mut().map(|body| tokio::time::timeout(PATIENCE * 3, body.frame()))).await;
    assert!(quiet.iter().all(Result::is_err), "{quiet:?}");

    network.is_muted.store(true, Ordering::SeqCst);
    let ends = join_all(bodies.iter_mut().map(|body| tokio::time::timeout(GENEROUS, body.frame()))).await;
    assert!(ends.iter().all(|end| matches!(end, Ok(Some(Err(_))))), "{ends:?}");

    // The next request makes another connection.
    network.is_muted.store(false, Ordering::SeqCst);
    assert_eq!(client.send(request(THINGS)).await.expect("answered").status(), StatusCode::OK);
}
