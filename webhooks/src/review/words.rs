//! What policies found, in words: one answer to a request, and what its Event is about.

use std::sync::Arc;

use gatehouse_apiservice::policy::{Enforcement, GROUP};
use gatehouse_policy::{Kind, Policy, Violation};
use gatehouse_serving::ApiError;
use gatehouse_serving::error::FieldProblem;

use super::answer::{Annotation, Answer};
use super::request::{self, Request};
use crate::events::Object;

/// The rule that takes a right of its own.
const VERBS: &str = "verbs";

/// A policy, and what it has against a request.
pub(super) struct Finding {
    pub(super) policy: Arc<Policy>,
    pub(super) violations: Vec<Violation>,
    /// The cluster's own words, where a right is missing.
    pub(super) forbidden: Option<ApiError>,
}

/// One answer to all findings: a refusal, if any policy denies; warnings and annotations for all.
pub(super) fn answer(findings: &[Finding]) -> Answer {
    let denying = || findings.iter().filter(|finding| finding.policy.enforcement == Enforcement::Deny);
    let mut answer = match denying().collect::<Vec<_>>().as_slice() {
        [] => Answer::allowed(),
        // Where nothing is missing but a right, the cluster's own words say it best.
        [Finding { forbidden: Some(why), violations, .. }] if violations.len() == 1 => {
            Answer::refused(why.clone())
        }
        several => {
            let sentences = several.iter().map(|finding| {
                let Finding { policy, violations, .. } = finding;
                format!("{} denied the request: {}", named(policy), listed(violations))
            });
            let causes: Vec<_> = several.iter().flat_map(|finding| &finding.violations).map(cause).collect();
            Answer::refused(ApiError::denied(sentences.collect::<Vec<_>>().join("; ")).caused_by(&causes))
        }
    };
    for Finding { policy, violations, .. } in findings {
        for violation in violations {
            answer = answer.annotated(Annotation::Rule, &violation.rule);
            if policy.enforcement == Enforcement::Warn {
                answer = answer.warning(format!("{}: {}", named(policy), described(violation)));
            }
        }
        let decision = match policy.enforcement {
            Enforcement::Deny => "denied",
            Enforcement::Warn => "warned",
            Enforcement::Audit => "audited",
        };
        answer = answer.annotated(Annotation::Policy, &policy.name).annotated(Annotation::Decision, decision);
    }
    answer
}

pub(super) fn missing(why: &ApiError) -> Violation {
    Violation {
        rule: VERBS.into(),
        field: String::new(),
        message: why.to_string(),
        hint: "request the right, or ask someone who has it".to_owned(),
    }
}

fn cause(violation: &Violation) -> FieldProblem {
    let Violation { field, message, .. } = violation;
    FieldProblem { field: field.clone().into(), reason: "FieldValueForbidden", message: message.clone() }
}

pub(super) fn sentence(policy: &Policy, violations: &[Violation]) -> String {
    let verb = if policy.enforcement == Enforcement::Deny { "denied the request" } else { "is broken" };
    format!("{} {verb}: {}", named(policy), listed(violations))
}

fn named(policy: &Policy) -> String {
    format!("reconcilepolicies.{GROUP} {:?}", policy.name)
}

fn listed(violations: &[Violation]) -> String {
    violations.iter().map(described).collect::<Vec<_>>().join("; ")
}

fn described(violation: &Violation) -> String {
    let Violation { rule, field, message, .. } = violation;
    let colon = if field.is_empty() { "" } else { ": " };
    format!("{field}{colon}{message} (rule {rule})")
}

/// What an Event about a request is about.
pub(super) fn regarding(request: &Request<'_>) -> Object {
    let metadata = request.subject().and_then(|raw| serde_json::from_str::<Identified>(raw.get()).ok());
    let Identified { metadata: Identity { name, uid } } = metadata.unwrap_or_default();
    let group = &request.resource.group;
    let slash = if group.is_empty() { "" } else { "/" };
    // A Scale is nothing that anybody looks at: the Event is about what is scaled.
    let kind = match Kind::of_resource(group, &request.resource.resource) {
        Some(kind) => kind.name().to_owned(),
        None => request.kind.kind.clone().into_owned(),
    };
    Object {
        api_version: format!("{group}{slash}{}", request.resource.version),
        kind,
        namespace: request.namespace.clone().into_owned(),
        name: if request.name.is_empty() { name } else { request.name.clone().into_owned() },
        // What is refused at its creation never exists.
        uid: if request.operation == request::Operation::Create { String::new() } else { uid },
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Identified {
    metadata: Identity,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Identity {
    name: String,
    uid: String,
}
