//! Stores records, and updates everything that is derived from them.

use gatehouse_apiservice::denial::DenierKind;

use super::{Inventory, touch::touch};
use crate::{
    ClusterId, Detail, Engine, ObjectKey, Record, Seconds, Str,
    below::Below,
    managers::records_of,
    records::{self, Entry},
};

impl Inventory {
    /// Stores the record that the source sent for `key`, or removes it if `new` is `None`.
    pub(super) fn replace(
        &mut self,
        id: ClusterId,
        key: &ObjectKey,
        mut new: Option<Box<Record>>,
        now: Seconds,
    ) {
        let cluster = &mut self.clusters[usize::from(id.0)];
        let pass = cluster.kind_mut(key.kind).pass;
        if let Some(record) = &mut new {
            // An object that was recreated under the same name inherits nothing from the old one.
            let before =
                records::find(&cluster.records, key).filter(|before| before.created == record.created);
            if self.catalogue.kind(key.kind).is_flux() {
                record.wait_for_dependency(cluster, now);
                if let Some(before) = before {
                    record.verdict.remember(&before.verdict);
                    record.remember_unpruned(before);
                    record.remember_awaited(before);
                }
            }
            if self.catalogue.kind(key.kind).is_pod()
                && let Some(before) = before
            {
                record.fails_since(before);
            }
            let game = self.catalogue.kind(key.kind).game;
            if game.is_some_and(|game| game.engine == Engine::Pteronimbus)
                && let Some(before) = before
            {
                record.runs_since(before);
            }
            record.settle(before, cluster, now);
        }
        let new = new.filter(|record| self.catalogue.kind(key.kind).keeps(record));
        let unchanged = match (cluster.records.get_mut(key), &new) {
            (Some(entry), Some(record)) => {
                entry.pass = pass;
                entry.record == *record
            }
            (None, None) => true,
            _ => false,
        };
        if !unchanged {
            self.put(id, key, new.map(|record| Entry { record, pass }), now);
        }
    }

    /// Judges an object again by what it waits for, or by its pods, one of which has changed.
    pub(super) fn reconsider(&mut self, id: ClusterId, key: &ObjectKey, since: Seconds) {
        let cluster = &self.clusters[usize::from(id.0)];
        let Some(entry) = cluster.records.get(key) else { return };
        // Deadlines have passed up to the last event.
        let now = since.max(cluster.last_event);
        if let Some(verdict) = entry.record.no_longer_waits(cluster) {
            let record = Box::new(Record { verdict, ..(*entry.record).clone() });
            let pass = entry.pass;
            self.put(id, key, Some(Entry { record, pass }), now);
        } else if entry.record.flux().is_none() {
            self.resettle(id, key, now);
        }
    }

    /// Replaces the record of `key`, and updates everything that is derived from it.
    fn put(&mut self, id: ClusterId, key: &ObjectKey, new: Option<Entry>, now: Seconds) {
        let cluster = &mut self.clusters[usize::from(id.0)];
        let kind = self.catalogue.kind(key.kind);
        let old = match new {
            Some(entry) => cluster.records.insert(key.clone(), entry),
            None => cluster.records.remove(key),
        }
        .map(|entry| entry.record);
        if let Some(old) = &old {
            cluster.tallies.remove(old, kind);
            if let Some(at) = old.verdict.due() {
                self.deadlines.remove(&(at, id, key.clone()));
            }
        }
        if let Some(entry) = cluster.records.get(key) {
            cluster.tallies.add(&entry.record, kind);
            if let Some(at) = entry.record.verdict.due() {
                self.deadlines.insert((at, id, key.clone()));
            }
        }
        let new = records::find(&cluster.records, key);
        let others = cluster.relations.update(key, old.as_deref(), new);
        let explains = [old.as_deref(), new].into_iter().flatten().any(Below::explains);
        let applications = if explains { cluster.applications_of(&self.catalogue, key) } else { Vec::new() };
        for other in cluster.below.update(key, old.as_deref(), new, &applications) {
            self.backlog.push(id, &other, now);
            cluster.behind_since = cluster.behind_since.or(Some(now));
        }
        let [before, after] = [old.as_deref(), new].map(|record| record.and_then(Record::applied_here));
        if kind.is_application() && before != after {
            let [gone, come] =
                [before, after].map(|applied| records_of(key, applied, &self.catalogue, &cluster.records));
            for other in cluster.below.reapply(key, gone, come) {
                self.backlog.push(id, &other, now);
                cluster.behind_since = cluster.behind_since.or(Some(now));
            }
        }
        for other in cluster.managers.update(key, before, after) {
            self.backlog.push(id, &other, now);
            cluster.behind_since = cluster.behind_since.or(Some(now));
        }
        if kind.is_flux() {
            cluster.graph.update(key, old.as_deref(), new, now);
            let behind = cluster.graph.behind_since().or(self.backlog.since(id));
            cluster.behind_since = cluster.behind_since.or(behind);
        }
        if let Some(game) = kind.game {
            let shares =
                [old.as_deref(), new].map(|record| record.and_then(|record| record.share_of_fleet(game)));
            if shares[0] != shares[1] {
                let fleets = shares.into_iter().flatten();
                self.delta.objects.extend(fleets.map(|(fleet, _)| (id, fleet)));
            }
        }
        if let Some(kind) = self.quota_kind {
            let deniers =
                [old.as_deref(), new].map(|record| record.map_or(&[][..], |record| record.verdict.deniers()));
            if deniers[0] != deniers[1] {
                let names =
                    deniers.into_iter().flatten().filter(|denier| denier.kind == DenierKind::TenantQuota);
                let key = |name: &Str| ObjectKey::new(kind, "", name.clone());
                self.delta.objects.extend(names.map(|denier| (id, key(&denier.name))));
            }
        }
        if labels(old.as_deref()) != labels(new) {
            self.delta.namespaces.insert((id, key.name.clone()));
            self.delta.games.insert((id, key.name.clone()));
            self.delta.applications.insert((id, key.name.clone()));
            self.touch_records(id, |other| other.namespace == key.name);
        }
        let states =
            old.as_deref().into_iter().chain(records::find(&self.clusters[usize::from(id.0)].records, key));
        touch(&self.catalogue, &mut self.delta, id, key.clone(), states);
        for other in &others {
            self.resettle(id, other, now);
        }
    }

    /// Settles a record again because another object or the time changed. Its pass stays the same: the source did not
    /// send it, so a list in progress has yet to confirm that the object exists.
    pub(super) fn resettle(&mut self, id: ClusterId, key: &ObjectKey, now: Seconds) {
        let cluster = &self.clusters[usize::from(id.0)];
        let Some(entry) = cluster.records.get(key) else { return };
        let (mut record, pass) = (entry.record.clone(), entry.pass);
        record.settle(Some(&entry.record), cluster, now);
        if record != entry.record {
            let kept = self.catalogue.kind(key.kind).keeps(&record);
            self.put(id, key, kept.then_some(Entry { record, pass }), now);
        }
    }
}

/// The parts of a Namespace's record that appear in the metadata of all rows of the namespace.
fn labels(record: Option<&Record>) -> Option<(Seconds, Option<&Str>)> {
    match &record?.detail {
        Detail::Namespace { tenant } => Some((record?.created, tenant.as_ref())),
        _ => None,
    }
}
