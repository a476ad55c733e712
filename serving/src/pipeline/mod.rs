//! The steps that every request passes through: it gets an Audit-ID, is parsed ([`RequestInfo`]), authenticated,
//! limited (429 if its user has used up its share of the requests in flight) and authorized. Then the pipeline answers
//! health and metrics itself, and the [`Handler`] everything else. The pipeline also catches panics, enforces the
//! request timeout, and records metrics, log lines, audit events and spans.
//!
//! **Invariants:** a handler never sees credentials. It only gets requests that are authenticated and authorized, or
//! whose path is one of [`WebhookPaths`], which have their own rule. Handlers get bodies unread. Every response has an
//! Audit-ID.

mod audit_id;
mod holder;
mod observe;
mod stall_timeout;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod trace_parent;
mod webhook_paths;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use rustls_pki_types::UnixTime;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::audit::Auditor;
use crate::authn::{Authenticator, Peer, Trust, UserInfo};
use crate::authz::{Attributes, Authorizer, is_health};
use crate::body::{Body, BodyError, RequestBody, full, unread};
use crate::error::ApiError;
use crate::fair::{FairShare, Held};
use crate::health::Health;
use crate::metrics::{self, RequestMetrics};
use crate::negotiate;
use crate::request_info::RequestInfo;
use crate::shutdown::Shutdown;
use audit_id::AuditId;
pub use holder::Holder;
use observe::Observation;
use stall_timeout::{StallTimeout, with_stall_timeout};
pub use webhook_paths::{Credential, WebhookPaths};

/// A request that is authenticated and authorized.
#[derive(Debug)]
pub struct Authorized {
    /// Method, URL and headers, without identity headers and tokens, with the `Audit-ID`.
    pub parts: Parts,
    /// The parsed request, exactly as it was authorized.
    pub info: RequestInfo,
    /// The user who sent it.
    pub user: UserInfo,
    /// Whose share of limited resources it uses.
    pub holder: Holder,
    /// The authorizer that allowed it. Long responses ask it again.
    pub authorizer: Arc<Authorizer>,
    /// Cancelled when a watch should end, during shutdown.
    pub stop: CancellationToken,
    /// The body, unread. Reads of views ignore it.
    pub body: RequestBody,
}

/// Answers all requests but those for health and metrics.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. The future is dropped if the client disconnects or the deadline passes.
    fn serve(&self, request: Authorized) -> impl Future<Output = Result<Response<Body>, ApiError>> + Send;
}

/// Limits on requests.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `--max-requests-inflight`: the number of requests in flight, without watches and health; 0 means no limit. Users
    /// share it fairly (see [`FairShare`]): one user gets three quarters at most, and something is always left for a
    /// user that has none.
    pub max_requests_in_flight: usize,
    /// `--request-timeout`: how long a request may take, watches excepted. A response is aborted if its client reads
    /// nothing for as long, or for five seconds while a quarter of the requests in flight or less is free.
    pub request_timeout: Duration,
}

/// The number of open watches. An idle one takes about 10 KiB.
const MAX_WATCHES: usize = 10_000;
/// A response of which nothing was read for this long is aborted while few slots are free.
const SHORT_STALL_TIMEOUT: Duration = Duration::from_secs(5);

impl Default for Limits {
    /// The defaults of kube-apiserver.
    fn default() -> Self {
        Self { max_requests_in_flight: 400, request_timeout: Duration::from_mins(1) }
    }
}

/// Records of requests beside log lines and metrics. The default records nothing and costs nothing.
#[derive(Clone, Default)]
pub struct Observers {
    /// The audit log.
    pub auditor: Option<Arc<Auditor>>,
    /// Spans for an OpenTelemetry collector.
    #[cfg(feature = "otel")]
    pub traces: Option<Arc<crate::traces::Traces>>,
}

impl Observers {
    /// Returns when all earlier records are written, or have failed or timed out.
    pub async fn flush(&self) {
        if let Some(auditor) = &self.auditor {
            auditor.flush().await;
        }
        #[cfg(feature = "otel")]
        if let Some(traces) = &self.traces {
            traces.flush().await;
        }
    }
}

/// The steps that every request passes through.
pub struct Pipeline<H> {
    authenticator: Authenticator,
    authorizer: Arc<Authorizer>,
    health: Health,
    metrics: Arc<RequestMetrics>,
    shutdown: Arc<Shutdown>,
    authenticating: Arc<FairShare<Holder>>,
    slots: Arc<FairShare<Holder>>,
    watches: Arc<FairShare<Holder>>,
    request_timeout: Duration,
    webhook_paths: WebhookPaths,
    observers: Observers,
    handler: H,
}

impl<H: Handler> Pipeline<H> {
    /// A pipeline without [`WebhookPaths`] and [`Observers`].
    pub fn new(
        authenticator: Authenticator,
        authorizer: Arc<Authorizer>,
        health: Health,
        metrics: Arc<RequestMetrics>,
        shutdown: Arc<Shutdown>,
        limits: Limits,
        handler: H,
    ) -> Self {
        Self {
            authenticator,
            authorizer,
            health,
            metrics,
            shutdown,
            authenticating: FairShare::new(limits.max_requests_in_flight),
            slots: FairShare::new(limits.max_requests_in_flight),
            watches: FairShare::new(MAX_WATCHES),
            request_timeout: limits.request_timeout,
            webhook_paths: WebhookPaths::default(),
            observers: Observers::default(),
            handler,
        }
    }

    /// Sets the paths that skip authorization, and what their callers need.
    #[must_use]
    pub fn with_webhook_paths(self, webhook_paths: WebhookPaths) -> Self {
        Self { webhook_paths, ..self }
    }

    /// Sets the audit log and the traces.
    #[must_use]
    pub fn with_observers(self, observers: Observers) -> Self {
        Self { observers, ..self }
    }

    pub(crate) fn metrics(&self) -> &RequestMetrics {
        &self.metrics
    }

    /// Answers a request. Errors and panics become responses.
    pub async fn handle<B>(&self, request: Request<B>, peer: &Peer) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (mut parts, body) = request.into_parts();
        let audit_id = AuditId::of(&parts.headers);
        audit_id.keep_in(&mut parts.headers);
        let version = parts.version;
        let mut response = match RequestInfo::parse(&parts.method, &parts.uri) {
            Err(error) => ApiError::bad_request(error.to_string()).into_response(),
            Ok(info) => {
                let observation = Observation::begin(self, &parts, &info, peer, &audit_id);
                observation.audit_guard().map(|guard| parts.extensions.insert(guard));
                // Adds the audit ID to every log line of the request. An error span is enabled at every log level.
                let span = tracing::error_span!("request", audit_id = audit_id.as_str());
                let request = ParsedRequest { parts, info, body: unread(body) };
                let answer = AssertUnwindSafe(self.answer(request, peer, &observation).instrument(span));
                let answer = answer.catch_unwind().await.unwrap_or_else(|_| {
                    // The panic hook has logged the message. The client does not get it.
                    observation.record_panic();
                    ApiError::internal("the request panicked; see the log").into_response()
                });
                observation.finish(answer)
            }
        };
        // From the beginning of the shutdown on: a client that keeps its HTTP/1.1 connection would go on sending here,
        // past any load balancer, and its request would fail when the connection closes (kubernetes#127335).
        let stays_http = response.status() != StatusCode::SWITCHING_PROTOCOLS;
        if self.shutdown.has_begun() && version < Version::HTTP_2 && stays_http {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.headers_mut().insert(audit_id::HEADER, audit_id.into());
        response
    }

    async fn answer(&self, request: ParsedRequest, peer: &Peer, observation: &Observation) -> Response<Body> {
        let form = negotiate::error(&request.parts.headers);
        let answer = if request.info.is_long_running() {
            self.process(request, peer, observation).await
        } else {
            let processed =
                tokio::time::timeout(self.request_timeout, self.process(request, peer, observation));
            processed.await.unwrap_or_else(|_| {
                Err(ApiError::timeout("request did not complete within the allotted timeout"))
            })
        };
        answer.unwrap_or_else(|error| {
            if matches!(error.code(), StatusCode::TOO_MANY_REQUESTS | StatusCode::GATEWAY_TIMEOUT) {
                observation.count_termination(error.code());
            }
            observation.record_error(&error);
            self.with_stall_timeout(form.refusal(error), peer, ())
        })
    }

    /// Authenticates, limits and authorizes the request, and answers it.
    ///
    /// Health has no limit: probes must get an answer even if the server is full. While the server drains, it accepts
    /// no connections, but still answers requests on those that it is closing, since their clients cannot know.
    async fn process(
        &self,
        mut request: ParsedRequest,
        peer: &Peer,
        observation: &Observation,
    ) -> Result<Response<Body>, ApiError> {
        let ParsedRequest { parts, info, .. } = &mut request;
        if matches!(&info, RequestInfo::NonResource(to) if is_health(&to.path)) {
            let user = self.authenticate(parts, info, peer, observation).await?;
            self.authorize(&user, info, observation).await?;
            let holder = Holder::user(&user);
            let response = self.dispatch(request, user, holder).await?;
            return Ok(self.with_stall_timeout(response, peer, ()));
        }
        let user = {
            let _slot = self.acquire_authentication_slot(peer)?;
            self.authenticate(parts, info, peer, observation).await?
        };
        let holder = self.holder(info, &user, peer);
        let slots = if info.is_long_running() { &self.watches } else { &self.slots };
        let slot = slots.try_acquire(holder.clone(), 1).ok_or_else(ApiError::too_many_requests)?;
        self.authorize(&user, info, observation).await?;
        let is_webhook_call = self.webhook_paths.contains(info);
        let response = self.dispatch(request, user, holder).await?;
        if is_webhook_call && response.status().is_success() {
            peer.raise_trust(Trust::WebhookCaller);
        }
        // The request is in flight until its response is sent, as in kube-apiserver.
        Ok(self.with_stall_timeout(response, peer, slot))
    }

    /// The response, aborted if it is not read. `held` is dropped when it was sent.
    fn with_stall_timeout(
        &self,
        response: Response<Body>,
        peer: &Peer,
        held: impl Send + 'static,
    ) -> Response<Body> {
        let slots = Arc::clone(&self.slots);
        let is_front_proxy = self.authenticator.is_front_proxy(peer, UnixTime::now());
        let timeout = StallTimeout {
            usual: self.request_timeout,
            short: SHORT_STALL_TIMEOUT,
            use_short: Box::new(move || slots.is_nearly_exhausted()),
            connection: (!is_front_proxy).then(|| peer.connection().clone()),
        };
        response.map(|body| with_stall_timeout(body, timeout, held))
    }

    /// Limits requests that are being authenticated, by address, since that may take a TokenReview. A peer with a
    /// verified certificate needs no slot.
    fn acquire_authentication_slot(&self, peer: &Peer) -> Result<Option<Held<Holder>>, ApiError> {
        if self.is_verified(peer) {
            return Ok(None);
        }
        let slot = self.authenticating.try_acquire(Holder::address(peer.address().ip()), 1);
        slot.map(Some).ok_or_else(ApiError::too_many_requests)
    }

    /// Whose share a request uses: that of its user, or of its address on a path of [`WebhookPaths`] without a
    /// credential.
    fn holder(&self, info: &RequestInfo, user: &UserInfo, peer: &Peer) -> Holder {
        if self.webhook_paths.contains(info) && !user.is_authenticated() {
            return Holder::address(peer.address().ip());
        }
        Holder::user(user)
    }

    /// Whether the peer has a certificate that verifies now, as the front proxy or as a user.
    pub(crate) fn is_verified(&self, peer: &Peer) -> bool {
        self.authenticator.is_verified(peer, UnixTime::now())
    }

    /// Authenticates the request.
    async fn authenticate(
        &self,
        parts: &mut Parts,
        info: &RequestInfo,
        peer: &Peer,
        observation: &Observation,
    ) -> Result<UserInfo, ApiError> {
        let now = UnixTime::now();
        let refused = |reason| {
            observation.record_unauthenticated();
            tracing::info!(peer = %peer.address(), %reason, "request denied: not authenticated");
            ApiError::unauthorized()
        };
        let user = if self.webhook_paths.contains(info) {
            let holder = self.authenticator.certificate_holder(&mut parts.headers, peer, now);
            match self.webhook_paths.credential {
                // kube-apiserver may present a certificate even if none is required.
                Credential::None => holder.unwrap_or_else(|_| UserInfo::anonymous()),
                Credential::Certificate => holder.map_err(refused)?,
            }
        } else {
            self.authenticator.authenticate(&mut parts.headers, peer, now).await.map_err(refused)?
        };
        if user.is_authenticated() {
            peer.raise_trust(Trust::Authenticated);
        }
        observation.record_user(&user);
        Ok(user)
    }

    /// Authorizes the request. The paths of [`WebhookPaths`] need no authorization.
    async fn authorize(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        observation: &Observation,
    ) -> Result<(), ApiError> {
        if self.webhook_paths.contains(info) {
            return Ok(());
        }
        let decision = self.authorizer.authorize(Attributes { user, request: info }).await;
        observation.record_decision(&decision);
        decision
    }

    async fn dispatch(
        &self,
        request: ParsedRequest,
        user: UserInfo,
        holder: Holder,
    ) -> Result<Response<Body>, ApiError> {
        let ParsedRequest { parts, info, body } = request;
        match &info {
            RequestInfo::NonResource(request) if is_health(&request.path) => {
                ensure_get_or_head(&parts.method)?;
                Ok(self.health.respond(&request.path, parts.uri.query().unwrap_or_default()))
            }
            RequestInfo::NonResource(request) if request.path == "/metrics" => {
                ensure_get_or_head(&parts.method)?;
                Ok(metrics::response(full(self.metrics.render())))
            }
            _ => {
                let stop = self.shutdown.watch_token();
                let authorizer = Arc::clone(&self.authorizer);
                self.handler.serve(Authorized { parts, info, user, holder, authorizer, stop, body }).await
            }
        }
    }
}

/// A request that is parsed and not authenticated yet.
struct ParsedRequest {
    parts: Parts,
    info: RequestInfo,
    body: RequestBody,
}

/// Returns 405 for all methods but GET and HEAD.
pub fn ensure_get_or_head(method: &Method) -> Result<(), ApiError> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(ApiError::method_not_allowed(method)),
    }
}
