//! What a change touches, and so has to be rendered anew.

use std::collections::HashSet;

use crate::{ClusterId, ObjectKey, Str};

/// What changed since the last [`Inventory::take_delta`](crate::Inventory::take_delta).
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
