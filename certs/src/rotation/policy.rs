//! The names in serving certificates, the lifetimes of certificates, and the limits between them.

use std::time::Duration;

use rustls_pki_types::DnsName;

/// Authorities and serving certificates are replaced when a third (one part of this many) of their lifetime is left.
const MARGIN: u32 = 3;
/// An authority must be valid for at least this many times as long as a serving certificate. It then signs several of
/// them one after the other, and the switch to the next authority comes before one expires with its authority.
const LEAVES: u32 = 2;
/// A serving certificate must live at least this many overlaps. Two of them fit in the third of its lifetime in which
/// it is replaced, so every process has followed before the old certificate expires.
const OVERLAPS: u32 = 6;

/// The names and lifetimes that certificates are issued with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    names: Vec<String>,
    ca_lifetime: Duration,
    leaf_lifetime: Duration,
    overlap: Duration,
}

/// A policy that the rotation cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No names: clients reject a certificate without one.
    #[error("a serving certificate needs a name")]
    NoName,
    /// The name is not a valid DNS name.
    #[error("{0:?} is not a DNS name")]
    Name(String),
    /// The lifetime of authorities is too short for that of serving certificates.
    #[error("the CA must be valid for at least {LEAVES} times as long as serving certificates")]
    Lifetime,
    /// The overlap is too long for the lifetime of serving certificates.
    #[error(
        "serving certificates must be valid for at least {OVERLAPS} times as long as the rotation overlap"
    )]
    Overlap,
    /// The overlap is shorter than a second.
    #[error("the rotation overlap must be at least one second")]
    NoOverlap,
}

impl Policy {
    /// A year. The next authority is created when a third of it is left.
    pub const CA_LIFETIME: Duration = Duration::from_hours(365 * 24);
    /// 90 days; a certificate is renewed after 60.
    pub const LEAF_LIFETIME: Duration = Duration::from_hours(90 * 24);
    /// Ten minutes. Replicas read the store every few seconds. API servers watch the bundle and follow within seconds,
    /// or half a minute if a watch broke. A client that mounts the bundle as a volume is up to two minutes behind. A
    /// rotation that takes half an hour costs nothing.
    pub const OVERLAP: Duration = Duration::from_mins(10);

    /// A policy for certificates with the DNS names `names`. `overlap` is how far processes may be behind the store,
    /// and clients behind the published bundle.
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

    /// A policy with the default lifetimes.
    #[cfg(test)]
    pub(crate) fn usual(names: Vec<String>) -> Result<Self, PolicyError> {
        Self::new(names, Self::CA_LIFETIME, Self::LEAF_LIFETIME, Self::OVERLAP)
    }

    /// How far processes may be behind the store, and clients behind the published bundle.
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

    /// How much of an authority's lifetime is left when the next one is created.
    pub(super) fn authority_margin(&self) -> Duration {
        self.ca_lifetime / MARGIN
    }

    /// How much of a serving certificate's lifetime is left when it is renewed.
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
