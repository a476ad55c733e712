//! The inventory: the observed state of all clusters.
//!
//! One task owns it and applies events in order. Counts, the graph and deadlines are updated incrementally. The rows
//! that have to be rendered again are collected in a [`Delta`]: those of a changed object at once, and those of other
//! objects that show it in portions, because tenants decide through `dependsOn` how many these are.

mod put;
mod remote;
mod touch;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use gatehouse_apiservice::{denial::DenierKind, policy::GROUP};

use self::touch::touch;
use crate::{
    ClusterId, Event, KindStatus, Mode, ObjectKey, Record, Seconds, Str,
    catalogue::{Catalogue, KindId},
    cluster::{Cluster, STALE_AFTER},
    delta::{Backlog, Delta},
};

/// The observed state of all clusters.
#[derive(Debug)]
pub struct Inventory {
    catalogue: Arc<Catalogue>,
    namespace_kind: Option<KindId>,
    quota_kind: Option<KindId>,
    clusters: Vec<Cluster>,
    deadlines: BTreeSet<(Seconds, ClusterId, ObjectKey)>,
    delta: Delta,
    backlog: Backlog,
}

impl Inventory {
    /// An empty inventory for the clusters with these names. [`ClusterId`] is the position.
    pub fn new(catalogue: Arc<Catalogue>, clusters: impl IntoIterator<Item = Str>, now: Seconds) -> Self {
        let clusters: Vec<_> =
            clusters.into_iter().map(|name| Cluster::new(name, catalogue.len(), now)).collect();
        let ids = (0..).map(ClusterId).take(clusters.len());
        let delta = Delta { clusters: ids.collect(), ..Delta::default() };
        let namespace_kind = catalogue.find("", "Namespace");
        let quota_kind = catalogue.find(GROUP, DenierKind::TenantQuota.as_str());
        Self {
            catalogue,
            namespace_kind,
            quota_kind,
            clusters,
            deadlines: BTreeSet::new(),
            delta,
            backlog: Backlog::default(),
        }
    }

    /// Sets the acceptable delay between a change and its appearance in the rows, instead of [`STALE_AFTER`].
    #[must_use]
    pub fn with_lag(mut self, lag: Seconds) -> Self {
        self.clusters.iter_mut().for_each(|cluster| cluster.lag = lag);
        self
    }

    /// The kinds that can be observed.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The cluster with this number.
    pub fn cluster(&self, id: ClusterId) -> &Cluster {
        &self.clusters[usize::from(id.0)]
    }

    /// How a cluster that is registered is observed.
    pub fn mode(&self, id: ClusterId) -> Option<Mode> {
        self.clusters.get(usize::from(id.0)).filter(|cluster| !cluster.removed).map(Cluster::mode)
    }

    /// Every cluster that is registered, and the local one.
    pub fn clusters(&self) -> impl Iterator<Item = (ClusterId, &Cluster)> {
        (0..).map(ClusterId).zip(&self.clusters).filter(|(_, cluster)| !cluster.removed)
    }

    /// Whether a remote cluster is or was registered.
    pub fn has_remote(&self) -> bool {
        self.clusters.len() > 1
    }

    /// The Namespace object with this name.
    pub fn namespace<'a>(&self, cluster: &'a Cluster, name: &Str) -> Option<&'a Record> {
        cluster.record(&ObjectKey::new(self.namespace_kind?, "", name.clone()))
    }

    /// Applies an event that a source sent at `now`.
    pub fn apply(&mut self, id: ClusterId, event: Event, now: Seconds) {
        match event {
            Event::Registered(registration) => self.register(id, registration, now),
            Event::Removed => self.remove(id, now),
            Event::Aside(_) => {}
            // The source of a cluster that was removed may have something left to say.
            _ if self.clusters.get(usize::from(id.0)).is_none_or(|cluster| cluster.removed) => {}
            observed => self.observe(id, observed, now),
        }
    }

    fn observe(&mut self, id: ClusterId, event: Event, now: Seconds) {
        let cluster = &mut self.clusters[usize::from(id.0)];
        let lag = cluster.lag;
        match event {
            Event::Apply(record) => {
                cluster.last_event = now;
                cluster.kind_mut(record.key.kind).observed(now, lag);
                let key = record.key.clone();
                self.replace(id, &key, Some(record), now);
            }
            Event::Delete(key) => {
                cluster.last_event = now;
                cluster.kind_mut(key.kind).observed(now, lag);
                self.replace(id, &key, None, now);
            }
            Event::Restart(kind) => {
                let state = cluster.kind_mut(kind);
                (state.pass, state.listing) = (state.pass + 1, true);
            }
            Event::Synced(kind) => {
                let watched = cluster.is_watched(kind);
                let state = cluster.kind_mut(kind);
                let first = !std::mem::replace(&mut state.synced, true);
                state.observed(now, lag);
                // A list is the current state, so no event of it is outstanding.
                (state.listing, state.resumed) = (false, None);
                let pass = state.pass;
                let swept =
                    cluster.records.iter().filter(|(key, entry)| key.kind == kind && entry.pass != pass);
                let gone: Vec<_> = swept.map(|(key, _)| key.clone()).collect();
                if !gone.is_empty() {
                    cluster.last_event = now;
                }
                for key in gone {
                    self.replace(id, &key, None, now);
                }
                if first {
                    self.kind_changed(id, kind, watched, now);
                }
            }
            Event::Kind(kind, status) => {
                let watched = cluster.is_watched(kind);
                let state = cluster.kind_mut(kind);
                let failing = match &status {
                    KindStatus::Failing { .. } => true,
                    // Objects that were seen before the permission was revoked are kept, and become stale.
                    KindStatus::Forbidden { .. } => state.synced,
                    KindStatus::Absent => {
                        // If the kind is served again, its objects are unknown until they are listed.
                        state.synced = false;
                        false
                    }
                    KindStatus::Served { .. } => false,
                };
                if matches!(status, KindStatus::Served { .. }) {
                    let was_failing = matches!(state.status, Some(KindStatus::Failing { .. }));
                    state.resumed = was_failing.then_some(now).or(state.resumed);
                    state.observed(now, lag);
                }
                state.failing_since = failing.then(|| state.failing_since.unwrap_or(now));
                if state.status.as_ref() != Some(&status) {
                    state.status = Some(status);
                    cluster.last_event = now;
                    self.kind_changed(id, kind, watched, now);
                }
            }
            Event::Current(kind) => cluster.kind_mut(kind).current(now, lag),
            Event::Lacks(lacks) => {
                if cluster.lacks != lacks {
                    cluster.lacks = lacks;
                    self.delta.clusters.insert(id);
                }
            }
            Event::Mode(mode) => self.observe_by(id, mode, now),
            Event::Undecodable(..) | Event::Registered(_) | Event::Removed | Event::Aside(_) => {}
            Event::Ignored(ignored) => {
                cluster.ignored = ignored;
                self.delta.clusters.insert(id);
            }
            Event::Liveness(liveness) => {
                if cluster.contact.update(liveness, now) {
                    self.delta.clusters.insert(id);
                    // What was last heard long ago is stale by now.
                    self.refresh(id, now);
                }
            }
        }
    }

    /// Applies deadlines that have passed, and marks silent clusters and kinds as stale.
    pub fn tick(&mut self, now: Seconds) {
        while let Some((at, id, key)) = self.deadlines.first().cloned()
            && at <= now
        {
            self.deadlines.pop_first();
            self.clusters[usize::from(id.0)].last_event = now;
            self.resettle(id, &key, now);
        }
        let ids: Vec<_> = self.clusters().map(|(id, _)| id).collect();
        for id in ids {
            self.refresh(id, now);
        }
    }

    /// All rows affected since the last call, those of other objects included, however many these are.
    pub fn take_delta(&mut self) -> Delta {
        let mut delta = self.take_changed();
        self.follow_into(&mut delta, usize::MAX, usize::MAX);
        // What no longer waits affects others.
        while self.is_behind() {
            self.follow_into(&mut delta, usize::MAX, usize::MAX);
        }
        delta
    }

    /// The rows of the objects that changed since the last call. [`Inventory::follow`] returns those of others.
    pub fn take_changed(&mut self) -> Delta {
        std::mem::take(&mut self.delta)
    }

    /// Whether [`Inventory::follow`] has more rows to return.
    pub fn is_behind(&self) -> bool {
        self.clusters.iter().any(|cluster| cluster.behind_since.is_some())
    }

    /// How many objects and references have been visited in the graph so far. A measure of work for limits and tests.
    pub fn steps(&self) -> u64 {
        self.clusters.iter().map(|cluster| cluster.graph.steps()).sum()
    }

    /// Queues objects whose rows show a change of another object; [`Inventory::follow`] returns them.
    pub fn queue(&mut self, rows: impl IntoIterator<Item = (ClusterId, ObjectKey)>, now: Seconds) {
        for (id, key) in rows {
            if self.cluster(id).removed {
                continue;
            }
            self.backlog.push(id, &key, now);
            let cluster = &mut self.clusters[usize::from(id.0)];
            cluster.behind_since = cluster.behind_since.or(Some(now));
        }
    }

    /// Continues to look for rows affected by changes of other objects, for about `steps` steps in the graph of each
    /// cluster, and returns at most `objects` of the affected objects, oldest first. Empty if none are left.
    pub fn follow(&mut self, steps: usize, objects: usize) -> Delta {
        let mut delta = Delta::default();
        self.follow_into(&mut delta, steps, objects);
        delta
    }

    fn follow_into(&mut self, delta: &mut Delta, steps: usize, objects: usize) {
        for (id, cluster) in (0..).map(ClusterId).zip(&mut self.clusters) {
            let backlog = &mut self.backlog;
            let mut affected = |key: &ObjectKey, since| backlog.push(id, key, since);
            cluster.graph.follow(steps, &cluster.records, &mut affected);
        }
        for _ in 0..objects {
            let Some((id, key, since)) = self.backlog.pop() else { break };
            self.reconsider(id, &key, since);
            let record = self.clusters[usize::from(id.0)].record(&key);
            touch(&self.catalogue, delta, id, key, record);
        }
        delta.extend(self.take_changed());
        for (id, cluster) in (0..).map(ClusterId).zip(&mut self.clusters) {
            let both = [self.backlog.since(id), cluster.graph.behind_since()];
            cluster.behind_since = both.into_iter().flatten().min();
        }
    }

    /// A delta with all objects, namespaces and clusters.
    pub fn everything(&self) -> Delta {
        let mut all = Delta::default();
        for (id, cluster) in self.clusters() {
            all.extend(everything_of(id, cluster));
        }
        all
    }

    /// A delta with everything of one cluster.
    pub fn everything_of(&self, id: ClusterId) -> Delta {
        everything_of(id, self.cluster(id))
    }

    /// Marks the row of a cluster, because something changed that the inventory does not know.
    pub fn touch_cluster(&mut self, id: ClusterId) {
        self.delta.clusters.insert(id);
    }

    /// Recomputes whether a cluster and each of its kinds are fresh.
    fn refresh(&mut self, id: ClusterId, now: Seconds) {
        let cluster = &mut self.clusters[usize::from(id.0)];
        // Before the first answer, the silence counts from when the cluster was added.
        let last_heard = cluster.contact.last_heard.unwrap_or(cluster.added);
        let fresh = now - last_heard < STALE_AFTER;
        let flipped = fresh != cluster.fresh;
        if flipped {
            (cluster.fresh, cluster.fresh_since) = (fresh, now);
        }
        let validity = cluster.registration().map(|known| known.validity(now)).unwrap_or_default();
        if std::mem::replace(&mut cluster.validity, validity) != validity {
            self.delta.clusters.insert(id);
        }
        let mut stale_kinds = HashSet::new();
        for (kind, _) in self.catalogue.kinds() {
            let state = cluster.kind_mut(kind);
            let is_stale = state.failing_since.is_some_and(|since| now - since >= STALE_AFTER);
            if is_stale != state.stale {
                (state.stale, state.turned) = (is_stale, now);
                stale_kinds.insert(kind);
            }
        }
        if flipped || !stale_kinds.is_empty() {
            self.touch_records(id, |key| flipped || stale_kinds.contains(&key.kind));
            self.touch_namespaces(id);
            self.touch_games(id);
            self.touch_fleets(id);
            self.touch_applications(id);
            self.delta.clusters.insert(id);
        }
    }

    /// Marks all rows that show the status of the kind: those of namespaces and of the cluster. If the kind has become
    /// watched, or is so no longer (`watched` is the value before), also the rows of objects that refer to missing
    /// objects of the kind.
    fn kind_changed(&mut self, id: ClusterId, kind: KindId, watched: bool, now: Seconds) {
        self.delta.clusters.insert(id);
        let row = self.catalogue.kind(kind);
        if row.is_flux() {
            self.touch_namespaces(id);
        } else if row.game.is_some() {
            self.touch_games(id);
            self.touch_fleets(id);
        } else if row.is_application() {
            self.touch_applications(id);
        }
        let cluster = &mut self.clusters[usize::from(id.0)];
        if cluster.is_watched(kind) != watched {
            cluster.graph.reach_absent(kind, &cluster.records, now);
            cluster.behind_since = cluster.behind_since.or(cluster.graph.behind_since());
            let users = cluster.relations.users_of_absent(kind, &cluster.records);
            for key in &users {
                self.resettle(id, key, now);
            }
            let cluster = &mut self.clusters[usize::from(id.0)];
            for key in cluster.below.users_of_absent(kind, &cluster.records) {
                self.backlog.push(id, &key, now);
                cluster.behind_since = cluster.behind_since.or(Some(now));
            }
        }
    }
}

/// Everything that is known of a cluster.
fn everything_of(id: ClusterId, cluster: &Cluster) -> Delta {
    let named = |name: &Str| (id, name.clone());
    let tallies = &cluster.tallies;
    Delta {
        objects: cluster.records.keys().map(|key| (id, key.clone())).collect(),
        namespaces: tallies.namespaces.keys().map(named).collect(),
        games: tallies.games.keys().map(named).collect(),
        problems: tallies.problems.namespaces.keys().map(named).collect(),
        applications: tallies.applications.keys().map(named).collect(),
        clusters: [id].into(),
    }
}

#[cfg(test)]
mod tests;
