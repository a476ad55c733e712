//! Functions of lists, as in Kubernetes' library and cel-go's `ext.Lists`.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use kube_cel::cel::Value;
use kube_cel::cel::objects::{Key, Map};

use super::measure::{ENTRY, VALUE};
use super::operators::{arithmetic, order};
use super::{Failure, budget::Meter, conversion, describe, failed};

type Called = Option<Result<Value, Failure>>;

/// Calls a function, if it is one of these.
pub(super) fn call(name: &str, operands: &[Value], meter: &mut Meter<'_>) -> Called {
    match (name, operands) {
        ("isSorted", [Value::List(list)]) => Some(is_sorted(list, meter)),
        ("sum", [Value::List(list)]) => Some(sum(list, meter)),
        ("min", [Value::List(list)]) => Some(extreme(list, Ordering::Less, meter)),
        ("max", [Value::List(list)]) => Some(extreme(list, Ordering::Greater, meter)),
        ("sort", [Value::List(list)]) => Some(sorted(list, list, meter)),
        ("@sortByAssociatedKeys", [Value::List(list), Value::List(keys)]) => Some(sorted(list, keys, meter)),
        ("lists.range", [Value::Int(length)]) => {
            let length = (*length).max(0);
            Some(Ok(Value::List(Arc::new((0..length).map(Value::Int).collect()))))
        }
        ("flatten", [Value::List(list)]) => Some(Ok(flatten(list, 1))),
        ("flatten", [Value::List(list), Value::Int(depth)]) => Some(match usize::try_from(*depth) {
            Ok(depth) => Ok(flatten(list, depth)),
            Err(_) => Err(failed("flatten: the depth must not be negative")),
        }),
        _ => None,
    }
}

fn flatten(list: &[Value], depth: usize) -> Value {
    fn add(into: &mut Vec<Value>, list: &[Value], depth: usize) {
        for item in list {
            match item {
                Value::List(inner) if depth > 0 => add(into, inner, depth - 1),
                other => into.push(other.clone()),
            }
        }
    }
    let mut flat = Vec::new();
    add(&mut flat, list, depth);
    Value::List(Arc::new(flat))
}

fn ordered(left: &Value, right: &Value, meter: &mut Meter<'_>) -> Result<Ordering, Failure> {
    order(left, right, meter)?.ok_or_else(|| failed("NaN has no order"))
}

/// The order of two elements of the same type.
fn compared(left: &Value, right: &Value, meter: &mut Meter<'_>) -> Result<Ordering, Failure> {
    if conversion::type_of(left) != conversion::type_of(right) {
        return Err(failed(format!("cannot compare {} with {}", describe(left), describe(right))));
    }
    ordered(left, right, meter)
}

fn is_sorted(list: &[Value], meter: &mut Meter<'_>) -> Result<Value, Failure> {
    let mut is_sorted = true;
    for pair in list.windows(2) {
        if let [left, right] = pair {
            is_sorted &= ordered(left, right, meter)? != Ordering::Greater;
        }
    }
    Ok(Value::Bool(is_sorted))
}

fn sum(list: &[Value], meter: &mut Meter<'_>) -> Result<Value, Failure> {
    let Some((first, rest)) = list.split_first() else { return Ok(Value::Int(0)) };
    if !matches!(first, Value::Int(_) | Value::UInt(_) | Value::Float(_) | Value::Duration(_)) {
        return Err(failed(format!("sum does not take a list of {}", describe(first))));
    }
    let mut sum = first.clone();
    for item in rest {
        sum = arithmetic(kube_cel::cel::common::ast::operators::ADD, sum, item.clone(), meter)?;
    }
    Ok(sum)
}

fn extreme(list: &[Value], wanted: Ordering, meter: &mut Meter<'_>) -> Result<Value, Failure> {
    let (first, rest) =
        list.split_first().ok_or_else(|| failed("min and max take a list that is not empty"))?;
    let mut best = first;
    for item in rest {
        if ordered(item, best, meter)? == wanted {
            best = item;
        }
    }
    ordered(best, best, meter)?;
    Ok(best.clone())
}

/// Sorts a list by its keys.
fn sorted(list: &[Value], keys: &[Value], meter: &mut Meter<'_>) -> Result<Value, Failure> {
    let mut failure = None;
    let mut places: Vec<usize> = (0..list.len().min(keys.len())).collect();
    if let [key] = keys {
        compared(key, key, meter)?;
    }
    places.sort_by(|left, right| {
        if failure.is_some() {
            return Ordering::Equal;
        }
        compared(&keys[*left], &keys[*right], meter).unwrap_or_else(|why| {
            failure = Some(why);
            Ordering::Equal
        })
    });
    match failure {
        Some(why) => Err(why),
        None => Ok(Value::List(Arc::new(places.into_iter().map(|place| list[place].clone()).collect()))),
    }
}

/// `cel.@mapInsert`, which macros use to build maps.
pub(super) fn insert(
    before: Value,
    added: Vec<(Key, Value)>,
    meter: &mut Meter<'_>,
) -> Result<Value, Failure> {
    let Value::Map(before) = before else { return Err(failed("expected a map")) };
    let mut entries: Arc<HashMap<Key, Value>> = before.map;
    // A growing hash table is sometimes copied to one of twice the size.
    meter.bytes(3 * (ENTRY + VALUE) * added.len() as u64)?;
    for (key, value) in added {
        let taken = match &key {
            Key::Int(number) => u64::try_from(*number).ok().map(Key::Uint),
            Key::Uint(number) => i64::try_from(*number).ok().map(Key::Int),
            _ => None,
        };
        if entries.contains_key(&key) || taken.is_some_and(|other| entries.contains_key(&other)) {
            return Err(failed("a key comes twice in a map that is made"));
        }
        Arc::make_mut(&mut entries).insert(key, value);
    }
    Ok(Value::Map(Map { map: entries }))
}
