//! How far behind the upstream this replica is.

use std::time::Duration;

use gatehouse_inventory::{Inventory, Seconds};
use tokio::sync::watch;

use gatehouse_serving::health::HealthCheck;

/// Where it is said how far behind this replica is.
#[derive(Debug)]
pub struct Lag(watch::Sender<Option<String>>);

impl Lag {
    /// Nothing is known yet, which keeps from being ready; and the check that says so.
    pub fn new() -> (Self, HealthCheck) {
        let (sender, receiver) = watch::channel(Some("the cluster has not answered yet".to_owned()));
        let check =
            HealthCheck::readiness("upstream-lag", move || receiver.borrow().clone().map_or(Ok(()), Err));
        (Self(sender), check)
    }

    /// Ready as long as all that should be heard of is. What the cluster refuses keeps nobody from being ready: it
    /// refuses the other replicas as well.
    pub(super) fn observe(&self, inventory: &Inventory, window: Duration, now: Seconds) {
        let found = inventory.clusters().try_for_each(|(_, cluster)| {
            let (cluster_silence, quietest) = cluster.silence(now);
            if cluster_silence > seconds(window / 2) {
                return Err(format!("{} last answered {cluster_silence} s ago", cluster.name));
            }
            match quietest {
                // Twice as long as versions are vouched for: one slow answer is not to turn all replicas away.
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

/// How far behind the upstream all that is known may be: half a window.
pub(super) fn longest(window: Duration) -> Seconds {
    seconds(window / 2)
}

/// Whether all is known that happened until then.
pub(super) fn is_current(inventory: &Inventory, now: Seconds) -> bool {
    inventory.clusters().all(|(_, cluster)| cluster.is_current(now).is_ok())
}

/// Whether our clock is right, as far as clusters' clocks show.
pub(super) fn clock_is_right(inventory: &Inventory) -> bool {
    inventory.clusters().all(|(_, cluster)| cluster.clock_error().is_none())
}

fn seconds(time: Duration) -> Seconds {
    Seconds::try_from(time.as_secs()).unwrap_or(Seconds::MAX)
}
