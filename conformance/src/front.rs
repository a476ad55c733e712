//! An HTTPS server that hands each request to a client and passes the answer on, so that a cluster in process can be
//! reached as a real one, and a real one can be made to misbehave.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;
use gatehouse_apiservice::kubeconfig::{TokenAccess, document_with_token};
use gatehouse_certs::issue::{Authority, KeyPair};
use http::{Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kube::client::Body;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::control_plane::server_identity;

/// Changes an answer before it is passed on.
pub type Adjust = fn(&mut Response<Body>);

/// The server, which stops when it is dropped.
pub struct Front {
    kubeconfig: Value,
    answers: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The certificate of all fronts: making one for each would take longer than what they are for.
pub struct Identity {
    authority: Authority,
    config: Arc<ServerConfig>,
}

impl Identity {
    /// A new one.
    pub fn new() -> anyhow::Result<Self> {
        let authority = Authority::new("front-ca")?;
        let KeyPair { certificate_pem, key_pem, .. } = server_identity(&authority, &["localhost"])?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = [&b"h2"[..], b"http/1.1"].map(Vec::from).into();
        Ok(Self { authority, config: Arc::new(config) })
    }
}

impl Front {
    /// Serves what `client` answers. Whoever asks, it is asked as the user of `client`.
    pub async fn start(identity: &Identity, client: kube::Client, adjust: Adjust) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let server = format!("https://{}", listener.local_addr()?);
        let kubeconfig = document_with_token(TokenAccess {
            server: &server,
            server_ca: Some(identity.authority.certificate_pem()),
            server_name: None,
            cluster: "front",
            user: "anybody",
            token: "not-looked-at",
        });
        let acceptor = TlsAcceptor::from(Arc::clone(&identity.config));
        let (answers, state) = watch::channel(true);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(serve(connection, acceptor.clone(), client.clone(), adjust, state.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { kubeconfig, answers, task })
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self) -> &Value {
        &self.kubeconfig
    }

    /// Accepts connections and answers nothing, or answers again. What is under way is cut off.
    pub fn answer(&self, answers: bool) {
        self.answers.send_replace(answers);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    connection: TcpStream,
    acceptor: TlsAcceptor,
    client: kube::Client,
    adjust: Adjust,
    mut answers: watch::Receiver<bool>,
) {
    let _ = connection.set_nodelay(true);
    if answers.wait_for(|answers| *answers).await.is_err() {
        return;
    }
    let Ok(connection) = acceptor.accept(connection).await else { return };
    let service = service_fn(move |request| pass_on(request, client.clone(), adjust));
    let builder = auto::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection(TokioIo::new(connection), service);
    tokio::select! {
        _ = served => {}
        _ = answers.wait_for(|answers| !answers) => {}
    }
}

async fn pass_on(
    request: Request<Incoming>,
    client: kube::Client,
    adjust: Adjust,
) -> Result<Response<Body>, Infallible> {
    let mut response = ask(request, &client).await.unwrap_or_else(|error| {
        let mut response = Response::new(Body::from(format!("{error:#}").into_bytes()));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    });
    // The length and the framing are the server's own here.
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        response.headers_mut().remove(name);
    }
    adjust(&mut response);
    Ok(response)
}

async fn ask(request: Request<Incoming>, client: &kube::Client) -> anyhow::Result<Response<Body>> {
    let (mut head, body) = request.into_parts();
    head.version = Version::default();
    for name in [header::AUTHORIZATION, header::HOST, header::CONNECTION] {
        head.headers.remove(name);
    }
    let body = body.collect().await?.to_bytes();
    Ok(client.send(Request::from_parts(head, Body::from(body))).await?)
}
