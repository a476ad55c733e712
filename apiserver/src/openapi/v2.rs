//! The Swagger 2.0 document, for the aggregator's merged document and for old clients.

use serde_json::{Value, json};

use super::{
    info,
    parameters::Parameter,
    paths::{self, Operation, TAG},
    schemas::{self, COMPONENTS},
};

const DEFINITIONS: &str = "#/definitions/";

/// The whole document.
pub(super) fn document(acts: bool) -> Value {
    let paths = paths::items(acts, item);
    let mut definitions = schemas::all(acts);
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
    let schema = json!({ "$ref": format!("{DEFINITIONS}{}", operation.answer) });
    let described = json!({
        "description": operation.description,
        "operationId": operation.id,
        "tags": [TAG],
        "schemes": ["https"],
        "consumes": operation.body.as_ref().map_or(["*/*"].as_slice(), |_| operation.body_types()),
        "produces": operation.content_types,
        "responses": {
            (operation.code()): { "description": operation.outcome(), "schema": schema },
            "401": { "description": "Unauthorized" },
        },
    });
    let mut item = operation.item(described, parameter);
    if let Some(body) = &operation.body
        && let Some(described) = item.get_mut(operation.method)
    {
        let schema = json!({ "$ref": format!("{DEFINITIONS}{body}") });
        let body = json!({ "name": "body", "in": "body", "required": true, "schema": schema });
        match described.get_mut("parameters").and_then(Value::as_array_mut) {
            Some(parameters) => parameters.push(body),
            None => described["parameters"] = json!([body]),
        }
    }
    item
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
