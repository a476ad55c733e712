//! The loop of what only the leader does: a pass over the world whenever it has changed, or time is up.

use std::{sync::Arc, time::Duration};

use gatehouse_installation::lease::Leadership;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::world::{Snapshot, World};

/// What the leader does again and again.
pub(super) trait LeaderTask {
    /// Changes that come within this time are looked at together.
    const GATHER: Duration;

    /// Does what is to be done. Returns how long there is nothing more to do unless something changes.
    fn pass(&mut self, snapshot: Arc<Snapshot>) -> impl Future<Output = Duration> + Send;

    /// This replica does not lead any more: what the task knows is for the next leader to find out.
    fn rest(&mut self);
}

/// Passes over the world while this replica leads, until `stop`.
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
