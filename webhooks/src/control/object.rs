//! What the keeper knows of an object, and does to it.

use gatehouse_inventory::{DISABLED, Suspension};
use gatehouse_policy::{Kind, Subject, annotation};
use serde_json::{Map, Value, json};

use crate::{events, world::Held};

/// What matters of an object to whoever suspends and resumes it.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) is_terminating: bool,
    /// Whether its controller takes it for suspended.
    pub(super) is_suspended: bool,
    pub(super) frozen_by: Option<String>,
    pub(super) suspended_at: Option<String>,
    pub(super) suspended_by: Option<String>,
    regarding: events::Object,
    resource_version: String,
}

/// What is to be done to an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Change {
    /// Annotations to set, or to take away.
    pub(super) annotations: Vec<(&'static str, Option<String>)>,
    /// `spec.suspend`, if it is to change.
    pub(super) suspend: Option<Value>,
    /// An Event: reason, note, and cause.
    pub(super) told: Option<(&'static str, String, String)>,
}

impl Object {
    /// Of an object that may be suspended.
    pub(super) fn of(held: &Held) -> Option<Self> {
        let kind = held.kind.filter(|kind| kind.is_flux())?;
        let subject = held.subject()?;
        Some(Self::new(kind, &subject, &held.uid, held.resource_version))
    }

    pub(super) fn new(kind: Kind, subject: &Subject, uid: &str, resource_version: u64) -> Self {
        let text = |name: &str| subject.annotation(name).map(str::to_owned);
        let api_version = subject.object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        Self {
            kind,
            is_terminating: subject.is_terminating(),
            is_suspended: subject.is_suspended(),
            frozen_by: text(annotation::FROZEN_BY),
            suspended_at: text(annotation::SUSPENDED_AT),
            suspended_by: text(annotation::SUSPENDED_BY),
            regarding: events::Object {
                api_version: api_version.to_owned(),
                kind: kind.name().to_owned(),
                namespace: subject.namespace.clone(),
                name: subject.name.clone(),
                uid: uid.to_owned(),
            },
            resource_version: resource_version.to_string(),
        }
    }

    /// Has it suspended in the way that its controller knows.
    pub(super) fn suspend(&self, change: &mut Change) {
        match self.kind.suspension() {
            Suspension::Field => change.suspend = Some(json!(true)),
            Suspension::Annotation(name) => change.annotations.push((name, Some(DISABLED.to_owned()))),
            Suspension::Never => {}
        }
    }

    /// Has it resumed in the way that its controller knows.
    pub(super) fn resume(&self, change: &mut Change) {
        match self.kind.suspension() {
            Suspension::Field => change.suspend = Some(json!(false)),
            Suspension::Annotation(name) => change.annotations.push((name, None)),
            Suspension::Never => {}
        }
    }

    pub(super) fn regarding(&self) -> &events::Object {
        &self.regarding
    }
}

impl Change {
    /// Whether the object is to be written at all.
    pub(super) fn writes(&self) -> bool {
        !self.annotations.is_empty() || self.suspend.is_some()
    }

    /// As a merge patch, of this very version of the object: what others did meanwhile is looked at first.
    pub(super) fn patch(&self, object: &Object) -> Value {
        let annotations: Map<_, _> =
            self.annotations.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let mut patch = json!({"metadata": {
            "uid": object.regarding.uid,
            "resourceVersion": object.resource_version,
            "annotations": annotations,
        }});
        if let Some(suspend) = &self.suspend {
            patch["spec"] = json!({"suspend": suspend});
        }
        patch
    }
}
