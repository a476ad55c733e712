//! Field managers, as far as tests need them: who holds which annotation and which field of `spec`.
//!
//! Server-side apply is by force; an update is the doing of nobody that is kept, and takes what it changes from everybody.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// `annotations` or `spec`, and the name of a field below it.
type Field = (&'static str, String);

/// The object after `manager` applied what was sent.
pub(super) fn apply(known: &Value, sent: &Value, manager: &str) -> Value {
    let fields = present(sent);
    let mut object = known.clone();
    let mut entries = entries(known);
    let own = |entry: &Value| entry["manager"] == manager && entry["operation"] == "Apply";
    let before = entries.iter().find(|entry| own(entry)).map(held).unwrap_or_default();
    entries.retain(|entry| !own(entry));
    for field in &fields {
        let value = get(sent, field).cloned().unwrap_or_default();
        if get(&object, field) != Some(&value) {
            give_up(&mut entries, field);
        }
        set(&mut object, field, Some(value));
    }
    for field in before.difference(&fields) {
        if !entries.iter().any(|entry| held(entry).contains(field)) {
            set(&mut object, field, None);
        }
    }
    if !fields.is_empty() {
        entries.push(entry(manager, &fields));
    }
    with_entries(object, entries)
}

/// The object after an update: what it changed is held by nobody.
pub(super) fn update(known: &Value, object: Value) -> Value {
    let mut entries = entries(&object);
    for field in present(known).union(&present(&object)) {
        if get(known, field) != get(&object, field) {
            give_up(&mut entries, field);
        }
    }
    with_entries(object, entries)
}

fn entries(object: &Value) -> Vec<Value> {
    object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default()
}

fn with_entries(mut object: Value, mut entries: Vec<Value>) -> Value {
    entries.retain(|entry| !held(entry).is_empty());
    let metadata = object["metadata"].as_object_mut().unwrap();
    if entries.is_empty() {
        metadata.shift_remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), entries.into());
    }
    object
}

fn entry(manager: &str, fields: &BTreeSet<Field>) -> Value {
    let below = |place: &str| -> Map<String, Value> {
        let fields = fields.iter().filter(|(of, _)| *of == place);
        fields.map(|(_, name)| (format!("f:{name}"), json!({}))).collect()
    };
    json!({"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {
        "f:metadata": {"f:annotations": below("annotations")}, "f:spec": below("spec"),
    }})
}

fn held(entry: &Value) -> BTreeSet<Field> {
    let fields = &entry["fieldsV1"];
    let places = [("annotations", &fields["f:metadata"]["f:annotations"]), ("spec", &fields["f:spec"])];
    let names = |fields: &Value| -> Vec<String> {
        let fields = fields.as_object().into_iter().flatten();
        fields.filter_map(|(name, _)| name.strip_prefix("f:")).map(str::to_owned).collect()
    };
    places
        .iter()
        .flat_map(|(place, fields)| names(fields).into_iter().map(move |name| (*place, name)))
        .collect()
}

fn give_up(entries: &mut [Value], field: &Field) {
    for entry in entries {
        let place = match field.0 {
            "spec" => entry.pointer_mut("/fieldsV1/f:spec"),
            _ => entry.pointer_mut("/fieldsV1/f:metadata/f:annotations"),
        };
        if let Some(fields) = place.and_then(Value::as_object_mut) {
            fields.shift_remove(&format!("f:{}", field.1));
        }
    }
}

fn present(object: &Value) -> BTreeSet<Field> {
    let names = |place: &'static str, fields: &Value| -> Vec<Field> {
        fields.as_object().into_iter().flatten().map(|(name, _)| (place, name.clone())).collect()
    };
    let annotations = names("annotations", &object["metadata"]["annotations"]);
    annotations.into_iter().chain(names("spec", &object["spec"])).collect()
}

fn get<'a>(object: &'a Value, (place, name): &Field) -> Option<&'a Value> {
    let fields = if *place == "spec" { object.get("spec") } else { object["metadata"].get("annotations") };
    fields?.get(name)
}

fn set(object: &mut Value, (place, name): &Field, value: Option<Value>) {
    let parent = if *place == "spec" { object } else { &mut object["metadata"] };
    let Some(value) = value else {
        if let Some(fields) = parent.get_mut(*place).and_then(Value::as_object_mut) {
            fields.shift_remove(name);
        }
        return;
    };
    parent[*place][name.as_str()] = value;
}
