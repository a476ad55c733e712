//! The CEL expressions of the catalogue's rules: their variables, and how an object is bound to them.
//!
//! The variables are `metadata`, `spec` and `status` (maps, empty if the object has none), `object` and `self` (the
//! whole object) and `now`. Three functions are added to Kubernetes' CEL libraries: `nextRun(cron, timestamp)`, the next
//! time of a schedule after a timestamp; `nextDue(cron, timestamp)`, the same for a run that began at that timestamp; and
//! `portion(intOrString, total)`.
//!
//! **Invariant:** All expressions on one object share one budget.

use std::{cell::OnceCell, collections::HashMap, sync::Arc};

use kube_cel::cel::{ExecutionError, Value, objects::Map};

use super::{cron, matching, tree};
use crate::{
    Seconds,
    expression::{Budget, Expression, Functions, Own, describe},
};

/// The variables an expression may use.
const VARIABLES: [&str; 6] = ["metadata", "spec", "status", "object", "self", "now"];

/// The cost of `nextRun` in steps: it searches the days of about forty years at most.
const NEXT_RUN: u64 = 2_000;

const OWN: [Own; 3] = [
    Own { name: "nextRun", signature: "(string, dyn) dyn", steps: NEXT_RUN },
    Own { name: "nextDue", signature: "(string, dyn) dyn", steps: 2 * NEXT_RUN },
    Own { name: "portion", signature: "(dyn, int) int", steps: 1 },
];

/// The functions an expression may use.
pub(super) fn functions() -> Functions {
    Functions::new(&OWN, &[], |context| {
        context.add_function("nextRun", next_run);
        context.add_function("nextDue", next_due);
        context.add_function("portion", portion);
    })
    .nullable()
}

/// Compiles an expression of a rule.
pub(super) fn compile(source: &str, functions: &Functions) -> Result<Expression, String> {
    Expression::compile(source, functions, &VARIABLES)
}

/// An object and its variables, which are built at the first expression and shared by all.
pub(super) struct Scope<'a> {
    pub(super) object: &'a Value,
    pub(super) now: Seconds,
    functions: &'a Functions,
    uses: &'a [&'static str],
    variables: OnceCell<Vec<(&'static str, Value)>>,
    /// The budget of all expressions on the object. If it is exhausted, the rule has an error, as if an expression
    /// failed.
    budget: Budget,
}

impl<'a> Scope<'a> {
    /// `uses` holds the variables of every expression that will be evaluated.
    pub(super) fn new(
        object: &'a Value,
        now: Seconds,
        functions: &'a Functions,
        uses: &'a [&'static str],
    ) -> Self {
        Self { object, now, functions, uses, variables: OnceCell::new(), budget: Budget::new(None) }
    }

    /// When any field of the object was last written, according to `managedFields`.
    pub(super) fn last_written(&self) -> Option<Seconds> {
        let managed = tree::field(self.object, "metadata").and_then(|of| tree::field(of, "managedFields"));
        let Some(Value::List(entries)) = managed else { return None };
        let times = entries.iter().filter_map(|entry| match tree::field(entry, "time") {
            Some(Value::String(time)) => matching::seconds(time),
            _ => None,
        });
        times.max()
    }

    /// The value of an expression.
    pub(super) fn evaluate(&self, expression: &Expression) -> Result<Value, String> {
        let value = expression.evaluate(self.functions, self.variables(), &self.budget);
        value.map_err(|why| why.to_string())
    }

    /// Whether a condition is true.
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

/// `at` as a CEL timestamp; null outside the years that a timestamp supports.
fn timestamp(at: Seconds) -> Value {
    let text = jiff::Timestamp::from_second(at).map(|at| at.to_string());
    text.ok().and_then(|text| text.parse().ok()).map_or(Value::Null, Value::Timestamp)
}

/// `nextRun(schedule, after)`: the next time of a schedule; null if there is none, or if the schedule cannot be parsed.
#[allow(clippy::needless_pass_by_value, reason = "the evaluator hands arguments over by value")]
fn next_run(schedule: Arc<String>, after: Value) -> Result<Value, ExecutionError> {
    scheduled("nextRun", &after, |after| run_after(&schedule, after))
}

/// `nextDue(schedule, last)`: when the run after one that began at `last` is due. A run that began late, or by other
/// means than its time, is not followed by another one at once: as long as the schedule leaves between two runs has to
/// pass.
#[allow(clippy::needless_pass_by_value, reason = "the evaluator hands arguments over by value")]
fn next_due(schedule: Arc<String>, last: Value) -> Result<Value, ExecutionError> {
    scheduled("nextDue", &last, |last| {
        let next = run_after(&schedule, last)?;
        let interval = run_after(&schedule, next).map_or(0, |second| second - next);
        Some(next.max(last.saturating_add(interval)))
    })
}

/// The next time of a schedule. A schedule that its controller accepts and this parser does not is no error of the
/// object.
fn run_after(schedule: &str, after: Seconds) -> Option<Seconds> {
    cron::next_run(schedule, after).ok().flatten()
}

/// The result of a function of a timestamp; null for null.
fn scheduled(
    function: &str,
    of: &Value,
    compute: impl FnOnce(Seconds) -> Option<Seconds>,
) -> Result<Value, ExecutionError> {
    match of {
        Value::Timestamp(of) => Ok(compute(of.timestamp()).map_or(Value::Null, timestamp)),
        Value::Null => Ok(Value::Null),
        other => {
            let message = format!("expected a timestamp, got {}", describe(other));
            Err(ExecutionError::function_error(function, message))
        }
    }
}

/// `portion(value, total)`: the number that an int-or-string such as `maxUnavailable` means; percentages are rounded
/// up.
#[allow(clippy::needless_pass_by_value, reason = "the evaluator hands arguments over by value")]
fn portion(value: Value, total: i64) -> Result<i64, ExecutionError> {
    let wrong = |got: &str| {
        ExecutionError::function_error("portion", format!("expected a number or a percentage, got {got}"))
    };
    match &value {
        Value::Int(number) => Ok(*number),
        Value::String(text) => {
            let percent = text.strip_suffix('%').and_then(|percent| percent.parse::<i64>().ok());
            let percent = percent.filter(|percent| (0..=100).contains(percent)).ok_or_else(|| wrong(text))?;
            Ok((total.clamp(0, i64::from(i32::MAX)) * percent + 99) / 100)
        }
        other => Err(wrong(describe(other))),
    }
}
