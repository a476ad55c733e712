//! The names of the registered clusters, the ways to them, and whether they are known to be complete. Every request reads
//! it.
//!
//! **Invariant:** only the registrar writes it, and of a cluster that it has registered what observes that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use gatehouse_inventory::{Seconds, Str};
use tokio::{sync::watch, time::Instant};

/// How long a removed cluster is remembered: as long as a client may come from another replica and have its rows.
const REMEMBERED: Duration = Duration::from_mins(10);

/// A cluster that can be asked.
#[derive(Clone)]
pub(crate) struct Connected {
    /// Does not retry.
    pub(crate) client: kube::Client,
    /// The object that registers it.
    pub(crate) origin: Str,
    /// Whether that object lets its credential be used for actions.
    pub(crate) allows_actions: bool,
}

/// See the module.
pub(crate) struct Registry {
    /// The name of the local cluster.
    pub(crate) local: Str,
    names: watch::Sender<BTreeSet<Str>>,
    removed: Mutex<BTreeMap<Str, Instant>>,
    connected: Mutex<BTreeMap<Str, Connected>>,
    /// What the Gatehouses of the clusters that are observed through these call their own cluster.
    relayed: Mutex<BTreeMap<Str, Str>>,
    /// When the registrations that are known were read from kube-apiserver.
    confirmed: AtomicI64,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("local", &self.local).finish_non_exhaustive()
    }
}

impl Registry {
    pub(crate) fn new(local: Str) -> Self {
        let (names, _) = watch::channel(BTreeSet::new());
        Self {
            local,
            names,
            removed: Mutex::default(),
            connected: Mutex::default(),
            relayed: Mutex::default(),
            confirmed: AtomicI64::new(Seconds::MIN),
        }
    }

    /// The names of the registered clusters, the local one aside, with updates.
    pub(crate) fn follow(&self) -> watch::Receiver<BTreeSet<Str>> {
        self.names.subscribe()
    }

    /// The names of the registered clusters, the local one aside.
    pub(crate) fn names(&self) -> BTreeSet<Str> {
        self.names.borrow().clone()
    }

    /// The names of clusters that were registered until recently.
    pub(crate) fn recently_removed(&self) -> Vec<Str> {
        let mut removed = self.removed();
        removed.retain(|_, at| at.elapsed() < REMEMBERED);
        removed.keys().cloned().collect()
    }

    /// Whether the registrations are those of `lag` before `now`, or later.
    pub(crate) fn is_current(&self, lag: Seconds, now: Seconds) -> bool {
        self.confirmed.load(Ordering::Relaxed) >= now.saturating_sub(lag)
    }

    /// The way to a remote cluster; `None` if it is not registered, or its registration refused.
    pub(crate) fn connected(&self, name: &str) -> Option<Connected> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// What the Gatehouse of a cluster that is observed through it calls its own cluster.
    pub(crate) fn relayed(&self, name: &str) -> Option<Str> {
        self.relayed.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Records that a cluster is observed through its Gatehouse, or is not.
    pub(super) fn relay(&self, name: &Str, own: Option<Str>) {
        let mut relayed = self.relayed.lock().unwrap_or_else(PoisonError::into_inner);
        match own {
            Some(own) => drop(relayed.insert(name.clone(), own)),
            None => drop(relayed.remove(name)),
        }
    }

    /// Records the way to a cluster.
    pub(super) fn connect(&self, name: &Str, way: Option<Connected>) {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        match way {
            Some(way) => drop(connected.insert(name.clone(), way)),
            None => drop(connected.remove(name)),
        }
    }

    /// Records when the registrations that are known were read.
    pub(super) fn confirm(&self, at: Seconds) {
        self.confirmed.store(at, Ordering::Relaxed);
    }

    /// Sets the names for ever.
    pub(crate) fn fix(&self, names: BTreeSet<Str>) {
        self.set(names);
        self.confirm(Seconds::MAX);
    }

    /// Replaces the names.
    pub(crate) fn set(&self, names: BTreeSet<Str>) {
        let mut removed = self.removed();
        self.names.send_if_modified(|known| {
            if *known == names {
                return false;
            }
            removed.extend(known.difference(&names).map(|name| (name.clone(), Instant::now())));
            removed.retain(|name, _| !names.contains(name));
            *known = names;
            true
        });
    }

    fn removed(&self) -> MutexGuard<'_, BTreeMap<Str, Instant>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<Str> {
        names.iter().map(|name| Str::from(*name)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_cluster_is_remembered_for_ten_minutes_unless_it_comes_back() {
        let registry = Registry::new("local".into());
        registry.set(names(&["eu", "us"]));
        registry.set(names(&[]));
        assert_eq!(registry.recently_removed(), [Str::from("eu"), "us".into()]);
        registry.set(names(&["us"]));
        assert_eq!(registry.recently_removed(), [Str::from("eu")]);
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(registry.recently_removed(), [] as [Str; 0]);
    }

    #[test]
    fn nothing_is_current_before_the_first_answer() {
        let registry = Registry::new("local".into());
        assert!(!registry.is_current(30, 1_000));
        registry.confirm(990);
        assert!(registry.is_current(30, 1_000) && registry.is_current(30, 1_020));
        assert!(!registry.is_current(30, 1_021));
    }
}
