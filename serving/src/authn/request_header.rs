//! Parses the identity headers of a front proxy. The caller decides by the client certificate whether they count.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

use super::{RequestHeaderConfig, Unauthenticated, UserInfo};

/// The default names. These headers are always removed, even if others are configured.
const DEFAULT_HEADERS: [&str; 3] = ["x-remote-user", "x-remote-uid", "x-remote-group"];
const DEFAULT_EXTRA_PREFIX: &str = "x-remote-extra-";

/// Removes all identity headers, and returns their user. `None` if there were none; an error if they are invalid, have
/// no user name, or no front proxy is configured.
pub(super) fn take(
    headers: &mut HeaderMap,
    config: Option<&RequestHeaderConfig>,
) -> Option<Result<UserInfo, Unauthenticated>> {
    let identity: Vec<HeaderName> =
        headers.keys().filter(|name| is_identity(name, config)).cloned().collect();
    if identity.is_empty() {
        return None;
    }
    let user = match config {
        Some(config) => read(headers, config),
        None => Err(Unauthenticated("identity headers, but no front proxy is configured".to_owned())),
    };
    for name in identity {
        headers.remove(name);
    }
    Some(user)
}

fn is_identity(name: &HeaderName, config: Option<&RequestHeaderConfig>) -> bool {
    let usual = DEFAULT_HEADERS.contains(&name.as_str()) || name.as_str().starts_with(DEFAULT_EXTRA_PREFIX);
    usual
        || config.is_some_and(|config| {
            let named = [&config.username_headers, &config.uid_headers, &config.group_headers];
            named.into_iter().any(|names| names.contains(name)) || extra_key(name, config).is_some()
        })
}

fn read(headers: &HeaderMap, config: &RequestHeaderConfig) -> Result<UserInfo, Unauthenticated> {
    let name = first(headers, &config.username_headers)?
        .ok_or_else(|| Unauthenticated("identity headers without a user's name".to_owned()))?;
    let mut groups = Vec::new();
    for header in &config.group_headers {
        for value in values(headers, header) {
            groups.extend(Some(value?).filter(|group| !group.is_empty()));
        }
    }
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for header in headers.keys() {
        if let Some(key) = extra_key(header, config) {
            let values = values(headers, header).collect::<Result<Vec<_>, _>>()?;
            extra.entry(key).or_default().extend(values);
        }
    }
    Ok(UserInfo { name, uid: first(headers, &config.uid_headers)?.unwrap_or_default(), groups, extra })
}

/// The first value of the first of these headers whose first value is not empty.
fn first(headers: &HeaderMap, names: &[HeaderName]) -> Result<Option<String>, Unauthenticated> {
    for name in names {
        if let Some(value) = values(headers, name).next().transpose()?.filter(|value| !value.is_empty()) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Values that are not UTF-8 are errors: with replaced characters, they could become another user's name.
fn values(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = Result<String, Unauthenticated>> {
    headers.get_all(name).iter().map(|value| {
        let text = std::str::from_utf8(value.as_bytes());
        text.map(str::to_owned).map_err(|_| Unauthenticated("an identity header is not UTF-8".to_owned()))
    })
}

/// The key after the prefix, in lower case, and percent-decoded if that yields UTF-8.
fn extra_key(name: &HeaderName, config: &RequestHeaderConfig) -> Option<String> {
    let encoded =
        config.extra_header_prefixes.iter().find_map(|prefix| name.as_str().strip_prefix(&**prefix))?;
    let decoded = percent_decode_str(encoded).decode_utf8();
    Some(decoded.map_or_else(|_| encoded.to_owned(), std::borrow::Cow::into_owned))
}
