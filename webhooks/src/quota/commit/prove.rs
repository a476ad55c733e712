//! Whether a ledger without a seal may be believed.
//!
//! A version that knows no seals takes it away when it writes; so does whoever empties a ledger. Such a state is believed if
//! versions without seals alone can have made it, one write after the other, out of one that is known. What was not seen of
//! that, the cluster is asked for. Who has just started knows no state to begin with, and waits for those who do.

use gatehouse_quota::{CompiledQuota, Seal};
use tokio::time::Instant;

use super::{
    Committer, GRACE,
    base::{Base, State},
    restore,
};

impl Committer {
    /// Judges a ledger of this quota that somebody has written, by what is known of it here.
    pub(super) fn judge(&self, base: &Base) -> State {
        if base.ledger.seal() == Seal::Whole {
            return State::Stands;
        }
        match self.known.as_ref().zip(base.version.as_ref()) {
            Some(((known, before), now)) if now.is_next(known) => {
                if base.ledger.may_be_of_older(before) {
                    State::Stands
                } else {
                    State::Broken
                }
            }
            None if self.was_broken => State::Broken,
            _ => State::Unproven,
        }
    }

    /// Whether it is known by now what can be done with the ledger; finds that out, where it can be.
    pub(super) async fn is_judged(&mut self, quota: &CompiledQuota) -> bool {
        let Some(mut base) = self.base.take_if(|base| base.state == State::Unproven) else { return true };
        let known = self.known.clone();
        let is_ours = if let (Some(known), Some(until)) = (known, &base.version) {
            let history = restore::history(&self.store, &quota.name, known, until).await;
            Some(history.is_some_and(|history| history.is_unbroken()))
        } else {
            let until = *self.unsealed.get_or_insert_with(Instant::now) + GRACE;
            self.wake(until);
            (Instant::now() >= until).then_some(true)
        };
        match is_ours {
            Some(true) => {
                base.state = State::Stands;
                self.trust(&base);
            }
            Some(false) => self.distrust(&mut base, quota),
            None => {}
        }
        self.base = Some(base);
        is_ours.is_some()
    }
}
