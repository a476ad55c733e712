//! A policy, compiled.

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_apiservice::policy::{Enforcement, FieldError, ReconcilePolicy};
use jiff::{SignedDuration, Timestamp};

use crate::{Case, Subject, Verb, Violation};

/// A ReconcilePolicy, compiled.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its uid; empty, if it was read from a file.
    pub uid: String,
    /// Its generation; zero, if it was read from a file.
    pub generation: i64,
    /// What happens to a request that breaks a rule.
    pub enforcement: Enforcement,
}

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
    /// What an object depends on, see [`depends_on`]; none, if it does not exist.
    fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>>;
}

impl Policy {
    /// Compiles a policy. Every field that is wrong is named.
    pub fn compile(policy: &ReconcilePolicy) -> Result<Self, Vec<FieldError>> {
        Ok(Self {
            name: policy.metadata.name.clone().unwrap_or_default(),
            uid: policy.metadata.uid.clone().unwrap_or_default(),
            generation: policy.metadata.generation.unwrap_or_default(),
            enforcement: policy.spec.enforcement,
        })
    }

    /// Whether it judges the objects of a namespace with these labels.
    pub fn selects(&self, _namespace_labels: &BTreeMap<String, String>) -> bool {
        false
    }

    /// Judges a request at admission.
    pub fn judge(&self, _case: &Case<'_>, _deps: &dyn Dependencies) -> Vec<Violation> {
        Vec::new()
    }

    /// Judges an object that exists: by what it holds, not by who made it or when.
    pub fn audit(&self, _object: &Subject, _deps: &dyn Dependencies) -> Vec<Violation> {
        Vec::new()
    }

    /// The rights that a request takes beside that of editing. The caller asks SubjectAccessReview.
    pub fn required_verbs(&self, _case: &Case<'_>) -> Vec<Verb> {
        Vec::new()
    }

    /// The freeze that is on.
    pub fn active_freeze(&self, _now: Timestamp) -> Option<ActiveFreeze> {
        None
    }

    /// When a freeze begins or ends next.
    pub fn next_change(&self, _now: Timestamp) -> Option<Timestamp> {
        None
    }

    /// How long a suspension may last.
    pub fn max_suspension(&self) -> Option<SignedDuration> {
        None
    }
}

/// What the policies fill in where the object says nothing; of several, the first by name wins.
pub fn defaults(_policies: &[&Policy], _case: &Case<'_>) -> json_patch::Patch {
    json_patch::Patch(Vec::new())
}

/// What an object depends on, by its `spec.dependsOn`.
pub fn depends_on(_subject: &Subject) -> Vec<ObjectName> {
    Vec::new()
}
