//! How much a connection has shown of who is at its other end.

use std::sync::atomic::{AtomicU8, Ordering};

/// How well a peer is known, from not at all. Only what comes first here is taken from one whose connection is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trust {
    /// It has shown nothing, and asked nothing that was granted to somebody who is known.
    Stranger,
    /// What it asks without a credential, as kube-apiserver does of webhooks, was answered.
    Answered,
    /// A request of it was authenticated.
    Authenticated,
    /// It has a certificate that verifies: the front proxy's, or a user's.
    Verified,
}

/// What a peer has earned so far. It never loses it.
#[derive(Debug, Default)]
pub(super) struct Earned(AtomicU8);

impl Earned {
    pub(super) fn earn(&self, trust: Trust) {
        self.0.fetch_max(trust as u8, Ordering::Relaxed);
    }

    pub(super) fn trust(&self) -> Trust {
        let levels = [Trust::Stranger, Trust::Answered, Trust::Authenticated, Trust::Verified];
        levels[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_earned_and_kept() {
        let earned = Earned::default();
        assert_eq!(earned.trust(), Trust::Stranger);
        for (earns, has) in [
            (Trust::Answered, Trust::Answered),
            (Trust::Verified, Trust::Verified),
            (Trust::Authenticated, Trust::Verified),
        ] {
            earned.earn(earns);
            assert_eq!(earned.trust(), has);
        }
    }
}
