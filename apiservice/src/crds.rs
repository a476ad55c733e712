//! The CustomResourceDefinitions of `policy.gatehouse.dev`, from the types.
//!
//! What the types say is kept; what only their being Rust types says is taken out: `null` for what is left out, empty
//! defaults that would be written into every object, line ends in descriptions, formats that Kubernetes does not know.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::policy::{QuotaLedger, ReconcilePolicy, TenantQuota};

/// Every definition, in the order of their names.
pub fn definitions() -> Vec<Value> {
    [QuotaLedger::crd(), ReconcilePolicy::crd(), TenantQuota::crd()]
        .into_iter()
        .map(|crd| polished(serde_json::to_value(crd).expect("a definition is plain data")))
        .collect()
}

fn polished(mut crd: Value) -> Value {
    let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
    // What the API server would fill in.
    crd["spec"]["names"]["listKind"] = json!(format!("{kind}List"));
    crd["spec"]["conversion"] = json!({"strategy": "None"});
    for version in crd["spec"]["versions"].as_array_mut().into_iter().flatten() {
        let schema = &mut version["schema"]["openAPIV3Schema"];
        polish(schema);
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("title");
        }
        // The words stand on the type of the spec, which is what people read there.
        schema["description"] = schema["properties"]["spec"]["description"].clone();
        schema["properties"]["spec"]["description"] = json!(format!("What the {kind} asks for."));
    }
    crd
}

/// Depth first: a schema, then those of its parts.
fn polish(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("nullable");
    if schema.get("default").is_some_and(|value| !value.is_string()) {
        schema.remove("default");
    }
    // Kubernetes knows no unsigned formats, and warns of those it does not know.
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        schema.remove("format");
        schema.insert("minimum".to_owned(), json!(0));
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = unwrapped(text);
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(polish);
    }
    for part in ["items", "additionalProperties"] {
        if let Some(part) = schema.get_mut(part) {
            polish(part);
        }
    }
}

/// All on one line: where lines end is a matter of the source.
fn unwrapped(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(schema: &Value, path: &str, see: &mut dyn FnMut(&str, &Value)) {
        see(path, schema);
        for (name, part) in schema["properties"].as_object().into_iter().flatten() {
            each(part, &format!("{path}.{name}"), see);
        }
        if schema["items"].is_object() {
            each(&schema["items"], &format!("{path}[]"), see);
        }
        if schema["additionalProperties"].is_object() {
            each(&schema["additionalProperties"], &format!("{path}{{}}"), see);
        }
    }

    fn schemas(mut see: impl FnMut(&str, &Value)) {
        for crd in definitions() {
            let name = crd["metadata"]["name"].as_str().expect("name");
            each(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], name, &mut see);
        }
    }

    #[test]
    fn every_field_is_described_on_one_line() {
        schemas(|path, schema| {
            if path.ends_with("[]") || path.ends_with("{}") {
                return;
            }
            let text = schema["description"].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{path} has no description");
            assert!(!text.contains('\n'), "{path}: {text}");
            assert!(!text.contains("Auto-generated"), "{path}: {text}");
        });
    }

    #[test]
    fn schemas_are_structural() {
        schemas(|path, schema| {
            let typed = schema["type"].is_string() || schema["x-kubernetes-preserve-unknown-fields"] == true;
            assert!(typed, "{path} has no type: {schema}");
            for junctor in ["anyOf", "oneOf", "allOf", "not", "$ref", "nullable"] {
                assert!(schema.get(junctor).is_none(), "{path}: {junctor}");
            }
        });
    }

    #[test]
    fn only_words_are_defaults() {
        let mut defaults = Vec::new();
        schemas(|path, schema| {
            if let Some(default) = schema.get("default") {
                defaults.push(format!("{path}={default}"));
            }
        });
        let expected = ["reconcilepolicies", "tenantquotas"]
            .map(|plural| format!("{plural}.policy.gatehouse.dev.spec.enforcement=\"Deny\""));
        assert_eq!(defaults, expected);
    }
}
