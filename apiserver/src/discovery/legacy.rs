//! Legacy discovery, one document per path, of `meta/v1`: for old clients and the aggregator's availability
//! checks.

use gatehouse_apiservice::{
    Resource,
    action::Subresource,
    view::{API_VERSION, CATEGORY, GROUP, RESOURCES, VERSION},
};
use serde_json::{Value, json};

use super::VERBS;

/// The document of `/api`: this server has no core group.
pub(super) fn core_versions() -> Value {
    json!({ "kind": "APIVersions", "apiVersion": "v1", "versions": [], "serverAddressByClientCIDRs": [] })
}

/// The document of `/apis`.
pub(super) fn groups() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group_fields()] })
}

/// The document of `/apis/GROUP`.
pub(super) fn group() -> Value {
    let mut group = json!({ "kind": "APIGroup", "apiVersion": "v1" });
    if let (Value::Object(group), Value::Object(fields)) = (&mut group, group_fields()) {
        group.extend(fields);
    }
    group
}

/// The document of `/apis/GROUP/VERSION`.
pub(super) fn resources(subresources: &[&Subresource]) -> Value {
    let resources =
        RESOURCES.into_iter().map(resource).chain(subresources.iter().map(|own| subresource(own)));
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": API_VERSION,
        "resources": resources.collect::<Vec<_>>(),
    })
}

fn group_fields() -> Value {
    let version = json!({ "groupVersion": API_VERSION, "version": VERSION });
    json!({ "name": GROUP, "versions": [version], "preferredVersion": version })
}

fn subresource(subresource: &Subresource) -> Value {
    json!({
        "name": format!("{}/{}", subresource.resource.plural, subresource.name),
        "singularName": "",
        "namespaced": subresource.resource.namespaced,
        "kind": subresource.shown_as,
        "verbs": subresource.verbs,
    })
}

fn resource(resource: &Resource) -> Value {
    json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": VERBS,
        "shortNames": resource.short_names,
        "categories": [CATEGORY],
    })
}
