//! Depths and cycles, kept up in rounds that can be left at any step and gone on with.
//!
//! A round takes in the new dependencies of the objects that changed before it began, finds everything above those,
//! and sorts that into strongly connected components (Tarjan's algorithm, with its stack on the heap: chains may be
//! thousands long). An edge added to X can lengthen, close or break nothing but chains through X. The graph's edges
//! hold still from when they are taken in until the round has ended; what changes meanwhile is for the next one. So
//! a round is linear in what lies above the changes, and many changes at once cost one round.

use std::collections::{HashMap, HashSet};

use super::{Graph, NodeId, Place, Steps, dependencies, insert, remove};
use crate::records::{self, Records};
use crate::{ObjectKey, Seconds};

/// A round, or none.
#[derive(Debug, Default)]
pub(super) struct Round {
    phase: Phase,
    /// When the oldest of the changes it is about was taken in.
    pub(super) since: Option<Seconds>,
}

/// What a round is at.
#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// Takes in the dependencies of the objects left.
    Wiring { left: Vec<ObjectKey>, changed: HashSet<NodeId> },
    /// Finds what depends on the changed ones, directly or through others.
    Above { changed: HashSet<NodeId>, region: HashSet<NodeId>, open: Vec<NodeId> },
    /// Sorts the region into components.
    Sorting(Sorting),
}

#[derive(Debug)]
struct Sorting {
    changed: HashSet<NodeId>,
    /// What is not begun with. Nodes that were reached from others meanwhile are among these.
    left: Vec<NodeId>,
    visits: HashMap<NodeId, Visit>,
    region: HashSet<NodeId>,
    /// Nodes whose component is not closed.
    open: Vec<NodeId>,
    /// The nodes on the way to the current one, and how many of the targets of each were followed.
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
    /// Goes on with the round under way.
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
            let before = std::mem::replace(&mut self.node_mut(id).targets, targets.clone());
            steps.take(1 + before.len() + targets.len());
            for &target in before.iter().filter(|target| targets.binary_search(target).is_err()) {
                remove(&mut self.node_mut(target).dependents, id);
                affected(&self.node(target).key);
                self.drop_unused(target);
            }
            for &target in targets.iter().filter(|target| before.binary_search(target).is_err()) {
                insert(&mut self.node_mut(target).dependents, id);
                affected(&self.node(target).key);
            }
            // What it now depends on may have changed while nobody knew that it does.
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
                    // What lies below the region is as it was.
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

    /// Gives the members of a component their place. Whatever it depends on has one.
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
            for target in targets {
                if members.contains(target) {
                    is_cycle = true;
                } else {
                    depth = depth.max(1 + self.node(*target).place.depth);
                }
            }
        }
        let members = if is_cycle { u32::try_from(component.len()).unwrap_or(u32::MAX) } else { 0 };
        let place = Place { depth, members };
        // A row names members of its cycle, and leads over their dependencies.
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
    /// What the round found is shown by others, too.
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
