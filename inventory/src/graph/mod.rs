//! The graph of `spec.dependsOn`, of sources and their consumers, and of generators and their artifacts, for one
//! cluster.
//!
//! Applying a change at once costs only the references of the changed object. Its effect on other objects is computed
//! later, in counted steps, so that the inventory's task can pause after any of them and apply other changes: first
//! depths and cycles (`components`), then the objects that show the change (`reach`).
//!
//! **Invariant:** since tenants write this graph, no computation takes more than linear time in the number of objects
//! and references that the changes of a round affect.

mod components;
mod node;
mod reach;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

use self::{
    components::Round,
    node::{Node, insert, remove},
    reach::Reach,
};
use crate::{
    FluxDetail, ObjectKey, Record, Reference, Seconds,
    catalogue::KindId,
    records::{self, Records},
};

/// An index in [`Graph::nodes`]. Indices are reused: one that was stored before a change may name another object
/// afterwards. The only effect is a needless visit of that object.
type NodeId = u32;

/// After this many steps, [`Graph::follow`] switches between `components` and `reach`.
const SLICE: usize = 4096;

/// The dependency graph of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    ids: HashMap<ObjectKey, NodeId>,
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    /// Objects whose new dependencies have not been applied yet, and since when there are any.
    rewired: HashSet<ObjectKey>,
    rewired_since: Option<Seconds>,
    round: Round,
    reach: Reach,
    steps: u64,
}

/// The depth of an object and the size of its cycle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The number of objects on the longest chain of dependencies below this one. A cycle counts as one object.
    pub depth: u32,
    /// The size of the strongly connected component that the object is in; 0 if it is in no cycle.
    pub members: u32,
}

impl Place {
    /// Whether the object depends on itself, directly or through others.
    pub fn is_in_cycle(&self) -> bool {
        self.members > 0
    }
}

/// The members of a cycle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cycle<'a> {
    /// Each depends on the next one; the first is the object that was asked for. If `omitted` is 0, the last depends on
    /// the first.
    pub path: Vec<&'a ObjectKey>,
    /// How many members of the strongly connected component are not in `path`; 0 if `path` is a complete cycle.
    pub omitted: u32,
}

/// The objects of observed kinds that a record depends on.
fn dependencies(record: &Record) -> impl Iterator<Item = &ObjectKey> {
    record.flux().into_iter().flat_map(|flux| &flux.depends_on).filter_map(known)
}

fn source(record: &Record) -> Option<&ObjectKey> {
    record.flux()?.fed_by()
}

fn makes(record: Option<&Record>) -> &[ObjectKey] {
    record.and_then(Record::flux).map_or(&[], FluxDetail::makes)
}

fn known(reference: &Reference) -> Option<&ObjectKey> {
    match reference {
        Reference::Known(key) => Some(key),
        Reference::Foreign(_) => None,
    }
}

impl Graph {
    /// The largest number of members that [`Graph::cycle`] names.
    pub(crate) const CYCLE: usize = 16;
    /// How many edges the search for the shortest cycle through an object visits.
    const CYCLE_STEPS: usize = 4096;

    /// How many objects name `key` in their `dependsOn`.
    pub(crate) fn dependents(&self, key: &ObjectKey) -> usize {
        self.ids.get(key).map_or(0, |id| self.node(*id).dependents.len())
    }

    /// The generator that names `key` in its `spec.artifacts`; of several, the one with the smallest key.
    pub(crate) fn maker(&self, key: &ObjectKey) -> Option<&ObjectKey> {
        let makers = self.node(*self.ids.get(key)?).feeds().makers.iter();
        makers.map(|id| &self.node(*id).key).min()
    }

    /// The depth and cycle of `key`.
    pub(crate) fn place(&self, key: &ObjectKey) -> Place {
        self.ids.get(key).map_or_else(Place::default, |id| self.node(*id).place)
    }

    /// How many nodes and references have been visited since the graph was created.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// When the oldest change happened whose effects are not completely computed; `None` if there is none.
    pub(crate) fn behind_since(&self) -> Option<Seconds> {
        let round = self.round.since.filter(|_| !self.round.is_idle());
        [round, self.rewired_since, self.reach.behind_since()].into_iter().flatten().min()
    }

    /// Applies the change of a record from `old` to `new` at `now`. [`Graph::follow`] computes the effect on other
    /// objects.
    pub(crate) fn update(
        &mut self,
        key: &ObjectKey,
        old: Option<&Record>,
        new: Option<&Record>,
        now: Seconds,
    ) {
        let before = old.into_iter().flat_map(dependencies);
        if before.ne(new.into_iter().flat_map(dependencies)) {
            self.rewired.insert(key.clone());
            self.rewired_since.get_or_insert(now);
        }
        self.refeed(key, old.and_then(source), new.and_then(source));
        self.remake(key, makes(old), makes(new), now);
        if let Some(id) = self.ids.get(key) {
            self.reach.seed(*id, now);
        }
    }

    /// Queues the missing objects of `kind`, so that everything that refers to them is rendered again: whether they are
    /// missing or unknown has changed.
    pub(crate) fn reach_absent(&mut self, kind: KindId, records: &Records, now: Seconds) {
        for (key, id) in &self.ids {
            if key.kind == kind && records::find(records, key).is_none() {
                self.reach.seed(*id, now);
            }
        }
    }

    /// Continues to compute the effects of changes, for about `budget` steps. Passes each object whose row may be
    /// outdated to `affected`, with the time of the change.
    pub(crate) fn follow(
        &mut self,
        budget: usize,
        records: &Records,
        affected: &mut impl FnMut(&ObjectKey, Seconds),
    ) {
        let mut left = budget;
        // Alternate, so that a steady stream of changes in one does not starve the other.
        while left > 0 && self.behind_since().is_some() {
            let mut steps = Steps::of(left.min(SLICE));
            if self.round.is_idle()
                && let Some(since) = self.rewired_since.take()
            {
                self.round = Round::new(self.rewired.drain().collect(), since);
            }
            self.advance(&mut steps, records, affected);
            left = left.saturating_sub(steps.taken);
            self.steps += steps.taken as u64;

            let mut steps = Steps::of(left.min(SLICE));
            self.reach_on(&mut steps, records, affected);
            left = left.saturating_sub(steps.taken);
            self.steps += steps.taken as u64;
        }
    }

    /// The cycle through `key`: the shortest one if it has at most [`Graph::CYCLE`] members and the search finds it,
    /// otherwise some members.
    pub(crate) fn cycle(&self, key: &ObjectKey) -> Option<Cycle<'_>> {
        let start = *self.ids.get(key)?;
        let members = self.node(start).place.members;
        if members == 0 {
            return None;
        }
        let path = self.shortest_cycle(start);
        let omitted = if path.is_some() { 0 } else { members };
        let path = path.unwrap_or_else(|| self.way_on(start));
        let omitted = omitted.saturating_sub(u32::try_from(path.len()).unwrap_or(u32::MAX));
        Some(Cycle { path: path.into_iter().map(|id| &self.node(id).key).collect(), omitted })
    }

    /// The shortest path from `start` back to itself, by a breadth-first search with limited depth and steps.
    fn shortest_cycle(&self, start: NodeId) -> Option<Vec<NodeId>> {
        let mut came_from: HashMap<NodeId, NodeId> = HashMap::new();
        let mut queue = VecDeque::from([(start, 1)]);
        let mut steps = 0;
        while let Some((next, length)) = queue.pop_front() {
            for &target in self.circle(next) {
                steps += 1;
                if target == start {
                    let way = std::iter::successors(Some(next), |at| came_from.get(at).copied());
                    let mut path: Vec<_> = way.collect();
                    path.reverse();
                    return Some(path);
                }
                if length < Self::CYCLE && !came_from.contains_key(&target) {
                    came_from.insert(target, next);
                    queue.push_back((target, length + 1));
                }
            }
            if steps > Self::CYCLE_STEPS {
                return None;
            }
        }
        None
    }

    /// A path from `start` within its component, until it reaches the limit or has no new member to continue with.
    fn way_on(&self, start: NodeId) -> Vec<NodeId> {
        let mut path = vec![start];
        while path.len() < Self::CYCLE {
            let last = path[path.len() - 1];
            let Some(next) = self.circle(last).find(|target| !path.contains(target)) else { break };
            path.push(*next);
        }
        path
    }

    /// The dependencies of `id` that are in the same component.
    fn circle(&self, id: NodeId) -> impl Iterator<Item = &NodeId> {
        let node = self.node(id);
        let place = node.place;
        // All members of a component have the same depth and number of members. A dependency outside of it has a
        // smaller depth.
        node.targets.iter().filter(move |target| place.is_in_cycle() && self.node(**target).place == place)
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// The node of an object. Creates it if necessary.
    fn id(&mut self, key: &ObjectKey) -> NodeId {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let node = Node::new(key.clone());
        let id = if let Some(id) = self.free.pop() {
            self.nodes[id as usize] = node;
            id
        } else {
            if self.nodes.len() == self.nodes.capacity() {
                // Doubling would leave a quarter of it unused on average.
                self.nodes.reserve_exact((self.nodes.len() / 8).max(16));
            }
            self.nodes.push(node);
            NodeId::try_from(self.nodes.len() - 1).expect("memory ends before the numbers do")
        };
        self.ids.insert(key.clone(), id);
        id
    }

    /// Removes a node without edges.
    fn drop_unused(&mut self, id: NodeId) {
        let node = self.node(id);
        let used = !node.targets.is_empty()
            || !node.dependents.is_empty()
            || node.feeds.is_some()
            || node.source.is_some();
        if !used && self.ids.get(&node.key) == Some(&id) {
            let key = self.node(id).key.clone();
            self.ids.remove(&key);
            self.node_mut(id).place = Place::default();
            self.free.push(id);
        }
    }

    /// Records that `key` takes its content from another source. This does not affect depths and cycles.
    fn refeed(&mut self, key: &ObjectKey, old: Option<&ObjectKey>, new: Option<&ObjectKey>) {
        if old == new {
            return;
        }
        let id = self.id(key);
        if let Some(old) = self.node(id).source {
            self.node_mut(old).feed(|feeds| remove(&mut feeds.consumers, id));
            self.node_mut(id).source = None;
            // The object may have named itself, and its node is used below.
            if old != id {
                self.drop_unused(old);
            }
        }
        if let Some(new) = new {
            let new = self.id(new);
            self.node_mut(id).source = Some(new);
            self.node_mut(new).feed(|feeds| insert(&mut feeds.consumers, id));
        }
        self.drop_unused(id);
    }
}

impl Graph {
    /// Records which objects the generator `key` makes now.
    fn remake(&mut self, key: &ObjectKey, old: &[ObjectKey], new: &[ObjectKey], now: Seconds) {
        if old == new {
            return;
        }
        let id = self.id(key);
        let mut made_before = Vec::new();
        self.node_mut(id).feed(|feeds| made_before = std::mem::take(&mut feeds.makes));
        for made in made_before {
            self.node_mut(made).feed(|feeds| remove(&mut feeds.makers, id));
            self.reach.seed(made, now);
            if made != id {
                self.drop_unused(made);
            }
        }
        for made in new {
            let made = self.id(made);
            self.node_mut(made).feed(|feeds| insert(&mut feeds.makers, id));
            self.node_mut(id).feed(|feeds| insert(&mut feeds.makes, made));
            self.reach.seed(made, now);
        }
        self.drop_unused(id);
    }
}

/// A budget of steps, and how many were taken. More may be taken, since an operation that has begun is completed.
struct Steps {
    budget: usize,
    taken: usize,
}

impl Steps {
    fn of(budget: usize) -> Self {
        Self { budget, taken: 0 }
    }

    fn any(&self) -> bool {
        self.taken < self.budget
    }

    fn take(&mut self, steps: usize) {
        self.taken += steps;
    }
}
