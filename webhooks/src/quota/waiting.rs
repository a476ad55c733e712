//! Waits for the objects of this replica's uncounted admissions, and reads those that have expired.
//!
//! **Invariant:** an admission expires by the process's own clock, which starts when its entry is first recorded.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use gatehouse_apiservice::client::explain;
use gatehouse_quota::{Account, Expired, Fate, Pending};
use serde_json::Value;
use tokio::time::Instant;

use crate::world::{Live, Snapshot};

/// The most entries that are read in one go. The thousands that a failure leaves behind take several rounds.
const READS: usize = 512;
/// The most concurrent reads.
const AT_ONCE: usize = 8;
/// A failed read is retried after this.
const AGAIN: Duration = Duration::from_secs(5);

/// The entries that are waited for.
#[derive(Debug)]
pub(super) struct Waiting {
    /// How long after its admission a request may still be written.
    patience: Duration,
    clock: HashMap<Pending, Instant>,
    found: Vec<Expired>,
}

impl Waiting {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, clock: HashMap::new(), found: Vec::new() }
    }

    /// Records the entries that the account has now.
    pub(super) fn observe(&mut self, account: &Account, now: Instant) {
        let mut before = std::mem::take(&mut self.clock);
        for entry in account.pending() {
            let since = before.remove(&entry).unwrap_or(now);
            self.clock.insert(entry, since);
        }
    }

    /// When the first entry expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.clock.values().min().map(|since| *since + self.patience)
    }

    /// Takes the expired entries. Their wait restarts, because the read may fail or decide nothing yet.
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

    /// Records the results of the reads.
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

/// Reads the objects of entries with a quorum. Entries whose read fails are left out.
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
        // Another object of the same name, or none.
        _ => Fate::Absent,
    }
}
