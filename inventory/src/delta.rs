//! What a change touches, and so has to be rendered anew.

use std::collections::{HashSet, VecDeque};

use crate::{ClusterId, ObjectKey, Seconds, Str};

/// What changed and has not been taken.
#[derive(Debug, Default)]
pub struct Delta {
    /// Objects that changed, came or went, and those whose place in the graph or root cause may have.
    pub objects: HashSet<(ClusterId, ObjectKey)>,
    /// Namespaces some of whose Flux objects are among these, or whose tenant changed.
    pub namespaces: HashSet<(ClusterId, Str)>,
    /// Namespaces some of whose game servers or fleets are among these, or whose tenant changed.
    pub games: HashSet<(ClusterId, Str)>,
    /// Clusters of which anything changed.
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

/// Objects that may look different because others changed, the longest known first, each once.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    order: VecDeque<(ClusterId, ObjectKey, Seconds)>,
    known: HashSet<(ClusterId, ObjectKey)>,
}

impl Backlog {
    /// `key` may look different, because of what happened at `since`.
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
            // What a storm took up is given back.
            *self = Self::default();
        }
        Some(object)
    }

    /// Since when the first has waited.
    pub(crate) fn since(&self) -> Option<Seconds> {
        self.order.front().map(|(_, _, since)| *since)
    }
}
