//! Defines an object as policies see it: its metadata without managedFields, and its spec.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::{Kind, ObjectName};

pub use gatehouse_apiservice::annotation;

/// An object as policies see it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty if it has none.
    pub namespace: String,
    /// Its name; empty if it is not generated yet.
    pub name: String,
    /// `apiVersion`, `kind`, `metadata` without managedFields, and `spec`. An object that was read by a shape has only
    /// the fields that [`looks`](crate::looks) names: it is for judging, and must never be written back.
    pub object: Value,
    /// A digest of the parts of `spec` that were not read.
    rest: Option<u64>,
    /// Why conditions cannot be evaluated on it, if it was not read whole.
    unread: Option<String>,
    /// Its Namespace, as `namespaceObject`.
    namespace_object: Option<Arc<Value>>,
}

impl Subject {
    /// Creates a subject. `object` may be whole: fields that policies do not see are dropped. The namespace is that of
    /// the request, or of the object if there is no request (in files).
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

    /// Adds its Namespace: only `metadata`, as conditions see it.
    #[must_use]
    pub fn within(self, namespace: Arc<Value>) -> Self {
        Self { namespace_object: Some(namespace), ..self }
    }

    /// Whether its Namespace is known.
    pub fn knows_namespace(&self) -> bool {
        self.namespace_object.is_some()
    }

    /// Its Namespace, if known.
    pub(crate) fn namespace_object(&self) -> Option<&Value> {
        self.namespace_object.as_deref()
    }

    /// Adds a digest of the parts of `spec` that were not read, so that a difference in them is noticed.
    #[must_use]
    pub fn with_rest(self, rest: Option<u64>) -> Self {
        Self { rest, ..self }
    }

    /// Adds the reason why conditions cannot be evaluated on it: it was not read whole.
    #[must_use]
    pub fn not_whole(self, why: String) -> Self {
        Self { unread: Some(why), ..self }
    }

    /// Why conditions cannot be evaluated on it, if so.
    pub(crate) fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }

    /// Whether `spec` differs, including the parts that no rule reads. Both must have been read by the same shape.
    pub(crate) fn spec_differs(&self, other: &Self) -> bool {
        self.rest != other.rest || self.spec() != other.spec()
    }

    /// A subject from a file or the cluster, with the namespace and name of its metadata.
    pub fn of(kind: Kind, object: Value) -> Self {
        let text = |field: &str| {
            let value = object.pointer("/metadata").and_then(|metadata| metadata.get(field));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (namespace, name) = (text("namespace"), text("name"));
        Self::new(kind, &namespace, &name, object)
    }

    /// Its group, kind, namespace and name.
    pub fn object_name(&self) -> ObjectName {
        ObjectName {
            group: self.kind.group().into(),
            kind: self.kind.name().into(),
            namespace: self.namespace.as_str().into(),
            name: self.name.as_str().into(),
        }
    }

    /// `spec`; null if it is absent.
    pub fn spec(&self) -> &Value {
        self.object.get("spec").unwrap_or(&Value::Null)
    }

    /// A field of its metadata; null if it is absent.
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

    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        debug_assert!(
            gatehouse_object::is_kept_annotation(name),
            "{name} is not among what is read of objects"
        );
        self.metadata("annotations").get(name)?.as_str()
    }

    /// Whether it is being deleted: then the removal of its finalizers must not be denied.
    pub fn is_terminating(&self) -> bool {
        !self.metadata("deletionTimestamp").is_null()
    }

    /// Whether its controller treats it as suspended.
    pub fn is_suspended(&self) -> bool {
        let suspend = self.spec().get("suspend").and_then(Value::as_bool);
        self.kind.suspension().is_in_force(suspend, |name| self.annotation(name))
    }
}
