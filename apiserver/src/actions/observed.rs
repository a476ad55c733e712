//! What actions need of the inventory: at which version each Flux kind is served, and when suspensions end. Actions are
//! for the local cluster.
//!
//! **Invariant:** only the task that owns the inventory writes it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use gatehouse_inventory::{
    ClusterId, Delta, Inventory, KindStatus, LOCAL, ObjectKey, Record, Seconds, State as ObjectState, Str,
    catalogue::KindId,
};
use tokio::sync::Notify;

/// A Flux object.
pub(super) type Place = (ClusterId, ObjectKey);

/// Whether a kind is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Served {
    /// At this version.
    At(Str),
    /// Its CRD is not installed.
    No,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Observed {
    state: Mutex<State>,
    /// Notified when the next end may have changed.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    served: HashMap<(ClusterId, KindId), Served>,
    ends: BTreeSet<(Seconds, Place)>,
    end_of: HashMap<Place, Seconds>,
}

impl Observed {
    /// Takes in what changed.
    pub(crate) fn update(&self, inventory: &Inventory, delta: &Delta) {
        let catalogue = inventory.catalogue();
        let flux = || catalogue.kinds().filter(|(_, kind)| kind.is_flux());
        let mut state = self.state();
        for (id, cluster) in inventory.clusters().filter(|(id, _)| *id == LOCAL) {
            for (kind, _) in flux() {
                let served = match cluster.kind_status(kind) {
                    Some(KindStatus::Served { version }) => Served::At(Str::clone(version)),
                    Some(KindStatus::Absent) => Served::No,
                    // What was known stays.
                    Some(KindStatus::Forbidden { .. } | KindStatus::Failing { .. }) | None => continue,
                };
                state.served.insert((id, kind), served);
            }
        }
        let mut is_changed = false;
        let is_acted_on = |(id, key): &&Place| *id == LOCAL && catalogue.kind(key.kind).is_flux();
        for place in delta.objects.iter().filter(is_acted_on) {
            let end = inventory.cluster(place.0).record(&place.1).and_then(end);
            is_changed |= state.set_end(place, end);
        }
        drop(state);
        if is_changed {
            self.changed.notify_one();
        }
    }

    /// Whether a kind is served by a cluster; `None` if that is not known yet.
    pub(super) fn served(&self, cluster: ClusterId, kind: KindId) -> Option<Served> {
        self.state().served.get(&(cluster, kind)).cloned()
    }

    /// The suspensions that end before or at `now`, and when the next one ends.
    pub(super) fn ends(&self, now: Seconds) -> (Vec<Place>, Option<Seconds>) {
        let state = self.state();
        let due = state.ends.iter().take_while(|(at, _)| *at <= now).map(|(_, place)| place.clone());
        let due: Vec<_> = due.collect();
        (due, state.ends.iter().map(|(at, _)| *at).find(|at| *at > now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether anything changed.
    fn set_end(&mut self, place: &Place, end: Option<Seconds>) -> bool {
        let before = match end {
            Some(end) => self.end_of.insert(place.clone(), end),
            None => self.end_of.remove(place),
        };
        if before == end {
            return false;
        }
        if let Some(before) = before {
            self.ends.remove(&(before, place.clone()));
        }
        if let Some(end) = end {
            self.ends.insert((end, place.clone()));
        }
        true
    }
}

/// When there is something to do about the end of a suspension. An end that was left on an object without a suspension
/// is removed at once: it would end the next suspension.
fn end(record: &Record) -> Option<Seconds> {
    let flux = record.flux().filter(|_| record.verdict.state != ObjectState::Terminating)?;
    let until = flux.request.as_ref()?.suspended_until?;
    Some(if flux.suspended { until } else { Seconds::MIN })
}
