//! The operations: for each resource a list per scope, and a get.

use gatehouse_apiservice::{
    Resource,
    view::{API_VERSION, RESOURCES},
};
use serde_json::{Value, json};

use super::{
    parameters::{self, Parameter},
    schemas,
};

/// The group and version in operation ids.
const ID: &str = "ViewGatehouseDevV1alpha1";
/// The tag that groups the operations in generated documentation.
pub(super) const TAG: &str = "viewGatehouseDev_v1alpha1";

/// A path and its only operation, GET.
pub(super) struct Operation {
    pub(super) path: String,
    pub(super) id: String,
    pub(super) description: String,
    /// `x-kubernetes-action` and the kind that it acts on; `None` for discovery.
    pub(super) action: Option<(&'static str, &'static str)>,
    pub(super) path_parameters: Vec<Parameter>,
    pub(super) query_parameters: &'static [Parameter],
    /// The name of the response's schema.
    pub(super) answer: String,
    pub(super) content_types: &'static [&'static str],
}

impl Operation {
    /// The path item around `get`, with the fields that both OpenAPI versions have in common. `parameter`
    /// writes a parameter, which differs between them.
    pub(super) fn item(&self, mut get: Value, parameter: impl Fn(&Parameter) -> Value) -> Value {
        if !self.query_parameters.is_empty() {
            get["parameters"] = self.query_parameters.iter().map(&parameter).collect();
        }
        if let Some((action, kind)) = self.action {
            get["x-kubernetes-action"] = action.into();
            get["x-kubernetes-group-version-kind"] = schemas::group_version_kind(kind);
        }
        let mut item = json!({ "get": get });
        if !self.path_parameters.is_empty() {
            item["parameters"] = self.path_parameters.iter().map(&parameter).collect();
        }
        item
    }
}

/// All operations of the group, ordered by path.
pub(super) fn all() -> Vec<Operation> {
    let mut operations = vec![resources()];
    for resource in RESOURCES {
        operations.push(list(resource, false));
        if resource.namespaced {
            operations.push(list(resource, true));
        }
        operations.push(get(resource));
    }
    operations.sort_by(|a, b| a.path.cmp(&b.path));
    operations
}

fn resources() -> Operation {
    Operation {
        path: format!("/apis/{API_VERSION}/"),
        id: format!("get{ID}APIResources"),
        description: "get available resources".into(),
        action: None,
        path_parameters: Vec::new(),
        query_parameters: &[],
        answer: schemas::meta_name_of("APIResourceList"),
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
        id,
        description: format!("list or watch objects of kind {kind}"),
        action: Some(("list", kind)),
        path_parameters: in_namespace.then_some(parameters::NAMESPACE).into_iter().collect(),
        query_parameters: &parameters::LIST,
        answer: schemas::name_of(&schemas::list_kind(resource)),
        content_types: &["application/json", "application/json;stream=watch"],
    }
}

fn get(resource: &Resource) -> Operation {
    let Resource { plural, kind, .. } = resource;
    let (collection, scope, path_parameters) = if resource.namespaced {
        (namespaced(plural), "Namespaced", vec![parameters::NAME, parameters::NAMESPACE])
    } else {
        (format!("/apis/{API_VERSION}/{plural}"), "", vec![parameters::NAME])
    };
    Operation {
        path: format!("{collection}/{{name}}"),
        id: format!("read{ID}{scope}{kind}"),
        description: format!("read the specified {kind}"),
        action: Some(("get", kind)),
        path_parameters,
        query_parameters: &parameters::GET,
        answer: schemas::name_of(kind),
        content_types: &["application/json"],
    }
}

fn namespaced(plural: &str) -> String {
    format!("/apis/{API_VERSION}/namespaces/{{namespace}}/{plural}")
}
