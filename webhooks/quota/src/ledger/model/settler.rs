//! Whoever settles in the model, and at what speed each of them sees what was written.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    super::{Expired, Fate, Ledger, Pending, Reached, Seen, Settled, Truth},
    Event, KINDS, NAMESPACES, Object, PATIENCE, World, hard, resource,
};
use crate::{Amounts, GroupResource};

/// Whoever settles: what was seen of each kind, and since when each entry is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Settler {
    pub(super) reached: [u64; KINDS],
    pub(super) objects: HashMap<Arc<str>, Object>,
    /// The revision of the last event seen of each object.
    pub(super) seen: HashMap<Arc<str>, u64>,
    pub(super) deleted: HashSet<Arc<str>>,
    pub(super) ledger: (u64, Ledger),
    pub(super) clock: HashMap<Pending, u32>,
    pub(super) expired: Vec<Expired>,
}

impl Settler {
    pub(super) fn see(&mut self, event: &Event) {
        if self.seen.get(&event.uid).is_some_and(|seen| *seen >= event.revision) {
            return;
        }
        self.seen.insert(Arc::clone(&event.uid), event.revision);
        match &event.object {
            Some(object) => {
                self.objects.insert(Arc::clone(&event.uid), object.clone());
            }
            None => {
                if self.objects.remove(&event.uid).is_some() {
                    self.deleted.insert(Arc::clone(&event.uid));
                }
            }
        }
    }

    pub(super) fn knows_namespace(&self, namespace: usize) -> bool {
        self.objects.values().any(|object| object.kind == NAMESPACES && object.namespace == namespace)
    }
}

impl Truth for Settler {
    fn used(&self) -> Amounts {
        let ours = self.objects.values().filter(|object| self.knows_namespace(object.namespace));
        ours.fold(Amounts::default(), |sum, object| sum.saturating_add(&object.usage))
    }

    fn reached(&self, resource: &GroupResource) -> Reached {
        let kind = (0..KINDS).find(|kind| super::resource(*kind) == *resource);
        kind.map_or(Reached::Unknown, |kind| Reached::To(self.reached[kind]))
    }

    fn seen(&self, _resource: &GroupResource, uid: &str) -> Option<Seen> {
        let object = self.objects.get(uid)?;
        let counted = self.knows_namespace(object.namespace).then(|| object.usage.clone());
        Some(Seen { revision: object.revision, counted })
    }

    fn was_deleted(&self, uid: &str) -> bool {
        self.deleted.contains(uid)
    }
}

impl World {
    /// Sees everything, of all kinds but perhaps one, and settles.
    pub(super) fn catch_up(&mut self, settler: usize, but: usize) {
        for kind in (0..KINDS).filter(|kind| *kind != but) {
            self.advance(settler, kind, usize::MAX);
        }
        self.settlers[settler].ledger = self.stored.clone();
        self.settle(settler);
    }

    pub(super) fn advance(&mut self, settler: usize, kind: usize, events: usize) {
        let settler = &mut self.settlers[settler];
        let mut last = settler.reached[kind];
        let new = self.history.iter().filter(|event| event.kind == kind && event.revision > last);
        let new: Vec<&Event> = new.collect();
        for event in new.iter().take(events) {
            settler.see(event);
            last = event.revision;
        }
        // A bookmark tells of the revisions of other kinds.
        settler.reached[kind] = if new.len() <= events { self.revision } else { last };
    }

    /// One object is seen as it is now, the rest of its kind as before.
    pub(super) fn see_ahead(&mut self, settler: usize, index: u8) {
        let Some((uid, _)) = self.pick(index) else { return };
        let last = self.history.iter().rfind(|event| event.uid == uid).cloned();
        if let Some(event) = last {
            self.settlers[settler].see(&event);
        }
    }

    /// A new leader, whose lists may be old.
    pub(super) fn begin_anew(&mut self, settler: usize, age: u8) {
        let mut new = Settler { ledger: self.stored.clone(), ..Settler::default() };
        for kind in 0..KINDS {
            let back = u64::from(age >> (2 * kind) & 3) * 3;
            new.reached[kind] = self.revision.saturating_sub(back);
            let reached = new.reached[kind];
            for event in self.history.iter().filter(|event| event.kind == kind && event.revision <= reached) {
                new.see(event);
            }
        }
        // What was gone before the list was never seen to go.
        new.deleted.clear();
        self.settlers[settler] = new;
    }

    pub(super) fn observe(settler: &mut Settler, now: u32) {
        let pending: HashSet<Pending> = settler.ledger.1.pending().collect();
        settler.clock.retain(|entry, _| pending.contains(entry));
        for entry in pending {
            settler.clock.entry(entry).or_insert(now);
        }
    }

    /// Reads with a quorum what has waited for too long. What is found is used later.
    pub(super) fn read_expired(&mut self, settler: usize) {
        let settler = &mut self.settlers[settler];
        Self::observe(settler, self.now);
        for (entry, since) in &settler.clock {
            if self.now - since > PATIENCE {
                let found = self.objects.get(&entry.uid).map(|object| object.revision);
                let fate = found.map_or(Fate::Absent, Fate::Present);
                settler.expired.push(Expired { entry: entry.clone(), fate });
            }
        }
    }

    pub(super) fn settle(&mut self, index: usize) {
        let resources: BTreeSet<_> = (0..KINDS).map(resource).collect();
        Self::observe(&mut self.settlers[index], self.now);
        let (version, mut ledger) = self.settlers[index].ledger.clone();
        let expired = self.settlers[index].expired.clone();
        if ledger.settle(&hard(), &resources, &self.settlers[index], &expired) == Settled::Changed {
            if self.swap(version, &ledger) {
                self.settlers[index].ledger = (version + 1, ledger);
            } else {
                self.settlers[index].ledger = self.stored.clone();
            }
        }
    }
}
