//! Conversions between types, and types as values: `string`, `int`, `type`, …, as in cel-go.

use std::sync::Arc;

use jiff::{Timestamp, civil::Weekday, tz::Offset, tz::TimeZone};
use kube_cel::cel::Value;
use kube_cel::cel::objects::Opaque;

use super::operators::as_optional;
use super::{Failure, describe, failed};

type Converted = Result<Value, Failure>;

const TYPE_NAMES: [&str; 15] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
    "optional_type",
    "google.protobuf.Duration",
    "google.protobuf.Timestamp",
    "net.IP",
    "net.CIDR",
];

/// Whether a name is that of a type, which can be used as a value.
pub(super) fn is_type_name(name: &str) -> bool {
    TYPE_NAMES.contains(&name)
}

/// A type as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TypeValue(String);

impl Opaque for TypeValue {
    fn runtime_type_name(&self) -> &'static str {
        "type"
    }
}

/// The type with this name, as a value.
pub(super) fn named_type(name: &str) -> Value {
    Value::Opaque(Arc::new(TypeValue(name.to_owned())))
}

/// The name of the type, if the value is a type.
pub(super) fn as_type(value: &Value) -> Option<&str> {
    let Value::Opaque(opaque) = value else { return None };
    opaque.downcast_ref::<TypeValue>().map(|named| named.0.as_str())
}

/// The name of a value's type.
pub(super) fn type_of(value: &Value) -> &str {
    match value {
        Value::Int(_) => "int",
        Value::UInt(_) => "uint",
        Value::Float(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::Bool(_) => "bool",
        Value::Null => "null_type",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Duration(_) => "google.protobuf.Duration",
        Value::Timestamp(_) => "google.protobuf.Timestamp",
        value if as_optional(value).is_some() => "optional_type",
        // Kubernetes has another name for the library's Format.
        Value::Opaque(opaque) if opaque.runtime_type_name() == "kubernetes.Format" => {
            "kubernetes.NamedFormat"
        }
        Value::Opaque(opaque) => opaque.runtime_type_name(),
        Value::Function(..) => "function",
    }
}

fn cannot(value: &Value, to: &str) -> Failure {
    failed(format!("{} cannot be made {to}", describe(value)))
}

/// Implements `string(…)` for types without their own library.
pub(super) fn string(value: &Value) -> Result<String, Failure> {
    Ok(match value {
        Value::String(text) => text.as_ref().clone(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => shortest(*number),
        Value::Bool(truth) => truth.to_string(),
        Value::Bytes(bytes) => String::from_utf8(bytes.to_vec())
            .map_err(|_| failed("bytes that are not UTF-8 cannot be made a string"))?,
        Value::Duration(duration) => format!("{}s", seconds(nanoseconds(duration)?)),
        Value::Timestamp(time) => time.to_rfc3339_opts_nanos(),
        value if as_type(value).is_some() => as_type(value).unwrap_or_default().to_owned(),
        other => return Err(cannot(other, "a string")),
    })
}

/// Formats the times of chrono without naming that crate.
trait Written {
    fn to_rfc3339_opts_nanos(&self) -> String;
}

impl<T: chrono::TimeZone> Written for chrono::DateTime<T>
where
    T::Offset: std::fmt::Display,
{
    fn to_rfc3339_opts_nanos(&self) -> String {
        let nanos = self.timestamp_subsec_nanos();
        let base = self.format("%Y-%m-%dT%H:%M:%S").to_string();
        let fraction = if nanos == 0 { String::new() } else { format!(".{nanos:09}") };
        let fraction = fraction.trim_end_matches('0');
        let offset = self.format("%:z").to_string();
        format!("{base}{fraction}{}", if offset == "+00:00" { "Z" } else { &offset })
    }
}

/// Converts nanoseconds to seconds, as a float like that of Go's `Duration.Seconds`.
#[allow(clippy::cast_precision_loss, reason = "as Go's Duration.Seconds does it")]
fn seconds(nanos: i64) -> f64 {
    (nanos / 1_000_000_000) as f64 + (nanos % 1_000_000_000) as f64 / 1e9
}

pub(super) fn nanoseconds(duration: &chrono::Duration) -> Result<i64, Failure> {
    duration.num_nanoseconds().ok_or_else(|| failed("a duration is too long"))
}

/// Formats a number as Go's `%g` does.
pub(super) fn shortest(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{number}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

pub(super) fn int(value: &Value) -> Converted {
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::UInt(number) => i64::try_from(*number).ok(),
        #[allow(clippy::cast_possible_truncation, reason = "within the range")]
        Value::Float(number) if *number > -(2f64.powi(63)) && *number < 2f64.powi(63) => Some(*number as i64),
        Value::Float(_) => None,
        Value::String(text) => return text.parse().map(Value::Int).map_err(|_| no_number(text, "an int")),
        Value::Timestamp(time) => Some(time.timestamp()),
        Value::Duration(duration) => Some(nanoseconds(duration)?),
        other => return Err(cannot(other, "an int")),
    };
    number.map(Value::Int).ok_or_else(|| failed("integer overflow"))
}

pub(super) fn uint(value: &Value) -> Converted {
    let number = match value {
        Value::UInt(number) => Some(*number),
        Value::Int(number) => u64::try_from(*number).ok(),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range")]
        Value::Float(number) if *number >= 0.0 && *number < 2f64.powi(64) => Some(*number as u64),
        Value::Float(_) => None,
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            return text.parse().map(Value::UInt).map_err(|_| no_number(text, "a uint"));
        }
        Value::String(text) => return Err(no_number(text, "a uint")),
        other => return Err(cannot(other, "a uint")),
    };
    number.map(Value::UInt).ok_or_else(|| failed("unsigned integer overflow"))
}

#[allow(clippy::cast_precision_loss, reason = "as the specification has it")]
pub(super) fn double(value: &Value) -> Converted {
    Ok(Value::Float(match value {
        Value::Float(number) => *number,
        Value::Int(number) => *number as f64,
        Value::UInt(number) => *number as f64,
        Value::String(text) => {
            let number: f64 = text.parse().map_err(|_| no_number(text, "a double"))?;
            if number.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) {
                return Err(no_number(text, "a double"));
            }
            number
        }
        other => return Err(cannot(other, "a double")),
    }))
}

fn no_number(text: &str, what: &str) -> Failure {
    let shown: String = text.chars().take(64).collect();
    failed(format!("{shown:?} is not {what}: string parse error"))
}

pub(super) fn boolean(value: &Value) -> Converted {
    match value {
        Value::Bool(truth) => Ok(Value::Bool(*truth)),
        Value::String(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(no_number(text, "a bool")),
        },
        other => Err(cannot(other, "a bool")),
    }
}

pub(super) fn bytes(value: &Value) -> Converted {
    match value {
        Value::Bytes(_) => Ok(value.clone()),
        Value::String(text) => Ok(Value::Bytes(Arc::new(text.as_bytes().to_vec()))),
        other => Err(cannot(other, "bytes")),
    }
}

pub(super) fn duration(value: &Value) -> Converted {
    match value {
        Value::Duration(_) => Ok(value.clone()),
        Value::Int(nanos) => Ok(Value::Duration(chrono::Duration::nanoseconds(*nanos))),
        Value::String(text) => go_duration(text)
            .map(|nanos| Value::Duration(chrono::Duration::nanoseconds(nanos)))
            .map_err(failed),
        other => Err(cannot(other, "a duration")),
    }
}

/// Parses a duration as Go's `time.ParseDuration` does, in nanoseconds.
pub(super) fn go_duration(text: &str) -> Result<i64, String> {
    let read =
        gatehouse_apiservice::duration::parse(text).ok().and_then(|read| i64::try_from(read.as_nanos()).ok());
    read.ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        format!("{shown:?} is not a duration such as 5m")
    })
}

pub(super) fn timestamp(value: &Value) -> Converted {
    match value {
        Value::Timestamp(_) => Ok(value.clone()),
        Value::Int(seconds) => {
            let time = chrono::DateTime::from_timestamp(*seconds, 0).filter(|_| is_within(*seconds));
            time.map(|time| Value::Timestamp(time.fixed_offset())).ok_or_else(|| failed("timestamp overflow"))
        }
        Value::String(text) => timestamp_of(text).map_err(failed),
        other => Err(cannot(other, "a timestamp")),
    }
}

/// Whether a timestamp is in the years 1 to 9999.
fn is_within(seconds: i64) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&seconds)
}

/// Parses an RFC 3339 timestamp.
pub(super) fn timestamp_of(text: &str) -> Result<Value, String> {
    let wrong = || {
        let shown: String = text.chars().take(64).collect();
        format!("{shown:?} is not a timestamp such as 2026-01-02T03:04:05Z")
    };
    let is_written = text.as_bytes().get(10) == Some(&b'T');
    let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?;
    if is_written && is_within(time.timestamp()) { Ok(Value::Timestamp(time)) } else { Err(wrong()) }
}

/// `getHours` and similar functions, in UTC or in a time zone.
pub(super) fn time_part(name: &str, operands: &[Value]) -> Converted {
    if let [Value::Duration(duration)] = operands {
        let nanos = nanoseconds(duration)?;
        return Ok(Value::Int(match name {
            "getHours" => nanos / 3_600_000_000_000,
            "getMinutes" => nanos / 60_000_000_000,
            "getSeconds" => nanos / 1_000_000_000,
            _ => nanos / 1_000_000,
        }));
    }
    let (time, zone) = match operands {
        [Value::Timestamp(time)] => (time, TimeZone::UTC),
        [Value::Timestamp(time), Value::String(zone)] => (time, time_zone(zone)?),
        _ => return Err(failed(format!("{name} takes a timestamp and the name of a time zone"))),
    };
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    let instant = Timestamp::new(time.timestamp(), nanos).map_err(|error| failed(error.to_string()))?;
    let local = instant.to_zoned(zone);
    Ok(Value::Int(match name {
        "getFullYear" => i64::from(local.year()),
        "getMonth" => i64::from(local.month()) - 1,
        "getDayOfYear" => i64::from(local.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(local.day()) - 1,
        "getDate" => i64::from(local.day()),
        "getDayOfWeek" => match local.weekday() {
            Weekday::Sunday => 0,
            day => i64::from(day.to_monday_one_offset()),
        },
        "getHours" => i64::from(local.hour()),
        "getMinutes" => i64::from(local.minute()),
        "getSeconds" => i64::from(local.second()),
        _ => i64::from(local.millisecond()),
    }))
}

/// A time zone by name, or by an offset such as `+02:00`.
fn time_zone(name: &str) -> Result<TimeZone, Failure> {
    let shown: String = name.chars().take(64).collect();
    let unknown = || failed(format!("{shown:?} is not a time zone"));
    let Some((hours, minutes)) = name.split_once(':') else {
        return match name {
            "" | "UTC" => Ok(TimeZone::UTC),
            name => TimeZone::get(name).map_err(|_| unknown()),
        };
    };
    let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
    let is_negative = hours.starts_with('-');
    let hours: i32 = hours.parse().map_err(|_| unknown())?;
    let seconds = hours * 3600 + if is_negative { -minutes * 60 } else { minutes * 60 };
    let offset = Offset::from_seconds(seconds).map_err(|_| unknown())?;
    Ok(TimeZone::fixed(offset))
}
