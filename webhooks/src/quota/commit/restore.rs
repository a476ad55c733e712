//! Putting back the last state of a ledger that was as Gatehouse wrote it, after somebody has edited, replaced or deleted
//! the object.
//!
//! The cluster is asked for everything that has happened to the object since a state that is known. It tells all of it or
//! refuses, so that no promise is missing: each was a write. What was deleted is made again first, with a broken seal upon
//! which nobody promises anything: the search ends there.

use std::time::Duration;

use gatehouse_quota::{CompiledQuota, History, Ledger};
use tokio::time::timeout;

use super::{
    Committer, Written,
    base::{Base, State},
};
use crate::quota::store::{Store, Version};

/// The cluster tells what has happened at once, or it is not waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a search has found.
pub(super) struct Found {
    /// The state of the object that the search ended with.
    until: Version,
    /// None: the cluster does not know everything that was before it.
    ledger: Option<Ledger>,
}

impl Committer {
    /// Puts back what can be found. None: it is searched for, or there is nothing to be found.
    pub(super) async fn restore(&mut self, quota: &CompiledQuota) -> Option<Written> {
        let known = self.known.clone()?;
        let base = self.base.as_ref()?;
        let Some(until) = base.version.clone() else {
            let mut ledger = Ledger::new(&quota.uid);
            ledger.break_seal();
            self.base = Some(Base { version: None, ledger, state: State::Broken });
            return Some(self.write(quota).await);
        };
        if self.found.as_ref().is_none_or(|found| found.until != until) {
            if self.searches.is_empty() {
                self.searches.spawn(search(self.store.clone(), quota.name.clone(), known, until));
            }
            return None;
        }
        let ledger = self.found.as_mut()?.ledger.take()?;
        tracing::info!(quota = quota.name, "the ledger is put back as it was");
        self.base = Some(Base { version: Some(until), ledger, state: State::Stands });
        let written = self.write(quota).await;
        if written == Written::Yes {
            self.broken = None;
        }
        Some(written)
    }
}

async fn search(store: Store, name: String, known: (Version, Ledger), until: Version) -> Found {
    let history = history(&store, &name, known, &until).await;
    Found { until, ledger: history.and_then(History::restored) }
}

/// What a ledger has been since a state that is known. None: the cluster does not know all of it.
pub(super) async fn history(
    store: &Store,
    name: &str,
    (from, known): (Version, Ledger),
    until: &Version,
) -> Option<History> {
    let mut history = History::new(known);
    let states = store.since(name, &from, until, |state| history.see(state));
    match timeout(PATIENCE, states).await {
        Ok(Ok(())) => Some(history),
        Ok(Err(error)) => {
            let error = gatehouse_apiservice::client::explain(&error);
            tracing::warn!(quota = name, %error, "what the ledger was before could not be found out");
            None
        }
        Err(_) => {
            tracing::warn!(quota = name, "what the ledger was before was not found out in time");
            None
        }
    }
}
