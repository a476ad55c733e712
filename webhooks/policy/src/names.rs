//! What others say to this crate, and it to them, about objects and freezes.

use std::sync::Arc;

use gatehouse_apiservice::agones::Claim;
use jiff::Timestamp;
use serde_json::Value;

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

/// What is known of the objects that exist: what they depend on, and whether and what they are.
pub trait Dependencies {
    /// What an object depends on, see [`depends_on`](crate::depends_on); none, if it does not exist.
    fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>>;

    /// Whether the owner exists that an object of `namespace` names.
    fn owns(&self, _namespace: &str, _claim: &Claim<'_>) -> bool {
        false
    }

    /// A Fleet of Agones, with its spec; none, if it is not known.
    fn fleet(&self, _namespace: &str, _name: &str) -> Option<Value> {
        None
    }
}
