//! The records of a cluster, as they are kept.

use std::collections::HashMap;

use crate::{ObjectKey, Record};

/// By the object's key.
pub(crate) type Records = HashMap<ObjectKey, Entry>;

/// A record as it is kept.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) record: Box<Record>,
    /// The pass of [`Kind::pass`](crate::cluster::Kind::pass) in which it was last sent.
    pub(crate) pass: u32,
}

/// The record with this key.
pub(crate) fn find<'a>(records: &'a Records, key: &ObjectKey) -> Option<&'a Record> {
    records.get(key).map(|entry| &*entry.record)
}
