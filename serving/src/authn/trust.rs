//! How far the client of a connection has proved its identity.

use std::sync::atomic::{AtomicU8, Ordering};

/// The trust in a client, in ascending order. If connections are short, those with the lowest trust are closed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trust {
    /// It has sent no valid credential, and no webhook call of it was answered.
    Stranger,
    /// It has called a webhook with success, without a credential, as kube-apiserver does.
    Answered,
    /// One of its requests was authenticated.
    Authenticated,
    /// It has sent a certificate that verifies, as a front proxy or as a user.
    Verified,
}

/// The highest trust that a client has earned. It never decreases.
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
