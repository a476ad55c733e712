//! The metric labels of a request, as in k8s.io/apiserver, with a bounded number of values.

use std::collections::HashMap;
use std::sync::Arc;

use crate::request_info::{RequestInfo, ResourceRequest, Verb};

pub(super) const REQUEST: [&str; 8] =
    ["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"];
pub(super) const REQUEST_AND_CODE: [&str; 9] =
    ["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code"];
pub(super) const LONG_RUNNING: [&str; 7] =
    ["verb", "group", "version", "resource", "subresource", "scope", "component"];
pub(super) const TERMINATIONS: [&str; 8] =
    ["verb", "group", "version", "resource", "subresource", "scope", "component", "code"];

/// Always empty: neither the views nor the webhooks read a `dryRun` query parameter.
const DRY_RUN: &str = "";
const COMPONENT: &str = "apiserver";

/// Non-resource paths that appear as `subresource`, as in k8s.io/apiserver. A path below one of them has its label.
const PATHS: [&str; 13] = [
    "/healthz",
    "/livez",
    "/readyz",
    "/metrics",
    "/version",
    "/openapi/v2",
    "/openapi/v3",
    "/apis",
    "/api",
    "/debug",
    "/mutate",
    "/validate",
    "/quota",
];

/// A resource that may appear in labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedResource {
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource name.
    pub resource: String,
}

/// The resources that may appear in labels, by plural name.
pub struct ServedResources(HashMap<String, Vec<Arc<ServedResource>>>);

/// The labels of one request. Cheap to clone: all strings are static or shared.
#[derive(Debug, Clone)]
pub struct RequestLabels {
    verb: &'static str,
    resource: Option<Arc<ServedResource>>,
    subresource: &'static str,
    scope: &'static str,
}

impl ServedResources {
    pub(super) fn new(resources: &[ServedResource]) -> Self {
        let mut by_name: HashMap<String, Vec<_>> = HashMap::new();
        for resource in resources {
            by_name.entry(resource.resource.clone()).or_default().push(Arc::new(resource.clone()));
        }
        Self(by_name)
    }

    fn find(&self, request: &ResourceRequest) -> Option<Arc<ServedResource>> {
        let is_asked_for = |served: &&Arc<ServedResource>| {
            served.group == request.group && served.version == request.version
        };
        self.0.get(&request.resource)?.iter().find(is_asked_for).cloned()
    }
}

impl RequestLabels {
    /// The labels of a request. Names of resources and paths that are not served become empty labels.
    pub fn new(served: &ServedResources, info: &RequestInfo) -> Self {
        match info {
            RequestInfo::Resource(request) => {
                let resource = served.find(request);
                let is_status = resource.is_some() && request.subresource.as_deref() == Some("status");
                Self {
                    verb: verb(request.verb),
                    subresource: if is_status { "status" } else { "" },
                    scope: scope(request),
                    resource,
                }
            }
            RequestInfo::NonResource(request) => Self {
                verb: method(&request.verb),
                resource: None,
                subresource: path(&request.path),
                scope: "",
            },
        }
    }

    /// The verb and the resource, which are the name of a span.
    #[cfg(feature = "otel")]
    pub(crate) fn name(&self) -> (&str, &str) {
        (self.verb, self.resource()[2])
    }

    pub(super) fn request(&self) -> [&str; 8] {
        let [group, version, resource] = self.resource();
        [self.verb, DRY_RUN, group, version, resource, self.subresource, self.scope, COMPONENT]
    }

    pub(super) fn request_and_code<'a>(&'a self, code: &'a str) -> [&'a str; 9] {
        let [group, version, resource] = self.resource();
        [self.verb, DRY_RUN, group, version, resource, self.subresource, self.scope, COMPONENT, code]
    }

    pub(super) fn long_running(&self) -> [&str; 7] {
        let [group, version, resource] = self.resource();
        [self.verb, group, version, resource, self.subresource, self.scope, COMPONENT]
    }

    pub(super) fn terminations<'a>(&'a self, code: &'a str) -> [&'a str; 8] {
        let [group, version, resource] = self.resource();
        [self.verb, group, version, resource, self.subresource, self.scope, COMPONENT, code]
    }

    fn resource(&self) -> [&str; 3] {
        match &self.resource {
            Some(served) => [&served.group, &served.version, &served.resource],
            None => [""; 3],
        }
    }
}

fn scope(request: &ResourceRequest) -> &'static str {
    if request.name.is_some() || request.verb == Verb::Create {
        "resource"
    } else if request.namespace.is_some() {
        "namespace"
    } else {
        "cluster"
    }
}

fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
        Verb::DeleteCollection => "DELETECOLLECTION",
        Verb::Custom(_) | Verb::Unknown => "other",
    }
}

fn method(verb: &str) -> &'static str {
    match verb {
        "get" => "GET",
        "head" => "HEAD",
        "post" => "POST",
        "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "options" => "OPTIONS",
        _ => "other",
    }
}

fn path(path: &str) -> &'static str {
    let is_below =
        |known: &&str| path.strip_prefix(*known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    PATHS.iter().find(|known| is_below(known)).copied().unwrap_or_default()
}
