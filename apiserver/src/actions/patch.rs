//! Applies a JSON Patch (RFC 6902) to a small document, within bounds.
//!
//! `copy` can double a document in each operation, in size or in depth: twenty operations would take gigabytes, or more
//! stack than a thread has. kube-apiserver limits the number of operations and the bytes that they copy.

use gatehouse_serving::ApiError;
use json_patch::Patch;
use serde_json::Value;

/// The most operations. A suspension has three fields.
const MOST_OPERATIONS: usize = 64;
/// The most values that the document may have meanwhile, and how deep they may be nested.
const MOST_VALUES: usize = 1024;
const DEEPEST: usize = 16;
/// The longest texts that the document may have meanwhile, in bytes altogether.
const LONGEST: usize = 256 << 10;

/// The document as the patch leaves it.
pub(super) fn apply(mut document: Value, patch: &Patch) -> Result<Vec<u8>, ApiError> {
    if patch.len() > MOST_OPERATIONS {
        let (count, most) = (patch.len(), MOST_OPERATIONS);
        return Err(ApiError::unprocessable(format!(
            "the patch has {count} operations; at most {most} are allowed"
        )));
    }
    for (index, operation) in patch.iter().enumerate() {
        json_patch::patch(&mut document, std::slice::from_ref(operation)).map_err(|error| {
            let (at, why) = (error.path.as_str(), &error.kind);
            ApiError::unprocessable(format!("the patch does not apply: operation {index} at {at:?}: {why}"))
        })?;
        // An operation can at most double the document, so what is measured here is small.
        if !is_small(&document) {
            return Err(ApiError::unprocessable("the patch makes the document too large"));
        }
    }
    Ok(document.to_string().into_bytes())
}

fn is_small(document: &Value) -> bool {
    let (mut values, mut bytes) = (0, 0);
    let mut left = vec![(document, 0)];
    while let Some((value, depth)) = left.pop() {
        values += 1;
        match value {
            Value::String(text) => bytes += text.len(),
            Value::Array(items) => left.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => {
                bytes += fields.keys().map(String::len).sum::<usize>();
                left.extend(fields.values().map(|field| (field, depth + 1)));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        if values > MOST_VALUES || depth > DEEPEST || bytes > LONGEST {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(operations: &Value) -> Result<Value, String> {
        let document = json!({"spec": {"suspended": true}});
        let patch: Patch = serde_json::from_value(operations.clone()).expect("a patch");
        let bytes = apply(document, &patch).map_err(|error| error.to_string())?;
        Ok(serde_json::from_slice(&bytes).expect("JSON"))
    }

    #[test]
    fn a_patch_changes_the_document() {
        let operations = json!([
            {"op": "test", "path": "/spec/suspended", "value": true},
            {"op": "add", "path": "/spec/reason", "value": "moving"},
            {"op": "copy", "from": "/spec/reason", "path": "/spec/until"},
        ]);
        let expected = json!({"spec": {"suspended": true, "reason": "moving", "until": "moving"}});
        assert_eq!(applied(&operations), Ok(expected));
        let operations = json!([
            {"op": "test", "path": "/spec/suspended", "value": true}, {"op": "remove", "path": "/spec/none"},
        ]);
        let error = applied(&operations).expect_err("nothing there");
        assert!(error.contains(r#"does not apply: operation 1 at "/spec/none": path is invalid"#), "{error}");
    }

    #[test]
    fn copies_cannot_grow_without_bound() {
        let wide = |n: usize| json!({"op": "copy", "from": "/spec", "path": format!("/spec/x{n}")});
        let deep =
            |n: usize| json!({"op": "copy", "from": "/spec", "path": format!("/spec{}", "/x".repeat(n))});
        let mut deeper = vec![json!({"op": "add", "path": "/spec/x", "value": {}})];
        deeper.extend((1..17).map(|n| deep(1 << n)));
        let long = json!({"op": "add", "path": "/spec/long", "value": "x".repeat(200 << 10)});
        let longer = vec![long, json!({"op": "copy", "from": "/spec/long", "path": "/spec/more"})];
        for operations in [(0..25).map(wide).collect::<Vec<_>>(), deeper, longer] {
            let error = applied(&json!(operations)).expect_err("too large");
            assert!(error.contains("too large") || error.contains("does not apply"), "{error}");
        }
        let many: Vec<_> =
            (0..65).map(|_| json!({"op": "test", "path": "/spec/suspended", "value": true})).collect();
        assert!(applied(&json!(many)).expect_err("too many").contains("65 operations"));
    }
}
