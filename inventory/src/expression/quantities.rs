//! Functions of quantities, which replace those of the libraries. The library functions wrap around beyond 128 bits, so
//! `1e200` could be less than `1`.
//!
//! **Invariant:** These functions return a correct value or an error.

use std::sync::Arc;

use gatehouse_apiservice::quantity::{self, QuantityError};
use kube_cel::cel::Value;
use kube_cel::cel::objects::Opaque;

use super::{Failure, describe, failed};

type Evaluated = Result<Value, Failure>;

/// Billionths in one.
const NANOS: i128 = 1_000_000_000;

/// A quantity in billionths, the precision of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Quantity(i128);

impl Opaque for Quantity {
    fn runtime_type_name(&self) -> &'static str {
        "kubernetes.Quantity"
    }
}

/// The result of a function; `None` if it is not a function of quantities.
pub(super) fn call(name: &str, operands: &[Value]) -> Option<Evaluated> {
    match (name, operands) {
        ("quantity", [Value::String(text)]) => Some(of_text(text)),
        ("isQuantity", [Value::String(text)]) => {
            let is_one = matches!(quantity::nanos(text), Ok(_) | Err(QuantityError::Overflow));
            Some(Ok(Value::Bool(is_one)))
        }
        (_, [this, rest @ ..]) => of_quantity(name, *as_quantity(this)?, rest),
        _ => None,
    }
}

fn of_text(text: &str) -> Evaluated {
    let nanos = quantity::nanos(text).map_err(|error| failed(format!("quantity: {error}")))?;
    Ok(made(nanos))
}

fn made(nanos: i128) -> Value {
    Value::Opaque(Arc::new(Quantity(nanos)))
}

fn as_quantity(value: &Value) -> Option<&Quantity> {
    let Value::Opaque(opaque) = value else { return None };
    opaque.downcast_ref::<Quantity>()
}

/// A method of a quantity.
fn of_quantity(name: &str, Quantity(nanos): Quantity, rest: &[Value]) -> Option<Evaluated> {
    let whole = || (nanos % NANOS == 0).then(|| i64::try_from(nanos / NANOS).ok()).flatten();
    Some(match (name, rest) {
        ("isInteger", []) => Ok(Value::Bool(whole().is_some())),
        ("asInteger", []) => {
            whole().map(Value::Int).ok_or_else(|| failed("asInteger: the quantity is no integer"))
        }
        #[allow(clippy::cast_precision_loss, reason = "it is approximate by its name")]
        ("asApproximateFloat", []) => Ok(Value::Float(nanos as f64 / NANOS as f64)),
        ("sign", []) => Ok(Value::Int(nanos.signum() as i64)),
        ("add" | "sub", [other]) => with(name, other).and_then(|other| {
            let sum = if name == "add" { nanos.checked_add(other) } else { nanos.checked_sub(other) };
            sum.map(made).ok_or_else(|| failed(format!("{name}: out of range")))
        }),
        ("isGreaterThan", [other]) => with(name, other).map(|other| Value::Bool(nanos > other)),
        ("isLessThan", [other]) => with(name, other).map(|other| Value::Bool(nanos < other)),
        ("compareTo", [other]) => with(name, other).map(|other| Value::Int(nanos.cmp(&other) as i64)),
        _ => return None,
    })
}

/// The other operand of a method; addition and subtraction also accept numbers.
fn with(name: &str, other: &Value) -> Result<i128, Failure> {
    match other {
        Value::Int(number) if matches!(name, "add" | "sub") => Ok(i128::from(*number) * NANOS),
        other => as_quantity(other)
            .map(|quantity| quantity.0)
            .ok_or_else(|| failed(format!("{name} takes a quantity, got {}", describe(other)))),
    }
}
