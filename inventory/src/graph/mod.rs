//! The graph of `spec.dependsOn`, and of which source feeds which object.
//!
//! Kept for one cluster. What a change costs at once is bounded by its own references. What follows from it for other
//! objects is worked out later, in steps that are counted, so that the one writer can stop at any of them and see to
//! the changes of others: first depths and cycles (`components`), then who shows what changed (`reach`). Tenants write
//! this graph: nothing here may take longer than linear time for all that changed between two rounds.

mod components;
mod reach;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

use self::{components::Round, reach::Reach};
use crate::{
    FluxDetail, ObjectKey, Record, Reference, Seconds,
    catalogue::KindId,
    records::{self, Records},
};

/// An object's position in [`Graph::nodes`]. Positions are used again: one that is kept over a change may name
/// another object later, which costs a look at that object and nothing else.
type NodeId = u32;

/// Steps after which depths and cycles give way to what shows a change, and the other way round.
const SLICE: usize = 4096;

/// Who depends on whom.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    ids: HashMap<ObjectKey, NodeId>,
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    /// Objects whose dependencies are not taken in yet, and since when there are any.
    rewired: HashSet<ObjectKey>,
    rewired_since: Option<Seconds>,
    round: Round,
    reach: Reach,
    steps: u64,
}

/// An object that depends on another, is depended on, or feeds one. It need not exist.
#[derive(Debug)]
struct Node {
    key: ObjectKey,
    /// In order of their positions, each once.
    targets: Vec<NodeId>,
    /// In order of their positions, each once.
    dependents: Vec<NodeId>,
    source: Option<NodeId>,
    /// In order of their positions, each once.
    consumers: Vec<NodeId>,
    /// The generators that say they make this, in order of their positions. It need not exist for that.
    makers: Vec<NodeId>,
    /// In order of their positions, each once.
    makes: Vec<NodeId>,
    place: Place,
}

/// Where an object stands in the graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Objects on the longest chain of dependencies below this one; those that depend on each other count as one.
    pub depth: u32,
    /// How many objects depend on this one and are depended on by it, itself included; 0 if it is in no cycle.
    pub members: u32,
}

impl Place {
    /// Whether the object depends on itself, directly or through others.
    pub fn is_in_cycle(&self) -> bool {
        self.members > 0
    }
}

/// Members of a cycle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cycle<'a> {
    /// Each depends on the next, the object itself comes first. If nothing is omitted, the last depends on the first.
    pub path: Vec<&'a ObjectKey>,
    /// How many objects that depend on each other in a circle are not named; 0 if `path` is a whole cycle.
    pub omitted: u32,
}

/// The objects a record depends on, of kinds that are observed.
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
        Reference::Foreign { .. } => None,
    }
}

impl Graph {
    /// A cycle of more members than this is named in part.
    pub(crate) const CYCLE: usize = 16;
    /// How many dependencies are looked at to find the shortest cycle through an object.
    const CYCLE_STEPS: usize = 4096;

    /// The objects that name `key` in their `dependsOn`.
    pub(crate) fn dependents(&self, key: &ObjectKey) -> usize {
        self.ids.get(key).map_or(0, |id| self.node(*id).dependents.len())
    }

    /// The generator that makes `key`, the first of several.
    pub(crate) fn maker(&self, key: &ObjectKey) -> Option<&ObjectKey> {
        let makers = self.node(*self.ids.get(key)?).makers.iter();
        makers.map(|id| &self.node(*id).key).min()
    }

    /// Where `key` stands.
    pub(crate) fn place(&self, key: &ObjectKey) -> Place {
        self.ids.get(key).map_or_else(Place::default, |id| self.node(*id).place)
    }

    /// How much has been done since the graph was made: nodes and references that were looked at.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Since when something follows from what was taken in that is not worked out; `None` if all is.
    pub(crate) fn behind_since(&self) -> Option<Seconds> {
        let round = self.round.since.filter(|_| !self.round.is_idle());
        [round, self.rewired_since, self.reach.behind_since()].into_iter().flatten().min()
    }

    /// Takes in that a record changed from `old` to `new` at `now`. What follows is for [`Graph::follow`] to work out.
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

    /// What depends on objects of `kind` that are not there, or takes its content from one, is to be found: whether
    /// those are missing or merely unseen has changed.
    pub(crate) fn reach_absent(&mut self, kind: KindId, records: &Records, now: Seconds) {
        for (key, id) in &self.ids {
            if key.kind == kind && records::find(records, key).is_none() {
                self.reach.seed(*id, now);
            }
        }
    }

    /// Goes on working out what follows from what was taken in, for about `budget` steps. The objects that may look
    /// different now go to `affected`, with the time since when.
    pub(crate) fn follow(
        &mut self,
        budget: usize,
        records: &Records,
        affected: &mut impl FnMut(&ObjectKey, Seconds),
    ) {
        let mut left = budget;
        // By turns: where there is always more of one, the other is not to wait for its end.
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

    /// The members of the cycle through `key`: of the shortest, where it is short and soon found.
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

    /// The shortest way from `start` back to itself, by breadth-first search of bounded width and depth.
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

    /// The first members of a cycle, from `start` on, as far as each has one to go on to.
    fn way_on(&self, start: NodeId) -> Vec<NodeId> {
        let mut path = vec![start];
        while path.len() < Self::CYCLE {
            let last = path[path.len() - 1];
            let Some(next) = self.circle(last).find(|target| !path.contains(target)) else { break };
            path.push(*next);
        }
        path
    }

    /// What `id` depends on that depends on it.
    fn circle(&self, id: NodeId) -> impl Iterator<Item = &NodeId> {
        let node = self.node(id);
        let place = node.place;
        // Depth and number are equal throughout a component, and a dependency of the same depth is of the same one.
        node.targets.iter().filter(move |target| place.is_in_cycle() && self.node(**target).place == place)
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// The node of an object, made if there is none.
    fn id(&mut self, key: &ObjectKey) -> NodeId {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let node = Node {
            key: key.clone(),
            targets: Vec::new(),
            dependents: Vec::new(),
            source: None,
            consumers: Vec::new(),
            makers: Vec::new(),
            makes: Vec::new(),
            place: Place::default(),
        };
        let id = if let Some(id) = self.free.pop() {
            self.nodes[id as usize] = node;
            id
        } else {
            self.nodes.push(node);
            NodeId::try_from(self.nodes.len() - 1).expect("memory ends before the numbers do")
        };
        self.ids.insert(key.clone(), id);
        id
    }

    /// Drops a node that nothing leads to or from.
    fn drop_unused(&mut self, id: NodeId) {
        let node = self.node(id);
        let used = !node.targets.is_empty()
            || !node.dependents.is_empty()
            || !node.consumers.is_empty()
            || !node.makers.is_empty()
            || !node.makes.is_empty()
            || node.source.is_some();
        if !used && self.ids.get(&node.key) == Some(&id) {
            let key = self.node(id).key.clone();
            self.ids.remove(&key);
            self.node_mut(id).place = Place::default();
            self.free.push(id);
        }
    }

    /// Takes in that `key` has the content of another source. Depths and cycles have nothing to do with it.
    fn refeed(&mut self, key: &ObjectKey, old: Option<&ObjectKey>, new: Option<&ObjectKey>) {
        if old == new {
            return;
        }
        let id = self.id(key);
        if let Some(old) = self.node(id).source {
            remove(&mut self.node_mut(old).consumers, id);
            self.node_mut(id).source = None;
            self.drop_unused(old);
        }
        if let Some(new) = new {
            let new = self.id(new);
            self.node_mut(id).source = Some(new);
            insert(&mut self.node_mut(new).consumers, id);
        }
        self.drop_unused(id);
    }
}

impl Graph {
    /// Takes in that `key` makes other objects than before.
    fn remake(&mut self, key: &ObjectKey, old: &[ObjectKey], new: &[ObjectKey], now: Seconds) {
        if old == new {
            return;
        }
        let id = self.id(key);
        for made in std::mem::take(&mut self.node_mut(id).makes) {
            remove(&mut self.node_mut(made).makers, id);
            self.reach.seed(made, now);
            self.drop_unused(made);
        }
        for made in new {
            let made = self.id(made);
            insert(&mut self.node_mut(made).makers, id);
            insert(&mut self.node_mut(id).makes, made);
            self.reach.seed(made, now);
        }
        self.drop_unused(id);
    }
}

/// A budget, and what was taken of it. What is begun with is ended, so that it can be more.
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

fn insert(sorted: &mut Vec<NodeId>, id: NodeId) {
    if let Err(at) = sorted.binary_search(&id) {
        // Most objects have one dependent, and there are many objects.
        if sorted.is_empty() {
            sorted.reserve_exact(1);
        }
        sorted.insert(at, id);
    }
}

fn remove(sorted: &mut Vec<NodeId>, id: NodeId) {
    if let Ok(at) = sorted.binary_search(&id) {
        sorted.remove(at);
        if sorted.is_empty() {
            *sorted = Vec::new();
        }
    }
}
