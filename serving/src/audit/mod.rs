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
    event::{About, Annotations, Facts, Outcome},
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
pub struct Kept(#[allow(dead_code, reason = "what counts is when it is dropped")] pub(crate) Arc<Trail>);

/// The audit events of one request. Dropping it writes the final one.
pub(crate) struct Trail {
    auditor: Arc<Auditor>,
    info: RequestInfo,
    facts: Facts,
    /// The user, once the request is authenticated.
    user: OnceLock<UserInfo>,
    annotations: OnceLock<Annotations>,
    outcome: OnceLock<Outcome>,
    /// Set once the final event is written.
    over: OnceLock<()>,
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

impl Trail {
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
            facts: Facts::of(parts, peer, audit_id),
            user: OnceLock::new(),
            annotations: OnceLock::new(),
            outcome: OnceLock::new(),
            over: OnceLock::new(),
        }
    }

    /// The request is authenticated. Writes RequestReceived.
    pub(crate) fn identified(&self, user: &UserInfo) {
        // This is called once for each request.
        let _ = self.user.set(user.clone());
        self.write(Stage::RequestReceived, self.facts.received);
    }

    /// Authentication failed. Writes ResponseStarted as the only event.
    pub(crate) fn unauthenticated(&self) {
        let outcome = Outcome::failure(StatusCode::UNAUTHORIZED, "Authentication failed");
        self.set_outcome(outcome);
        self.write(Stage::ResponseStarted, Timestamp::now());
        self.end();
    }

    /// The request is authorized or denied. Sets the annotations.
    pub(crate) fn decided(&self, decision: &Result<(), ApiError>) {
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
    pub(crate) fn refused(&self, error: &ApiError) {
        self.set_outcome(Outcome::refusal(error));
    }

    /// The response begins. Writes ResponseStarted for a watch.
    pub(crate) fn answered(&self, code: StatusCode) {
        self.set_outcome(Outcome::code(code));
        if self.info.is_long_running() {
            self.write(Stage::ResponseStarted, Timestamp::now());
        }
    }

    /// The handler panicked. Writes Panic as the final event.
    pub(crate) fn panicked(&self) {
        self.set_outcome(Outcome::failure(StatusCode::INTERNAL_SERVER_ERROR, "the request ended in a panic"));
        self.write(Stage::Panic, Timestamp::now());
        self.end();
    }

    /// Sets the outcome, unless it is set: an error, with its message, is recorded before its status code.
    fn set_outcome(&self, outcome: Outcome) {
        let _ = self.outcome.set(outcome);
    }

    fn end(&self) {
        let _ = self.over.set(());
    }

    fn write(&self, stage: Stage, at: Timestamp) {
        let Self { auditor, info, .. } = self;
        if self.over.get().is_some() {
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
        let (outcome, annotations) = (self.outcome.get(), self.annotations.get());
        let about = About { verb: info.verb(), resource, user, outcome, annotations };
        auditor.log.push(self.facts.line(stage, at, &about));
    }
}

impl Drop for Trail {
    /// The response was sent, or its client disconnected. Writes ResponseComplete.
    fn drop(&mut self) {
        self.set_outcome(Outcome::abandoned());
        self.write(Stage::ResponseComplete, Timestamp::now());
    }
}
