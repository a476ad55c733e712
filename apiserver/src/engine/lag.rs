//! How far behind the upstream this replica is: the local cluster, and what registers others. Remote clusters
//! do not count, because one that does not answer must harm no other.

use std::{sync::Arc, time::Duration};

use gatehouse_inventory::{Inventory, LOCAL, Seconds};
use tokio::sync::watch;

use crate::clusters::Registry;
use gatehouse_serving::health::HealthCheck;

/// Reports how far this replica is behind the upstream, for the readiness check.
#[derive(Debug)]
pub struct LagReporter {
    found: watch::Sender<Option<String>>,
    registry: Option<Arc<Registry>>,
}

impl LagReporter {
    /// A reporter and its readiness check, which fails until the cluster has answered.
    pub fn new() -> (Self, HealthCheck) {
        let (found, receiver) = watch::channel(Some("the cluster has not answered yet".to_owned()));
        let check =
            HealthCheck::readiness("upstream-lag", move || receiver.borrow().clone().map_or(Ok(()), Err));
        (Self { found, registry: None }, check)
    }

    /// Versions are vouched for only while the registrations are current, too.
    #[must_use]
    pub(crate) fn with_registry(self, registry: Option<Arc<Registry>>) -> Self {
        Self { registry, ..self }
    }

    /// The replica is ready as long as the cluster and all its watches were heard from recently. A request
    /// that the cluster refuses does not affect readiness, because the cluster refuses the same to the other
    /// replicas.
    pub(super) fn observe(&self, inventory: &Inventory, window: Duration, now: Seconds) {
        self.found.send_replace(behind(inventory, window, now).err());
    }

    /// Whether everything that happened in the local cluster until [`max_lag`] ago has been observed.
    pub(super) fn is_current(&self, inventory: &Inventory, window: Duration, now: Seconds) -> bool {
        let is_registered = |registry: &Arc<Registry>| registry.is_current(max_lag(window), now);
        self.registry.as_ref().is_none_or(is_registered) && inventory.cluster(LOCAL).is_current(now).is_ok()
    }
}

fn behind(inventory: &Inventory, window: Duration, now: Seconds) -> Result<(), String> {
    let cluster = inventory.cluster(LOCAL);
    let (cluster_silence, quietest) = cluster.silence(now);
    if cluster_silence > seconds(window / 2) {
        return Err(format!("{} last answered {cluster_silence} s ago", cluster.name));
    }
    match quietest {
        // Twice as long as versions are vouched for: one slow response must not make all replicas
        // unready.
        Some((kind, silence)) if silence > seconds(window) => {
            let kind = inventory.catalogue().kind(kind).resource_name();
            Err(format!("{kind} of {} were last refreshed {silence} s ago", cluster.name))
        }
        _ => Ok(()),
    }
}

/// How far the inventory may be behind the upstream while versions are vouched for: half a window.
pub(super) fn max_lag(window: Duration) -> Seconds {
    seconds(window / 2)
}

/// Whether this process's clock agrees with the local cluster's.
pub(super) fn clock_agrees(inventory: &Inventory) -> bool {
    inventory.cluster(LOCAL).clock_error().is_none()
}

fn seconds(time: Duration) -> Seconds {
    Seconds::try_from(time.as_secs()).unwrap_or(Seconds::MAX)
}
