//! Every error a client can meet, as the `metav1.Status` that kube-apiserver would answer.
//!
//! The one place where errors become HTTP. Reasons, codes and wording follow
//! `k8s.io/apimachinery/pkg/api/errors`, because clients' typed errors match on them.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::body::{Body, full};

/// An answer other than success.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    code: StatusCode,
    reason: &'static str,
    message: String,
    /// Boxed, to keep the results that carry an error small.
    details: Box<serde_json::Map<String, Value>>,
    retry_after: Option<Duration>,
    continue_token: Option<String>,
}

/// Names the resource and object that an error is about, for `status.details`.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// API group.
    pub group: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Object name; empty for the whole resource.
    pub name: &'a str,
}

/// What is wrong with one field or query parameter: a `field.Error` of `k8s.io/apimachinery`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field's path, or the parameter.
    pub field: Cow<'static, str>,
    /// The reason of the cause, such as `FieldValueForbidden`.
    pub reason: &'static str,
    /// What clients show.
    pub message: String,
}

/// The longest message, in bytes. Errors name what was sent, which may be megabytes; an answer is held until it is read.
const LONGEST_MESSAGE: usize = 16 * 1024;
/// The most causes of an error that are listed.
const MOST_CAUSES: usize = 64;
/// The longest field and message of a cause, in bytes.
const LONGEST_CAUSE: usize = 1024;

/// The text, cut to so many bytes.
fn clipped(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

impl Subject<'_> {
    /// `fluxsummaries.view.gatehouse.dev "local"`.
    fn qualified(&self) -> String {
        let resource = match self.group {
            "" => self.resource.to_owned(),
            group => format!("{}.{group}", self.resource),
        };
        if self.name.is_empty() { resource } else { format!("{resource} \"{}\"", self.name) }
    }
}

impl ApiError {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: clipped(message.into(), LONGEST_MESSAGE),
            details: Box::default(),
            retry_after: None,
            continue_token: None,
        }
    }

    /// 400: the request cannot be understood; the message names the parameter.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 401: nobody, or nobody this server believes.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// 403, in the words of `responsewriters.Forbidden`.
    pub fn forbidden(subject: Subject<'_>, why: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", format!("{} is forbidden: {why}", subject.qualified()))
            .about(subject)
    }

    /// 403 for a path that is no resource.
    pub fn forbidden_path(path: &str, why: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", format!("forbidden: {why}"))
            .detail("name", path.to_owned())
    }

    /// 404 for an object.
    pub fn not_found(subject: Subject<'_>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("{} not found", subject.qualified()))
            .about(subject)
    }

    /// 404 for a path.
    pub fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    /// 405.
    pub fn method_not_allowed(method: &http::Method) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            format!("the server does not allow {method} on the requested resource: it is read-only"),
        )
    }

    /// 405 for a path that takes POST alone.
    pub fn only_post(method: &http::Method) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            format!("the server does not allow {method} on the requested path: it takes POST"),
        )
    }

    /// 406: none of the media types the client accepts can be served.
    pub fn not_acceptable(available: &str) -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            format!("only the following media types are accepted: {available}"),
        )
    }

    /// 410: the version asked for is no longer known. `reason` Expired makes clients list again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("the request is larger than {limit} bytes"),
        )
    }

    /// 415: what was sent is of no type that is read here.
    pub fn unsupported_media_type(sent: &str, accepted: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            format!("the body is of type {sent:?}; only {accepted} is accepted"),
        )
    }

    /// 422: a parameter has a value that is not allowed; one cause per field.
    pub fn invalid(kind: &str, field: &str, problem: &str) -> Self {
        let message = format!("{kind} is invalid: {field}: {problem}");
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        error.details.insert("kind".into(), kind.into());
        error.details.insert(
            "causes".into(),
            json!([{ "reason": "FieldValueInvalid", "message": problem, "field": field }]),
        );
        error
    }

    /// 422 for query parameters.
    pub fn invalid_options(problems: &[FieldProblem]) -> Self {
        let options = Subject { group: "meta.k8s.io", resource: "ListOptions", name: "" };
        Self::invalid_object(options, problems)
    }

    /// 422 for an object, in the words of `errors.NewInvalid`; one cause for each problem. The subject's `resource` is
    /// a kind here.
    pub fn invalid_object(subject: Subject<'_>, problems: &[FieldProblem]) -> Self {
        let lines: Vec<_> =
            problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
        let summary = match lines.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let Subject { group, resource: kind, name } = subject;
        let message = format!("{kind}.{group} {name:?} is invalid: {summary}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(subject).caused_by(problems)
    }

    /// 403 in words of one's own.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// 409: an object cannot be created, as there is one of its name.
    pub fn already_exists(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message)
    }

    /// 422 in words of one's own.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// 429: it cannot be decided now, and may be in a moment.
    pub fn try_again(message: impl Into<String>, after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).retry_after(after)
    }

    /// 429: more requests in flight than this server takes on.
    pub fn too_many_requests() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
        )
        .retry_after(Duration::from_secs(1))
    }

    /// 500: a bug here, or a failure of something this server cannot answer without.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
    }

    /// 503 with Retry-After.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
            .retry_after(Duration::from_secs(1))
    }

    /// 504: no answer within the request's deadline.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
    }

    /// 504 with the cause that tells clients that they know of a later version than this server does
    /// (`storage.NewTooLargeResourceVersionError`).
    pub fn resource_version_too_large(asked: u64, current: u64) -> Self {
        let mut error = Self::timeout(format!("Too large resource version: {asked}, current: {current}"))
            .retry_after(Duration::from_secs(1));
        error.details.insert(
            "causes".into(),
            json!([{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }]),
        );
        error
    }

    /// Hands the client a token with which it may go on listing, at the price of consistency.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> Self {
        self.continue_token = Some(token);
        self
    }

    /// Tells the client when to try again, in `Retry-After` and in the details.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.details.insert("retryAfterSeconds".into(), after.as_secs().into());
        self.retry_after = Some(after);
        self
    }

    /// One cause for each problem, in the details.
    #[must_use]
    pub fn caused_by(mut self, problems: &[FieldProblem]) -> Self {
        let causes = problems.iter().take(MOST_CAUSES).map(|FieldProblem { field, reason, message }| {
            let text = |text: &str| clipped(text.to_owned(), LONGEST_CAUSE);
            json!({ "reason": reason, "message": text(message), "field": text(field) })
        });
        self.details.insert("causes".into(), causes.collect());
        self
    }

    fn about(self, subject: Subject<'_>) -> Self {
        let named = if subject.name.is_empty() { self } else { self.detail("name", subject.name.to_owned()) };
        named.detail("group", subject.group.to_owned()).detail("kind", subject.resource.to_owned())
    }

    fn detail(mut self, key: &str, value: String) -> Self {
        let value = clipped(value, LONGEST_CAUSE);
        self.details.insert(key.into(), value.into());
        self
    }

    /// The machine-readable reason.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The HTTP status code.
    pub fn code(&self) -> StatusCode {
        self.code
    }

    /// The `metav1.Status`, as it is sent in a body or as the object of an ERROR watch event.
    pub fn status(&self) -> Value {
        let mut metadata = serde_json::Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".into(), token.clone().into());
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        });
        if !self.details.is_empty() {
            status["details"] = Value::Object(self.details.as_ref().clone());
        }
        status["code"] = self.code.as_u16().into();
        status
    }

    /// The whole HTTP answer.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(full(self.status().to_string()));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, after.as_secs().into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_kind_reason_code_and_subject() {
        let subject = Subject { group: "view.gatehouse.dev", resource: "fluxsummaries", name: "local" };
        let status = ApiError::not_found(subject).status();
        assert_eq!(status["apiVersion"], "v1");
        assert_eq!(status["kind"], "Status");
        assert_eq!(status["message"], "fluxsummaries.view.gatehouse.dev \"local\" not found");
        assert_eq!((&status["reason"], &status["code"]), (&"NotFound".into(), &404.into()));
        assert_eq!(status["details"]["kind"], "fluxsummaries");
    }

    #[test]
    fn retry_after_is_a_header_and_a_detail() {
        let response = ApiError::unavailable("not synced").into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(ApiError::too_many_requests().status()["details"]["retryAfterSeconds"], 1);
    }
}
