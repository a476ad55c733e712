//! The rows of a resource, in the order of lists. Copies share structure, so a snapshot costs nothing.
//!
//! **Invariant:** the key of a row is stored in the row alone.

use std::{borrow::Borrow, cmp::Ordering, ops::RangeBounds, sync::Arc};

use imbl::OrdSet;

use super::{Row, RowKey};

/// Rows by namespace and name, each key once.
#[derive(Debug, Clone, Default)]
pub struct Rows(OrdSet<ByKey>);

/// A row that is compared by its key.
#[derive(Debug, Clone)]
struct ByKey(Arc<Row>);

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The row with this key.
    pub fn get(&self, key: &RowKey) -> Option<&Arc<Row>> {
        self.0.get(key).map(|row| &row.0)
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.0.iter().map(|row| &row.0)
    }

    /// The rows whose keys are in the range, in order.
    pub fn range(&self, keys: impl RangeBounds<RowKey>) -> impl Iterator<Item = &Arc<Row>> {
        self.0.range::<_, RowKey>(keys).map(|row| &row.0)
    }

    /// Adds a row in place of the one with its key.
    pub(super) fn insert(&mut self, row: Arc<Row>) {
        self.0.insert(ByKey(row));
    }

    /// Removes the row with this key.
    pub(super) fn remove(&mut self, key: &RowKey) {
        self.0.remove(key);
    }
}

impl FromIterator<Arc<Row>> for Rows {
    fn from_iter<I: IntoIterator<Item = Arc<Row>>>(rows: I) -> Self {
        Self(rows.into_iter().map(ByKey).collect())
    }
}

impl Borrow<RowKey> for ByKey {
    fn borrow(&self) -> &RowKey {
        self.0.key()
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}
