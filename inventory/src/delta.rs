//! Which rows have to be rendered again after a change.

use std::collections::{HashSet, VecDeque};

use crate::{ClusterId, ObjectKey, Seconds, Str};

/// The objects, namespaces and clusters that changed since the last
/// [`Inventory::take_delta`](crate::Inventory::take_delta).
#[derive(Debug, Default)]
pub struct Delta {
    /// Objects that changed, appeared or disappeared, and those whose place in the graph or root cause may have
    /// changed.
    pub objects: HashSet<(ClusterId, ObjectKey)>,
    /// Namespaces that contain such a Flux object, or whose tenant changed.
    pub namespaces: HashSet<(ClusterId, Str)>,
    /// Namespaces that contain such a game server or fleet, or whose tenant changed.
    pub games: HashSet<(ClusterId, Str)>,
    /// Clusters in which anything changed.
    pub clusters: HashSet<ClusterId>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
            && self.namespaces.is_empty()
            && self.games.is_empty()
            && self.clusters.is_empty()
    }
}

/// A queue, without duplicates, of the objects whose rows may be outdated because other objects changed. Oldest first.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    order: VecDeque<(ClusterId, ObjectKey, Seconds)>,
    known: HashSet<(ClusterId, ObjectKey)>,
}

impl Backlog {
    /// Queues `key`, whose row may be outdated since `since`.
    pub(crate) fn push(&mut self, id: ClusterId, key: &ObjectKey, since: Seconds) {
        if self.known.insert((id, key.clone())) {
            self.order.push_back((id, key.clone(), since));
        }
    }

    pub(crate) fn pop(&mut self) -> Option<(ClusterId, ObjectKey)> {
        let (id, key, _) = self.order.pop_front()?;
        let object = (id, key);
        self.known.remove(&object);
        if self.order.is_empty() {
            // Frees the memory that a burst of changes has allocated.
            *self = Self::default();
        }
        Some(object)
    }

    /// When the first entry was queued for.
    pub(crate) fn since(&self) -> Option<Seconds> {
        self.order.front().map(|(_, _, since)| *since)
    }
}
