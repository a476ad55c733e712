//! Reads the objects of a review, as far as rules look at them.
//!
//! **Invariant:** an object of the wrong shape is an error that names the field.

use gatehouse_object::{Problem, Read, Shape};
use gatehouse_serving::ApiError;
use gatehouse_serving::error::{FieldProblem, Subject};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::request::Request;
use crate::looks;

/// The metadata fields that must be strings if present.
const TEXT: [&str; 7] =
    ["name", "generateName", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"];
/// The metadata fields that must be maps of strings if present.
const TEXT_BY_NAME: [&str; 2] = ["labels", "annotations"];
/// The metadata fields that must be lists if present.
const LISTS: [&str; 2] = ["ownerReferences", "finalizers"];

/// How much of an object is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looks {
    /// The metadata only; the rest may have any shape.
    Metadata,
    /// The fields that rules, defaults and quotas look at.
    Fields,
    /// Everything that policies may see, which CEL conditions need. If the objects are too large or too deep for that,
    /// the same as `Fields`.
    Whole,
}

/// The objects of a review, and the memory that they take.
#[derive(Debug)]
pub(super) struct Objects {
    /// The new object.
    pub(super) object: Option<Read>,
    /// The old object.
    pub(super) old: Option<Read>,
    /// Why the objects could not be read whole.
    pub(super) unread: Option<String>,
    /// The memory that they take, in bytes.
    pub(super) cost: usize,
}

/// Reads the objects of a review, and builds at most `budget` bytes.
pub(super) fn read(request: &Request<'_>, how_much: Looks, budget: usize) -> Result<Objects, ApiError> {
    let shape = match how_much {
        Looks::Metadata => &looks::METADATA,
        Looks::Fields => &looks::FIELDS,
        Looks::Whole => {
            // CEL conditions convert what they look at into values of about the same size.
            match read_by(request, &looks::WHOLE, budget / 2) {
                Ok(objects) => return Ok(Objects { cost: 2 * objects.cost, ..objects }),
                Err(Unread { too_large: Some(why), .. }) => {
                    let objects = read_by(request, &looks::FIELDS, budget).map_err(|unread| unread.error)?;
                    return Ok(Objects { unread: Some(why), ..objects });
                }
                Err(Unread { error, .. }) => return Err(error),
            }
        }
    };
    read_by(request, shape, budget).map_err(|unread| unread.error)
}

/// Why objects were not read.
struct Unread {
    error: ApiError,
    /// Set if the objects are valid, but too deep or too large to be built.
    too_large: Option<String>,
}

fn read_by(request: &Request<'_>, shape: &Shape, budget: usize) -> Result<Objects, Unread> {
    let mut left = budget;
    let mut read = |raw: Option<&RawValue>| {
        let Some(raw) = raw else { return Ok(None) };
        let read = gatehouse_object::read(raw.get(), shape, left).map_err(|fault| {
            let is_too_large = matches!(fault.problem, Problem::TooDeep | Problem::TooMuch);
            let too_large = is_too_large.then(|| fault.to_string());
            let problem = invalid(fault.field, &fault.problem.to_string());
            Unread { error: refused(request, problem), too_large }
        })?;
        left -= read.cost;
        let Read { value, rest, cost } = read;
        let value =
            checked(value).map_err(|problem| Unread { error: refused(request, problem), too_large: None })?;
        Ok(Some(Read { value, rest, cost }))
    };
    let (object, old) = (read(request.object)?, read(request.old_object)?);
    Ok(Objects { object, old, unread: None, cost: budget - left })
}

/// `spec.replicas` of an `autoscaling/v1` Scale; 0 if it is absent.
pub(super) fn replicas(request: &Request<'_>, scale: &Value) -> Result<i64, ApiError> {
    match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => Ok(0),
        Some(replicas) => replicas.as_i64().filter(|replicas| *replicas >= 0).ok_or_else(|| {
            refused(request, invalid("spec.replicas", "must be an integer, and not negative"))
        }),
    }
}

/// Checks the outline of an object. Null fields count as absent.
fn checked(object: Value) -> Result<Value, FieldProblem> {
    let Value::Object(mut object) = object else { return Err(invalid("object", "must be a map")) };
    object.retain(|_, value| !value.is_null());
    for field in ["apiVersion", "kind"] {
        if object.get(field).is_some_and(|value| !value.is_string()) {
            return Err(invalid(field, "must be a string"));
        }
    }
    if object.get("spec").is_some_and(|spec| !spec.is_object()) {
        return Err(invalid("spec", "must be a map"));
    }
    match object.entry("metadata").or_insert_with(|| Map::new().into()) {
        Value::Object(metadata) => check_metadata(metadata)?,
        _ => return Err(invalid("metadata", "must be a map")),
    }
    Ok(object.into())
}

fn check_metadata(metadata: &Map<String, Value>) -> Result<(), FieldProblem> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::memory::ReviewMemory;
    use super::super::request::testing;
    use super::*;

    fn read_of(object: &Value) -> Result<Value, String> {
        let read = objects(object, Looks::Whole, ReviewMemory::bound(usize::MAX))?;
        Ok(read.object.expect("sent").value)
    }

    fn objects(object: &Value, looks: Looks, budget: usize) -> Result<Objects, String> {
        let body = testing::create("g", "things", object);
        let request = Request::parse(&body).expect("a review");
        read(&request, looks, budget).map_err(|error| error.to_string())
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
            (json!({"metadata": []}), "metadata: Invalid value: must be a map"),
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
            (json!({"spec": "text"}), "spec: Invalid value: must be a map"),
            (json!({"kind": 1}), "kind: Invalid value: "),
        ] {
            let refused = read_of(&object).unwrap_err();
            assert!(refused.starts_with(&format!("Thing.g \"a\" is invalid: {problem}")), "{refused}");
        }
    }

    /// `{"deeper": {"deeper": … {}}}`.
    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!({}), |inner, _| json!({ "deeper": inner }))
    }

    #[test]
    fn what_nobody_looks_at_may_be_anything() {
        let many = vec![json!([]); 100_000];
        let object = json!({"metadata": {"name": "a"}, "spec": {"interval": "1m", "values": {"deep": nested(120), "many": many}}});
        let lean = json!({"metadata": {"name": "a"}, "spec": {"interval": "1m", "values": {}}});
        for looks in [Looks::Fields, Looks::Whole] {
            let read = objects(&object, looks, 1 << 16).unwrap();
            assert_eq!(read.object.expect("sent").value, lean);
            assert!(read.cost < 4096, "{}", read.cost);
            let expected = (looks == Looks::Whole).then(|| "spec.values.deep.deeper".to_owned());
            assert_eq!(read.unread.is_some(), expected.is_some());
            assert!(read.unread.unwrap_or_default().starts_with(&expected.unwrap_or_default()));
        }
        let read = objects(&json!({"metadata": {"name": 1, "x": 2}, "spec": 7}), Looks::Metadata, 1 << 16);
        assert!(read.unwrap_err().contains("metadata.name: Invalid value"));
        assert!(objects(&json!({"spec": 7}), Looks::Metadata, 1 << 16).is_ok());
    }

    #[test]
    fn what_is_looked_at_has_its_bounds() {
        let labels: Map<_, _> = (0..10_000).map(|name| (format!("l{name}"), json!(""))).collect();
        let refused = objects(&json!({"metadata": {"labels": labels}}), Looks::Fields, 1 << 20).unwrap_err();
        assert!(
            refused.contains("metadata.labels.l") && refused.ends_with("holds too many values to be judged"),
            "{refused}"
        );
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
            let read = read(&request, Looks::Fields, 1 << 16).expect("an object").object.expect("sent");
            assert_eq!(replicas(&request, &read.value).ok(), expected, "{spec}");
        }
    }
}
