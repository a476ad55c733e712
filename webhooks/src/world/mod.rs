//! What is observed of the cluster: namespaces, quotas, policies, ledgers, and every object that is judged or charged.
//!
//! One task writes ([`Observation`]); readers take a [`Snapshot`] of it, which costs nothing and never changes. A snapshot may
//! lag behind the cluster; how far, each kind says by its revision. Objects are held as what is needed of them, and
//! what a namespace's objects take up is kept up as they change.

mod applied;
mod held;
mod kinds;
mod live;
mod observer;
mod snapshot;
mod state;
mod sums;
mod templates;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
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
    held::{Held, ObjectKey},
    kinds::resource_of,
    live::{Countable, Listed, Live, LiveError},
    snapshot::{Broken, KindState, NamespaceInfo, Objects, Snapshot},
};

/// How long a kind that was served must be missing before its objects count as gone: a tenant's room must not come
/// free because an API server starts and has not read its CRDs yet.
const ABSENCE: Duration = Duration::from_secs(30);

/// A way to the world as it was last seen. Cheap to clone.
#[derive(Clone)]
pub struct World(Arc<Published>);

impl World {
    /// A world in which nothing is known yet, and what observes it.
    pub fn new(client: Client, settings: WatchSettings) -> (Self, Observation) {
        let mut settings = settings;
        settings.absence = settings.absence.max(ABSENCE);
        let world = Self::of(Snapshot::default());
        let writer = Writer::new(Upstream::new(client, settings), Arc::clone(&world.0));
        (world, Observation(writer))
    }

    /// A world that stays as it is.
    pub fn of(snapshot: Snapshot) -> Self {
        let sequence = watch::Sender::new(snapshot.sequence);
        Self(Arc::new(Published { snapshot: ArcSwap::from_pointee(snapshot), sequence }))
    }

    /// The world as it was last seen.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// Tells of every change, by the snapshot's sequence.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.sequence.subscribe()
    }

    /// Whether reviews can be answered, and if not, why.
    pub fn readiness(&self) -> Result<(), String> {
        self.snapshot().readiness()
    }
}

/// What observes a world.
pub struct Observation(Writer);

impl Observation {
    /// Observes until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        self.0.run(stop).await;
    }
}
