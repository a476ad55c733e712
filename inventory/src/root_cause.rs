//! Why an object cannot go on: the walk down its dependencies to the one that started it.

use std::collections::HashSet;

use crate::{ObjectKey, Record, Reference, State, cluster::Cluster};

/// How many objects a walk passes at most. Chains of this length are nobody's work, and a walk is made for each row.
pub(crate) const WALK: usize = 64;
/// How many dependencies a walk looks at, at most.
const LOOKS: usize = 2048;

/// The end of a chain of dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root<'a> {
    /// A dependency that is not ready, for reasons of its own.
    Dependency(&'a Record),
    /// The source that the object, or the dependency it waits for, takes its content from.
    Source(&'a Record),
    /// A dependency that does not exist, though its kind is observed.
    Missing(&'a ObjectKey),
    /// A dependency of a kind that is not observed, or may not be: nothing can be said about it.
    Unseen(&'a Reference),
    /// Dependencies that wait for each other, this one among them; see [`Place::cycle`](crate::Place).
    Cycle(&'a ObjectKey),
}

/// A root and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootCause<'a> {
    /// What it ends at.
    pub root: Root<'a>,
    /// The objects passed on the way, the nearest first, without the two ends.
    pub path: Vec<&'a ObjectKey>,
}

/// What an object waits for directly.
enum Next<'a> {
    Dependency(&'a Record),
    Source(&'a Record),
    End(Root<'a>),
}

/// The root cause of `record`'s trouble; `None` if it is in none, or causes it itself. On a chain that is longer than a
/// walk may be, it is the object at which the walk ends.
pub(crate) fn root_cause<'a>(cluster: &'a Cluster, record: &'a Record) -> Option<RootCause<'a>> {
    let mut path = Vec::new();
    let mut seen = HashSet::from([&record.key]);
    let (mut current, mut by_source) = (record, false);
    let end = |current, by_source| if by_source { Root::Source(current) } else { Root::Dependency(current) };
    let mut looks = 0;
    loop {
        let next = next(cluster, current);
        if std::ptr::eq(current, record) {
            next.as_ref()?;
        } else if next.is_some() {
            path.push(&current.key);
        }
        (current, by_source) = match next {
            None => return Some(RootCause { root: end(current, by_source), path }),
            Some(Next::End(root)) => return Some(RootCause { root, path }),
            Some(Next::Dependency(dependency)) => (dependency, false),
            Some(Next::Source(source)) => (source, true),
        };
        looks += current.flux().map_or(0, |flux| flux.depends_on.len());
        if !seen.insert(&current.key) || seen.len() > WALK || looks > LOOKS {
            return Some(RootCause { root: end(current, by_source), path });
        }
    }
}

fn next<'a>(cluster: &'a Cluster, record: &'a Record) -> Option<Next<'a>> {
    if record.verdict.state != State::Blocked {
        return failed_source(cluster, record).map(Next::Source);
    }
    if cluster.place(&record.key).is_in_cycle() {
        return Some(Next::End(Root::Cycle(&record.key)));
    }
    gravest_dependency(cluster, record)
}

/// The dependency that holds a blocked object back. Several may: the gravest is told, an object that is
/// missing before one that is merely not ready, and of equals the first by name, so that rows hold still.
fn gravest_dependency<'a>(cluster: &'a Cluster, record: &'a Record) -> Option<Next<'a>> {
    let flux = record.flux()?;
    let candidates = flux.depends_on.iter().filter_map(|reference| {
        let Reference::Known(key) = reference else {
            return Some((Grave::Unseen, reference, Next::End(Root::Unseen(reference))));
        };
        match cluster.record(key) {
            Some(dependency) => {
                let grave = Grave::of(dependency)?;
                Some((grave, reference, Next::Dependency(dependency)))
            }
            None if cluster.is_watched(key.kind) => {
                Some((Grave::Missing, reference, Next::End(Root::Missing(key))))
            }
            None => Some((Grave::Unseen, reference, Next::End(Root::Unseen(reference)))),
        }
    });
    candidates.max_by(|(a, x, _), (b, y, _)| a.cmp(b).then_with(|| y.cmp(x))).map(|(_, _, next)| next)
}

/// How much a dependency deserves the blame.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Grave {
    Unseen,
    NotReady(State),
    Missing,
    Failed(State),
}

impl Grave {
    fn of(dependency: &Record) -> Option<Self> {
        let verdict = &dependency.verdict;
        match verdict.state {
            _ if verdict.satisfies_dependents() => None,
            state if state.is_failure() => Some(Self::Failed(state)),
            state => Some(Self::NotReady(state)),
        }
    }
}

/// The source of a failed object, if it has failed as well.
fn failed_source<'a>(cluster: &'a Cluster, record: &Record) -> Option<&'a Record> {
    if !record.verdict.state.is_failure() {
        return None;
    }
    let Some(Reference::Known(key)) = &record.flux()?.source else { return None };
    cluster.record(key).filter(|source| source.verdict.state.is_failure())
}
