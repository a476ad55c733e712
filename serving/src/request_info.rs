//! The verb, the resource and the object of a request, parsed from its method and URL.
//!
//! The parser follows `RequestInfoFactory` of `k8s.io/apiserver/pkg/endpoints/request`, because RBAC rules refer to its
//! result: a path that is parsed in another way would be authorized as something else. **Invariant:** the path is
//! percent-decoded before it is split, so that an encoded slash cannot hide a segment from authorization.

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::{field_selector, query::Query};

/// A request, as RBAC rules describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestInfo {
    /// Below `/apis/GROUP/VERSION/` or `/api/VERSION/`.
    Resource(ResourceRequest),
    /// Any other path.
    NonResource(NonResourceRequest),
}

/// A request for objects of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRequest {
    /// The verb.
    pub verb: Verb,
    /// API group; empty below `/api`.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource name, as the client wrote it.
    pub resource: String,
    /// The segment after the object's name, such as `status`.
    pub subresource: Option<String>,
    /// `None` for cluster-scoped resources and for all namespaces.
    pub namespace: Option<String>,
    /// The object's name. A list or watch has one too if its field selector requires `metadata.name=NAME`, so that a
    /// role with `resourceNames` allows it.
    pub name: Option<String>,
    /// The raw `fieldSelector` of a list, watch or deletecollection.
    pub field_selector: Option<String>,
    /// The raw `labelSelector` of a list, watch or deletecollection.
    pub label_selector: Option<String>,
    /// Whether the path has segments after the subresource. No such path is served.
    pub has_extra_segments: bool,
}

/// A request for a path that is not a resource: health, discovery, metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonResourceRequest {
    /// The method in lower case, as in RBAC rules with `nonResourceURLs`.
    pub verb: String,
    /// The percent-decoded path.
    pub path: String,
}

/// The verbs of RBAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// GET or HEAD of one object.
    Get,
    /// GET or HEAD of a collection.
    List,
    /// GET of a collection with `watch`, or any request below the deprecated `watch/` prefix.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
    /// A verb of RBAC rules that has no HTTP method, such as `suspend`. The parser never returns it.
    Custom(&'static str),
    /// A method that has no verb in Kubernetes. Only an RBAC rule with `*` allows it.
    Unknown,
}

/// The URL cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestInfoError {
    /// The percent-decoded path is not UTF-8.
    #[error("the path is not valid UTF-8")]
    NotUtf8,
    /// `/apis/GROUP/VERSION/watch` without a resource.
    #[error("the path names no resource to watch")]
    NothingToWatch,
}

impl RequestInfo {
    /// Parses a request's method and URL.
    pub fn parse(method: &Method, uri: &Uri) -> Result<Self, RequestInfoError> {
        let path = percent_decode_str(uri.path()).decode_utf8().map_err(|_| RequestInfoError::NotUtf8)?;
        let trimmed = path.trim_matches('/');
        let segments: Vec<&str> = if trimmed.is_empty() { Vec::new() } else { trimmed.split('/').collect() };
        let (group, version, rest) = match segments.as_slice() {
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            _ => {
                let verb = method.as_str().to_ascii_lowercase();
                return Ok(Self::NonResource(NonResourceRequest { verb, path: path.into_owned() }));
            }
        };
        ResourceRequest::parse(method, group, version, rest, uri.query().unwrap_or_default())
            .map(Self::Resource)
    }

    /// Whether the request is a watch. It lasts until the client or the server ends it, so neither the request deadline
    /// nor the in-flight limit applies.
    pub fn is_long_running(&self) -> bool {
        matches!(self, Self::Resource(resource) if resource.verb == Verb::Watch)
    }

    /// The verb as in RBAC rules.
    pub fn verb(&self) -> &str {
        match self {
            Self::Resource(resource) => resource.verb.as_str(),
            Self::NonResource(other) => &other.verb,
        }
    }
}

impl ResourceRequest {
    fn parse(
        method: &Method,
        group: &str,
        version: &str,
        rest: &[&str],
        query: &str,
    ) -> Result<Self, RequestInfoError> {
        let (watch_prefix, rest) = match rest {
            ["watch"] => return Err(RequestInfoError::NothingToWatch),
            ["watch", rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        // `namespaces/NS`, `namespaces/NS/status` and `namespaces/NS/finalize` are the Namespace object itself; any
        // other segment is a resource in the namespace.
        let (namespace, rest) = match rest {
            ["namespaces", namespace, resource, ..] if !matches!(*resource, "status" | "finalize") => {
                (Some(*namespace), &rest[2..])
            }
            ["namespaces", namespace, ..] => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let filled = |segment: Option<&&str>| segment.filter(|s| !s.is_empty()).map(|s| (*s).to_owned());
        let mut request = Self {
            verb: if watch_prefix { Verb::Watch } else { Verb::of(method) },
            group: group.to_owned(),
            version: version.to_owned(),
            resource: rest.first().copied().unwrap_or_default().to_owned(),
            subresource: filled(rest.get(2)),
            namespace: namespace.filter(|namespace| !namespace.is_empty()).map(str::to_owned),
            name: filled(rest.get(1)),
            field_selector: None,
            label_selector: None,
            has_extra_segments: rest.len() > 3,
        };
        request.refine(&Query::parse(query), watch_prefix);
        Ok(request)
    }

    /// Without a name, GET means list or watch, and DELETE means deletecollection. Those have selectors.
    fn refine(&mut self, query: &Query<'_>, watch_prefix: bool) {
        let given = |name| Some(query.text(name)).filter(|text| !text.is_empty()).map(str::to_owned);
        let field_selector = given("fieldSelector");
        if self.name.is_none() {
            match self.verb {
                Verb::Get => {
                    self.verb =
                        if query.flag("watch").unwrap_or_default() { Verb::Watch } else { Verb::List };
                    self.name = field_selector.as_deref().and_then(field_selector::required_name);
                }
                Verb::Delete => self.verb = Verb::DeleteCollection,
                _ => {}
            }
        }
        // kube-apiserver leaves selectors out of the authorization of the deprecated watch prefix, which applies them
        // in part.
        if !watch_prefix && matches!(self.verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
            self.field_selector = field_selector;
            self.label_selector = given("labelSelector");
        }
    }
}

impl Verb {
    fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::Get,
            Method::POST => Self::Create,
            Method::PUT => Self::Update,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            _ => Self::Unknown,
        }
    }

    /// The verb as in RBAC rules; empty for [`Verb::Unknown`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Custom(verb) => verb,
            Self::Unknown => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(method: &Method, uri: &str) -> RequestInfo {
        RequestInfo::parse(method, &uri.parse().expect("URI")).expect("readable")
    }

    /// `verb group/version resource/subresource namespace name`, with a dash for each part that is missing.
    fn summary(method: &Method, uri: &str) -> String {
        let dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        match parse(method, uri) {
            RequestInfo::NonResource(other) => format!("{} {}", other.verb, other.path),
            RequestInfo::Resource(r) => format!(
                "{} {}/{} {}/{} {} {}",
                r.verb.as_str(),
                r.group,
                r.version,
                r.resource,
                dash(&r.subresource),
                dash(&r.namespace),
                dash(&r.name)
            ),
        }
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        for (method, uri, expected) in [
            (Method::GET, "/", "get /"),
            (Method::GET, "/apis", "get /apis"),
            (Method::GET, "/apis/g/v", "get /apis/g/v"),
            (Method::GET, "/apis/g/v/", "get /apis/g/v/"),
            (Method::HEAD, "/healthz", "head /healthz"),
            (Method::GET, "/apis/g/v/things", "list g/v things/- - -"),
            (Method::GET, "/apis/g/v/things/", "list g/v things/- - -"),
            (Method::GET, "/apis/g/v/things/a", "get g/v things/- - a"),
            (Method::GET, "/apis/g/v/things/a/status", "get g/v things/status - a"),
            (Method::GET, "/apis/g/v/namespaces/n/things", "list g/v things/- n -"),
            (Method::GET, "/apis/g/v/namespaces/n/things/a", "get g/v things/- n a"),
            (Method::GET, "/apis/g/v/namespaces/n/things/a/scale", "get g/v things/scale n a"),
            (Method::GET, "/apis/g/v/namespaces", "list g/v namespaces/- - -"),
            (Method::GET, "/api/v1/namespaces/n", "get /v1 namespaces/- n n"),
            (Method::GET, "/api/v1/namespaces/n/status", "get /v1 namespaces/status n n"),
            (Method::GET, "/api/v1/pods", "list /v1 pods/- - -"),
            (Method::GET, "/apis/g/v/things?watch=true", "watch g/v things/- - -"),
            (Method::GET, "/apis/g/v/things?watch=1", "watch g/v things/- - -"),
            (Method::GET, "/apis/g/v/things?watch", "watch g/v things/- - -"),
            (Method::GET, "/apis/g/v/things?watch=False", "list g/v things/- - -"),
            (Method::GET, "/apis/g/v/things?watch=0&watch=1", "list g/v things/- - -"),
            (Method::GET, "/apis/g/v/things/a?watch=true", "get g/v things/- - a"),
            (Method::GET, "/apis/g/v/watch/things", "watch g/v things/- - -"),
            (Method::GET, "/apis/g/v/watch/namespaces/n/things/a", "watch g/v things/- n a"),
            (Method::GET, "/apis/g/v/things?fieldSelector=metadata.name%3Da", "list g/v things/- - a"),
            (Method::GET, "/apis/g/v/things?fieldSelector=metadata.name!=a", "list g/v things/- - -"),
            (Method::GET, "/apis/g/v/things?fieldSelector=metadata.name=a/b", "list g/v things/- - -"),
            (Method::POST, "/apis/g/v/namespaces/n/things", "create g/v things/- n -"),
            (Method::PUT, "/apis/g/v/things/a", "update g/v things/- - a"),
            (Method::PATCH, "/apis/g/v/things/a", "patch g/v things/- - a"),
            (Method::DELETE, "/apis/g/v/things/a", "delete g/v things/- - a"),
            (Method::DELETE, "/apis/g/v/things", "deletecollection g/v things/- - -"),
            (Method::OPTIONS, "/apis/g/v/things", " g/v things/- - -"),
            (Method::GET, "/apis/g/v/namespaces/n%2Fthings%2Fa", "get g/v things/- n a"),
            (Method::GET, "/apis/g/v/th%69ngs", "list g/v things/- - -"),
        ] {
            assert_eq!(summary(&method, uri), expected, "{method} {uri}");
        }
    }

    #[test]
    fn selectors_are_kept_for_lists_and_dropped_behind_the_watch_prefix() {
        let RequestInfo::Resource(list) =
            parse(&Method::GET, "/apis/g/v/things?labelSelector=a%3Db&fieldSelector=")
        else {
            panic!("a resource")
        };
        assert_eq!((list.label_selector.as_deref(), list.field_selector), (Some("a=b"), None));
        let RequestInfo::Resource(watch) = parse(&Method::GET, "/apis/g/v/watch/things?labelSelector=a%3Db")
        else {
            panic!("a resource")
        };
        assert_eq!(watch.label_selector, None);
    }

    #[test]
    fn longer_paths_are_marked() {
        let RequestInfo::Resource(request) = parse(&Method::GET, "/apis/g/v/things/a/status/x") else {
            panic!("a resource")
        };
        assert!(request.has_extra_segments);
    }

    #[test]
    fn unreadable_paths_are_errors() {
        let read = |uri: &str| RequestInfo::parse(&Method::GET, &uri.parse().expect("URI"));
        assert_eq!(read("/apis/g/v/%FF"), Err(RequestInfoError::NotUtf8));
        assert_eq!(read("/apis/g/v/watch"), Err(RequestInfoError::NothingToWatch));
    }

    proptest! {
        #[test]
        fn any_path_and_query_is_read_without_panic(path in "(/[a-z%0-9./]{0,12}){0,8}", query in "[a-zS=&%,!0-9.]{0,60}") {
            if let Ok(uri) = format!("/apis{path}?fieldSelector={query}&{query}").parse::<Uri>() {
                let _ = RequestInfo::parse(&Method::GET, &uri);
            }
        }
    }
}
