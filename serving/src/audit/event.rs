//! One line of the audit log: an Event of `audit.k8s.io/v1`, with the level Metadata.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use http::{HeaderMap, header, request::Parts};
use jiff::Timestamp;
use serde::Serialize;

use super::policy::Stage;
use crate::{authn::UserInfo, error::ApiError, request_info::ResourceRequest};

/// The `maxUserAgentLength` of k8s.io/apiserver in bytes, and what it appends to a longer one.
const MAX_USER_AGENT: usize = 1024;
const TRUNCATED: &str = "...TRUNCATED";

/// The user of a request that failed authentication.
static NO_USER: UserInfo =
    UserInfo { name: String::new(), uid: String::new(), groups: Vec::new(), extra: BTreeMap::new() };

/// What is known of a request when it arrives.
pub(super) struct RequestSummary {
    pub(super) audit_id: String,
    request_uri: String,
    source_ips: Vec<IpAddr>,
    user_agent: String,
    pub(super) received: Timestamp,
}

/// The response: a `metav1.Status`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ResponseStatus {
    /// Always empty; Go writes it as `{}`.
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

/// Annotations, with the keys of kube-apiserver.
pub(super) type Annotations = BTreeMap<&'static str, String>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    kind: &'static str,
    api_version: &'static str,
    level: &'static str,
    #[serde(rename = "auditID")]
    audit_id: &'a str,
    stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: &'a str,
    verb: &'a str,
    user: &'a UserInfo,
    #[serde(rename = "sourceIPs")]
    source_ips: &'a [IpAddr],
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<ObjectRef<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<&'a ResponseStatus>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a Annotations>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    resource: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    api_group: &'a str,
    api_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subresource: Option<&'a str>,
}

impl RequestSummary {
    pub(super) fn new(parts: &Parts, peer: IpAddr, audit_id: &str) -> Self {
        let agent = parts.headers.get(header::USER_AGENT).map(http::HeaderValue::as_bytes);
        let mut user_agent = String::from_utf8_lossy(agent.unwrap_or_default()).into_owned();
        if user_agent.len() > MAX_USER_AGENT {
            user_agent.truncate(user_agent.floor_char_boundary(MAX_USER_AGENT));
            user_agent.push_str(TRUNCATED);
        }
        Self {
            audit_id: audit_id.to_owned(),
            // The target of an HTTP/1.1 request line. The URI of an HTTP/2 request has scheme and host as well.
            request_uri: parts.uri.path_and_query().map_or("/", |uri| uri.as_str()).to_owned(),
            source_ips: source_ips(&parts.headers, peer),
            user_agent,
            received: Timestamp::now(),
        }
    }

    /// The event as JSON, with a line break at the end.
    pub(super) fn line(&self, stage: Stage, at: Timestamp, details: &StageDetails<'_>) -> Vec<u8> {
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: "Metadata",
            audit_id: &self.audit_id,
            stage,
            request_uri: &self.request_uri,
            verb: details.verb,
            user: details.user.unwrap_or(&NO_USER),
            source_ips: &self.source_ips,
            user_agent: &self.user_agent,
            object_ref: details.resource.map(ObjectRef::from),
            response_status: details.status,
            request_received_timestamp: format!("{:.6}", self.received),
            stage_timestamp: format!("{at:.6}"),
            annotations: details.annotations,
        };
        let mut line = serde_json::to_vec(&event).expect("an event is strings under string keys");
        line.push(b'\n');
        line
    }
}

/// What is known of a request at one of its stages.
pub(super) struct StageDetails<'a> {
    pub(super) verb: &'a str,
    pub(super) resource: Option<&'a ResourceRequest>,
    pub(super) user: Option<&'a UserInfo>,
    pub(super) status: Option<&'a ResponseStatus>,
    pub(super) annotations: Option<&'a Annotations>,
}

impl ResponseStatus {
    fn new(code: Option<u16>) -> Self {
        Self { metadata: BTreeMap::new(), status: None, message: None, reason: None, code }
    }

    /// A response with a status code and no message.
    pub(super) fn code(code: http::StatusCode) -> Self {
        Self::new(Some(code.as_u16()))
    }

    /// An error response.
    pub(super) fn error(error: &ApiError) -> Self {
        let reason = Some(error.reason());
        Self { reason, ..Self::failure(error.code(), error.to_string()) }
    }

    pub(super) fn failure(code: http::StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Some("Failure"), message: Some(message.into()), ..Self::code(code) }
    }

    /// The client disconnected before the response.
    pub(super) fn disconnected() -> Self {
        Self { message: Some("Connection closed early".into()), ..Self::new(None) }
    }
}

impl<'a> From<&'a ResourceRequest> for ObjectRef<'a> {
    fn from(request: &'a ResourceRequest) -> Self {
        Self {
            resource: &request.resource,
            namespace: request.namespace.as_deref(),
            name: request.name.as_deref(),
            api_group: &request.group,
            api_version: &request.version,
            subresource: request.subresource.as_deref(),
        }
    }
}

/// The source addresses, as in `SourceIPs` of k8s.io/apimachinery: those that proxies name in headers, then the peer's,
/// the only one that a client cannot forge.
fn source_ips(headers: &HeaderMap, peer: IpAddr) -> Vec<IpAddr> {
    let first = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded = first("x-forwarded-for").unwrap_or_default();
    let mut ips: Vec<IpAddr> = forwarded.split(',').filter_map(|ip| ip.trim().parse().ok()).collect();
    if let Some(real) = first("x-real-ip").and_then(|ip| ip.parse().ok())
        && !ips.contains(&real)
    {
        ips.push(real);
    }
    if ips.last() != Some(&peer) {
        ips.push(peer);
    }
    ips
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_those_that_proxies_name_and_the_peer() {
        let peer = "10.0.0.9".parse().expect("address");
        for (headers, expected) in [
            (&[][..], "10.0.0.9"),
            (&[("x-forwarded-for", "10.0.0.9")], "10.0.0.9"),
            (&[("x-forwarded-for", "1.2.3.4, ::1,nonsense")], "1.2.3.4 ::1 10.0.0.9"),
            (&[("x-forwarded-for", "1.2.3.4"), ("x-real-ip", "1.2.3.4")], "1.2.3.4 10.0.0.9"),
            (&[("x-forwarded-for", "1.2.3.4"), ("x-real-ip", "5.6.7.8")], "1.2.3.4 5.6.7.8 10.0.0.9"),
        ] {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| {
                    let value = value.parse::<http::HeaderValue>().expect("value");
                    (http::HeaderName::from_static(name), value)
                })
                .collect();
            let shown: Vec<_> = source_ips(&headers, peer).iter().map(ToString::to_string).collect();
            assert_eq!(shown.join(" "), expected);
        }
    }

    #[test]
    fn user_agents_are_bounded() {
        let agent = "x".repeat(5000);
        let (parts, ()) =
            http::Request::get("/a?b=c").header("user-agent", agent).body(()).expect("request").into_parts();
        let summary = RequestSummary::new(&parts, "::1".parse().expect("address"), "id");
        assert_eq!(summary.user_agent.len(), MAX_USER_AGENT + TRUNCATED.len());
        assert_eq!(summary.request_uri, "/a?b=c");
    }
}
