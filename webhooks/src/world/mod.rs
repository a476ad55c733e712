//! The observed state of the cluster: namespaces, quotas, policies, ledgers, and all objects that policies judge or
//! quotas charge.
//!
//! One task writes it ([`Observation`]). Readers take a [`Snapshot`], which is cheap and immutable. A snapshot may lag
//! behind the cluster; each kind has the resourceVersion up to which it is complete. Only the needed part of each
//! object is kept, and the usage of each namespace is updated incrementally.

mod applied;
mod kinds;
mod live;
mod object;
mod observer;
mod parameters;
mod snapshot;
mod state;
mod templates;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod usage_sums;
mod writer;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use gatehouse_inventory::source::{Upstream, WatchSettings};
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::writer::{Published, Writer};
pub use self::{
    applied::{Applied, own_paths},
    kinds::resource_of,
    live::{Countable, Listed, Live, LiveError},
    object::{Held, ObjectKey},
    snapshot::{Broken, KindState, NamespaceInfo, Objects, Snapshot},
};

/// How long a kind must be missing from discovery before its objects count as deleted. A starting API server that has
/// not loaded its CRDs yet must not free the quota of a tenant.
const ABSENCE: Duration = Duration::from_secs(30);

/// Access to the latest snapshot. Cheap to clone.
#[derive(Clone)]
pub struct World(Arc<Published>);

impl World {
    /// An empty world, and the observation that fills it. `namespace` is Gatehouse's own, which has the ConfigMaps that
    /// policies take parameters from.
    pub fn new(client: Client, settings: WatchSettings, namespace: &str) -> (Self, Observation) {
        let mut settings = settings;
        settings.absence = settings.absence.max(ABSENCE);
        let world = Self::of(Snapshot::default());
        let writer = Writer::new(Upstream::new(client, settings), namespace, Arc::clone(&world.0));
        (world, Observation(writer))
    }

    /// A world that never changes.
    pub fn of(snapshot: Snapshot) -> Self {
        let sequence = watch::Sender::new(snapshot.sequence);
        Self(Arc::new(Published { snapshot: ArcSwap::from_pointee(snapshot), sequence }))
    }

    /// The latest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// Notifies of each change, with the sequence of the snapshot.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.sequence.subscribe()
    }

    /// Whether reviews can be answered; if not, the reason.
    pub fn readiness(&self) -> Result<(), String> {
        self.snapshot().readiness()
    }
}

/// The task that observes the cluster.
pub struct Observation(Writer);

impl Observation {
    /// Observes until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        self.0.run(stop).await;
    }
}
