//! Which rows somebody sees.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use gatehouse_inventory::Str;

use crate::watchcache::{Row, RowKey, Rows};

/// The namespaces that somebody sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Visible {
    /// All of them.
    Everything,
    /// These.
    Only(Arc<BTreeSet<Str>>),
}

/// The namespace of a row, which is called `NAMESPACE` or `NAMESPACE.CLUSTER`. Names of namespaces have no dots.
pub(super) fn namespace_of(key: &RowKey) -> &str {
    key.name.split('.').next().unwrap_or_default()
}

impl Visible {
    /// Nothing.
    pub(super) fn nothing() -> Self {
        Self::Only(Arc::default())
    }

    /// How many namespaces are named.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Everything => 0,
            Self::Only(namespaces) => namespaces.len(),
        }
    }

    /// Whether the row of this key is seen.
    pub(crate) fn shows(&self, key: &RowKey) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(namespaces) => namespaces.contains(namespace_of(key)),
        }
    }

    /// The rows of `rows` that are seen.
    pub(super) fn of(&self, rows: &Rows) -> Rows {
        match self {
            Self::Everything => rows.clone(),
            Self::Only(namespaces) => {
                let seen = namespaces.iter().flat_map(|namespace| rows_of(rows, namespace));
                seen.cloned().collect()
            }
        }
    }

    /// The rows of `rows` that are seen and are not by `other`.
    pub(super) fn beyond(&self, other: &Self, rows: &Rows) -> Vec<Arc<Row>> {
        match (self, other) {
            (_, Self::Everything) => Vec::new(),
            (Self::Everything, _) => rows.iter().filter(|row| !other.shows(row.key())).cloned().collect(),
            (Self::Only(own), Self::Only(others)) => {
                own.difference(others).flat_map(|namespace| rows_of(rows, namespace)).cloned().collect()
            }
        }
    }
}

/// The rows of a namespace, of all clusters.
fn rows_of<'a>(rows: &'a Rows, namespace: &str) -> impl Iterator<Item = &'a Arc<Row>> {
    let key = |name: String| RowKey { namespace: "".into(), name: name.into() };
    // '/' is the character after '.', and in no name.
    let (first, end) = (key(format!("{namespace}.")), key(format!("{namespace}/")));
    let elsewhere = rows.range((Bound::Included(first), Bound::Excluded(end)));
    rows.get(&key(namespace.to_owned())).into_iter().chain(elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callers::testing::{cache, names, only};

    fn rows() -> Rows {
        cache(&["a", "a-b", "a.east", "b", "b.east", "c"]).snapshot().rows
    }

    #[test]
    fn a_namespace_is_seen_in_every_cluster_and_no_other_with_it() {
        assert_eq!(names(only(&["a", "none"]).of(&rows()).iter()), ["a", "a.east"]);
        assert_eq!(names(only(&["a-b"]).of(&rows()).iter()), ["a-b"]);
        assert_eq!(only(&[]).of(&rows()).len(), 0);
        assert_eq!(Visible::Everything.of(&rows()).len(), 6);
    }

    #[test]
    fn what_one_sees_beyond_another_is_the_difference() {
        let beyond = |one: &Visible, other: &Visible| names(one.beyond(other, &rows()).iter());
        assert_eq!(beyond(&only(&["a", "b"]), &only(&["a"])), ["b", "b.east"]);
        assert_eq!(beyond(&Visible::Everything, &only(&["a", "b"])), ["a-b", "c"]);
        assert!(beyond(&only(&["a"]), &Visible::Everything).is_empty());
        assert!(beyond(&only(&["a"]), &only(&["a", "b"])).is_empty());
    }
}
