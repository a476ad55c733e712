//! The values of scalars by YAML 1.1, as sigs.k8s.io/yaml reads them.

use serde_json::Number;

use super::node::Data;

/// The value of a scalar; `None` if it is a text. `plain`: it is neither quoted nor a block.
pub(super) fn resolve(text: &str, tag: Option<&str>, plain: bool) -> Option<Data> {
    match tag.map(|tag| tag.strip_prefix("tag:yaml.org,2002:").unwrap_or(tag)) {
        None if plain => untagged(text),
        Some("null") => Some(Data::Null),
        Some("int" | "float") => number(text).map(Data::Number),
        Some("bool") => boolean(text).map(Data::Bool),
        None | Some(_) => None,
    }
}

fn untagged(text: &str) -> Option<Data> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Data::Null),
        _ => {}
    }
    if let Some(value) = boolean(text) {
        let modern = matches!(text.as_bytes().first(), Some(b't' | b'T' | b'f' | b'F'));
        return Some(if modern { Data::Bool(value) } else { Data::Word(text.into(), value) });
    }
    number(text).map(Data::Number)
}

/// The value of a boolean of YAML 1.1.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Integers as Go's `ParseInt` with base 0 reads them, and floats as in YAML. Integers beyond 64 bits become floats.
/// Values that JSON has no number for (`.inf`) stay texts.
fn number(text: &str) -> Option<Number> {
    let first = text.as_bytes().first()?;
    if !first.is_ascii_digit() && !matches!(first, b'+' | b'-' | b'.') {
        return None;
    }
    let bare: String = text.chars().filter(|character| *character != '_').collect();
    let (negative, digits) = match bare.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, bare.strip_prefix('+').unwrap_or(&bare)),
    };
    if let Some(magnitude) = magnitude(digits) {
        return if negative {
            let signed = i64::try_from(-i128::from(magnitude)).ok();
            signed.map(Number::from).or_else(|| float(&bare))
        } else {
            Some(Number::from(magnitude))
        };
    }
    float(&bare)
}

fn magnitude(digits: &str) -> Option<u64> {
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    let valid = !digits.is_empty() && digits.bytes().all(|digit| char::from(digit).is_digit(radix));
    if valid { u64::from_str_radix(digits, radix).ok() } else { None }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = match mantissa.split_once('.') {
        Some((whole, part)) => digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty()),
        None => !mantissa.is_empty() && digits(mantissa),
    } && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    let value: f64 = if well_formed { text.parse().ok()? } else { return None };
    whole(value).or_else(|| Number::from_f64(value))
}

/// A number without a fraction, as Go writes it into JSON: `3.0` is `3`.
fn whole(value: f64) -> Option<Number> {
    /// Up to here every whole number is one.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and in bounds")]
    let integer = (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64);
    integer.map(Number::from)
}

/// The JSON key for a YAML key; a word stays as it is written.
pub(super) fn key(data: &Data) -> Box<str> {
    match data {
        Data::Bool(value) => value.to_string().into(),
        Data::Word(word, _) => word.clone(),
        Data::Number(number) => number.to_string().into(),
        Data::Text(text, _) => text.clone(),
        Data::Null | Data::Map(_) | Data::List(_) => "".into(),
    }
}
