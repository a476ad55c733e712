//! How `gatehouse apiserver` names to admission the user for whom it writes.
//!
//! It impersonates itself with one extra field, which holds the requesting user. Such a field comes from whoever may
//! impersonate, so it counts only if the user is the account of `gatehouse apiserver`: whoever may impersonate that
//! account may do all that it may. Unlike an annotation, the field is not stored, and it is in the audit log.

use std::fmt::Write;

use crate::UserInfo;

/// The key of the extra field.
pub const EXTRA: &str = "gatehouse.dev/requester";
/// The header that sets the field while impersonating. Its name has the key with `/` percent-encoded.
pub const HEADER: &str = "impersonate-extra-gatehouse.dev%2frequester";
/// The longest value, in bytes. kube-apiserver reads at most 1 MiB of headers.
pub const LONGEST: usize = 256 << 10;

/// Why a requester cannot be reported or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequesterError {
    /// A user with thousands of groups.
    #[error("the requesting user is described by more than {LONGEST} bytes")]
    TooLong,
    /// Not written by [`encode`].
    #[error("the requesting user that Gatehouse reports cannot be read")]
    Unreadable,
}

/// A user as the value of the header: JSON in ASCII.
pub fn encode(user: &UserInfo) -> Result<String, RequesterError> {
    let json = serde_json::to_string(user).map_err(|_| RequesterError::Unreadable)?;
    let mut ascii = String::with_capacity(json.len());
    for char in json.chars() {
        if char.is_ascii() && !char.is_ascii_control() {
            ascii.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    if ascii.len() > LONGEST { Err(RequesterError::TooLong) } else { Ok(ascii) }
}

/// The user for whom `writer` writes; `None` if the field is absent. The caller has checked who the writer is.
pub fn decode(writer: &UserInfo) -> Option<Result<UserInfo, RequesterError>> {
    let values = writer.extra.get(EXTRA)?;
    let user = match values.as_slice() {
        [value] if value.len() <= LONGEST => serde_json::from_str::<UserInfo>(value).ok(),
        _ => None,
    };
    Some(user.filter(|user| !user.name.is_empty()).ok_or(RequesterError::Unreadable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(values: &[&str]) -> UserInfo {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        UserInfo { extra: [(EXTRA.to_owned(), values)].into(), ..UserInfo::default() }
    }

    #[test]
    fn a_user_is_read_as_it_was_reported() {
        let user = UserInfo {
            name: "jänë 🦀\n".to_owned(),
            uid: "7".to_owned(),
            groups: vec!["team-ä".to_owned()],
            extra: [("scopes".to_owned(), vec!["a".to_owned(), String::new()])].into(),
        };
        let text = encode(&user).unwrap();
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{text}");
        assert_eq!(decode(&writer(&[&text])), Some(Ok(user)));
    }

    #[test]
    fn anything_else_is_no_user() {
        assert_eq!(decode(&UserInfo::default()), None);
        for values in
            [&[][..], &[""], &["{}"], &["jane"], &["{\"username\":\"\"}"], &["{\"username\":\"a\"}", "x"]]
        {
            assert_eq!(decode(&writer(values)), Some(Err(RequesterError::Unreadable)), "{values:?}");
        }
        let crowd = UserInfo { groups: vec!["g".repeat(1000); 300], ..UserInfo::default() };
        assert_eq!(encode(&crowd), Err(RequesterError::TooLong));
    }
}
