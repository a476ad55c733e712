//! The Swagger 2.0 document, for the aggregator's merged document and for old clients.

use serde_json::{Map, Value, json};

use super::{
    info,
    parameters::Parameter,
    paths::{self, Operation, TAG},
    schemas::{self, COMPONENTS},
};

const DEFINITIONS: &str = "#/definitions/";

/// The whole document.
pub(super) fn document() -> Value {
    let paths: Map<_, _> =
        paths::all().into_iter().map(|operation| (operation.path.clone(), item(&operation))).collect();
    let mut definitions = schemas::all();
    definitions.values_mut().for_each(downgrade);
    json!({ "swagger": "2.0", "info": info(), "paths": paths, "definitions": definitions })
}

/// Converts a schema of OpenAPI 3, recursively, to Swagger 2.
fn downgrade(schema: &mut Value) {
    match schema {
        Value::Array(values) => values.iter_mut().for_each(downgrade),
        Value::Object(fields) => {
            fields.values_mut().for_each(downgrade);
            // In Kubernetes' Swagger, references have a description as sibling, and clients read it.
            if let Some([Value::Object(only)]) =
                fields.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
                && let Some(reference) = only.get("$ref").cloned()
            {
                fields.remove("allOf");
                fields.remove("default");
                fields.insert("$ref".into(), reference);
            }
            if let Some(Value::String(target)) = fields.get_mut("$ref")
                && let Some(name) = target.strip_prefix(COMPONENTS)
            {
                *target = format!("{DEFINITIONS}{name}");
            }
        }
        _ => {}
    }
}

fn item(operation: &Operation) -> Value {
    let get = json!({
        "description": operation.description,
        "operationId": operation.id,
        "tags": [TAG],
        "schemes": ["https"],
        "consumes": ["*/*"],
        "produces": operation.content_types,
        "responses": {
            "200": { "description": "OK", "schema": { "$ref": format!("{DEFINITIONS}{}", operation.answer) } },
            "401": { "description": "Unauthorized" },
        },
    });
    operation.item(get, parameter)
}

fn parameter(parameter: &Parameter) -> Value {
    let mut described = json!({
        "name": parameter.name,
        "in": if parameter.in_path { "path" } else { "query" },
        "description": parameter.description,
        "type": parameter.kind,
        "uniqueItems": true,
    });
    if parameter.in_path {
        described["required"] = true.into();
    }
    described
}
