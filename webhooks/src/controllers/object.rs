//! What the suspender knows of an object, and does to it.

use std::collections::BTreeMap;

use gatehouse_inventory::{DISABLED, Suspension};
use gatehouse_policy::{Kind, annotation};
use serde_json::{Map, Value, json};

use crate::{
    events,
    world::{Applied, Held},
};

/// Annotations about suspensions.
const KNOWN: [&str; 5] = [
    annotation::FROZEN_BY,
    annotation::EXEMPT_FROM,
    annotation::SUSPENDED_AT,
    annotation::SUSPENDED_BY,
    annotation::SUSPEND_REASON,
];

/// What matters of an object to whoever suspends and resumes it.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) is_terminating: bool,
    /// Whether its controller takes it for suspended.
    pub(super) is_suspended: bool,
    /// What Gatehouse holds of it.
    applied: Applied,
    annotations: BTreeMap<&'static str, String>,
    regarding: events::Object,
    resource_version: String,
}

/// What is to be done to an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) write: Write,
    /// An Event: reason, note, and cause.
    pub(super) told: Option<(&'static str, String, String)>,
}

/// How an object is to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Write {
    /// Not at all.
    Nothing,
    /// What Gatehouse holds of it from here on: these fields and no others. What it lets go of goes, unless somebody else
    /// holds it too.
    Apply(Claims),
    /// A suspension is over, whoever began it: it is lifted, if `resumes`, and these annotations are taken away.
    End { resumes: bool, annotations: Vec<&'static str> },
}

/// Fields that Gatehouse holds, with their values, by server-side apply under its own field manager: so they survive
/// others, and are known for its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) suspension: bool,
    pub(super) annotations: BTreeMap<&'static str, String>,
}

impl Object {
    /// Of an object that may be suspended.
    pub(super) fn of(held: &Held) -> Option<Self> {
        let kind = held.kind.filter(|kind| kind.suspension() != Suspension::Never)?;
        let subject = held.subject()?;
        let api_version = subject.object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let annotation = |name| Some((name, subject.annotation(name)?.to_owned()));
        Some(Self {
            kind,
            is_terminating: subject.is_terminating(),
            is_suspended: subject.is_suspended(),
            applied: held.applied.as_deref().cloned().unwrap_or_default(),
            annotations: KNOWN.into_iter().filter_map(annotation).collect(),
            regarding: events::Object {
                api_version: api_version.to_owned(),
                kind: kind.name().to_owned(),
                namespace: subject.namespace.clone(),
                name: subject.name.clone(),
                uid: held.uid.to_string(),
            },
            resource_version: held.resource_version.to_string(),
        })
    }

    /// Whether Gatehouse suspended it: its mark says so, and the suspension is Gatehouse's own.
    pub(super) fn is_held(&self) -> bool {
        self.is_suspended && self.applied.suspension && self.annotations.contains_key(annotation::FROZEN_BY)
    }

    /// Whether Gatehouse holds what suspends it, whatever the marks say.
    pub(super) fn has_own_suspension(&self) -> bool {
        self.applied.suspension
    }

    /// One of the annotations about suspensions.
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    pub(super) fn regarding(&self) -> &events::Object {
        &self.regarding
    }
}

impl Claims {
    /// Claims an annotation.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.annotations.insert(name, value.into());
        self
    }

    /// The write that makes them, unless they are made already.
    pub(super) fn write(self, object: &Object) -> Write {
        let held = &object.applied.annotations;
        let is_same = self.suspension == object.applied.suspension
            && (!self.suspension || object.is_suspended)
            && held.len() == self.annotations.len()
            && held
                .iter()
                .all(|name| self.annotations.get(name).map(String::as_str) == object.annotation(name));
        if is_same { Write::Nothing } else { Write::Apply(self) }
    }
}

impl Write {
    /// As a patch of this very version of the object: what others did meanwhile is looked at first.
    pub(super) fn patch(&self, object: &Object) -> Option<Value> {
        let mut annotations = Map::new();
        let mut spec = None;
        match self {
            Self::Nothing => return None,
            Self::Apply(claims) => {
                annotations.extend(
                    claims.annotations.iter().map(|(name, value)| ((*name).to_owned(), json!(value))),
                );
                if claims.suspension {
                    suspend(object.kind, true, &mut annotations, &mut spec);
                }
            }
            Self::End { resumes, annotations: over } => {
                annotations.extend(over.iter().map(|name| ((*name).to_owned(), Value::Null)));
                if *resumes {
                    suspend(object.kind, false, &mut annotations, &mut spec);
                }
            }
        }
        let mut patch = json!({
            "apiVersion": object.regarding.api_version,
            "kind": object.regarding.kind,
            "metadata": {
                "name": object.regarding.name,
                "namespace": object.regarding.namespace,
                "uid": object.regarding.uid,
                "resourceVersion": object.resource_version,
            },
        });
        if !annotations.is_empty() {
            patch["metadata"]["annotations"] = annotations.into();
        }
        if let Some(spec) = spec {
            patch["spec"] = spec;
        }
        Some(patch)
    }
}

/// Sets what suspends objects of a kind, a field or an annotation, or takes it away.
fn suspend(kind: Kind, begins: bool, annotations: &mut Map<String, Value>, spec: &mut Option<Value>) {
    let or_null = |value: Value| if begins { value } else { Value::Null };
    match kind.suspension() {
        Suspension::Field => *spec = Some(json!({ "suspend": or_null(json!(true)) })),
        Suspension::Annotation(name) => drop(annotations.insert(name.to_owned(), or_null(json!(DISABLED)))),
        Suspension::Never => {}
    }
}
