//! Which rows a request is about.

use std::{ops::Bound, sync::Arc};

use imbl::OrdMap;

use crate::watchcache::{CatchUpRow, Change, ChangeKind, Row, RowKey};
use gatehouse_serving::selector::{FieldSelector, LabelSelector};

/// What an event says of its object, as the selection sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EventType {
    Added,
    Modified,
    /// It is gone, or does not match any more.
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

/// The namespace, name and selectors of a list or watch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Selection {
    /// `None` for all namespaces, and for cluster-scoped resources.
    pub(crate) namespace: Option<String>,
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Selection {
    pub(crate) fn matches(&self, row: &Row) -> bool {
        self.within(row.key()) && self.selects(row)
    }

    /// A change as the selection sees it: an object that stops matching is gone, one that starts is new.
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

    /// A row that a client from elsewhere may have in any state, and what of it the client may see. One that does not
    /// match is gone for it: it may have matched there. Of such a one nothing is shown but its name.
    pub(crate) fn retold<'a>(&self, retold: &'a CatchUpRow) -> Option<(EventType, Option<&'a Arc<Row>>)> {
        let shown = |row: &'a Option<Arc<Row>>| row.as_ref().filter(|row| self.matches(row));
        match shown(&retold.row) {
            Some(row) if retold.is_new => Some((EventType::Added, Some(row))),
            Some(row) => Some((EventType::Modified, Some(row))),
            None => self.may_match(&retold.key).then(|| (EventType::Deleted, shown(&retold.last))),
        }
    }

    /// Whether a row of this name can match.
    fn may_match(&self, key: &RowKey) -> bool {
        self.within(key) && self.fields.may_match(&key.namespace, &key.name)
    }

    fn within(&self, key: &RowKey) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| **namespace == *key.namespace)
    }

    fn selects(&self, row: &Row) -> bool {
        self.fields.matches(&row.key().namespace, &row.key().name, row.fields())
            && self.labels.matches(row.labels())
    }

    /// Whether every row of the namespace matches.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The matching rows after `after`, in the order of lists.
    pub(crate) fn rows<'a>(
        &'a self,
        rows: &'a OrdMap<RowKey, Arc<Row>>,
        after: Option<RowKey>,
    ) -> impl Iterator<Item = &'a Arc<Row>> {
        let start = match (after, self.namespace.as_deref()) {
            (Some(after), _) => Bound::Excluded(after),
            (None, Some(namespace)) => {
                Bound::Included(RowKey { namespace: namespace.into(), name: "".into() })
            }
            (None, None) => Bound::Unbounded,
        };
        // Without a selector no row has to be looked at to know that it is wanted.
        let everything = self.is_everything();
        rows.range((start, Bound::Unbounded))
            .take_while(|(key, _)| self.within(key))
            .map(|(_, row)| row)
            .filter(move |row| everything || self.selects(row))
    }
}
