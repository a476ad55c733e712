//! An object in a review, as policies see it: metadata without managedFields, and spec. Of the wrong shape, it is
//! refused by field.

use gatehouse_apiserver::ApiError;
use gatehouse_apiserver::error::{FieldProblem, Subject};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::request::Request;

/// Fields of metadata that are text, where they are there.
const TEXT: [&str; 7] =
    ["name", "generateName", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"];
/// Those that map names to text.
const TEXT_BY_NAME: [&str; 2] = ["labels", "annotations"];
/// Those that are lists.
const LISTS: [&str; 2] = ["ownerReferences", "finalizers"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    metadata: Metadata,
}

/// Metadata but for managedFields, which is often half of an object, and nobody's business here.
#[derive(Default)]
struct Metadata(Map<String, Value>);

/// The object, with `apiVersion`, `kind`, `metadata` and `spec`, and nothing else.
pub(super) fn read(request: &Request<'_>, raw: &RawValue) -> Result<Value, ApiError> {
    let Ok(seen) = serde_json::from_str::<Seen>(raw.get()) else {
        return Err(refused(request, unreadable::<Seen>(raw)));
    };
    let Metadata(metadata) = seen.metadata;
    check(&metadata).map_err(|problem| refused(request, problem))?;
    let mut object = Map::new();
    for (field, text) in [("apiVersion", seen.api_version), ("kind", seen.kind)] {
        if let Some(text) = text {
            object.insert(field.to_owned(), text.into());
        }
    }
    object.insert("metadata".to_owned(), metadata.into());
    if let Some(spec) = seen.spec {
        object.insert("spec".to_owned(), spec.into());
    }
    Ok(object.into())
}

/// The same without `spec`, whatever that is.
pub(super) fn named(request: &Request<'_>, raw: &RawValue) -> Result<Value, ApiError> {
    let Ok(Named { metadata: Metadata(metadata) }) = serde_json::from_str(raw.get()) else {
        return Err(refused(request, unreadable::<Named>(raw)));
    };
    check(&metadata).map_err(|problem| refused(request, problem))?;
    Ok(serde_json::json!({ "metadata": metadata }))
}

/// `spec.replicas` of an `autoscaling/v1` Scale. What is left out is none.
pub(super) fn scale(request: &Request<'_>, raw: &RawValue) -> Result<i64, ApiError> {
    let object = read(request, raw)?;
    match object.pointer("/spec/replicas") {
        None | Some(Value::Null) => Ok(0),
        Some(replicas) => replicas.as_i64().filter(|replicas| *replicas >= 0).ok_or_else(|| {
            refused(request, invalid("spec.replicas", "must be an integer, and not negative"))
        }),
    }
}

fn check(metadata: &Map<String, Value>) -> Result<(), FieldProblem> {
    let present = |field: &str| metadata.get(field).filter(|value| !value.is_null());
    for field in TEXT {
        if present(field).is_some_and(|value| !value.is_string()) {
            return Err(invalid(format!("metadata.{field}"), "must be a string"));
        }
    }
    for field in TEXT_BY_NAME {
        let Some(value) = present(field) else { continue };
        let values = value.as_object();
        let values =
            values.ok_or_else(|| invalid(format!("metadata.{field}"), "must be a map of strings"))?;
        if let Some((name, _)) = values.iter().find(|(_, value)| !value.is_string()) {
            return Err(invalid(format!("metadata.{field}[{name}]"), "must be a string"));
        }
    }
    for field in LISTS {
        if present(field).is_some_and(|value| !value.is_array()) {
            return Err(invalid(format!("metadata.{field}"), "must be a list"));
        }
    }
    Ok(())
}

/// Names the field, on the slow path.
fn unreadable<T: serde::de::DeserializeOwned>(raw: &RawValue) -> FieldProblem {
    let mut json = serde_json::Deserializer::from_str(raw.get());
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(error) => invalid(error.path().to_string(), &error.inner().to_string()),
        Ok(_) => invalid("object", "cannot be read"),
    }
}

fn invalid(field: impl Into<String>, why: &str) -> FieldProblem {
    FieldProblem {
        field: field.into().into(),
        reason: "FieldValueInvalid",
        message: format!("Invalid value: {why}"),
    }
}

fn refused(request: &Request<'_>, problem: FieldProblem) -> ApiError {
    let subject = Subject { group: &request.kind.group, resource: &request.kind.kind, name: &request.name };
    ApiError::invalid_object(subject, &[problem])
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Metadata;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object's metadata")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut fields = Map::new();
                while let Some(field) = map.next_key::<String>()? {
                    if field == "managedFields" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        fields.insert(field, map.next_value()?);
                    }
                }
                Ok(Metadata(fields))
            }

            fn visit_unit<E>(self) -> Result<Metadata, E> {
                Ok(Metadata::default())
            }
        }
        deserializer.deserialize_any(Fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::request::testing;
    use super::*;

    fn read_of(object: &Value) -> Result<Value, String> {
        let body = testing::create("g", "things", object);
        let request = Request::parse(&body).expect("a review");
        read(&request, request.object.expect("sent")).map_err(|error| error.to_string())
    }

    #[test]
    fn policies_see_metadata_without_managed_fields_and_spec() {
        let object = json!({
            "apiVersion": "g/v1", "kind": "Thing",
            "metadata": {"name": "a", "labels": {"x": "y"}, "managedFields": [{"manager": "kubectl"}]},
            "spec": {"b": 1, "a": 2}, "status": {"big": true},
        });
        let seen = json!({
            "apiVersion": "g/v1", "kind": "Thing",
            "metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"b": 1, "a": 2},
        });
        assert_eq!(read_of(&object), Ok(seen));
        assert_eq!(read_of(&json!({"metadata": null, "spec": null})), Ok(json!({"metadata": {}})));
    }

    #[test]
    fn a_field_of_the_wrong_shape_is_named() {
        for (object, problem) in [
            (json!({"metadata": []}), "metadata: Invalid value: invalid type: sequence"),
            (json!({"metadata": {"name": 1}}), "metadata.name: Invalid value: must be a string"),
            (
                json!({"metadata": {"labels": "x"}}),
                "metadata.labels: Invalid value: must be a map of strings",
            ),
            (
                json!({"metadata": {"labels": {"a": 1}}}),
                "metadata.labels[a]: Invalid value: must be a string",
            ),
            (json!({"metadata": {"annotations": {"a": null}}}), "metadata.annotations[a]: Invalid value: "),
            (json!({"metadata": {"ownerReferences": {}}}), "metadata.ownerReferences: Invalid value: "),
            (json!({"spec": "text"}), "spec: Invalid value: invalid type: string"),
            (json!({"kind": 1}), "kind: Invalid value: "),
        ] {
            let refused = read_of(&object).unwrap_err();
            assert!(refused.starts_with(&format!("Thing.g \"a\" is invalid: {problem}")), "{refused}");
        }
        let mut deep = json!({});
        for _ in 0..200 {
            deep = json!({ "deeper": deep });
        }
        assert!(read_of(&json!({ "spec": deep })).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn a_scale_asks_for_a_number_of_replicas() {
        for (spec, expected) in [
            (json!({"replicas": 3}), Some(3)),
            (json!({}), Some(0)),
            (json!({"replicas": "3"}), None),
            (json!({"replicas": -1}), None),
            (json!({"replicas": 1.5}), None),
        ] {
            let body = testing::create("g", "things", &json!({ "spec": spec }));
            let request = Request::parse(&body).expect("a review");
            assert_eq!(scale(&request, request.object.expect("sent")).ok(), expected, "{spec}");
        }
    }
}
