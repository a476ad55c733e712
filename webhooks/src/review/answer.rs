//! The response to an AdmissionReview.
//!
//! **Invariant:** the uid is that of the request. Only [`Answer::patched`] and [`Answer::written`] carry a patch, and
//! a patch always comes with its type. Warnings stay within the limits of kube-apiserver.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, stream};
use gatehouse_serving::body::{full, streamed};
use gatehouse_serving::fair::Held;
use gatehouse_serving::pipeline::Holder;
use gatehouse_serving::{ApiError, Body};
use http::{HeaderValue, Response, header};
use k8s_openapi::ByteString;
use serde::Serialize;
use serde_json::Value;

use super::request::{API_VERSION, KIND};

/// kube-apiserver may truncate a warning that is longer than this many characters.
const WARNING_CHARACTERS: usize = 256;
/// kube-apiserver may truncate all warnings if they take more bytes than this together.
const WARNINGS_BYTES: usize = 4096;
/// Bytes reserved for the last warning, which counts the omitted ones.
const REMAINDER_BYTES: usize = 64;
/// The most characters of an annotation: it is written to the audit log.
const ANNOTATION_CHARACTERS: usize = 1024;

/// The decision, with warnings and audit annotations.
#[derive(Debug)]
pub struct Answer {
    /// The serialized JSON Patch, if the object changes; or the reason of the denial.
    result: Result<Option<Vec<u8>>, ApiError>,
    warnings: Vec<String>,
    annotations: BTreeMap<Annotation, String>,
    /// The room of a large patch, until it has been sent.
    room: Option<Held<Holder>>,
}

/// A key of the audit annotations. kube-apiserver prefixes the key with the name of the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Annotation {
    /// The policies that the object violates.
    Policy,
    /// The rules that it violates.
    Rule,
    /// The quotas that count it.
    Quota,
    /// The decision, where it says more than allowed or denied.
    Decision,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Reply<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<Annotation, String>,
}

impl Answer {
    /// Admits the request.
    pub fn allowed() -> Self {
        Self::of(Ok(None))
    }

    /// Admits the request with this patch.
    pub fn patched(patch: &json_patch::Patch) -> Self {
        // A patch consists of strings and values, so serialization cannot fail.
        Self::of(Ok(serde_json::to_vec(patch).ok().filter(|_| !patch.0.is_empty())))
    }

    /// Admits the request with a serialized JSON Patch. `room` is held until the response has been sent or aborted.
    pub(super) fn written(patch: Vec<u8>, room: Held<Holder>) -> Self {
        Self { room: Some(room), ..Self::of(Ok(Some(patch))) }
    }

    /// Denies the request.
    pub fn refused(why: ApiError) -> Self {
        Self::of(Err(why))
    }

    fn of(result: Result<Option<Vec<u8>>, ApiError>) -> Self {
        Self { result, warnings: Vec::new(), annotations: BTreeMap::new(), room: None }
    }

    /// Adds a warning for the client.
    #[must_use]
    pub fn warning(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// Adds an audit annotation; several values of a key are joined by commas.
    #[must_use]
    pub fn annotated(mut self, key: Annotation, value: &str) -> Self {
        let values = self.annotations.entry(key).or_default();
        if !values.split(',').any(|one| one == value) {
            let comma = if values.is_empty() { "" } else { "," };
            *values = format!("{values}{comma}{value}");
        }
        self
    }

    /// The outcome as a label of metrics.
    pub fn outcome(&self) -> &'static str {
        match &self.result {
            Ok(None) => "allowed",
            Ok(Some(_)) => "patched",
            Err(why) => match why.code().as_u16() {
                403 => "denied",
                429 => "retry",
                400..=499 => "invalid",
                _ => "error",
            },
        }
    }

    /// The HTTP response.
    pub fn into_response(mut self, uid: &str) -> Response<Body> {
        let room = self.room.take();
        let json = serde_json::to_vec(&self.document(uid)).unwrap_or_else(|_| {
            unreachable!("strings, numbers and values are JSON, and the keys are strings")
        });
        let mut response = Response::new(match room {
            None => full(json),
            Some(room) => until_sent(json, room),
        });
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn document(self, uid: &str) -> Document<'_> {
        let annotations = self.annotations.into_iter();
        let mut response = Reply {
            uid,
            allowed: true,
            status: None,
            patch_type: None,
            patch: None,
            warnings: bounded(self.warnings),
            audit_annotations: annotations
                .map(|(key, value)| (key, cut(&value, ANNOTATION_CHARACTERS)))
                .collect(),
        };
        match self.result {
            Ok(None) => {}
            Ok(Some(patch)) => {
                response.patch_type = Some("JSONPatch");
                response.patch = Some(ByteString(patch));
            }
            Err(why) => {
                response.allowed = false;
                response.status = Some(why.status());
            }
        }
        Document { api_version: API_VERSION, kind: KIND, response }
    }
}

/// A body that is sent in pieces. A body in one piece would count as sent while it is still queued.
fn until_sent(json: Vec<u8>, room: Held<Holder>) -> Body {
    const PIECE: usize = 64 * 1024;
    let json = Bytes::from(json);
    let pieces = (0..json.len()).step_by(PIECE);
    streamed(stream::iter(pieces).map(move |start| {
        let _held = &room;
        json.slice(start..json.len().min(start + PIECE))
    }))
}

/// Limits the number and length of the warnings; the last one counts those that are omitted.
fn bounded(warnings: Vec<String>) -> Vec<String> {
    let (count, mut bytes) = (warnings.len(), 0);
    let mut kept: Vec<String> = Vec::new();
    for warning in warnings {
        let warning = cut(&warning, WARNING_CHARACTERS);
        let is_last = kept.len() + 1 == count;
        let room = WARNINGS_BYTES - bytes - if is_last { 0 } else { REMAINDER_BYTES };
        if warning.len() > room {
            kept.push(format!("and {} more", count - kept.len()));
            break;
        }
        bytes += warning.len();
        kept.push(warning);
    }
    kept
}

/// Replaces control characters by spaces, since headers cannot have them, and truncates the text to `characters`.
fn cut(text: &str, characters: usize) -> String {
    let mut cut: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(characters).collect();
    if text.chars().nth(characters).is_some() {
        cut.pop();
        cut.push('…');
    }
    cut
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// The response as it is sent.
    pub(crate) fn response(answer: Answer) -> Value {
        serde_json::to_value(answer.document("u-1")).expect("JSON")["response"].take()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn document(answer: Answer) -> Value {
        serde_json::to_value(answer.document("u-1")).expect("JSON")
    }

    #[test]
    fn an_answer_echoes_uid_and_version_and_says_no_more_than_needed() {
        let expected = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": {"uid": "u-1", "allowed": true},
        });
        assert_eq!(document(Answer::allowed()), expected);
        assert_eq!(document(Answer::patched(&json_patch::Patch(Vec::new()))), expected, "nothing to change");
    }

    #[test]
    fn a_patch_comes_with_its_type_in_base64() {
        let patch =
            serde_json::from_value(json!([{"op": "add", "path": "/spec/prune", "value": true}])).unwrap();
        let response = &document(Answer::patched(&patch))["response"];
        assert_eq!((&response["patchType"], &response["allowed"]), (&json!("JSONPatch"), &json!(true)));
        let patch: ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
        let patch: Value = serde_json::from_slice(&patch.0).unwrap();
        assert_eq!(patch, json!([{"op": "add", "path": "/spec/prune", "value": true}]));
    }

    #[test]
    fn a_refusal_is_a_status_with_code_reason_and_when_to_come_back() {
        let response =
            &document(Answer::refused(ApiError::try_again("busy", Duration::from_secs(2))))["response"];
        assert_eq!(response["allowed"], false);
        let status = &response["status"];
        assert_eq!((&status["code"], &status["reason"]), (&json!(429), &json!("TooManyRequests")));
        assert_eq!(
            (&status["details"]["retryAfterSeconds"], &status["message"]),
            (&json!(2), &json!("busy"))
        );
    }

    #[test]
    fn warnings_are_cut_at_characters_and_the_rest_is_counted() {
        let long = "é".repeat(300);
        let answer = (0..20).fold(Answer::allowed().warning("a\nb"), |answer, _| answer.warning(&long));
        let document = document(answer);
        let warnings: Vec<_> = document["response"]["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| w.as_str().unwrap())
            .collect();
        assert_eq!((warnings[0], warnings[1].chars().count()), ("a b", 256));
        assert!(warnings[1].ends_with("é…"));
        assert!(warnings.iter().map(|warning| warning.len()).sum::<usize>() <= WARNINGS_BYTES);
        assert_eq!(*warnings.last().unwrap(), format!("and {} more", 21 - (warnings.len() - 1)));
    }

    #[test]
    fn annotations_list_their_values_once() {
        let answer = ["a", "b", "a"]
            .into_iter()
            .fold(Answer::allowed(), |answer, policy| answer.annotated(Annotation::Policy, policy));
        assert_eq!(document(answer)["response"]["auditAnnotations"], json!({"policy": "a,b"}));
    }
}
