//! How objects of the catalogue's rules bear on each other: which works by which, and which follow each other.
//!
//! A claim is judged by its StorageClass, a certificate fails because of its issuer, a failed backup is outdone by the next
//! one of its schedule. What an object says by itself is kept beside what follows from others, and only the former is
//! looked at by others: a change goes one step far, and never in circles.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    Cluster, Layer, ObjectKey, Record, Seconds, Str, Verdict,
    catalogue::KindId,
    records::{self, Records},
};

/// How an object is connected with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    /// Its verdict by what it says itself.
    pub own: Verdict,
    /// The layer it counts towards by itself.
    pub layer: Option<Layer>,
    /// What it works by, that first which explains most.
    pub uses: Box<[Use]>,
    /// The series it is one of.
    pub series: Option<Member>,
}

/// An object that another works by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Which.
    pub target: ObjectKey,
    /// What it makes of the other's verdict; the first that applies.
    pub cases: Box<[Case]>,
}

/// A verdict that depends on another object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// When it applies.
    pub when: When,
    /// The verdict then.
    pub verdict: Verdict,
}

/// What is asked of the other object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// It does not exist, though its kind is observed.
    Missing,
    /// Its verdict has this reason.
    Reason(Str),
}

/// One of a series of which the last counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The series, within kind and namespace.
    pub name: Str,
    /// When it began.
    pub at: Seconds,
    /// Whether it has come to an end, good or bad.
    pub finished: bool,
}

/// Kind, namespace and name of a series.
type Series = (KindId, Str, Str);

/// The connections of a cluster's objects, by their far end.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    /// Those whose verdict depends on the key's.
    users: HashMap<ObjectKey, HashSet<ObjectKey>>,
    /// When each of a series began, and whether it has ended.
    series: HashMap<Series, BTreeMap<ObjectKey, (Seconds, bool)>>,
}

impl Relations {
    /// Takes in that a record changed; the others that may have to be settled anew.
    pub(crate) fn update(
        &mut self,
        key: &ObjectKey,
        old: Option<&Record>,
        new: Option<&Record>,
    ) -> Vec<ObjectKey> {
        let mut others = Vec::new();
        if old.map(|old| &old.own_verdict().reason) != new.map(|new| &new.own_verdict().reason) {
            others.extend(self.users.get(key).into_iter().flatten().cloned());
        }
        let (before, after) = (old.and_then(Record::links), new.and_then(Record::links));
        if before.map(|links| &links.uses) != after.map(|links| &links.uses) {
            for used in before.into_iter().flat_map(deciding) {
                if let Some(users) = self.users.get_mut(&used.target) {
                    users.remove(key);
                    if users.is_empty() {
                        self.users.remove(&used.target);
                    }
                }
            }
            for used in after.into_iter().flat_map(deciding) {
                self.users.entry(used.target.clone()).or_default().insert(key.clone());
            }
        }
        let (before, after) =
            (before.and_then(|links| links.series.as_ref()), after.and_then(|links| links.series.as_ref()));
        if before != after {
            if let Some(member) = before {
                let series = series(key, member);
                if let Some(members) = self.series.get_mut(&series) {
                    members.remove(key);
                    others.extend(members.keys().cloned());
                    if members.is_empty() {
                        self.series.remove(&series);
                    }
                }
            }
            if let Some(member) = after {
                let members = self.series.entry(series(key, member)).or_default();
                others.extend(members.keys().cloned());
                members.insert(key.clone(), (member.at, member.finished));
            }
        }
        others.retain(|other| other != key);
        others
    }

    /// The users of objects of `kind` that are not there: whether those are missing or unseen has changed.
    pub(crate) fn users_of_absent(&self, kind: KindId, records: &Records) -> Vec<ObjectKey> {
        let absent =
            self.users.iter().filter(|(key, _)| key.kind == kind && records::find(records, key).is_none());
        absent.flat_map(|(_, users)| users).cloned().collect()
    }

    /// Whether a later one of the series has ended.
    fn is_outdone(&self, key: &ObjectKey, member: &Member) -> bool {
        let members = self.series.get(&series(key, member));
        members
            .into_iter()
            .flatten()
            .any(|(other, (at, finished))| *finished && (*at, other) > (member.at, key))
    }
}

/// The uses that the verdict depends on.
fn deciding(links: &Links) -> impl Iterator<Item = &Use> {
    links.uses.iter().filter(|used| !used.cases.is_empty())
}

fn series(key: &ObjectKey, member: &Member) -> Series {
    (key.kind, key.namespace.clone(), member.name.clone())
}

impl Record {
    /// What it says itself, whatever follows from others.
    fn own_verdict(&self) -> &Verdict {
        self.links().map_or(&self.verdict, |links| &links.own)
    }

    /// Lets others, and the time, decide about its verdict and whether it counts. `before` is what stood in its place.
    pub(crate) fn settle(&mut self, before: Option<&Record>, cluster: &Cluster, now: Seconds) {
        if let Some(before) = before {
            self.own_verdict_mut().continue_from(before.own_verdict());
        }
        if let Some(links) = self.links() {
            let case = links.uses.iter().find_map(|used| used.case(cluster));
            let (verdict, layer) = (case.unwrap_or(&links.own).clone(), links.layer);
            (self.verdict, self.layer) = (verdict, layer);
        }
        if let Some(before) = before
            && self.flux().is_none()
        {
            self.verdict.count_as_before(&before.verdict);
        }
        self.let_pass(now);
        let member = self.links().and_then(|links| links.series.as_ref());
        if self.verdict.state.is_failure()
            && member.is_some_and(|member| cluster.relations.is_outdone(&self.key, member))
        {
            self.layer = None;
        }
    }
}

impl Use {
    fn case(&self, cluster: &Cluster) -> Option<&Verdict> {
        let record = cluster.record(&self.target);
        let applies = |when: &When| match (when, record) {
            (When::Missing, None) => cluster.is_watched(self.target.kind),
            (When::Missing, Some(_)) | (When::Reason(_), None) => false,
            (When::Reason(reason), Some(record)) => record.own_verdict().reason == *reason,
        };
        self.cases.iter().find(|case| applies(&case.when)).map(|case| &case.verdict)
    }
}
