//! The objects that are asked about.

use std::collections::HashMap;

use gatehouse_quota::{GroupResource, Templates};
use gatehouse_serving::ApiError;
use serde_json::Value;

/// The most objects of a request.
const MOST_OBJECTS: usize = 1000;

/// An object that is asked about.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) resource: GroupResource,
    /// The version that it is written in.
    pub(super) version: String,
    /// Its own, or that of the row.
    pub(super) namespace: String,
    /// Empty if it has none, as with `generateName`.
    pub(super) name: String,
    pub(super) value: Value,
}

/// All of them, in order.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) all: Vec<Asked>,
    /// Those that the usage of others depends on, by resource, namespace and name: templates and fleets.
    named: HashMap<(&'static str, String, String), usize>,
}

const TEMPLATES: &str = "gametemplates.pteronimbus.io";
const FLEETS: &str = "fleets.agones.dev";

impl Objects {
    /// Reads a List of objects, or one object. `namespace` is that of the row: objects are in it, or name none; empty if
    /// the row is of no namespace, and then each object names its own.
    pub(super) fn read(namespace: &str, body: Value) -> Result<Self, ApiError> {
        let values = match body {
            Value::Object(mut list) => {
                let is_list = list.get("kind").is_some_and(|kind| kind == "List");
                match list.get_mut("items") {
                    Some(Value::Array(items)) => std::mem::take(items),
                    None | Some(Value::Null) if is_list => Vec::new(),
                    Some(_) if is_list => {
                        return Err(ApiError::unprocessable("items: Invalid value: must be a list"));
                    }
                    _ => vec![Value::Object(list)],
                }
            }
            _ => return Err(ApiError::bad_request("the body must be a List, or an object")),
        };
        if values.len() > MOST_OBJECTS {
            let many = format!("items: Too many: {}: must have at most {MOST_OBJECTS} items", values.len());
            return Err(ApiError::unprocessable(many));
        }
        let mut objects = Self::default();
        for (index, mut value) in values.into_iter().enumerate() {
            if !value.is_object() {
                let why = format!("items[{index}]: Invalid value: must be an object");
                return Err(ApiError::unprocessable(why));
            }
            let at = |why: String| wrong(index, &why);
            let (resource, version) = resource(&value).map_err(|why| at(why.to_owned()))?;
            let namespace = namespace_of(&value, namespace).map_err(at)?;
            // A template is looked for in the namespace of the object that names it.
            if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("namespace".to_owned(), namespace.as_str().into());
            }
            let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let kind = [TEMPLATES, FLEETS].into_iter().find(|kind| resource.to_string() == *kind);
            if let Some(kind) = kind {
                objects.named.insert((kind, namespace.clone(), name.clone()), index);
            }
            objects.all.push(Asked { resource, version, namespace, name, value });
        }
        Ok(objects)
    }

    /// The Fleet of Agones with this name, if it is among them.
    pub(super) fn fleet(&self, namespace: &str, name: &str) -> Option<&Value> {
        self.find(FLEETS, namespace, name)
    }

    fn find(&self, kind: &'static str, namespace: &str, name: &str) -> Option<&Value> {
        let index = self.named.get(&(kind, namespace.to_owned(), name.to_owned()))?;
        self.all.get(*index).map(|asked| &asked.value)
    }
}

impl Templates for Objects {
    fn game_template(&self, namespace: &str, name: &str) -> Option<Value> {
        self.find(TEMPLATES, namespace, name).cloned()
    }

    /// They are not observed, and no namespaced object that a tenant may ask about. docs/tenants.md says so.
    fn runtime_class(&self, _name: &str) -> Option<Value> {
        None
    }
}

/// The error that a field of an object is wrong.
pub(super) fn wrong(index: usize, why: &str) -> ApiError {
    ApiError::unprocessable(format!("items[{index}].{why}"))
}

/// The resource of an object, by the usual rule for plurals, and its version.
fn resource(object: &Value) -> Result<(GroupResource, String), &'static str> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let api_version = text("apiVersion").ok_or("apiVersion: Required value")?;
    let kind = text("kind").ok_or("kind: Required value")?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Ok((GroupResource::of_kind(group, kind), version.to_owned()))
}

fn namespace_of(object: &Value, of_row: &str) -> Result<String, String> {
    let own = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
    match (own, of_row) {
        ("", "") => Err("metadata.namespace: Required value".to_owned()),
        ("", of_row) => Ok(of_row.to_owned()),
        (own, of_row) if of_row.is_empty() || own == of_row => Ok(own.to_owned()),
        (own, of_row) => {
            Err(format!("metadata.namespace: Invalid value: {own:?}: must be {of_row:?} or left out"))
        }
    }
}
