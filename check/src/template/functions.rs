//! The functions of templates: those of text/template, and the common ones of slim-sprig.

use serde_json::Value;

use crate::flux;

/// Whether a value counts as true; unknown if a variable is still to be filled in.
pub(super) fn is_true(value: &Value) -> Result<bool, String> {
    known(value)?;
    Ok(match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    })
}

/// What depends on a text that Flux has yet to fill in is not known.
fn known(value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) if flux::is_open(text) => Err(format!("{text} is filled in by Flux")),
        _ => Ok(()),
    }
}

/// A value as Go prints it.
pub(super) fn printed(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) if number.is_f64() => Ok(float(number.as_f64().unwrap_or_default())),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Ok("<no value>".to_owned()),
        Value::Array(_) | Value::Object(_) => Err("a map or a list is printed".to_owned()),
    }
}

/// A float by `%v` of Go.
fn float(value: f64) -> String {
    let exponent = format!("{value:e}");
    let Some((mantissa, power)) = exponent.split_once('e') else { return exponent };
    match power.parse::<i32>() {
        Ok(power) if value != 0.0 && !(-4..6).contains(&power) => {
            let sign = if power < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", power.abs())
        }
        _ => value.to_string(),
    }
}

/// A value as a text; sprig's functions differ in what they make of null.
fn text(value: &Value) -> Result<String, String> {
    if value.is_null() { Err("null is no text".to_owned()) } else { printed(value) }
}

fn number(value: &Value) -> Result<i64, String> {
    match value {
        Value::Null => Ok(0),
        Value::Bool(value) => Ok(i64::from(*value)),
        Value::String(text) => {
            known(value)?;
            // What is no number is 0 for sprig.
            Ok(text.parse().unwrap_or(0))
        }
        Value::Number(number) => {
            #[expect(clippy::cast_possible_truncation, reason = "as Go converts it")]
            let whole = number.as_i64().or_else(|| number.as_f64().map(|float| float as i64));
            whole.ok_or_else(|| "not a number".to_owned())
        }
        Value::Array(_) | Value::Object(_) => Err("not a number".to_owned()),
    }
}

/// Calls a function; the error says what is not supported.
#[expect(clippy::too_many_lines, reason = "one row for each function")]
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let unsupported = || format!("{name} with {} arguments is not supported", arguments.len());
    let texts = || arguments.iter().map(text).collect::<Result<Vec<String>, String>>();
    Ok(match (name, arguments) {
        ("default", [default, value]) => {
            if is_true(value)? {
                value.clone()
            } else {
                default.clone()
            }
        }
        ("coalesce", values) => {
            for value in values {
                if is_true(value)? {
                    return Ok(value.clone());
                }
            }
            Value::Null
        }
        ("ternary", [yes, no, condition]) => {
            if is_true(condition)? {
                yes.clone()
            } else {
                no.clone()
            }
        }
        ("not" | "empty", [value]) => (!is_true(value)?).into(),
        ("and", [rest @ .., last]) => {
            for value in rest {
                if !is_true(value)? {
                    return Ok(value.clone());
                }
            }
            last.clone()
        }
        ("or", [rest @ .., last]) => {
            for value in rest {
                if is_true(value)? {
                    return Ok(value.clone());
                }
            }
            last.clone()
        }
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            for value in rest {
                if is_equal(first, value)? {
                    return Ok(true.into());
                }
            }
            false.into()
        }
        ("ne", [one, other]) => (!is_equal(one, other)?).into(),
        ("lt", [one, other]) => (order(one, other)? == std::cmp::Ordering::Less).into(),
        ("le", [one, other]) => (order(one, other)? != std::cmp::Ordering::Greater).into(),
        ("gt", [one, other]) => (order(one, other)? == std::cmp::Ordering::Greater).into(),
        ("ge", [one, other]) => (order(one, other)? != std::cmp::Ordering::Less).into(),
        ("len", [value]) => match value {
            Value::Array(items) => items.len().into(),
            Value::Object(fields) => fields.len().into(),
            Value::String(text) => {
                known(value)?;
                text.len().into()
            }
            _ => return Err(unsupported()),
        },
        ("index", [value, keys @ ..]) => {
            keys.iter().try_fold(value.clone(), |value, key| match (&value, key) {
                (Value::Object(fields), Value::String(key)) => {
                    Ok(fields.get(key).cloned().unwrap_or_default())
                }
                (Value::Array(items), Value::Number(_)) => {
                    let index = usize::try_from(number(key)?).ok();
                    index
                        .and_then(|index| items.get(index))
                        .cloned()
                        .ok_or_else(|| "index out of range".to_owned())
                }
                _ => Err(unsupported()),
            })?
        }
        ("get", [Value::Object(fields), Value::String(key)]) => {
            fields.get(key).cloned().unwrap_or_else(|| "".into())
        }
        ("hasKey", [Value::Object(fields), Value::String(key)]) => fields.contains_key(key).into(),
        ("dict", pairs) if pairs.len().is_multiple_of(2) => {
            let pairs = pairs.chunks_exact(2).map(|pair| Ok::<_, String>((text(&pair[0])?, pair[1].clone())));
            Value::Object(pairs.collect::<Result<_, _>>()?)
        }
        ("list", items) => items.to_vec().into(),
        ("first", [Value::Array(items)]) => items.first().cloned().unwrap_or_default(),
        ("last", [Value::Array(items)]) => items.last().cloned().unwrap_or_default(),
        ("has", [value, Value::Array(items)]) => {
            items.iter().chain([value]).try_for_each(known)?;
            items.contains(value).into()
        }
        ("join", [separator, Value::Array(items)]) => {
            items.iter().map(text).collect::<Result<Vec<_>, _>>()?.join(&text(separator)?).into()
        }
        ("splitList", [separator, value]) => {
            known(value)?;
            text(value)?.split(&text(separator)?).map(Value::from).collect::<Vec<_>>().into()
        }
        ("print", _) if arguments.iter().all(Value::is_string) => texts()?.concat().into(),
        ("printf", [Value::String(format), values @ ..]) => formatted(format, values)?.into(),
        ("quote", [value]) => serde_json::to_string(&text(value)?).unwrap_or_default().into(),
        ("squote", [value]) => format!("'{}'", text(value)?).into(),
        ("toString", [value]) => text(value)?.into(),
        ("int" | "int64", [value]) => number(value)?.into(),
        ("add", values) => values.iter().map(number).sum::<Result<i64, _>>()?.into(),
        ("sub", [one, other]) => (number(one)?.saturating_sub(number(other)?)).into(),
        ("mul", values) => values.iter().map(number).product::<Result<i64, _>>()?.into(),
        ("lower", [value]) => changed(value, str::to_lowercase)?,
        ("upper", [value]) => changed(value, str::to_uppercase)?,
        ("trim", [value]) => changed(value, |text| text.trim().to_owned())?,
        ("slugify", [value]) => changed(value, slug)?,
        ("trimPrefix", [prefix, value]) => {
            let prefix = text(prefix)?;
            changed(value, |text| text.strip_prefix(&prefix).unwrap_or(text).to_owned())?
        }
        ("trimSuffix", [suffix, value]) => {
            let suffix = text(suffix)?;
            changed(value, |text| text.strip_suffix(&suffix).unwrap_or(text).to_owned())?
        }
        ("replace", [old, new, value]) => {
            let (old, new) = (text(old)?, text(new)?);
            changed(value, |text| text.replace(&old, &new))?
        }
        ("contains", [part, value]) => holds(part, value, |text, part| text.contains(part))?,
        ("hasPrefix", [part, value]) => holds(part, value, |text, part| text.starts_with(part))?,
        ("hasSuffix", [part, value]) => holds(part, value, |text, part| text.ends_with(part))?,
        ("indent", [count, value]) => indented(count, value)?.into(),
        ("nindent", [count, value]) => format!("\n{}", indented(count, value)?).into(),
        ("toYaml" | "mustToYaml", [value]) => {
            let mut yaml = String::new();
            write_yaml(value, 0, &mut yaml);
            yaml.into()
        }
        ("toJson" | "mustToJson", [value]) => value.to_string().into(),
        _ => return Err(unsupported()),
    })
}

/// A text that a function changes: whole, or not known.
fn changed(value: &Value, change: impl Fn(&str) -> String) -> Result<Value, String> {
    known(value)?;
    match value {
        Value::String(text) => Ok(change(text).into()),
        _ => Err("not a text".to_owned()),
    }
}

fn holds(part: &Value, value: &Value, holds: fn(&str, &str) -> bool) -> Result<Value, String> {
    known(value)?;
    known(part)?;
    match (part, value) {
        (Value::String(part), Value::String(text)) => Ok(holds(text, part).into()),
        _ => Err("not a text".to_owned()),
    }
}

fn is_equal(one: &Value, other: &Value) -> Result<bool, String> {
    known(one)?;
    known(other)?;
    match (one, other) {
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => Ok(one == other),
        // Go does not compare an integer with a float.
        (Value::Number(one), Value::Number(other)) if one.is_f64() == other.is_f64() => Ok(one == other),
        (Value::Null, Value::Null) => Ok(true),
        _ => Err("values of different types are compared".to_owned()),
    }
}

fn order(one: &Value, other: &Value) -> Result<std::cmp::Ordering, String> {
    known(one)?;
    known(other)?;
    let order = match (one, other) {
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Number(one), Value::Number(other)) if one.is_f64() == other.is_f64() => {
            one.as_f64().zip(other.as_f64()).and_then(|(one, other)| one.partial_cmp(&other))
        }
        _ => None,
    };
    order.ok_or_else(|| "values of different types are compared".to_owned())
}

fn formatted(format: &str, values: &[Value]) -> Result<String, String> {
    let (mut made, mut values) = (String::new(), values.iter());
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            made.push(letter);
            continue;
        }
        let mut next = || values.next().ok_or("printf lacks a value");
        match letters.next() {
            Some('%') => made.push('%'),
            Some('v') => made.push_str(&text(next()?)?),
            Some('s') => match next()? {
                Value::String(text) => made.push_str(text),
                _ => return Err("%s of what is no text".to_owned()),
            },
            Some('d') => match next()? {
                Value::Number(number) if !number.is_f64() => made.push_str(&number.to_string()),
                _ => return Err("%d of what is no integer".to_owned()),
            },
            _ => return Err(format!("{format:?} is not supported")),
        }
    }
    if values.next().is_some() { Err("printf has too many values".to_owned()) } else { Ok(made) }
}

fn indented(count: &Value, value: &Value) -> Result<String, String> {
    /// Deeper than any object.
    const MOST: i64 = 1000;
    let count = usize::try_from(number(count)?.clamp(0, MOST)).unwrap_or_default();
    let pad = " ".repeat(count);
    Ok(format!("{pad}{}", text(value)?.replace('\n', &format!("\n{pad}"))))
}

/// A value in block style, with sorted keys. Texts are quoted.
fn write_yaml(value: &Value, indent: usize, yaml: &mut String) {
    let pad = &*" ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|one, other| one.0.cmp(other.0));
            for (key, value) in fields {
                yaml.extend([pad, &*Value::from(key.as_str()).to_string(), ":"]);
                write_inner(value, indent, yaml);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                yaml.extend([pad, "-"]);
                write_inner(item, indent, yaml);
            }
        }
        scalar => yaml.extend([pad, &*scalar.to_string(), "\n"]),
    }
}

fn write_inner(value: &Value, indent: usize, yaml: &mut String) {
    let is_nested = matches!(value, Value::Object(fields) if !fields.is_empty())
        || matches!(value, Value::Array(items) if !items.is_empty());
    if is_nested {
        yaml.push('\n');
        write_yaml(value, indent + 2, yaml);
    } else {
        yaml.extend([" ", &*value.to_string(), "\n"]);
    }
}

/// A name for labels, of what is ASCII.
fn slug(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let words = lower.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}
