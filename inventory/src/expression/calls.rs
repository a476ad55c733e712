//! Calls of functions: what a call may take is counted before it is made.
//!
//! The libraries' functions are handed copies of their arguments (twice, as the interpreter that they are written for
//! has values of its own), and know no limits. So arguments are measured, and what the result may come to is worked out
//! from them, before a function is called.

use std::panic;
use std::sync::Arc;

use kube_cel::cel::Value;
use kube_cel::cel::common::ast::{CallExpr, Expr, IdedExpr};

use super::functions::{Bound, Functions, Native};
use super::measure::{ALLOCATION, Size, VALUE, measure};
use super::operators::{as_optional, optional};
use super::{Failure, budget::Meter, corrections, describe, explain, failed, patterns::Patterns};

/// Copies that are made of arguments, and what a linear function makes of them, by their size.
const COPIES: u64 = 6;
/// The digits that a number may be printed with, beside those that are asked for: the largest has 309.
const DIGITS: u64 = 400;
/// The most digits that may be asked for.
const MOST_PRECISION: u64 = 1_000;

/// A function evaluated here.
pub(super) fn native(
    native: Native,
    operands: &[Value],
    patterns: &mut Patterns,
    meter: &mut Meter<'_>,
) -> Result<Value, Failure> {
    let of_text = |name: &str, meter: &mut Meter<'_>, test: fn(&str, &str) -> bool| match operands {
        [Value::String(text), Value::String(part)] => {
            meter.steps(text.len() as u64 / 64)?;
            Ok(Value::Bool(test(text, part)))
        }
        _ => Err(failed(format!("{name} takes two strings"))),
    };
    match native {
        Native::Size => size(operands, meter),
        Native::Contains => match operands {
            [container @ (Value::List(_) | Value::Map(_)), item] => {
                super::operators::contains(container, item, meter).map(Value::Bool)
            }
            _ => of_text("contains", meter, |text, part| text.contains(part)),
        },
        Native::StartsWith => of_text("startsWith", meter, |text, part| text.starts_with(part)),
        Native::EndsWith => of_text("endsWith", meter, |text, part| text.ends_with(part)),
        Native::Matches => patterns.matches(operands, meter),
        Native::Find => patterns.find(operands, meter),
        Native::FindAll => patterns.find_all(operands, meter),
        Native::OptionalNone => match operands {
            [] => Ok(optional(None)),
            _ => Err(failed("optional.none takes nothing")),
        },
        Native::OptionalOf => match operands {
            [value] => Ok(optional(Some(value.clone()))),
            _ => Err(failed("optional.of takes one value")),
        },
        Native::OptionalOfNonZero => match operands {
            [value] => Ok(optional(Some(value.clone()).filter(|value| !value.is_zero()))),
            _ => Err(failed("optional.ofNonZeroValue takes one value")),
        },
        Native::HasValue | Native::Value | Native::Or | Native::OrValue => of_optional(native, operands),
    }
}

fn of_optional(native: Native, operands: &[Value]) -> Result<Value, Failure> {
    let Some(held) = operands.first().and_then(as_optional) else {
        let got = operands.first().map_or("nothing", describe);
        return Err(failed(format!("expected an optional value, got {got}")));
    };
    let held = held.value();
    match (native, &operands[1..]) {
        (Native::HasValue, []) => Ok(Value::Bool(held.is_some())),
        (Native::Value, []) => held.cloned().ok_or_else(|| failed("the optional value is none")),
        (Native::Or, [other]) if as_optional(other).is_some() => {
            Ok(if held.is_some() { operands[0].clone() } else { other.clone() })
        }
        (Native::OrValue, [other]) => Ok(held.unwrap_or(other).clone()),
        _ => Err(failed("an operator or function does not take values of these types")),
    }
}

fn size(operands: &[Value], meter: &mut Meter<'_>) -> Result<Value, Failure> {
    let size = match operands {
        [Value::List(list)] => list.len(),
        [Value::Map(map)] => map.map.len(),
        [Value::Bytes(bytes)] => bytes.len(),
        [Value::String(text)] => {
            meter.steps(text.len() as u64 / 64)?;
            text.chars().count()
        }
        [other] => return Err(failed(format!("{} has no size", describe(other)))),
        _ => return Err(failed("size takes one value")),
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

/// A function of the libraries.
pub(super) fn library(
    functions: &Functions,
    name: &str,
    bound: Bound,
    this: Option<Value>,
    args: Vec<Value>,
    meter: &mut Meter<'_>,
) -> Result<Value, Failure> {
    let operands: Vec<Value> = this.iter().chain(&args).cloned().collect();
    take(bound, &operands, meter)?;
    if let Some(result) = corrections::call(name, &operands, meter) {
        return result;
    }
    drop(operands);
    let mut context = functions.context().new_inner_scope();
    let mut bind = |name: String, value: Value| {
        context.add_variable_from_value(name.as_str(), value);
        IdedExpr { id: 0, expr: Expr::Ident(name) }
    };
    let target = this.map(|this| Box::new(bind("@this".to_owned(), this)));
    let args = args.into_iter().enumerate().map(|(at, arg)| bind(format!("@{at}"), arg)).collect();
    let call = CallExpr { func_name: name.to_owned(), target, args };
    let call = IdedExpr { id: 0, expr: Expr::Call(call) };
    // The functions are not ours, and a value is anybody's.
    match panic::catch_unwind(panic::AssertUnwindSafe(|| context.resolve(&call))) {
        Ok(result) => result.map_err(|error| explain(error, name)),
        Err(_) => Err(failed("the evaluator failed")),
    }
}

/// Takes what a call may need. `operands` are the target, if there is one, and the arguments.
fn take(bound: Bound, operands: &[Value], meter: &mut Meter<'_>) -> Result<(), Failure> {
    let mut sizes = Vec::with_capacity(operands.len());
    for operand in operands {
        sizes.push(measure(operand, meter)?);
    }
    let size_of = |at: usize| sizes.get(at).copied().unwrap_or_default();
    let all = sizes.iter().copied().fold(Size::default(), Size::and);
    meter.bytes(1_024 + all.bytes.saturating_mul(COPIES))?;
    meter.steps(8 + all.work())?;
    let length = |at: usize| match operands.get(at) {
        Some(Value::List(list)) => list.len() as u64,
        _ => 0,
    };
    let text = |at: usize| match operands.get(at) {
        Some(Value::String(text)) => text.as_str(),
        _ => "",
    };
    match bound {
        Bound::Native(_) | Bound::Linear => Ok(()),
        Bound::Own(steps) => meter.steps(steps),
        Bound::Pairs => {
            let other = usize::from(operands.len() > 1);
            let pairs = length(0).saturating_mul(size_of(other).work());
            meter.steps(pairs.saturating_add(length(other).saturating_mul(size_of(0).work())))
        }
        Bound::Sort => meter.steps(all.work().saturating_mul(1 + u64::from(length(0).max(1).ilog2()))),
        Bound::Sum => match operands.first() {
            // Each sum of texts is a new text.
            Some(Value::List(list)) if list.iter().any(|item| matches!(item, Value::String(_))) => {
                meter.bytes(length(0).saturating_mul(all.bytes))
            }
            Some(Value::List(list)) if list.iter().any(|item| matches!(item, Value::List(_))) => {
                meter.bytes(length(0).saturating_mul(all.bytes))
            }
            _ => Ok(()),
        },
        Bound::Search => match operands.first() {
            Some(Value::String(_)) => {
                let (text, part) = (text(0).len() as u64, text(1).len() as u64);
                meter.steps(text.saturating_mul(1 + part / 16))
            }
            _ => meter.steps(length(0).saturating_mul(1 + size_of(1).work())),
        },
        Bound::Flatten => {
            let depth = all.depth as u64 + 1;
            meter.steps(all.nodes.saturating_mul(depth))?;
            meter.bytes(all.nodes.saturating_mul(VALUE * depth))
        }
        Bound::Replace => {
            let (text, from, to) = (text(0), text(1), text(2));
            meter.steps(text.len() as u64 / 16)?;
            let places = text.matches(from).count() as u64;
            meter.bytes((text.len() as u64).saturating_add(places.saturating_mul(to.len() as u64)))
        }
        Bound::Split => {
            let (text, separator) = (text(0), text(1));
            meter.steps(text.len() as u64 / 16)?;
            let parts = text.matches(separator).count() as u64 + 1;
            meter.steps(parts)?;
            meter.bytes(parts.saturating_mul(COPIES * (VALUE + ALLOCATION)))
        }
        Bound::Join => meter.bytes(length(0).saturating_mul(text(1).len() as u64)),
        Bound::Format => format(text(0), meter),
        Bound::Range => match operands.first() {
            Some(Value::Int(length)) => {
                let length = u64::try_from(*length).unwrap_or(0);
                meter.steps(length)?;
                meter.bytes(length.saturating_mul(3 * VALUE))
            }
            _ => Ok(()),
        },
    }
}

/// What the numbers in a format may come to; its arguments have been counted.
fn format(format: &str, meter: &mut Meter<'_>) -> Result<(), Failure> {
    for clause in format.split('%').skip(1) {
        let precision = clause.strip_prefix('.').map(|rest| {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..digits].parse::<u64>().unwrap_or(u64::MAX)
        });
        let precision = precision.unwrap_or(0);
        if precision > MOST_PRECISION {
            return Err(failed(format!("format: a precision must be {MOST_PRECISION} or less")));
        }
        meter.steps(1 + precision / 64)?;
        meter.bytes(DIGITS + precision)?;
    }
    Ok(())
}

/// A literal text, as a value.
pub(super) fn text(text: &str, meter: &mut Meter<'_>) -> Result<Value, Failure> {
    meter.bytes(ALLOCATION + text.len() as u64)?;
    Ok(Value::String(Arc::new(text.to_owned())))
}
