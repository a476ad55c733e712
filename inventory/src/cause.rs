//! Why an object is not well, down to the container: the walk from it to the object that explains it.
//!
//! A step leads from an object to one that it depends on, takes its content from, uses, owns or applies. Each step
//! follows from the object alone and from what is known of the objects next to it, so that a change of one object
//! changes the steps of its neighbours only.

use std::{cmp::Reverse, collections::HashSet};

use crate::{
    Application, Cluster, Record, Root, Seconds, State,
    flux::{names_some, waits_for_health},
    root_cause::{self, FailedUse, Next, WALK, failed_use},
};

/// The walk from an object to what explains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause<'a> {
    /// The objects after the first, the nearest first. Empty if the object explains itself.
    pub path: Vec<&'a Record>,
    /// What the last object lacks, if that is not an object which is there.
    pub lacks: Option<Root<'a>>,
}

/// A step of the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// The next object.
    To(&'a Record),
    /// Something that is not there, or a cycle.
    Lacks(Root<'a>),
}

/// Reasons with which an object that owns others says itself what is wrong: it could not make them.
const SAYS_ITSELF: [&str; 3] = ["FailedCreate", "FailedDelete", "DeletionStuck"];

/// Reasons with which an Application is not well because of its resources.
const OF_RESOURCES: [&str; 5] = ["Degraded", "Progressing", "Missing", "HealthUnknown", "Syncing"];

/// Whether a Flux object failed because of what it applied.
fn is_by_health(record: &Record) -> bool {
    let verdict = &record.verdict;
    let is_by_health = || waits_for_health(&verdict.reason, &verdict.message) || names_some(&verdict.message);
    verdict.outcome() != State::Blocked && is_by_health()
}

impl Cluster {
    /// The walk to what explains an object; empty if that is the object itself.
    pub fn cause<'a>(&'a self, record: &'a Record) -> Cause<'a> {
        let mut cause = Cause { path: Vec::new(), lacks: None };
        let mut seen = HashSet::from([&record.key]);
        let mut current = record;
        while cause.path.len() < WALK {
            match self.step(current) {
                Some(Step::To(next)) if seen.insert(&next.key) => {
                    cause.path.push(next);
                    current = next;
                }
                Some(Step::Lacks(root)) => {
                    cause.lacks = Some(root);
                    break;
                }
                Some(Step::To(_)) | None => break,
            }
        }
        cause
    }

    /// The next step from an object that is not well.
    pub fn step<'a>(&'a self, record: &'a Record) -> Option<Step<'a>> {
        if record.verdict.is_well() {
            return None;
        }
        if record.flux().is_some() {
            match root_cause::next(self, record) {
                Some(Next::Dependency(next) | Next::Source(next)) => return Some(Step::To(next)),
                Some(Next::End(root)) => return Some(Step::Lacks(root)),
                None if is_by_health(record) && names_some(&record.verdict.message) => {
                    return self.awaited(record).map(Step::To);
                }
                None if is_by_health(record) => {}
                None => return None,
            }
        } else {
            match failed_use(self, record) {
                Some(FailedUse::Failed(next)) => return Some(Step::To(next)),
                Some(FailedUse::Missing(key)) => return Some(Step::Lacks(Root::MissingSource(key))),
                None if SAYS_ITSELF.contains(&&*record.verdict.reason) => return None,
                None => {}
            }
            if let Some(application) = record.application() {
                return self.of_resources(record, application).map(Step::To);
            }
        }
        let below = self.below.worst(&record.key)?;
        self.record(below).map(Step::To)
    }

    /// The resource because of which an Application is not well. Whoever may edit an Application may write its status, so
    /// that one outside of Argo CD's namespace leads to objects of its own namespace alone.
    fn of_resources<'a>(&'a self, record: &'a Record, application: &'a Application) -> Option<&'a Record> {
        let culprit = application.culprit_here().and_then(|key| self.record(key));
        let culprit = culprit.filter(|culprit| !culprit.verdict.is_well());
        let found = culprit.or_else(|| {
            let by_health = OF_RESOURCES.contains(&&*record.verdict.reason);
            by_health.then(|| self.below.worst(&record.key)).flatten().and_then(|key| self.record(key))
        })?;
        let is_of_argo = || application.project_object.as_ref().is_some_and(|key| self.record(key).is_some());
        (found.key.namespace == record.key.namespace || is_of_argo()).then_some(found)
    }

    /// Of the objects that an attempt waited for in vain, whoever applies them, the worst one. Others that fail are not
    /// the cause: nobody waits for them.
    fn awaited<'a>(&'a self, record: &'a Record) -> Option<&'a Record> {
        let named = record.flux()?.awaited().iter().filter_map(|key| self.record(key));
        let unwell = named.filter(|awaited| !awaited.verdict.is_well());
        unwell.min_by_key(|awaited| {
            let since = awaited.verdict.outcome_since().unwrap_or(Seconds::MAX);
            (Reverse(awaited.verdict.outcome()), since)
        })
    }
}
