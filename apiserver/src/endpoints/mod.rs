//! What is behind the paths: discovery and OpenAPI, which are there from the start, and the resources,
//! each of which answers as soon as its own view has synced.

mod encode;
mod read;
mod select;
mod watch;

use std::{collections::HashMap, sync::Arc};

use gatehouse_apiservice::view::{GROUP, VERSION};
use http::{Method, Response, request::Parts};
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;

use self::select::Selection;
use crate::{
    ApiError, Body,
    body::full,
    discovery,
    error::Subject,
    metrics::Metrics,
    negotiate::{self, Shape},
    openapi,
    options::{GetOptions, ListOptions},
    pipeline::{Authorized, Handler},
    request_info::{RequestInfo, ResourceRequest, Verb},
    selector::FieldSelector,
    watchcache::{RowKey, WatchCache},
};

/// Serves the resources of the group, and what describes them.
pub struct Endpoints {
    caches: HashMap<&'static str, Arc<WatchCache>>,
    metrics: Arc<Metrics>,
}

impl Endpoints {
    /// Endpoints over these caches, one for each resource.
    pub fn new(caches: impl IntoIterator<Item = Arc<WatchCache>>, metrics: Arc<Metrics>) -> Self {
        let caches = caches.into_iter().map(|cache| (cache.resource.plural, cache)).collect();
        Self { caches, metrics }
    }

    async fn answer(&self, request: Authorized) -> Result<Response<Body>, ApiError> {
        let Authorized { parts, info, stop, .. } = request;
        let query = parts.uri.query().unwrap_or_default();
        match info {
            RequestInfo::Resource(resource) => self.resource(&resource, &parts, query, stop).await,
            RequestInfo::NonResource(other) => {
                let document = discovery::respond(&other.path, &parts.headers)
                    .or_else(|| openapi::respond(&other.path, query, &parts.headers));
                let document = document.ok_or_else(ApiError::no_such_path)?;
                only_read(&parts.method)?;
                document
            }
        }
    }

    async fn resource(
        &self,
        request: &ResourceRequest,
        parts: &Parts,
        query: &str,
        stop: CancellationToken,
    ) -> Result<Response<Body>, ApiError> {
        let cache = self.cache(request)?;
        match request.verb {
            Verb::Get | Verb::List | Verb::Watch => only_read(&parts.method)?,
            _ => return Err(ApiError::method_not_allowed(&parts.method)),
        }
        if !cache.is_synced() {
            let name = cache.resource.plural;
            return Err(ApiError::unavailable(format!("{name} is not synced with the cluster yet")));
        }
        if request.verb == Verb::Get {
            let key = RowKey {
                namespace: request.namespace.as_deref().unwrap_or_default().into(),
                name: request.name.as_deref().unwrap_or_default().into(),
            };
            let options = GetOptions::parse(query)?;
            let (representation, pretty) = negotiate::resource(&parts.headers, Shape::Object)?;
            let pretty = options.pretty.unwrap_or(pretty);
            return prettified(read::get(cache, key, options, representation).await?, pretty).await;
        }
        let options = ListOptions::parse(query)?;
        let fields = FieldSelector::parse(&options.field_selector, cache.resource)?;
        let selection = Selection {
            namespace: request.namespace.clone(),
            labels: options.label_selector.clone(),
            // Where a name was authorised, nothing but the object of that name is told.
            fields: match &request.name {
                Some(name) => fields.on(name)?,
                None => fields,
            },
        };
        if request.verb == Verb::Watch {
            let (representation, _) = negotiate::resource(&parts.headers, Shape::Watch)?;
            let events = self.metrics.watch_events(GROUP, VERSION, cache.resource.plural);
            return watch::watch(cache, selection, options, representation, events, stop).await;
        }
        let (representation, pretty) = negotiate::resource(&parts.headers, Shape::List)?;
        let pretty = options.pretty.unwrap_or(pretty);
        prettified(read::list(cache, selection, options, representation).await?, pretty).await
    }

    /// The cache behind a path, if it is one that is served.
    fn cache(&self, request: &ResourceRequest) -> Result<&Arc<WatchCache>, ApiError> {
        let served = request.group == GROUP
            && request.version == VERSION
            && request.subresource.is_none()
            && !request.has_extra_segments;
        let cache = self.caches.get(request.resource.as_str()).filter(|_| served);
        let cache = cache.ok_or_else(ApiError::no_such_path)?;
        let namespaced = cache.resource.namespaced;
        let misplaced = match request.namespace {
            Some(_) => !namespaced,
            None => namespaced && request.verb == Verb::Get,
        };
        if misplaced { Err(ApiError::no_such_path()) } else { Ok(cache) }
    }
}

impl Handler for Endpoints {
    async fn serve(&self, request: Authorized) -> Result<Response<Body>, ApiError> {
        let is_head = request.parts.method == Method::HEAD;
        let response = self.answer(request).await?;
        Ok(if is_head { response.map(|_| full("")) } else { response })
    }
}

/// The API is a set of read models.
fn only_read(method: &Method) -> Result<(), ApiError> {
    if matches!(*method, Method::GET | Method::HEAD) {
        Ok(())
    } else {
        Err(ApiError::method_not_allowed(method))
    }
}

fn subject<'a>(cache: &WatchCache, name: &'a str) -> Subject<'a> {
    Subject { group: GROUP, resource: cache.resource.plural, name }
}

/// For people at the other end of curl; whoever asks for it waits for the whole body to be made.
async fn prettified(response: Response<Body>, pretty: bool) -> Result<Response<Body>, ApiError> {
    if !pretty {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let Ok(bytes) = body.collect().await.map(http_body_util::Collected::to_bytes);
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
    let text = serde_json::to_string_pretty(&value).map_err(ApiError::internal)?;
    Ok(Response::from_parts(head, full(text + "\n")))
}

#[cfg(test)]
mod tests;
