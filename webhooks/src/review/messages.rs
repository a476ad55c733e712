//! Formats the findings of policies: the response to a request, and what its Event refers to.

use std::sync::Arc;

use gatehouse_apiservice::denial;
use gatehouse_apiservice::policy::Enforcement;
use gatehouse_policy::{Kind, Operation, Policy, Verb, Violation};
use gatehouse_serving::ApiError;
use gatehouse_serving::error::FieldProblem;
use gatehouse_serving::events::Object;

use super::answer::{Annotation, Answer};
use super::request::Request;

/// The rules about rights: to suspend, resume and reconcile, and to make an object exempt.
const VERBS: &str = "verbs";
const EXEMPT: &str = "exempt";

/// A policy, and its violations by a request.
pub(super) struct Finding {
    pub(super) policy: Arc<Policy>,
    pub(super) violations: Vec<Violation>,
    /// The message of the authorizer, if a right is missing.
    pub(super) forbidden: Option<ApiError>,
}

impl Finding {
    /// The violations of rules with this enforcement.
    pub(super) fn enforced(&self, enforcement: Enforcement) -> impl Iterator<Item = &Violation> {
        self.violations
            .iter()
            .filter(move |violation| self.policy.enforcement_of(&violation.rule) == enforcement)
    }

    /// Whether the policy denies the request.
    pub(super) fn denies(&self) -> bool {
        self.enforced(Enforcement::Deny).next().is_some()
    }
}

/// The response to all findings: a denial if any violated rule denies, with warnings and annotations for all of them.
pub(super) fn answer(findings: &[Finding]) -> Answer {
    let denying: Vec<_> = findings.iter().filter(|finding| finding.denies()).collect();
    let mut answer = match denying.as_slice() {
        [] => Answer::allowed(),
        // If only a right is missing, the message of the authorizer is returned unchanged.
        [finding @ Finding { forbidden: Some(why), .. }]
            if finding.enforced(Enforcement::Deny).all(|violation| is_right(&violation.rule)) =>
        {
            Answer::refused(why.clone())
        }
        several => {
            let refusals = several
                .iter()
                .map(|finding| (&*finding.policy.name, listed(finding.enforced(Enforcement::Deny))));
            let message = denial::by_policies(refusals);
            let denied = several.iter().flat_map(|finding| finding.enforced(Enforcement::Deny));
            let causes: Vec<_> = denied.map(cause).collect();
            Answer::refused(ApiError::denied(message).caused_by(&causes))
        }
    };
    for finding in findings {
        let policy = &finding.policy;
        for violation in &finding.violations {
            answer = answer.annotated(Annotation::Rule, &violation.rule);
            if policy.enforcement_of(&violation.rule) == Enforcement::Warn {
                answer =
                    answer.warning(format!("{}: {}", denial::policy(&policy.name), described(violation)));
            }
        }
        answer = answer.annotated(Annotation::Policy, &policy.name);
        for (enforcement, decision) in DECISIONS {
            if finding.enforced(enforcement).next().is_some() {
                answer = answer.annotated(Annotation::Decision, decision);
            }
        }
    }
    answer
}

/// The decision by enforcement, in metrics and the audit log.
pub(super) const DECISIONS: [(Enforcement, &str); 3] =
    [(Enforcement::Deny, "denied"), (Enforcement::Warn, "warned"), (Enforcement::Audit, "audited")];

fn is_right(rule: &str) -> bool {
    matches!(rule, VERBS | EXEMPT)
}

/// The rule that requires a verb.
pub(super) fn rule_of(verb: Verb) -> &'static str {
    if verb == Verb::Exempt { EXEMPT } else { VERBS }
}

/// The violation for a missing right.
pub(super) fn missing(verb: Verb, why: &ApiError) -> Violation {
    Violation {
        rule: rule_of(verb).into(),
        field: String::new(),
        message: why.to_string(),
        hint: "request the right, or ask someone who has it".to_owned(),
    }
}

fn cause(violation: &Violation) -> FieldProblem {
    let Violation { field, message, .. } = violation;
    FieldProblem { field: field.clone().into(), reason: "FieldValueForbidden", message: message.clone() }
}

pub(super) fn sentence<'v>(
    policy: &Policy,
    enforcement: Enforcement,
    violations: impl Iterator<Item = &'v Violation>,
) -> String {
    if enforcement == Enforcement::Deny {
        return denial::by_policies([(&*policy.name, listed(violations))]);
    }
    format!("{} is broken: {}", denial::policy(&policy.name), listed(violations))
}

fn listed<'v>(violations: impl Iterator<Item = &'v Violation>) -> String {
    violations.map(described).collect::<Vec<_>>().join("; ")
}

fn described(violation: &Violation) -> String {
    let Violation { rule, field, message, .. } = violation;
    let colon = if field.is_empty() { "" } else { ": " };
    format!("{field}{colon}{message} (rule {rule})")
}

/// The object that an Event about a request refers to.
pub(super) fn regarding(request: &Request<'_>) -> Object {
    let metadata = request.subject().and_then(|raw| serde_json::from_str::<Identified>(raw.get()).ok());
    let Identified { metadata: Identity { name, uid } } = metadata.unwrap_or_default();
    let group = &request.resource.group;
    let slash = if group.is_empty() { "" } else { "/" };
    // The Event refers to the scaled object, not to the Scale.
    let kind = match Kind::of_resource(group, &request.resource.resource) {
        Some(kind) => kind.name().to_owned(),
        None => request.kind.kind.clone().into_owned(),
    };
    Object {
        api_version: format!("{group}{slash}{}", request.resource.version),
        kind,
        namespace: request.namespace.clone().into_owned(),
        name: if request.name.is_empty() { name } else { request.name.clone().into_owned() },
        // An object whose creation is denied has no uid.
        uid: if request.operation == Operation::Create { String::new() } else { uid },
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
