//! Metrics, log lines, audit events and spans of a request.
//!
//! **Invariant:** log lines, metrics and spans never contain the query string, the body, the user or credentials. Audit
//! events contain the user and the whole URI.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use prometheus::IntGauge;

use super::Pipeline;
use super::audit_id::AuditId;
use super::trace_parent::trace_id;
use crate::audit::{AuditGuard, AuditTrail};
use crate::authn::{Peer, UserInfo};
use crate::body::{Body, with_observer};
use crate::error::ApiError;
use crate::metrics::{RequestLabels, RequestMetrics};
use crate::request_info::RequestInfo;
#[cfg(feature = "otel")]
use crate::traces::RequestSpan;

/// Without the feature `otel` a request has no span: this type has no values.
#[cfg(not(feature = "otel"))]
enum RequestSpan {}

#[cfg(not(feature = "otel"))]
impl RequestSpan {
    fn record_status(&mut self, _: StatusCode) {
        match *self {}
    }
}

/// Records a request from its arrival to the end of its response.
pub(super) struct Observation {
    metrics: Arc<RequestMetrics>,
    labels: RequestLabels,
    started: Instant,
    /// Counts it among the open watches or the requests in flight.
    open: GaugeGuard,
    is_long_running: bool,
    line: LogLine,
    /// Its audit events, if the audit log is on.
    audit: Option<Arc<AuditTrail>>,
    span: Option<RequestSpan>,
}

struct LogLine {
    verb: String,
    resource: String,
    path: String,
    user_agent: String,
    audit_id: String,
    /// The trace ID of the client's `traceparent` header.
    trace_id: Option<String>,
    peer: std::net::SocketAddr,
}

impl Observation {
    pub(super) fn begin<H>(
        pipeline: &Pipeline<H>,
        parts: &Parts,
        info: &RequestInfo,
        peer: &Peer,
        audit_id: &AuditId,
    ) -> Self {
        let metrics = Arc::clone(&pipeline.metrics);
        let labels = RequestLabels::new(metrics.served(), info);
        let is_long_running = info.is_long_running();
        let open = if is_long_running {
            metrics.long_running(&labels)
        } else {
            metrics.in_flight(matches!(parts.method, Method::GET | Method::HEAD))
        };
        let user_agent = parts.headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
        let line = LogLine {
            verb: info.verb().to_owned(),
            resource: resource(info),
            path: parts.uri.path().to_owned(),
            trace_id: trace_id(&parts.headers).map(ToOwned::to_owned),
            user_agent: String::from_utf8_lossy(user_agent.unwrap_or_default()).into_owned(),
            audit_id: audit_id.as_str().to_owned(),
            peer: peer.address(),
        };
        let audit = pipeline.observers.auditor.as_ref().map(|auditor| {
            Arc::new(AuditTrail::begin(auditor, parts, info, peer.address().ip(), audit_id.as_str()))
        });
        #[cfg(feature = "otel")]
        let span = pipeline
            .observers
            .traces
            .as_ref()
            .map(|traces| traces.begin(parts, labels.name(), peer.address(), audit_id.as_str()));
        #[cfg(not(feature = "otel"))]
        let span = None;
        Self {
            metrics,
            labels,
            started: Instant::now(),
            open: GaugeGuard::new(open),
            is_long_running,
            line,
            audit,
            span,
        }
    }

    /// Keeps the audit events of the request open, for handlers that answer outside of the response's body.
    pub(super) fn audit_guard(&self) -> Option<AuditGuard> {
        self.audit.clone().map(AuditGuard)
    }

    /// The request is authenticated.
    pub(super) fn record_user(&self, user: &UserInfo) {
        if let Some(audit) = &self.audit {
            audit.record_user(user);
        }
    }

    /// Authentication failed.
    pub(super) fn record_unauthenticated(&self) {
        if let Some(audit) = &self.audit {
            audit.record_unauthenticated();
        }
    }

    /// The request is authorized or denied.
    pub(super) fn record_decision(&self, decision: &Result<(), ApiError>) {
        if let Some(audit) = &self.audit {
            audit.record_decision(decision);
        }
    }

    /// The response is an error.
    pub(super) fn record_error(&self, error: &ApiError) {
        if let Some(audit) = &self.audit {
            audit.record_error(error);
        }
    }

    /// The handler panicked.
    pub(super) fn record_panic(&self) {
        self.metrics.count_panic();
        if let Some(audit) = &self.audit {
            audit.record_panic();
        }
    }

    /// Counts a request that the server ends to protect itself.
    pub(super) fn count_termination(&self, code: StatusCode) {
        self.metrics.count_termination(&self.labels, code);
    }

    /// Records the response's status code, and its size once its body ends. A watch counts as open until its body ends;
    /// its size and duration are not observed.
    pub(super) fn finish(mut self, response: Response<Body>) -> Response<Body> {
        let code = response.status();
        let elapsed = self.started.elapsed();
        self.metrics.observe_request(&self.labels, code, (!self.is_long_running).then_some(elapsed));
        self.line.log(code, elapsed);
        if let Some(audit) = &self.audit {
            audit.record_status(code);
        }
        if let Some(span) = &mut self.span {
            span.record_status(code);
        }
        let Self { metrics, labels, open, is_long_running, audit, span, .. } = self;
        response.map(|body| {
            if is_long_running {
                with_observer(body, move |_| {
                    let _guards = (&open, &audit, &span);
                })
            } else {
                let mut size = BodySize { metrics, labels, bytes: 0, _guards: (open, audit, span) };
                with_observer(body, move |chunk| size.add(chunk))
            }
        })
    }
}

impl LogLine {
    fn log(&self, code: StatusCode, latency: Duration) {
        let Self { verb, resource, path, user_agent, audit_id, trace_id, peer } = self;
        let code = code.as_u16();
        if code >= 500 {
            tracing::info!(audit_id, trace_id, verb, resource, ?path, code, ?latency, ?user_agent, %peer, "request failed");
        } else {
            tracing::debug!(audit_id, trace_id, verb, resource, ?path, code, ?latency, ?user_agent, %peer, "request");
        }
    }
}

/// `RESOURCE.GROUP`; empty for a non-resource path.
fn resource(info: &RequestInfo) -> String {
    match info {
        RequestInfo::Resource(request) if request.group.is_empty() => request.resource.clone(),
        RequestInfo::Resource(request) => format!("{}.{}", request.resource, request.group),
        RequestInfo::NonResource(_) => String::new(),
    }
}

/// Increments a gauge until it is dropped.
struct GaugeGuard(IntGauge);

impl GaugeGuard {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts the bytes of a body, and observes them when the body is dropped, whether or not all of it was sent.
struct BodySize {
    metrics: Arc<RequestMetrics>,
    labels: RequestLabels,
    bytes: u64,
    _guards: (GaugeGuard, Option<Arc<AuditTrail>>, Option<RequestSpan>),
}

impl BodySize {
    /// A method, so that a closure that calls it captures the whole struct, and drops it with the body.
    fn add(&mut self, chunk: &Bytes) {
        self.bytes += chunk.len() as u64;
    }
}

impl Drop for BodySize {
    fn drop(&mut self) {
        self.metrics.observe_response_size(&self.labels, self.bytes);
    }
}
