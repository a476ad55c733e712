//! The ledger as a replica knows it, and whether the replica may reserve in it.
//!
//! **Invariant:** a replica reserves only in a ledger that [`State::Stands`].

use gatehouse_quota::{CompiledQuota, Ledger, Seal};

use crate::quota::store::{Stored, Version};

/// The last known ledger, or that there is none.
pub(super) struct Base {
    pub(super) version: Option<Version>,
    pub(super) ledger: Ledger,
    pub(super) state: State,
}

/// Whether a ledger can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It belongs to this quota, and only Gatehouse wrote it.
    Stands,
    /// It has no seal, and it is not known yet whether a version without seals wrote it.
    Unproven,
    /// There is none, or it belongs to an earlier quota of the same name.
    Lacking,
    /// What was admitted out of it is unknown: it must be restored, or rebuilt once every admission is counted or
    /// expired.
    Broken,
}

impl Base {
    pub(super) fn absent(quota: &CompiledQuota) -> Self {
        Self { version: None, ledger: Ledger::new(&quota.uid), state: State::Lacking }
    }

    pub(super) fn of(stored: Stored, quota: &CompiledQuota) -> Self {
        let (ledger, state) = match stored.ledger {
            Ok(ledger) if ledger.seal() == Seal::Broken => {
                tracing::error!(
                    quota = quota.name,
                    "ledger was written by another client, counting all objects again"
                );
                (ledger, State::Broken)
            }
            Ok(ledger) if ledger.quota_uid() == quota.uid => (ledger, State::Stands),
            Ok(_) => (Ledger::new(&quota.uid), State::Lacking),
            Err(error) => {
                tracing::error!(quota = quota.name, %error, "ledger is unreadable, counting all objects again");
                (Ledger::new(&quota.uid), State::Broken)
            }
        };
        Self { version: Some(stored.version), ledger, state }
    }

    pub(super) fn stands(&self) -> bool {
        self.state == State::Stands
    }

    pub(super) fn uid(&self) -> Option<&String> {
        self.version.as_ref().map(|version| &version.uid)
    }

    /// Uid and generation of the object.
    pub(super) fn place(&self) -> Option<(String, i64)> {
        self.version.as_ref().map(|version| (version.uid.clone(), version.generation))
    }

    pub(super) fn number(&self) -> u64 {
        self.version.as_ref().map_or(0, Version::number)
    }

    /// The number of replicas that hold a block.
    pub(super) fn replicas(&self) -> usize {
        self.ledger.blocks().filter(|(_, block)| block.is_ours()).count()
    }
}
