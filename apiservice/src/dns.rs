//! Names in DNS, as Kubernetes checks the names of objects.

/// Whether it is a DNS label (RFC 1123), as the names of namespaces are.
pub fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_part(name)
}

/// Whether it is a DNS subdomain (RFC 1123), as the names of most objects are. Its parts may be longer than a label.
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_part)
}

/// Whether it consists of lower-case letters and digits, and of `-` between them.
fn is_part(part: &str) -> bool {
    let is_edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.first().is_some_and(is_edge)
        && bytes.last().is_some_and(is_edge)
        && bytes.iter().all(|byte| is_edge(byte) || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_kubernetes_does() {
        let long = "a".repeat(64);
        for name in ["a", "a-1", "0", "1-a-b"] {
            assert!(is_label(name) && is_subdomain(name), "{name}");
        }
        for name in ["a.b", "a-1.b", &long] {
            assert!(!is_label(name) && is_subdomain(name), "{name}");
        }
        for name in ["", "-a", "a-", "A", "a_b", "a..b", ".a", "a.", "a.-b", "ä", &"a.".repeat(127)] {
            assert!(!is_label(name) && !is_subdomain(name), "{name}");
        }
    }
}
