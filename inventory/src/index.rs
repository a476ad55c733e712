//! The inventory: what is known of every cluster, and what a change to it touches.
//!
//! One task owns it and applies events in order. Everything derived (counts, the graph, deadlines) is
//! kept up change by change. What a view must render anew is collected in a [`Delta`].

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    ClusterId, Detail, Event, Heard, KindStatus, Layer, ObjectKey, Record, Reference, Seconds, Str,
    catalogue::{Catalogue, KindId},
    delta::Delta,
    graph::{Graph, Place, Records},
    root_cause::{self, RootCause},
    tally::{Tallies, Tally},
};

/// A source that was not heard from for this long is stale: several heartbeats of five seconds, so that a
/// restart of an API server behind a load balancer goes unnoticed.
pub const STALE_AFTER: Seconds = 30;

/// What is known of every cluster.
#[derive(Debug)]
pub struct Inventory {
    catalogue: Arc<Catalogue>,
    namespace_kind: Option<KindId>,
    clusters: Vec<Cluster>,
    deadlines: BTreeSet<(Seconds, ClusterId, ObjectKey)>,
    delta: Delta,
}

/// What is known of one cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its name; `local` is the one that serves this API.
    pub name: Str,
    records: HashMap<ObjectKey, Entry>,
    kinds: Vec<Kind>,
    graph: Graph,
    tallies: Tallies,
    contact: Contact,
    added: Seconds,
    fresh: bool,
    fresh_since: Seconds,
    last_event: Seconds,
}

#[derive(Debug)]
struct Entry {
    record: Box<Record>,
    /// The pass of [`Kind::pass`] in which it was last sent.
    pass: u32,
}

/// How the observation of a kind stands.
#[derive(Debug, Default)]
struct Kind {
    status: Option<KindStatus>,
    failing_since: Option<Seconds>,
    /// Counts [`Event::Restart`]; what a whole pass does not send is gone.
    pass: u32,
    synced: bool,
    stale: bool,
    /// When `stale` last turned.
    turned: Seconds,
}

/// What was last heard of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contact {
    /// When it last answered; `None` if it never has.
    pub last_heard: Option<Seconds>,
    /// Why it does not answer, if the last attempt failed.
    pub silent: Option<Str>,
    /// Since when it has answered, or has not.
    pub since: Seconds,
    /// `gitVersion` of its API server.
    pub version: Option<Str>,
}

/// What the object behind an entry of `dependsOn` is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependency<'a> {
    /// It is this object.
    Is(&'a Record),
    /// It does not exist, though its kind is observed.
    Missing,
    /// Its kind is not observed, or may not be.
    Unseen,
}

impl Records for HashMap<ObjectKey, Entry> {
    fn record(&self, key: &ObjectKey) -> Option<&Record> {
        self.get(key).map(|entry| &*entry.record)
    }
}

impl Inventory {
    /// An inventory that knows nothing yet of the clusters with these names. [`ClusterId`] is the position.
    pub fn new(catalogue: Arc<Catalogue>, clusters: impl IntoIterator<Item = Str>, now: Seconds) -> Self {
        let clusters: Vec<_> =
            clusters.into_iter().map(|name| Cluster::new(name, catalogue.len(), now)).collect();
        let ids = (0..).map(ClusterId).take(clusters.len());
        let delta = Delta { clusters: ids.collect(), ..Delta::default() };
        let namespace_kind = catalogue.find("", "Namespace");
        Self { catalogue, namespace_kind, clusters, deadlines: BTreeSet::new(), delta }
    }

    /// What kinds there are.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// A cluster.
    pub fn cluster(&self, id: ClusterId) -> &Cluster {
        &self.clusters[usize::from(id.0)]
    }

    /// Every cluster.
    pub fn clusters(&self) -> impl Iterator<Item = (ClusterId, &Cluster)> {
        (0..).map(ClusterId).zip(&self.clusters)
    }

    /// The Namespace object with this name.
    pub fn namespace<'a>(&self, cluster: &'a Cluster, name: &Str) -> Option<&'a Record> {
        cluster.record(&ObjectKey { kind: self.namespace_kind?, namespace: "".into(), name: name.clone() })
    }

    /// Takes in what a source said at `now`.
    pub fn apply(&mut self, id: ClusterId, event: Event, now: Seconds) {
        let cluster = &mut self.clusters[usize::from(id.0)];
        match event {
            Event::Apply(record) => {
                cluster.last_event = now;
                let key = record.key.clone();
                self.replace(id, &key, Some(record));
            }
            Event::Delete(key) => {
                cluster.last_event = now;
                self.replace(id, &key, None);
            }
            Event::Restart(kind) => {
                cluster.kind_mut(kind).pass += 1;
            }
            Event::Synced(kind) => {
                let watched = cluster.is_watched(kind);
                let state = cluster.kind_mut(kind);
                let first = !std::mem::replace(&mut state.synced, true);
                let pass = state.pass;
                let swept =
                    cluster.records.iter().filter(|(key, entry)| key.kind == kind && entry.pass != pass);
                let gone: Vec<_> = swept.map(|(key, _)| key.clone()).collect();
                if !gone.is_empty() {
                    cluster.last_event = now;
                }
                for key in gone {
                    self.replace(id, &key, None);
                }
                if first {
                    self.kind_changed(id, kind, watched);
                }
            }
            Event::Kind(kind, status) => {
                let watched = cluster.is_watched(kind);
                let state = cluster.kind_mut(kind);
                let failing = match &status {
                    KindStatus::Failing { .. } => true,
                    // What was seen before the right was taken away is still there, and ages.
                    KindStatus::Forbidden { .. } => state.synced,
                    KindStatus::Absent => {
                        // Should it be served again, its objects are not known before they are listed.
                        state.synced = false;
                        false
                    }
                    KindStatus::Served { .. } => false,
                };
                state.failing_since = failing.then(|| state.failing_since.unwrap_or(now));
                if state.status.as_ref() != Some(&status) {
                    state.status = Some(status);
                    cluster.last_event = now;
                    self.kind_changed(id, kind, watched);
                }
            }
            Event::Undecodable(..) => {}
            Event::Heard(heard) => {
                let before = cluster.contact.clone();
                match heard {
                    Heard::Alive { version } => {
                        let since = if before.silent.is_some() { now } else { before.since };
                        cluster.contact = Contact { last_heard: Some(now), silent: None, since, version };
                    }
                    Heard::Silent { message } => {
                        cluster.contact.since = if before.silent.is_some() { before.since } else { now };
                        cluster.contact.silent = Some(message);
                    }
                }
                let after = &cluster.contact;
                if (&before.silent, &before.version) != (&after.silent, &after.version) {
                    self.delta.clusters.insert(id);
                }
            }
        }
    }

    /// Lets time pass: deadlines come due, silent sources grow stale.
    pub fn tick(&mut self, now: Seconds) {
        while let Some((at, id, key)) = self.deadlines.first().cloned()
            && at <= now
        {
            self.deadlines.pop_first();
            let cluster = &mut self.clusters[usize::from(id.0)];
            let Some(entry) = cluster.records.get(&key) else { continue };
            cluster.last_event = now;
            let mut record = entry.record.clone();
            if let Some(deadline) = record.verdict.deadline.take() {
                record.verdict.state = deadline.state;
                record.verdict.reason = deadline.reason;
                record.verdict.message = deadline.message;
                record.verdict.since = Some(deadline.at);
                self.replace(id, &key, Some(record));
            }
        }
        for index in 0..self.clusters.len() {
            self.refresh(ClusterId(u16::try_from(index).unwrap_or(u16::MAX)), now);
        }
    }

    /// What changed since the last call.
    pub fn take_delta(&mut self) -> Delta {
        std::mem::take(&mut self.delta)
    }

    /// A delta that touches all there is.
    pub fn everything(&self) -> Delta {
        let mut all = Delta::default();
        for (id, cluster) in self.clusters() {
            all.clusters.insert(id);
            all.objects.extend(cluster.records.keys().map(|key| (id, key.clone())));
            all.namespaces.extend(cluster.tallies.namespaces.keys().map(|name| (id, name.clone())));
        }
        all
    }

    /// Judges anew whether a cluster and each of its kinds were heard from lately.
    fn refresh(&mut self, id: ClusterId, now: Seconds) {
        let cluster = &mut self.clusters[usize::from(id.0)];
        // Before the first word, it has been silent since it was added.
        let heard = cluster.contact.last_heard.unwrap_or(cluster.added);
        let fresh = now - heard < STALE_AFTER;
        let flipped = fresh != cluster.fresh;
        if flipped {
            (cluster.fresh, cluster.fresh_since) = (fresh, now);
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
        }
    }

    /// A kind's status shows in the row of every namespace and cluster; and whether all of it is known, as
    /// it was if it was `watched`, in the rows of what depends on objects that are not there.
    fn kind_changed(&mut self, id: ClusterId, kind: KindId, watched: bool) {
        self.delta.clusters.insert(id);
        if self.catalogue.kind(kind).is_flux() {
            self.touch_namespaces(id);
        }
        let cluster = &self.clusters[usize::from(id.0)];
        if cluster.is_watched(kind) != watched {
            let mut affected = HashSet::new();
            cluster.graph.reach_absent(kind, &cluster.records, &mut affected);
            self.touch(id, affected);
        }
    }

    /// Objects, and the namespaces that tell of them.
    fn touch(&mut self, id: ClusterId, objects: HashSet<ObjectKey>) {
        for key in objects {
            if self.catalogue.kind(key.kind).is_flux() {
                self.delta.namespaces.insert((id, key.namespace.clone()));
            }
            self.delta.objects.insert((id, key));
        }
    }

    fn touch_namespaces(&mut self, id: ClusterId) {
        let names = self.clusters[usize::from(id.0)].tallies.namespaces.keys();
        self.delta.namespaces.extend(names.map(|name| (id, name.clone())));
        self.delta.clusters.insert(id);
    }

    fn touch_records(&mut self, id: ClusterId, which: impl Fn(&ObjectKey) -> bool) {
        let keys = self.clusters[usize::from(id.0)].records.keys().filter(|key| which(key));
        self.delta.objects.extend(keys.map(|key| (id, key.clone())));
    }

    /// Puts `new` in the place of whatever is known under `key`.
    fn replace(&mut self, id: ClusterId, key: &ObjectKey, new: Option<Box<Record>>) {
        let cluster = &mut self.clusters[usize::from(id.0)];
        let pass = cluster.kind_mut(key.kind).pass;
        let unchanged = match (cluster.records.get_mut(key), &new) {
            (Some(entry), Some(record)) => {
                entry.pass = pass;
                entry.record == *record
            }
            (None, None) => true,
            _ => false,
        };
        if unchanged {
            return;
        }
        let flux = self.catalogue.kind(key.kind).is_flux();
        let old = match new {
            Some(record) => cluster.records.insert(key.clone(), Entry { record, pass }),
            None => cluster.records.remove(key),
        }
        .map(|entry| entry.record);
        if let Some(old) = &old {
            cluster.tallies.remove(old, flux);
            if let Some(deadline) = &old.verdict.deadline {
                self.deadlines.remove(&(deadline.at, id, key.clone()));
            }
        }
        let cluster = &mut self.clusters[usize::from(id.0)];
        if let Some(entry) = cluster.records.get(key) {
            cluster.tallies.add(&entry.record, flux);
            if let Some(deadline) = &entry.record.verdict.deadline {
                self.deadlines.insert((deadline.at, id, key.clone()));
            }
        }
        let new = cluster.records.record(key);
        let mut affected = HashSet::from([key.clone()]);
        if flux {
            cluster.graph.update(key, old.as_deref(), new, &cluster.records, &mut affected);
        }
        if labels(old.as_deref()) != labels(new) {
            self.delta.namespaces.insert((id, key.name.clone()));
            self.touch_records(id, |other| other.namespace == key.name);
        }
        self.touch(id, affected);
        self.delta.clusters.insert(id);
    }
}

/// What a Namespace's record gives to the metadata of everything told about it.
fn labels(record: Option<&Record>) -> Option<(Seconds, Option<&Str>)> {
    match &record?.detail {
        Detail::Namespace { tenant } => Some((record?.created, tenant.as_ref())),
        _ => None,
    }
}

impl Cluster {
    fn new(name: Str, kinds: usize, now: Seconds) -> Self {
        Self {
            name,
            records: HashMap::new(),
            kinds: std::iter::repeat_with(Kind::default).take(kinds).collect(),
            graph: Graph::default(),
            tallies: Tallies::default(),
            contact: Contact { since: now, ..Contact::default() },
            added: now,
            fresh: true,
            fresh_since: now,
            last_event: now,
        }
    }

    fn kind_mut(&mut self, kind: KindId) -> &mut Kind {
        &mut self.kinds[usize::from(kind.0)]
    }

    fn kind_state(&self, kind: KindId) -> &Kind {
        &self.kinds[usize::from(kind.0)]
    }

    /// The record of an object.
    pub fn record(&self, key: &ObjectKey) -> Option<&Record> {
        self.records.record(key)
    }

    /// Every record, in no order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &Record> {
        self.records.values().map(|entry| &*entry.record)
    }

    /// The counts over the Flux objects of a namespace; `None` if it has none.
    pub fn namespace(&self, name: &str) -> Option<&Tally> {
        self.tallies.namespaces.get(name)
    }

    /// The counts over a layer.
    pub fn layer(&self, layer: Layer) -> &Tally {
        &self.tallies.layers[layer as usize]
    }

    /// The kubelet versions of its nodes, and how many nodes have each.
    pub fn kubelet_versions(&self) -> impl ExactSizeIterator<Item = (&Str, u32)> {
        self.tallies.kubelet_versions.iter().map(|(version, nodes)| (version, *nodes))
    }

    /// The objects that name `key` in their `dependsOn`.
    pub fn dependents(&self, key: &ObjectKey) -> &[ObjectKey] {
        self.graph.dependents(key)
    }

    /// Where an object stands in the graph of dependencies.
    pub fn place(&self, key: &ObjectKey) -> Place {
        self.graph.place(key)
    }

    /// Why an object cannot go on; `None` if it can, or if the cause is its own.
    pub fn root_cause<'a>(&'a self, record: &'a Record) -> Option<RootCause<'a>> {
        root_cause::root_cause(self, record)
    }

    /// What an entry of `dependsOn` is doing.
    pub fn dependency(&self, reference: &Reference) -> Dependency<'_> {
        let Reference::Known(key) = reference else { return Dependency::Unseen };
        match self.record(key) {
            Some(record) => Dependency::Is(record),
            None if self.is_watched(key.kind) => Dependency::Missing,
            None => Dependency::Unseen,
        }
    }

    /// How a kind's observation stands; `None` before the source has said.
    pub fn kind_status(&self, kind: KindId) -> Option<&KindStatus> {
        self.kind_state(kind).status.as_ref()
    }

    /// Whether every object of the kind is known, so that an unknown one does not exist.
    pub(crate) fn is_watched(&self, kind: KindId) -> bool {
        self.is_settled(kind)
            && matches!(self.kind_status(kind), Some(KindStatus::Served { .. } | KindStatus::Absent))
    }

    /// Whether as much as can be is known of a kind: all of it, or that it cannot be seen.
    pub fn is_settled(&self, kind: KindId) -> bool {
        let state = self.kind_state(kind);
        match state.status {
            Some(KindStatus::Absent | KindStatus::Forbidden { .. }) => true,
            Some(KindStatus::Served { .. } | KindStatus::Failing { .. }) => state.synced,
            None => false,
        }
    }

    /// What was last heard of the cluster.
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Whether the cluster was heard from lately, and since when that has been so.
    pub fn freshness(&self) -> (bool, Seconds) {
        (self.fresh, self.fresh_since)
    }

    /// Whether what is known of all these kinds is up to date, and since when that has been so.
    pub fn freshness_of(&self, kinds: impl IntoIterator<Item = KindId>) -> (bool, Seconds) {
        let kinds = kinds.into_iter().map(|kind| self.kind_state(kind)).map(|kind| (kind.stale, kind.turned));
        let turns: Vec<_> = kinds.chain([(!self.fresh, self.fresh_since)]).collect();
        let stale = turns.iter().filter(|(stale, _)| *stale).map(|(_, turned)| *turned).min();
        let last = turns.iter().map(|(_, turned)| *turned).max();
        (stale.is_none(), stale.or(last).unwrap_or(self.fresh_since))
    }

    /// Whether what is known of a kind is up to date.
    pub fn is_fresh(&self, kind: KindId) -> bool {
        self.fresh && !self.kind_state(kind).stale
    }

    /// When anything was last observed to change.
    pub fn last_event(&self) -> Seconds {
        self.last_event
    }
}

#[cfg(test)]
mod tests;
