//! The graph of `spec.dependsOn`, and of which source feeds which object.
//!
//! Kept for one cluster. Depths and cycles are kept for every object and recomputed only for those that
//! depend on what changed: an edge added to X can lengthen, close or break nothing but chains through X.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use crate::{ObjectKey, Record, Reference, State, catalogue::KindId};

/// The records of a cluster, as far as the graph needs them.
pub(crate) trait Records {
    /// The record with this key.
    fn record(&self, key: &ObjectKey) -> Option<&Record>;
}

/// Who depends on whom.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// The objects that name the key in `dependsOn`. Keys may name objects that do not exist.
    dependents: HashMap<ObjectKey, Vec<ObjectKey>>,
    /// The objects that take their content from the key.
    consumers: HashMap<ObjectKey, HashSet<ObjectKey>>,
    /// Only of objects with dependencies.
    places: HashMap<ObjectKey, Place>,
}

/// Where an object stands in the graph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Objects on the longest chain of dependencies below this one; a cycle counts once.
    pub depth: u32,
    /// The shortest cycle through the object: it comes first, each depends on the next, the last on it.
    pub cycle: Option<Arc<[ObjectKey]>>,
}

/// The objects a record depends on, of kinds that are observed.
fn dependencies(record: &Record) -> impl Iterator<Item = &ObjectKey> {
    record.flux().into_iter().flat_map(|flux| &flux.depends_on).filter_map(known)
}

fn source(record: &Record) -> Option<&ObjectKey> {
    record.flux().and_then(|flux| flux.source.as_ref()).and_then(known)
}

fn is_failing(record: &Record) -> bool {
    record.verdict.state.is_failure()
}

fn known(reference: &Reference) -> Option<&ObjectKey> {
    match reference {
        Reference::Known(key) => Some(key),
        Reference::Foreign { .. } => None,
    }
}

impl Graph {
    /// The objects that name `key` in their `dependsOn`.
    pub(crate) fn dependents(&self, key: &ObjectKey) -> &[ObjectKey] {
        self.dependents.get(key).map_or(&[], Vec::as_slice)
    }

    /// Where `key` stands.
    pub(crate) fn place(&self, key: &ObjectKey) -> Place {
        self.places.get(key).cloned().unwrap_or_default()
    }

    /// Takes in that a record changed from `old` to `new`, and adds to `affected` every other object
    /// whose dependencies, depth, cycle or root cause may look different now. `records` has the new state.
    pub(crate) fn update(
        &mut self,
        key: &ObjectKey,
        old: Option<&Record>,
        new: Option<&Record>,
        records: &impl Records,
        affected: &mut HashSet<ObjectKey>,
    ) {
        let edges = |record: Option<&Record>| -> Vec<ObjectKey> {
            record.into_iter().flat_map(dependencies).cloned().collect()
        };
        let (before, after) = (edges(old), edges(new));
        let rewired = before != after;
        if rewired {
            for target in &before {
                self.unlink(target, key);
                affected.insert(target.clone());
            }
            for target in &after {
                // Most objects have one dependent, and there are many objects.
                let dependents =
                    self.dependents.entry(target.clone()).or_insert_with(|| Vec::with_capacity(1));
                if !dependents.contains(key) {
                    dependents.push(key.clone());
                }
                affected.insert(target.clone());
            }
        }
        self.resource(key, old.and_then(source), new.and_then(source));
        let moved = rewired || old.is_some() != new.is_some();
        if moved {
            self.recompute(&self.above(key), records);
        }
        let failed = old.is_some_and(is_failing) || new.is_some_and(is_failing);
        self.reach(key, moved, failed, records, affected);
    }

    /// Adds to `affected` what depends on objects of `kind` that are not there: whether those are missing or
    /// merely unseen has changed.
    pub(crate) fn reach_absent(
        &self,
        kind: KindId,
        records: &impl Records,
        affected: &mut HashSet<ObjectKey>,
    ) {
        let absent = self.dependents.keys().filter(|key| key.kind == kind && records.record(key).is_none());
        for key in absent {
            self.reach(key, false, false, records, affected);
        }
    }

    /// Adds to `affected` what shows `key`: its dependents, and whatever has it as its root cause or on the
    /// way there. `moved`: chains through it may have changed. `failed`: it fails or did.
    fn reach(
        &self,
        key: &ObjectKey,
        moved: bool,
        failed: bool,
        records: &impl Records,
        affected: &mut HashSet<ObjectKey>,
    ) {
        let mut seen = HashSet::from([key.clone()]);
        let mut queue = VecDeque::from([key.clone()]);
        while let Some(next) = queue.pop_front() {
            for dependent in self.dependents(&next) {
                affected.insert(dependent.clone());
                // Beyond an object that is not blocked nobody sees what it depends on.
                let blocked =
                    || records.record(dependent).is_some_and(|one| one.verdict.state == State::Blocked);
                if (moved || blocked()) && seen.insert(dependent.clone()) {
                    queue.push_back(dependent.clone());
                }
            }
            let fails = |key: &ObjectKey| records.record(key).is_some_and(is_failing);
            if (failed && next == *key) || fails(&next) {
                for consumer in self.consumers.get(&next).into_iter().flatten().filter(|key| fails(key)) {
                    affected.insert(consumer.clone());
                    if seen.insert(consumer.clone()) {
                        queue.push_back(consumer.clone());
                    }
                }
            }
        }
    }

    fn unlink(&mut self, target: &ObjectKey, dependent: &ObjectKey) {
        if let Some(dependents) = self.dependents.get_mut(target) {
            dependents.retain(|other| other != dependent);
            if dependents.is_empty() {
                self.dependents.remove(target);
            }
        }
    }

    fn resource(&mut self, key: &ObjectKey, old: Option<&ObjectKey>, new: Option<&ObjectKey>) {
        if old == new {
            return;
        }
        if let Some(old) = old
            && let Some(consumers) = self.consumers.get_mut(old)
        {
            consumers.remove(key);
            if consumers.is_empty() {
                self.consumers.remove(old);
            }
        }
        if let Some(new) = new {
            self.consumers.entry(new.clone()).or_default().insert(key.clone());
        }
    }

    /// `key` and all that depend on it, directly or through others.
    fn above(&self, key: &ObjectKey) -> HashSet<ObjectKey> {
        let mut reached = HashSet::from([key.clone()]);
        let mut queue = VecDeque::from([key.clone()]);
        while let Some(next) = queue.pop_front() {
            for dependent in self.dependents(&next) {
                if reached.insert(dependent.clone()) {
                    queue.push_back(dependent.clone());
                }
            }
        }
        reached
    }

    /// Depths and cycles of `dirty`, which holds every object whose chain leads through another of it.
    fn recompute(&mut self, dirty: &HashSet<ObjectKey>, records: &impl Records) {
        for component in components(dirty, records) {
            let members: HashSet<&ObjectKey> = component.iter().collect();
            let mut depth = 0;
            let mut inward = false;
            for key in &component {
                for target in records.record(key).into_iter().flat_map(dependencies) {
                    if members.contains(target) {
                        inward = true;
                    } else {
                        depth = depth.max(1 + self.places.get(target).map_or(0, |place| place.depth));
                    }
                }
            }
            for key in &component {
                let cycle = inward.then(|| shortest_cycle(key, &members, records));
                let place = Place { depth, cycle };
                if place == Place::default() {
                    self.places.remove(key);
                } else {
                    self.places.insert(key.clone(), place);
                }
            }
        }
    }
}

/// The strongly connected components of the sub-graph over `keys`, dependencies before dependents
/// (Tarjan's algorithm, with its stack on the heap: chains may be thousands long).
fn components(keys: &HashSet<ObjectKey>, records: &impl Records) -> Vec<Vec<ObjectKey>> {
    #[derive(Clone, Copy)]
    struct Visit {
        index: usize,
        low: usize,
        open: bool,
    }
    let targets = |key: &ObjectKey| -> Vec<ObjectKey> {
        let record = records.record(key).into_iter();
        record.flat_map(dependencies).filter(|target| keys.contains(target)).cloned().collect()
    };
    let mut visits: HashMap<ObjectKey, Visit> = HashMap::new();
    let mut open: Vec<ObjectKey> = Vec::new();
    let mut found = Vec::new();
    for start in keys {
        if visits.contains_key(start) {
            continue;
        }
        let mut calls: Vec<(ObjectKey, Vec<ObjectKey>)> = vec![(start.clone(), targets(start))];
        while let Some((key, rest)) = calls.last_mut() {
            let index = visits.len();
            let own = *visits.entry(key.clone()).or_insert_with(|| {
                open.push(key.clone());
                Visit { index, low: index, open: true }
            });
            if let Some(target) = rest.pop() {
                match visits.get(&target) {
                    None => {
                        let below = targets(&target);
                        calls.push((target, below));
                    }
                    Some(seen) if seen.open => {
                        let low = own.low.min(seen.index);
                        visits.insert(key.clone(), Visit { low, ..own });
                    }
                    Some(_) => {}
                }
                continue;
            }
            if own.low == own.index {
                let first = open.iter().rposition(|other| other == key).unwrap_or_default();
                let component = open.split_off(first);
                for member in &component {
                    visits.entry(member.clone()).and_modify(|visit| visit.open = false);
                }
                found.push(component);
            }
            calls.pop();
            if let Some((parent, _)) = calls.last() {
                visits.entry(parent.clone()).and_modify(|visit| visit.low = visit.low.min(own.low));
            }
        }
    }
    found
}

/// The shortest way from `key` back to itself within `members`, by breadth-first search.
fn shortest_cycle(
    key: &ObjectKey,
    members: &HashSet<&ObjectKey>,
    records: &impl Records,
) -> Arc<[ObjectKey]> {
    let mut came_from: HashMap<&ObjectKey, &ObjectKey> = HashMap::new();
    let mut queue = VecDeque::from([key]);
    while let Some(next) = queue.pop_front() {
        for target in records.record(next).into_iter().flat_map(dependencies) {
            if target == key {
                let mut path = vec![next.clone()];
                let mut at = next;
                while let Some(previous) = came_from.get(at) {
                    path.push((*previous).clone());
                    at = previous;
                }
                path.reverse();
                return path.into();
            }
            if let Some(member) = members.get(target)
                && !came_from.contains_key(*member)
            {
                came_from.insert(member, next);
                queue.push_back(member);
            }
        }
    }
    // Every member of a component lies on a cycle; a component that only feeds one is of one member.
    Arc::from([key.clone()])
}
