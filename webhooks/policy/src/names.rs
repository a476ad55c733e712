//! Defines what this crate and its callers tell each other about objects and freezes.

use std::sync::Arc;

use gatehouse_apiservice::agones::Claim;
use jiff::Timestamp;
use serde_json::Value;

/// An active freeze.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveFreeze {
    /// Its name in the policy.
    pub name: String,
    /// The reason that users are shown.
    pub reason: Option<String>,
    /// When it began.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// `until` in the time zone of the freeze.
    pub until_local: String,
}

/// The identity of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Its API group.
    pub group: Arc<str>,
    /// Its kind.
    pub kind: Arc<str>,
    /// Its namespace; empty if it has none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// Looks up existing objects: their dependencies, and whether an owner or a fleet exists.
pub trait Dependencies {
    /// The dependencies of an object, see [`depends_on`](crate::depends_on); `None` if it does not exist.
    fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>>;

    /// Whether the owner exists that an object in `namespace` names.
    fn owns(&self, _namespace: &str, _claim: &Claim<'_>) -> bool {
        false
    }

    /// A Fleet of Agones, with its spec; `None` if it is unknown.
    fn fleet(&self, _namespace: &str, _name: &str) -> Option<Value> {
        None
    }
}
