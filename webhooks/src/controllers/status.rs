//! Computes the status of a policy, without I/O.

use gatehouse_apiservice::policy::{Example, FieldError, ReconcilePolicy, ReconcilePolicyStatus, RuleCount};
use gatehouse_policy::{ActiveFreeze, Policy};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use super::audit::Findings;
use crate::condition::{Proposed, shortened};

/// How many violations are listed as examples.
const EXAMPLES: usize = 20;
/// The message of the condition Ready while it is True.
const ENFORCED: &str = "the policy is enforced";

/// The status of a policy that compiles, at `now`.
pub(crate) fn of_findings(
    before: &ReconcilePolicy,
    findings: &Findings,
    held_back: usize,
    now: Timestamp,
) -> ReconcilePolicyStatus {
    let policy: &Policy = &findings.policy;
    let rules: Vec<_> = findings
        .by_rule()
        .into_iter()
        .map(|(rule, objects)| RuleCount {
            rule: rule.to_owned(),
            violations: count(objects),
            enforcement: Some(policy.enforcement_of(rule)),
        })
        .collect();
    let violations = findings.broken().len();
    let examples = findings.broken().iter().flat_map(|(place, violations)| {
        violations.iter().map(|violation| Example {
            kind: place.kind.name().to_owned(),
            namespace: place.key.namespace.to_string(),
            name: place.key.name.to_string(),
            rule: violation.rule.to_string(),
            message: violation.message.clone(),
        })
    });
    let conditions = [
        ready(policy),
        if violations == 0 {
            let message = format!("{} judged, none breaks a rule", objects(findings.judged()));
            Proposed { of: "Compliant", status: "True", reason: "NoViolations", message }
        } else {
            let names: Vec<_> = rules.iter().map(|rule| rule.rule.as_str()).collect();
            let verb = if violations == 1 { "breaks" } else { "break" };
            let message = format!("{} {verb} {}", objects(violations), names.join(", "));
            Proposed { of: "Compliant", status: "False", reason: "Violations", message }
        },
    ];
    ReconcilePolicyStatus {
        observed_generation: Some(policy.generation),
        violations: count(violations),
        judged: count(findings.judged()),
        held_back: count(held_back),
        examples: examples.take(EXAMPLES).collect(),
        active_freeze: policy.active_freeze(now).map(|freeze: ActiveFreeze| freeze.name),
        next_change: policy.next_change(now).map(Time),
        conditions: conditions.map(|condition| condition.since(known(before), policy.generation, now)).into(),
        rules,
    }
}

/// The status of a policy that does not compile.
pub(crate) fn of_errors(
    before: &ReconcilePolicy,
    errors: &[FieldError],
    now: Timestamp,
) -> ReconcilePolicyStatus {
    let generation = before.metadata.generation.unwrap_or_default();
    let message = shortened(&errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    let conditions = [
        Proposed { of: "Ready", status: "False", reason: "Invalid", message },
        Proposed {
            of: "Compliant",
            status: "Unknown",
            reason: "NotJudged",
            message: "a policy that does not compile judges nothing".to_owned(),
        },
    ];
    ReconcilePolicyStatus {
        observed_generation: Some(generation),
        conditions: conditions.map(|condition| condition.since(known(before), generation, now)).into(),
        ..ReconcilePolicyStatus::default()
    }
}

/// The status of a policy that compiles while required kinds are unknown. It keeps the last counts, and Compliant is
/// Unknown.
pub(crate) fn of_nothing(
    before: &ReconcilePolicy,
    policy: &Policy,
    reason: &str,
    now: Timestamp,
) -> ReconcilePolicyStatus {
    let generation = policy.generation;
    let conditions = [
        ready(policy),
        Proposed { of: "Compliant", status: "Unknown", reason: "NotObserved", message: shortened(reason) },
    ];
    ReconcilePolicyStatus {
        observed_generation: Some(generation),
        conditions: conditions.map(|condition| condition.since(known(before), generation, now)).into(),
        active_freeze: policy.active_freeze(now).map(|freeze: ActiveFreeze| freeze.name),
        next_change: policy.next_change(now).map(Time),
        ..before.status.clone().unwrap_or_default()
    }
}

/// Whether a policy that compiles does what it is for. Without its parameters, it denies what it cannot judge.
fn ready(policy: &Policy) -> Proposed {
    match policy.trouble() {
        None => Proposed { of: "Ready", status: "True", reason: "Compiled", message: ENFORCED.to_owned() },
        Some(why) => Proposed {
            of: "Ready",
            status: "False",
            reason: "ParametersMissing",
            message: shortened(&format!("{why}: rules that need it are violated by whatever they judge")),
        },
    }
}

/// A merge patch that replaces the status of `policy`: optional fields that `status` lacks are removed. It contains the
/// uid, so that it never applies to another policy with the same name.
pub(crate) fn patch(policy: &ReconcilePolicy, status: &ReconcilePolicyStatus) -> Value {
    let mut body = serde_json::to_value(status).unwrap_or_else(|_| json!({}));
    for optional in ["observedGeneration", "activeFreeze", "nextChange"] {
        if body.get(optional).is_none() {
            body[optional] = Value::Null;
        }
    }
    json!({"metadata": {"uid": policy.metadata.uid}, "status": body})
}

fn known(policy: &ReconcilePolicy) -> impl Iterator<Item = &Condition> {
    policy.status.iter().flat_map(|status| &status.conditions)
}

fn objects(count: usize) -> String {
    if count == 1 { "1 object".to_owned() } else { format!("{count} objects") }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
