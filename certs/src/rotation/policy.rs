//! How long things last.

use std::time::Duration;

use rustls_pki_types::DnsName;

/// Authorities and certificates are replaced when this part of their life is left.
const MARGIN: u32 = 3;
/// A serving certificate is issued anew several times in an authority's life, which is then never what ends it.
const LEAVES: u32 = 2;
/// Overlaps in a serving certificate's life: two in the third that is its margin, so that nobody is still behind when the
/// old one ends.
const OVERLAPS: u32 = 6;

/// What certificates name, and how long everything lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    names: Vec<String>,
    ca_lifetime: Duration,
    leaf_lifetime: Duration,
    overlap: Duration,
}

/// A policy that could not be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Nobody could verify a certificate without a name.
    #[error("a serving certificate needs a name")]
    NoName,
    /// Not a name that a certificate can carry.
    #[error("{0:?} is not a DNS name")]
    Name(String),
    /// Authorities must live longer.
    #[error("the CA must be valid for at least {LEAVES} times as long as serving certificates")]
    Lifetime,
    /// Overlaps must be shorter.
    #[error(
        "serving certificates must be valid for at least {OVERLAPS} times as long as the rotation overlap"
    )]
    Overlap,
    /// Overlaps must not be nothing.
    #[error("the rotation overlap must be at least one second")]
    NoOverlap,
}

impl Policy {
    /// A year. Long before it is over, the next authority follows by itself.
    pub const CA_LIFETIME: Duration = Duration::from_hours(365 * 24);
    /// Three months, and renewed after two.
    pub const LEAF_LIFETIME: Duration = Duration::from_hours(90 * 24);
    /// Ten minutes: replicas look every few seconds, and API servers follow by watches, within seconds, or half a minute when
    /// a watch broke; but who has the bundle from a mounted volume is up to two minutes behind, and half an hour of rotation
    /// costs nothing.
    pub const OVERLAP: Duration = Duration::from_mins(10);

    /// Certificates for `names`. The `overlap` is what processes and verifiers may be behind.
    pub fn new(
        names: Vec<String>,
        ca_lifetime: Duration,
        leaf_lifetime: Duration,
        overlap: Duration,
    ) -> Result<Self, PolicyError> {
        if names.is_empty() {
            return Err(PolicyError::NoName);
        }
        if let Some(name) = names.iter().find(|name| DnsName::try_from(name.as_str()).is_err()) {
            return Err(PolicyError::Name(name.clone()));
        }
        if overlap < Duration::from_secs(1) {
            return Err(PolicyError::NoOverlap);
        }
        if overlap.saturating_mul(OVERLAPS) > leaf_lifetime {
            return Err(PolicyError::Overlap);
        }
        if leaf_lifetime.saturating_mul(LEAVES) > ca_lifetime {
            return Err(PolicyError::Lifetime);
        }
        Ok(Self { names, ca_lifetime, leaf_lifetime, overlap })
    }

    /// Certificates for `names` that last as long as is usual.
    #[cfg(test)]
    pub(crate) fn usual(names: Vec<String>) -> Result<Self, PolicyError> {
        Self::new(names, Self::CA_LIFETIME, Self::LEAF_LIFETIME, Self::OVERLAP)
    }

    /// What processes and verifiers may be behind.
    pub fn overlap(&self) -> Duration {
        self.overlap
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn ca_lifetime(&self) -> Duration {
        self.ca_lifetime
    }

    pub(super) fn leaf_lifetime(&self) -> Duration {
        self.leaf_lifetime
    }

    /// What is left of an authority when the next one is made.
    pub(super) fn authority_margin(&self) -> Duration {
        self.ca_lifetime / MARGIN
    }

    /// What is left of a serving certificate when it is replaced.
    pub(super) fn leaf_margin(&self) -> Duration {
        self.leaf_lifetime / MARGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_that_leave_no_time_to_follow_are_refused() {
        let policy = |ca, leaf, overlap| {
            let seconds = Duration::from_secs;
            Policy::new(vec!["a.svc".to_owned()], seconds(ca), seconds(leaf), seconds(overlap)).err()
        };
        assert_eq!(policy(12, 6, 1), None);
        assert_eq!(policy(11, 6, 1), Some(PolicyError::Lifetime));
        assert_eq!(policy(12, 5, 1), Some(PolicyError::Overlap));
        assert_eq!(policy(12, 6, 0), Some(PolicyError::NoOverlap));
        assert_eq!(policy(0, u64::MAX, u64::MAX), Some(PolicyError::Overlap));
        let longest = Policy::new(vec!["a".to_owned()], Duration::MAX, Duration::MAX, Policy::OVERLAP);
        assert_eq!(longest.err(), None, "refused when it is used: certificates have a calendar");
    }

    #[test]
    fn names_that_nobody_could_verify_are_refused() {
        assert_eq!(Policy::usual(Vec::new()), Err(PolicyError::NoName));
        for name in ["", "a b", "bücher.svc", "-a"] {
            assert_eq!(Policy::usual(vec![name.to_owned()]), Err(PolicyError::Name(name.to_owned())));
        }
        assert!(Policy::usual(vec!["gatehouse.gatehouse-system.svc".to_owned()]).is_ok());
    }
}
