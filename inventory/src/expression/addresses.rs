//! Parses URLs as Go does, and adds the checks of Kubernetes' libraries for addresses and versions to their parsers.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use kube_cel::cel::Value;
use kube_cel::cel::objects::{Key, Map, Opaque};

use super::operators::optional;
use super::{Failure, failed};

/// An absolute URL, or an absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Url {
    scheme: String,
    user: Option<String>,
    /// Includes the port.
    host: String,
    path: String,
    query: Option<String>,
    fragment: Option<String>,
}

impl Opaque for Url {
    fn runtime_type_name(&self) -> &'static str {
        "kubernetes.URL"
    }
}

/// Calls a function, if it is one of these; `None` leaves the call to the library.
pub(super) fn call(name: &str, operands: &[Value]) -> Option<Result<Value, Failure>> {
    let text = |text: &str| Ok(Value::String(Arc::new(text.to_owned())));
    if let [Value::Opaque(opaque)] = operands
        && let Some(url) = opaque.downcast_ref::<Url>()
    {
        return Some(match name {
            "getScheme" => text(&url.scheme),
            "getHost" => text(&url.host),
            "getHostname" => text(host_and_port(&url.host).0),
            "getPort" => text(host_and_port(&url.host).1),
            "getEscapedPath" => text(&url.path),
            "getQuery" => Ok(query(url.query.as_deref().unwrap_or_default())),
            _ => return None,
        });
    }
    if let ("validate", [Value::Opaque(format), Value::String(text)]) = (name, operands) {
        return validated(&format!("{:?}", format.as_debug()), text);
    }
    let [Value::String(given), rest @ ..] = operands else { return None };
    match name {
        "url" => Some(Url::parse(given).map(|url| Value::Opaque(Arc::new(url))).map_err(failed)),
        "isURL" => Some(Ok(Value::Bool(Url::parse(given).is_ok()))),
        "cidr" if !is_strict_cidr(given) => Some(Err(failed("network address parse error"))),
        "isCIDR" if !is_strict_cidr(given) => Some(Ok(Value::Bool(false))),
        "isSemver" if rest == [Value::Bool(true)] && !is_tolerable(given) => Some(Ok(Value::Bool(false))),
        "semver" if rest == [Value::Bool(true)] && !is_tolerable(given) => {
            Some(Err(failed("not a semantic version")))
        }
        _ => None,
    }
}

/// Formats that the library parses differently: a UUID may omit its dashes, and empty bytes are not valid.
fn validated(format: &str, text: &str) -> Option<Result<Value, Failure>> {
    let message = |message: &str| {
        let message = Value::String(Arc::new(message.to_owned()));
        Some(Ok(optional(Some(Value::List(Arc::new(vec![message]))))))
    };
    if format.contains("Uuid") {
        let mut groups = text.as_bytes();
        for length in [8, 4, 4, 4, 12] {
            if length != 8 {
                groups = groups.strip_prefix(b"-").unwrap_or(groups);
            }
            match groups.split_at_checked(length) {
                Some((group, rest)) if group.iter().all(u8::is_ascii_hexdigit) => groups = rest,
                _ => return message("does not match the UUID format"),
            }
        }
        let is_one = groups.is_empty();
        return if is_one { Some(Ok(optional(None))) } else { message("does not match the UUID format") };
    }
    if format.contains("Byte") && text.is_empty() { message("invalid base64") } else { None }
}

/// Whether a version can be parsed leniently: it has at most three numbers, and a suffix only after three.
fn is_tolerable(version: &str) -> bool {
    let version = version.trim();
    let version = version.strip_prefix('v').unwrap_or(version);
    let numbers = version.find(['-', '+']).map_or(version, |end| &version[..end]);
    let parts: Vec<&str> = numbers.split('.').collect();
    parts.len() == 3 || (parts.len() < 3 && numbers.len() == version.len())
}

/// The significant part of a version: build metadata is ignored, also in tests for equality.
pub(super) fn without_build(version: &str) -> &str {
    match version.split_once('+') {
        Some((version, build))
            if !build.is_empty()
                && build.split('.').all(|part| {
                    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                }) =>
        {
            version
        }
        _ => version,
    }
}

/// Whether it has no leading zeros in numbers, which some parsers read as octal.
fn is_strict_cidr(text: &str) -> bool {
    let has_zeros = |number: &str| number.len() > 1 && number.starts_with('0');
    text.split_once('/').is_some_and(|(address, prefix)| {
        !has_zeros(prefix)
            && prefix.bytes().all(|byte| byte.is_ascii_digit())
            && (address.contains(':') || !address.split('.').any(has_zeros))
    })
}

fn host_and_port(host: &str) -> (&str, &str) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
}

impl Url {
    /// Accepts what Go's `url.ParseRequestURI` accepts, and splits as `url.Parse` does.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("URL parse error: {why}"));
        if text.is_empty() {
            return wrong("it is empty");
        }
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return wrong("it has a control character");
        }
        let (scheme, rest) = Self::scheme(text)?;
        let (rest, fragment) = match rest.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment.to_owned())),
            None => (rest, None),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.to_owned())),
            None => (rest, None),
        };
        if !rest.starts_with('/') {
            if scheme.is_empty() {
                return wrong("it is neither absolute nor an absolute path");
            }
            // An opaque URL, such as mailto:a@b.c.
            let url = Self {
                scheme,
                user: Some(rest.to_owned()),
                host: String::new(),
                path: String::new(),
                query,
                fragment,
            };
            return if rest.is_empty() { wrong("nothing follows the scheme") } else { Ok(url) };
        }
        let has_authority = rest.starts_with("//") && (!scheme.is_empty() || !rest.starts_with("///"));
        let (authority, path) = match rest.strip_prefix("//").filter(|_| has_authority) {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        check_host(host)?;
        if user.as_deref().is_some_and(|user| !user.bytes().all(is_of_user)) {
            return wrong("its user has a character that must be escaped");
        }
        if !is_escaped_well(path) || fragment.as_deref().is_some_and(|fragment| !is_escaped_well(fragment)) {
            return wrong("an escape is not one");
        }
        Ok(Self { scheme, user, host: host.to_owned(), path: escaped(path), query, fragment })
    }

    fn scheme(text: &str) -> Result<(String, &str), String> {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
        match end {
            Some(0) if text.starts_with(':') => Err("URL parse error: the scheme is missing".to_owned()),
            Some(end)
                if text[end..].starts_with(':') && text.starts_with(|c: char| c.is_ascii_alphabetic()) =>
            {
                Ok((text[..end].to_ascii_lowercase(), &text[end + 1..]))
            }
            _ => Ok((String::new(), text)),
        }
    }
}

fn is_of_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte)
}

fn check_host(host: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("URL parse error: {why}"));
    let port = if let Some(bracketed) = host.strip_prefix('[') {
        match bracketed.split_once(']') {
            Some((_, port)) => port,
            None => return wrong("a bracket of the host is not closed"),
        }
    } else {
        host.rfind(':').map_or("", |at| &host[at..])
    };
    if !port.is_empty()
        && !port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return wrong("the port is no number");
    }
    let is_of_host =
        |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:[]<>\"".contains(c);
    if host.chars().all(is_of_host) {
        Ok(())
    } else {
        wrong("the host has a character that must not be there")
    }
}

fn is_escaped_well(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

/// The path as it is sent: unchanged if it is validly escaped, else escaped.
fn escaped(path: &str) -> String {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@[]/%".contains(&byte);
    if path.bytes().all(stays) {
        return path.to_owned();
    }
    let mut made = String::with_capacity(path.len() + 16);
    for byte in unescaped(path, false) {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            made.push(char::from(byte));
        } else {
            let _ = write!(made, "%{byte:02X}");
        }
    }
    made
}

fn unescaped(text: &str, has_plus: bool) -> Vec<u8> {
    let (bytes, mut made, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let code = bytes.get(at + 1..at + 3).and_then(|code| std::str::from_utf8(code).ok());
        match (byte, code.and_then(|code| u8::from_str_radix(code, 16).ok())) {
            (b'%', Some(code)) => {
                made.push(code);
                at += 2;
            }
            (b'+', _) if has_plus => made.push(b' '),
            (byte, _) => made.push(*byte),
        }
        at += 1;
    }
    made
}

/// The values of each parameter. Pairs that Go cannot parse are skipped.
fn query(text: &str) -> Value {
    let mut parameters: HashMap<Key, Value> = HashMap::new();
    for part in text.split('&').filter(|part| !part.is_empty() && !part.contains(';')) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if !is_escaped_well(key) || !is_escaped_well(value) {
            continue;
        }
        let decoded = |text: &str| String::from_utf8_lossy(&unescaped(text, true)).into_owned();
        let values = parameters
            .entry(Key::String(Arc::new(decoded(key))))
            .or_insert_with(|| Value::List(Arc::default()));
        if let Value::List(values) = values {
            Arc::make_mut(values).push(Value::String(Arc::new(decoded(value))));
        }
    }
    Value::Map(Map { map: Arc::new(parameters) })
}
