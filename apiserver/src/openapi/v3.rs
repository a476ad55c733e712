//! The OpenAPI 3.0 document of the group version.

use serde_json::{Map, Value, json};

use super::{
    info,
    parameters::Parameter,
    paths::{self, Operation, TAG},
    schemas::{self, COMPONENTS},
};

/// The whole document.
pub(super) fn document() -> Value {
    let paths: Map<_, _> =
        paths::all().into_iter().map(|operation| (operation.path.clone(), item(&operation))).collect();
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": { "schemas": schemas::all() },
    })
}

fn item(operation: &Operation) -> Value {
    let schema = json!({ "$ref": format!("{COMPONENTS}{}", operation.answer) });
    let content: Map<_, _> = operation
        .content_types
        .iter()
        .map(|kind| ((*kind).to_owned(), json!({ "schema": schema })))
        .collect();
    let get = json!({
        "description": operation.description,
        "operationId": operation.id,
        "tags": [TAG],
        "responses": {
            "200": { "description": "OK", "content": content },
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
        "schema": { "type": parameter.kind, "uniqueItems": true },
    });
    if parameter.in_path {
        described["required"] = true.into();
    }
    described
}
