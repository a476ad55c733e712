//! Tests of the views. They feed an inventory with events, as the engine does.

mod applications;
mod applied;
mod argos;
mod convergence;
mod dependencies;
mod fleets;
mod games;
mod healths;
mod histories;
mod instances;
mod metadata;
mod mine;
mod problems;
pub(crate) mod records;
pub(crate) mod registered;
mod resources;
mod summaries;
mod trees;
mod updates;
mod usages;

use std::sync::LazyLock;

use gatehouse_inventory::{
    Event, KindStatus, Liveness, ObjectKey, Record, Seconds,
    catalogue::{Catalogue, KindId},
};
use serde_json::Value;

use super::*;
use crate::watchcache::{Row, object_head};

pub(crate) const LOCAL: ClusterId = ClusterId(0);
pub(crate) const SUMMARIES: &str = "fluxsummaries";
pub(crate) const RESOURCES: &str = "fluxresources";
pub(crate) const HISTORIES: &str = "fluxhistories";
pub(crate) const DEPENDENCIES: &str = "fluxdependencies";
pub(crate) const HEALTHS: &str = "clusterhealths";
pub(crate) const GAMES: &str = "gameserversummaries";
pub(crate) const FLEETS: &str = "gamefleets";
pub(crate) const INSTANCES: &str = "gameinstances";
pub(crate) const APPLICATIONS: &str = "argoapplications";
pub(crate) const ARGO: &str = "argosummaries";
pub(crate) const USAGES: &str = "tenantusages";
pub(crate) const PROBLEMS: &str = "problems";
const RESOURCES_SERVED: usize = super::RESOURCES.len();
pub(crate) const MINE: &str = "mynamespaces";
pub(crate) const APPLIED: &str = "appliedtenantquotas";
/// The time of the tests, 2026-03-01T00:00:00Z: they do not depend on the date.
pub(crate) const NOW: Seconds = 1_772_323_200;

/// Compiled once, because that takes longer than any test.
static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::builtin()));

/// The built-in kind of this name. A name that several groups use is written `Kind.group`.
pub(crate) fn kind(name: &str) -> KindId {
    let (name, group) = name.split_once('.').unwrap_or((name, ""));
    let mut kinds = CATALOGUE.kinds();
    let found = kinds.find(|(_, kind)| kind.kind == name && kind.group.starts_with(group));
    found.unwrap_or_else(|| panic!("no kind {name} in group {group}")).0
}

/// An inventory, the views of it, and the time.
pub(crate) struct World {
    pub(crate) inventory: Inventory,
    pub(crate) views: Views,
    pub(crate) now: Seconds,
}

impl World {
    /// Clusters of these names. Nothing has been observed of them.
    pub(crate) fn of(clusters: &[&str]) -> Self {
        let names = clusters.iter().map(|name| Str::from(*name));
        Self {
            inventory: Inventory::new(Arc::clone(&CATALOGUE), names, NOW),
            views: Views::new(&Arc::new(Clock::new(0)), &Arc::new(Interner::default())),
            now: NOW,
        }
    }

    /// The cluster `local`: it answers, serves every kind and has `records`; the views have synced.
    pub(crate) fn with(records: impl IntoIterator<Item = Record>) -> Self {
        let mut world = Self::of(&["local"]);
        world.hear(LOCAL);
        for (kind, _) in CATALOGUE.kinds() {
            world.event(Event::Kind(kind, KindStatus::Served { version: "v1".into() }));
            world.event(Event::Restart(kind));
        }
        world.events(records.into_iter().map(|record| Event::Apply(Box::new(record))));
        for (kind, _) in CATALOGUE.kinds() {
            world.event(Event::Synced(kind));
        }
        world.update();
        world
    }

    /// Applies an event of the first cluster. The views are updated by the next [`World::update`].
    pub(crate) fn event(&mut self, event: Event) {
        self.inventory.apply(LOCAL, event, self.now);
    }

    fn events(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.event(event);
        }
    }

    /// The cluster answers.
    pub(crate) fn hear(&mut self, cluster: ClusterId) {
        let alive = Liveness::Alive { version: Some("v1.36.0".into()), ahead: None };
        self.inventory.apply(cluster, Event::Liveness(alive), self.now);
    }

    /// Updates the views. Returns how many rows of each changed.
    pub(crate) fn update(&mut self) -> [Updates; RESOURCES_SERVED] {
        let delta = self.inventory.take_delta();
        let mut updates = self.views.update(&self.inventory, &delta);
        loop {
            self.inventory.queue(self.views.followers(), self.now);
            if !self.inventory.is_behind() {
                return updates;
            }
            let delta = self.inventory.take_delta();
            for (update, more) in updates.iter_mut().zip(self.views.update(&self.inventory, &delta)) {
                update.1 += more.1;
            }
        }
    }

    /// Publishes what changed and some of its consequences, as one round of the engine does.
    pub(crate) fn round(&mut self, steps: usize, rows: usize) {
        let changed = self.inventory.take_changed();
        self.views.update(&self.inventory, &changed);
        self.inventory.queue(self.views.followers(), self.now);
        let follows = self.inventory.follow(steps, rows);
        self.views.update(&self.inventory, &follows);
        self.inventory.queue(self.views.followers(), self.now);
    }

    /// A second later, an object is created or changed.
    pub(crate) fn apply(&mut self, record: Record) {
        self.now += 1;
        self.event(Event::Apply(Box::new(record)));
        self.update();
    }

    /// A second later, an object is deleted.
    pub(crate) fn delete(&mut self, key: &ObjectKey) {
        self.now += 1;
        self.event(Event::Delete(key.clone()));
        self.update();
    }

    /// A second later, the status of a kind changes.
    pub(crate) fn status(&mut self, kind: KindId, status: KindStatus) {
        self.now += 1;
        self.event(Event::Kind(kind, status));
        self.update();
    }

    /// Lets time pass without a response from the cluster.
    pub(crate) fn pass(&mut self, seconds: Seconds) {
        self.now += seconds;
        self.inventory.tick(self.now);
        self.update();
    }

    pub(crate) fn cache(&self, plural: &str) -> Arc<WatchCache> {
        let mut caches = self.views.caches().into_iter();
        caches.find(|cache| cache.resource.plural == plural).expect("a resource of the group")
    }

    /// All rows as `namespace/name`, in order.
    pub(crate) fn names(&self, plural: &str) -> Vec<String> {
        let snapshot = self.cache(plural).snapshot();
        snapshot
            .rows
            .iter()
            .map(|row| row.key())
            .map(|key| format!("{}/{}", key.namespace, key.name))
            .collect()
    }

    fn find(&self, plural: &str, place: &str) -> Arc<Row> {
        let (namespace, name) = place.split_once('/').expect("namespace/name");
        let key = RowKey { namespace: namespace.into(), name: name.into() };
        let row = self.cache(plural).snapshot().rows.get(&key).cloned();
        row.unwrap_or_else(|| panic!("no {plural} {place} among {:?}", self.names(plural)))
    }

    /// The row `namespace/name` as a JSON object.
    pub(crate) fn object(&self, plural: &str, place: &str) -> Value {
        object_of(self.cache(plural).resource, &self.find(plural, place))
    }

    /// The status of that row.
    pub(crate) fn status_of(&self, plural: &str, place: &str) -> Value {
        self.object(plural, place)["status"].take()
    }

    /// The version of each row, by `namespace/name`.
    pub(crate) fn versions(&self, plural: &str) -> Vec<(String, u64)> {
        let snapshot = self.cache(plural).snapshot();
        let place = |key: &RowKey| format!("{}/{}", key.namespace, key.name);
        snapshot.rows.iter().map(|row| (place(row.key()), row.version)).collect()
    }

    /// The rows that are new or have another version than in `before`.
    pub(crate) fn changed_since(&self, plural: &str, before: &[(String, u64)]) -> Vec<String> {
        let now = self.versions(plural).into_iter();
        now.filter(|row| !before.contains(row)).map(|(place, _)| place).collect()
    }

    /// The cell of a row in `column`; an age in seconds.
    pub(crate) fn cell(&self, plural: &str, place: &str, column: &str) -> Value {
        let columns = self.cache(plural).resource.columns;
        let at = columns.iter().position(|known| known.name == column).expect("a column of the resource");
        cells(&self.find(plural, place), self.now)[at].clone()
    }

    /// A condition of a row: its status, reason and `lastTransitionTime`.
    pub(crate) fn condition(&self, plural: &str, place: &str, kind: &str) -> (String, String, Seconds) {
        let status = self.status_of(plural, place);
        let conditions = status["conditions"].as_array().expect("conditions");
        let found = conditions.iter().find(|condition| condition["type"] == kind).expect("the condition");
        let text = |field: &str| found[field].as_str().expect("text").to_owned();
        let time: jiff::Timestamp = text("lastTransitionTime").parse().expect("RFC 3339");
        (text("status"), text("reason"), time.as_second())
    }
}

/// A row as a JSON object.
fn object_of(resource: &Resource, row: &Row) -> Value {
    let mut text = object_head(resource.kind).into_bytes();
    row.write_object(&mut text);
    serde_json::from_slice(&text).expect("a row is JSON")
}

/// The cells of a row.
fn cells(row: &Row, now: Seconds) -> Vec<Value> {
    let mut json = Vec::new();
    row.write_cells(now, &mut json);
    serde_json::from_slice(&json).expect("cells are JSON")
}
