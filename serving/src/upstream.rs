//! The client by which a cluster is watched: HTTP/2 where the API server speaks it, so that all watches share a
//! connection, or two if there are many, and a connection that broke in silence is noticed by pings, as client-go does it.
//!
//! kube's own client speaks HTTP/1.1, in which every watch has a connection of its own, and a quiet watch cannot be told
//! from a dead one.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt, DynBody, RustlsTlsError};
use tower::retry::RetryLayer;
use tower::util::BoxService;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

/// The service below a client.
pub type Stack = BoxService<Request<Body>, Response<Box<DynBody>>, BoxError>;

/// A load balancer may allow no more than a hundred streams on a connection; there are some eighty kinds, and more by
/// `--catalogue-file`. A request beyond the limit would wait for another's end, which for a watch is minutes.
const STREAMS: usize = 90;
const CONNECTIONS: usize = 4;
/// A connection is pinged this often, or sooner, and given up after as long without an answer.
const PING: Duration = Duration::from_secs(10);

/// A client for watches and what goes with them. A connection that breaks in silence ends all that runs over it within
/// `patience`, or 20 seconds if that is less. Over HTTP/1.1, which is used where a proxy or a plugin for credentials is
/// configured, it does not end by itself.
///
/// # Errors
/// The configuration cannot be used.
pub fn builder(config: kube::Config, patience: Duration) -> Result<ClientBuilder<Stack>, kube::Error> {
    if config.proxy_url.is_some() || config.auth_info.exec.is_some() {
        return ClientBuilder::try_from(config);
    }
    let connector = connector(&config)?;
    let ping = PING.min(patience / 2);
    let spread = Spread(Arc::new(std::array::from_fn(|_| {
        let client = legacy::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(ping)
            .http2_keep_alive_timeout(ping)
            .http2_keep_alive_while_idle(true)
            .build(connector.clone());
        Lane { client, held: Arc::default() }
    })));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry())))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(spread);
    Ok(ClientBuilder::new(service.boxed(), config.default_namespace))
}

/// What makes connections. A handshake that is not answered ends, too.
type Connector = TimeoutConnector<HttpsConnector<HttpConnector>>;

/// As kube makes it, and with HTTP/2 among the protocols that are offered.
fn connector(config: &kube::Config) -> Result<Connector, kube::Error> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    let mut builder =
        HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into().map_err(RustlsTlsError::InvalidServerName);
        let name = name.map_err(kube::Error::RustlsTls)?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let mut connector = TimeoutConnector::new(builder.enable_http1().enable_http2().wrap_connector(http));
    connector.set_connect_timeout(config.connect_timeout);
    Ok(connector)
}

/// Sends each request over the first connection that has room. A connection is made when it is used first.
#[derive(Clone)]
struct Spread(Arc<[Lane; CONNECTIONS]>);

/// A connection, or over HTTP/1.1 as many as there are requests.
struct Lane {
    client: Client<Connector, Body>,
    /// Each request holds it until it is answered to the end.
    held: Arc<()>,
}

impl Lane {
    fn has_room(&self) -> bool {
        Arc::strong_count(&self.held) <= STREAMS
    }
}

impl Service<Request<Body>> for Spread {
    type Response = Response<Box<DynBody>>;
    type Error = legacy::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Each is ready at any time.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // With more requests than streams these wait for each other.
        let lane = self.0.iter().find(|lane| lane.has_room()).unwrap_or(&self.0[CONNECTIONS - 1]);
        let (answer, held) = (lane.client.request(request), Arc::clone(&lane.held));
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| {
                let body = body.map_err(BoxError::from).map_frame(move |frame| {
                    // The stream ends when the body is dropped, and this with it.
                    let _ = &held;
                    frame
                });
                Box::new(body) as Box<DynBody>
            }))
        })
    }
}
