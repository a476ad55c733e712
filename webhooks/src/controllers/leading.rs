//! The loop of a controller in the leader: a pass after each change of the world, and after a given time.

use std::{sync::Arc, time::Duration};

use gatehouse_installation::lease::Leadership;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::world::{Snapshot, World};

/// A task that only the leader runs.
pub(super) trait LeaderTask {
    /// After a change, how long to wait for more changes before the next pass.
    const GATHER: Duration;

    /// Does what is necessary now. Returns after which time there is more to do if nothing changes.
    fn pass(&mut self, snapshot: Arc<Snapshot>) -> impl Future<Output = Duration> + Send;

    /// Drops all state, since this replica lost leadership. The next leader computes its own.
    fn rest(&mut self);
}

/// Runs passes while this replica leads, until `stop` is cancelled.
pub(super) async fn while_leading(
    task: &mut (impl LeaderTask + Send),
    world: World,
    leadership: Leadership,
    stop: CancellationToken,
) {
    stop.run_until_cancelled(passes(task, world, leadership)).await;
    task.rest();
}

async fn passes<T: LeaderTask + Send>(task: &mut T, world: World, leadership: Leadership) {
    let mut leading = leadership.receiver();
    let mut changed = world.changed();
    loop {
        if !*leading.borrow_and_update() {
            task.rest();
            if leading.wait_for(|leads| *leads).await.is_err() {
                return;
            }
        }
        changed.borrow_and_update();
        let wait = task.pass(world.snapshot()).await;
        tokio::select! {
            () = sleep(wait) => {}
            changed = changed.changed() => match changed {
                Ok(()) => sleep(T::GATHER).await,
                Err(_) => return,
            },
            changed = leading.changed() => if changed.is_err() { return },
        }
    }
}
