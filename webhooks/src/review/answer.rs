//! The answer to an AdmissionReview.
//!
//! Invariants: the uid is the request's; only [`Answer::patched`] and [`Answer::written`] carry a patch, and a patch never comes without its
//! type; warnings stay within what kube-apiserver passes on.

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

/// kube-apiserver may cut warnings that are longer than this many characters.
const WARNING_CHARACTERS: usize = 256;
/// And all of them once they take more bytes than this together.
const WARNINGS_BYTES: usize = 4096;
/// Room kept for the last warning, which says how many are missing.
const REMAINDER_BYTES: usize = 64;
/// An annotation ends up in each line of the audit log.
const ANNOTATION_CHARACTERS: usize = 1024;

/// What is decided, and what is said with it.
#[derive(Debug)]
pub struct Answer {
    /// A JSON Patch as it is sent, if anything is to be changed; or why the request is refused.
    result: Result<Option<Vec<u8>>, ApiError>,
    warnings: Vec<String>,
    annotations: BTreeMap<Annotation, String>,
    /// What a large patch has until it has been sent.
    room: Option<Held<Holder>>,
}

/// What the audit log is told. kube-apiserver puts the webhook's name before the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Annotation {
    /// The policies whose rules the object breaks.
    Policy,
    /// The rules it breaks.
    Rule,
    /// The quotas that count it.
    Quota,
    /// What was decided, where that is more than the answer says.
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
    /// The request may go on.
    pub fn allowed() -> Self {
        Self::of(Ok(None))
    }

    /// The request may go on, with these changes.
    pub fn patched(patch: &json_patch::Patch) -> Self {
        // A patch is made of strings and values, so that it can be written.
        Self::of(Ok(serde_json::to_vec(patch).ok().filter(|_| !patch.0.is_empty())))
    }

    /// The request may go on, with the changes of a JSON Patch that is written already. `room` is held until the answer has
    /// been sent, or given up.
    pub(super) fn written(patch: Vec<u8>, room: Held<Holder>) -> Self {
        Self { room: Some(room), ..Self::of(Ok(Some(patch))) }
    }

    /// The request ends here.
    pub fn refused(why: ApiError) -> Self {
        Self::of(Err(why))
    }

    fn of(result: Result<Option<Vec<u8>>, ApiError>) -> Self {
        Self { result, warnings: Vec::new(), annotations: BTreeMap::new(), room: None }
    }

    /// With something to tell whoever made the request.
    #[must_use]
    pub fn warning(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// With something to tell the audit log; several values of a key are listed.
    #[must_use]
    pub fn annotated(mut self, key: Annotation, value: &str) -> Self {
        let values = self.annotations.entry(key).or_default();
        if !values.split(',').any(|one| one == value) {
            let comma = if values.is_empty() { "" } else { "," };
            *values = format!("{values}{comma}{value}");
        }
        self
    }

    /// In a word, for metrics.
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

    /// The whole HTTP answer.
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

/// A body that is handed over piece by piece: what is handed over as a whole counts as sent while it still waits.
fn until_sent(json: Vec<u8>, room: Held<Holder>) -> Body {
    const PIECE: usize = 64 * 1024;
    let json = Bytes::from(json);
    let pieces = (0..json.len()).step_by(PIECE);
    streamed(stream::iter(pieces).map(move |start| {
        let _held = &room;
        json.slice(start..json.len().min(start + PIECE))
    }))
}

/// As many warnings as are passed on, each as long as it may be; the last tells how many more there are.
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

/// The text with control characters blanked, as they cannot stand in a header, and cut to so many characters.
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

    /// The answer as it is sent.
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
