//! Compares the expected decision with the actual one.

use std::fmt::Write;

use serde_json::Value;

use super::{
    decide::{Broken, Decided, OWN},
    find::Suite,
    format::{Decision, Expect, Violation},
    world::World,
};
use crate::report::Problem;

/// Expectations that name something that does not exist, or contradict themselves: they could never be met, or never
/// fail.
pub(super) fn unknown(suite: &Suite, world: &World, index: usize) -> Vec<Problem> {
    let expect = &suite.test.cases[index].expect;
    let at = format!("cases[{index}].expect");
    let mut problems = Vec::new();
    let violations = expect.violations.as_deref().unwrap_or_default();
    match (expect.decision, &expect.violations) {
        (Decision::Denied | Decision::Warned | Decision::Audited, Some(list)) if list.is_empty() => {
            let message = format!("must not be empty: {:?} needs a broken rule", expect.decision);
            problems.push(suite.problem(&format!("{at}.violations"), message));
        }
        (Decision::Allowed, Some(list)) if !list.is_empty() => {
            let message = "what is Allowed breaks no rule: expect Warned or Audited";
            problems.push(suite.problem(&format!("{at}.violations"), message));
        }
        _ => {}
    }
    let rules = world.rules();
    for (number, Violation { policy, rule, message, .. }) in violations.iter().enumerate() {
        let field = |name: &str| format!("{at}.violations[{number}].{name}");
        let known: Vec<&str> = rules
            .iter()
            .filter(|(name, _)| policy.as_ref().is_none_or(|policy| policy == name))
            .flat_map(|(_, rules)| rules.iter().map(String::as_str))
            .collect();
        if let Some(policy) = policy.as_ref().filter(|_| known.is_empty()) {
            let names = rules.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("no policy and no quota is named {policy:?}: there is {names}");
            problems.push(suite.problem(&field("policy"), message));
        } else if !known.contains(&rule.as_str()) {
            let of = policy.as_deref().map_or("no policy", |policy| policy);
            let message = if policy.is_some() {
                format!("{of} has no rule {rule:?}: it has {}", known.join(", "))
            } else {
                format!("no policy has a rule {rule:?}: there is {}", known.join(", "))
            };
            problems.push(suite.problem(&field("rule"), message));
        }
        if message.as_ref().is_some_and(String::is_empty) {
            problems.push(suite.problem(&field("message"), "must not be empty"));
        }
    }
    problems
}

impl World {
    /// The rules of each policy, and the limits of each quota.
    fn rules(&self) -> Vec<(String, Vec<String>)> {
        let policies = self
            .rulesets
            .policies
            .iter()
            .map(|ruleset| (ruleset.compiled.name.clone(), ruleset.rules.clone()));
        let quotas = self.rulesets.quotas.iter().map(|ruleset| {
            let limits = ruleset.compiled.hard.keys().map(ToString::to_string);
            (ruleset.compiled.name.clone(), limits.chain(["usage".to_owned()]).collect())
        });
        policies.chain(quotas).chain([(OWN.0.to_owned(), vec![OWN.1.to_owned()])]).collect()
    }
}

/// The differences from the expectation, one a line.
pub(super) fn differences(expect: &Expect, decided: &Decided) -> Vec<String> {
    let mut lines = Vec::new();
    if expect.decision != decided.decision {
        lines.push(format!("decision: expected {:?}, got {:?}", expect.decision, decided.decision));
    }
    if let Some(expected) = &expect.violations {
        for violation in
            expected.iter().filter(|expected| !decided.broken.iter().any(|broken| is(expected, broken)))
        {
            lines.push(format!("- {}", described(violation)));
        }
        for broken in
            decided.broken.iter().filter(|broken| !expected.iter().any(|expected| is(expected, broken)))
        {
            lines.push(format!("+ {}", broken_text(broken)));
        }
    } else if !lines.is_empty() {
        lines.extend(decided.broken.iter().map(|broken| format!("+ {}", broken_text(broken))));
    }
    if let Some(expected) = &expect.object {
        match &decided.object {
            Some(object) => differing("", expected, object, &mut lines),
            None => lines.push("object: there is none after a deletion".to_owned()),
        }
    }
    lines
}

fn is(expected: &Violation, broken: &Broken) -> bool {
    let Violation { policy, rule, field, message } = expected;
    policy.as_ref().is_none_or(|policy| *policy == broken.policy)
        && *rule == broken.rule
        && field.as_ref().is_none_or(|field| *field == broken.field)
        && message.as_ref().is_none_or(|message| broken.message.contains(message.as_str()))
}

fn described(Violation { policy, rule, field, message }: &Violation) -> String {
    let mut text = format!("{}/{rule}", policy.as_deref().unwrap_or("*"));
    if let Some(field) = field {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {field}");
    }
    if let Some(message) = message {
        let _ = write!(text, ": … {message} …");
    }
    text
}

fn broken_text(Broken { policy, rule, field, message, .. }: &Broken) -> String {
    let colon = if field.is_empty() { "" } else { ": " };
    format!("{policy}/{rule}: {field}{colon}{message}")
}

/// The fields of `expected` that differ in `object`. Lists must be equal.
fn differing(at: &str, expected: &Value, object: &Value, lines: &mut Vec<String>) {
    match (expected, object) {
        (Value::Object(fields), Value::Object(_)) => {
            for (name, expected) in fields {
                let field = if name.contains(['.', '/']) {
                    format!("{at}[{name:?}]")
                } else if at.is_empty() {
                    name.clone()
                } else {
                    format!("{at}.{name}")
                };
                differing(&field, expected, object.get(name).unwrap_or(&Value::Null), lines);
            }
        }
        (expected, object) if expected == object => {}
        (expected, object) => {
            lines.push(format!("{at}: expected {}, got {}", shown(expected), shown(object)));
        }
    }
}

fn shown(value: &Value) -> String {
    if value.is_null() { "nothing".to_owned() } else { value.to_string() }
}
