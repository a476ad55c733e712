//! Problems: which objects are not well by themselves, and the worst of them in each namespace.
//!
//! **Invariant:** a healthy cluster costs nothing: only problems are kept.

use std::collections::{BTreeSet, HashMap};

use crate::{ObjectKey, Record, State, Str, catalogue::Kind, tally::Rank};

/// The namespace of problems of cluster-scoped objects, as that of their Events.
const OF_CLUSTER: &str = "default";

/// Whether an object is a problem. One that counts towards a layer no longer, such as a failed backup that later ones
/// followed, is none. A pod with an owner is none either: it explains the problem that its owner is.
pub fn is_problem(kind: &Kind, record: &Record) -> bool {
    let counts = record.layer.is_some() || !kind.has_layers();
    let is_shown_by_owner = kind.is_pod() && record.above.as_ref().is_some_and(|above| above.owner.is_some());
    let state = record.verdict.outcome();
    (state.is_failure() || state == State::Unknown) && counts && !is_shown_by_owner
}

/// The namespace in which an object is a problem.
pub fn problem_namespace(key: &ObjectKey) -> Str {
    if key.namespace.is_empty() { OF_CLUSTER.into() } else { key.namespace.clone() }
}

/// The problems of a namespace or a cluster: the most severe first, then the oldest.
#[derive(Debug, Default)]
pub struct Problems(BTreeSet<Rank>);

impl Problems {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The worst one.
    pub fn worst(&self) -> Option<&ObjectKey> {
        self.0.first().map(|rank| &rank.key)
    }
}

/// The problems of a cluster, and of each namespace that has some.
#[derive(Debug, Default)]
pub(crate) struct ProblemTallies {
    pub(crate) all: Problems,
    pub(crate) namespaces: HashMap<Str, Problems>,
}

impl ProblemTallies {
    /// Adds a record, if it is a problem.
    pub(crate) fn add(&mut self, record: &Record, kind: &Kind) {
        if is_problem(kind, record) {
            let rank = Rank::by_outcome(record);
            self.namespaces.entry(problem_namespace(&record.key)).or_default().0.insert(rank.clone());
            self.all.0.insert(rank);
        }
    }

    /// Removes a record, which must be the same as when it was added.
    pub(crate) fn remove(&mut self, record: &Record, kind: &Kind) {
        if is_problem(kind, record) {
            let (rank, name) = (Rank::by_outcome(record), problem_namespace(&record.key));
            self.all.0.remove(&rank);
            if let Some(problems) = self.namespaces.get_mut(&name) {
                problems.0.remove(&rank);
                if problems.is_empty() {
                    self.namespaces.remove(&name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CATALOGUE, record};

    #[test]
    fn the_worst_problem_is_found_and_what_was_removed_leaves_nothing() {
        let of = |name: &str, state, since| record(name).state(state).since(since).build();
        let all = [
            of("old", State::Unknown, 1),
            of("late", State::Failed, 20),
            of("early", State::Failed, 10),
            of("fine", State::Ready, 1),
        ];
        let mut tallies = ProblemTallies::default();
        for record in &all {
            tallies.add(record, CATALOGUE.kind(record.key.kind));
        }
        let worst = |problems: &Problems| (problems.len(), problems.worst().map(|key| key.name.to_string()));
        assert_eq!(worst(&tallies.all), (3, Some("early".into())));
        for record in &all {
            tallies.remove(record, CATALOGUE.kind(record.key.kind));
        }
        assert!(tallies.all.is_empty() && tallies.namespaces.is_empty());
    }
}
