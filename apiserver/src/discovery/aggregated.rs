//! Aggregated discovery: everything in one document, of `apidiscovery.k8s.io` (KEP-3352).

use gatehouse_apiservice::{
    Resource,
    action::Subresource,
    view::{CATEGORY, GROUP, RESOURCES, VERSION},
};
use serde_json::{Value, json};

use super::VERBS;

/// The group version of the document itself. Both versions have the same fields.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    V2,
    V2Beta1,
}

impl Format {
    /// Clients compare the content type parameter by parameter before they decode the document.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Self::V2Beta1 => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        }
    }

    const fn api_version(self) -> &'static str {
        match self {
            Self::V2 => "apidiscovery.k8s.io/v2",
            Self::V2Beta1 => "apidiscovery.k8s.io/v2beta1",
        }
    }
}

/// The document of `/api`: this server has no core group.
pub(super) fn core(format: Format) -> Value {
    list(format, json!([]))
}

/// The document of `/apis`.
pub(super) fn groups(format: Format, subresources: &[&Subresource]) -> Value {
    let resources = RESOURCES.map(|described| resource(described, subresources));
    let version = json!({ "version": VERSION, "resources": resources, "freshness": "Current" });
    list(format, json!([{ "metadata": { "name": GROUP }, "versions": [version] }]))
}

// Takes `items` by value because the callers only have temporaries, which `json!` borrows.
#[expect(clippy::needless_pass_by_value)]
fn list(format: Format, items: Value) -> Value {
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format.api_version(),
        "metadata": {},
        "items": items,
    })
}

fn resource(resource: &Resource, subresources: &[&Subresource]) -> Value {
    let mut described = json!({
        "resource": resource.plural,
        // Never null: clients before 0.26.4 panic on it (kubernetes#118361).
        "responseKind": { "group": GROUP, "version": VERSION, "kind": resource.kind },
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": VERBS,
        "shortNames": resource.short_names,
        "categories": [CATEGORY],
    });
    let own = subresources.iter().filter(|subresource| subresource.resource.plural == resource.plural);
    let own: Vec<_> = own.map(|own| subresource(own)).collect();
    if !own.is_empty() {
        described["subresources"] = own.into();
    }
    described
}

fn subresource(subresource: &Subresource) -> Value {
    json!({
        "subresource": subresource.name,
        "responseKind": { "group": GROUP, "version": VERSION, "kind": subresource.shown_as },
        "verbs": subresource.verbs,
    })
}
