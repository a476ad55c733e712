//! The schemas of all served objects, in the subset of OpenAPI that Kubernetes uses.
//!
//! They are generated from the contract's `status_schema`, which is JSON Schema, and from the schemas of
//! `meta/v1`.
//!
//! **Invariant:** the schemas contain nothing that OpenAPI 3.0 or kube-openapi's structural schemas do not
//! know: null types, lists of types, constants, references with sibling keywords, unsigned formats.
//!
//! **Invariant:** every schema and every field has a description.

use gatehouse_apiservice::{
    Resource,
    action::{ActionKind, SUBRESOURCES, kinds},
    view::{GROUP, RESOURCES, VERSION},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResourceList, ListMeta, ObjectMeta};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// The prefix of schema names: the path of the Go package, reversed, as `kubectl explain` and the aggregator
/// expect.
const PACKAGE: &str = "dev.gatehouse.view.v1alpha1";
/// The place of schemas in an OpenAPI 3 document.
pub(super) const COMPONENTS: &str = "#/components/schemas/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
/// The schema name of an object of any kind, as Kubernetes has it.
pub(super) const ANY_OBJECT: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// All schemas by name, sorted.
pub(super) fn all(acts: bool) -> Map<String, Value> {
    // The schema of responses: a field that a response may omit is not required.
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
    for kind in kinds(acts) {
        let spec = kind.spec_schema.map(|schema| reference(schema(&mut generator).as_value()));
        let status = reference((kind.status_schema)(&mut generator).as_value());
        let metadata = reference(generator.subschema_for::<ObjectMeta>().as_value());
        schemas.insert(name_of(kind.kind), action(kind, &metadata, spec.as_ref(), &status));
    }
    schemas.insert(ANY_OBJECT.to_owned(), any_object());
    if acts {
        schemas.insert(meta_name_of("Patch"), patch());
    }
    refer_to::<APIResourceList>(&mut generator);

    for (name, mut schema) in generator.take_definitions(false) {
        simplify(&mut schema);
        schemas.insert(qualified(&name), schema);
    }
    if acts {
        admit_suspensions(&mut schemas);
    }
    schemas.sort_keys();
    schemas
}

/// The schema name of a kind of this group.
pub(super) fn name_of(kind: &str) -> String {
    format!("{PACKAGE}.{kind}")
}

/// The schema name of a kind of `meta/v1`.
pub(super) fn meta_name_of(kind: &str) -> String {
    format!("{META}.{kind}")
}

/// The kind of a list of the resource.
pub(super) fn list_kind(resource: &Resource) -> String {
    format!("{}List", resource.kind)
}

/// The value of `x-kubernetes-group-version-kind`.
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
            "metadata": described(metadata, "Name, namespace, labels and version. The name consists of the cluster and \
                the object that the row is about; the uid stays the same as long as the row exists."),
            "status": described(status, "What was observed. There is no spec, since the views are read-only."),
        },
        "x-kubernetes-group-version-kind": [group_version_kind(resource.kind)],
    })
}

fn action(action: &ActionKind, metadata: &Value, spec: Option<&Value>, status: &Value) -> Value {
    let mut of_row = "Name and namespace of the row.".to_owned();
    if spec.is_some() {
        of_row += " In a request, uid and resourceVersion are preconditions on the Flux object.";
    }
    let mut schema = json!({
        "description": action.description,
        "type": "object",
        "properties": {
            "apiVersion": api_version(),
            "kind": kind(action.kind),
            "metadata": described(metadata, &of_row),
            "status": described(status, "What was done, or found. Ignored in a request."),
        },
        "x-kubernetes-group-version-kind": [group_version_kind(action.kind)],
    });
    if let Some(spec) = spec {
        schema["properties"]["spec"] = described(spec, "What is wanted.");
    }
    schema
}

/// Lets a suspension pass as what its subresource shows it as: kubectl edit validates it by the schema of that kind.
fn admit_suspensions(schemas: &mut Map<String, Value>) {
    let shown = SUBRESOURCES.iter().filter(|subresource| subresource.shown_as == subresource.resource.kind);
    for subresource in shown {
        let name = name_of(subresource.shown_as);
        let of = |part: &str| name_of(&format!("{}{part}", subresource.kind.kind));
        let only = format!("Only of the subresource {}: ", subresource.name);
        let spec = json!({ "$ref": format!("{COMPONENTS}{}", of("Spec")) });
        if let Some(schema) = schemas.get_mut(&name) {
            schema["properties"]["spec"] = described(&spec, &format!("{only}what is wanted."));
        }
        let fields =
            schemas.get(&of("Status")).map(|status| status["properties"].clone()).unwrap_or_default();
        let Some(Value::Object(status)) = schemas.get_mut(&format!("{name}Status")) else { continue };
        status.shift_remove("required");
        let Some(Value::Object(known)) = status.get_mut("properties") else { continue };
        for (field, mut schema) in fields.as_object().cloned().unwrap_or_default() {
            if !known.contains_key(&field) {
                schema["description"] = format!("{only}{}", text(schema.get("description"))).into();
                known.insert(field, schema);
            }
        }
    }
}

fn patch() -> Value {
    json!({ "description": "Patch is the body of a PATCH request, by its media type.", "type": "object" })
}

fn any_object() -> Value {
    json!({ "description": "An object of any kind, or a List of such objects.", "type": "object" })
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

/// A reference with a description, in an `allOf`, because OpenAPI 3.0 ignores the siblings of `$ref`.
fn described(reference: &Value, description: &str) -> Value {
    json!({ "description": description, "allOf": [reference], "default": {} })
}

/// A generated reference, with the final name of its target.
fn reference(generated: &Value) -> Value {
    let mut reference = generated.clone();
    simplify(&mut reference);
    reference
}

/// The schema name of a generated type: types of the contract get the package's prefix, those of Kubernetes
/// have theirs.
fn qualified(name: &str) -> String {
    if name.starts_with("io.k8s.") { name.to_owned() } else { name_of(name) }
}

/// Converts generated JSON Schema, recursively, to the subset that the module describes.
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
    // Unknown fields are refused by the server, not by the schema: structural schemas do not know that keyword.
    if fields.get("additionalProperties") == Some(&Value::Bool(false)) {
        fields.remove("additionalProperties");
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

/// Joins the lines of each paragraph of a description: kubectl wraps them to the terminal's width.
fn join_lines(fields: &mut Map<String, Value>) {
    if let Some(Value::String(description)) = fields.get_mut("description") {
        let paragraphs: Vec<_> =
            description.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
}

/// Removes null alternatives: an optional field is omitted, never null.
fn drop_null_alternative(fields: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = fields.get_mut("anyOf") else { return };
    alternatives.retain(|alternative| alternative["type"] != "null");
    if alternatives.len() == 1 {
        let only = fields.remove("anyOf");
        fields.insert("allOf".into(), only.expect("it was there above"));
    }
}

/// Converts an enum to one list of values, each explained in the description, as kube-openapi does.
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

/// OpenAPI only knows signed integers. Every unsigned integer in the contract fits into a signed one of 64
/// bits.
fn sign_integers(fields: &mut Map<String, Value>) {
    let unsigned =
        fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint"));
    if unsigned {
        fields.insert("format".into(), "int64".into());
        fields.remove("minimum");
        fields.remove("maximum");
    }
}

/// Gives a `$ref` its full name. If it has siblings, it moves into an `allOf`.
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

/// Marks lists of conditions as maps by type, so that server-side tools can merge them.
fn mark_conditions(fields: &mut Map<String, Value>) {
    let condition = format!("{COMPONENTS}{}", name_of("Condition"));
    if fields.get("items").is_some_and(|items| items["$ref"] == condition.as_str()) {
        fields.insert("x-kubernetes-list-type".into(), "map".into());
        fields.insert("x-kubernetes-list-map-keys".into(), json!(["type"]));
    }
}
