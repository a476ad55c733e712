//! A replica's block, and the seal: the texts in a ledger's `entries`.
//!
//! A block is written in the form of an entry that versions without blocks know: an object that does not exist and
//! whose usage is `peak`. They charge it like any other entry, keep it while its ticket changes, and look for the
//! object when the ticket has not changed for long. They drop the fields that they do not know when they write the
//! text. **Invariant:** safety does not depend on those fields.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::Amounts;

/// The key of the seal in `entries`.
pub(super) const SEAL: &str = "seal";
/// The resource that versions without blocks look up for a block: it is served, and the object does not exist.
const RESOURCE: &str = "quotaledgers.policy.gatehouse.dev";
/// The form number of texts with all fields of this version.
const FORM: u64 = 2;

/// The room out of which one replica may admit without a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The amount for each limit.
    pub(super) amount: Amounts,
    /// Changes with every write by its replica, which restarts the wait for the block to expire.
    pub(super) ticket: i64,
    /// What was admitted out of it and not counted when it was written.
    pub(super) reserved: Amounts,
    /// The last recall that its replica answered.
    pub(super) answered: u64,
    /// The count that its replica knew; the block does not include what that had counted.
    pub(super) counts: u64,
    /// A version with blocks wrote it, and no other version since.
    pub(super) is_ours: bool,
    /// Its text in the object; the texts of other writers are kept unchanged.
    pub(super) text: Arc<str>,
}

/// Whether a ledger is unchanged since Gatehouse wrote it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Seal {
    /// No seal: the ledger is new, or a version without seals wrote it last.
    #[default]
    None,
    /// Nobody else has written the ledger since.
    Whole,
    /// Somebody else has written the ledger, or it is a copy of another ledger or of an earlier state.
    Broken,
}

/// The object that a ledger is read from or written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its uid.
    pub uid: &'a str,
    /// Its generation: kube-apiserver increments it whenever the spec changes.
    pub generation: i64,
}

/// The text of a block or of the seal, or the relevant part of an entry that a version without blocks wrote.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Text {
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) ticket: i64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) floor: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) peak: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) reserved: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) recall: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) counts: u64,
    /// The form number; lost when a version without blocks writes the text.
    #[serde(default)]
    form: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Text {
    fn new(name: &str, ticket: i64) -> Self {
        Self { resource: RESOURCE.to_owned(), name: name.to_owned(), ticket, form: FORM, ..Self::default() }
    }

    /// Whether a version with blocks wrote it, and no other version since.
    pub(super) fn is_ours(&self) -> bool {
        self.form == FORM && self.resource == RESOURCE
    }

    /// Whether a later version wrote it.
    pub(super) fn is_of_future(&self) -> bool {
        self.form > FORM
    }

    /// The text of the seal for the next state of a ledger.
    pub(super) fn seal(uid: &str, generation: i64, recall: u64, counts: u64) -> Self {
        Self { recall, counts, ..Self::new(uid, generation) }
    }

    pub(super) fn written(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Block {
    /// A block as its replica writes it.
    pub(super) fn new(
        name: &str,
        ticket: i64,
        amount: Amounts,
        reserved: Amounts,
        (answered, counts): (u64, u64),
    ) -> Self {
        let texts =
            |amounts: &Amounts| amounts.iter().map(|(one, two)| (one.to_string(), one.text(*two))).collect();
        let text = Text {
            peak: texts(&amount),
            reserved: texts(&reserved),
            recall: answered,
            counts,
            ..Text::new(name, ticket)
        };
        let text = text.written().into();
        Self { amount, ticket, reserved, answered, counts, is_ours: true, text }
    }

    /// The amount for each limit.
    pub fn amount(&self) -> &Amounts {
        &self.amount
    }

    /// Changes with every write by its replica.
    pub fn ticket(&self) -> i64 {
        self.ticket
    }

    /// Whether it is the block of a replica, not the entry of an object.
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }
}
