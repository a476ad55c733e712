//! The expressions of the catalogue's rules: their variables, and an object as these.
//!
//! The variables are `metadata`, `spec` and `status` (maps, empty where the object has none), `object` and
//! `self` (the whole object) and `now`. Beside Kubernetes' CEL libraries there is `nextRun(cron, timestamp)`: when a
//! schedule is due next after an instant.

use std::{cell::OnceCell, collections::HashMap, sync::Arc};

use kube_cel::cel::{ExecutionError, Value, objects::Map};

use super::tree;
use crate::{
    Seconds,
    expression::{Budget, Expression, Functions, describe},
};

/// The variables an expression may use.
const VARIABLES: [&str; 6] = ["metadata", "spec", "status", "object", "self", "now"];

/// Steps of `nextRun`: for a schedule that is never due, thousands of years are looked through.
const NEXT_RUN: u64 = 20_000;

/// The functions an expression may use.
pub(super) fn functions() -> Functions {
    Functions::new(&[("nextRun", NEXT_RUN)], |context| context.add_function("nextRun", next_run))
}

/// Compiles an expression of a rule.
pub(super) fn compile(source: &str, functions: &Functions) -> Result<Expression, String> {
    Expression::compile(source, functions, &VARIABLES)
}

/// An object, and what expressions see of it: made at the first expression, used by all.
pub(super) struct Scope<'a> {
    pub(super) object: &'a Value,
    pub(super) now: Seconds,
    functions: &'a Functions,
    uses: &'a [&'static str],
    variables: OnceCell<Vec<(&'static str, Value)>>,
    /// What all expressions may take on the object. Where it is not enough, the rule has an error, as where an
    /// expression fails.
    budget: Budget,
}

impl<'a> Scope<'a> {
    /// `uses`: the variables of every expression that will be evaluated.
    pub(super) fn new(
        object: &'a Value,
        now: Seconds,
        functions: &'a Functions,
        uses: &'a [&'static str],
    ) -> Self {
        Self { object, now, functions, uses, variables: OnceCell::new(), budget: Budget::new(None) }
    }

    /// The value of an expression.
    pub(super) fn evaluate(&self, expression: &Expression) -> Result<Value, String> {
        let value = expression.evaluate(self.functions, self.variables(), &self.budget);
        value.map_err(|why| why.to_string())
    }

    /// Whether a condition holds.
    pub(super) fn holds(&self, expression: &Expression) -> Result<bool, String> {
        let holds = expression.holds(self.functions, self.variables(), &self.budget);
        holds.map_err(|why| why.to_string())
    }

    fn variables(&self) -> &[(&'static str, Value)] {
        let all = || self.uses.iter().map(|name| (*name, self.variable(name))).collect();
        self.variables.get_or_init(all)
    }

    fn variable(&self, name: &str) -> Value {
        match name {
            "now" => timestamp(self.now),
            "object" | "self" => self.object.clone(),
            field => {
                let empty = || Value::Map(Map { map: Arc::new(HashMap::new()) });
                tree::field(self.object, field).cloned().unwrap_or_else(empty)
            }
        }
    }
}

/// `at` as a CEL timestamp; null outside the years a timestamp can have.
fn timestamp(at: Seconds) -> Value {
    let text = jiff::Timestamp::from_second(at).map(|at| at.to_string());
    text.ok().and_then(|text| text.parse().ok()).map_or(Value::Null, Value::Timestamp)
}

/// `nextRun(schedule, after)`: cron with five fields, `@daily` and the like, or `@every 6h`, in UTC.
#[allow(clippy::needless_pass_by_value, reason = "the evaluator hands arguments over by value")]
fn next_run(schedule: Arc<String>, after: Value) -> Result<Value, ExecutionError> {
    let next = match &after {
        Value::Timestamp(after) => due_after(&schedule, after.timestamp()),
        other => Err(format!("expected a timestamp, got {}", describe(other))),
    };
    next.map(timestamp).map_err(|message| ExecutionError::function_error("nextRun", message))
}

fn due_after(schedule: &str, after: Seconds) -> Result<Seconds, String> {
    if let Some(every) = schedule.strip_prefix("@every ") {
        let every: jiff::SignedDuration =
            every.trim().parse().map_err(|error| format!("{every:?} is not a duration: {error}"))?;
        return Ok(after.saturating_add(every.as_secs()));
    }
    let cron: croner::Cron =
        schedule.parse().map_err(|error| format!("{schedule:?} is not a schedule: {error}"))?;
    let Value::Timestamp(utc) = timestamp(after) else { return Err("the timestamp is out of range".into()) };
    let next = cron.find_next_occurrence(&utc, false).map_err(|error| error.to_string())?;
    Ok(next.timestamp())
}
