//! The one number that orders everything a client sees.

/// A resourceVersion: decimal, without sign or leading zero. Those given out are above zero and below 2^53,
/// so that clients which read numbers as doubles keep them apart; those asked for may be anything up to
/// 2^64 - 1, and zero, which stands for "any".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct ResourceVersion(pub(crate) u64);

impl ResourceVersion {
    /// `resourceVersion=0`: whatever is at hand.
    pub(crate) const ANY: Self = Self(0);

    /// The value of a parameter that is not empty; the error is what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let problem = |why| format!("Invalid value: \"{}\": {why}", text.escape_debug());
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(problem("must be a decimal number"));
        }
        // kube-apiserver reads `007` as 7; clients compare versions by their length first, and would not.
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
