//! Every error that a client can get, as the `metav1.Status` that kube-apiserver would send.
//!
//! No other module turns errors into HTTP responses. Reasons, codes and wording follow
//! `k8s.io/apimachinery/pkg/api/errors`, because the typed errors of client-go match on them.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::body::{Body, full};

/// An error response.
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

/// The resource and object of an error, for `status.details`.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// API group.
    pub group: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Object name; empty for the whole resource.
    pub name: &'a str,
}

/// A problem with one field or query parameter: a `field.Error` of `k8s.io/apimachinery`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field's path, or the parameter's name.
    pub field: Cow<'static, str>,
    /// The reason of the cause, such as `FieldValueForbidden`.
    pub reason: &'static str,
    /// The message that clients show.
    pub message: String,
}

/// The reasons of `metav1.Status` that are passed on.
const REASONS: [&str; 20] = [
    "AlreadyExists",
    "BadRequest",
    "Conflict",
    "Expired",
    "Forbidden",
    "Gone",
    "InternalError",
    "Invalid",
    "MethodNotAllowed",
    "NotAcceptable",
    "NotFound",
    "RequestEntityTooLarge",
    "ServerTimeout",
    "ServiceUnavailable",
    "StoreReadError",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "UnsupportedMediaType",
    "Unknown",
];

/// The longest message, in bytes. Messages quote the request, which may be megabytes, and a response stays in memory
/// until the client has read it.
const LONGEST_MESSAGE: usize = 16 * 1024;
/// The most causes of an error that are listed.
const MOST_CAUSES: usize = 64;
/// The longest field and message of a cause, in bytes.
const LONGEST_CAUSE: usize = 1024;

/// `text`, cut to `longest` bytes and an ellipsis.
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

    /// 401: the request has no credentials, or none that this server accepts.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// 403 for a resource, worded as in `responsewriters.Forbidden`.
    pub fn forbidden(subject: Subject<'_>, why: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", format!("{} is forbidden: {why}", subject.qualified()))
            .about(subject)
    }

    /// 403 for a non-resource path.
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

    /// 405 for a resource that is read-only.
    pub fn method_not_allowed(method: &http::Method) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            format!("the server does not allow {method} on the requested resource: it is read-only"),
        )
    }

    /// 405 for a path that accepts only POST.
    pub fn only_post(method: &http::Method) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            format!("the server does not allow {method} on the requested path: it takes POST"),
        )
    }

    /// 405 for an object on which this action is not possible, whoever asks.
    pub fn not_supported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// 405 for a resource or subresource that has other verbs.
    pub fn other_verbs(method: &http::Method, verbs: &[&str]) -> Self {
        let verbs = verbs.join(", ");
        let message =
            format!("the server does not allow {method} on the requested resource: its verbs are {verbs}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// 406: no media type that the client accepts can be served. `available` lists those that can.
    pub fn not_acceptable(available: &str) -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            format!("only the following media types are accepted: {available}"),
        )
    }

    /// 410: the requested resource version is too old. The reason `Expired` makes client-go list again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("the request is larger than {limit} bytes"),
        )
    }

    /// 415: the body has a media type that is not accepted.
    pub fn unsupported_media_type(sent: &str, accepted: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            format!("the body is of type {sent:?}; only {accepted} is accepted"),
        )
    }

    /// 422: one field or parameter has an invalid value.
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

    /// The same error, from another cluster.
    #[must_use]
    pub fn in_cluster(mut self, name: &str) -> Self {
        self.message = clipped(format!("cluster {name}: {}", self.message), LONGEST_MESSAGE);
        self
    }

    /// The same error, about the object of this name.
    #[must_use]
    pub fn about_object(mut self, name: &str) -> Self {
        self.details.entry("name").or_insert_with(|| name.into());
        self
    }

    /// 422 for the query parameters of a list, with a cause for each problem.
    pub fn invalid_options(problems: &[FieldProblem]) -> Self {
        let options = Subject { group: "meta.k8s.io", resource: "ListOptions", name: "" };
        Self::invalid_object(options, problems)
    }

    /// 422 for an object, worded as in `errors.NewInvalid`, with a cause for each problem. The subject's `resource` is
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

    /// 403 with exactly this message.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// 409: the object cannot be created, since one with its name exists.
    pub fn already_exists(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message)
    }

    /// 409: the object is not in a state in which this can be done. Worded as in `errors.NewConflict`.
    pub fn conflict(subject: Subject<'_>, why: impl std::fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {}: {why}", subject.qualified());
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(subject)
    }

    /// The error with which another API server has answered, for its client's client.
    pub fn relayed(status: &kube::core::Status) -> Self {
        let code = StatusCode::from_u16(status.code).ok().filter(|code| code.as_u16() >= 400);
        let code = code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let reason = REASONS.into_iter().find(|known| *known == status.reason).unwrap_or("Unknown");
        let mut error = Self::new(code, reason, status.message.clone());
        let Some(details) = &status.details else { return error };
        for (key, value) in [("name", &details.name), ("group", &details.group), ("kind", &details.kind)] {
            if !value.is_empty() {
                error = error.detail(key, value.clone());
            }
        }
        let causes = details.causes.iter().take(MOST_CAUSES).map(|cause| {
            let text = |text: &str| clipped(text.to_owned(), LONGEST_CAUSE);
            json!({
                "reason": text(&cause.reason), "message": text(&cause.message), "field": text(&cause.field),
            })
        });
        let causes: Vec<_> = causes.collect();
        if !causes.is_empty() {
            error.details.insert("causes".into(), causes.into());
        }
        match details.retry_after_seconds {
            0 => error,
            seconds => error.retry_after(Duration::from_secs(seconds.into())),
        }
    }

    /// 422 with exactly this message.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// 429: the request cannot be decided now; the client should retry after `after`.
    pub fn try_again(message: impl Into<String>, after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).retry_after(after)
    }

    /// 429: too many requests are in flight. Worded as in kube-apiserver.
    pub fn too_many_requests() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
        )
        .retry_after(Duration::from_secs(1))
    }

    /// 500: a bug, or a failure of something that this server needs for its response.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
    }

    /// 503; the client should retry after a second.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
            .retry_after(Duration::from_secs(1))
    }

    /// 504: the request was not answered within its deadline.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
    }

    /// 504 for a resource version that this server has not observed yet, with the cause by which clients recognize that
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

    /// Adds a continue token, with which the client may go on with an inconsistent list.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> Self {
        self.continue_token = Some(token);
        self
    }

    /// Sets when the client should retry, in the `Retry-After` header and in the details, in whole seconds.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.details.insert("retryAfterSeconds".into(), after.as_secs().into());
        self.retry_after = Some(after);
        self
    }

    /// Adds a cause for each problem to the details, up to 64.
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

    /// The HTTP response, with the Status as JSON.
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
