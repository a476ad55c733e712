//! Finds the objects whose rows show a change: dependents, and all objects that have the changed one as their root
//! cause or on the path to it.
//!
//! This is a breadth-first search from all changed objects, as deep as a walk to a root cause goes. It can be
//! interrupted after any step and resumed. Changes in the meantime wait for the next search.

use std::collections::{HashSet, VecDeque};

use super::{Graph, NodeId, Steps};
use crate::records::{self, Records};
use crate::{ObjectKey, Seconds, State, root_cause::WALK};

#[derive(Debug, Default)]
pub(super) struct Reach {
    /// The objects that changed since the current search began.
    seeds: HashSet<NodeId>,
    seeds_since: Option<Seconds>,
    /// The nodes that the current search has found.
    seen: HashSet<NodeId>,
    /// The nodes to visit, each with its distance from a change.
    open: VecDeque<(NodeId, usize)>,
    since: Option<Seconds>,
}

impl Reach {
    /// Queues an object that changed at `since`.
    pub(super) fn seed(&mut self, id: NodeId, since: Seconds) {
        self.seeds.insert(id);
        self.seeds_since = Some(self.seeds_since.map_or(since, |before| before.min(since)));
    }

    /// When the oldest change happened whose search is not complete; `None` if there is none.
    pub(super) fn behind_since(&self) -> Option<Seconds> {
        [self.since, self.seeds_since].into_iter().flatten().min()
    }
}

impl Graph {
    pub(super) fn reach_on(
        &mut self,
        steps: &mut Steps,
        records: &Records,
        affected: &mut impl FnMut(&ObjectKey, Seconds),
    ) {
        let mut reach = std::mem::take(&mut self.reach);
        if reach.open.is_empty() {
            reach.seen = std::mem::take(&mut reach.seeds);
            reach.open = reach.seen.iter().map(|id| (*id, 0)).collect();
            reach.since = reach.seeds_since.take();
        }
        let since = reach.since.unwrap_or_default();
        while steps.any() {
            let Some((next, distance)) = reach.open.pop_front() else { break };
            let node = self.node(next);
            let feeds = node.feeds();
            steps.take(1 + node.dependents.len() + feeds.consumers.len() + feeds.makes.len());
            // The row of a dependent always shows the states of its dependencies. The row of an object with a source
            // shows the source only if something is wrong.
            let dependents = node.dependents.iter().map(|id| (*id, self.looks_on(*id, records)));
            let consumers =
                feeds.consumers.iter().chain(&feeds.makes).map(|id| (*id, self.looks_on(*id, records)));
            let shown =
                dependents.map(|(id, on)| (id, on, true)).chain(consumers.map(|(id, on)| (id, on, on)));
            for (id, looks_on, shows) in shown {
                if shows {
                    affected(&self.node(id).key, since);
                }
                if looks_on && distance < WALK && reach.seen.insert(id) {
                    reach.open.push_back((id, distance + 1));
                }
            }
        }
        if reach.open.is_empty() {
            (reach.seen, reach.since) = (HashSet::new(), None);
        }
        self.reach = reach;
    }

    /// Whether a walk to a root cause continues from this object to its dependencies and source.
    fn looks_on(&self, id: NodeId, records: &Records) -> bool {
        let node = self.node(id);
        // From an object that does not exist, the walk continues to the generator that should make it.
        let Some(record) = records::find(records, &node.key) else { return !node.feeds().makers.is_empty() };
        let is_in_cycle = record.verdict.state == State::Blocked && node.place.is_in_cycle();
        !is_in_cycle && !record.satisfies_dependents()
    }
}
