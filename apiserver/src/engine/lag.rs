//! How far behind the upstream this replica is.

use std::time::Duration;

use gatehouse_inventory::{Inventory, Seconds};
use tokio::sync::watch;

use gatehouse_serving::health::HealthCheck;

/// Reports how far this replica is behind the upstream, for the readiness check.
#[derive(Debug)]
pub struct LagReporter(watch::Sender<Option<String>>);

impl LagReporter {
    /// A reporter and its readiness check, which fails until the cluster has answered.
    pub fn new() -> (Self, HealthCheck) {
        let (sender, receiver) = watch::channel(Some("the cluster has not answered yet".to_owned()));
        let check =
            HealthCheck::readiness("upstream-lag", move || receiver.borrow().clone().map_or(Ok(()), Err));
        (Self(sender), check)
    }

    /// The replica is ready as long as the cluster and all its watches were heard from recently. A request
    /// that the cluster refuses does not affect readiness, because the cluster refuses the same to the other
    /// replicas.
    pub(super) fn observe(&self, inventory: &Inventory, window: Duration, now: Seconds) {
        let found = inventory.clusters().try_for_each(|(_, cluster)| {
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
        });
        self.0.send_replace(found.err());
    }
}

/// How far the inventory may be behind the upstream while versions are vouched for: half a window.
pub(super) fn max_lag(window: Duration) -> Seconds {
    seconds(window / 2)
}

/// Whether everything that happened until [`max_lag`] ago has been observed.
pub(super) fn is_current(inventory: &Inventory, now: Seconds) -> bool {
    inventory.clusters().all(|(_, cluster)| cluster.is_current(now).is_ok())
}

/// Whether this process's clock agrees with the clocks of the clusters.
pub(super) fn clock_agrees(inventory: &Inventory) -> bool {
    inventory.clusters().all(|(_, cluster)| cluster.clock_error().is_none())
}

fn seconds(time: Duration) -> Seconds {
    Seconds::try_from(time.as_secs()).unwrap_or(Seconds::MAX)
}
