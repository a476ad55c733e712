//! Calls functions within the budget.
//!
//! The functions of the libraries receive copies of their arguments (twice, because the interpreter that they are
//! written for has its own value type) and have no limits.
//!
//! **Invariant:** Arguments are measured, and the maximum size of the result is computed from them and counted, before
//! a function is called.

use std::panic;
use std::sync::Arc;

use kube_cel::cel::Value;
use kube_cel::cel::common::ast::{CallExpr, Expr, IdedExpr};

use super::functions::{Bound, Functions, Native};
use super::measure::{ALLOCATION, Size, VALUE, measure};
use super::operators::{as_optional, optional};
use super::{
    Failure, addresses, budget::Meter, check, conversion, describe, explain, failed, lists,
    patterns::Patterns, quantities, signatures, text,
};

/// The number of copies of the arguments, including the result of a linear function.
const COPIES: u64 = 6;

/// Calls a function that this crate evaluates.
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
        Native::Contains => of_text("contains", meter, |text, part| text.contains(part)),
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
            [value] => Ok(optional(Some(value.clone()).filter(|value| !is_zero(value)))),
            _ => Err(failed("optional.ofNonZeroValue takes one value")),
        },
        Native::HasValue | Native::Value | Native::Or | Native::OrValue => of_optional(native, operands),
    }
}

/// Whether `optional.ofNonZeroValue` treats the value as zero.
fn is_zero(value: &Value) -> bool {
    match value {
        // The zero time of Go, not of Unix.
        Value::Timestamp(time) => time.timestamp() == -62_135_596_800 && time.timestamp_subsec_nanos() == 0,
        value => value.is_zero(),
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

/// Calls a function of the libraries.
pub(super) fn library(
    functions: &Functions,
    name: &str,
    bound: Bound,
    this: Option<Value>,
    args: Vec<Value>,
    meter: &mut Meter<'_>,
) -> Result<Value, Failure> {
    let is_method = this.is_some();
    let operands: Vec<Value> = this.into_iter().chain(args).collect();
    admitted(functions, name, is_method, &operands.iter().collect::<Vec<_>>())?;
    take(bound, &operands, meter)?;
    if let Some(result) = own(name, &operands, meter) {
        return result;
    }
    if let Some(result) = quantities::call(name, &operands) {
        return result;
    }
    let mut operands = operands;
    if let ("semver", Some(Value::String(version))) = (name, operands.first_mut()) {
        *version = Arc::new(addresses::without_build(version).to_owned());
    }
    let mut args = operands;
    let this = is_method.then(|| args.remove(0));
    let result = upstream(functions, name, this, args)?;
    // The library returns a format or null, Kubernetes an optional value.
    if name == "format.named" {
        return Ok(optional(Some(result).filter(|format| !matches!(format, Value::Null))));
    }
    Ok(result)
}

/// Rejects values that no overload accepts.
pub(super) fn admitted(
    functions: &Functions,
    name: &str,
    is_method: bool,
    operands: &[&Value],
) -> Result<(), Failure> {
    if signatures::admits(functions.overloads(name), is_method, operands) {
        return Ok(());
    }
    let operands: Vec<String> = operands.iter().map(|operand| describe(operand).to_owned()).collect();
    Err(failed(check::no_overload(name, is_method, &operands)))
}

/// A function that the libraries lack, or define differently from Kubernetes.
fn own(name: &str, operands: &[Value], meter: &mut Meter<'_>) -> Option<Result<Value, Failure>> {
    let optionals = |list: &[Value]| -> Vec<Value> {
        list.iter().filter_map(|item| as_optional(item)?.value().cloned()).collect()
    };
    Some(match (name, operands) {
        ("dyn", [value]) => Ok(value.clone()),
        ("type", [value]) => Ok(conversion::named_type(conversion::type_of(value))),
        ("string", [value]) if !matches!(value, Value::Opaque(_)) || conversion::as_type(value).is_some() => {
            conversion::string(value).map(|text| Value::String(Arc::new(text)))
        }
        ("int", [value]) => conversion::int(value),
        ("uint", [value]) => conversion::uint(value),
        ("double", [value]) => conversion::double(value),
        ("bool", [value]) => conversion::boolean(value),
        ("bytes", [value]) => conversion::bytes(value),
        ("duration", [value]) => conversion::duration(value),
        ("timestamp", [value]) => conversion::timestamp(value),
        (name, operands @ [Value::Timestamp(_) | Value::Duration(_), ..]) if name.starts_with("get") => {
            conversion::time_part(name, operands)
        }
        ("optional.unwrap" | "unwrapOpt", [Value::List(list)]) => Ok(Value::List(Arc::new(optionals(list)))),
        (_, operands) => {
            let called = text::call(name, operands, meter)
                .or_else(|| lists::call(name, operands, meter))
                .or_else(|| addresses::call(name, operands));
            if called.is_some() {
                return called;
            }
            return None;
        }
    })
}

/// Passes a call to the libraries.
fn upstream(
    functions: &Functions,
    name: &str,
    this: Option<Value>,
    args: Vec<Value>,
) -> Result<Value, Failure> {
    let mut context = functions.context().new_inner_scope();
    let mut bind = |name: String, value: Value| {
        context.add_variable_from_value(name.as_str(), value);
        IdedExpr { id: 0, expr: Expr::Ident(name) }
    };
    let target = this.map(|this| Box::new(bind("@this".to_owned(), this)));
    let args = args.into_iter().enumerate().map(|(at, arg)| bind(format!("@{at}"), arg)).collect();
    let call = CallExpr { func_name: name.to_owned(), target, args };
    let call = IdedExpr { id: 0, expr: Expr::Call(call) };
    // The functions are third-party code and the values are untrusted, so a panic is caught.
    match panic::catch_unwind(panic::AssertUnwindSafe(|| context.resolve(&call))) {
        Ok(result) => result.map_err(|error| explain(error, name)),
        Err(_) => Err(failed("the evaluator failed")),
    }
}

/// Counts the maximum cost of a call. `operands` are the target, if there is one, and the arguments.
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
        // The cost of formatting is counted during the formatting.
        Bound::Native(_) | Bound::Linear | Bound::Format => Ok(()),
        Bound::Own(steps) => meter.steps(steps),
        Bound::Pairs => {
            let other = usize::from(operands.len() > 1);
            let pairs = length(0).saturating_mul(size_of(other).work());
            meter.steps(pairs.saturating_add(length(other).saturating_mul(size_of(0).work())))
        }
        Bound::Sort => meter.steps(all.work().saturating_mul(1 + u64::from(length(0).max(1).ilog2()))),
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

/// A string literal, as a value.
pub(super) fn literal(text: &str, meter: &mut Meter<'_>) -> Result<Value, Failure> {
    meter.bytes(ALLOCATION + text.len() as u64)?;
    Ok(Value::String(Arc::new(text.to_owned())))
}
