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
    "What each row of a Table carries beside its cells: None, Metadata (the default) or Object. Without effect on \
     other representations.",
);

/// The query parameters of a get.
pub(super) const GET: [Parameter; 3] = [
    INCLUDE_OBJECT,
    PRETTY,
    query("resourceVersion", "string", "The oldest version that will do. Unset: the most recent."),
];

/// The query parameters of a list or watch.
pub(super) const LIST: [Parameter; 12] = [
    query(
        "allowWatchBookmarks",
        "boolean",
        "Whether a watch may send BOOKMARK events, which tell the version reached when nothing has changed.",
    ),
    query(
        "continue",
        "string",
        "Where to go on: `metadata.continue` of the page before. Every page is of the version of the first. Once \
         that version is forgotten, the answer is 410 and carries a token with which the list goes on at the \
         present version.",
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
        "The most objects to list at once. If there are more, `metadata.continue` tells how to go on. Unset or 0: \
         all.",
    ),
    PRETTY,
    query(
        "resourceVersion",
        "string",
        "A list: the oldest version that will do (see resourceVersionMatch); 0: whatever is at hand; unset: the most \
         recent. A watch: the version after which to start; unset or 0: with an event for each object there is.",
    ),
    query(
        "resourceVersionMatch",
        "string",
        "What resourceVersion asks for in a list: Exact or NotOlderThan. With sendInitialEvents it must be \
         NotOlderThan.",
    ),
    query(
        "sendInitialEvents",
        "boolean",
        "Whether a watch starts with an ADDED event for each object there is, followed by a BOOKMARK with the \
         annotation `k8s.io/initial-events-end`. Not for lists.",
    ),
    query("timeoutSeconds", "integer", "After how long a watch ends. Unset: between 30 and 60 minutes."),
    query("watch", "boolean", "Whether to go on telling what changes, instead of listing what there is."),
];
