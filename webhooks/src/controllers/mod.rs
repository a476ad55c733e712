//! The controllers, which run in the replica that holds the Lease.
//!
//! **Invariant:** all writes here are safe if they happen twice, or in two replicas at once. The Lease chooses a
//! leader, but cannot stop a replica that wrongly believes that it still leads.

mod audit;
mod auditor;
mod counts;
mod freeze;
mod leading;
mod metrics_cleanup;
mod object;
mod status;
mod suspender;
mod suspension;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::counts::{Counts, Interception};
use self::{auditor::Auditor, suspender::Suspender};
use crate::metrics::Metrics;
use crate::world::World;
use gatehouse_installation::lease::Leadership;
use gatehouse_serving::events::EventRecorder;

/// What each controller needs. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The client for reads and writes.
    pub client: kube::Client,
    /// The observed state.
    pub world: World,
    /// Whether this replica leads.
    pub leadership: Leadership,
    /// The queue of Events.
    pub events: EventRecorder,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// Runs all controllers until `stop` is cancelled.
pub async fn run(context: Context, stop: CancellationToken) {
    let mut tasks: JoinSet<()> = JoinSet::new();
    let Context { world, client, metrics, leadership, .. } = context.clone();
    tasks.spawn(Auditor::new(world, client, metrics, leadership).run(stop.clone()));
    tasks.spawn(Suspender::new(context.clone()).run(stop.clone()));
    tasks.spawn(metrics_cleanup::forget(context.world.clone(), Arc::clone(&context.metrics), stop.clone()));
    tasks.spawn(show_leadership(context, stop));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            // The other controllers still run, but this one would be missing. A panic ends the process, so that a new
            // one starts.
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Keeps the metric of leadership up to date.
async fn show_leadership(context: Context, stop: CancellationToken) {
    let mut leading = context.leadership.receiver();
    loop {
        context.metrics.set_lease_held(*leading.borrow_and_update());
        tokio::select! {
            () = stop.cancelled() => return,
            changed = leading.changed() => {
                if changed.is_err() {
                    // The election task has ended, so the process is shutting down.
                    return stop.cancelled().await;
                }
            }
        }
    }
}
