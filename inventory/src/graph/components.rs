//! Depths and cycles of the dependency graph, computed in rounds that can be interrupted after any step and resumed.
//!
//! A round first applies the new dependencies of all objects that changed before it began. It then finds everything
//! that depends on these objects (the region), and sorts the region into strongly connected components with Tarjan's
//! algorithm. Its stack is on the heap, since chains may have thousands of objects. This is sufficient because a change
//! of the dependencies of X can only affect chains through X.
//!
//! **Invariant:** once the dependencies are applied, the edges do not change until the round ends; later changes wait
//! for the next round. So a round takes linear time in the size of the region, and many simultaneous changes cost one
//! round.

use std::collections::{HashMap, HashSet};

use super::{Graph, NodeId, Place, Steps, dependencies, node::FewIds};
use crate::records::{self, Records};
use crate::{ObjectKey, Seconds};

/// A round, or the state between two rounds.
#[derive(Debug, Default)]
pub(super) struct Round {
    phase: Phase,
    /// When the oldest of the changes in this round happened.
    pub(super) since: Option<Seconds>,
}

/// The phase of a round.
#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// Applies the dependencies of the objects in `left`.
    Wiring { left: Vec<ObjectKey>, changed: HashSet<NodeId> },
    /// Finds what depends on the changed objects, directly or indirectly.
    Above { changed: HashSet<NodeId>, region: HashSet<NodeId>, open: Vec<NodeId> },
    /// Sorts the region into strongly connected components.
    Sorting(Sorting),
}

#[derive(Debug)]
struct Sorting {
    changed: HashSet<NodeId>,
    /// Nodes to start from. Some of them may have been visited from other nodes in the meantime.
    left: Vec<NodeId>,
    visits: HashMap<NodeId, Visit>,
    region: HashSet<NodeId>,
    /// Tarjan's stack: nodes whose component is not complete.
    open: Vec<NodeId>,
    /// The call stack: the path to the current node, and how many targets of each node have been followed.
    calls: Vec<(NodeId, usize)>,
}

#[derive(Debug, Clone, Copy)]
struct Visit {
    index: usize,
    low: usize,
    is_open: bool,
}

impl Round {
    pub(super) fn new(left: Vec<ObjectKey>, since: Seconds) -> Self {
        Self { phase: Phase::Wiring { left, changed: HashSet::new() }, since: Some(since) }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }
}

impl Graph {
    /// Continues the current round.
    pub(super) fn advance(
        &mut self,
        steps: &mut Steps,
        records: &Records,
        affected: &mut impl FnMut(&ObjectKey, Seconds),
    ) {
        let Some(since) = self.round.since else { return };
        let affected = &mut |key: &ObjectKey| affected(key, since);
        while steps.any() && !self.round.is_idle() {
            self.round.phase = match std::mem::take(&mut self.round.phase) {
                Phase::Idle => Phase::Idle,
                Phase::Wiring { left, changed } => self.wire(left, changed, steps, records, affected),
                Phase::Above { changed, region, open } => self.look_above(changed, region, open, steps),
                Phase::Sorting(sorting) => self.sort(sorting, steps, affected),
            };
        }
    }

    fn wire(
        &mut self,
        mut left: Vec<ObjectKey>,
        mut changed: HashSet<NodeId>,
        steps: &mut Steps,
        records: &Records,
        affected: &mut impl FnMut(&ObjectKey),
    ) -> Phase {
        while steps.any() {
            let Some(key) = left.pop() else {
                let open = changed.iter().copied().collect();
                return Phase::Above { region: changed.clone(), changed, open };
            };
            let id = self.id(&key);
            let targets = records::find(records, &key).into_iter().flat_map(dependencies);
            let mut targets: Vec<_> = targets.map(|target| self.id(target)).collect();
            targets.sort_unstable();
            targets.dedup();
            targets.shrink_to_fit();
            let targets = FewIds::from(targets);
            let before = std::mem::replace(&mut self.node_mut(id).targets, targets.clone());
            steps.take(1 + before.len() + targets.len());
            for &target in before.iter().filter(|target| targets.binary_search(target).is_err()) {
                self.node_mut(target).dependents.remove(id);
                affected(&self.node(target).key);
                self.drop_unused(target);
            }
            for &target in targets.iter().filter(|target| before.binary_search(target).is_err()) {
                self.node_mut(target).dependents.insert(id);
                affected(&self.node(target).key);
            }
            // What it now depends on may have changed before the graph had this edge.
            affected(&key);
            self.reach_from(id);
            changed.insert(id);
            self.drop_unused(id);
        }
        Phase::Wiring { left, changed }
    }

    fn look_above(
        &self,
        changed: HashSet<NodeId>,
        mut region: HashSet<NodeId>,
        mut open: Vec<NodeId>,
        steps: &mut Steps,
    ) -> Phase {
        while steps.any() {
            let Some(next) = open.pop() else {
                return Phase::Sorting(Sorting {
                    changed,
                    left: region.iter().copied().collect(),
                    visits: HashMap::with_capacity(region.len()),
                    region,
                    open: Vec::new(),
                    calls: Vec::new(),
                });
            };
            let dependents = &self.node(next).dependents;
            steps.take(1 + dependents.len());
            open.extend(dependents.iter().filter(|dependent| region.insert(**dependent)));
        }
        Phase::Above { changed, region, open }
    }

    fn sort(
        &mut self,
        mut sorting: Sorting,
        steps: &mut Steps,
        affected: &mut impl FnMut(&ObjectKey),
    ) -> Phase {
        while steps.any() {
            steps.take(1);
            let Some((id, followed)) = sorting.calls.last_mut() else {
                let Some(start) = sorting.left.pop() else { return Phase::Idle };
                sorting.begin(start);
                continue;
            };
            let id = *id;
            if let Some(&target) = self.node(id).targets.get(*followed) {
                *followed += 1;
                match sorting.visits.get(&target) {
                    None if sorting.region.contains(&target) => sorting.begin(target),
                    Some(seen) if seen.is_open => sorting.lower(id, seen.index),
                    // Nodes outside the region keep their place.
                    _ => {}
                }
                continue;
            }
            sorting.calls.pop();
            let own = sorting.visits[&id];
            if own.low == own.index {
                let first = sorting.open.iter().rposition(|other| *other == id).unwrap_or_default();
                let component = sorting.open.split_off(first);
                for member in &component {
                    sorting.visits.entry(*member).and_modify(|visit| visit.is_open = false);
                }
                self.settle(&component, &sorting.changed, steps, affected);
            }
            if let Some(&(parent, _)) = sorting.calls.last() {
                sorting.lower(parent, own.low);
            }
        }
        Phase::Sorting(sorting)
    }

    /// Sets the place of the members of a component. The places of its dependencies are already final.
    fn settle(
        &mut self,
        component: &[NodeId],
        changed: &HashSet<NodeId>,
        steps: &mut Steps,
        affected: &mut impl FnMut(&ObjectKey),
    ) {
        let members: HashSet<NodeId> = component.iter().copied().collect();
        let (mut depth, mut is_cycle) = (0, false);
        for &member in component {
            let targets = &self.node(member).targets;
            steps.take(1 + targets.len());
            for target in targets.iter() {
                if members.contains(target) {
                    is_cycle = true;
                } else {
                    depth = depth.max(1 + self.node(*target).place.depth);
                }
            }
        }
        let members = if is_cycle { u32::try_from(component.len()).unwrap_or(u32::MAX) } else { 0 };
        let place = Place { depth, members };
        // A row shows the members of its cycle in the order of their dependencies, so a change of these affects all
        // rows.
        let is_rewired = is_cycle && component.iter().any(|member| changed.contains(member));
        for &member in component {
            let before = std::mem::replace(&mut self.node_mut(member).place, place);
            if before != place || is_rewired {
                affected(&self.node(member).key);
            }
            if before.is_in_cycle() != is_cycle {
                self.reach_from(member);
            }
        }
    }
}

impl Graph {
    /// Queues the objects that show this one, since the round has found a change.
    fn reach_from(&mut self, id: NodeId) {
        if let Some(since) = self.round.since {
            self.reach.seed(id, since);
        }
    }
}

impl Sorting {
    fn begin(&mut self, id: NodeId) {
        let index = self.visits.len();
        if let std::collections::hash_map::Entry::Vacant(new) = self.visits.entry(id) {
            new.insert(Visit { index, low: index, is_open: true });
            self.open.push(id);
            self.calls.push((id, 0));
        }
    }

    fn lower(&mut self, id: NodeId, to: usize) {
        self.visits.entry(id).and_modify(|visit| visit.low = visit.low.min(to));
    }
}
