//! The records of a cluster.

use std::collections::HashMap;

use crate::{ObjectKey, Record};

/// Records by the keys of their objects.
pub(crate) type Records = HashMap<ObjectKey, Entry>;

/// A record, and when it was last confirmed.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) record: Box<Record>,
    /// The value of [`Kind::pass`](crate::cluster::Kind::pass) when the source last sent it.
    pub(crate) pass: u32,
}

/// The record with this key.
pub(crate) fn find<'a>(records: &'a Records, key: &ObjectKey) -> Option<&'a Record> {
    records.get(key).map(|entry| &*entry.record)
}
