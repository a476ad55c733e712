//! What already exists, judged: each governed object by each policy over its namespace. Told what changed by the
//! difference between two snapshots; pure, but for looking up objects that are too large to be kept whole.
//!
//! Judged anew is what a change can touch: a changed object, and whoever depends on it where what it depends on
//! changed; every object of a policy that changed; every object of a namespace whose labels now select another policy.
//! A property test compares with judging everything anew.

mod dependents;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use gatehouse_apiservice::{agones::Claim, client::explain};
use gatehouse_inventory::Str;
use gatehouse_policy::{
    CycleCore, Dependencies, Edges, GOVERNED, Kind, ObjectName, Policy, Subject, Violation,
};
use serde_json::Value;

use self::dependents::Dependents;
use crate::world::{Held, LiveError, ObjectKey, Snapshot, resource_of};

/// What the policies find among the objects of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    seen: Arc<Snapshot>,
    findings: BTreeMap<String, Findings>,
    dependents: Dependents,
    /// What could not be read to be judged.
    unread: HashSet<Place>,
    /// As of the snapshot that was seen last.
    cycles: CycleCore,
}

/// What the objects of a snapshot depend on, as far as a cycle may lead there.
struct Cycles<'a> {
    snapshot: &'a Snapshot,
    core: &'a CycleCore,
}

impl Dependencies for Cycles<'_> {
    fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>> {
        if self.core.contains(of) { self.snapshot.depends_on(of) } else { None }
    }

    fn owns(&self, namespace: &str, claim: &Claim<'_>) -> bool {
        self.snapshot.owns(namespace, claim)
    }

    fn fleet(&self, namespace: &str, name: &str) -> Option<Value> {
        self.snapshot.fleet(namespace, name)
    }
}

/// Looks up the whole of an object that is kept in part alone, which may take a while; none, if it is gone.
pub(crate) type LookUp<'a> = dyn Fn(&Snapshot, &Held) -> Result<Option<Subject>, LiveError> + 'a;

/// An object, in the order in which examples are told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) key: ObjectKey,
}

/// What one policy finds.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) policy: Arc<Policy>,
    judged: HashSet<Place>,
    broken: BTreeMap<Place, Vec<Violation>>,
    /// Steps of its conditions that are left for what changed at once.
    granted: u64,
}

/// The steps of a policy's conditions that what changed at once may take: some ten seconds of work, which the other policies
/// wait for. A condition that would take more is broken where it was not evaluated.
const PASS_STEPS: u64 = 1 << 30;

/// Whom a judgement is for: every policy that selects the namespace, or some.
#[derive(Debug, Default)]
struct Work {
    everybody: HashSet<Place>,
    for_some: HashMap<Place, BTreeSet<String>>,
}

impl Findings {
    fn new(policy: &Arc<Policy>) -> Self {
        Self {
            policy: Arc::clone(policy),
            judged: HashSet::new(),
            broken: BTreeMap::new(),
            granted: PASS_STEPS,
        }
    }

    /// How many objects were judged.
    pub(crate) fn judged(&self) -> usize {
        self.judged.len()
    }

    /// Objects that break a rule, with what is wrong.
    pub(crate) fn broken(&self) -> &BTreeMap<Place, Vec<Violation>> {
        &self.broken
    }

    /// How many objects break each rule.
    pub(crate) fn by_rule(&self) -> BTreeMap<&str, usize> {
        let mut rules = BTreeMap::new();
        for violations in self.broken.values() {
            let broken: BTreeSet<&str> = violations.iter().map(|violation| &*violation.rule).collect();
            for rule in broken {
                *rules.entry(rule).or_default() += 1;
            }
        }
        rules
    }

    fn forget(&mut self, place: &Place) {
        self.judged.remove(place);
        self.broken.remove(place);
    }
}

impl Audit {
    /// What each policy finds, by the policy's name.
    pub(crate) fn findings(&self) -> &BTreeMap<String, Findings> {
        &self.findings
    }

    /// Whether something could not be read, and is to be judged yet.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Judges what differs in `snapshot` from what was seen last. Conditions may need what is not kept: that is looked
    /// up, one object after the other.
    pub(crate) fn update(&mut self, snapshot: Arc<Snapshot>, look_up: &LookUp<'_>) {
        let before = std::mem::replace(&mut self.seen, snapshot);
        let after = Arc::clone(&self.seen);
        let mut work = Work { everybody: std::mem::take(&mut self.unread), ..Work::default() };
        self.follow_objects(&before, &after, &mut work);
        self.follow_namespaces(&before, &after, &mut work);
        self.follow_policies(&after, &mut work);
        self.judge(&after, work, look_up);
    }

    fn follow_objects(&mut self, before: &Snapshot, after: &Snapshot, work: &mut Work) {
        let mut moved = BTreeSet::new();
        for kind in GOVERNED {
            let known = before.objects(resource_of(*kind)).cloned().unwrap_or_default();
            let current = after.objects(resource_of(*kind)).cloned().unwrap_or_default();
            for change in known.diff(&current) {
                let (key, old, new) = match change {
                    imbl::ordmap::DiffItem::Add(key, new) => (key, None, Some(new)),
                    imbl::ordmap::DiffItem::Update { old: (_, old), new: (key, new) } => {
                        (key, Some(old), Some(new))
                    }
                    imbl::ordmap::DiffItem::Remove(key, old) => (key, Some(old), None),
                };
                let place = Place { kind: *kind, key: key.clone() };
                if depends_on(old) != depends_on(new) || old.is_some() != new.is_some() {
                    let name = place.object_name();
                    self.dependents.change(&name, depends_on(old), depends_on(new));
                    moved.insert(name);
                }
                if new.is_none() {
                    self.findings.values_mut().for_each(|findings| findings.forget(&place));
                } else {
                    work.everybody.insert(place);
                }
            }
        }
        if !moved.is_empty() {
            self.cycles = CycleCore::of(&edges(after));
        }
        // A cycle opens or closes for everybody who comes by the one that moved.
        for name in self.dependents.above(moved) {
            if let Some(held) = after.named(&name)
                && let Some(kind) = held.kind
            {
                work.everybody.insert(Place { kind, key: held.key.clone() });
            }
        }
    }

    fn follow_namespaces(&mut self, before: &Snapshot, after: &Snapshot, work: &mut Work) {
        // Shared where nothing changed, which is almost always.
        if before.namespaces.ptr_eq(&after.namespaces) {
            return;
        }
        let names: HashSet<&Str> = before.namespaces.keys().chain(after.namespaces.keys()).collect();
        for name in names {
            let (old, new) = (before.namespaces.get(name), after.namespaces.get(name));
            if old.map(|info| &info.labels) == new.map(|info| &info.labels) {
                continue;
            }
            for (policy, findings) in &mut self.findings {
                let selected = old.is_some_and(|info| findings.policy.selects(&info.labels));
                let selects = new.is_some_and(|info| findings.policy.selects(&info.labels));
                if selected == selects {
                    continue;
                }
                for place in places_in(after, name) {
                    if selects {
                        work.for_some.entry(place).or_default().insert(policy.clone());
                    } else {
                        findings.forget(&place);
                    }
                }
            }
        }
    }

    fn follow_policies(&mut self, after: &Snapshot, work: &mut Work) {
        let current: BTreeMap<&str, &Arc<Policy>> =
            after.policies.iter().map(|policy| (policy.name.as_str(), policy)).collect();
        self.findings.retain(|name, _| current.contains_key(name.as_str()));
        for (name, policy) in current {
            if self.findings.get(name).is_some_and(|known| Arc::ptr_eq(&known.policy, policy)) {
                continue;
            }
            self.findings.insert(name.to_owned(), Findings::new(policy));
            for (namespace, info) in &after.namespaces {
                if policy.selects(&info.labels) {
                    for place in places_in(after, namespace) {
                        work.for_some.entry(place).or_default().insert(name.to_owned());
                    }
                }
            }
        }
    }

    fn judge(&mut self, snapshot: &Snapshot, work: Work, look_up: &LookUp<'_>) {
        let Work { everybody, mut for_some } = work;
        self.findings.values_mut().for_each(|findings| findings.granted = PASS_STEPS);
        for place in everybody {
            for_some.remove(&place);
            self.judge_one(snapshot, &place, None, look_up);
        }
        for (place, policies) in for_some {
            self.judge_one(snapshot, &place, Some(&policies), look_up);
        }
    }

    fn judge_one(
        &mut self,
        snapshot: &Snapshot,
        place: &Place,
        only: Option<&BTreeSet<String>>,
        look_up: &LookUp<'_>,
    ) {
        let Some(held) =
            snapshot.objects(resource_of(place.kind)).and_then(|objects| objects.get(&place.key))
        else {
            return;
        };
        let Some(namespace) = snapshot.namespaces.get(&place.key.namespace) else { return };
        let is_judge = |name: &String, findings: &Findings| {
            only.is_none_or(|only| only.contains(name)) && findings.policy.selects(&namespace.labels)
        };
        let mut judges = self.findings.iter().filter(|(name, findings)| is_judge(name, findings));
        let needs_all = !held.is_whole() && judges.any(|(_, findings)| findings.policy.has_conditions());
        let subject = match needs_all.then(|| look_up(snapshot, held)) {
            None => held.subject(),
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                tracing::warn!(kind = place.kind.name(), namespace = %place.key.namespace, name = %place.key.name, error = %explain(&error), "cannot be audited yet");
                self.unread.insert(place.clone());
                return;
            }
        };
        let Some(subject) = subject else { return };
        for (name, findings) in &mut self.findings {
            if !is_judge(name, findings) {
                continue;
            }
            let deps = Cycles { snapshot, core: &self.cycles };
            let violations = findings.policy.audit_within(&subject, &deps, &mut findings.granted);
            findings.judged.insert(place.clone());
            if violations.is_empty() {
                findings.broken.remove(place);
            } else {
                findings.broken.insert(place.clone(), violations);
            }
        }
    }
}

impl Place {
    fn object_name(&self) -> ObjectName {
        ObjectName {
            group: self.kind.group().into(),
            kind: self.kind.name().into(),
            namespace: Str::clone(&self.key.namespace),
            name: Str::clone(&self.key.name),
        }
    }
}

fn edges(snapshot: &Snapshot) -> Edges {
    let of_kind = |kind: &Kind| {
        let objects = snapshot.objects(resource_of(*kind)).into_iter().flatten();
        let kind = *kind;
        objects.map(move |(key, held)| {
            let place = Place { kind, key: key.clone() };
            (place.object_name(), held.depends_on.to_vec())
        })
    };
    GOVERNED.iter().flat_map(of_kind).collect()
}

fn depends_on(held: Option<&Arc<Held>>) -> &[ObjectName] {
    held.map_or(&[], |held| &held.depends_on)
}

/// The governed objects of a namespace.
fn places_in(snapshot: &Snapshot, namespace: &Str) -> Vec<Place> {
    let first = ObjectKey { namespace: Str::clone(namespace), name: Str::default() };
    let mut places = Vec::new();
    for kind in GOVERNED {
        let Some(objects) = snapshot.objects(resource_of(*kind)) else { continue };
        let inside = objects.range(first.clone()..).take_while(|(key, _)| key.namespace == *namespace);
        places.extend(inside.map(|(key, _)| Place { kind: *kind, key: key.clone() }));
    }
    places
}
