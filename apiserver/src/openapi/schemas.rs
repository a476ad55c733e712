//! The schemas of every object served, in the dialect that Kubernetes' OpenAPI speaks.
//!
//! Input: the contract's `status_schema`, which is JSON Schema, and the schemas of `meta/v1`. Invariants: none
//! of what OpenAPI 3.0 and kube-openapi's structural schemas do not know is left (null types, lists of types,
//! constants, references beside other keywords, unsigned formats); every schema and every field is described.

use gatehouse_apiservice::{
    Resource,
    view::{GROUP, RESOURCES, VERSION},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResourceList, ListMeta, ObjectMeta};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// Names are the Go package's path, turned around, as `kubectl explain` and the aggregator expect.
const PACKAGE: &str = "dev.gatehouse.view.v1alpha1";
/// Where OpenAPI 3 keeps schemas.
pub(super) const COMPONENTS: &str = "#/components/schemas/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// All schemas by name, in alphabetical order.
pub(super) fn all() -> Map<String, Value> {
    // The contract for reading: what may be left out of an answer is not required.
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.transforms.clear();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();

    let mut schemas = Map::new();
    for resource in RESOURCES {
        let status = reference((resource.status_schema)(&mut generator).as_value());
        let metadata = reference(generator.subschema_for::<ObjectMeta>().as_value());
        let list_metadata = reference(generator.subschema_for::<ListMeta>().as_value());
        schemas.insert(name_of(resource.kind), object(resource, &metadata, &status));
        schemas.insert(name_of(&list_kind(resource)), list(resource, &list_metadata));
    }
    refer_to::<APIResourceList>(&mut generator);

    for (name, mut schema) in generator.take_definitions(false) {
        simplify(&mut schema);
        schemas.insert(qualified(&name), schema);
    }
    schemas.sort_keys();
    schemas
}

/// The name of the schema of a kind of this group.
pub(super) fn name_of(kind: &str) -> String {
    format!("{PACKAGE}.{kind}")
}

/// The name of the schema of a kind of `meta/v1`.
pub(super) fn meta_name_of(kind: &str) -> String {
    format!("{META}.{kind}")
}

/// The kind of a resource's lists.
pub(super) fn list_kind(resource: &Resource) -> String {
    format!("{}List", resource.kind)
}

/// Group, version and kind, as extensions carry them.
pub(super) fn group_version_kind(kind: &str) -> Value {
    json!({ "group": GROUP, "version": VERSION, "kind": kind })
}

fn refer_to<T: JsonSchema>(generator: &mut SchemaGenerator) {
    let _ = generator.subschema_for::<T>();
}

fn object(resource: &Resource, metadata: &Value, status: &Value) -> Value {
    json!({
        "description": resource.description,
        "type": "object",
        "properties": {
            "apiVersion": api_version(),
            "kind": kind(resource.kind),
            "metadata": described(metadata, "Name, namespace, labels and version. The name tells which cluster and \
                which object is told about; the uid stays the same for as long as there is something to tell."),
            "status": described(status, "What was observed. There is no spec: nothing can be asked for here, only read."),
        },
        "x-kubernetes-group-version-kind": [group_version_kind(resource.kind)],
    })
}

fn list(resource: &Resource, metadata: &Value) -> Value {
    json!({
        "description": format!("{}List is a list of {} objects.", resource.kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": api_version(),
            "kind": kind(&list_kind(resource)),
            "metadata": described(metadata, "The version of the list, and how to go on if it is not complete."),
            "items": {
                "description": "The objects, ordered by namespace and name.",
                "type": "array",
                "items": { "$ref": format!("{COMPONENTS}{}", name_of(resource.kind)) },
            },
        },
        "x-kubernetes-group-version-kind": [group_version_kind(&list_kind(resource))],
    })
}

fn api_version() -> Value {
    json!({ "type": "string", "description": format!("Version of this representation of the object: {GROUP}/{VERSION}.") })
}

fn kind(kind: &str) -> Value {
    json!({ "type": "string", "description": format!("Kind of the object: {kind}.") })
}

/// A reference with a description of its own; OpenAPI 3.0 ignores whatever stands beside `$ref`.
fn described(reference: &Value, description: &str) -> Value {
    json!({ "description": description, "allOf": [reference], "default": {} })
}

/// A generated reference, under the name that its target gets.
fn reference(generated: &Value) -> Value {
    let mut reference = generated.clone();
    simplify(&mut reference);
    reference
}

/// The contract's types get the package's name; those of Kubernetes have theirs.
fn qualified(name: &str) -> String {
    if name.starts_with("io.k8s.") { name.to_owned() } else { name_of(name) }
}

/// Turns generated JSON Schema into the subset named above, all the way down.
fn simplify(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for keyword in ["properties", "patternProperties"] {
        if let Some(Value::Object(properties)) = fields.get_mut(keyword) {
            properties.values_mut().for_each(simplify);
        }
    }
    for keyword in ["items", "additionalProperties", "not"] {
        if let Some(subschema) = fields.get_mut(keyword) {
            simplify(subschema);
        }
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(subschemas)) = fields.get_mut(keyword) {
            subschemas.iter_mut().for_each(simplify);
        }
    }
    for keyword in ["$schema", "title", "nullable"] {
        fields.remove(keyword);
    }
    join_lines(fields);
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            fields["type"] = only.clone();
        }
    }
    drop_null_alternative(fields);
    merge_constants(fields);
    sign_integers(fields);
    qualify_reference(fields);
    mark_conditions(fields);
}

/// A paragraph is one line, however its comment was wrapped: kubectl wraps it to the terminal.
fn join_lines(fields: &mut Map<String, Value>) {
    if let Some(Value::String(description)) = fields.get_mut("description") {
        let paragraphs: Vec<_> =
            description.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
}

/// An optional field is left out, never null.
fn drop_null_alternative(fields: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = fields.get_mut("anyOf") else { return };
    alternatives.retain(|alternative| alternative["type"] != "null");
    if alternatives.len() == 1 {
        let only = fields.remove("anyOf");
        fields.insert("allOf".into(), only.expect("it was there above"));
    }
}

/// An enum: one list of values, each explained in the description, as kube-openapi does.
fn merge_constants(fields: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = fields.get("oneOf") else { return };
    let constants = alternatives.iter().map(|alternative| Some((alternative.get("const")?, alternative)));
    let Some(constants) = constants.collect::<Option<Vec<_>>>() else { return };
    let mut lines = vec![format!("{}\n\nPossible enum values:", text(fields.get("description")))];
    let explained =
        constants.iter().map(|(value, about)| format!(" - `{value}` {}", text(about.get("description"))));
    lines.extend(explained);
    let values = constants.into_iter().map(|(value, _)| value.clone()).collect();
    fields.remove("oneOf");
    fields.insert("type".into(), "string".into());
    fields.insert("enum".into(), values);
    fields.insert("description".into(), lines.join("\n").into());
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

/// OpenAPI knows signed integers only; every unsigned one that is used fits into 64 bits with a sign.
fn sign_integers(fields: &mut Map<String, Value>) {
    let unsigned =
        fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint"));
    if unsigned {
        fields.insert("format".into(), "int64".into());
        fields.remove("minimum");
        fields.remove("maximum");
    }
}

/// `$ref` under its full name, and alone: what stood beside it moves up, beside an `allOf`.
fn qualify_reference(fields: &mut Map<String, Value>) {
    let Some(Value::String(target)) = fields.get("$ref") else { return };
    let name = target.strip_prefix(COMPONENTS).unwrap_or(target);
    let reference = Value::String(format!("{COMPONENTS}{}", qualified(name)));
    if fields.len() == 1 {
        fields.insert("$ref".into(), reference);
    } else {
        fields.remove("$ref");
        fields.insert("allOf".into(), json!([{ "$ref": reference }]));
    }
}

/// There is one condition of each type, and server-side tools may merge them by it.
fn mark_conditions(fields: &mut Map<String, Value>) {
    let condition = format!("{COMPONENTS}{}", name_of("Condition"));
    if fields.get("items").is_some_and(|items| items["$ref"] == condition.as_str()) {
        fields.insert("x-kubernetes-list-type".into(), "map".into());
        fields.insert("x-kubernetes-list-map-keys".into(), json!(["type"]));
    }
}
