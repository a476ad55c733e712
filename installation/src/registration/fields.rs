//! Reads `metadata.managedFields`: which manager owns which fields of an object.
//!
//! A set of fields (`fieldsV1`) is a tree: `f:NAME` is a field, `k:{...}` an item of a list by its key, `.` the field
//! or item itself; a leaf is empty.

use serde_json::{Map, Value};

/// The set of fields that `manager` applied, and the sets of all other managers. Entries of subresources are left out,
/// since kube-apiserver's controllers own the status. Updates by `manager` count as those of another manager.
pub(super) fn field_owners<'a>(object: &'a Value, manager: &str) -> (Option<&'a Value>, Vec<&'a Value>) {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut ours = None;
    let mut others = Vec::new();
    for entry in entries.filter(|entry| entry["subresource"].as_str().unwrap_or_default().is_empty()) {
        let fields = &entry["fieldsV1"];
        if entry["manager"] == manager && entry["operation"] == "Apply" {
            ours = Some(fields);
        } else {
            others.push(fields);
        }
    }
    (ours, others)
}

/// The owners' fields within a field.
pub(super) fn within<'a>(owners: &[&'a Value], field: &str) -> Vec<&'a Value> {
    let field = format!("f:{field}");
    owners.iter().filter_map(|owner| owner.get(&field)).collect()
}

/// The owners' fields within an item of a list.
pub(super) fn within_item<'a>(owners: &[&'a Value], item: &Value) -> Vec<&'a Value> {
    let items = owners.iter().filter_map(|owner| owner.as_object()).flatten();
    items.filter(|(key, _)| is_key_of(key, item)).map(|(_, fields)| fields).collect()
}

/// `value` without the fields that the owners own, except fields named `kept` (the apply forces those). `None` if
/// nothing is left.
pub(super) fn without_owned(value: &Value, owners: &[&Value], kept: &str) -> Option<Value> {
    if owners.is_empty() {
        return Some(value.clone());
    }
    if owners.iter().any(|owner| is_leaf(owner)) {
        return None;
    }
    let fields: Map<_, _> = value
        .as_object()?
        .iter()
        .filter_map(|(name, value)| {
            let left = if name == kept {
                Some(value.clone())
            } else {
                without_owned(value, &within(owners, name), kept)
            };
            Some((name.clone(), left?))
        })
        .collect();
    (!fields.is_empty()).then_some(Value::Object(fields))
}

/// Whether a set of fields has one that `value` lacks.
pub(super) fn has_field_missing_in(fields: &Value, value: &Value) -> bool {
    fields.as_object().into_iter().flatten().any(|(key, fields)| {
        if let Some(name) = key.strip_prefix("f:") {
            value.get(name).is_none_or(|value| has_field_missing_in(fields, value))
        } else if key.starts_with("k:") {
            let mut items = value.as_array().into_iter().flatten();
            items.find(|item| is_key_of(key, item)).is_none_or(|item| has_field_missing_in(fields, item))
        } else {
            // `.` is the field itself. Items of sets (`v:`) do not occur: the lists of values that Gatehouse applies
            // are atomic.
            false
        }
    })
}

fn is_leaf(fields: &Value) -> bool {
    fields.as_object().is_none_or(|fields| fields.keys().all(|key| key == "."))
}

fn is_key_of(key: &str, item: &Value) -> bool {
    let Some(Ok(Value::Object(key))) = key.strip_prefix("k:").map(serde_json::from_str) else { return false };
    key.iter().all(|(name, value)| item.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_and_other_operations_of_ours_are_not_what_we_applied() {
        let object = json!({"metadata": {"managedFields": [
            {"manager": "gatehouse", "operation": "Apply", "fieldsV1": {"f:a": {}}},
            {"manager": "gatehouse", "operation": "Update", "fieldsV1": {"f:b": {}}},
            {"manager": "helm", "operation": "Update", "fieldsV1": {"f:c": {}}},
            {"manager": "kube-apiserver", "operation": "Update", "subresource": "status", "fieldsV1": {"f:d": {}}},
        ]}});
        let (ours, others) = field_owners(&object, "gatehouse");
        assert_eq!(ours, Some(&json!({"f:a": {}})));
        assert_eq!(others, [&json!({"f:b": {}}), &json!({"f:c": {}})]);
        assert_eq!(field_owners(&json!({}), "gatehouse"), (None, Vec::new()));
    }

    #[test]
    fn what_is_held_is_left_out() {
        let value = json!({"a": 1, "b": {"c": 2, "caBundle": 3}, "d": {"e": 4}, "f": [5]});
        for (held, expected) in [
            (json!({}), None),
            (json!({"f:a": {}}), Some(json!({"b": {"c": 2, "caBundle": 3}, "d": {"e": 4}, "f": [5]}))),
            (
                json!({"f:b": {"f:c": {}, "f:caBundle": {}}, "f:d": {".": {}}}),
                Some(json!({"a": 1, "b": {"caBundle": 3}, "f": [5]})),
            ),
            (json!({"f:d": {"f:e": {}}, "f:f": {}}), Some(json!({"a": 1, "b": {"c": 2, "caBundle": 3}}))),
            (json!({"f:x": {}}), Some(value.clone())),
        ] {
            assert_eq!(without_owned(&value, &[&held], "caBundle"), expected, "{held}");
        }
        assert_eq!(without_owned(&value, &[], "caBundle"), Some(value.clone()));
        let (a, b) = (json!({"f:a": {}}), json!({"f:b": {"f:c": {}}}));
        let expected = json!({"b": {"caBundle": 3}, "d": {"e": 4}, "f": [5]});
        assert_eq!(without_owned(&value, &[&a, &b], "caBundle"), Some(expected));
    }

    #[test]
    fn fields_exceed_what_does_not_have_them() {
        let value = json!({"a": {"b": 1}, "list": [{"name": "x", "c": 1}]});
        for (fields, exceeds) in [
            (json!({"f:a": {"f:b": {}}}), false),
            (json!({"f:a": {".": {}, "f:c": {}}}), true),
            (json!({"f:z": {}}), true),
            (json!({"f:list": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:c": {}}}}), false),
            (json!({"f:list": {"k:{\"name\":\"x\"}": {"f:d": {}}}}), true),
            (json!({"f:list": {"k:{\"name\":\"y\"}": {}}}), true),
        ] {
            assert_eq!(has_field_missing_in(&fields, &value), exceeds, "{fields}");
        }
    }
}
