//! What others say to this crate, and it to them, about objects and freezes.

use std::sync::Arc;

use jiff::Timestamp;

/// A freeze that is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveFreeze {
    /// Its name among the policy's freezes.
    pub name: String,
    /// What people are told.
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// `until` on the clock of the freeze's zone.
    pub until_local: String,
}

/// An object, named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Its API group.
    pub group: Arc<str>,
    /// Its kind.
    pub kind: Arc<str>,
    /// Its namespace; empty, if it has none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// What the objects that exist depend on.
pub trait Dependencies {
    /// What an object depends on, see [`depends_on`](crate::depends_on); none, if it does not exist.
    fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>>;
}
