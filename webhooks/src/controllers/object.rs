//! The suspender's view of an object, and the patches that it sends.

use std::collections::BTreeMap;

use gatehouse_inventory::{DISABLED, Suspension};
use gatehouse_policy::{Kind, annotation};
use gatehouse_serving::events;
use serde_json::{Map, Value, json};

use crate::world::{Applied, Held};

/// The annotations about suspensions.
const KNOWN: [&str; 6] = [
    annotation::FROZEN_BY,
    annotation::EXEMPT_FROM,
    annotation::SUSPENDED_AT,
    annotation::SUSPENDED_BY,
    annotation::SUSPEND_REASON,
    annotation::SUSPENDED_UNTIL,
];

/// The part of an object that matters for suspensions.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) is_terminating: bool,
    /// Whether its controller treats it as suspended.
    pub(super) is_suspended: bool,
    /// The fields that Gatehouse owns.
    applied: Applied,
    annotations: BTreeMap<&'static str, String>,
    regarding: events::Object,
    resource_version: String,
}

/// A change of an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) write: Write,
    /// The Event: its reason, note and cause.
    pub(super) notice: Option<(&'static str, String, String)>,
}

/// A write to an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Write {
    /// No write.
    Nothing,
    /// A server-side apply with these fields and no others. Fields that Gatehouse owned before are removed, unless
    /// another manager owns them too.
    Apply(Claims),
    /// The end of a suspension, whoever began it. Removes these annotations, and resumes the object if `resumes` is
    /// set.
    End { resumes: bool, annotations: Vec<&'static str> },
}

/// Fields and values that Gatehouse applies with its own field manager. So they survive applies by others, and
/// `managedFields` proves who set them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) suspension: bool,
    pub(super) annotations: BTreeMap<&'static str, String>,
}

impl Object {
    /// The view of an object; `None` if its kind cannot be suspended.
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

    /// Whether Gatehouse suspended the object: it has the annotation `frozen-by`, and Gatehouse owns the suspension.
    pub(super) fn is_held(&self) -> bool {
        self.is_suspended && self.applied.suspension && self.annotations.contains_key(annotation::FROZEN_BY)
    }

    /// Whether Gatehouse owns the field or annotation that suspends the object, whatever its other annotations.
    pub(super) fn has_own_suspension(&self) -> bool {
        self.applied.suspension
    }

    /// The value of an annotation about suspensions.
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    pub(super) fn regarding(&self) -> &events::Object {
        &self.regarding
    }
}

impl Claims {
    /// Adds an annotation.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.annotations.insert(name, value.into());
        self
    }

    /// The write that applies these fields; [`Write::Nothing`] if the object already has them.
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
    /// The patch, for exactly this version of the object. If others have changed it, the API server answers 409, and
    /// the next pass decides again.
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

/// Sets or removes the field or annotation that suspends objects of `kind`.
fn suspend(kind: Kind, begins: bool, annotations: &mut Map<String, Value>, spec: &mut Option<Value>) {
    let or_null = |value: Value| if begins { value } else { Value::Null };
    match kind.suspension() {
        Suspension::Field => *spec = Some(json!({ "suspend": or_null(json!(true)) })),
        Suspension::Annotation(name) => drop(annotations.insert(name.to_owned(), or_null(json!(DISABLED)))),
        Suspension::Never => {}
    }
}
