//! The operations: for each resource a list per scope, and a get; those of subresources.

use gatehouse_apiservice::{
    Resource,
    action::{Subresource, subresources},
    view::{API_VERSION, RESOURCES},
};
use serde_json::{Map, Value, json};

use super::{
    parameters::{self, Parameter},
    schemas,
};

/// The group and version in operation ids.
const ID: &str = "ViewGatehouseDevV1alpha1";
/// The tag that groups the operations in generated documentation.
pub(super) const TAG: &str = "viewGatehouseDev_v1alpha1";

/// An operation on a path.
pub(super) struct Operation {
    pub(super) path: String,
    /// `get`, `post`, `put` or `patch`.
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) description: String,
    /// `x-kubernetes-action` and the kind that it acts on; `None` for discovery.
    pub(super) action: Option<(&'static str, &'static str)>,
    pub(super) path_parameters: Vec<Parameter>,
    pub(super) query_parameters: &'static [Parameter],
    /// The name of the response's schema.
    pub(super) answer: String,
    /// The name of the schema of its body, if it has one.
    pub(super) body: Option<String>,
    pub(super) content_types: &'static [&'static str],
}

impl Operation {
    /// The HTTP status of success.
    pub(super) fn code(&self) -> &'static str {
        if self.method == "post" { "201" } else { "200" }
    }

    /// What that status means.
    pub(super) fn outcome(&self) -> &'static str {
        if self.method == "post" { "Created" } else { "OK" }
    }

    /// The media types of its body.
    pub(super) fn body_types(&self) -> &'static [&'static str] {
        match self.method {
            "patch" => &[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
            ],
            _ => &["application/json"],
        }
    }

    /// The path item around an operation, with the fields that both OpenAPI versions have in common. `parameter`
    /// writes a parameter, which differs between them.
    pub(super) fn item(&self, mut described: Value, parameter: impl Fn(&Parameter) -> Value) -> Value {
        if !self.query_parameters.is_empty() {
            described["parameters"] = self.query_parameters.iter().map(&parameter).collect();
        }
        if let Some((action, kind)) = self.action {
            described["x-kubernetes-action"] = action.into();
            described["x-kubernetes-group-version-kind"] = schemas::group_version_kind(kind);
        }
        let mut item = json!({ (self.method): described });
        if !self.path_parameters.is_empty() {
            item["parameters"] = self.path_parameters.iter().map(&parameter).collect();
        }
        item
    }
}

/// The path items of all operations, ordered by path. `item` writes that of one operation.
pub(super) fn items(acts: bool, item: impl Fn(&Operation) -> Value) -> Map<String, Value> {
    let mut items = Map::new();
    for operation in all(acts) {
        let item = item(&operation);
        let fields = items.entry(operation.path).or_insert_with(|| json!({}));
        if let (Value::Object(fields), Value::Object(item)) = (fields, item) {
            fields.extend(item);
        }
    }
    items
}

/// All operations of the group, ordered by path. `acts`: whether actions are enabled.
pub(super) fn all(acts: bool) -> Vec<Operation> {
    let mut operations = vec![resources()];
    for resource in RESOURCES {
        operations.push(list(resource, false));
        if resource.namespaced {
            operations.push(list(resource, true));
        }
        operations.push(get(resource));
    }
    operations.extend(subresources(acts).flat_map(subresource));
    operations.sort_by(|a, b| a.path.cmp(&b.path));
    operations
}

fn resources() -> Operation {
    Operation {
        path: format!("/apis/{API_VERSION}/"),
        method: "get",
        id: format!("get{ID}APIResources"),
        description: "get available resources".into(),
        action: None,
        path_parameters: Vec::new(),
        query_parameters: &[],
        answer: schemas::meta_name_of("APIResourceList"),
        body: None,
        content_types: &["application/json"],
    }
}

fn list(resource: &Resource, in_namespace: bool) -> Operation {
    let Resource { plural, kind, .. } = resource;
    let (path, id) = match (resource.namespaced, in_namespace) {
        (true, true) => (namespaced(plural), format!("list{ID}Namespaced{kind}")),
        (true, false) => (format!("/apis/{API_VERSION}/{plural}"), format!("list{ID}{kind}ForAllNamespaces")),
        (false, _) => (format!("/apis/{API_VERSION}/{plural}"), format!("list{ID}{kind}")),
    };
    Operation {
        path,
        method: "get",
        id,
        description: format!("list or watch objects of kind {kind}"),
        action: Some(("list", kind)),
        path_parameters: in_namespace.then_some(parameters::NAMESPACE).into_iter().collect(),
        query_parameters: &parameters::LIST,
        answer: schemas::name_of(&schemas::list_kind(resource)),
        body: None,
        content_types: &["application/json", "application/json;stream=watch"],
    }
}

fn get(resource: &Resource) -> Operation {
    let kind = resource.kind;
    let (path, scope, path_parameters) = object(resource);
    Operation {
        path,
        method: "get",
        id: format!("read{ID}{scope}{kind}"),
        description: format!("read the specified {kind}"),
        action: Some(("get", kind)),
        path_parameters,
        query_parameters: &parameters::GET,
        answer: schemas::name_of(kind),
        body: None,
        content_types: &["application/json"],
    }
}

fn subresource(subresource: &Subresource) -> impl Iterator<Item = Operation> {
    let Subresource { resource, name, kind, shown_as, description, .. } = subresource;
    let title = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
    subresource.verbs.iter().map(move |verb| {
        let (method, action, word) = match *verb {
            "create" => ("post", "post", "create"),
            "update" => ("put", "put", "replace"),
            "patch" => ("patch", "patch", "patch"),
            _ => ("get", "get", "read"),
        };
        let answer = schemas::name_of(kind.kind);
        let body = match method {
            "get" => None,
            "patch" => Some(schemas::meta_name_of("Patch")),
            _ if kind.takes_any_object => Some(schemas::ANY_OBJECT.to_owned()),
            _ => Some(answer.clone()),
        };
        let writes = body.is_some() && !kind.takes_any_object;
        let (path, scope, path_parameters) = object(resource);
        Operation {
            path: format!("{path}/{name}"),
            method,
            id: format!("{word}{ID}{scope}{}{title}", resource.kind),
            description: format!("{word}: {description}"),
            action: Some((action, shown_as)),
            path_parameters,
            query_parameters: if writes { &parameters::WRITE } else { &parameters::PRETTY_ALONE },
            answer,
            body,
            content_types: &["application/json"],
        }
    })
}

/// The path of an object, what operation ids say of its scope, and the parameters in the path.
fn object(resource: &Resource) -> (String, &'static str, Vec<Parameter>) {
    let plural = resource.plural;
    if resource.namespaced {
        (
            format!("{}/{{name}}", namespaced(plural)),
            "Namespaced",
            vec![parameters::NAME, parameters::NAMESPACE],
        )
    } else {
        (format!("/apis/{API_VERSION}/{plural}/{{name}}"), "", vec![parameters::NAME])
    }
}

fn namespaced(plural: &str) -> String {
    format!("/apis/{API_VERSION}/namespaces/{{namespace}}/{plural}")
}
