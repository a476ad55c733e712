//! A replica of a version without blocks: every admission is an entry of the ledger, which it writes as a whole.
//!
//! It models that version's behaviour as far as it matters to other replicas. It drops fields that it does not know.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use gatehouse_apiservice::{policy::QuotaLedgerSpec, quantity::Quantity};
use serde::{Deserialize, Serialize};

use super::{
    super::{Fate, Reached, Truth},
    KINDS, PATIENCE, Stage, View, World, hard, resource,
};
use crate::{Amounts, Dimension};

/// The entry of an object whose usage may grow above what `used` counts for it, as that version reads and writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::ledger) struct LedgerEntry {
    pub(in crate::ledger) resource: String,
    namespace: String,
    name: String,
    #[serde(default)]
    ticket: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::ledger) floor: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::ledger) peak: BTreeMap<String, String>,
}

/// The ledger that it knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Older {
    view: View,
    base: Option<(u64, QuotaLedgerSpec)>,
    /// Since when each entry is known, by its name and ticket; and the results of reads for expired entries.
    clock: HashMap<(String, i64), u32>,
    found: HashMap<(String, i64), Fate>,
}

fn read(texts: &BTreeMap<String, String>) -> Amounts {
    texts
        .iter()
        .map(|(one, two)| (one.parse::<Dimension>().unwrap(), two.parse::<Quantity>().unwrap()))
        .collect()
}

fn written(amounts: &Amounts) -> BTreeMap<String, String> {
    amounts.iter().map(|(one, two)| (one.to_string(), one.text(*two))).collect()
}

fn entries(spec: &QuotaLedgerSpec) -> BTreeMap<String, LedgerEntry> {
    spec.entries.iter().map(|(name, text)| (name.clone(), serde_json::from_str(text).unwrap())).collect()
}

fn texts(entries: &BTreeMap<String, LedgerEntry>) -> BTreeMap<String, String> {
    entries.iter().map(|(name, entry)| (name.clone(), serde_json::to_string(entry).unwrap())).collect()
}

fn charge(entry: &LedgerEntry) -> Amounts {
    let grown = read(&entry.peak).saturating_sub(&read(&entry.floor));
    grown.only(|dimension| !grown.get(dimension).is_negative())
}

fn at(entry: &LedgerEntry) -> Option<u64> {
    entry.resource_version.as_ref().map(|at| at.parse().unwrap())
}

impl World {
    pub(super) fn older_step(&mut self, what: u8, a: u8, b: u8) {
        match what % 8 {
            0 | 1 => self.older_review(a),
            2 => self.older_make(a, b),
            3 => self.older.base = self.stored.as_ref().map(|stored| (stored.version, stored.spec.clone())),
            4 | 5 => {
                let last = self.revision;
                let history = self.history.clone();
                for event in &history {
                    self.older.view.see(event);
                }
                self.older.view.reached = [last; KINDS];
                self.older_settle();
            }
            6 => self.older_settle(),
            _ => self.older_find(),
        }
    }

    fn older_make(&mut self, servers: u8, players: u8) {
        self.ask_to_create(0, servers, players);
        let last = self.requests.len() - 1;
        if let Ok(last) = u8::try_from(last) {
            self.older_review(last);
            self.commit(last);
        }
    }

    fn older_review(&mut self, index: u8) {
        let Some(index) = self.request(index) else { return };
        for _ in 0..2 {
            let Some((version, spec)) = self.older.base.clone() else { break };
            let proposal = self.requests[index].proposal.clone();
            if spec.used.is_empty() {
                return;
            }
            let mut all = entries(&spec);
            let uid = proposal.uid.to_string();
            let known = all.get(&uid);
            if known.is_some_and(|known| at(known) > proposal.at) {
                self.requests[index].stage = Stage::Admitted(None);
                return;
            }
            let grows = proposal.new.iter().any(|(one, two)| *two > proposal.old.get(one));
            if !grows {
                self.requests[index].stage = Stage::Admitted(None);
                return;
            }
            let (floor, peak) = match known {
                Some(known) if at(known) == proposal.at => {
                    (read(&known.floor), read(&known.peak).max(&proposal.new))
                }
                Some(known) => (read(&known.floor).min(&proposal.old), proposal.old.max(&proposal.new)),
                None => (proposal.old.clone(), proposal.old.max(&proposal.new)),
            };
            let entry = LedgerEntry {
                resource: proposal.resource.to_string(),
                namespace: "n".into(),
                name: "o".into(),
                ticket: spec.tickets + 1,
                resource_version: proposal.at.map(|at| at.to_string()),
                floor: written(&floor),
                peak: written(&peak),
            };
            all.insert(uid, entry);
            let sum = all.values().fold(Amounts::default(), |sum, entry| sum.saturating_add(&charge(entry)));
            let used = read(&spec.used);
            let exceeds = hard().iter().any(|(one, limit)| {
                proposal.new.get(one) > proposal.old.get(one)
                    && used.get(one).checked_add(sum.get(one)).unwrap() > *limit
            });
            if exceeds && !proposal.forced {
                return;
            }
            let tickets = spec.tickets + 1;
            if self.swap(version, QuotaLedgerSpec { entries: texts(&all), tickets, ..spec }) {
                self.requests[index].stage = Stage::Admitted(None);
                self.older.base = self.stored.as_ref().map(|stored| (stored.version, stored.spec.clone()));
                return;
            }
            self.older.base = self.stored.as_ref().map(|stored| (stored.version, stored.spec.clone()));
        }
        self.older.base = self.stored.as_ref().map(|stored| (stored.version, stored.spec.clone()));
    }

    fn older_observe(&mut self) {
        let Some((_, spec)) = &self.older.base else { return };
        let known: Vec<_> = entries(spec).into_iter().map(|(name, entry)| (name, entry.ticket)).collect();
        self.older.clock.retain(|entry, _| known.contains(entry));
        for entry in known {
            self.older.clock.entry(entry).or_insert(self.now);
        }
    }

    /// Looks up the objects of expired entries. A block has no object.
    fn older_find(&mut self) {
        self.older_observe();
        for (entry, since) in &self.older.clock {
            if self.now - since > PATIENCE {
                let found = self.objects.get(entry.0.as_str()).map(|object| object.revision);
                self.older.found.insert(entry.clone(), found.map_or(Fate::Absent, Fate::Present));
            }
        }
    }

    fn older_settle(&mut self) {
        self.older_observe();
        let Some((version, spec)) = self.older.base.clone() else { return };
        let mut revisions = spec.revisions.clone();
        for kind in 0..KINDS {
            let name = resource(kind).to_string();
            let reached = self.older.view.reached[kind];
            if spec.revisions.get(&name).is_some_and(|settled| reached < settled.parse().unwrap()) {
                return;
            }
            revisions.insert(name, reached.to_string());
        }
        let view = &self.older.view;
        let mut left = BTreeMap::new();
        for (name, entry) in entries(&spec) {
            let fate = self.older.found.get(&(name.clone(), entry.ticket)).copied();
            if view.was_deleted(&name) || fate == Some(Fate::Absent) {
                continue;
            }
            let kind = (0..KINDS).find(|kind| resource(*kind).to_string() == entry.resource);
            let Some(seen) = kind.and_then(|kind| view.seen(&resource(kind), &name)) else {
                let reached = kind.map(|kind| view.reached(&resource(kind)));
                let is_gone =
                    at(&entry).is_some_and(|at| matches!(reached, Some(Reached::To(to)) if to >= at));
                if !is_gone && !entry.peak.is_empty() {
                    left.insert(name, LedgerEntry { floor: BTreeMap::new(), ..entry });
                }
                continue;
            };
            let object = &view.objects[&Arc::<str>::from(name.as_str())];
            let is_over = match at(&entry) {
                None => true,
                Some(at) => seen.revision > at || fate == Some(Fate::Present(at)) && seen.revision == at,
            };
            match seen.member_since {
                Some(_) if is_over => {
                    let reached = revisions.entry(entry.resource.clone()).or_default();
                    let settled: u64 = reached.parse().unwrap_or_default();
                    *reached = settled.max(seen.revision).to_string();
                }
                None if is_over && fate.is_some() => {}
                counted => {
                    let floor = counted.map(|_| written(&object.usage)).unwrap_or_default();
                    left.insert(name, LedgerEntry { floor, ..entry });
                }
            }
        }
        let used: BTreeMap<String, String> =
            hard().keys().map(|one| (one.to_string(), one.text(view.used().get(one)))).collect();
        if used == spec.used && left == entries(&spec) {
            return;
        }
        self.swap(version, QuotaLedgerSpec { used, revisions, entries: texts(&left), ..spec });
        self.older.base = self.stored.as_ref().map(|stored| (stored.version, stored.spec.clone()));
    }
}
