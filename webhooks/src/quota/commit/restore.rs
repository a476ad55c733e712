//! Restores the last state of a ledger that Gatehouse wrote, after somebody has edited, replaced or deleted the object.
//!
//! The replica asks the cluster for all states of the object since a known one. **Invariant:** the cluster returns all
//! of them or fails, so no reservation is missing: each was a write. A deleted object is first created again, with a
//! broken seal, so that nobody reserves anything in it: the search ends at that state.

use std::time::Duration;

use gatehouse_quota::{CompiledQuota, History, Ledger};
use tokio::time::timeout;

use super::{
    Committer, Written,
    base::{Base, State},
};
use crate::quota::store::{Store, Version};

/// The cluster normally returns the history at once; the search gives up after this.
const PATIENCE: Duration = Duration::from_secs(3);

/// The result of a search.
pub(super) struct Found {
    /// The state of the object that the search ended with.
    until: Version,
    /// `None` if there is nothing to restore, for example because the cluster does not know the whole history any more.
    ledger: Option<Ledger>,
}

impl Committer {
    /// Restores the ledger; `None` while the search runs, or if there is nothing to restore.
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
        tracing::info!(quota = quota.name, "ledger restored to its last sealed state");
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

/// The states of a ledger since a known one; `None` if the cluster does not know all of them, or does not answer in
/// time.
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
            tracing::warn!(quota = name, %error, "cannot find the last sealed state of the ledger");
            None
        }
        Err(_) => {
            tracing::warn!(quota = name, "timed out looking for the last sealed state of the ledger");
            None
        }
    }
}
