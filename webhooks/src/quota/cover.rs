//! Whether this replica has seen all that was written by now: a list with a quorum, held against the world.
//!
//! What was written before the list has a revision that is no later than the list's. So everything is seen of a kind if
//! its watch has come so far; of a quiet kind, whose watch has nothing to tell for minutes, if each object of the list is
//! known at its revision or a later one, or has gone since.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use gatehouse_apiservice::client::explain;
use gatehouse_quota::{Dead, GroupResource};
use tokio::time::{Instant, sleep};

use crate::world::{Listed, Live, Snapshot, World};

/// How often it is looked whether what is missing was seen, and how often at most.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS: usize = 150;

/// What was found.
#[derive(Debug)]
pub(super) struct Covered {
    /// When it was begun: everything was seen that had been written then.
    pub(super) began: Instant,
    /// How far each kind was observed when that was found.
    pub(super) revisions: BTreeMap<GroupResource, u64>,
    /// Blocks that had waited for long enough when it was begun.
    pub(super) dead: Vec<Dead>,
    /// The ledger was counted at a revision that the cluster has not come to.
    pub(super) is_future: bool,
}

/// Finds out whether all is seen. None: it could not be found out.
pub(super) async fn find(
    live: Live,
    world: World,
    resources: BTreeSet<GroupResource>,
    dead: Vec<Dead>,
    counted: BTreeMap<GroupResource, u64>,
) -> Option<Covered> {
    let began = Instant::now();
    let mut missing: Vec<(GroupResource, Listed)> = Vec::new();
    for resource in &resources {
        let snapshot = world.snapshot();
        let Some(version) = snapshot.kinds.get(resource).and_then(|kind| kind.version()).map(str::to_owned)
        else {
            // It is not served; whether that is so for good, whoever counts decides.
            continue;
        };
        let mut from = String::new();
        loop {
            let page = match live.list(resource, &version, &from).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%resource, error = %explain(&error), "cannot verify that all objects were observed");
                    return None;
                }
            };
            if counted.get(resource).is_some_and(|counted| *counted > page.revision) {
                return Some(Covered { began, revisions: BTreeMap::new(), dead, is_future: true });
            }
            let snapshot = world.snapshot();
            if reached(&snapshot, resource) >= Some(page.revision) {
                break;
            }
            let unseen = page.items.into_iter().filter(|one| !snapshot.has_seen(resource, one));
            missing.extend(unseen.map(|one| (resource.clone(), one)));
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
    }
    for _ in 0..LOOKS {
        let snapshot = world.snapshot();
        missing.retain(|(resource, one)| !snapshot.has_seen(resource, one));
        if missing.is_empty() {
            let revisions = resources.iter().filter_map(|one| Some((one.clone(), reached(&snapshot, one)?)));
            return Some(Covered { began, revisions: revisions.collect(), dead, is_future: false });
        }
        sleep(LOOK).await;
    }
    None
}

fn reached(snapshot: &Snapshot, resource: &GroupResource) -> Option<u64> {
    snapshot.kinds.get(resource).and_then(|kind| kind.revision)
}
