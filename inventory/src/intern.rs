//! Shared strings: ten thousand objects repeat a few hundred namespaces, revisions and messages.
//!
//! Every string of a [`Record`](crate::Record) comes from one [`Interner`]. Equal texts are thus stored once, and
//! comparing them is mostly a pointer comparison.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{ObjectKey, catalogue::KindId};

/// A shared, immutable string. A handle has 16 bytes; the text is stored once.
pub type Str = Arc<str>;

/// Returns one [`Str`] for each distinct text, and one [`ObjectKey`] for each object. All sources share it; it is locked
/// for one lookup at a time.
#[derive(Debug, Default)]
pub struct Interner {
    strings: Mutex<Pool<Str>>,
    keys: Mutex<Pool<ObjectKey>>,
}

#[derive(Debug)]
struct Pool<T> {
    known: HashSet<T>,
    /// When the pool has this many, unused ones are dropped: twice the number that the last sweep kept.
    sweep_at: usize,
}

/// Below this number, a sweep costs more than it frees.
const SMALLEST_SWEEP: usize = 4096;

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), sweep_at: SMALLEST_SWEEP }
    }
}

impl<T: Clone + Eq + Hash> Pool<T> {
    fn find<Q: Eq + Hash + ?Sized>(&self, like: &Q) -> Option<T>
    where
        T: Borrow<Q>,
    {
        self.known.get(like).cloned()
    }

    /// Adds what is not known yet.
    fn add(&mut self, new: T, is_used: impl Fn(&T) -> bool) -> T {
        if self.known.len() >= self.sweep_at {
            self.known.retain(is_used);
            self.sweep_at = SMALLEST_SWEEP.max(2 * self.known.len());
        }
        self.known.insert(new.clone());
        new
    }
}

impl Interner {
    /// The shared handle for `text`.
    pub fn intern(&self, text: &str) -> Str {
        let mut strings = lock(&self.strings);
        let known = strings.find(text);
        known.unwrap_or_else(|| strings.add(text.into(), |text| Arc::strong_count(text) > 1))
    }

    /// The shared handle for the object of this kind, namespace and name.
    pub fn key(&self, kind: KindId, namespace: &str, name: &str) -> ObjectKey {
        // The name is part of the key alone: few objects of different kinds have the same.
        let key = ObjectKey::new(kind, self.intern(namespace), name);
        let mut keys = lock(&self.keys);
        let known = keys.find(&key);
        known.unwrap_or_else(|| keys.add(key, |key| !key.is_only()))
    }

    /// How many distinct strings are held, and how many bytes of text these have.
    pub fn size(&self) -> (usize, usize) {
        let strings = lock(&self.strings);
        (strings.known.len(), strings.known.iter().map(|text| text.len()).sum())
    }
}

fn lock<T>(pool: &Mutex<Pool<T>>) -> MutexGuard<'_, Pool<T>> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn keys_of_objects_that_are_gone_are_dropped_as_new_ones_come() {
        let interner = Interner::default();
        let held = interner.key(KindId(0), "apps", "held");
        for n in 0..3 * SMALLEST_SWEEP {
            interner.key(KindId(0), "apps", &format!("job-{n}"));
        }
        assert!(lock(&interner.keys).known.len() <= 2 * SMALLEST_SWEEP);
        assert_eq!(interner.size(), (1, "apps".len()), "names are not held by themselves");
        assert!(lock(&interner.keys).known.contains(&held));
    }
}
