//! The parameters in queries and paths, documented once for all operations.

/// A parameter of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// The parameter's type in OpenAPI.
    pub(super) kind: &'static str,
    pub(super) description: &'static str,
    /// Whether it is part of the path, and therefore required.
    pub(super) in_path: bool,
}

const fn query(name: &'static str, kind: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind, description, in_path: false }
}

pub(super) const NAMESPACE: Parameter =
    Parameter { name: "namespace", kind: "string", description: "Namespace of the object.", in_path: true };

pub(super) const NAME: Parameter =
    Parameter { name: "name", kind: "string", description: "Name of the object.", in_path: true };

const PRETTY: Parameter = query("pretty", "string", "If 'true', the JSON is indented.");

const INCLUDE_OBJECT: Parameter = query(
    "includeObject",
    "string",
    "What each row of a Table contains beside its cells: None, Metadata (the default) or Object. Ignored for other \
     representations.",
);

/// The query parameters of a subresource that is read.
pub(super) const PRETTY_ALONE: [Parameter; 1] = [PRETTY];

/// The query parameters of a subresource that is written.
pub(super) const WRITE: [Parameter; 4] = [
    query("dryRun", "string", "All: everything is checked, admission included, and nothing is written."),
    query(
        "fieldManager",
        "string",
        "Who writes. It is checked and not used: Gatehouse writes as the field manager gatehouse.",
    ),
    // kubectl validates documents by itself, and less strictly, if an operation does not have it.
    query("fieldValidation", "string", "It is not used: unknown fields are always refused, as by Strict."),
    PRETTY,
];

/// The query parameters of a get.
pub(super) const GET: [Parameter; 3] = [
    INCLUDE_OBJECT,
    PRETTY,
    query("resourceVersion", "string", "The oldest acceptable version. Unset: the most recent."),
];

/// The query parameters of a list or watch.
pub(super) const LIST: [Parameter; 12] = [
    query(
        "allowWatchBookmarks",
        "boolean",
        "Whether a watch may send BOOKMARK events, which report the current version while nothing changes.",
    ),
    query(
        "continue",
        "string",
        "Where to continue: `metadata.continue` of the previous page. All pages are of the version of the first. When \
         that version is no longer available, the response is 410 with a token to continue at the current version.",
    ),
    query(
        "fieldSelector",
        "string",
        "Selects by metadata.name, metadata.namespace and the resource's own selectable fields, with =, == and !=. \
         Several terms are separated by commas, and all must hold.",
    ),
    INCLUDE_OBJECT,
    query("labelSelector", "string", "Selects by labels, by equality (a=b,c!=d) or by sets (a in (b,c),!d)."),
    query(
        "limit",
        "integer",
        "The most objects to list at once. If there are more, `metadata.continue` continues the list. Unset or 0: \
         all.",
    ),
    PRETTY,
    query(
        "resourceVersion",
        "string",
        "A list: the oldest acceptable version (see resourceVersionMatch); 0: any version; unset: the most recent. A \
         watch: the version after which to start; unset or 0: first an event for each existing object.",
    ),
    query(
        "resourceVersionMatch",
        "string",
        "The meaning of resourceVersion in a list: Exact or NotOlderThan. With sendInitialEvents it must be \
         NotOlderThan.",
    ),
    query(
        "sendInitialEvents",
        "boolean",
        "Whether a watch starts with an ADDED event for each existing object, followed by a BOOKMARK with the \
         annotation `k8s.io/initial-events-end`. Not for lists.",
    ),
    query("timeoutSeconds", "integer", "Time after which a watch ends. Unset: between 30 and 60 minutes."),
    query("watch", "boolean", "Whether to watch for changes instead of listing."),
];
