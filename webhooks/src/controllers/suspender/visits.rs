//! Which objects the suspender visits: those that changed since the last pass, those that are due, and those in
//! namespaces where the active freezes or limits changed. A single change never causes a visit of all objects.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use gatehouse_inventory::{Str, Suspension};
use gatehouse_policy::{GOVERNED, Kind};
use imbl::ordmap::DiffItem;
use jiff::Timestamp;

use crate::{
    controllers::{freeze::Hold, suspension::Limit},
    world::{NamespaceInfo, ObjectKey, Objects, Snapshot, resource_of},
};

/// The key of an object.
pub(super) type Place = (Kind, ObjectKey);

/// The active freezes and the limits in a namespace.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    pub(super) holds: Vec<Hold>,
    pub(super) limit: Limit,
    /// When the next freeze begins or ends.
    until: Option<Timestamp>,
}

/// The last snapshot, and when to visit which object.
#[derive(Debug, Default)]
pub(super) struct Visits {
    seen: Option<Arc<Snapshot>>,
    rulesets: HashMap<Str, Ruleset>,
    /// When the next freeze begins or ends in any namespace.
    next_ruleset: Option<Timestamp>,
    due: BTreeSet<(Timestamp, Place)>,
    due_of: HashMap<Place, Timestamp>,
    again: BTreeSet<Place>,
}

impl Visits {
    /// The objects to visit now, including deleted ones.
    pub(super) fn take(&mut self, snapshot: &Arc<Snapshot>, now: Timestamp) -> BTreeSet<Place> {
        let before = self.seen.replace(Arc::clone(snapshot)).unwrap_or_default();
        let mut places = std::mem::take(&mut self.again);
        for kind in GOVERNED.iter().copied().filter(|kind| kind.suspension() != Suspension::Never) {
            let none = Objects::default();
            let objects = |snapshot: &'_ Snapshot| snapshot.objects(resource_of(kind)).cloned();
            let (old, new) = (objects(&before), objects(snapshot));
            let (old, new) = (old.as_ref().unwrap_or(&none), new.as_ref().unwrap_or(&none));
            places.extend(old.diff(new).map(|item| match item {
                DiffItem::Add(key, _) | DiffItem::Update { new: (key, _), .. } | DiffItem::Remove(key, _) => {
                    (kind, key.clone())
                }
            }));
        }
        for namespace in self.follow_laws(&before, snapshot, now) {
            places.extend(of_namespace(snapshot, &namespace));
        }
        while let Some((at, place)) = self.due.first().cloned().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, place.clone()));
            self.due_of.remove(&place);
            places.insert(place);
        }
        places
    }

    /// The freezes and limits in a namespace; `None` if the namespace is unknown.
    pub(super) fn ruleset(&self, namespace: &str) -> Option<&Ruleset> {
        self.rulesets.get(namespace)
    }

    /// Schedules the next visit of an object; `None` means only after a change.
    pub(super) fn look_at(&mut self, place: &Place, at: Option<Timestamp>) {
        if let Some(before) = self.due_of.remove(place) {
            self.due.remove(&(before, place.clone()));
        }
        if let Some(at) = at {
            self.due_of.insert(place.clone(), at);
            self.due.insert((at, place.clone()));
        }
    }

    /// Visits an object again in the next pass, since its change failed.
    pub(super) fn again(&mut self, place: Place) {
        self.again.insert(place);
    }

    /// When the next visit is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at).into_iter().chain(self.next_ruleset).min()
    }

    /// Updates the freezes and limits. Returns the namespaces where these changed.
    fn follow_laws(&mut self, before: &Snapshot, snapshot: &Snapshot, now: Timestamp) -> Vec<Str> {
        let is_same = Arc::ptr_eq(&before.policies, &snapshot.policies);
        if is_same
            && before.namespaces.ptr_eq(&snapshot.namespaces)
            && self.next_ruleset.is_none_or(|next| now < next)
        {
            return Vec::new();
        }
        let mut changed = Vec::new();
        for (name, info) in &snapshot.namespaces {
            let is_known = is_same
                && before.namespaces.get(name).is_some_and(|before| Arc::ptr_eq(before, info))
                && self
                    .rulesets
                    .get(name)
                    .is_some_and(|ruleset| ruleset.until.is_none_or(|until| now < until));
            if !is_known {
                self.rulesets.insert(Str::clone(name), Ruleset::over(snapshot, info, now));
                changed.push(Str::clone(name));
            }
        }
        self.rulesets.retain(|name, _| snapshot.namespaces.contains_key(name));
        self.next_ruleset = self.rulesets.values().filter_map(|ruleset| ruleset.until).min();
        changed
    }
}

impl Ruleset {
    fn over(snapshot: &Snapshot, info: &NamespaceInfo, now: Timestamp) -> Self {
        let mut ruleset = Self::default();
        for policy in snapshot.policies.iter().filter(|policy| policy.selects(&info.labels)) {
            // No freeze holds objects of a namespace that is being deleted, since Flux does not prune while suspended.
            ruleset.holds.extend(Hold::of(policy, now).filter(|_| info.deleted.is_none()));
            ruleset.limit.add(policy);
            ruleset.until = ruleset.until.into_iter().chain(policy.next_change(now)).min();
        }
        ruleset
    }
}

fn of_namespace(snapshot: &Snapshot, namespace: &Str) -> impl Iterator<Item = Place> {
    let first = ObjectKey { namespace: Str::clone(namespace), name: Str::default() };
    let kinds = GOVERNED.iter().copied().filter(|kind| kind.suspension() != Suspension::Never);
    let objects = kinds.filter_map(|kind| Some((kind, snapshot.objects(resource_of(kind))?)));
    objects.flat_map(move |(kind, objects)| {
        let own = objects.range(first.clone()..).take_while(|(key, _)| key.namespace == first.namespace);
        own.map(move |(key, _)| (kind, key.clone())).collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::world::testing::Builder;

    fn kustomization(namespace: &str, name: &str, version: u64) -> Value {
        json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
               "metadata": {"name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"),
                            "resourceVersion": version.to_string()}, "spec": {}})
    }

    fn policy(generation: i64) -> Value {
        json!({"apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy",
               "metadata": {"name": "p", "uid": "p", "resourceVersion": generation.to_string(), "generation": generation},
               "spec": {"namespaceSelector": {"matchLabels": {"tenant": "a"}},
                        "rules": {"freezes": [{"name": "noon", "schedule": "0 12 * * *", "duration": "1h"}]}}})
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A thousand Kustomizations in each of two namespaces. A policy selects one of these.
    fn world() -> Builder {
        let mut builder = Builder::new();
        builder.namespace("a", &[("tenant", "a")]).namespace("b", &[]);
        for namespace in ["a", "b"] {
            for number in 0..1000 {
                let object = kustomization(namespace, &format!("k{number}"), number + 1);
                builder.apply(resource_of(Kind::Kustomization), &object);
            }
        }
        let policies = gatehouse_quota::GroupResource::new("policy.gatehouse.dev", "reconcilepolicies");
        builder.apply(&policies, &policy(1));
        builder
    }

    #[test]
    fn one_change_is_one_look() {
        let (mut builder, mut visits) = (world(), Visits::default());
        let now = at("2027-01-06T09:00:00Z");
        assert_eq!(visits.take(&Arc::new(builder.snapshot()), now).len(), 2000);
        assert!(visits.take(&Arc::new(builder.snapshot()), now).is_empty());
        builder.apply(resource_of(Kind::Kustomization), &kustomization("a", "k7", 5000));
        builder.delete(resource_of(Kind::Kustomization), "b", "k8");
        let looked = visits.take(&Arc::new(builder.snapshot()), now);
        assert_eq!(looked.iter().map(|(_, key)| &*key.name).collect::<Vec<_>>(), ["k7", "k8"]);
    }

    #[test]
    fn a_freeze_touches_the_namespaces_that_it_is_for() {
        let (builder, mut visits) = (world(), Visits::default());
        let snapshot = Arc::new(builder.snapshot());
        visits.take(&snapshot, at("2027-01-06T09:00:00Z"));
        assert_eq!(visits.next(), Some(at("2027-01-06T12:00:00Z")));
        assert!(visits.take(&snapshot, at("2027-01-06T11:59:59Z")).is_empty());
        let looked = visits.take(&snapshot, at("2027-01-06T12:00:00Z"));
        assert_eq!((looked.len(), visits.ruleset("a").unwrap().holds.len()), (1000, 1));
        assert!(looked.iter().all(|(_, key)| &*key.namespace == "a"));
        assert!(visits.take(&snapshot, at("2027-01-06T12:30:00Z")).is_empty());
        assert_eq!(visits.next(), Some(at("2027-01-06T13:00:00Z")));
    }

    #[test]
    fn a_namespace_that_is_relabelled_or_going_is_looked_at_again() {
        let (mut builder, mut visits) = (world(), Visits::default());
        let now = at("2027-01-06T12:30:00Z");
        visits.take(&Arc::new(builder.snapshot()), now);
        builder.namespace("b", &[("tenant", "a")]);
        assert_eq!(visits.take(&Arc::new(builder.snapshot()), now).len(), 1000);
        assert_eq!(visits.ruleset("b").unwrap().holds.len(), 1);
        let going = json!({"metadata": {"name": "b", "labels": {"tenant": "a"},
                                        "deletionTimestamp": "2027-01-06T12:30:00Z"}});
        builder.apply(&gatehouse_quota::GroupResource::new("", "namespaces"), &going);
        assert_eq!(visits.take(&Arc::new(builder.snapshot()), now).len(), 1000);
        assert!(visits.ruleset("b").unwrap().holds.is_empty(), "what goes is let go");
    }

    #[test]
    fn what_is_due_is_looked_at_once_and_can_be_put_off() {
        let (builder, mut visits) = (world(), Visits::default());
        let snapshot = Arc::new(builder.snapshot());
        let place = visits.take(&snapshot, at("2027-01-06T09:00:00Z")).pop_first().unwrap();
        visits.look_at(&place, Some(at("2027-01-06T10:00:00Z")));
        visits.look_at(&place, Some(at("2027-01-06T10:30:00Z")));
        assert_eq!(visits.next(), Some(at("2027-01-06T10:30:00Z")));
        assert!(visits.take(&snapshot, at("2027-01-06T10:15:00Z")).is_empty());
        assert_eq!(visits.take(&snapshot, at("2027-01-06T10:30:00Z")), BTreeSet::from([place.clone()]));
        assert!(visits.take(&snapshot, at("2027-01-06T10:31:00Z")).is_empty());
        visits.again(place.clone());
        assert_eq!(visits.take(&snapshot, at("2027-01-06T10:31:00Z")), BTreeSet::from([place]));
    }
}
