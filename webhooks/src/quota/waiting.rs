//! Since when each object is waited for that this replica has admitted, and what became of those that have not come for
//! too long.
//!
//! The clock is this process's own, and starts when the entry is noted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use gatehouse_apiservice::client::explain;
use gatehouse_quota::{Account, Expired, Fate, Pending};
use serde_json::Value;
use tokio::time::Instant;

use crate::world::{Live, Snapshot};

/// So many entries are asked about in one go. A failure that leaves thousands behind is worked off over some rounds.
const READS: usize = 512;
/// So many at a time.
const AT_ONCE: usize = 8;
/// What could not be found out is asked again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// What is waited for.
#[derive(Debug)]
pub(super) struct Waiting {
    /// How long what was admitted may take to be written.
    patience: Duration,
    clock: HashMap<Pending, Instant>,
    found: Vec<Expired>,
}

impl Waiting {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, clock: HashMap::new(), found: Vec::new() }
    }

    /// Notes what is waited for by now.
    pub(super) fn observe(&mut self, account: &Account, now: Instant) {
        let mut before = std::mem::take(&mut self.clock);
        for entry in account.pending() {
            let since = before.remove(&entry).unwrap_or(now);
            self.clock.insert(entry, since);
        }
    }

    /// When the first entry will have waited for too long.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.clock.values().min().map(|since| *since + self.patience)
    }

    /// Entries that have waited for too long. They are waited for anew: whatever is found now may be that there is
    /// nothing to find out yet.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<Pending> {
        let patience = self.patience;
        let overdue = self.clock.iter_mut().filter(|(_, since)| **since + patience <= now).take(READS);
        overdue
            .map(|(entry, since)| {
                *since = now + AGAIN - patience;
                entry.clone()
            })
            .collect()
    }

    /// Takes what was found.
    pub(super) fn found(&mut self, expired: Vec<Expired>) {
        self.found.extend(expired);
    }

    pub(super) fn has_news(&self) -> bool {
        !self.found.is_empty()
    }

    pub(super) fn take_found(&mut self) -> Vec<Expired> {
        std::mem::take(&mut self.found)
    }
}

/// Reads with a quorum what became of entries. What cannot be found out is left out.
pub(super) async fn find(live: Live, world: Arc<Snapshot>, entries: Vec<Pending>) -> Vec<Expired> {
    let reads = stream::iter(entries).map(|entry| {
        let (live, world) = (&live, &world);
        async move {
            match live.object(world, &entry.resource, &entry.namespace, &entry.name).await {
                Ok(found) => Some(Expired { fate: fate(&entry, found.as_ref()), entry }),
                Err(error) => {
                    let (resource, namespace, name) = (&entry.resource, &entry.namespace, &entry.name);
                    tracing::warn!(%resource, namespace = &**namespace, name = &**name, error = %explain(&error), "cannot find out whether the object was written");
                    None
                }
            }
        }
    });
    reads.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}

fn fate(entry: &Pending, found: Option<&Value>) -> Fate {
    let metadata = found.and_then(|object| object.get("metadata"));
    let text = |field: &str| metadata.and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
    match text("uid") {
        Some(uid) if *uid == *entry.uid => Fate::Present(
            text("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or_default(),
        ),
        // Another of the same name, or none.
        _ => Fate::Absent,
    }
}
