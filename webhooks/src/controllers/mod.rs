//! Controllers: what one replica does for all of them, the one that leads.
//!
//! Invariant: whatever is done here can be done twice, or by two at once, without harm: a lease says who should, and
//! cannot stop who believes it too long.

mod audit;
mod auditor;
mod counts;
mod freeze;
mod gone;
mod leading;
mod object;
mod status;
mod suspender;
mod suspension;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::counts::{Counts, Interception};
use self::{auditor::Auditor, suspender::Suspender};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::world::World;
use gatehouse_installation::lease::Leadership;

/// What every controller has at hand. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Reads and writes.
    pub client: kube::Client,
    /// What is observed.
    pub world: World,
    /// Whether this replica is the one.
    pub leadership: Leadership,
    /// Where to tell people.
    pub events: Events,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// Runs every controller until `stop`.
pub async fn run(context: Context, stop: CancellationToken) {
    let mut tasks: JoinSet<()> = JoinSet::new();
    let Context { world, client, metrics, leadership, .. } = context.clone();
    tasks.spawn(Auditor::new(world, client, metrics, leadership).run(stop.clone()));
    tasks.spawn(Suspender::new(context.clone()).run(stop.clone()));
    tasks.spawn(gone::forget(context.world.clone(), Arc::clone(&context.metrics), stop.clone()));
    tasks.spawn(show_leadership(context, stop));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            // The others go on, and the one that is gone is missed: better to start afresh.
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Keeps the gauge of who leads.
async fn show_leadership(context: Context, stop: CancellationToken) {
    let mut leading = context.leadership.receiver();
    loop {
        context.metrics.set_lease_held(*leading.borrow_and_update());
        tokio::select! {
            () = stop.cancelled() => return,
            changed = leading.changed() => {
                if changed.is_err() {
                    // The election is over; so will be the rest.
                    return stop.cancelled().await;
                }
            }
        }
    }
}
