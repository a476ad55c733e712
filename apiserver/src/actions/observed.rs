//! What actions need of the inventory: at which version each Flux kind is served, which remote clusters answer, and when
//! suspensions of the local cluster end.
//!
//! **Invariant:** only the task that owns the inventory writes it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use gatehouse_inventory::{
    Cluster, ClusterId, Delta, Inventory, KindStatus, LOCAL, ObjectKey, Record, Registration, Seconds,
    State as ObjectState, Str, catalogue::KindId,
};
use tokio::sync::Notify;

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
    remotes: HashMap<Str, Remote>,
    ends: BTreeSet<(Seconds, ObjectKey)>,
    end_of: HashMap<ObjectKey, Seconds>,
}

/// What is known of a remote cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) id: ClusterId,
    /// Why what is known of it may be old; `None` while it answers.
    pub(super) unheard: Option<Str>,
}

impl Observed {
    /// Takes in what changed.
    pub(crate) fn update(&self, inventory: &Inventory, delta: &Delta) {
        let catalogue = inventory.catalogue();
        let flux = || catalogue.kinds().filter(|(_, kind)| kind.is_flux());
        let mut state = self.state();
        for (id, cluster) in inventory.clusters() {
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
        for (_, key) in delta.objects.iter().filter(|(id, _)| *id == LOCAL) {
            if catalogue.kind(key.kind).is_flux() {
                let end = inventory.cluster(LOCAL).record(key).and_then(end);
                is_changed |= state.set_end(key, end);
            }
        }
        let remote = |(id, cluster): (ClusterId, &Cluster)| {
            let registration = cluster.registration()?;
            Some((cluster.name.clone(), Remote { id, unheard: unheard(cluster, registration) }))
        };
        state.remotes = inventory.clusters().filter_map(remote).collect();
        drop(state);
        if is_changed {
            self.changed.notify_one();
        }
    }

    /// Whether a kind is served by a cluster; `None` if that is not known yet.
    pub(super) fn served(&self, cluster: ClusterId, kind: KindId) -> Option<Served> {
        self.state().served.get(&(cluster, kind)).cloned()
    }

    /// What is known of a remote cluster; `None` if nothing is yet.
    pub(super) fn remote(&self, name: &str) -> Option<Remote> {
        self.state().remotes.get(name).cloned()
    }

    /// The suspensions that end before or at `now`, and when the next one ends.
    pub(super) fn ends(&self, now: Seconds) -> (Vec<ObjectKey>, Option<Seconds>) {
        let state = self.state();
        let due = state.ends.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| key.clone());
        let due: Vec<_> = due.collect();
        (due, state.ends.iter().map(|(at, _)| *at).find(|at| *at > now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether anything changed.
    fn set_end(&mut self, key: &ObjectKey, end: Option<Seconds>) -> bool {
        let before = match end {
            Some(end) => self.end_of.insert(key.clone(), end),
            None => self.end_of.remove(key),
        };
        if before == end {
            return false;
        }
        if let Some(before) = before {
            self.ends.remove(&(before, key.clone()));
        }
        if let Some(end) = end {
            self.ends.insert((end, key.clone()));
        }
        true
    }
}

/// Why a cluster cannot be asked now, or what is known of it may be old.
fn unheard(cluster: &Cluster, registration: &Registration) -> Option<Str> {
    if let Some(refusal) = &registration.refused {
        return Some(format!("its registration is refused: {}", refusal.message).into());
    }
    let contact = cluster.contact();
    if let Some(message) = &contact.silent {
        return Some(format!("it does not answer: {message}").into());
    }
    if contact.last_heard.is_none() {
        return Some("it was not asked yet".into());
    }
    (!cluster.freshness().0).then(|| "it was not heard from lately".into())
}

/// When there is something to do about the end of a suspension. An end that was left on an object without a suspension
/// is removed at once: it would end the next suspension.
fn end(record: &Record) -> Option<Seconds> {
    let flux = record.flux().filter(|_| record.verdict.state != ObjectState::Terminating)?;
    let until = flux.request.as_ref()?.suspended_until?;
    Some(if flux.suspended { until } else { Seconds::MIN })
}
