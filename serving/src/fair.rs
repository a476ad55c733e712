//! Shares a limited resource fairly between holders: requests in flight, bytes of memory, WebSockets.
//!
//! A holder of `h` units may take `n` more while `h + n` is at most [`SHARE_FACTOR`] (3) times the free units. A single
//! holder thus gets at most three quarters of the total, two holders get three sevenths each, and something is always
//! left for a holder that has nothing. (Choudhury and Hahne, "Dynamic queue length thresholds", 1998, for switches that
//! share a buffer.)
//!
//! **Invariants:** the holders never hold more than the total. A holder of nothing has no entry, so there are never
//! more entries than held units. Dropping a [`Held`] returns its units.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How many times the free units a holder may have.
const SHARE_FACTOR: usize = 3;

/// A number of units, shared by holders that `K` identifies.
#[derive(Debug)]
pub struct FairShare<K> {
    total: usize,
    state: Mutex<State<K>>,
    freed: Notify,
}

#[derive(Debug)]
struct State<K> {
    free: usize,
    held: HashMap<K, usize>,
}

/// Units that a holder has taken; dropping it returns them.
#[derive(Debug)]
pub struct Held<K: Hash + Eq> {
    share: Arc<FairShare<K>>,
    holder: K,
    amount: usize,
}

impl<K: Hash + Eq + Clone> FairShare<K> {
    /// Shares `total` units; 0 means no limit.
    pub fn new(total: usize) -> Arc<Self> {
        let total = if total == 0 { usize::MAX } else { total };
        let state = Mutex::new(State { free: total, held: HashMap::new() });
        Arc::new(Self { total, state, freed: Notify::new() })
    }

    /// Takes `amount` units for `holder`, or none if its share does not allow that many.
    pub fn try_acquire(self: &Arc<Self>, holder: K, amount: usize) -> Option<Held<K>> {
        let mut held = Held { share: Arc::clone(self), holder, amount: 0 };
        held.try_grow(amount).then_some(held)
    }

    /// An empty [`Held`] for `holder`, to grow later.
    pub fn nothing(self: &Arc<Self>, holder: K) -> Held<K> {
        Held { share: Arc::clone(self), holder, amount: 0 }
    }

    /// Whether a quarter of the units or less is free.
    pub fn is_nearly_exhausted(&self) -> bool {
        self.state().free <= self.total / (SHARE_FACTOR + 1)
    }
}

impl<K> FairShare<K> {
    /// The number of free units.
    pub fn free(&self) -> usize {
        self.state().free
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> Held<K> {
    /// Takes `more` units and returns true, or takes none if the holder's share does not allow that many.
    pub fn try_grow(&mut self, more: usize) -> bool {
        if more == 0 {
            return true;
        }
        let mut state = self.share.state();
        let has = state.held.get(&self.holder).copied().unwrap_or_default();
        let wanted = has.saturating_add(more);
        if more > state.free || wanted > state.free.saturating_mul(SHARE_FACTOR) {
            return false;
        }
        state.free -= more;
        state.held.insert(self.holder.clone(), wanted);
        self.amount += more;
        true
    }

    /// Waits until the holder's share allows `more` units, and takes them.
    pub async fn grow(&mut self, more: usize) {
        loop {
            let share = Arc::clone(&self.share);
            let freed = share.freed.notified();
            let mut freed = std::pin::pin!(freed);
            // Registered before the attempt, so that units freed between the two are noticed.
            freed.as_mut().enable();
            if self.try_grow(more) {
                return;
            }
            freed.await;
        }
    }
}

impl<K: Hash + Eq> Drop for Held<K> {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let mut state = self.share.state();
        state.free += self.amount;
        if let Some(has) = state.held.get_mut(&self.holder) {
            *has -= self.amount;
            if *has == 0 {
                state.held.remove(&self.holder);
            }
        }
        drop(state);
        self.share.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    /// Takes single units until the share is used up.
    fn grab(share: &Arc<FairShare<u8>>, holder: u8) -> Vec<Held<u8>> {
        std::iter::from_fn(|| share.try_acquire(holder, 1)).collect()
    }

    #[test]
    fn a_single_holder_leaves_a_quarter_and_others_find_their_share_in_it() {
        let share = FairShare::new(400);
        let first = grab(&share, 1);
        assert_eq!((first.len(), share.free()), (300, 100));
        assert!(share.is_nearly_exhausted());
        let second = grab(&share, 2);
        assert_eq!((second.len(), share.free()), (75, 25));
        assert!(!grab(&share, 3).is_empty());
        drop(first);
        assert!(!share.is_nearly_exhausted());
        drop(second);
        assert_eq!(share.free(), 400);
        assert!(share.state().held.is_empty(), "nobody is remembered");
    }

    #[test]
    fn one_is_enough_for_one_and_none_is_no_limit() {
        let one = FairShare::new(1);
        let held = one.try_acquire(1, 1).expect("there is one");
        assert!(one.try_acquire(2, 1).is_none());
        drop(held);
        assert!(one.try_acquire(2, 1).is_some());
        let endless = FairShare::new(0);
        assert_eq!((0..100_000).filter_map(|_| endless.try_acquire(1, 1)).count(), 100_000);
        assert!(!endless.is_nearly_exhausted());
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_something_is_given_back() {
        let share = FairShare::new(8);
        let all = share.try_acquire(1, 8).expect("free");
        let mut waiting = share.nothing(2);
        assert!(waiting.grow(3).now_or_never().is_none());
        assert!(waiting.grow(0).now_or_never().is_some(), "nothing is always there");
        let (freed, ()) = tokio::join!(waiting.grow(3), async { drop(all) });
        assert_eq!((freed, share.free()), ((), 5));
    }

    proptest! {
        #[test]
        fn whoever_takes_and_gives_back_what_nothing_is_lost_and_newcomers_find_something(
            steps in proptest::collection::vec((0u8..6, 1usize..9, any::<bool>()), 1..200)
        ) {
            let share = FairShare::new(64);
            let mut held: Vec<Held<u8>> = Vec::new();
            for (holder, amount, gives_back) in steps {
                if gives_back && !held.is_empty() {
                    held.remove(usize::from(holder) % held.len());
                } else {
                    held.extend(share.try_acquire(holder, amount));
                }
                let taken: usize = held.iter().map(|held| held.amount).sum();
                prop_assert_eq!(taken + share.free(), 64);
                prop_assert!(share.state().held.len() <= held.len());
            }
            drop(held);
            prop_assert_eq!(share.free(), 64);
        }
    }
}
