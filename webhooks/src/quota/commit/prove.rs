//! Decides whether a ledger without a seal can be trusted.
//!
//! A version without seals drops the seal when it writes; so does anybody who empties a ledger. **Invariant:** a
//! replica that knows an earlier state trusts such a ledger only if versions without seals can have made it out of that
//! state, one write after the other; it asks the cluster for the states that it has not observed. A replica that has
//! just started knows no state, and waits `GRACE` for the replicas that do: they break the seal if they cannot trust
//! the ledger.

use gatehouse_quota::{CompiledQuota, Seal};
use tokio::time::Instant;

use super::{
    Committer, GRACE,
    base::{Base, State},
    restore,
};

impl Committer {
    /// Judges a ledger of this quota by the states that this replica knows.
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

    /// Whether the state of the ledger is decided by now; tries to decide it.
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
