//! Operators: arithmetic, equality, order, membership, and access to maps and lists.
//!
//! They follow the CEL specification. Numbers of all types are compared by value; a field of a value that is not a map
//! counts as absent; an optional select of an absent field is `optional.none()`.

use std::cmp::Ordering;
use std::sync::Arc;

use kube_cel::cel::Value;
use kube_cel::cel::common::ast::operators;
use kube_cel::cel::objects::{AsKeyRef, KeyRef, Map, OptionalValue};

use super::measure::{ALLOCATION, DEEPEST, VALUE};
use super::{Failure, budget::Meter, describe, failed};

/// An optional that holds a value, or none.
pub(super) fn optional(value: Option<Value>) -> Value {
    Value::Opaque(Arc::new(value.map_or_else(OptionalValue::none, OptionalValue::of)))
}

/// The value as an optional, if it is one.
pub(super) fn as_optional(value: &Value) -> Option<&OptionalValue> {
    let Value::Opaque(opaque) = value else { return None };
    opaque.downcast_ref::<OptionalValue>()
}

/// A field of a map, or of the map in an optional.
pub(super) fn select(operand: &Value, field: &str) -> Result<Value, Failure> {
    if let Some(held) = as_optional(operand) {
        return Ok(optional(held.value().and_then(|inner| of_map(inner, field))));
    }
    of_map(operand, field).ok_or_else(|| Failure::Absent(field.to_owned()))
}

/// Whether the field exists.
pub(super) fn has(operand: &Value, field: &str) -> Result<bool, Failure> {
    let held = as_optional(operand).map_or(Some(operand), OptionalValue::value);
    held.map_or(Ok(false), |held| of_map_or_scalar(held, field).map(|found| found.is_some()))
}

/// `operand.?field`.
pub(super) fn optional_select(operand: &Value, field: &str) -> Result<Value, Failure> {
    let held = as_optional(operand).map_or(Some(operand), OptionalValue::value);
    held.map_or(Ok(None), |held| of_map_or_scalar(held, field)).map(optional)
}

/// Selecting a field of a list is an error; any other value that is not a map has no fields.
fn of_map_or_scalar(value: &Value, field: &str) -> Result<Option<Value>, Failure> {
    match value {
        Value::List(_) => Err(failed(format!("a list has no field {field:?}"))),
        other => Ok(of_map(other, field)),
    }
}

fn of_map(value: &Value, field: &str) -> Option<Value> {
    let Value::Map(map) = value else { return None };
    map.map.get(&KeyRef::String(field) as &dyn AsKeyRef).cloned()
}

/// `operand[key]`, and `operand[?key]`.
pub(super) fn index(operand: &Value, key: &Value, is_optional: bool) -> Result<Value, Failure> {
    if let Some(held) = as_optional(operand) {
        let Some(inner) = held.value() else { return Ok(optional(None)) };
        return Ok(optional(look_up(inner, key)?.cloned()));
    }
    if is_optional && !matches!(operand, Value::List(_) | Value::Map(_)) {
        return Ok(optional(None));
    }
    let found = look_up(operand, key)?.cloned();
    if is_optional {
        return Ok(optional(found));
    }
    found.ok_or_else(|| match (operand, key) {
        (Value::List(_), _) => failed(format!("Index out of bounds: {}", shown(key))),
        _ => Failure::Absent(shown(key)),
    })
}

fn look_up<'v>(operand: &'v Value, key: &Value) -> Result<Option<&'v Value>, Failure> {
    match operand {
        Value::List(list) => match whole(key) {
            Some(at) => Ok(usize::try_from(at).ok().and_then(|at| list.get(at))),
            None => Err(failed(format!("a list cannot be indexed by {}", describe(key)))),
        },
        Value::Map(map) => Ok(entry(map, key)),
        other => Err(failed(format!("cannot index {}", describe(other)))),
    }
}

/// The value of a key. Integers of all types are the same key.
fn entry<'v>(map: &'v Map, key: &Value) -> Option<&'v Value> {
    match key {
        Value::String(text) => map.get(&KeyRef::String(text)),
        Value::Bool(value) => map.get(&KeyRef::Bool(*value)),
        Value::Int(number) => map.get(&KeyRef::Int(*number)),
        Value::UInt(number) => map.get(&KeyRef::Uint(*number)),
        Value::Float(_) => whole(key).and_then(|number| map.get(&KeyRef::Int(number))),
        _ => None,
    }
}

/// A number without a fraction.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::UInt(number) => i64::try_from(*number).ok(),
        #[allow(clippy::cast_possible_truncation, reason = "whole, and within 2⁵³")]
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
        _ => None,
    }
}

/// A key for display.
fn shown(key: &Value) -> String {
    match key {
        Value::String(text) => text.chars().take(256).collect(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        other => describe(other).to_owned(),
    }
}

/// `left + right`, and the other arithmetic operators.
pub(super) fn arithmetic(
    operator: &str,
    left: Value,
    right: Value,
    meter: &mut Meter<'_>,
) -> Result<Value, Failure> {
    let (verb, result) = match operator {
        operators::ADD => return add(left, right, meter).and_then(in_range),
        operators::SUBSTRACT => ("subtract", left - right),
        operators::MULTIPLY => ("multiply", left * right),
        operators::DIVIDE => ("divide", left / right),
        _ => ("take the remainder of", left % right),
    };
    result.map_err(|error| super::explain(error, verb)).and_then(in_range)
}

/// Rejects a duration beyond the range of Go; passes other values.
fn in_range(value: Value) -> Result<Value, Failure> {
    match &value {
        Value::Duration(duration) if duration.num_nanoseconds().is_none() => Err(failed("duration overflow")),
        _ => Ok(value),
    }
}

fn add(left: Value, right: Value, meter: &mut Meter<'_>) -> Result<Value, Failure> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => {
            let length = (left.len() + right.len()) as u64;
            meter.bytes(ALLOCATION + length)?;
            meter.steps(length / 64)?;
            Ok(Value::String(Arc::new([left.as_str(), right.as_str()].concat())))
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            let length = (left.len() + right.len()) as u64;
            meter.bytes(ALLOCATION + length)?;
            meter.steps(length / 64)?;
            Ok(Value::Bytes(Arc::new([left.as_slice(), right.as_slice()].concat())))
        }
        (Value::List(left), Value::List(right)) => {
            let length = (left.len() + right.len()) as u64;
            meter.bytes(ALLOCATION + VALUE * length)?;
            meter.steps(length)?;
            Ok(Value::List(Arc::new(left.iter().chain(right.iter()).cloned().collect())))
        }
        // The library checks the range of a timestamp only in this order.
        (left @ Value::Duration(_), right @ Value::Timestamp(_)) => add(right, left, meter),
        // The results of these do not grow.
        (left, right) => (left + right).map_err(|error| super::explain(error, "add")),
    }
}

/// Whether two values are equal.
pub(super) fn equal(left: &Value, right: &Value, meter: &mut Meter<'_>) -> Result<bool, Failure> {
    equal_within(left, right, meter, 0)
}

fn equal_within(left: &Value, right: &Value, meter: &mut Meter<'_>, depth: usize) -> Result<bool, Failure> {
    if depth > DEEPEST {
        return Err(Failure::Exhausted("compares values that nest too deep"));
    }
    meter.steps(1)?;
    match (left, right) {
        (Value::String(left), Value::String(right)) => {
            meter.steps(if left.len() == right.len() { left.len() as u64 / 64 } else { 0 })?;
            Ok(left == right)
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            meter.steps(if left.len() == right.len() { left.len() as u64 / 64 } else { 0 })?;
            Ok(left == right)
        }
        (Value::List(left), Value::List(right)) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for (left, right) in left.iter().zip(right.iter()) {
                if !equal_within(left, right, meter, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Map(left), Value::Map(right)) => {
            if left.map.len() != right.map.len() {
                return Ok(false);
            }
            for (key, left) in left.map.iter() {
                meter.steps(1)?;
                let Some(right) = right.get(key) else { return Ok(false) };
                if !equal_within(left, right, meter, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Opaque(_), Value::Opaque(_)) => {
            let (Some(left), Some(right)) = (as_optional(left), as_optional(right)) else {
                let size = super::measure::measure(left, meter)?;
                meter.steps(size.work())?;
                return Ok(left == right);
            };
            match (left.value(), right.value()) {
                (Some(left), Some(right)) => equal_within(left, right, meter, depth + 1),
                (left, right) => Ok(left.is_none() && right.is_none()),
            }
        }
        _ if is_number(left) && is_number(right) => {
            Ok(order_of_numbers(left, right) == Some(Ordering::Equal))
        }
        _ => Ok(left == right),
    }
}

/// Whether `item` is an element of a list or a key of a map.
pub(super) fn contains(container: &Value, item: &Value, meter: &mut Meter<'_>) -> Result<bool, Failure> {
    match container {
        Value::List(list) => {
            for element in list.iter() {
                if equal(element, item, meter)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Map(map) => Ok(entry(map, item).is_some()),
        other => Err(failed(format!("nothing is in {}", describe(other)))),
    }
}

/// The order of two values; `None` if one of them is NaN.
pub(super) fn order(left: &Value, right: &Value, meter: &mut Meter<'_>) -> Result<Option<Ordering>, Failure> {
    if is_number(left) && is_number(right) {
        return Ok(order_of_numbers(left, right));
    }
    match (left, right) {
        (Value::String(left), Value::String(right)) => {
            meter.steps(left.len().min(right.len()) as u64 / 64)?;
            Ok(Some(left.cmp(right)))
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            meter.steps(left.len().min(right.len()) as u64 / 64)?;
            Ok(Some(left.cmp(right)))
        }
        (Value::Bool(left), Value::Bool(right)) => Ok(Some(left.cmp(right))),
        (Value::Timestamp(left), Value::Timestamp(right)) => Ok(Some(left.cmp(right))),
        (Value::Duration(left), Value::Duration(right)) => Ok(Some(left.cmp(right))),
        _ => Err(failed(format!("cannot compare {} with {}", describe(left), describe(right)))),
    }
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::UInt(_) | Value::Float(_))
}

/// The order of two numbers by value; `None` if one is NaN.
fn order_of_numbers(left: &Value, right: &Value) -> Option<Ordering> {
    let integer = |value: &Value| match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::UInt(number) => Some(i128::from(*number)),
        _ => None,
    };
    match (integer(left), integer(right), left, right) {
        (Some(left), Some(right), _, _) => Some(left.cmp(&right)),
        (None, None, Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        (Some(left), None, _, Value::Float(right)) => order_of_mixed(left, *right),
        (None, Some(right), Value::Float(left), _) => order_of_mixed(right, *left).map(Ordering::reverse),
        _ => None,
    }
}

/// Compares as cel-go does: the integer becomes a float, which loses digits beyond 2⁵³.
#[allow(clippy::cast_precision_loss, reason = "so does cel-go")]
fn order_of_mixed(left: i128, right: f64) -> Option<Ordering> {
    (left as f64).partial_cmp(&right)
}
