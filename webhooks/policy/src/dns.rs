//! Checks names as Kubernetes does.

/// Whether it is a DNS label, as the names of namespaces are.
pub(crate) fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_made_of(name, b"-")
}

/// Whether it is a DNS subdomain, as the names of most objects are.
pub(crate) fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && is_made_of(name, b"-.")
}

/// Whether it consists of lower-case letters, digits, and `others` except at both ends.
fn is_made_of(name: &str, others: &[u8]) -> bool {
    let is_edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.first().is_some_and(is_edge)
        && bytes.last().is_some_and(is_edge)
        && bytes.iter().all(|byte| is_edge(byte) || others.contains(byte))
}
