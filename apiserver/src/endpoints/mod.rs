//! The handler behind all paths: discovery and OpenAPI, which are served from the start, and the resources of
//! the group, each of which is served as soon as its own view has synced.

pub(crate) mod compress;
mod encode;
mod fanout;
mod own_events;
mod read;
mod scope;
pub(crate) mod select;
mod watch;
mod websocket;

use std::{collections::HashMap, sync::Arc};

use gatehouse_apiservice::view::{GROUP, VERSION};
use http::{Method, Response, header, request::Parts};

use self::{
    fanout::Feeds, own_events::OwnEvents, scope::Scope, select::Selection, watch::EndConditions,
    websocket::WebSockets,
};
use crate::{
    actions::Actions,
    callers::{self, Callers},
    clusters::access::{ClusterAccess, Clusters, Visible, WatchRights},
    discovery,
    fit::{self, Existing},
    metrics::ViewMetrics,
    openapi,
    options::{GetOptions, ListOptions},
    tree::TreeClient,
    views::FluxSeries,
    watchcache::{ResumeFrom, RowKey, WatchCache},
};
use gatehouse_serving::{
    ApiError, Body,
    authn::UserInfo,
    authz::Authorizer,
    body::{full, streamed},
    error::Subject,
    field_selector::FieldSelector,
    metrics::{self, RequestLabels},
    negotiate::{self, Shape},
    pipeline::{Authorized, Handler, Holder, ensure_get_or_head},
    request_info::{RequestInfo, ResourceRequest, Verb},
};

/// The path of Flux's series. It is a path of its own so that RBAC can grant it separately.
const FLUX_SERIES: &str = "/metrics/flux";

/// The subresource with the tree of an object, and the resource that has it.
const TREE: &str = "tree";
const OF_TREES: &str = "fluxresources";

/// Handles the requests for the resources of the group, discovery and OpenAPI.
pub struct Endpoints {
    caches: HashMap<&'static str, ResourceEndpoint>,
    metrics: Arc<ViewMetrics>,
    flux_series: Option<Arc<FluxSeries>>,
    trees: Option<TreeClient>,
    existing: Option<Existing>,
    actions: Option<Arc<Actions>>,
    clusters: Option<ClusterAccess>,
    sockets: WebSockets,
}

/// A resource's cache, and the feeds that its watches share.
struct ResourceEndpoint {
    cache: Arc<WatchCache>,
    feeds: Feeds,
    /// Decides who sees which rows; `None`: whoever may read the resource sees all of them.
    callers: Option<Arc<Callers>>,
}

/// Which rows the user of a watch sees.
struct Sight<'a> {
    /// Of which clusters.
    visible: Option<&'a Visible>,
    /// Of a resource whose rows depend on who asks.
    own: Option<OwnEvents>,
}

impl Endpoints {
    /// Endpoints over these caches, one for each resource.
    pub fn new(caches: impl IntoIterator<Item = Arc<WatchCache>>, metrics: Arc<ViewMetrics>) -> Self {
        let served = |cache: Arc<WatchCache>| {
            let feeds = Feeds::new(Arc::clone(&cache));
            ResourceEndpoint { feeds, cache, callers: None }
        };
        let caches = caches.into_iter().map(|cache| (cache.resource.plural, served(cache))).collect();
        Self {
            caches,
            metrics,
            flux_series: None,
            trees: None,
            existing: None,
            actions: None,
            clusters: None,
            sockets: WebSockets::new(),
        }
    }

    /// Also serves `/metrics/flux` from these series, if there are any.
    #[must_use]
    pub fn with_flux_series(self, series: Option<Arc<FluxSeries>>) -> Self {
        Self { flux_series: series, ..self }
    }

    /// Also serves the trees of Flux objects.
    #[must_use]
    pub(crate) fn with_trees(self, trees: TreeClient) -> Self {
        Self { trees: Some(trees), ..self }
    }

    /// Judges what would fit beside the objects of this cluster.
    #[must_use]
    pub(crate) fn with_existing(self, existing: Option<Existing>) -> Self {
        Self { existing, ..self }
    }

    /// Shows each user his own rows of `mynamespaces`. Until then that resource is not served.
    #[must_use]
    pub(crate) fn with_callers(mut self, callers: Arc<Callers>) -> Self {
        if let Some(served) = self.caches.get_mut(callers::RESOURCE) {
            served.callers = Some(callers);
        }
        self
    }

    /// Also acts, by subresources, if there are any actions.
    #[must_use]
    pub fn with_actions(self, actions: Option<Arc<Actions>>) -> Self {
        Self { actions, ..self }
    }

    /// Also shows rows of remote clusters, to those who may see these.
    #[must_use]
    pub(crate) fn with_clusters(self, clusters: Option<ClusterAccess>) -> Self {
        Self { clusters, ..self }
    }

    /// What a user may see, if there may be remote clusters.
    async fn visible(&self, authorizer: &Authorizer, user: &UserInfo) -> Result<Option<Visible>, ApiError> {
        match &self.clusters {
            Some(clusters) => clusters.visible(authorizer, user).await.map(Some),
            None => Ok(None),
        }
    }

    async fn answer(&self, request: Authorized) -> Result<Response<Body>, ApiError> {
        if let RequestInfo::Resource(resource) = &request.info
            && fit::is_asked(&resource.resource, resource.subresource.as_deref())
        {
            let of = ResourceRequest { verb: Verb::Get, subresource: None, ..resource.clone() };
            let visible = self.visible(&request.authorizer, &request.user).await?;
            return self.fit(&of, request, visible.as_ref()).await;
        }
        if let Some(actions) = &self.actions
            && let RequestInfo::Resource(ResourceRequest { subresource: Some(name), .. }) = &request.info
            && name != TREE
        {
            return Box::pin(actions.answer(request)).await;
        }
        let Authorized { mut parts, info, user, holder, authorizer, stop, .. } = request;
        let visible = match &info {
            RequestInfo::Resource(_) => self.visible(&authorizer, &user).await?,
            RequestInfo::NonResource(_) => None,
        };
        match &info {
            RequestInfo::Resource(resource) if resource.verb == Verb::Watch => {
                let own = self.own_events(resource, &parts.method, &user).await?;
                let limit = self.clusters.as_ref().zip(visible.as_ref());
                let authorization = WatchRights::new(&authorizer, &user, info.clone(), limit);
                let ends = EndConditions { stop, authorization };
                let sight = Sight { visible: visible.as_ref(), own };
                self.watch(&info, resource, &mut parts, holder, sight, ends).await
            }
            RequestInfo::Resource(resource) if resource.subresource.as_deref() == Some(TREE) => {
                self.tree(resource, &parts, visible.as_ref()).await
            }
            RequestInfo::Resource(resource) => self.read(resource, &parts, visible.as_ref(), &user).await,
            RequestInfo::NonResource(other)
                if other.path == FLUX_SERIES
                    && let Some(series) = &self.flux_series =>
            {
                ensure_get_or_head(&parts.method)?;
                Ok(metrics::response(streamed(series.text()?)))
            }
            RequestInfo::NonResource(other) => {
                let acts = self.actions.is_some();
                let document = discovery::respond(&other.path, &parts.headers, acts)
                    .or_else(|| openapi::respond(&other.path, query(&parts), &parts.headers, acts));
                let document = document.ok_or_else(ApiError::no_such_path)?;
                ensure_get_or_head(&parts.method)?;
                document
            }
        }
    }

    /// Answers a get of the tree of a Flux object.
    async fn tree(
        &self,
        request: &ResourceRequest,
        parts: &Parts,
        visible: Option<&Visible>,
    ) -> Result<Response<Body>, ApiError> {
        let object = ResourceRequest { subresource: None, ..request.clone() };
        let ResourceEndpoint { cache, .. } = self.synced_resource(&object, &parts.method)?;
        let (Some(trees), Some(namespace), Some(name)) = (&self.trees, &request.namespace, &request.name)
        else {
            return Err(ApiError::no_such_path());
        };
        if cache.resource.plural != OF_TREES || request.verb != Verb::Get {
            return Err(ApiError::no_such_path());
        }
        negotiate::json(&parts.headers)?;
        let row = RowKey { namespace: namespace.as_str().into(), name: name.as_str().into() };
        ensure_shown(cache, &row, visible)?;
        let elsewhere = match &self.clusters {
            Some(clusters) => Box::pin(clusters.tree(&row)).await,
            None => None,
        };
        let tree = match elsewhere {
            Some(tree) => Some(tree?),
            None => trees.tree(row).await?,
        };
        let tree = tree.ok_or_else(|| ApiError::not_found(subject(cache, name)))?;
        let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
        Ok(response.body(full(tree.to_string())).expect("a header that is a constant"))
    }

    /// Answers whether objects would fit into the quota of a row.
    async fn fit(
        &self,
        of: &ResourceRequest,
        request: Authorized,
        visible: Option<&Visible>,
    ) -> Result<Response<Body>, ApiError> {
        let Authorized { parts, body, user, .. } = request;
        if parts.method != Method::POST {
            return Err(ApiError::only_post(&parts.method));
        }
        let ResourceEndpoint { cache, .. } = self.synced_resource(of, &Method::GET)?;
        ensure_shown(cache, &row_key(of), visible)?;
        let beside = (&user, self.existing.as_ref());
        Box::pin(fit::answer(cache, &row_key(of), (query(&parts), &parts.headers), body, beside)).await
    }

    /// Answers a get or list.
    async fn read(
        &self,
        request: &ResourceRequest,
        parts: &Parts,
        visible: Option<&Visible>,
        user: &UserInfo,
    ) -> Result<Response<Body>, ApiError> {
        let served = self.synced_resource(request, &parts.method)?;
        let cache = &served.cache;
        if request.verb == Verb::Get {
            let key = row_key(request);
            if let Some(callers) = &served.callers
                && !callers.may_see(user, &key).await?
            {
                // As if it did not exist.
                return Err(ApiError::not_found(subject(cache, &key.name)));
            }
            let options = GetOptions::parse(query(parts))?;
            let (representation, form) = negotiate::resource(&parts.headers, Shape::Object)?;
            let shown = (representation, form.prettified(options.pretty));
            let clusters = clusters(visible);
            return read::get(cache, key, &clusters, options, shown, &parts.headers).await;
        }
        let (options, selection) = selected(cache, request, parts, visible)?;
        let (representation, form) = negotiate::resource(&parts.headers, Shape::List)?;
        let shown = (representation, form.prettified(options.pretty));
        let caller = match &served.callers {
            Some(callers) => Some(callers.caller(user).await?),
            None => None,
        };
        let scope = Scope::new(served, caller.as_deref(), ResumeFrom::AnyReplica);
        read::list(scope, selection, options, shown, &parts.headers).await
    }

    /// What a watch needs of a resource whose rows depend on who asks.
    async fn own_events(
        &self,
        request: &ResourceRequest,
        method: &Method,
        user: &UserInfo,
    ) -> Result<Option<OwnEvents>, ApiError> {
        let Some(callers) = &self.synced_resource(request, method)?.callers else { return Ok(None) };
        let caller = callers.caller(user).await?;
        Ok(Some(OwnEvents::new(callers.open(&caller))))
    }

    async fn watch(
        &self,
        info: &RequestInfo,
        request: &ResourceRequest,
        parts: &mut Parts,
        holder: Holder,
        Sight { visible, own }: Sight<'_>,
        ends: EndConditions,
    ) -> Result<Response<Body>, ApiError> {
        let served = self.synced_resource(request, &parts.method)?;
        let (options, selection) = selected(&served.cache, request, parts, visible)?;
        let (representation, _) = negotiate::resource(&parts.headers, Shape::Watch)?;
        let upgrade = self.sockets.upgrade(parts, holder)?;
        let feed = served.feeds.feed(selection, representation, options.include_object);
        let origin = match visible {
            Some(visible) if visible.sees_remote => ResumeFrom::ThisReplica,
            _ => ResumeFrom::AnyReplica,
        };
        let caller = own.as_ref().map(OwnEvents::caller);
        let scope = Scope::new(served, caller.as_deref(), origin);
        let chunks = watch::watch(scope, feed, options, &self.metrics, ends, own).await?;
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
        let is_open = served.callers.is_some() || served.cache.resource.plural != callers::RESOURCE;
        if !served.cache.is_synced() || !is_open {
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

fn row_key(request: &ResourceRequest) -> RowKey {
    RowKey {
        namespace: request.namespace.as_deref().unwrap_or_default().into(),
        name: request.name.as_deref().unwrap_or_default().into(),
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
    visible: Option<&Visible>,
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
        clusters: clusters(visible),
    };
    Ok((options, selection))
}

fn clusters(visible: Option<&Visible>) -> Clusters {
    visible.map(|visible| visible.clusters.clone()).unwrap_or_default()
}

/// 404 for a row that the user may not see, as if there were none.
fn ensure_shown(cache: &WatchCache, key: &RowKey, visible: Option<&Visible>) -> Result<(), ApiError> {
    let Some(visible) = visible else { return Ok(()) };
    let is_shown = cache.snapshot().rows.get(key).is_some_and(|row| visible.clusters.show(row));
    if is_shown { Ok(()) } else { Err(ApiError::not_found(subject(cache, &key.name))) }
}

fn subject<'a>(cache: &WatchCache, name: &'a str) -> Subject<'a> {
    Subject { group: GROUP, resource: cache.resource.plural, name }
}

#[cfg(test)]
mod tests;
