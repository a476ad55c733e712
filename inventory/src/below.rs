//! What stands below an object and is not well: what it owns, what it applies, and what it uses.
//!
//! **Invariant:** the worst of ten thousand objects below one is found without looking at the others.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
};

use crate::{
    Above, FluxDetail, ObjectKey, Record, Seconds, State,
    catalogue::KindId,
    records::{self, Records},
};

/// The links from objects to those below them.
#[derive(Debug, Default)]
pub(crate) struct Below {
    /// What each object owns or applies and is not well, the likeliest cause first.
    children: HashMap<ObjectKey, BTreeSet<Rank>>,
    /// The objects that are not well and use this one.
    users: HashMap<ObjectKey, HashSet<ObjectKey>>,
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
    links.flat_map(|links| &links.uses).map(|used| &used.target).chain(awaited)
}

impl Below {
    /// Applies the change of a record. Returns the objects that may be explained otherwise now.
    pub(crate) fn update(
        &mut self,
        key: &ObjectKey,
        old: Option<&Record>,
        new: Option<&Record>,
    ) -> Vec<ObjectKey> {
        let mut others: Vec<_> = self.users.get(key).into_iter().flatten().cloned().collect();
        for parent in above(old) {
            if let Some(rank) = old.and_then(Rank::of)
                && let Some(children) = self.children.get_mut(parent)
            {
                children.remove(&rank);
                if children.is_empty() {
                    self.children.remove(parent);
                }
            }
            others.push(parent.clone());
        }
        for parent in above(new) {
            if let Some(rank) = new.and_then(Rank::of) {
                self.children.entry(parent.clone()).or_default().insert(rank);
            }
            others.push(parent.clone());
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

    /// Of what an object owns or applies, the likeliest cause of its failure.
    pub(crate) fn worst(&self, key: &ObjectKey) -> Option<&ObjectKey> {
        self.children.get(key)?.first().map(|rank| &rank.key)
    }

    /// How much an object owns or applies that is not well.
    pub(crate) fn children(&self, key: &ObjectKey) -> usize {
        self.children.get(key).map_or(0, BTreeSet::len)
    }

    /// The users of missing objects of `kind`, for when they become unknown instead of missing, or the reverse.
    pub(crate) fn users_of_absent(&self, kind: KindId, records: &Records) -> Vec<ObjectKey> {
        let absent =
            self.users.iter().filter(|(key, _)| key.kind == kind && records::find(records, key).is_none());
        absent.flat_map(|(_, users)| users).cloned().collect()
    }
}
