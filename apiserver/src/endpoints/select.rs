//! Which rows a request is about.

use std::{ops::Bound, sync::Arc};

use imbl::OrdMap;

use crate::{
    selector::{FieldSelector, LabelSelector},
    watchcache::{Row, RowKey},
};

/// The namespace, name and selectors of a list or watch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Selection {
    /// `None` for all namespaces, and for cluster-scoped resources.
    pub(super) namespace: Option<String>,
    pub(super) labels: LabelSelector,
    pub(super) fields: FieldSelector,
}

impl Selection {
    pub(super) fn matches(&self, row: &Row) -> bool {
        self.within(row.key()) && self.selects(row)
    }

    fn within(&self, key: &RowKey) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| **namespace == *key.namespace)
    }

    fn selects(&self, row: &Row) -> bool {
        self.fields.matches(&row.key().namespace, &row.key().name, row.fields())
            && self.labels.matches(row.labels())
    }

    /// Whether every row of the namespace matches.
    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The matching rows after `after`, in the order of lists.
    pub(super) fn rows<'a>(
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
