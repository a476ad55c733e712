//! The audit log: who sent which request, and how it was answered, as kube-apiserver writes it (`audit.k8s.io/v1`).
//!
//! **Invariants:** the log never contains bodies or credentials, whatever the policy asks for: every event has the
//! level Metadata. No request waits for the log. Every request that the policy selects has a final event
//! (ResponseComplete or Panic), even if its client disconnects. A request that is not authenticated has a single event,
//! ResponseStarted, as in kube-apiserver.

mod event;
mod log;
mod policy;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use http::{StatusCode, request::Parts};
use jiff::Timestamp;
use prometheus::Registry;

use self::{
    event::{Annotations, RequestSummary, ResponseStatus, StageDetails},
    log::Log,
    policy::Stage,
};
use crate::{authn::UserInfo, error::ApiError, request_info::RequestInfo};

pub use self::policy::{Policy, PolicyError};

/// Annotations of kube-apiserver's audit log.
const DECISION: &str = "authorization.k8s.io/decision";
const REASON: &str = "authorization.k8s.io/reason";

/// Logs the requests that a policy selects.
pub struct Auditor {
    policy: Policy,
    log: Log,
}

/// Delays a request's final event until it is dropped. It is in the request's extensions, for handlers that answer
/// outside of the response's body.
#[derive(Clone)]
pub struct AuditGuard(
    #[allow(dead_code, reason = "what counts is when it is dropped")] pub(crate) Arc<AuditTrail>,
);

/// The audit events of one request. Dropping it writes the final one.
pub(crate) struct AuditTrail {
    auditor: Arc<Auditor>,
    info: RequestInfo,
    summary: RequestSummary,
    /// The user, once the request is authenticated.
    user: OnceLock<UserInfo>,
    annotations: OnceLock<Annotations>,
    status: OnceLock<ResponseStatus>,
    /// Set once the final event is written.
    completed: OnceLock<()>,
}

impl Auditor {
    /// Starts a thread that writes the events that `policy` selects to `sink`, one JSON object a line. Registers its
    /// metrics with `registry`.
    pub fn start(policy: Policy, sink: Box<dyn io::Write + Send>, registry: &Registry) -> io::Result<Self> {
        Ok(Self { policy, log: Log::start(sink, registry)? })
    }

    /// Returns when all earlier events are written, or after five seconds.
    pub async fn flush(&self) {
        self.log.flush().await;
    }
}

impl AuditTrail {
    pub(crate) fn begin(
        auditor: &Arc<Auditor>,
        parts: &Parts,
        info: &RequestInfo,
        peer: IpAddr,
        audit_id: &str,
    ) -> Self {
        Self {
            auditor: Arc::clone(auditor),
            info: info.clone(),
            summary: RequestSummary::new(parts, peer, audit_id),
            user: OnceLock::new(),
            annotations: OnceLock::new(),
            status: OnceLock::new(),
            completed: OnceLock::new(),
        }
    }

    /// The request is authenticated. Writes RequestReceived.
    pub(crate) fn record_user(&self, user: &UserInfo) {
        // This is called once for each request.
        let _ = self.user.set(user.clone());
        self.write(Stage::RequestReceived, self.summary.received);
    }

    /// Authentication failed. Writes ResponseStarted as the only event.
    pub(crate) fn record_unauthenticated(&self) {
        let status = ResponseStatus::failure(StatusCode::UNAUTHORIZED, "Authentication failed");
        self.set_status(status);
        self.write(Stage::ResponseStarted, Timestamp::now());
        self.complete();
    }

    /// The request is authorized or denied. Sets the annotations.
    pub(crate) fn record_decision(&self, decision: &Result<(), ApiError>) {
        let annotations = match decision {
            Ok(()) => Annotations::from([(DECISION, "allow".to_owned())]),
            Err(error) if error.code() == StatusCode::FORBIDDEN => {
                Annotations::from([(DECISION, "forbid".to_owned()), (REASON, error.to_string())])
            }
            Err(_) => Annotations::from([(REASON, "internal error".to_owned())]),
        };
        let _ = self.annotations.set(annotations);
    }

    /// The response is an error.
    pub(crate) fn record_error(&self, error: &ApiError) {
        self.set_status(ResponseStatus::error(error));
    }

    /// The response begins. Writes ResponseStarted for a watch.
    pub(crate) fn record_status(&self, code: StatusCode) {
        self.set_status(ResponseStatus::code(code));
        if self.info.is_long_running() {
            self.write(Stage::ResponseStarted, Timestamp::now());
        }
    }

    /// The handler panicked. Writes Panic as the final event.
    pub(crate) fn record_panic(&self) {
        self.set_status(ResponseStatus::failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request ended in a panic",
        ));
        self.write(Stage::Panic, Timestamp::now());
        self.complete();
    }

    /// Sets the status, unless it is set: an error, with its message, is recorded before its status code.
    fn set_status(&self, status: ResponseStatus) {
        let _ = self.status.set(status);
    }

    fn complete(&self) {
        let _ = self.completed.set(());
    }

    fn write(&self, stage: Stage, at: Timestamp) {
        let Self { auditor, info, .. } = self;
        if self.completed.get().is_some() {
            return;
        }
        let user = self.user.get();
        if auditor.policy.omitted(user, info).is_none_or(|omitted| omitted.contains(stage)) {
            return;
        }
        let resource = match info {
            RequestInfo::Resource(resource) => Some(resource),
            RequestInfo::NonResource(_) => None,
        };
        let (status, annotations) = (self.status.get(), self.annotations.get());
        let details = StageDetails { verb: info.verb(), resource, user, status, annotations };
        auditor.log.push(self.summary.line(stage, at, &details));
    }
}

impl Drop for AuditTrail {
    /// The response was sent, or its client disconnected. Writes ResponseComplete.
    fn drop(&mut self) {
        self.set_status(ResponseStatus::disconnected());
        self.write(Stage::ResponseComplete, Timestamp::now());
    }
}
