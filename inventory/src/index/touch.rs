//! Marks rows to be rendered again.

use std::sync::Arc;

use crate::{
    ClusterId, Delta, Inventory, ObjectKey, Record, Role, catalogue::Catalogue, is_problem, problem_namespace,
};

impl Inventory {
    pub(super) fn touch_namespaces(&mut self, id: ClusterId) {
        let names = self.clusters[usize::from(id.0)].tallies.namespaces.keys();
        self.delta.namespaces.extend(names.map(|name| (id, name.clone())));
    }

    pub(super) fn touch_games(&mut self, id: ClusterId) {
        let names = self.clusters[usize::from(id.0)].tallies.games.keys();
        self.delta.games.extend(names.map(|name| (id, name.clone())));
    }

    pub(super) fn touch_applications(&mut self, id: ClusterId) {
        let names = self.clusters[usize::from(id.0)].tallies.applications.keys();
        self.delta.applications.extend(names.map(|name| (id, name.clone())));
    }

    /// Fleets show numbers of their servers, which are of another kind.
    pub(super) fn touch_fleets(&mut self, id: ClusterId) {
        let catalogue = Arc::clone(&self.catalogue);
        let is_fleet = |kind| catalogue.kind(kind).game.is_some_and(|game| game.role == Role::Group);
        self.touch_records(id, |key| is_fleet(key.kind));
    }

    pub(super) fn touch_records(&mut self, id: ClusterId, which: impl Fn(&ObjectKey) -> bool) {
        let keys = self.clusters[usize::from(id.0)].records.keys().filter(|key| which(key));
        self.delta.objects.extend(keys.map(|key| (id, key.clone())));
    }
}

/// Adds an object, its namespace and its cluster to `delta`. `states` are its records before and after.
pub(super) fn touch<'a>(
    catalogue: &Catalogue,
    delta: &mut Delta,
    id: ClusterId,
    key: ObjectKey,
    states: impl IntoIterator<Item = &'a Record>,
) {
    let kind = catalogue.kind(key.kind);
    if states.into_iter().any(|record| is_problem(kind, record)) {
        delta.problems.insert((id, problem_namespace(&key)));
    }
    if kind.is_flux() {
        delta.namespaces.insert((id, key.namespace.clone()));
    } else if kind.game.is_some() {
        delta.games.insert((id, key.namespace.clone()));
    } else if kind.is_application() {
        delta.applications.insert((id, key.namespace.clone()));
    }
    delta.objects.insert((id, key));
    delta.clusters.insert(id);
}
