//! The values of scalars by YAML 1.1, as sigs.k8s.io/yaml reads them.

use std::{cell::RefCell, collections::HashSet, sync::Arc};

use serde_json::Number;

use super::node::{Data, Style};

/// The value of a scalar; `None` if it is a text. `plain`: it is neither quoted nor a block. The error says why kubectl
/// refuses it.
pub(super) fn resolve(text: &str, tag: Option<&str>, plain: bool) -> Result<Option<Data>, &'static str> {
    let value = match tag.map(|tag| tag.strip_prefix("tag:yaml.org,2002:").unwrap_or(tag)) {
        None if plain && is_infinite(text) => return Err("JSON has no such number"),
        None if plain => return Ok(untagged(text)),
        Some("null") => is_null(text).then_some(Data::Null),
        Some("int") => number(text)
            .filter(|number| !number.is_f64() && !text.contains(['.', 'e', 'E']))
            .map(Data::Number),
        Some("float") => number(text).map(Data::Number),
        Some("bool") => boolean(text).map(Data::Bool),
        Some("binary") => binary(text).map(|text| Data::Text(text.into(), Style::Quoted)),
        None | Some(_) => return Ok(None),
    };
    value.map(Some).ok_or("the value is not of the type of its tag")
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Numbers of YAML that JSON lacks.
fn is_infinite(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// The text that base 64 stands for.
fn binary(text: &str) -> Option<String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
    let bare = digits.strip_suffix(b"==").or_else(|| digits.strip_suffix(b"=")).unwrap_or(&digits);
    if !digits.len().is_multiple_of(4) {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in bare {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}

fn untagged(text: &str) -> Option<Data> {
    if is_null(text) {
        return Some(Data::Null);
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
pub(super) fn key(data: &Data) -> Arc<str> {
    match data {
        Data::Bool(value) => shared(if *value { "true" } else { "false" }),
        Data::Word(word, _) => shared(word),
        Data::Number(number) => number.to_string().into(),
        Data::Text(text, _) => shared(text),
        Data::Null | Data::Map(_) | Data::List(_) => shared(""),
    }
}

/// The text of a value. Objects repeat kinds, namespaces and intervals; longer texts are rarely the same.
pub(super) fn text(text: String) -> Arc<str> {
    const LONGEST: usize = 48;
    if text.len() > LONGEST { text.into() } else { TEXTS.with_borrow_mut(|texts| once(texts, &text)) }
}

/// A key that many objects have.
fn shared(key: &str) -> Arc<str> {
    KEYS.with_borrow_mut(|keys| once(keys, key))
}

/// More different keys than the schemas of a repository have.
const MOST: usize = 4096;

thread_local! {
    static KEYS: RefCell<HashSet<Arc<str>>> = RefCell::default();
    static TEXTS: RefCell<HashSet<Arc<str>>> = RefCell::default();
}

/// A text, kept once for each thread while there are not too many.
fn once(known: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(known) = known.get(text) {
        return Arc::clone(known);
    }
    let new: Arc<str> = text.into();
    if known.len() < MOST {
        known.insert(Arc::clone(&new));
    }
    new
}
