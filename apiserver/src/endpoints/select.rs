//! Selects the rows of a list or watch, and the events that a watch gets of a change.

use std::{ops::Bound, sync::Arc};

use crate::{
    clusters::access::Clusters,
    watchcache::{CatchUpRow, Change, ChangeKind, Row, RowKey, Rows},
};
use gatehouse_apiservice::labels::Selector;
use gatehouse_serving::field_selector::FieldSelector;

/// The type of a watch event. It depends on the selection: see [`Selection::event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EventType {
    Added,
    Modified,
    /// The object was deleted, or no longer matches.
    Deleted,
}

impl EventType {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// The namespace and selectors of a list or watch, and what the user may see.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Selection {
    /// `None` for all namespaces, and for cluster-scoped resources.
    pub(crate) namespace: Option<String>,
    pub(crate) labels: Selector,
    pub(crate) fields: FieldSelector,
    /// The clusters that the user may see.
    pub(crate) clusters: Clusters,
}

impl Selection {
    pub(crate) fn matches(&self, row: &Row) -> bool {
        self.within(row.key()) && self.selects(row)
    }

    /// The event that a change is to this selection, if any: an object that starts to match is added, one
    /// that stops to match is deleted.
    pub(crate) fn event(&self, change: &Change) -> Option<EventType> {
        let before = change.previous.as_ref().is_some_and(|row| self.matches(row));
        let after = change.kind != ChangeKind::Deleted && self.matches(&change.row);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
        }
    }

    /// The event for a client of another replica that may have the row in any state, and the row to show. A
    /// row that does not match gives DELETED, because it may have matched there; only its name is shown then,
    /// unless its last content matched.
    pub(crate) fn catch_up_event<'a>(
        &self,
        stamped: &'a CatchUpRow,
    ) -> Option<(EventType, Option<&'a Arc<Row>>)> {
        let shown = |row: &'a Option<Arc<Row>>| row.as_ref().filter(|row| self.matches(row));
        match shown(&stamped.row) {
            Some(row) if stamped.is_new => Some((EventType::Added, Some(row))),
            Some(row) => Some((EventType::Modified, Some(row))),
            None => self.may_match(&stamped.key).then(|| (EventType::Deleted, shown(&stamped.last))),
        }
    }

    /// Whether a row of this name can match, whatever its content.
    pub(crate) fn may_match(&self, key: &RowKey) -> bool {
        self.within(key) && self.fields.may_match(&key.namespace, &key.name)
    }

    fn within(&self, key: &RowKey) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| **namespace == *key.namespace)
    }

    fn selects(&self, row: &Row) -> bool {
        self.clusters.show(row)
            && self.fields.matches(&row.key().namespace, &row.key().name, row.fields())
            && self.labels.matches(row.labels())
    }

    /// Whether every row of the namespace matches.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.clusters.is_all()
    }

    /// The matching rows after the key `after`, in the order of lists.
    pub(crate) fn rows<'a>(
        &'a self,
        rows: &'a Rows,
        after: Option<RowKey>,
    ) -> impl Iterator<Item = &'a Arc<Row>> {
        let start = match (after, self.namespace.as_deref()) {
            (Some(after), _) => Bound::Excluded(after),
            (None, Some(namespace)) => {
                Bound::Included(RowKey { namespace: namespace.into(), name: "".into() })
            }
            (None, None) => Bound::Unbounded,
        };
        // Without a selector, rows need not be read.
        let everything = self.is_everything();
        rows.range((start, Bound::Unbounded))
            .take_while(|row| self.within(row.key()))
            .filter(move |row| everything || self.selects(row))
    }
}
