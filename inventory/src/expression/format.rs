//! `format` of strings, as in cel-go. `%e` is not supported, because cel-go writes exponents with typographic
//! characters.

use std::fmt::Write;

use kube_cel::cel::Value;
use kube_cel::cel::common::ast::{Expr, LiteralValue};
use kube_cel::cel::objects::Key;

use super::measure::ALLOCATION;
use super::{Failure, budget::Meter, conversion, describe, failed};

/// The maximum precision.
const MOST_PRECISION: usize = 100;
/// The default precision of `%f`.
const PRECISION: usize = 6;

/// A part of a format string.
enum Piece<'f> {
    Text(&'f str),
    /// The verb and its precision.
    Clause(char, Option<usize>),
}

fn pieces(format: &str) -> Result<Vec<Piece<'_>>, String> {
    let (mut pieces, mut rest) = (Vec::new(), format);
    while let Some(at) = rest.find('%') {
        pieces.push(Piece::Text(&rest[..at]));
        rest = &rest[at + 1..];
        let mut precision = None;
        if let Some(digits) = rest.strip_prefix('.') {
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            let asked: usize =
                digits[..end].parse().map_err(|_| "format: a precision must be a number".to_owned())?;
            if asked > MOST_PRECISION {
                return Err(format!("format: a precision must be {MOST_PRECISION} or less"));
            }
            precision = Some(asked);
            rest = &digits[end..];
        }
        let clause = rest.chars().next().ok_or_else(|| "format: ends within a clause".to_owned())?;
        rest = &rest[clause.len_utf8()..];
        match clause {
            '%' => pieces.push(Piece::Text("%")),
            's' | 'd' | 'f' | 'b' | 'x' | 'X' | 'o' => pieces.push(Piece::Clause(clause, precision)),
            'e' => return Err("format: %e is not supported".to_owned()),
            other => return Err(format!("format: %{other} is not a clause")),
        }
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// Checks that a format is valid, that the number of arguments is right, and that known argument types fit.
pub(super) fn check<'e>(format: &str, arguments: impl Iterator<Item = &'e Expr>) -> Result<(), String> {
    let mut arguments = arguments;
    for piece in pieces(format)? {
        let Piece::Clause(clause, _) = piece else { continue };
        let argument = arguments.next().ok_or_else(|| "format: there are too few arguments".to_owned())?;
        let Expr::Literal(literal) = argument else { continue };
        let fits = match literal {
            LiteralValue::Int(_) | LiteralValue::UInt(_) => clause != 'f',
            LiteralValue::Double(_) => matches!(clause, 's' | 'f'),
            LiteralValue::Boolean(_) => matches!(clause, 's' | 'b'),
            LiteralValue::String(_) => matches!(clause, 's' | 'x' | 'X' | 'f'),
            LiteralValue::Bytes(_) => matches!(clause, 's' | 'x' | 'X'),
            LiteralValue::Null => clause == 's',
        };
        if !fits {
            return Err(format!("format: %{clause} does not take this argument"));
        }
    }
    match arguments.next() {
        Some(_) => Err("format: there are too many arguments".to_owned()),
        None => Ok(()),
    }
}

/// Formats the arguments.
pub(super) fn format(format: &str, arguments: &[Value], meter: &mut Meter<'_>) -> Result<String, Failure> {
    let mut made = String::new();
    let mut arguments = arguments.iter();
    for piece in pieces(format).map_err(failed)? {
        let before = made.len();
        match piece {
            Piece::Text(text) => made.push_str(text),
            Piece::Clause(clause, precision) => {
                let argument =
                    arguments.next().ok_or_else(|| failed("format: there are too few arguments"))?;
                clause_of(&mut made, clause, precision, argument)?;
            }
        }
        meter.bytes(ALLOCATION + 2 * (made.len() - before) as u64)?;
        meter.steps(1 + (made.len() - before) as u64 / 64)?;
    }
    Ok(made)
}

fn clause_of(
    made: &mut String,
    clause: char,
    precision: Option<usize>,
    value: &Value,
) -> Result<(), Failure> {
    let radix = |made: &mut String, negative: bool, number: u64| {
        if negative {
            made.push('-');
        }
        let _ = match clause {
            'b' => write!(made, "{number:b}"),
            'o' => write!(made, "{number:o}"),
            'X' => write!(made, "{number:X}"),
            _ => write!(made, "{number:x}"),
        };
    };
    match (clause, value) {
        ('s', value) => written(made, value, false)?,
        ('d', Value::Int(number)) => made.push_str(&number.to_string()),
        ('d', Value::UInt(number)) => made.push_str(&number.to_string()),
        ('f', Value::Float(number)) => fixed(made, *number, precision.unwrap_or(PRECISION)),
        ('f', Value::String(text)) if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => {
            let number = text.parse().unwrap_or(f64::NAN);
            fixed(made, number, precision.unwrap_or(PRECISION));
        }
        ('b', Value::Bool(truth)) => made.push(if *truth { '1' } else { '0' }),
        ('b' | 'x' | 'X' | 'o', Value::Int(number)) => radix(made, *number < 0, number.unsigned_abs()),
        ('b' | 'x' | 'X' | 'o', Value::UInt(number)) => radix(made, false, *number),
        ('x' | 'X', Value::String(text)) => hex(made, clause, text.as_bytes()),
        ('x' | 'X', Value::Bytes(bytes)) => hex(made, clause, bytes),
        (clause, value) => {
            return Err(failed(format!("format: %{clause} does not take {}", describe(value))));
        }
    }
    Ok(())
}

fn hex(made: &mut String, clause: char, bytes: &[u8]) {
    for byte in bytes {
        let _ = if clause == 'X' { write!(made, "{byte:02X}") } else { write!(made, "{byte:02x}") };
    }
}

/// Writes thousands separators, as the locale of cel-go does.
fn fixed(made: &mut String, number: f64, precision: usize) {
    if number.is_nan() {
        made.push_str("NaN");
        return;
    }
    if number.is_sign_negative() && number != 0.0 {
        made.push('-');
    }
    if number.is_infinite() {
        made.push('∞');
        return;
    }
    let digits = format!("{:.precision$}", number.abs());
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            made.push(',');
        }
        made.push(digit);
    }
    if !fraction.is_empty() {
        made.push('.');
        made.push_str(fraction);
    }
}

/// Writes a value as text; within a list or map, as a CEL literal.
fn written(made: &mut String, value: &Value, is_within: bool) -> Result<(), Failure> {
    match value {
        Value::Null => made.push_str("null"),
        Value::List(list) => {
            made.push('[');
            for (at, item) in list.iter().enumerate() {
                made.push_str(if at > 0 { ", " } else { "" });
                written(made, item, true)?;
            }
            made.push(']');
        }
        Value::Map(map) => {
            let mut entries = Vec::with_capacity(map.map.len());
            for (key, value) in map.map.iter() {
                let mut entry = match key {
                    Key::String(text) => quoted(text),
                    Key::Int(number) => number.to_string(),
                    Key::Uint(number) => number.to_string(),
                    Key::Bool(truth) => truth.to_string(),
                };
                let key = entry.clone();
                entry.push(':');
                written(&mut entry, value, true)?;
                entries.push((key, entry));
            }
            entries.sort();
            let entries: Vec<String> = entries.into_iter().map(|(_, entry)| entry).collect();
            made.push('{');
            made.push_str(&entries.join(", "));
            made.push('}');
        }
        Value::String(text) if is_within => made.push_str(&quoted(text)),
        Value::Float(number) if is_within && number.is_finite() => {
            let _ = write!(made, "{number:.6}");
        }
        Value::Bytes(_) if is_within => {
            return Err(failed("format: bytes within a list or map are not supported"));
        }
        Value::Duration(_) if is_within => {
            let _ = write!(made, "duration({})", quoted(&conversion::string(value)?));
        }
        Value::Timestamp(_) if is_within => {
            let _ = write!(made, "timestamp({})", quoted(&conversion::string(value)?));
        }
        value @ (Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Duration(_)
        | Value::Timestamp(_)) => made.push_str(&conversion::string(value)?),
        value if conversion::as_type(value).is_some() => made.push_str(&conversion::string(value)?),
        other => return Err(failed(format!("format: %s does not take {}", describe(other)))),
    }
    Ok(())
}

/// Quotes as Go's `%q` does, for the characters that occur in objects.
fn quoted(text: &str) -> String {
    let mut made = String::with_capacity(text.len() + 2);
    made.push('"');
    for c in text.chars() {
        match c {
            '"' => made.push_str("\\\""),
            '\\' => made.push_str("\\\\"),
            '\n' => made.push_str("\\n"),
            '\r' => made.push_str("\\r"),
            '\t' => made.push_str("\\t"),
            '\u{7}' => made.push_str("\\a"),
            '\u{8}' => made.push_str("\\b"),
            '\u{b}' => made.push_str("\\v"),
            '\u{c}' => made.push_str("\\f"),
            c if c.is_ascii_control() => {
                let _ = write!(made, "\\x{:02x}", u32::from(c));
            }
            c => made.push(c),
        }
    }
    made.push('"');
    made
}
