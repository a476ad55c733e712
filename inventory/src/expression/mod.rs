//! Compiles and evaluates CEL expressions.
//!
//! The language is Kubernetes' CEL: expressions that Kubernetes rejects are rejected here at compile time, and so are
//! features of Kubernetes that are not supported here. The catalogue of kinds and the policies share this module, each
//! with its own variables and functions.
//!
//! **Invariant:** Expressions are compiled when they are written, so evaluation fails only because of the content of an
//! object. Every evaluation stays within a [`Budget`] of steps, bytes and time.

mod addresses;
mod budget;
mod calls;
mod check;
mod composed;
mod conversion;
mod estimate;
mod evaluate;
mod format;
mod functions;
mod lists;
mod macros;
mod measure;
mod names;
mod operators;
mod patterns;
mod quantities;
mod re2;
mod signatures;
#[cfg(test)]
mod tests;
mod text;
mod types;

use std::fmt;

use kube_cel::cel::{ExecutionError, IdedExpr, Value, parser::Parser};

pub use self::budget::{Budget, EXPRESSION_BYTES, EXPRESSION_STEPS, TOTAL_STEPS};
pub use self::composed::{Composed, Memo};
use self::evaluate::Evaluator;
pub use self::functions::{Functions, Own};
pub use self::macros::each_part_mut;
use self::types::Type;
use crate::catalogue::tree;

/// The longest message of a failure, in characters, because the libraries print whole values.
const LONGEST_MESSAGE: usize = 512;

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A field is absent; its name.
    Absent(String),
    /// The budget is exhausted. No operator absorbs this failure.
    Exhausted(&'static str),
    /// The content of the object does not fit the expression.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(field) => write!(f, "No such key: {field}"),
            Self::Exhausted(why) => f.write_str(why),
            Self::Other(why) => f.write_str(why),
        }
    }
}

fn failed(why: impl Into<String>) -> Failure {
    Failure::Other(why.into())
}

/// Shortens an error of the libraries. `what` names the operation.
fn explain(error: ExecutionError, what: &str) -> Failure {
    let message = match error {
        ExecutionError::NoSuchKey(key) => return Failure::Absent(key.to_string()),
        ExecutionError::UnsupportedBinaryOperator(_, left, right) => {
            format!("cannot {what} {} and {}", describe(&left), describe(&right))
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("cannot compare {} with {}", describe(&left), describe(&right))
        }
        ExecutionError::NoSuchOverload => {
            "an operator or function does not take values of these types".to_owned()
        }
        other => other.to_string(),
    };
    match message.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => failed(format!("{}…", &message[..end])),
        None => failed(message),
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    expr: IdedExpr,
    uses: Vec<&'static str>,
    /// The composed expressions that it uses, directly or through others.
    composed: Vec<usize>,
    result: Type,
}

/// The input of an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The values of variables.
    pub variables: &'a [(&'static str, Value)],
    /// The expressions that it may use by name, and their results.
    pub composed: Option<(&'a Composed, &'a Memo)>,
}

impl Expression {
    /// Compiles an expression, and rejects what could only fail later: unknown names, calls that match no overload, and
    /// unsupported features. The message contains the position.
    pub fn compile(
        source: &str,
        functions: &Functions,
        variables: &'static [&'static str],
    ) -> Result<Self, String> {
        Self::compile_with(source, functions, variables, &Composed::default(), |_| Ok(()))
    }

    /// Like [`compile`](Self::compile), for an expression that may use others by name; `rewrite` may replace parts of
    /// the parsed expression before it is checked.
    pub fn compile_with(
        source: &str,
        functions: &Functions,
        variables: &'static [&'static str],
        composed: &Composed,
        rewrite: impl FnOnce(&mut IdedExpr) -> Result<(), String>,
    ) -> Result<Self, String> {
        names::refuse_repeated_signs(source)?;
        let parsed = Parser::new().enable_optional_syntax(true).parse(source).map_err(|errors| {
            let place = |error: &kube_cel::cel::ParseError| {
                format!("line {} column {}: {}", error.pos.0, error.pos.1, error.msg)
            };
            errors.errors.iter().map(place).collect::<Vec<_>>().join("; ")
        });
        let mut parsed = parsed?;
        names::refuse_depth(&parsed)?;
        macros::expand(&mut parsed)?;
        composed::resolve(&mut parsed)?;
        let names = names::used(&parsed, functions, variables, composed);
        let names::Used { variables: uses, composed: others } =
            names.map_err(|unknown| unknown.at_its_place(source))?;
        rewrite(&mut parsed)?;
        let result = check::check(&parsed, functions, composed);
        let result = result.map_err(|refused| refused.at_its_place(source))?;
        Ok(Self { expr: parsed, uses, composed: others, result })
    }

    /// Whether the type of its value is bool.
    pub fn is_truth(&self) -> bool {
        self.result == Type::Bool
    }

    /// Whether the type of its value is string.
    pub fn is_text(&self) -> bool {
        self.result == Type::String
    }

    /// The type of its value, for display.
    pub fn result(&self) -> impl fmt::Display {
        &self.result
    }

    /// The indexes of the composed expressions that it uses, directly or through others.
    pub fn composed(&self) -> &[usize] {
        &self.composed
    }

    /// The variables that it uses, directly or through others: only those fields of an object are converted.
    pub fn uses(&self) -> &[&'static str] {
        &self.uses
    }

    /// Rejects, at compile time, expressions that would cost too much on an ordinary object, and invalid patterns.
    pub fn estimate(&self, functions: &Functions, composed: &Composed) -> Result<(), String> {
        estimate::check(&self.expr, functions, composed)
    }

    /// Evaluates it on these variables.
    pub fn evaluate(
        &self,
        functions: &Functions,
        variables: &[(&'static str, Value)],
        budget: &Budget,
    ) -> Result<Value, Failure> {
        self.evaluate_on(functions, Known { variables, composed: None }, budget)
    }

    /// Like [`evaluate`](Self::evaluate), for a condition.
    pub fn holds(
        &self,
        functions: &Functions,
        variables: &[(&'static str, Value)],
        budget: &Budget,
    ) -> Result<bool, Failure> {
        self.holds_on(functions, Known { variables, composed: None }, budget)
    }

    /// Evaluates it on the given input.
    pub fn evaluate_on(
        &self,
        functions: &Functions,
        known: Known<'_>,
        budget: &Budget,
    ) -> Result<Value, Failure> {
        Evaluator::new(functions, known, budget.meter()).evaluate(&self.expr)
    }

    /// Like [`evaluate_on`](Self::evaluate_on), for a condition.
    pub fn holds_on(
        &self,
        functions: &Functions,
        known: Known<'_>,
        budget: &Budget,
    ) -> Result<bool, Failure> {
        match self.evaluate_on(functions, known, budget)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(failed(format!("expected a boolean, got {}", describe(&other)))),
        }
    }
}

/// Converts JSON into a CEL value: integers are `int` regardless of their sign.
pub fn value_of(json: &serde_json::Value) -> Value {
    // Every JSON value can be converted; none is interpreted as a special type.
    tree::of(json).unwrap_or(Value::Null)
}

/// The type of a value, as error messages name it.
pub fn describe(value: &Value) -> &'static str {
    match value {
        Value::Map(_) => "a map",
        Value::List(_) => "a list",
        Value::String(_) => "a string",
        Value::Bytes(_) => "bytes",
        Value::Bool(_) => "a boolean",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::Timestamp(_) => "a timestamp",
        Value::Duration(_) => "a duration",
        Value::Null => "null",
        value if operators::as_optional(value).is_some() => "an optional value",
        value if conversion::as_type(value).is_some() => "a type",
        _ => "something else",
    }
}
