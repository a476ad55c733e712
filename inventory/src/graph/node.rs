//! A node of the graph.
//!
//! **Invariant:** a list of nodes is sorted and has no duplicates, and one without nodes takes no memory.

use super::{NodeId, Place};
use crate::ObjectKey;

/// An object that is an end of at least one edge. It need not exist.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) key: ObjectKey,
    /// The nodes that it depends on. Sorted, without duplicates.
    pub(super) targets: Vec<NodeId>,
    /// The nodes that depend on it. Sorted, without duplicates.
    pub(super) dependents: Vec<NodeId>,
    pub(super) source: Option<NodeId>,
    pub(super) place: Place,
    /// Boxed, since most objects depend on others but few are sources.
    pub(super) feeds: Option<Box<Feeds>>,
}

/// Whom an object feeds, and who makes it. Each list is sorted, without duplicates.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    /// The nodes that it is the source of.
    pub(super) consumers: Vec<NodeId>,
    /// The generators whose `spec.artifacts` names this object, which need not exist.
    pub(super) makers: Vec<NodeId>,
    /// The artifacts that this generator names.
    pub(super) makes: Vec<NodeId>,
}

impl Feeds {
    fn is_empty(&self) -> bool {
        self.consumers.is_empty() && self.makers.is_empty() && self.makes.is_empty()
    }
}

impl Node {
    pub(super) fn new(key: ObjectKey) -> Self {
        Self {
            key,
            targets: Vec::new(),
            dependents: Vec::new(),
            source: None,
            place: Place::default(),
            feeds: None,
        }
    }

    /// Whom it feeds.
    pub(super) fn feeds(&self) -> &Feeds {
        static NOBODY: Feeds = Feeds { consumers: Vec::new(), makers: Vec::new(), makes: Vec::new() };
        self.feeds.as_deref().unwrap_or(&NOBODY)
    }

    /// Changes whom it feeds.
    pub(super) fn feed(&mut self, change: impl FnOnce(&mut Feeds)) {
        let feeds = self.feeds.get_or_insert_default();
        change(feeds);
        if feeds.is_empty() {
            self.feeds = None;
        }
    }
}

/// Adds a node to a sorted list.
pub(super) fn insert(sorted: &mut Vec<NodeId>, id: NodeId) {
    if let Err(at) = sorted.binary_search(&id) {
        // There are many objects, and most have one dependent: allocate for exactly one.
        if sorted.is_empty() {
            sorted.reserve_exact(1);
        }
        sorted.insert(at, id);
    }
}

/// Removes a node from a sorted list.
pub(super) fn remove(sorted: &mut Vec<NodeId>, id: NodeId) {
    if let Ok(at) = sorted.binary_search(&id) {
        sorted.remove(at);
        if sorted.is_empty() {
            *sorted = Vec::new();
        }
    }
}
