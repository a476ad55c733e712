//! The usage of the objects in each namespace.
//!
//! **Invariant:** the sum of a namespace is the usage of its objects. It is updated incrementally: a changed object is
//! subtracted with its old usage and added with its new one. The usage of an object may change together with another
//! object: the template that determines it, or the owner that Agones created it for. Nothing is kept of deleted
//! objects.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use gatehouse_inventory::Str;
use gatehouse_quota::{Amounts, Dimension, Families, GroupResource, Name, Quantity, Usage, UsageError};
use serde_json::Value;

use super::{
    kinds,
    object::{Document, Held, ObjectKey},
    state::State,
    templates::{RecordingTemplates, TemplateKey},
};

/// The key of an object among all resources.
type Place = (GroupResource, ObjectKey);

/// The data to update the sums.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// The Agones objects, their owners and dependents.
    families: Families,
    /// The sets of OpenKruiseGame and their pods.
    sets: Families,
    /// For each template, which need not exist, the objects whose usage was computed from it.
    templated: HashMap<TemplateKey, BTreeSet<Place>>,
    /// The reverse of `templated`.
    templates: HashMap<Place, Vec<TemplateKey>>,
    /// The last usage of each resource, for sharing: neighbours mostly have equal usage.
    last: HashMap<GroupResource, Arc<Usage>>,
}

impl Sums {
    /// Drops what is kept of a resource after its objects have been removed.
    pub(super) fn cease(&mut self, resource: &GroupResource) {
        self.last.remove(resource);
    }

    /// The number of references to templates and of objects with templates.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.templated.values().map(BTreeSet::len).sum(), self.templates.len())
    }

    /// The families that an object is in.
    fn families_of(&mut self, name: &Name) -> &mut Families {
        if is_of_kruise(&name.resource) { &mut self.sets } else { &mut self.families }
    }

    fn share(&mut self, resource: &GroupResource, usage: Usage) -> Arc<Usage> {
        match self.last.get(resource) {
            Some(last) if **last == usage => Arc::clone(last),
            _ => {
                let new = Arc::new(usage);
                self.last.insert(resource.clone(), Arc::clone(&new));
                new
            }
        }
    }

    /// Sets the templates that the usage of an object was computed from.
    fn charge_by(&mut self, place: &Place, templates: Vec<TemplateKey>) {
        for former in self.templates.remove(place).unwrap_or_default() {
            if let Some(charged) = self.templated.get_mut(&former) {
                charged.remove(place);
                if charged.is_empty() {
                    self.templated.remove(&former);
                }
            }
        }
        for template in &templates {
            self.templated.entry(template.clone()).or_default().insert(place.clone());
        }
        if !templates.is_empty() {
            self.templates.insert(place.clone(), templates);
        }
    }
}

impl State {
    /// Adds or replaces an object.
    pub(super) fn put(&mut self, resource: &GroupResource, document: Document) {
        let (alone, usage_error) = self.compute_usage(resource, &document.key, &document.value);
        let Document {
            key,
            uid,
            resource_version,
            created,
            orphans,
            text,
            depends_on,
            kind,
            applied,
            held_back,
            value: _,
        } = document;
        self.hold(Held {
            resource: resource.clone(),
            key: key.clone(),
            uid,
            resource_version,
            created,
            usage: Arc::clone(&alone),
            alone,
            orphans,
            usage_error,
            text,
            depends_on,
            kind,
            applied,
            held_back,
        });
        self.recompute_templated(resource, &key);
    }

    /// Removes an object.
    pub(super) fn remove(&mut self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<Held>> {
        let held = self.take_out(resource, key)?;
        self.sums.charge_by(&(resource.clone(), key.clone()), Vec::new());
        if let Some(name) = family_name(resource, key) {
            let changed = self.sums.families_of(&name).remove(&name);
            self.stand(&key.namespace);
            self.recount(changed);
        }
        self.recompute_templated(resource, key);
        Some(held)
    }

    /// Computes the usage of an object without regard to owners. If that fails, only the object is counted, and the
    /// error is returned.
    fn compute_usage(
        &mut self,
        resource: &GroupResource,
        key: &ObjectKey,
        value: &Value,
    ) -> (Arc<Usage>, Option<Str>) {
        let templates_asked = RecordingTemplates::new(&self.snapshot);
        let computed = gatehouse_quota::usage(resource, value, &templates_asked);
        let templates = templates_asked.asked();
        self.sums.charge_by(&(resource.clone(), key.clone()), templates);
        let (usage, error) = match computed {
            Ok(usage) => (usage, None),
            Err(error) => {
                tracing::warn!(%resource, namespace = %key.namespace, name = %key.name, %error, "cannot compute usage; counting the object only");
                (merely_counted(resource, &error), Some(error.to_string().into()))
            }
        };
        (self.sums.share(resource, usage), error)
    }

    /// If the object at `key` is a template, computes the usage of its objects again.
    fn recompute_templated(&mut self, resource: &GroupResource, key: &ObjectKey) {
        let Some(template) = TemplateKey::of(resource, key) else { return };
        for (resource, key) in self.sums.templated.get(&template).cloned().unwrap_or_default() {
            let Some(held) = self.snapshot.object(&resource, &key.namespace, &key.name).cloned() else {
                continue;
            };
            let Some(value) = held.value() else { continue };
            let (usage, usage_error) = self.compute_usage(&resource, &key, &value);
            if usage != held.usage {
                let alone = Arc::clone(&usage);
                self.hold(Held { alone, usage_error, ..held.counted_as(usage) });
            }
        }
    }

    /// Adds or replaces an object with its usage, and updates the usage of its owner and dependents.
    fn hold(&mut self, held: Held) {
        let Some(name) = family_name(&held.resource, &held.key) else { return self.put_in(held) };
        // A pod belongs to the set of that name.
        let uid = if is_of_kruise(&held.resource) { "" } else { &*held.uid };
        let families = self.sums.families_of(&name);
        let changed = families.put(&name, uid, held.orphans, &held.alone);
        let usage = families.counted(&name).map_or_else(|| Arc::clone(&held.alone), Arc::clone);
        self.stand(&name.namespace);
        self.put_in(Held { usage, ..held });
        self.recount(changed);
    }

    /// Updates the weight of a namespace's Agones objects without an owner.
    fn stand(&mut self, namespace: &Str) {
        match self.sums.families.standing(namespace) {
            Some(weight) => self.snapshot.standing.insert(Str::clone(namespace), weight.clone()),
            None => self.snapshot.standing.remove(namespace),
        };
    }

    /// Updates the charged usage of these objects.
    fn recount(&mut self, changed: BTreeSet<Name>) {
        for name in changed {
            let Some(held) = self.snapshot.object(&name.resource, &name.namespace, &name.name) else {
                continue;
            };
            let held = Arc::clone(held);
            if let Some(usage) = self.sums.families_of(&name).counted(&name)
                && !Arc::ptr_eq(usage, &held.usage)
            {
                let held = held.counted_as(Arc::clone(usage));
                self.put_in(held);
            }
        }
    }

    fn put_in(&mut self, held: Held) {
        self.take_out(&held.resource, &held.key);
        let held = Arc::new(held);
        let sum = self.snapshot.usage.entry(Str::clone(&held.key.namespace)).or_default();
        *sum = sum.saturating_add(&held.usage.amounts);
        self.snapshot.by_uid.insert(Str::clone(&held.uid), Arc::clone(&held));
        let objects = self.snapshot.objects.entry(held.resource.clone()).or_default();
        objects.insert(held.key.clone(), held);
    }

    fn take_out(&mut self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<Held>> {
        let held = self.snapshot.objects.get_mut(resource)?.remove(key)?;
        self.snapshot.by_uid.remove(&held.uid);
        if let Some(sum) = self.snapshot.usage.get_mut(&key.namespace) {
            *sum = sum.saturating_sub(&held.usage.amounts);
            if *sum == Amounts::default() {
                self.snapshot.usage.remove(&key.namespace);
            }
        }
        Some(held)
    }
}

/// Whether objects of the resource are sets of OpenKruiseGame or their pods.
fn is_of_kruise(resource: &GroupResource) -> bool {
    *resource == *kinds::PODS || *resource.group == *gatehouse_apiservice::kruise::GROUP
}

/// The name of an object that may be an owner or a dependent.
fn family_name(resource: &GroupResource, key: &ObjectKey) -> Option<Name> {
    let is_agones = *resource.group == *gatehouse_apiservice::agones::GROUP;
    (is_agones || is_of_kruise(resource)).then(|| Name {
        resource: resource.clone(),
        namespace: Str::clone(&key.namespace),
        name: Str::clone(&key.name),
    })
}

/// The usage of an object that could not be computed. A game server always counts as one.
fn merely_counted(resource: &GroupResource, error: &UsageError) -> Usage {
    let mut usage = Usage::counted(resource);
    if matches!(error, UsageError::UnknownTemplate { .. }) || &*resource.resource == "gameservers" {
        usage.amounts.set(Dimension::GameServers, Quantity::from_integer(1));
    }
    usage
}
