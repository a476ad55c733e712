//! An object as policies see it: its metadata without managedFields, and its spec.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::{Kind, ObjectName};

/// Annotations that rules and controllers read and write.
pub mod annotation {
    /// Why an object is suspended.
    pub const SUSPEND_REASON: &str = "gatehouse.dev/suspend-reason";
    /// Since when an object is suspended (RFC 3339).
    pub const SUSPENDED_AT: &str = "gatehouse.dev/suspended-at";
    /// Which freeze holds an object back: `POLICY/FREEZE`.
    pub const FROZEN_BY: &str = "gatehouse.dev/frozen-by";
    /// Which freezes do not hold an object back, since somebody whom they exempt made or resumed it:
    /// `POLICY/FREEZE@SINCE`, separated by commas.
    pub const EXEMPT_FROM: &str = "gatehouse.dev/exempt-from";
    /// Who suspended an object.
    pub const SUSPENDED_BY: &str = "fluxcd.controlplane.io/suspendedBy";
    /// Asks for a reconciliation, with `forceAt` and `resetAt`.
    pub const REQUESTS: [&str; 3] =
        ["reconcile.fluxcd.io/requestedAt", "reconcile.fluxcd.io/forceAt", "reconcile.fluxcd.io/resetAt"];
}

/// An object as policies see it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty, if it has none.
    pub namespace: String,
    /// Its name; empty, if it is yet to be generated.
    pub name: String,
    /// `apiVersion`, `kind`, `metadata` without managedFields, `spec`. Of an object that was read by a shape, only what
    /// [`looks`](crate::looks) names is here: this is to judge by, and never to write back.
    pub object: Value,
    /// A digest of what was not read of `spec`.
    rest: Option<u64>,
    /// Why conditions cannot look at it, since it was not read whole.
    unread: Option<String>,
    /// The Namespace that it is in, as `namespaceObject`.
    namespace_object: Option<Arc<Value>>,
}

impl Subject {
    /// `object` may be whole: what policies do not see is dropped. The namespace is that of the request, and where
    /// that says none (in files), the object's.
    pub fn new(kind: Kind, namespace: &str, name: &str, object: Value) -> Self {
        let mut object = object;
        if let Value::Object(fields) = &mut object {
            fields.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "spec"));
            if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
                metadata.shift_remove("managedFields");
            }
        }
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            object,
            rest: None,
            unread: None,
            namespace_object: None,
        }
    }

    /// Notes the Namespace that it is in: `metadata` alone, as conditions see it.
    #[must_use]
    pub fn within(self, namespace: Arc<Value>) -> Self {
        Self { namespace_object: Some(namespace), ..self }
    }

    /// Whether the Namespace that it is in is known.
    pub fn knows_namespace(&self) -> bool {
        self.namespace_object.is_some()
    }

    /// The Namespace that it is in, where that is known.
    pub(crate) fn namespace_object(&self) -> Option<&Value> {
        self.namespace_object.as_deref()
    }

    /// Notes a digest of what was not read of `spec`, so that a difference in it is seen.
    #[must_use]
    pub fn with_rest(self, rest: Option<u64>) -> Self {
        Self { rest, ..self }
    }

    /// Notes why conditions cannot be evaluated on it: it was not read whole.
    #[must_use]
    pub fn not_whole(self, why: String) -> Self {
        Self { unread: Some(why), ..self }
    }

    /// Why conditions cannot be evaluated on it.
    pub(crate) fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }

    /// Whether `spec` is another one, also where nobody looks. Both must have been read alike.
    pub(crate) fn spec_differs(&self, other: &Self) -> bool {
        self.rest != other.rest || self.spec() != other.spec()
    }

    /// An object as a file or the cluster has it, named by its own metadata.
    pub fn of(kind: Kind, object: Value) -> Self {
        let text = |field: &str| {
            let value = object.pointer("/metadata").and_then(|metadata| metadata.get(field));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (namespace, name) = (text("namespace"), text("name"));
        Self::new(kind, &namespace, &name, object)
    }

    /// Its name among all objects.
    pub fn object_name(&self) -> ObjectName {
        ObjectName {
            group: self.kind.group().into(),
            kind: self.kind.name().into(),
            namespace: self.namespace.as_str().into(),
            name: self.name.as_str().into(),
        }
    }

    /// `spec`; null, if there is none.
    pub fn spec(&self) -> &Value {
        self.object.get("spec").unwrap_or(&Value::Null)
    }

    /// A field of its metadata; null, if there is none.
    pub(crate) fn metadata(&self, field: &str) -> &Value {
        #[cfg(debug_assertions)]
        assert!(
            crate::looks::covers(["metadata", field]),
            "metadata.{field} is not among what is read of objects"
        );
        self.object.get("metadata").and_then(|metadata| metadata.get(field)).unwrap_or(&Value::Null)
    }

    /// Its labels.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.metadata("labels").as_object().into_iter().flatten();
        labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// An annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        debug_assert!(
            gatehouse_object::is_kept_annotation(name),
            "{name} is not among what is read of objects"
        );
        self.metadata("annotations").get(name)?.as_str()
    }

    /// Whether it is going: then nothing may keep its finalizers from being removed.
    pub fn is_terminating(&self) -> bool {
        !self.metadata("deletionTimestamp").is_null()
    }

    /// Whether its controller takes it for suspended.
    pub fn is_suspended(&self) -> bool {
        let suspend = self.spec().get("suspend").and_then(Value::as_bool);
        self.kind.suspension().is_in_force(suspend, |name| self.annotation(name))
    }
}
