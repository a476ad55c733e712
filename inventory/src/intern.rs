//! Shared strings: ten thousand objects repeat a few hundred namespaces, revisions and messages.
//!
//! Every string of a [`Record`](crate::Record) comes from one [`Interner`]. Equal texts are thus stored once, and
//! comparing them is mostly a pointer comparison.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// A shared, immutable string. A handle has 16 bytes; the text is stored once.
pub type Str = Arc<str>;

/// Returns one [`Str`] for each distinct text. All sources share it; it is locked for one lookup at a time.
#[derive(Debug, Default)]
pub struct Interner(Mutex<Pool>);

#[derive(Debug, Default)]
struct Pool {
    strings: HashSet<Str>,
    /// When the pool has this many strings, unused ones are dropped: twice the number that the last sweep kept.
    sweep_at: usize,
}

/// Below this number of strings, a sweep costs more than it frees.
const SMALLEST_SWEEP: usize = 4096;

impl Interner {
    /// The shared handle for `text`.
    pub fn intern(&self, text: &str) -> Str {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = pool.strings.get(text) {
            return Arc::clone(known);
        }
        if pool.strings.len() >= pool.sweep_at.max(SMALLEST_SWEEP) {
            pool.strings.retain(|text| Arc::strong_count(text) > 1);
            pool.sweep_at = pool.strings.len() * 2;
        }
        let new: Str = text.into();
        pool.strings.insert(Arc::clone(&new));
        new
    }

    /// How many distinct strings are held, and how many bytes of text these have.
    pub fn size(&self) -> (usize, usize) {
        let pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (pool.strings.len(), pool.strings.iter().map(|text| text.len()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_one_allocation() {
        let interner = Interner::default();
        let (a, b) = (interner.intern("flux-system"), interner.intern("flux-system"));
        assert!(Arc::ptr_eq(&a, &b));
        assert_eq!(interner.size(), (1, 11));
    }

    #[test]
    fn strings_nobody_holds_are_dropped_as_new_ones_come() {
        let interner = Interner::default();
        let held = interner.intern("held");
        for n in 0..3 * SMALLEST_SWEEP {
            interner.intern(&format!("revision-{n}"));
        }
        assert!(interner.size().0 <= 2 * SMALLEST_SWEEP);
        assert!(Arc::ptr_eq(&held, &interner.intern("held")));
    }
}
