//! Root causes: why an object cannot proceed, found by a walk along its dependencies and sources.

use std::collections::HashSet;

use crate::{
    Dependency, ObjectKey, Record, Reference, State,
    cluster::Cluster,
    flux::{asks_for_more, may_be_the_source, needs_a_source},
};

/// How many objects a walk visits at most. Real chains are shorter, and each row needs a walk.
pub(crate) const WALK: usize = 64;
/// How many dependencies a walk visits at most.
const LOOKS: usize = 2048;

/// The object or reference at which a walk ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root<'a> {
    /// A dependency that is not ready, for reasons of its own.
    Dependency(&'a Record),
    /// A dependency that is Ready, although the controller still waits for it: for a `readyExpr`, or for a newer
    /// revision.
    NotEnough {
        /// The dependency.
        dependency: &'a Record,
        /// The object that requires more. Its message says what.
        waiting: &'a Record,
    },
    /// The source that the object, or the dependency that it waits for, takes its content from.
    Source(&'a Record),
    /// A dependency that does not exist, although its kind is observed.
    Missing(&'a ObjectKey),
    /// A source that does not exist, although its kind is observed.
    MissingSource(&'a ObjectKey),
    /// A dependency that is unknown, since its kind is not observed or is forbidden.
    Unseen(&'a Reference),
    /// Dependencies that wait for each other, this one included; see [`Cluster::cycle`].
    Cycle(&'a ObjectKey),
}

/// A root cause and the path to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootCause<'a> {
    /// The end of the walk.
    pub root: Root<'a>,
    /// The objects between the two ends, the nearest first.
    pub path: Vec<&'a ObjectKey>,
}

impl Cluster {
    /// Why an object cannot proceed; `None` if it can, or if the cause is in the object itself.
    pub fn root_cause<'a>(&'a self, record: &'a Record) -> Option<RootCause<'a>> {
        match record.flux() {
            Some(_) => root_cause(self, record),
            None => rule_cause(self, record),
        }
    }
}

/// The next step of a walk.
pub(crate) enum Next<'a> {
    Dependency(&'a Record),
    Source(&'a Record),
    End(Root<'a>),
}

/// The root cause of the trouble of a Flux object; `None` if it has none, or causes it itself. If the chain is longer
/// than the limits of a walk, the object at which the walk stops.
fn root_cause<'a>(cluster: &'a Cluster, record: &'a Record) -> Option<RootCause<'a>> {
    // A healthy object that reconciles is not in trouble; one that waits for its source is.
    if !record.verdict.state.is_failure() && !waits_for_source(record) {
        return None;
    }
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
        looks += current.flux().map_or(0, |flux| flux.depends_on.len());
        (current, by_source) = match next {
            None => return Some(RootCause { root: end(current, by_source), path }),
            Some(Next::End(root)) => return Some(RootCause { root, path }),
            Some(Next::Dependency(dependency)) => (dependency, false),
            Some(Next::Source(source)) => (source, true),
        };
        if !seen.insert(&current.key) || seen.len() > WALK || looks > LOOKS {
            return Some(RootCause { root: end(current, by_source), path });
        }
    }
}

pub(crate) fn next<'a>(cluster: &'a Cluster, record: &'a Record) -> Option<Next<'a>> {
    // A suspended object proceeds when somebody resumes it, whatever else is wrong.
    if record.verdict.state == State::Suspended || record.satisfies_dependents() {
        return None;
    }
    // While a blocked object is tried again, what blocked it still does.
    if record.verdict.outcome() != State::Blocked {
        return source_in_the_way(cluster, record);
    }
    if cluster.place(&record.key).is_in_cycle() {
        return Some(Next::End(Root::Cycle(&record.key)));
    }
    let depends = record.flux().is_some_and(|flux| !flux.depends_on.is_empty());
    if depends && !needs_a_source(&record.verdict.reason) {
        return dependency_in_the_way(cluster, record);
    }
    source_in_the_way(cluster, record)
}

/// The dependency that blocks an object: the one that its controller names, since the controller checks them in order
/// and may accept some that are not ready. If it names none, the worst one: a failed one before a missing one before
/// one that is not ready. Among equals, the first by name, so that rows are stable.
fn dependency_in_the_way<'a>(cluster: &'a Cluster, record: &'a Record) -> Option<Next<'a>> {
    let flux = record.flux()?;
    if let Some(named) = flux.waits_for.and_then(|at| flux.depends_on.get(usize::from(at))) {
        return match cluster.dependency(named) {
            Dependency::Is(dependency) if !dependency.satisfies_dependents() => {
                Some(Next::Dependency(dependency))
            }
            Dependency::Is(dependency) if asks_for_more(&record.verdict.message) => {
                Some(Next::End(Root::NotEnough { dependency, waiting: record }))
            }
            // The dependency has become ready since then; the controller will retry.
            Dependency::Is(_) => None,
            Dependency::Missing => key_of(named).map(|key| Next::End(Root::Missing(key))),
            Dependency::Unseen => Some(Next::End(Root::Unseen(named))),
        };
    }
    let candidates = flux.depends_on.iter().filter_map(|reference| match cluster.dependency(reference) {
        Dependency::Is(dependency) => {
            let likelihood = Likelihood::of(dependency)?;
            Some((likelihood, reference, Next::Dependency(dependency)))
        }
        Dependency::Missing => {
            let key = key_of(reference)?;
            Some((Likelihood::Missing, reference, Next::End(Root::Missing(key))))
        }
        Dependency::Unseen => Some((Likelihood::Unseen, reference, Next::End(Root::Unseen(reference)))),
    });
    candidates.max_by(|(a, x, _), (b, y, _)| a.cmp(b).then_with(|| y.cmp(x))).map(|(_, _, next)| next)
}

fn key_of(reference: &Reference) -> Option<&ObjectKey> {
    match reference {
        Reference::Known(key) => Some(key),
        Reference::Foreign(_) => None,
    }
}

/// How likely a dependency is the cause, the least likely first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Likelihood {
    Unseen,
    NotReady(State),
    Missing,
    Failed(State),
}

impl Likelihood {
    fn of(dependency: &Record) -> Option<Self> {
        let verdict = &dependency.verdict;
        match verdict.state {
            _ if dependency.satisfies_dependents() => None,
            state if state.is_failure() => Some(Self::Failed(state)),
            state => Some(Self::NotReady(state)),
        }
    }
}

/// The source of an object, if the source is why the object is not ready: it has failed, is itself waiting, or is
/// missing.
fn source_in_the_way<'a>(cluster: &'a Cluster, record: &'a Record) -> Option<Next<'a>> {
    if !may_be_the_source(&record.verdict.reason, &record.verdict.message) {
        return None;
    }
    let key = record.flux()?.fed_by()?;
    let Some(source) = cluster.record(key) else {
        if !cluster.is_watched(key.kind) {
            return None;
        }
        let maker = cluster.maker(key).and_then(|maker| cluster.record(maker));
        let failed = maker.filter(|maker| !maker.verdict.is_well());
        let is_trouble = record.verdict.state.is_failure() || waits_for_source(record);
        return failed
            .map(Next::Source)
            .or_else(|| is_trouble.then_some(Next::End(Root::MissingSource(key))));
    };
    let verdict = &source.verdict;
    let is_waited_for = record.verdict.outcome() == State::Blocked || waits_for_source(record);
    let outcome = verdict.outcome();
    let is_good = outcome == State::Ready || verdict.is_well();
    let is_in_the_way = outcome.is_failure() || (is_waited_for && !is_good);
    is_in_the_way.then_some(Next::Source(source))
}

/// Whether an object is not ready because its source has no artifact yet.
fn waits_for_source(record: &Record) -> bool {
    let verdict = &record.verdict;
    // Before its deadline, the reason may still be that of an earlier failure.
    let reason = verdict.deadline.as_ref().map_or(&verdict.reason, |deadline| &deadline.reason);
    (verdict.state == State::Progressing || verdict.state.is_failure()) && needs_a_source(reason)
}

/// Why an object has failed, if the cause is another object that it uses.
fn rule_cause<'a>(cluster: &'a Cluster, record: &'a Record) -> Option<RootCause<'a>> {
    let mut passed = vec![record];
    if !record.verdict.state.is_failure() {
        return None;
    }
    let missing = loop {
        let current = passed[passed.len() - 1];
        match failed_use(cluster, current) {
            Some(FailedUse::Failed(used)) if !passed.iter().any(|one| one.key == used.key) => {
                passed.push(used);
            }
            Some(FailedUse::Missing(key)) => break Some(key),
            Some(FailedUse::Failed(_)) | None => break None,
        }
    };
    let root = match missing {
        Some(key) => Root::MissingSource(key),
        None if passed.len() == 1 => return None,
        None => Root::Source(passed.pop()?),
    };
    Some(RootCause { root, path: passed.into_iter().skip(1).map(|record| &record.key).collect() })
}

pub(crate) enum FailedUse<'a> {
    Failed(&'a Record),
    Missing(&'a ObjectKey),
}

/// The first of the objects that this one uses which explains why it is not well.
pub(crate) fn failed_use<'a>(cluster: &'a Cluster, record: &'a Record) -> Option<FailedUse<'a>> {
    record.links()?.uses.iter().find_map(|used| {
        let Some(other) = cluster.record(&used.target) else {
            let explains = used.explains_if_missing && cluster.is_watched(used.target.kind);
            return explains.then_some(FailedUse::Missing(&used.target));
        };
        let explains = used.explains_if_failed
            && other.verdict.state.is_failure()
            && !used.not_reasons.contains(&other.verdict.reason);
        explains.then_some(FailedUse::Failed(other))
    })
}
