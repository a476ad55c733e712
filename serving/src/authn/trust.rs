//! How far the client of a connection has proved its identity.

use std::sync::atomic::{AtomicU8, Ordering};

/// The trust in a client, in ascending order. If connections are short, those with the lowest trust are closed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trust {
    /// It has sent no valid credential, and no webhook call of it was answered.
    Unknown,
    /// It has called a webhook with success, without a credential, as kube-apiserver does.
    WebhookCaller,
    /// One of its requests was authenticated.
    Authenticated,
    /// It has sent a certificate that verifies, as a front proxy or as a user.
    Verified,
}

/// The highest trust that a client has earned. It never decreases.
#[derive(Debug, Default)]
pub(super) struct HighestTrust(AtomicU8);

impl HighestTrust {
    pub(super) fn raise(&self, trust: Trust) {
        self.0.fetch_max(trust as u8, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Trust {
        let levels = [Trust::Unknown, Trust::WebhookCaller, Trust::Authenticated, Trust::Verified];
        levels[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_earned_and_kept() {
        let highest = HighestTrust::default();
        assert_eq!(highest.get(), Trust::Unknown);
        for (earns, has) in [
            (Trust::WebhookCaller, Trust::WebhookCaller),
            (Trust::Verified, Trust::Verified),
            (Trust::Authenticated, Trust::Verified),
        ] {
            highest.raise(earns);
            assert_eq!(highest.get(), has);
        }
    }
}
