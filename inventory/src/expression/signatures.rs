//! The overloads of each function and operator: those that Kubernetes has, as listed in `signatures.txt`.
//!
//! **Invariant:** Expressions are checked against them at compile time, and values again at each call, because a `dyn`
//! value may have any type.

use std::collections::HashMap;
use std::sync::LazyLock;

use kube_cel::cel::Value;

use super::conversion;
use super::operators::as_optional;
use super::types::Type;

/// One overload of a function.
#[derive(Debug)]
pub(super) struct Overload {
    pub(super) is_method: bool,
    /// The receiver comes first for a method.
    pub(super) parameters: Vec<Type>,
    pub(super) result: Type,
}

static ALL: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut all: HashMap<&'static str, Vec<Overload>> = HashMap::new();
    for line in include_str!("signatures.txt").lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, overload)) = line.split_once(": ") {
            all.entry(name).or_default().push(parse(overload));
        }
    }
    all
});

/// The overloads of a function; empty if there is no such function.
pub(super) fn of(name: &str) -> &'static [Overload] {
    ALL.get(name).map_or(&[], Vec::as_slice)
}

/// Parses `(ARGUMENTS) RESULT` or `RECEIVER.(ARGUMENTS) RESULT`.
pub(super) fn parse(text: &'static str) -> Overload {
    let (receiver, rest) = match text.strip_prefix('(') {
        Some(rest) => (None, rest),
        None => match text.split_once(".(") {
            Some((receiver, rest)) => (Some(receiver), rest),
            None => (None, text),
        },
    };
    let mut depth = 1;
    let end = rest.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    let (arguments, result) = rest.split_at(end.unwrap_or(rest.len()));
    let parameters = receiver.into_iter().chain(split(arguments)).map(type_of).collect();
    Overload { is_method: receiver.is_some(), parameters, result: type_of(result.trim_start_matches(')')) }
}

/// Splits a list of types.
fn split(list: &'static str) -> Vec<&'static str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if c == ',' && depth == 0 {
            parts.push(&list[from..at]);
            from = at + 1;
        }
    }
    parts.push(&list[from..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Parses a type, such as `map(string, int)`.
pub(super) fn type_of(text: &'static str) -> Type {
    let text = text.trim();
    if let Some((outer, inner)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let mut inner = split(inner).into_iter().map(|part| Box::new(type_of(part)));
        let mut next = || inner.next().unwrap_or(Box::new(Type::Dyn));
        return match outer {
            "list" => Type::List(next()),
            "map" => Type::Map(next(), next()),
            "optional" => Type::Optional(next()),
            _ => Type::Named,
        };
    }
    match text {
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        letter if letter.len() == 1 => Type::Parameter(letter.chars().next().unwrap_or('A'), 0),
        name => Type::Opaque(name),
    }
}

/// Whether a type parameter accepts a type: `C` accepts ordered types, `N` and `M` numbers.
pub(super) fn is_admitted(letter: char, of: &Type) -> bool {
    let is_number = matches!(of, Type::Int | Type::Uint | Type::Double);
    let is_open = matches!(of, Type::Dyn | Type::Parameter(..));
    match letter {
        'N' | 'M' => is_number || is_open,
        'C' => {
            let has_order =
                matches!(of, Type::Bool | Type::Bytes | Type::Duration | Type::Timestamp | Type::String);
            is_number || has_order || is_open
        }
        _ => true,
    }
}

/// Whether an overload accepts the values, as far as their outermost types show.
pub(super) fn admits(overloads: &[Overload], is_method: bool, values: &[&Value]) -> bool {
    overloads.iter().any(|overload| {
        overload.is_method == is_method
            && overload.parameters.len() == values.len()
            && overload.parameters.iter().zip(values).all(|(parameter, value)| fits(parameter, value))
    })
}

fn fits(parameter: &Type, value: &Value) -> bool {
    match (parameter, value) {
        (Type::Dyn | Type::Parameter(..) | Type::Named | Type::Fields(_), _)
        | (Type::Null, Value::Null)
        | (Type::Bool, Value::Bool(_))
        | (Type::Int, Value::Int(_))
        | (Type::Uint, Value::UInt(_))
        | (Type::Double, Value::Float(_))
        | (Type::String, Value::String(_))
        | (Type::Bytes, Value::Bytes(_))
        | (Type::Duration, Value::Duration(_))
        | (Type::Timestamp, Value::Timestamp(_))
        | (Type::List(_), Value::List(_))
        | (Type::Map(..), Value::Map(_)) => true,
        (Type::Optional(_), value) => as_optional(value).is_some(),
        (Type::Opaque(name), value) => conversion::type_of(value) == *name,
        _ => false,
    }
}
