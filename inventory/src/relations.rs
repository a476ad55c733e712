//! How the verdicts of objects depend on each other by the catalogue's rules: an object uses others, and objects form
//! series of which the last counts.
//!
//! The verdict of a claim depends on its StorageClass, and that of a certificate on its issuer. A failed backup no
//! longer counts once a later one of its schedule has finished.
//!
//! **Invariant:** an object's own verdict is kept beside the one that follows from others, and others see only what does
//! not follow from others. So a change affects only direct users, and cycles are harmless.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    Applied, Cluster, Layer, ObjectKey, Record, Seconds, State, Str, Verdict,
    catalogue::KindId,
    records::{self, Records},
};

/// The links of an object to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    /// The verdict from the object's own fields alone.
    pub own: Verdict,
    /// The layer that it counts towards by its own fields.
    pub layer: Option<Layer>,
    /// The objects that it uses. The first one that explains its state decides.
    pub uses: Box<[Use]>,
    /// The series that it belongs to.
    pub series: Option<Member>,
    /// What it has applied to its own cluster, if it is an Application of Argo CD.
    pub applied: Option<Box<Applied>>,
}

impl Links {
    pub(crate) fn size(&self) -> usize {
        let of = |used: &Use| size_of_val(&*used.cases) + size_of_val(&*used.not_reasons);
        let applied = self.applied.as_ref().map_or(0, |applied| size_of::<Applied>() + applied.size());
        size_of::<Self>() + size_of_val(&*self.uses) + self.uses.iter().map(of).sum::<usize>() + applied
    }
}

/// An object that another one uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The used object.
    pub target: ObjectKey,
    /// Whether it explains a failure of the user if it has failed itself.
    pub explains_if_failed: bool,
    /// Whether it explains a failure of the user if it does not exist.
    pub explains_if_missing: bool,
    /// The reasons with which its own failure explains nothing.
    pub not_reasons: Box<[Str]>,
    /// How the verdict of the user depends on the used object. The first case that applies decides.
    pub cases: Box<[Case]>,
}

/// A verdict that depends on another object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The condition.
    pub when: When,
    /// The verdict if the condition holds.
    pub verdict: Verdict,
}

/// A condition on the used object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// It does not exist, although its kind is observed.
    Missing,
    /// Its own verdict has this reason.
    Reason(Str),
    /// It is in one of these states, crashing pods and passed deadlines included. Never of an object whose verdict
    /// depends on others itself.
    State(Box<[State]>),
}

/// A member of a series in which only the last finished one counts, such as the backups of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name of the series, unique within kind and namespace.
    pub name: Str,
    /// When the member began.
    pub at: Seconds,
    /// Whether it has finished, whether or not it succeeded.
    pub finished: bool,
}

/// Kind, namespace and name of a series.
type Series = (KindId, Str, Str);

/// The reverse links of a cluster's objects.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    /// For each used object, the objects whose verdict depends on it.
    users: HashMap<ObjectKey, HashSet<ObjectKey>>,
    /// The members of each series: when each began, and whether it has finished.
    series: HashMap<Series, BTreeMap<ObjectKey, (Seconds, bool)>>,
}

impl Relations {
    /// Applies the change of a record. Returns the other objects that have to be settled again.
    pub(crate) fn update(
        &mut self,
        key: &ObjectKey,
        old: Option<&Record>,
        new: Option<&Record>,
    ) -> Vec<ObjectKey> {
        let mut others = Vec::new();
        if old.map(Record::shown_to_users) != new.map(Record::shown_to_users) {
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

    /// The users of missing objects of `kind`, for when they become unknown instead of missing, or the reverse.
    pub(crate) fn users_of_absent(&self, kind: KindId, records: &Records) -> Vec<ObjectKey> {
        let absent =
            self.users.iter().filter(|(key, _)| key.kind == kind && records::find(records, key).is_none());
        absent.flat_map(|(_, users)| users).cloned().collect()
    }

    /// Whether a later member of the series has finished.
    fn is_outdone(&self, key: &ObjectKey, member: &Member) -> bool {
        let members = self.series.get(&series(key, member));
        members
            .into_iter()
            .flatten()
            .any(|(other, (at, finished))| *finished && (*at, other) > (member.at, key))
    }
}

/// The uses that have cases, so that the verdict depends on them.
fn deciding(links: &Links) -> impl Iterator<Item = &Use> {
    links.uses.iter().filter(|used| !used.cases.is_empty())
}

fn series(key: &ObjectKey, member: &Member) -> Series {
    (key.kind, key.namespace.clone(), member.name.clone())
}

impl Record {
    /// The verdict from its own fields alone.
    fn own_verdict(&self) -> &Verdict {
        self.links().map_or(&self.verdict, |links| &links.own)
    }

    /// What the verdicts of its users may depend on: the reason of its own verdict, and its state unless that follows
    /// from others.
    fn shown_to_users(&self) -> (&Str, Option<State>) {
        let follows = self.links().is_some_and(|links| deciding(links).next().is_some());
        (&self.own_verdict().reason, (!follows).then_some(self.verdict.state))
    }

    /// Computes the verdict and the layer from the links and the time. `before` is the record that it replaces.
    pub(crate) fn settle(&mut self, before: Option<&Record>, cluster: &Cluster, now: Seconds) {
        if let Some(before) = before {
            self.own_verdict_mut().continue_from(before.own_verdict());
        }
        if let Some(links) = self.links() {
            let case = links.uses.iter().find_map(|used| used.case(cluster));
            let (verdict, layer) = (case.unwrap_or(&links.own).clone(), links.layer);
            (self.verdict, self.layer) = (verdict, layer);
        }
        self.crash_with_pods(cluster, now);
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
            (When::Missing, Some(_)) | (When::Reason(_) | When::State(_), None) => false,
            (When::Reason(reason), Some(record)) => *record.shown_to_users().0 == *reason,
            (When::State(states), Some(record)) => {
                record.shown_to_users().1.is_some_and(|state| states.contains(&state))
            }
        };
        self.cases.iter().find(|case| applies(&case.when)).map(|case| &case.verdict)
    }
}
