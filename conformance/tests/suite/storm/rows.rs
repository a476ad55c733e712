//! The rows of a view, in a form in which clients and replicas can be compared.

use std::collections::BTreeMap;

use gatehouse_conformance::foreign::Scope;
use serde_json::Value;

/// Rows by namespace and name.
pub(super) type Rows = BTreeMap<(String, String), Value>;

/// The prefix of a scope's field selectors.
const STATE: &str = "status.state=";

/// The rows of objects, without what differs between replicas: the resourceVersion, and since when the replica has
/// observed the cluster.
pub(super) fn rows<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Rows {
    objects.into_iter().map(row).collect()
}

/// The rows of summaries, without their times, which differ between replicas: they are times of observation.
pub(super) fn summaries<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Rows {
    let timeless = |(key, mut row): ((String, String), Value)| {
        take_times(&mut row);
        (key, row)
    };
    objects.into_iter().map(row).map(timeless).collect()
}

fn take_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.ends_with("Time"));
            fields.values_mut().for_each(take_times);
        }
        Value::Array(items) => items.iter_mut().for_each(take_times),
        _ => {}
    }
}

fn row(object: &Value) -> ((String, String), Value) {
    let mut row = object.clone();
    if let Some(metadata) = row["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let key = (text("namespace"), text("name"));
    let conditions = row.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter(|condition| condition["type"] == "Fresh") {
        condition["lastTransitionTime"].take();
    }
    (key, row)
}

/// The rows that match a scope.
pub(super) fn within(rows: &Rows, scope: &Scope) -> Rows {
    let belongs = |namespace: &str, row: &Value| {
        scope.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
            && scope.label_selector.as_ref().is_none_or(|selector| {
                let labels = row["metadata"]["labels"].as_object();
                selector.split_once('=').is_some_and(|(label, value)| {
                    labels.and_then(|labels| labels.get(label)).is_some_and(|found| found == value)
                })
            })
            && scope.field_selector.as_ref().is_none_or(|selector| {
                selector.strip_prefix(STATE).is_some_and(|state| row["status"]["state"] == state)
            })
    };
    rows.iter()
        .filter(|((namespace, _), row)| belongs(namespace, row))
        .map(|(key, row)| (key.clone(), row.clone()))
        .collect()
}

/// The differences between rows in one or two lines; `None` if there are none.
pub(super) fn difference(has: &Rows, should: &Rows) -> Option<String> {
    if has == should {
        return None;
    }
    let missing: Vec<_> = should.keys().filter(|key| !has.contains_key(key)).collect();
    let surplus: Vec<_> = has.keys().filter(|key| !should.contains_key(key)).collect();
    let other: Vec<_> = should
        .iter()
        .filter_map(|(key, row)| Some((key, row, has.get(key)?)))
        .filter(|(_, a, b)| a != b)
        .collect();
    let reported = |(key, should, has): &(&(String, String), &Value, &Value)| {
        format!(" {key:?}: {has} should be {should}")
    };
    Some(
        format!(
            "{} rows of {}: {} missing {:?}, {} too many {:?}, {} different",
            has.len(),
            should.len(),
            missing.len(),
            missing.first(),
            surplus.len(),
            surplus.first(),
            other.len()
        ) + &other.first().map(reported).unwrap_or_default(),
    )
}
