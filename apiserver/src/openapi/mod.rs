//! OpenAPI: an OpenAPI 3 document for the group, and one Swagger 2 document.
//!
//! The documents depend on the API contract (`RESOURCES`) and on nothing else.
//!
//! **Invariant:** the documents are built once and are served before any view has synced.
//!
//! **Invariant:** a URL with a hash always has the content of that hash, so that clients can cache it for
//! ever.

mod parameters;
mod paths;
mod schemas;
#[cfg(test)]
mod tests;
mod v2;
mod v3;

use std::sync::LazyLock;

use gatehouse_apiservice::view::API_VERSION;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::discovery::Document;
use gatehouse_serving::{ApiError, Body, body::full, negotiate};

/// The longest that `Expires` may promise (RFC 2616, 14.21), and what kube-apiserver promises.
const MAX_EXPIRES: SignedDuration = SignedDuration::from_hours(365 * 24);

static READING: LazyLock<Documents> = LazyLock::new(|| Documents::build(false));
static ACTING: LazyLock<Documents> = LazyLock::new(|| Documents::build(true));

/// Responds to a GET or HEAD of an OpenAPI path; `None` for any other path. `query` is without the question
/// mark. `acts`: whether actions are enabled.
pub(crate) fn respond(
    path: &str,
    query: &str,
    headers: &HeaderMap,
    acts: bool,
) -> Option<Result<Response<Body>, ApiError>> {
    let path = path.strip_prefix("/openapi/")?;
    let documents: &'static Documents = if acts { &ACTING } else { &READING };
    let answer = match path.strip_suffix('/').unwrap_or(path) {
        "v2" => negotiate::json(headers).map(|()| documents.v2.respond(headers)),
        "v3" => negotiate::json(headers).map(|()| documents.root.respond(headers)),
        group if group.strip_prefix("v3/apis/") == Some(API_VERSION) => {
            negotiate::json(headers).map(|()| documents.group(query, headers))
        }
        _ => return None,
    };
    Some(answer)
}

struct Documents {
    v2: Document,
    root: Document,
    group: Document,
}

impl Documents {
    fn build(acts: bool) -> Self {
        let document = |json| Document::new(negotiate::JSON, "no-cache, private", &json);
        let group = document(v3::document(acts));
        let root = json!({
            "paths": { format!("apis/{API_VERSION}"): { "serverRelativeURL": url_of(&group) } },
        });
        Self { v2: document(v2::document(acts)), root: document(root), group }
    }

    /// The document of the group. If the URL has its hash, the response may be cached for a year; for another
    /// hash, the response redirects to the URL with the right one.
    fn group(&self, query: &str, headers: &HeaderMap) -> Response<Body> {
        let asked = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "hash");
        match asked.map(|(_, hash)| hash).filter(|hash| !hash.is_empty()) {
            None => self.group.respond(headers),
            Some(hash) if hash == self.group.hash() => {
                let mut response = self.group.respond(headers);
                let caching = response.headers_mut();
                caching.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
                if let Ok(expires) = Timestamp::now().checked_add(MAX_EXPIRES)
                    && let Ok(expires) =
                        HeaderValue::from_str(&expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
                {
                    caching.insert(header::EXPIRES, expires);
                }
                response
            }
            Some(_) => {
                let mut response = Response::new(full(""));
                *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
                let location =
                    HeaderValue::from_str(&url_of(&self.group)).expect("paths and hashes are ASCII");
                response.headers_mut().insert(header::LOCATION, location);
                response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
                response
            }
        }
    }
}

fn url_of(group: &Document) -> String {
    format!("/openapi/v3/apis/{API_VERSION}?hash={}", group.hash())
}

fn info() -> Value {
    json!({
        "title": "Gatehouse",
        "description": "Read models of Flux and of a cluster's health.",
        "version": concat!("v", env!("CARGO_PKG_VERSION")),
    })
}
