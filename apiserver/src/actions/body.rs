//! The parameters and bodies of requests to act, checked before anything else happens.

use std::{borrow::Cow, fmt};

use gatehouse_apiservice::{action::ActionKind, view::API_VERSION};
use gatehouse_serving::{ApiError, error::FieldProblem, query::Query};
use http::{HeaderMap, header};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::json::{self, Unreadable};

/// The most bytes of a body.
pub(super) const LONGEST_BODY: usize = 256 << 10;
/// The longest reason, in bytes.
const LONGEST_REASON: usize = 1024;
/// The longest field manager that Kubernetes accepts.
const LONGEST_MANAGER: usize = 128;
/// How much of what was sent an error repeats, in characters.
const LONGEST_SHOWN: usize = 300;
/// What metadata may have: what counts here, and then the rest of what a client reads and sends back.
const METADATA: [&str; 15] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "ownerReferences",
    "selfLink",
];

/// The media types of patches. A strategic merge patch of a document without lists is a merge patch.
pub(super) const MERGE_PATCHES: [&str; 2] =
    ["application/merge-patch+json", "application/strategic-merge-patch+json"];
pub(super) const JSON_PATCH: &str = "application/json-patch+json";
const JSON: &str = "application/json";

/// Whether a request is a dry run, and its field manager, by its query.
pub(super) fn options(query: &Query<'_>) -> Result<(bool, Option<String>), ApiError> {
    let manager = query.text("fieldManager");
    let is_unprintable = |c: char| c.is_control() || is_format(c) || is_invisible(c);
    if manager.len() > LONGEST_MANAGER || manager.chars().any(is_unprintable) {
        let problem = "Invalid value: must have at most 128 bytes of printable characters";
        return Err(ApiError::invalid("UpdateOptions", "fieldManager", problem));
    }
    // Whatever it is, an unknown field is refused.
    let validation = query.text("fieldValidation");
    if !["", "Ignore", "Warn", "Strict"].contains(&validation) {
        let shown: String = validation.chars().take(LONGEST_SHOWN).collect();
        let problem =
            format!("Unsupported value: {shown:?}: supported values: \"Ignore\", \"Warn\", \"Strict\"");
        return Err(ApiError::invalid("UpdateOptions", "fieldValidation", &problem));
    }
    // As `ValidateDryRun` of apimachinery: every value counts, an empty one too.
    if let Some(other) = query.all("dryRun").find(|value| *value != "All") {
        let problem = format!("Unsupported value: {other:?}: supported values: \"All\"");
        return Err(ApiError::invalid("UpdateOptions", "dryRun", &problem));
    }
    Ok((query.find("dryRun").is_some(), Some(manager.to_owned()).filter(|manager| !manager.is_empty())))
}

/// A request body.
#[derive(Debug)]
pub(super) struct Body<S> {
    pub(super) preconditions: Preconditions,
    pub(super) spec: S,
}

/// What must hold of the Flux object.
#[derive(Debug, Clone, Default)]
pub(super) struct Preconditions {
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope<S> {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    spec: Option<S>,
    /// What a client has read and sends back.
    #[serde(default, rename = "status")]
    _status: serde::de::IgnoredAny,
}

/// Other metadata is what a client has read and sends back.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    resource_version: Option<String>,
}

/// The media type of a body, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    sent.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// 415 unless the body is JSON. An absent type counts as JSON, as in kube-apiserver.
pub(super) fn ensure_json(headers: &HeaderMap) -> Result<(), ApiError> {
    match media_type(headers).as_str() {
        "" | JSON => Ok(()),
        other => Err(ApiError::unsupported_media_type(other, JSON)),
    }
}

/// Decodes a body strictly. `shown_as` is the kind that answers name; `namespace` and `name` are those of the URL.
pub(super) fn decode<S: DeserializeOwned + Default>(
    bytes: &[u8],
    (kind, shown_as): (&ActionKind, &str),
    (namespace, name): (&str, &str),
) -> Result<Body<S>, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Body { preconditions: Preconditions::default(), spec: S::default() });
    }
    let document = parse(kind.kind, bytes)?;
    // A struct is read from a list, too.
    let is_object = |value: &Value| value.is_object() || value.is_null();
    for field in ["", "metadata", "spec"] {
        let value = if field.is_empty() { Some(&document) } else { document.get(field) };
        if !value.is_none_or(is_object) || document.is_null() {
            return Err(unreadable(kind.kind, field, &"must be an object"));
        }
    }
    // A precondition with a typing error in its name would not be one.
    let fields = document.get("metadata").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    if let Some(unknown) = fields.into_iter().find(|field| !METADATA.contains(&field.as_str())) {
        let known = METADATA[..4].iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
        let why = format!("unknown field `{}`, expected one of {known}", short(unknown));
        return Err(unreadable(kind.kind, &format!("metadata.{unknown}"), &why));
    }
    let Envelope { api_version, kind: kind_name, metadata, spec, _status: _ } =
        serde_path_to_error::deserialize::<_, Envelope<S>>(document).map_err(|error| {
            let path = error.path().to_string();
            unreadable(kind.kind, if path == "." { "" } else { &path }, error.inner())
        })?;
    let mismatch = |field: &str, given: &str, expected: &str| {
        let from_url = if field == "kind" { "" } else { " as in the URL" };
        let message = format!("{field} is {:?}, and must be {expected:?}{from_url}", short(given));
        Err(ApiError::bad_request(message.clone()).caused_by(&[problem(field, message)]))
    };
    let Metadata { name: own, namespace: within, uid, resource_version } = metadata.unwrap_or_default();
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    for (field, given, expected) in [
        ("apiVersion", given(api_version), API_VERSION),
        ("kind", given(kind_name).filter(|given| given != kind.kind), shown_as),
        ("metadata.name", given(own), name),
        ("metadata.namespace", given(within), namespace),
    ] {
        if let Some(given) = given.filter(|given| given != expected) {
            return mismatch(field, &given, expected);
        }
    }
    let preconditions = Preconditions { uid: given(uid), resource_version: given(resource_version) };
    Ok(Body { preconditions, spec: spec.unwrap_or_default() })
}

fn problem(field: &str, message: String) -> FieldProblem {
    FieldProblem { field: field.to_owned().into(), reason: "FieldValueInvalid", message }
}

/// A body for the row that is called `name` in another cluster. A JSON patch names no row.
pub(super) fn renamed(bytes: &[u8], name: &str) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    match document.pointer_mut("/metadata/name") {
        Some(own) if own.as_str().is_some_and(|own| !own.is_empty()) => *own = name.into(),
        _ => return bytes.to_owned(),
    }
    document.to_string().into_bytes()
}

/// Reads a document, `what` to those who sent it. No field may stand twice.
pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Value, ApiError> {
    json::parse(bytes).map_err(|error| match error {
        Unreadable::Syntax(error) => unreadable(what, "", &format_args!("it is not JSON: {error}")),
        Unreadable::Twice(field) => unreadable(what, &field, &"the field stands twice"),
    })
}

fn unreadable(what: &str, path: &str, error: &impl fmt::Display) -> ApiError {
    let text = error.to_string();
    // Clients do not see the text by line and column.
    let text = &*short(text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]));
    let path = &*short(path);
    let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
    let message = format!("{what} cannot be decoded: {place}{text}");
    let field = if path.is_empty() { "body" } else { path };
    ApiError::bad_request(message).caused_by(&[problem(field, text.to_owned())])
}

/// A text of the client, as far as an error repeats it.
fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST_SHOWN) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

/// The reason, if one is given: text on one line.
pub(super) fn reason(kind: &ActionKind, given: Option<&str>) -> Result<Option<String>, ApiError> {
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(None) };
    let invalid = |problem: &str| Err(ApiError::invalid(kind.kind, "spec.reason", problem));
    if text.len() > LONGEST_REASON {
        return invalid(&format!("Too long: must have at most {LONGEST_REASON} bytes"));
    }
    if text.chars().any(|c| c.is_control() || is_format(c)) {
        return invalid("Invalid value: must be one line without control characters");
    }
    if text.chars().all(|c| c.is_whitespace() || is_invisible(c)) {
        return invalid("Invalid value: must not be blank");
    }
    Ok(Some(text.to_owned()))
}

/// Whether a character breaks a line or turns the direction of a text, without being a control character.
fn is_format(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character shows nothing, without being a blank (`Default_Ignorable_Code_Point` of Unicode, and the blank
/// of Braille). Joiners and variants belong to texts, and do not make one.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The end of a suspension, in whole seconds, as it is written. `current` is the end that the object has already.
pub(super) fn until(
    kind: &ActionKind,
    given: Option<&str>,
    current: Option<&str>,
    now: Timestamp,
) -> Result<Option<String>, ApiError> {
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(None) };
    if current == Some(text) {
        return Ok(Some(text.to_owned()));
    }
    let invalid = |problem: String| Err(ApiError::invalid(kind.kind, "spec.until", &problem));
    let Ok(at) = text.parse::<Timestamp>() else {
        let shown: String = text.chars().take(64).collect();
        return invalid(format!(
            "Invalid value: {shown:?}: must be a time in RFC 3339, as 2026-12-24T18:00:00Z, before 9999-12-30"
        ));
    };
    if at <= now {
        return invalid(format!("Invalid value: {text:?}: must be in the future; it is {now:.0} now"));
    }
    Ok(Some(format!("{at:.0}")))
}

#[cfg(test)]
mod tests {
    use gatehouse_apiservice::action::{SUSPENSION, SuspensionSpec};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reason_says_something_on_one_line() {
        let given = |text: &str| reason(&SUSPENSION, Some(text)).map_err(|error| error.code().as_u16());
        for text in ["die Datenbank zieht um", "میخواهم", "👩\u{200d}🚒 drill", "a\u{fe0f}", " a "]
        {
            assert_eq!(given(text), Ok(Some(text.to_owned())));
        }
        assert_eq!(given(""), Ok(None), "as if it were not there");
        for text in [
            " ",
            "\u{3000}\u{a0}",
            "\u{200b}",
            "\u{feff} \u{3164}",
            "\u{2800}",
            "\u{e0041}",
            "a\nb",
            "a\u{7}",
            "a\u{200f}b",
            "a\u{2029}b",
            &"é".repeat(513),
        ] {
            assert_eq!(given(text), Err(422), "{text:?}");
        }
        assert!(given(&"é".repeat(512)).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named_and_not_repeated_at_length() {
        let place = ("team-a", "local.kustomization.shop");
        let refused = |text: &str| {
            decode::<SuspensionSpec>(text.as_bytes(), (&SUSPENSION, "FluxResource"), place)
                .expect_err(text)
                .to_string()
        };
        for (text, expected) in [
            (r#"{"metadata": {"resourceversion": "1"}}"#, "metadata.resourceversion: unknown field"),
            (r#"{"kind": "Pod"}"#, r#"kind is "Pod", and must be "FluxResource""#),
            ("apiVersion: v1", "it is not JSON"),
        ] {
            let message = refused(text);
            assert!(message.contains(expected), "{message}");
        }
        let long = "x".repeat(100_000);
        for text in [
            json!({"spec": {&long: 1}}),
            json!({"spec": {"suspended": long}}),
            json!({"metadata": {&long: 1}}),
            json!({"kind": long}),
        ] {
            assert!(refused(&text.to_string()).len() < 4 * LONGEST_SHOWN);
        }
        let back = json!({"metadata": {"labels": {}, "managedFields": [], "creationTimestamp": null}});
        let read =
            decode::<SuspensionSpec>(back.to_string().as_bytes(), (&SUSPENSION, "FluxResource"), place);
        assert!(read.is_ok(), "what a client has read");
    }

    #[test]
    fn options_are_those_of_kubernetes() {
        let refused = |query: &str| options(&Query::parse(query)).err().map(|error| error.to_string());
        for (query, field) in [
            ("fieldValidation=strict", "fieldValidation"),
            ("fieldManager=a%E2%80%8Bb", "fieldManager"),
            ("dryRun=all", "dryRun"),
        ] {
            assert!(refused(query).is_some_and(|why| why.contains(field)), "{query}");
        }
        assert_eq!(refused("fieldValidation=Ignore&fieldManager=kubectl-edit&dryRun=All"), None);
    }
}
