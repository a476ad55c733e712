//! Audits existing objects: judges each governed object by each policy that selects its namespace. Changes are found by
//! comparing two snapshots. There is no I/O, except to read objects that are too large to be kept whole.
//!
//! An update judges only what a change can affect: a changed object, and all objects that depend on it directly or
//! indirectly if its dependencies changed; all objects of a changed policy; and all objects of a namespace that other
//! policies select since its labels changed. A property test compares the result with that of a complete audit.

mod dependents;
mod held_back;
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
use self::held_back::HeldBack;
use crate::world::{Held, LiveError, ObjectKey, Snapshot, resource_of};

/// The violations of all policies among the objects of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    seen: Arc<Snapshot>,
    findings: BTreeMap<String, Findings>,
    dependents: Dependents,
    held_back: HeldBack,
    /// Objects that could not be read, and are not judged yet.
    unread: HashSet<Place>,
    /// The objects in cycles of `dependsOn` and between these, in the last snapshot.
    cycles: CycleCore,
}

/// The dependencies of objects, limited to objects that may be in a cycle.
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

/// Reads the whole of an object that is not kept whole, which may block; `None` if it does not exist any more.
pub(crate) type LookUp<'a> = dyn Fn(&Snapshot, &Held) -> Result<Option<Subject>, LiveError> + 'a;

/// The key of an object. Examples in a status are in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) key: ObjectKey,
}

/// The result of one policy.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) policy: Arc<Policy>,
    judged: HashSet<Place>,
    broken: BTreeMap<Place, Vec<Violation>>,
    /// The rest of the steps for evaluating conditions in this update.
    granted: u64,
}

/// How many steps the conditions of a policy may take in one update. That is about ten seconds, during which other
/// policies wait. A condition that would take more counts as violated by the objects that it was not evaluated on.
const PASS_STEPS: u64 = 1 << 30;

/// The objects to judge: by all policies that select their namespace, or by some of these.
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

    /// The number of judged objects.
    pub(crate) fn judged(&self) -> usize {
        self.judged.len()
    }

    /// The objects that violate rules, with their violations.
    pub(crate) fn broken(&self) -> &BTreeMap<Place, Vec<Violation>> {
        &self.broken
    }

    /// The number of objects that violate each rule.
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
    /// The results by the name of the policy.
    pub(crate) fn findings(&self) -> &BTreeMap<String, Findings> {
        &self.findings
    }

    /// How many objects a policy holds back, as their own status says.
    pub(crate) fn held_back_by(&self, policy: &str) -> usize {
        self.held_back.by(policy)
    }

    /// Whether objects could not be read and are not judged yet.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Judges the differences between `snapshot` and the previous one. Conditions may need fields that are not kept;
    /// these objects are read one by one.
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
                self.held_back.follow(&place, new.map(|held| &**held));
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
        // Objects that depend on a moved one, at any distance, may now be on or off a cycle.
        for name in self.dependents.above(moved) {
            if let Some(held) = after.named(&name)
                && let Some(kind) = held.kind
            {
                work.everybody.insert(Place { kind, key: held.key.clone() });
            }
        }
    }

    fn follow_namespaces(&mut self, before: &Snapshot, after: &Snapshot, work: &mut Work) {
        // The maps are shared if nothing changed, which is the usual case.
        if before.namespaces.ptr_eq(&after.namespaces) {
            return;
        }
        let names: HashSet<&Str> = before.namespaces.keys().chain(after.namespaces.keys()).collect();
        for name in names {
            let (old, new) = (before.namespaces.get(name), after.namespaces.get(name));
            if old == new {
                continue;
            }
            for (policy, findings) in &mut self.findings {
                let selected = old.is_some_and(|info| findings.policy.selects(&info.labels));
                let selects = new.is_some_and(|info| findings.policy.selects(&info.labels));
                // The same to a policy, unless a condition looks at the namespace itself.
                if selected == selects && !(selects && findings.policy.asks_for_namespace()) {
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
        let Some(mut subject) = subject else { return };
        if self
            .findings
            .iter()
            .any(|(name, findings)| is_judge(name, findings) && findings.policy.asks_for_namespace())
        {
            subject = subject.within(Arc::new(namespace.object(&place.key.namespace)));
        }
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

/// The governed objects in a namespace.
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
