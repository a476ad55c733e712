//! Discovery: the legacy and aggregated documents, and `/version`.
//!
//! The documents depend on the API contract (`RESOURCES`) and on nothing else.
//!
//! **Invariant:** the documents are built once and are the same before and after a view has synced, because a
//! failing discovery blocks the deletion of every namespace in the cluster.
//!
//! **Invariant:** only `get`, `list` and `watch` are advertised of resources, so that the garbage collector,
//! ResourceQuota and the namespace controller ignore them, and neither list nor delete of subresources. Those that act are
//! there only where actions are enabled.

mod aggregated;
mod document;
mod legacy;
#[cfg(test)]
mod tests;
mod version;

use std::sync::LazyLock;

use gatehouse_apiservice::{
    action::{Subresource, subresources},
    view::{GROUP, VERSION},
};
use http::{HeaderMap, Response};

use self::aggregated::Format;
pub(crate) use self::document::Document;
use gatehouse_serving::{ApiError, Body, negotiate};

const VERBS: [&str; 3] = ["get", "list", "watch"];

static READING: LazyLock<Documents> = LazyLock::new(|| Documents::build(false));
static ACTING: LazyLock<Documents> = LazyLock::new(|| Documents::build(true));

/// Responds to a GET or HEAD of a discovery path; `None` for any other path. `acts`: whether actions are enabled.
pub(crate) fn respond(
    path: &str,
    headers: &HeaderMap,
    acts: bool,
) -> Option<Result<Response<Body>, ApiError>> {
    let documents: &'static Documents = if acts { &ACTING } else { &READING };
    let answer = match Path::parse(path)? {
        Path::Core => documents.core.choose(headers),
        Path::Groups => documents.groups.choose(headers),
        Path::Group => negotiate::json(headers).map(|()| &documents.group),
        Path::Resources => negotiate::json(headers).map(|()| &documents.resources),
        Path::Version => negotiate::json(headers).map(|()| &documents.version),
    };
    Some(answer.map(|document| document.respond(headers)))
}

#[derive(Debug, Clone, Copy)]
enum Path {
    Core,
    Groups,
    Group,
    Resources,
    Version,
}

impl Path {
    fn parse(path: &str) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        let segments: Vec<_> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
        match segments.as_slice() {
            ["api"] => Some(Self::Core),
            ["apis"] => Some(Self::Groups),
            ["apis", GROUP] => Some(Self::Group),
            ["apis", GROUP, VERSION] => Some(Self::Resources),
            ["version"] => Some(Self::Version),
            _ => None,
        }
    }
}

struct Documents {
    core: DocumentFormats,
    groups: DocumentFormats,
    group: Document,
    resources: Document,
    version: Document,
}

/// One document in each form that clients can request.
struct DocumentFormats {
    legacy: Document,
    v2: Document,
    v2beta1: Document,
}

impl Documents {
    fn build(acts: bool) -> Self {
        let subresources: Vec<&Subresource> = subresources(acts).collect();
        let subresources = subresources.as_slice();
        // Only the documents that kube-apiserver lets clients cache by ETag are cacheable: clients handle the
        // others differently.
        let plain = |json| Document::new(negotiate::JSON, "no-cache, private", &json);
        let aggregated = |format: Format, json| Document::new(format.content_type(), "public", &json);
        let forms = |legacy, make: &dyn Fn(Format) -> serde_json::Value| DocumentFormats {
            legacy: plain(legacy),
            v2: aggregated(Format::V2, make(Format::V2)),
            v2beta1: aggregated(Format::V2Beta1, make(Format::V2Beta1)),
        };
        Self {
            core: forms(legacy::core_versions(), &aggregated::core),
            groups: forms(legacy::groups(), &|format| aggregated::groups(format, subresources)),
            group: plain(legacy::group()),
            resources: plain(legacy::resources(subresources)),
            version: plain(version::info()),
        }
    }
}

impl DocumentFormats {
    fn choose(&self, headers: &HeaderMap) -> Result<&Document, ApiError> {
        Ok(match negotiate::discovery(headers)? {
            negotiate::Discovery::Legacy => &self.legacy,
            negotiate::Discovery::V2 => &self.v2,
            negotiate::Discovery::V2Beta1 => &self.v2beta1,
        })
    }
}
