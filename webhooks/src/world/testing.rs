//! Builds worlds for tests in this crate.

use std::collections::HashMap;

use gatehouse_inventory::{Interner, KindStatus, Str, source::Raw};
use gatehouse_quota::GroupResource;
use serde_json::Value;

use super::{
    kinds::{self, Role},
    object::ObjectKey,
    observer,
    snapshot::Snapshot,
    state::{Change, State},
};

/// Builds a world from objects. All fixed kinds are served and listed from the start.
#[derive(Debug)]
pub(crate) struct Builder {
    pub(super) state: State,
    roles: HashMap<GroupResource, Role>,
    strings: Interner,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let mut builder =
            Self { state: State::default(), roles: HashMap::new(), strings: Interner::default() };
        for (resource, role) in kinds::fixed() {
            builder.observe(&resource, role);
        }
        // As under a quota that limits what game servers use.
        builder.observe(&kinds::PODS, Role::of_limited(&kinds::PODS));
        builder
    }

    fn observe(&mut self, resource: &GroupResource, role: Role) {
        self.state.begin(resource, role.is_required(), self.state.labels_of(resource));
        self.roles.insert(resource.clone(), role);
        for change in
            [Change::Restart, Change::Synced, Change::Status(KindStatus::Served { version: "v1".into() })]
        {
            self.take(resource, change);
        }
    }

    pub(super) fn take(&mut self, resource: &GroupResource, change: Change) {
        self.state.take(resource, self.roles[resource], change);
        self.state.snapshot.sequence += 1;
    }

    /// Adds or replaces an object of `resource`.
    pub(crate) fn apply(&mut self, resource: &GroupResource, object: &Value) -> &mut Self {
        let raw: Raw = serde_json::from_value(object.clone()).unwrap();
        let read = observer::read(&raw, self.roles[resource], &self.strings).unwrap();
        self.take(resource, Change::Apply(Box::new(read)));
        if let Some(revision) = raw.resource_version().and_then(|version| version.parse().ok()) {
            let known = self.state.snapshot.kinds[resource].revision.unwrap_or_default();
            self.take(resource, Change::Reached(known.max(revision)));
        }
        self
    }

    /// Adds or replaces a namespace with these labels.
    pub(crate) fn namespace(&mut self, name: &str, labels: &[(&str, &str)]) -> &mut Self {
        let labels: HashMap<_, _> = labels.iter().copied().collect();
        let object = serde_json::json!({"metadata": {"name": name, "labels": labels}});
        self.apply(&GroupResource::new("", "namespaces"), &object)
    }

    /// Removes an object.
    pub(crate) fn delete(&mut self, resource: &GroupResource, namespace: &str, name: &str) -> &mut Self {
        let key = ObjectKey { namespace: Str::from(namespace), name: Str::from(name) };
        self.take(resource, Change::Delete(key));
        self
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.state.snapshot.clone()
    }
}
