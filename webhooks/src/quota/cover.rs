//! Checks whether this replica has observed everything that is written by now, by a quorum list.
//!
//! **Invariant:** everything that was written before the list has a revision no later than the list's. So a kind is
//! fully observed if its watch has reached that revision; or, for a quiet kind whose watch reports nothing for minutes,
//! if each object of the list is known at its revision or a later one, or was deleted since.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use gatehouse_apiservice::client::explain;
use gatehouse_quota::{Dead, GroupResource};
use tokio::time::{Instant, sleep};

use crate::world::{Listed, Live, Snapshot, World};

/// How often the check for missing objects is repeated, and the most repetitions.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS: usize = 150;

/// The finding.
#[derive(Debug)]
pub(super) struct Covered {
    /// When the check began: everything written by then is observed.
    pub(super) began: Instant,
    /// The revision that each kind was observed at when the check succeeded.
    pub(super) revisions: BTreeMap<GroupResource, u64>,
    /// The blocks that had expired when the check began.
    pub(super) dead: Vec<Dead>,
    /// The ledger was counted at a revision that the cluster has not reached.
    pub(super) is_future: bool,
}

/// Checks whether everything is observed; `None` if that could not be determined.
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
        let kind = snapshot.kinds.get(resource);
        let Some((version, labels)) = kind.and_then(|kind| Some((kind.version()?.to_owned(), kind.labels)))
        else {
            // The kind is not served; the settler decides whether that is permanent.
            continue;
        };
        let mut from = String::new();
        loop {
            let page = match live.list(resource, &version, labels, &from).await {
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
