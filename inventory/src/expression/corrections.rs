//! Functions that the libraries get wrong for values that objects may hold: quantities and durations that are large, and
//! numbers that are none.
//!
//! The libraries' quantities wrap around beyond 128 bits, so that `1e200` may be less than `1`. Their durations take
//! anything after the first unit and are counted in 32 bits, so that `720h` has a negative number of milliseconds.
//! These functions have the same names and give right values, or an error.

use std::cmp::Ordering;
use std::sync::Arc;

use gatehouse_apiservice::duration;
use gatehouse_apiservice::quantity::{self, QuantityError};
use kube_cel::cel::Value;
use kube_cel::cel::objects::Opaque;

use super::{Failure, budget::Meter, describe, failed, operators};

type Evaluated = Result<Value, Failure>;

/// Thousand-millionths in one.
const NANOS: i128 = 1_000_000_000;
/// 2⁶³ and 2⁶⁴, which are the first doubles beyond `int` and `uint`.
const BEYOND_INT: f64 = 9_223_372_036_854_775_808.0;
const BEYOND_UINT: f64 = 18_446_744_073_709_551_616.0;

/// A quantity in thousand-millionths, as exact as Kubernetes keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Quantity(i128);

impl Opaque for Quantity {
    fn runtime_type_name(&self) -> &'static str {
        "kubernetes.Quantity"
    }
}

/// What a function gives; none, if the libraries' own is right for these operands. Takes steps for what it compares.
pub(super) fn call(name: &str, operands: &[Value], meter: &mut Meter<'_>) -> Option<Evaluated> {
    match (name, operands) {
        ("quantity", [Value::String(text)]) => Some(of_text(text)),
        ("isQuantity", [Value::String(text)]) => {
            let is_one = matches!(quantity::nanos(text), Ok(_) | Err(QuantityError::Overflow));
            Some(Ok(Value::Bool(is_one)))
        }
        ("duration", [Value::String(text)]) => Some(duration_of(text)),
        ("int", [Value::Float(number)]) if !(-BEYOND_INT..BEYOND_INT).contains(number) => {
            Some(Err(failed("integer overflow")))
        }
        ("uint", [Value::Float(number)]) if !(0.0..BEYOND_UINT).contains(number) => {
            Some(Err(failed("unsigned integer overflow")))
        }
        ("math.greatest" | "math.least", operands) => {
            let wanted = if name == "math.greatest" { Ordering::Greater } else { Ordering::Less };
            let operands = match operands {
                [Value::List(list)] => list.as_slice(),
                operands => operands,
            };
            extremum(operands, wanted, meter).transpose()
        }
        (_, [Value::Duration(duration)]) => {
            // Nothing makes a duration that is too long for it.
            let nanos = duration.num_nanoseconds()?;
            let unit = match name {
                "getHours" => 3_600_000_000_000,
                "getMinutes" => 60_000_000_000,
                "getSeconds" => 1_000_000_000,
                "getMilliseconds" => 1_000_000,
                _ => return None,
            };
            Some(Ok(Value::Int(nanos / unit)))
        }
        (_, [this, rest @ ..]) => of_quantity(name, *as_quantity(this)?, rest),
        _ => None,
    }
}

/// The least or greatest of numbers. Only numbers: `None` leaves what else there is to the library.
fn extremum(operands: &[Value], wanted: Ordering, meter: &mut Meter<'_>) -> Result<Option<Value>, Failure> {
    let is_number = |value: &Value| matches!(value, Value::Int(_) | Value::UInt(_) | Value::Float(_));
    let Some(mut most) = operands.first().filter(|_| operands.iter().all(is_number)) else {
        return Ok(None);
    };
    for operand in operands {
        match operators::order(operand, most, meter)? {
            Some(order) if order == wanted => most = operand,
            Some(_) => {}
            None => return Err(failed("cannot compare NaN")),
        }
    }
    Ok(Some(most.clone()))
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

/// The other operand of a method; numbers are added and subtracted too.
fn with(name: &str, other: &Value) -> Result<i128, Failure> {
    match other {
        Value::Int(number) if matches!(name, "add" | "sub") => Ok(i128::from(*number) * NANOS),
        other => as_quantity(other)
            .map(|quantity| quantity.0)
            .ok_or_else(|| failed(format!("{name} takes a quantity, got {}", describe(other)))),
    }
}

/// A duration as Go reads it.
fn duration_of(text: &str) -> Evaluated {
    let read = duration::parse(text).map_err(|why| failed(format!("duration: {text:?} {why}")))?;
    // Each part is a number of nanoseconds that the library's floats hold exactly.
    let nanos = read.as_nanos();
    let part = |unit: i128, of: i128| (nanos % of / unit).abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let hour = 3_600 * NANOS;
    let parts = format!("{sign}{}h{}s{}ns", part(hour, i128::MAX), part(NANOS, hour), part(1, NANOS));
    let made = kube_cel::cel::functions::time::duration(Arc::new(parts));
    made.map_err(|error| super::explain(error, "duration"))
}
