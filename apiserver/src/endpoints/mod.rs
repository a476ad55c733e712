//! The handler behind all paths: discovery and OpenAPI, which are served from the start, and the resources of
//! the group, each of which is served as soon as its own view has synced.

mod compress;
mod encode;
mod fanout;
mod read;
pub(crate) mod select;
mod watch;
mod websocket;

use std::{collections::HashMap, sync::Arc};

use gatehouse_apiservice::view::{GROUP, VERSION};
use http::{Method, Response, request::Parts};

use self::{fanout::Feeds, select::Selection, watch::EndConditions, websocket::WebSockets};
use crate::{
    discovery,
    metrics::ViewMetrics,
    openapi,
    options::{GetOptions, ListOptions},
    views::FluxSeries,
    watchcache::{RowKey, WatchCache},
};
use gatehouse_serving::{
    ApiError, Body,
    authz::WatchAuthorization,
    body::{full, streamed},
    error::Subject,
    metrics::{self, RequestLabels},
    negotiate::{self, Shape},
    pipeline::{Authorized, Handler, Holder, ensure_get_or_head},
    request_info::{RequestInfo, ResourceRequest, Verb},
    selector::FieldSelector,
};

/// The path of Flux's series. It is a path of its own so that RBAC can grant it separately.
const FLUX_SERIES: &str = "/metrics/flux";

/// Handles the requests for the resources of the group, discovery and OpenAPI.
pub struct Endpoints {
    caches: HashMap<&'static str, ResourceEndpoint>,
    metrics: Arc<ViewMetrics>,
    flux_series: Option<Arc<FluxSeries>>,
    sockets: WebSockets,
}

/// A resource's cache, and the feeds that its watches share.
struct ResourceEndpoint {
    cache: Arc<WatchCache>,
    feeds: Feeds,
}

impl Endpoints {
    /// Endpoints over these caches, one for each resource.
    pub fn new(caches: impl IntoIterator<Item = Arc<WatchCache>>, metrics: Arc<ViewMetrics>) -> Self {
        let served =
            |cache: Arc<WatchCache>| ResourceEndpoint { feeds: Feeds::new(Arc::clone(&cache)), cache };
        let caches = caches.into_iter().map(|cache| (cache.resource.plural, served(cache))).collect();
        Self { caches, metrics, flux_series: None, sockets: WebSockets::new() }
    }

    /// Also serves `/metrics/flux` from these series, if there are any.
    #[must_use]
    pub fn with_flux_series(self, series: Option<Arc<FluxSeries>>) -> Self {
        Self { flux_series: series, ..self }
    }

    async fn answer(&self, request: Authorized) -> Result<Response<Body>, ApiError> {
        let Authorized { mut parts, info, user, holder, authorizer, stop, .. } = request;
        match &info {
            RequestInfo::Resource(resource) if resource.verb == Verb::Watch => {
                let authorization = WatchAuthorization::new(authorizer, user, info.clone());
                self.watch(&info, resource, &mut parts, holder, EndConditions { stop, authorization }).await
            }
            RequestInfo::Resource(resource) => self.read(resource, &parts).await,
            RequestInfo::NonResource(other)
                if other.path == FLUX_SERIES
                    && let Some(series) = &self.flux_series =>
            {
                ensure_get_or_head(&parts.method)?;
                Ok(metrics::response(streamed(series.text()?)))
            }
            RequestInfo::NonResource(other) => {
                let document = discovery::respond(&other.path, &parts.headers)
                    .or_else(|| openapi::respond(&other.path, query(&parts), &parts.headers));
                let document = document.ok_or_else(ApiError::no_such_path)?;
                ensure_get_or_head(&parts.method)?;
                document
            }
        }
    }

    /// Answers a get or list.
    async fn read(&self, request: &ResourceRequest, parts: &Parts) -> Result<Response<Body>, ApiError> {
        let ResourceEndpoint { cache, .. } = self.synced_resource(request, &parts.method)?;
        if request.verb == Verb::Get {
            let key = RowKey {
                namespace: request.namespace.as_deref().unwrap_or_default().into(),
                name: request.name.as_deref().unwrap_or_default().into(),
            };
            let options = GetOptions::parse(query(parts))?;
            let (representation, form) = negotiate::resource(&parts.headers, Shape::Object)?;
            let shown = (representation, form.prettified(options.pretty));
            return read::get(cache, key, options, shown, &parts.headers).await;
        }
        let (options, selection) = selected(cache, request, parts)?;
        let (representation, form) = negotiate::resource(&parts.headers, Shape::List)?;
        let shown = (representation, form.prettified(options.pretty));
        read::list(cache, selection, options, shown, &parts.headers).await
    }

    async fn watch(
        &self,
        info: &RequestInfo,
        request: &ResourceRequest,
        parts: &mut Parts,
        holder: Holder,
        ends: EndConditions,
    ) -> Result<Response<Body>, ApiError> {
        let ResourceEndpoint { cache, feeds } = self.synced_resource(request, &parts.method)?;
        let (options, selection) = selected(cache, request, parts)?;
        let (representation, _) = negotiate::resource(&parts.headers, Shape::Watch)?;
        let upgrade = self.sockets.upgrade(parts, holder)?;
        let feed = feeds.feed(selection, representation, options.include_object);
        let chunks = watch::watch(cache, feed, options, &self.metrics, ends).await?;
        Ok(match upgrade {
            Some(upgrade) => {
                let labels = RequestLabels::new(self.metrics.requests().served(), info);
                upgrade.respond(chunks, self.metrics.requests().long_running(&labels))
            }
            None => watch::respond(chunks),
        })
    }

    /// The resource of a request. Errors: 404 for an unknown path, 405 for a verb that is not served, 503
    /// until the view has synced.
    fn synced_resource(
        &self,
        request: &ResourceRequest,
        method: &Method,
    ) -> Result<&ResourceEndpoint, ApiError> {
        let served = self.resource(request)?;
        match request.verb {
            Verb::Get | Verb::List | Verb::Watch => ensure_get_or_head(method)?,
            _ => return Err(ApiError::method_not_allowed(method)),
        }
        if !served.cache.is_synced() {
            let name = served.cache.resource.plural;
            return Err(ApiError::unavailable(format!("{name} is not synced with the cluster yet")));
        }
        Ok(served)
    }

    /// The resource of a request, or 404 if the path has none.
    fn resource(&self, request: &ResourceRequest) -> Result<&ResourceEndpoint, ApiError> {
        let is_served = request.group == GROUP
            && request.version == VERSION
            && request.subresource.is_none()
            && !request.has_extra_segments;
        let served = self.caches.get(request.resource.as_str()).filter(|_| is_served);
        let served = served.ok_or_else(ApiError::no_such_path)?;
        let namespaced = served.cache.resource.namespaced;
        let misplaced = match request.namespace {
            Some(_) => !namespaced,
            None => namespaced && request.verb == Verb::Get,
        };
        if misplaced { Err(ApiError::no_such_path()) } else { Ok(served) }
    }
}

impl Handler for Endpoints {
    async fn serve(&self, request: Authorized) -> Result<Response<Body>, ApiError> {
        let is_head = request.parts.method == Method::HEAD;
        let response = self.answer(request).await?;
        Ok(if is_head { response.map(|_| full("")) } else { response })
    }
}

fn query(parts: &Parts) -> &str {
    parts.uri.query().unwrap_or_default()
}

/// The options and the selection of a list or watch.
fn selected(
    cache: &WatchCache,
    request: &ResourceRequest,
    parts: &Parts,
) -> Result<(ListOptions, Selection), ApiError> {
    let options = ListOptions::parse(query(parts))?;
    let fields = FieldSelector::parse(&options.field_selector, cache.resource)?;
    let selection = Selection {
        namespace: request.namespace.clone(),
        labels: options.label_selector.clone(),
        // A request that was authorised for one name selects only that object.
        fields: match &request.name {
            Some(name) => fields.on(name)?,
            None => fields,
        },
    };
    Ok((options, selection))
}

fn subject<'a>(cache: &WatchCache, name: &'a str) -> Subject<'a> {
    Subject { group: GROUP, resource: cache.resource.plural, name }
}

#[cfg(test)]
mod tests;
