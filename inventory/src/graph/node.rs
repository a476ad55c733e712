//! A node of the graph.
//!
//! **Invariant:** a list of nodes is sorted and has no duplicates, and one without nodes takes no memory.

use std::ops::Deref;

use super::{NodeId, Place};
use crate::ObjectKey;

/// An object that is an end of at least one edge. It need not exist.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) key: ObjectKey,
    /// The nodes that it depends on. Sorted, without duplicates.
    pub(super) targets: FewIds,
    /// The nodes that depend on it. Sorted, without duplicates.
    pub(super) dependents: FewIds,
    pub(super) source: Option<NodeId>,
    pub(super) place: Place,
    /// Boxed, since most objects depend on others but few are sources.
    pub(super) feeds: Option<Box<Feeds>>,
}

/// A sorted list that mostly has one node or none, which take no memory beyond the sixteen bytes of the list.
#[derive(Debug, Clone, Default)]
pub(super) enum FewIds {
    #[default]
    None,
    One(NodeId),
    #[expect(clippy::box_collection, reason = "a Vec alone would make every node larger by eight bytes")]
    Many(Box<Vec<NodeId>>),
}

impl FewIds {
    /// Adds a node.
    pub(super) fn insert(&mut self, id: NodeId) {
        match self {
            Self::None => *self = Self::One(id),
            Self::One(known) if *known == id => {}
            Self::One(known) => *self = Self::Many(Box::new(vec![id.min(*known), id.max(*known)])),
            Self::Many(ids) => insert(ids, id),
        }
    }

    /// Removes a node.
    pub(super) fn remove(&mut self, id: NodeId) {
        match self {
            Self::One(known) if *known == id => *self = Self::None,
            Self::None | Self::One(_) => {}
            Self::Many(ids) => {
                remove(ids, id);
                if let [one] = ids[..] {
                    *self = Self::One(one);
                }
            }
        }
    }
}

impl From<Vec<NodeId>> for FewIds {
    /// The list must be sorted and without duplicates.
    fn from(ids: Vec<NodeId>) -> Self {
        match ids[..] {
            [] => Self::None,
            [one] => Self::One(one),
            _ => Self::Many(Box::new(ids)),
        }
    }
}

impl Deref for FewIds {
    type Target = [NodeId];

    fn deref(&self) -> &[NodeId] {
        match self {
            Self::None => &[],
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
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
            targets: FewIds::default(),
            dependents: FewIds::default(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_nodes_are_a_sorted_list_whatever_came_and_went() {
        let (mut few, mut list) = (FewIds::default(), Vec::new());
        for (id, comes) in
            [(7, true), (7, true), (3, true), (9, true), (5, false), (7, false), (3, false), (3, false)]
        {
            if comes {
                few.insert(id);
                insert(&mut list, id);
            } else {
                few.remove(id);
                remove(&mut list, id);
            }
            assert_eq!(*few, list);
            assert_eq!(*FewIds::from(list.clone()), list);
            assert_eq!(matches!(few, FewIds::Many(_)), list.len() > 1, "one takes no memory of its own");
        }
        few.remove(9);
        assert!(few.is_empty());
        assert!(size_of::<Node>() <= 64, "{}", size_of::<Node>());
    }
}
