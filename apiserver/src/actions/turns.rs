//! Requests about the same object take turns: each is for the version that it has read, so that of a thousand at once
//! all but one would fail.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::{Mutex, MutexGuard};

use super::target::Target;

/// Two objects in the same place take turns too, which only costs time.
const PLACES: usize = 256;

/// The turns of all objects.
pub(super) struct Turns(Vec<Mutex<()>>);

impl Turns {
    pub(super) fn new() -> Self {
        Self(std::iter::repeat_with(Mutex::default).take(PLACES).collect())
    }

    /// Waits for a turn, which lasts until the guard is dropped.
    pub(super) async fn take(&self, target: &Target) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        (&*target.cluster.name, &target.group, &target.kind, &target.namespace, &target.name)
            .hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % PLACES as u64).unwrap_or_default();
        self.0[place].lock().await
    }
}
