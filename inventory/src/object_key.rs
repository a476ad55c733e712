//! The keys of objects, which every map and every link is in terms of.
//!
//! An object is named by its record, by maps of the inventory and of views, and by the objects that refer to it. Each of
//! them holds a handle of eight bytes; what it stands for is stored once.
//!
//! **Invariant:** a key is what it names. Two handles of one object are equal, also if they were made apart; those that
//! an [`Interner`](crate::Interner) made share their memory, which is freed with the last of them.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

use crate::{Str, catalogue::KindId};

/// The key of an object within a cluster: a shared handle of kind, namespace and name, in which order keys sort.
#[derive(Clone)]
pub struct ObjectKey(Arc<ObjectName>);

/// What an [`ObjectKey`] stands for.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// The kind, as its row in the catalogue.
    pub kind: KindId,
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: Str,
    /// `metadata.name`.
    pub name: Str,
}

impl ObjectKey {
    /// A key of its own. [`Interner::key`](crate::Interner::key) makes one that shares the memory of its equals.
    pub fn new(kind: KindId, namespace: impl Into<Str>, name: impl Into<Str>) -> Self {
        Self(Arc::new(ObjectName { kind, namespace: namespace.into(), name: name.into() }))
    }

    /// Whether this is the only handle.
    pub(crate) fn is_only(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Deref for ObjectKey {
    type Target = ObjectName;

    fn deref(&self) -> &ObjectName {
        &self.0
    }
}

impl PartialEq for ObjectKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for ObjectKey {}

impl Hash for ObjectKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;
    use crate::Interner;

    #[test]
    fn keys_are_equal_however_they_were_made() {
        let interner = Interner::default();
        let key = |kind, name: &str| interner.key(KindId(kind), "apps", name);
        let apart = ObjectKey::new(KindId(1), "apps", "shop");
        assert!(Arc::ptr_eq(&key(1, "shop").0, &key(1, "shop").0));
        assert_eq!(key(1, "shop"), apart);
        assert!(HashSet::from([key(1, "shop")]).contains(&apart));
        let sorted: Vec<_> = BTreeSet::from([key(2, "a"), apart, key(1, "base")]).into_iter().collect();
        assert_eq!(sorted, [key(1, "base"), key(1, "shop"), key(2, "a")], "by kind, namespace and name");
        assert_eq!(size_of::<Option<ObjectKey>>(), 8);
    }
}
