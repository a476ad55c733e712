//! A handler with one behavior per resource, and a pipeline around it.

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use tokio::sync::watch;

use super::*;
use crate::authn::AuthenticationConfig;
use crate::body::streamed;
use crate::metrics::ServedResource;
use crate::shutdown::ShutdownTiming;

pub(crate) const THINGS: &str = "/apis/g/v1/things";
pub(crate) const WATCH: &str = "/apis/g/v1/things?watch=1";
pub(crate) const PANIC: &str = "/apis/g/v1/panic";
pub(crate) const SILENT: &str = "/apis/g/v1/silent";
/// Its response is much larger than socket buffers.
pub(crate) const LONG: &str = "/apis/g/v1/long";
/// A path of [`WebhookPaths`] that returns the request's body.
pub(crate) const CALLED: &str = "/called";

pub(crate) const LIMITS: Limits =
    Limits { max_requests_in_flight: 2, request_timeout: Duration::from_mins(1) };
pub(crate) const TIMING: ShutdownTiming =
    ShutdownTiming { delay: Duration::from_millis(1), grace: Duration::from_millis(640) };

/// Answers with the user's name and the names of the request's headers, but for the audit ID, which each has. A watch
/// sends `hello` and goes on until `stop` is cancelled.
pub(crate) struct Fake;

impl Handler for Fake {
    async fn serve(&self, request: Authorized) -> Result<Response<Body>, ApiError> {
        let path = request.parts.uri.path();
        if path == CALLED {
            let sent =
                request.body.collect().await.map_err(|error| ApiError::bad_request(error.to_string()))?;
            return Ok(Response::new(full(sent.to_bytes())));
        }
        assert_ne!(path, PANIC, "as the test asked");
        if path == SILENT {
            std::future::pending::<()>().await;
        }
        if path == LONG {
            let piece = Bytes::from(vec![b'x'; 64 << 10]);
            return Ok(Response::new(streamed(stream::repeat(piece).take(1024))));
        }
        if request.info.is_long_running() {
            let hello = stream::once(async { Bytes::from_static(b"hello") });
            let end = stream::once(async move { request.stop.cancelled().await }).map(|()| Bytes::new());
            return Ok(Response::new(streamed(hello.chain(end))));
        }
        let headers = request.parts.headers.keys().map(http::HeaderName::as_str);
        let headers: Vec<_> = headers.filter(|name| *name != "audit-id").collect();
        Ok(Response::new(full(format!("{} {}", request.user.name, headers.join(" ")))))
    }
}

pub(crate) fn pipeline(
    config: watch::Receiver<Arc<AuthenticationConfig>>,
    shutdown: &Arc<Shutdown>,
    credential: Credential,
) -> Arc<Pipeline<Fake>> {
    observed(config, shutdown, credential, Observers::default())
}

pub(crate) fn observed(
    config: watch::Receiver<Arc<AuthenticationConfig>>,
    shutdown: &Arc<Shutdown>,
    credential: Credential,
    observers: Observers,
) -> Arc<Pipeline<Fake>> {
    limited(config, shutdown, credential, observers, LIMITS)
}

pub(crate) fn limited(
    config: watch::Receiver<Arc<AuthenticationConfig>>,
    shutdown: &Arc<Shutdown>,
    credential: Credential,
    observers: Observers,
    limits: Limits,
) -> Arc<Pipeline<Fake>> {
    let things =
        ServedResource { group: "g".to_owned(), version: "v1".to_owned(), resource: "things".to_owned() };
    let pipeline = Pipeline::new(
        Authenticator::new(config, None, true),
        Arc::new(Authorizer::CertificateHolders),
        Health::new([shutdown.readiness_check()]),
        Arc::new(RequestMetrics::new(&[things])),
        Arc::clone(shutdown),
        limits,
        Fake,
    );
    Arc::new(
        pipeline.with_webhook_paths(WebhookPaths { paths: &[CALLED], credential }).with_observers(observers),
    )
}
