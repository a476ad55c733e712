//! The trace ID of a request, from its `traceparent` header (W3C Trace Context), for the log.

use http::HeaderMap;

const HEADER: &str = "traceparent";
/// The length of `00-TRACE_ID-PARENT_ID-FLAGS`. Later versions may append more.
const LENGTH: usize = 55;

/// The trace ID; `None` if the header is missing or invalid.
pub(super) fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let (known, rest) = text.split_at_checked(LENGTH)?;
    let parts: Vec<&str> = known.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { return None };
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_some = |part: &str| part.bytes().any(|byte| byte != b'0');
    let is_readable =
        if version == "00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
    let is_valid = is_hex(version, 2) && version != "ff" && is_hex(trace, 32) && is_hex(parent, 16);
    (is_valid && is_hex(flags, 2) && is_some(trace) && is_some(parent) && is_readable).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_none_is_passed_over() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (header, expected) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(TRACE)),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", Some(TRACE)),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", None),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", None),
            ("", None),
        ] {
            let headers =
                [(HEADER.parse().expect("name"), header.parse().expect("value"))].into_iter().collect();
            assert_eq!(trace_id(&headers), expected, "{header}");
        }
    }
}
