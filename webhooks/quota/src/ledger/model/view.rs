//! The observations of each replica in the model, and their speed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    super::{Reached, Seen, Truth},
    Event, KINDS, NAMESPACES, Object, World,
};
use crate::{Amounts, GroupResource};

/// The observed state of each kind.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) reached: [u64; KINDS],
    pub(super) objects: HashMap<Arc<str>, Object>,
    /// The revision of the last observed event of each object.
    pub(super) seen: HashMap<Arc<str>, u64>,
    pub(super) deleted: HashSet<Arc<str>>,
}

impl View {
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

    fn member_since(&self, namespace: usize) -> Option<u64> {
        let mut namespaces = self.objects.values().filter(|object| object.kind == NAMESPACES);
        namespaces.find(|object| object.namespace == namespace).map(|object| object.revision)
    }
}

impl Truth for View {
    fn used(&self) -> Amounts {
        let ours = self.objects.values().filter(|object| self.member_since(object.namespace).is_some());
        ours.fold(Amounts::default(), |sum, object| sum.saturating_add(&object.usage))
    }

    fn reached(&self, resource: &GroupResource) -> Reached {
        let kind = (0..KINDS).find(|kind| super::resource(*kind) == *resource);
        kind.map_or(Reached::Unknown, |kind| Reached::To(self.reached[kind]))
    }

    fn seen(&self, _resource: &GroupResource, uid: &str) -> Option<Seen> {
        let object = self.objects.get(uid)?;
        Some(Seen { revision: object.revision, member_since: self.member_since(object.namespace) })
    }

    fn was_deleted(&self, uid: &str) -> bool {
        self.deleted.contains(uid)
    }
}

impl World {
    pub(super) fn advance(&mut self, replica: usize, kind: usize, events: usize) {
        let view = &mut self.replicas[replica].view;
        let mut last = view.reached[kind];
        let new = self.history.iter().filter(|event| event.kind == kind && event.revision > last);
        let new: Vec<&Event> = new.collect();
        for event in new.iter().take(events) {
            view.see(event);
            last = event.revision;
        }
        // A bookmark reports the revisions of other kinds.
        view.reached[kind] = if new.len() <= events { self.revision } else { last };
    }

    /// Observes the current state of one object, and leaves the rest of its kind.
    pub(super) fn see_ahead(&mut self, replica: usize, index: u8) {
        let Some((uid, _)) = self.pick(index) else { return };
        let last = self.history.iter().rfind(|event| event.uid == uid).cloned();
        if let Some(event) = last {
            self.replicas[replica].view.see(&event);
        }
    }

    /// Lists all kinds again; the lists may be old.
    pub(super) fn begin_anew(&mut self, replica: usize, age: u8) {
        self.replicas[replica].view = self.old_view(age);
    }

    pub(super) fn old_view(&self, age: u8) -> View {
        let mut view = View::default();
        for kind in 0..KINDS {
            let back = u64::from(age >> (2 * kind) & 3) * 3;
            view.reached[kind] = self.revision.saturating_sub(back);
            let reached = view.reached[kind];
            for event in self.history.iter().filter(|event| event.kind == kind && event.revision <= reached) {
                view.see(event);
            }
        }
        // Deletions before the list are never observed.
        view.deleted.clear();
        view
    }
}
