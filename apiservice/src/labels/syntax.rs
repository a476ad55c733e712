//! The syntax of label keys and values (`k8s.io/apimachinery/pkg/api/validate/content`).

use crate::dns;

/// The longest name part of a key, and the longest value, in bytes.
const MAX_LABEL: usize = 63;

/// The problem with a label key; `None` if it is valid.
pub(super) fn key_problem(key: &str) -> Option<&'static str> {
    let name = match key.split_once('/') {
        None => key,
        Some((_, name)) if name.contains('/') => {
            return Some("a valid label key must have at most one '/', after a DNS subdomain");
        }
        Some(("", _)) => return Some("prefix part must be non-empty"),
        Some((prefix, name)) if dns::is_subdomain(prefix) => name,
        Some(_) => {
            return Some(
                "prefix part must be a lowercase RFC 1123 subdomain: lower case alphanumeric characters, '-' or \
                 '.', starting and ending with an alphanumeric character, no more than 253 of them",
            );
        }
    };
    match name.len() {
        0 => Some("name part must be non-empty"),
        1..=MAX_LABEL if is_word(name) => None,
        1..=MAX_LABEL => Some(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
             alphanumeric character",
        ),
        _ => Some("name part must be no more than 63 bytes"),
    }
}

/// The problem with a label value; `None` if it is valid.
pub(super) fn value_problem(value: &str) -> Option<&'static str> {
    if value.len() > MAX_LABEL {
        Some("must be no more than 63 bytes")
    } else if value.is_empty() || is_word(value) {
        None
    } else {
        Some(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
             must start and end with an alphanumeric character",
        )
    }
}

fn is_word(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.into_iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_a_name_with_an_optional_prefix() {
        for good in ["a", "A.b_c-9", "example.com/name", "a-1.b/N"] {
            assert_eq!(key_problem(good), None, "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "/a", "a/", "a/b/c", "Ex.com/a", "a..b/c", "ä", &"a".repeat(64)] {
            assert!(key_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn values_may_be_empty() {
        assert_eq!(value_problem(""), None);
        assert_eq!(value_problem("v1.2_x"), None);
        for bad in ["-", "a/b", "ü", &"a".repeat(64)] {
            assert!(value_problem(bad).is_some(), "{bad}");
        }
    }
}
