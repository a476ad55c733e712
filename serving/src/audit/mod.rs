//! The audit log: who asked for what, and what became of it, as kube-apiserver writes it (`audit.k8s.io/v1`).
//!
//! Invariants: bodies and credentials are never in it, whatever the policy asks for: every event is of level Metadata.
//! No request waits for it. Each request that the policy selects has a last event (ResponseComplete or Panic), also
//! when its client goes away; one that nobody could be found to have sent has a single ResponseStarted, as upstream's.

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

/// What an annotation of kube-apiserver's audit log is called.
const DECISION: &str = "authorization.k8s.io/decision";
const REASON: &str = "authorization.k8s.io/reason";

/// Logs the requests that a policy selects.
pub struct Auditor {
    policy: Policy,
    log: Log,
}

/// In a request's extensions: who goes on with its answer elsewhere keeps it until the end.
#[derive(Clone)]
pub struct Kept(#[allow(dead_code, reason = "what counts is when it is dropped")] pub(crate) Arc<Trail>);

/// One request's events.
pub(crate) struct Trail {
    auditor: Arc<Auditor>,
    info: RequestInfo,
    facts: Facts,
    /// Who asks, once that is known.
    user: OnceLock<UserInfo>,
    annotations: OnceLock<Annotations>,
    outcome: OnceLock<Outcome>,
    /// The last event was given.
    over: OnceLock<()>,
}

impl Auditor {
    /// Starts to write to `sink`, a line for each event. What it counts is registered along.
    pub fn start(policy: Policy, sink: Box<dyn io::Write + Send>, registry: &Registry) -> io::Result<Self> {
        Ok(Self { policy, log: Log::start(sink, registry)? })
    }

    /// Returns when everything before has been written, or cannot be.
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

    /// Who asks is known.
    pub(crate) fn identified(&self, user: &UserInfo) {
        // Of two tellings the first holds; there is one place that tells.
        let _ = self.user.set(user.clone());
        self.write(Stage::RequestReceived, self.facts.received);
    }

    /// Nobody vouches for the credentials.
    pub(crate) fn unauthenticated(&self) {
        let outcome = Outcome::failure(StatusCode::UNAUTHORIZED, "Authentication failed");
        self.set_outcome(outcome);
        self.write(Stage::ResponseStarted, Timestamp::now());
        self.end();
    }

    /// Whether the sender may.
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

    /// A Status is the answer.
    pub(crate) fn refused(&self, error: &ApiError) {
        self.set_outcome(Outcome::refusal(error));
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&self, code: StatusCode) {
        self.set_outcome(Outcome::code(code));
        if self.info.is_long_running() {
            self.write(Stage::ResponseStarted, Timestamp::now());
        }
    }

    /// There was a bug.
    pub(crate) fn panicked(&self) {
        self.set_outcome(Outcome::failure(StatusCode::INTERNAL_SERVER_ERROR, "the request ended in a panic"));
        self.write(Stage::Panic, Timestamp::now());
        self.end();
    }

    /// What is known of the answer first says most of it: a Status comes before its code.
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
    /// The answer was sent to its end, or its client went away.
    fn drop(&mut self) {
        self.set_outcome(Outcome::abandoned());
        self.write(Stage::ResponseComplete, Timestamp::now());
    }
}
