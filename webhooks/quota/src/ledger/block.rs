//! A replica's block, and the seal: what the texts of a ledger's `entries` hold.
//!
//! A block is written as an entry of the form that versions without blocks know: an object that does not exist and takes
//! up `peak`. They charge it like any other, keep it while its ticket changes, and look for the object when that has not
//! changed for long. What they do not know of a text is lost when they write it: nothing that safety rests on.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::Amounts;

/// The text of the seal.
pub(super) const SEAL: &str = "seal";
/// What versions without blocks look for in the place of a block: it is served, and there is no such object.
const RESOURCE: &str = "quotaledgers.policy.gatehouse.dev";
/// The form of texts that have all fields of this version.
const FORM: u64 = 2;

/// So much of the room as one replica may admit without writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// How much of each limit.
    pub(super) amount: Amounts,
    /// Changes whenever its replica writes it: whoever waits for the end of a replica begins anew then.
    pub(super) ticket: i64,
    /// What was admitted out of it and not counted, when it was written.
    pub(super) reserved: Amounts,
    /// The last recall that was answered.
    pub(super) answered: u64,
    /// The count that its replica knew: what that had counted is no part of the block.
    pub(super) counts: u64,
    /// Written by a version that knows blocks, and by no other since.
    pub(super) is_ours: bool,
    /// As it is written: what others wrote is kept as it is.
    pub(super) text: Arc<str>,
}

/// Whether a ledger is as Gatehouse wrote it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Seal {
    /// There is none: it is new, or a version that knows no seal wrote it last.
    #[default]
    None,
    /// Nobody else has written since.
    Whole,
    /// Somebody else has written, or it is a copy of another, or of what it was.
    Broken,
}

/// Which object a ledger is read from or written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its uid.
    pub uid: &'a str,
    /// Its generation: counted up by kube-apiserver whenever its spec changes.
    pub generation: i64,
}

/// The text of a block or of the seal; of an entry as versions without blocks write it, the part that matters.
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
    /// Lost when a version without blocks writes the text.
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

    /// Whether a version that knows blocks wrote it, and no other since.
    pub(super) fn is_ours(&self) -> bool {
        self.form == FORM && self.resource == RESOURCE
    }

    /// Whether it is of a version that is yet to come.
    pub(super) fn is_of_future(&self) -> bool {
        self.form > FORM
    }

    /// The text of the seal of a ledger in its next state.
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

    /// How much of each limit.
    pub fn amount(&self) -> &Amounts {
        &self.amount
    }

    /// Changes whenever its replica writes it.
    pub fn ticket(&self) -> i64 {
        self.ticket
    }

    /// Whether it is a replica's, and not the entry of an object.
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }
}
