//! Functions of strings, as in cel-go's `ext.Strings`.
//!
//! **Invariant:** The maximum cost of a call is counted before the call.

use std::sync::Arc;

use kube_cel::cel::Value;

use super::{Failure, budget::Meter, describe, failed, format};

type Called = Option<Result<Value, Failure>>;

/// Calls a function, if it is one of these. `operands` are the receiver and the arguments.
pub(super) fn call(name: &str, operands: &[Value], meter: &mut Meter<'_>) -> Called {
    let text = |text: String| Some(Ok(Value::String(Arc::new(text))));
    match (name, operands) {
        ("replace", [Value::String(of), Value::String(from), Value::String(to)]) => {
            text(of.replace(&**from, to))
        }
        ("replace", [Value::String(of), Value::String(from), Value::String(to), Value::Int(times)]) => {
            text(match usize::try_from(*times) {
                Ok(times) => of.replacen(&**from, to, times),
                Err(_) => of.replace(&**from, to),
            })
        }
        ("split", [Value::String(of), Value::String(separator)]) => Some(Ok(split(of, separator, -1))),
        ("split", [Value::String(of), Value::String(separator), Value::Int(parts)]) => {
            Some(Ok(split(of, separator, *parts)))
        }
        ("indexOf", [Value::String(of), Value::String(part)]) => Some(index_of(of, part, 0)),
        ("indexOf", [Value::String(of), Value::String(part), Value::Int(from)]) => {
            Some(index_of(of, part, *from))
        }
        ("lastIndexOf", [Value::String(of), Value::String(part)]) => Some(last_index_of(of, part, None)),
        ("lastIndexOf", [Value::String(of), Value::String(part), Value::Int(from)]) => {
            Some(last_index_of(of, part, Some(*from)))
        }
        ("join", [Value::List(items), rest @ ..]) => Some(join(items, rest)),
        ("format", [Value::String(of), Value::List(arguments)]) => {
            Some(format::format(of, arguments, meter).map(|made| Value::String(Arc::new(made))))
        }
        _ => None,
    }
}

fn split(of: &str, separator: &str, parts: i64) -> Value {
    let parts = if parts < 0 { usize::MAX } else { usize::try_from(parts).unwrap_or(usize::MAX) };
    let value = |part: &str| Value::String(Arc::new(part.to_owned()));
    let made: Vec<Value> = if parts == 0 {
        Vec::new()
    } else if separator.is_empty() {
        // Each part is one character; the last part is the rest.
        let (mut made, mut rest) = (Vec::new(), of);
        while let Some(c) = rest.chars().next() {
            if made.len() + 1 == parts {
                made.push(value(rest));
                break;
            }
            let (first, after) = rest.split_at(c.len_utf8());
            made.push(value(first));
            rest = after;
        }
        made
    } else {
        of.splitn(parts, separator).map(value).collect()
    };
    Value::List(Arc::new(made))
}

fn out_of_range(index: i64) -> Failure {
    failed(format!("index out of range: {index}"))
}

/// The index of a part, in characters.
fn index_of(of: &str, part: &str, from: i64) -> Result<Value, Failure> {
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    let skipped = usize::try_from(from).map_err(|_| out_of_range(from))?;
    let found = of.char_indices().nth(skipped).and_then(|(start, _)| {
        of[start..].find(part).map(|at| skipped + of[start..start + at].chars().count())
    });
    Ok(Value::Int(found.map_or(-1, |at| i64::try_from(at).unwrap_or(i64::MAX))))
}

fn last_index_of(of: &str, part: &str, from: Option<i64>) -> Result<Value, Failure> {
    let length = of.chars().count();
    if part.is_empty() {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        return Ok(Value::Int(from.unwrap_or(length)));
    }
    let last = match from {
        None => length,
        Some(from) => usize::try_from(from).map_err(|_| out_of_range(from))?,
    };
    if from.is_some() && last >= length {
        return Ok(Value::Int(-1));
    }
    // Everything that begins at that position or before it.
    let start = of.char_indices().nth(last).map_or(of.len(), |(at, _)| at);
    let within = &of[..of.len().min(start + part.len())];
    let within = if of.is_char_boundary(within.len()) { within } else { of };
    let found = within.rfind(part).map(|at| of[..at].chars().count());
    Ok(Value::Int(found.map_or(-1, |at| i64::try_from(at).unwrap_or(i64::MAX))))
}

fn join(items: &[Value], separator: &[Value]) -> Result<Value, Failure> {
    let mut parts = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Value::String(text) => parts.push(text.as_str()),
            other => return Err(failed(format!("join takes a list of strings, got {}", describe(other)))),
        }
    }
    let separator = match separator {
        [Value::String(separator)] => separator.as_str(),
        _ => "",
    };
    Ok(Value::String(Arc::new(parts.join(separator))))
}
