//! The OpenAPI 3.0 document of the group version.

use serde_json::{Map, Value, json};

use super::{
    info,
    parameters::Parameter,
    paths::{self, Operation, TAG},
    schemas::{self, COMPONENTS},
};

/// The whole document.
pub(super) fn document(acts: bool) -> Value {
    let paths = paths::items(acts, item);
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": { "schemas": schemas::all(acts) },
    })
}

fn item(operation: &Operation) -> Value {
    let schema = json!({ "$ref": format!("{COMPONENTS}{}", operation.answer) });
    let content: Map<_, _> = operation
        .content_types
        .iter()
        .map(|kind| ((*kind).to_owned(), json!({ "schema": schema })))
        .collect();
    let mut described = json!({
        "description": operation.description,
        "operationId": operation.id,
        "tags": [TAG],
        "responses": {
            (operation.code()): { "description": operation.outcome(), "content": content },
            "401": { "description": "Unauthorized" },
        },
    });
    if let Some(body) = &operation.body {
        let schema = json!({ "schema": { "$ref": format!("{COMPONENTS}{body}") } });
        let types = operation.body_types().iter();
        let content: Map<_, _> = types.map(|kind| ((*kind).to_owned(), schema.clone())).collect();
        described["requestBody"] = json!({ "content": content, "required": true });
    }
    operation.item(described, parameter)
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
