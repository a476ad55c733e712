//! What stands below an object and is not well: what it owns, what it applies, and what it uses.
//!
//! **Invariant:** the worst of ten thousand objects below one is found without looking at the others.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
};

use crate::{
    Above, Application, FluxDetail, ObjectKey, Record, Seconds, State,
    catalogue::KindId,
    records::{self, Records},
};

/// The links from objects to those below them.
#[derive(Debug, Default)]
pub(crate) struct Below {
    /// What each object owns, or applies by its labels, and is not well.
    children: Ranks,
    /// What each Application applies by its inventory and is not well.
    applied: Ranks,
    /// The objects that are not well and use this one.
    users: HashMap<ObjectKey, HashSet<ObjectKey>>,
}

/// Objects that are not well below others, the likeliest cause first.
#[derive(Debug, Default)]
struct Ranks(HashMap<ObjectKey, BTreeSet<Rank>>);

impl Ranks {
    fn insert(&mut self, above: &ObjectKey, rank: Rank) {
        self.0.entry(above.clone()).or_default().insert(rank);
    }

    fn remove(&mut self, above: &ObjectKey, rank: &Rank) {
        if let Some(ranks) = self.0.get_mut(above) {
            ranks.remove(rank);
            if ranks.is_empty() {
                self.0.remove(above);
            }
        }
    }

    fn first(&self, above: &ObjectKey) -> Option<&Rank> {
        self.0.get(above)?.first()
    }
}

/// The order of causes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// What is tried at this moment comes before what failed and was left behind, such as an evicted pod; and that
    /// before what may still become well.
    likelihood: Reverse<u8>,
    /// [`Seconds::MAX`] if unknown.
    since: Seconds,
    key: ObjectKey,
}

impl Rank {
    fn of(record: &Record) -> Option<Self> {
        let verdict = &record.verdict;
        let likelihood = match (verdict.state, verdict.outcome()) {
            (State::Ready | State::Suspended, _) => return None,
            (_, State::Failing) => 6,
            (_, State::Stalled) => 5,
            (_, State::Failed) => 4,
            (_, State::Blocked) => 3,
            (_, State::Ready) => 1,
            _ => 2,
        };
        // What says nothing explains nothing; nor does what a later one of its series has followed.
        let is_silent = verdict.reason.is_empty() && verdict.message.is_empty();
        let counted = record.links().is_some_and(|links| links.series.is_some() && links.layer.is_some());
        let is_silent = is_silent || counted && record.layer.is_none();
        let since = verdict.outcome_since().unwrap_or(Seconds::MAX);
        (!is_silent).then(|| Self { likelihood: Reverse(likelihood), since, key: record.key.clone() })
    }
}

fn above(record: Option<&Record>) -> impl Iterator<Item = &ObjectKey> {
    record.and_then(|record| record.above.as_deref()).into_iter().flat_map(Above::keys)
}

/// What explains the state of a record that is not well, if that is not well itself.
fn used(record: Option<&Record>) -> impl Iterator<Item = &ObjectKey> {
    let record = record.filter(|record| record.verdict.state != State::Ready);
    let links = record.and_then(Record::links).into_iter();
    let awaited = record.and_then(Record::flux).into_iter().flat_map(FluxDetail::awaited);
    let application = record.and_then(Record::application);
    let culprit = application.and_then(Application::culprit_here);
    let project = application.and_then(|application| application.project_object.as_ref());
    let uses = links.flat_map(|links| &links.uses).map(|used| &used.target);
    uses.chain(awaited).chain(culprit).chain(project)
}

impl Below {
    /// Applies the change of a record, which these Applications apply by their inventories. Returns the objects that may
    /// be explained otherwise now.
    pub(crate) fn update(
        &mut self,
        key: &ObjectKey,
        old: Option<&Record>,
        new: Option<&Record>,
        applications: &[ObjectKey],
    ) -> Vec<ObjectKey> {
        let mut others: Vec<_> = self.users.get(key).into_iter().flatten().cloned().collect();
        let ranks = [old, new].map(|record| record.and_then(Rank::of));
        for parent in above(old) {
            if let Some(rank) = &ranks[0] {
                self.children.remove(parent, rank);
            }
            others.push(parent.clone());
        }
        for parent in above(new) {
            if let Some(rank) = &ranks[1] {
                self.children.insert(parent, rank.clone());
            }
            others.push(parent.clone());
        }
        for application in applications {
            self.replace(application, &ranks);
            others.push(application.clone());
        }
        if used(old).ne(used(new)) {
            for target in used(old) {
                if let Some(users) = self.users.get_mut(target) {
                    users.remove(key);
                    if users.is_empty() {
                        self.users.remove(target);
                    }
                }
            }
            for target in used(new) {
                self.users.entry(target.clone()).or_default().insert(key.clone());
            }
        }
        others.sort_unstable();
        others.dedup();
        others.retain(|other| other != key);
        others
    }

    fn replace(&mut self, application: &ObjectKey, [old, new]: &[Option<Rank>; 2]) {
        if let Some(rank) = old {
            self.applied.remove(application, rank);
        }
        if let Some(rank) = new {
            self.applied.insert(application, rank.clone());
        }
    }

    /// Applies the change of an Application's inventory: `gone` and `come` are the records of what it applies no longer
    /// and anew. Returns those that are not well, whose rows name the Application.
    pub(crate) fn reapply<'a>(
        &mut self,
        application: &ObjectKey,
        gone: impl Iterator<Item = &'a Record>,
        come: impl Iterator<Item = &'a Record>,
    ) -> Vec<ObjectKey> {
        let mut unwell = BTreeSet::new();
        let changes = gone.map(|record| (record, true)).chain(come.map(|record| (record, false)));
        for (record, is_gone) in changes.filter(|(record, _)| !record.verdict.is_well()) {
            let rank = Rank::of(record);
            self.replace(application, &if is_gone { [rank, None] } else { [None, rank] });
            unwell.insert(record.key.clone());
        }
        unwell.into_iter().collect()
    }

    /// Of what an object owns or applies, the likeliest cause of its failure.
    pub(crate) fn worst(&self, key: &ObjectKey) -> Option<&ObjectKey> {
        let firsts = [self.children.first(key), self.applied.first(key)];
        firsts.into_iter().flatten().min().map(|rank| &rank.key)
    }

    /// Whether a record explains a failure of what is above it.
    pub(crate) fn explains(record: &Record) -> bool {
        Rank::of(record).is_some()
    }

    /// The users of missing objects of `kind`, for when they become unknown instead of missing, or the reverse.
    pub(crate) fn users_of_absent(&self, kind: KindId, records: &Records) -> Vec<ObjectKey> {
        let absent =
            self.users.iter().filter(|(key, _)| key.kind == kind && records::find(records, key).is_none());
        absent.flat_map(|(_, users)| users).cloned().collect()
    }
}
