//! The resourceVersion of objects, lists and requests.

/// A resourceVersion: decimal, without sign or leading zero. The server issues versions above zero and below
/// 2^53, so that clients which read numbers as doubles can tell them apart. A request may name any number up
/// to 2^64 - 1, or zero, which means any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct ResourceVersion(pub(crate) u64);

impl ResourceVersion {
    /// `resourceVersion=0`: any version that is available.
    pub(crate) const ANY: Self = Self(0);

    /// Parses the value of a parameter; the error is a message for the client.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let problem = |why| format!("Invalid value: \"{}\": {why}", text.escape_debug());
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(problem("must be a decimal number"));
        }
        // kube-apiserver reads `007` as 7. Clients compare versions by length first, and would not.
        if text.len() > 1 && text.starts_with('0') {
            return Err(problem("must not have leading zeros"));
        }
        text.parse().map(Self).map_err(|_| problem("value out of range"))
    }
}

impl std::fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_decimal_number() {
        assert_eq!(ResourceVersion::parse("0"), Ok(ResourceVersion::ANY));
        assert_eq!(ResourceVersion::parse("18446744073709551615"), Ok(ResourceVersion(u64::MAX)));
        for bad in ["", "abc", "-1", "+1", "007", "00", "1.5", " 1", "18446744073709551616", "１"] {
            assert!(ResourceVersion::parse(bad).unwrap_err().starts_with("Invalid value: "), "{bad}");
        }
    }
}
