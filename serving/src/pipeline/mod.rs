//! What every request passes through, in this order: a panic is caught, the request is named (Audit-ID) and read
//! (RequestInfo), its sender found out, refused while the sender has its share of what the server takes on, allowed, timed,
//! counted and logged. Then health and metrics are answered here, and everything else by the [`Handler`].
//!
//! Invariants: no handler sees a request that was not authenticated and authorised, nor credentials; the paths of
//! [`Callers`] have a rule of their own. Bodies are handed on unread. Every answer carries its Audit-ID.

mod attended;
mod audit_id;
mod callers;
mod holder;
mod observe;
mod span;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod trace_parent;

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
use attended::{Patience, attended};
use audit_id::AuditId;
pub use callers::{Callers, Credential};
pub use holder::Holder;
use observe::Observation;

/// A request whose sender is known and allowed to make it.
#[derive(Debug)]
pub struct Authorized {
    /// Method, URL, headers. Identity headers and tokens are taken out.
    pub parts: Parts,
    /// What is asked for; the very reading that was authorised.
    pub info: RequestInfo,
    /// Who asks.
    pub user: UserInfo,
    /// Whose share it takes of what is limited.
    pub holder: Holder,
    /// Who allowed it; to be asked again while an answer goes on.
    pub authorizer: Arc<Authorizer>,
    /// Cancelled when a watch should end.
    pub stop: CancellationToken,
    /// What was sent along. The read API has no use for it.
    pub body: RequestBody,
}

/// Answers requests for everything but health and metrics.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Dropped when the client goes away or the deadline passes.
    fn serve(&self, request: Authorized) -> impl Future<Output = Result<Response<Body>, ApiError>> + Send;
}

/// How much is taken on.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `--max-requests-inflight`; watches and health are not counted. Users share them: one gets three quarters at most,
    /// and there is always something left for one who has nothing. 0 is no limit.
    pub max_requests_in_flight: usize,
    /// `--request-timeout`; watches excepted. An answer of which nothing was read for as long is given up; after five
    /// seconds already while requests are short.
    pub request_timeout: Duration,
}

/// Open watches. An idle one takes some 10 KiB.
const MAX_WATCHES: usize = 10_000;
/// An answer of which nothing was read for this long is given up while there are few slots left for others.
const SHORT_PATIENCE: Duration = Duration::from_secs(5);

impl Default for Limits {
    /// kube-apiserver's.
    fn default() -> Self {
        Self { max_requests_in_flight: 400, request_timeout: Duration::from_mins(1) }
    }
}

/// Who writes down what is asked, beyond log lines and metrics. By default nobody does, and it costs nothing.
#[derive(Clone, Default)]
pub struct Observers {
    /// The audit log.
    pub auditor: Option<Arc<Auditor>>,
    /// Spans for a collector of OpenTelemetry's.
    #[cfg(feature = "otel")]
    pub traces: Option<Arc<crate::traces::Traces>>,
}

impl Observers {
    /// Returns when everything before has been written, or cannot be.
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

/// The parts a pipeline is made of.
pub struct Pipeline<H> {
    authenticator: Authenticator,
    authorizer: Arc<Authorizer>,
    health: Health,
    metrics: Arc<RequestMetrics>,
    shutdown: Arc<Shutdown>,
    arriving: Arc<FairShare<Holder>>,
    slots: Arc<FairShare<Holder>>,
    watches: Arc<FairShare<Holder>>,
    request_timeout: Duration,
    callers: Callers,
    observers: Observers,
    handler: H,
}

impl<H: Handler> Pipeline<H> {
    /// Puts the parts together.
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
            arriving: FairShare::new(limits.max_requests_in_flight),
            slots: FairShare::new(limits.max_requests_in_flight),
            watches: FairShare::new(MAX_WATCHES),
            request_timeout: limits.request_timeout,
            callers: Callers::default(),
            observers: Observers::default(),
            handler,
        }
    }

    /// Lets the callers of some paths in by a rule of their own.
    #[must_use]
    pub fn with_callers(self, callers: Callers) -> Self {
        Self { callers, ..self }
    }

    /// Tells others what is asked.
    #[must_use]
    pub fn with_observers(self, observers: Observers) -> Self {
        Self { observers, ..self }
    }

    pub(crate) fn metrics(&self) -> &RequestMetrics {
        &self.metrics
    }

    /// Answers a request, whatever happens.
    pub async fn handle<B>(&self, request: Request<B>, peer: &Peer) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (mut parts, body) = request.into_parts();
        let audit_id = AuditId::of(&parts.headers);
        let version = parts.version;
        let mut response = match RequestInfo::parse(&parts.method, &parts.uri) {
            Err(error) => ApiError::bad_request(error.to_string()).into_response(),
            Ok(info) => {
                let observation = Observation::begin(self, &parts, &info, peer, &audit_id);
                observation.kept().map(|trail| parts.extensions.insert(trail));
                // Whatever is logged on the way says of which request; at every level that is logged at all.
                let span = tracing::error_span!("request", audit_id = audit_id.as_str());
                let request = Arrived { parts, info, body: unread(body) };
                let answer = AssertUnwindSafe(self.answer(request, peer, &observation).instrument(span));
                let answer = answer.catch_unwind().await.unwrap_or_else(|_| {
                    // The panic's message has gone to the process' panic hook, and is none of the client's business.
                    observation.panicked();
                    ApiError::internal("the request panicked; see the log").into_response()
                });
                observation.finish(answer)
            }
        };
        // As soon as the end is in sight: a client that keeps its connection would go on sending here, past any load
        // balancer, and lose what it sends when the connection closes (kubernetes#127335).
        let stays_http = response.status() != StatusCode::SWITCHING_PROTOCOLS;
        if self.shutdown.has_begun() && version < Version::HTTP_2 && stays_http {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.headers_mut().insert(audit_id::HEADER, audit_id.into());
        response
    }

    async fn answer(&self, request: Arrived, peer: &Peer, observation: &Observation) -> Response<Body> {
        let form = negotiate::error(&request.parts.headers);
        let answer = if request.info.is_long_running() {
            self.admit(request, peer, observation).await
        } else {
            let admitted = tokio::time::timeout(self.request_timeout, self.admit(request, peer, observation));
            admitted.await.unwrap_or_else(|_| {
                Err(ApiError::timeout("request did not complete within the allotted timeout"))
            })
        };
        answer.unwrap_or_else(|error| {
            if matches!(error.code(), StatusCode::TOO_MANY_REQUESTS | StatusCode::GATEWAY_TIMEOUT) {
                observation.count_termination(error.code());
            }
            observation.refused(&error);
            form.refusal(error)
        })
    }

    /// Health is answered even while the server is full: it is how others find out.
    ///
    /// While the server drains it takes no connections. What still comes through one that is being closed is answered
    /// like anything else: its client cannot have known, and no load balancer could have sent it elsewhere.
    async fn admit(
        &self,
        mut request: Arrived,
        peer: &Peer,
        observation: &Observation,
    ) -> Result<Response<Body>, ApiError> {
        let Arrived { parts, info, .. } = &mut request;
        if matches!(&info, RequestInfo::NonResource(to) if is_health(&to.path)) {
            let user = self.user(parts, info, peer, observation).await?;
            self.allow(&user, info, observation).await?;
            let holder = Holder::user(&user);
            return self.respond(request, user, holder).await;
        }
        let user = {
            let _place = self.place(peer)?;
            self.user(parts, info, peer, observation).await?
        };
        let holder = self.holder(info, &user, peer);
        let slots = if info.is_long_running() { &self.watches } else { &self.slots };
        let slot = slots.try_take(holder.clone(), 1).ok_or_else(ApiError::too_many_requests)?;
        self.allow(&user, info, observation).await?;
        let is_call = self.callers.know(info);
        let response = self.respond(request, user, holder).await?;
        if is_call && response.status().is_success() {
            peer.earn(Trust::Answered);
        }
        // In flight until it was sent, as upstream counts.
        let slots = Arc::clone(&self.slots);
        let patience = Patience {
            long: self.request_timeout,
            short: SHORT_PATIENCE,
            is_short: Box::new(move || slots.is_short()),
        };
        Ok(response.map(|body| attended(body, patience, slot)))
    }

    /// A place for one whose credential has yet to be looked at, which may take a question to the cluster: none is needed
    /// for what a certificate that verifies says.
    fn place(&self, peer: &Peer) -> Result<Option<Held<Holder>>, ApiError> {
        if self.vouches_for(peer) {
            return Ok(None);
        }
        let place = self.arriving.try_take(Holder::address(peer.address().ip()), 1);
        place.map(Some).ok_or_else(ApiError::too_many_requests)
    }

    /// Whose share a request takes. Where nobody says who calls, addresses share.
    fn holder(&self, info: &RequestInfo, user: &UserInfo, peer: &Peer) -> Holder {
        if self.callers.know(info) && !user.is_authenticated() {
            return Holder::address(peer.address().ip());
        }
        Holder::user(user)
    }

    /// Whether the peer has a certificate that verifies now.
    pub(crate) fn vouches_for(&self, peer: &Peer) -> bool {
        self.authenticator.is_verified(peer, UnixTime::now())
    }

    /// Finds out who asks.
    async fn user(
        &self,
        parts: &mut Parts,
        info: &RequestInfo,
        peer: &Peer,
        observation: &Observation,
    ) -> Result<UserInfo, ApiError> {
        let now = UnixTime::now();
        let refused = |reason| {
            observation.unauthenticated();
            tracing::info!(peer = %peer.address(), %reason, "request denied: not authenticated");
            ApiError::unauthorized()
        };
        let user = if self.callers.know(info) {
            let holder = self.authenticator.certificate_holder(&mut parts.headers, peer, now);
            match self.callers.credential {
                // Known where it can be: kube-apiserver may present a certificate that nobody requires.
                Credential::None => holder.unwrap_or_else(|_| UserInfo::anonymous()),
                Credential::Certificate => holder.map_err(refused)?,
            }
        } else {
            self.authenticator.authenticate(&mut parts.headers, peer, now).await.map_err(refused)?
        };
        if user.is_authenticated() {
            peer.earn(Trust::Authenticated);
        }
        observation.identified(&user);
        Ok(user)
    }

    /// Finds out whether they may. Callers' paths have no rights to ask about.
    async fn allow(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        observation: &Observation,
    ) -> Result<(), ApiError> {
        if self.callers.know(info) {
            return Ok(());
        }
        let decision = self.authorizer.authorize(Attributes { user, request: info }).await;
        observation.decided(&decision);
        decision
    }

    async fn respond(
        &self,
        request: Arrived,
        user: UserInfo,
        holder: Holder,
    ) -> Result<Response<Body>, ApiError> {
        let Arrived { parts, info, body } = request;
        match &info {
            RequestInfo::NonResource(request) if is_health(&request.path) => {
                only_read(&parts.method)?;
                Ok(self.health.respond(&request.path, parts.uri.query().unwrap_or_default()))
            }
            RequestInfo::NonResource(request) if request.path == "/metrics" => {
                only_read(&parts.method)?;
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

/// A request that was read, from nobody known yet.
struct Arrived {
    parts: Parts,
    info: RequestInfo,
    body: RequestBody,
}

/// Refuses all methods that write.
pub fn only_read(method: &Method) -> Result<(), ApiError> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(ApiError::method_not_allowed(method)),
    }
}
