//! Actions on Flux objects, by subresources of the views: reconcile, suspend, resume.
//!
//! The pipeline has authorized the request for the subresource. Here the verb of the Flux operator on the Flux object
//! is asked for, too; then Gatehouse writes by its own account, and admission judges the requester. In another cluster
//! the requester is impersonated.
//!
//! **Invariant:** nothing is written before the whole request was checked, and every write is for one version of one
//! object, so that what was checked is what is changed.

mod attempts;
mod body;
mod bulk;
mod cluster;
mod ender;
mod impersonation;
mod json;
mod live;
mod observed;
mod patch;
mod reach;
mod reconcile;
mod remote;
mod remote_events;
mod report;
mod suspension;
mod target;
mod turns;

use std::{iter::once, sync::Arc};

use gatehouse_apiservice::{
    UserInfo,
    action::{ReconcileRequestSpec, SUBRESOURCES, SUSPENSION, Subresource},
    view::{API_VERSION, GROUP, VERSION},
};
use gatehouse_inventory::{LOCAL, Str, catalogue::Catalogue};
use gatehouse_serving::{
    ApiError, Body,
    authz::Access,
    authz::Authorizer,
    body::RequestBody,
    events::EventRecorder,
    negotiate::{self, MetaVersion, Representation, Shape},
    pipeline::Authorized,
    query::Query,
    request_info::{ResourceRequest, Verb},
    tasks::Tasks,
};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use prometheus::IntCounterVec;
use serde::Serialize;
use serde_json::{Value, json};

pub use self::observed::Observed;
use self::{
    body::Body as Request,
    cluster::{Call, Handed, LocalCluster},
    reach::{OWN, Reached, Remotes},
    remote_events::RemoteEvents,
    report::Reports,
    suspension::Given,
    turns::Turns,
};
use crate::{
    clusters::Registry, endpoints::compress, metrics::ViewMetrics, request_body, watchcache::WatchCache,
};

/// What actions need beside the views.
pub struct ActionParts {
    /// A client that does not retry, with the rights to act.
    pub client: kube::Client,
    /// The name of this replica.
    pub identity: String,
    /// notification-controller, which gets an event of each action.
    pub events_address: Option<Uri>,
}

/// What actions see of the clusters.
pub(crate) struct Seen {
    /// The name of the local one.
    pub(crate) cluster: Str,
    /// Those that are registered beside it, if any can be.
    pub(crate) remotes: Option<Arc<Registry>>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) observed: Arc<Observed>,
    /// The rows of fluxresources.
    pub(crate) rows: Arc<WatchCache>,
}

/// Answers requests for subresources.
pub struct Actions {
    local: Reached,
    remotes: Option<Remotes>,
    catalogue: Arc<Catalogue>,
    observed: Arc<Observed>,
    /// The rows of fluxresources.
    rows: Arc<WatchCache>,
    access: Access,
    turns: Turns,
    reports: Reports,
    outcomes: IntCounterVec,
}

/// Who asks for what, and how.
#[derive(Clone)]
struct Ask {
    user: UserInfo,
    access: Access,
    namespace: String,
    /// The name of the row.
    name: String,
    call: Call,
}

impl Ask {
    /// What Gatehouse does by itself.
    fn own(access: &Access, namespace: &str) -> Self {
        Self {
            user: UserInfo::default(),
            access: access.clone(),
            namespace: namespace.to_owned(),
            name: String::new(),
            call: Call::default(),
        }
    }
}

impl Actions {
    /// Actions on the local cluster and those that are registered. Their tasks join `background`.
    pub(crate) fn start(
        parts: ActionParts,
        seen: Seen,
        authorizer: Arc<Authorizer>,
        metrics: &ViewMetrics,
        background: &mut Tasks,
    ) -> Arc<Self> {
        let Seen { cluster, remotes, catalogue, observed, rows } = seen;
        let ActionParts { client, identity, events_address } = parts;
        let stop = background.stop();
        let (events, broadcaster) = EventRecorder::new(metrics.events(), report::reporter(&identity));
        background.spawn("Events of actions", broadcaster.run(client.clone(), stop.clone()));
        let (remote_events, broadcaster) = RemoteEvents::new(metrics.events(), report::reporter(&identity));
        background.spawn("Events of actions in remote clusters", broadcaster.run(stop.clone()));
        let (reports, queue) = Reports::new(events, remote_events, &identity, events_address.is_some());
        if let (Some(address), Some(queue)) = (events_address, queue) {
            background
                .spawn("events to notification-controller", report::forward(address, queue, stop.clone()));
        }
        let local =
            Reached { id: LOCAL, name: cluster, requests: Arc::new(LocalCluster::new(client)), events: None };
        let actions = Arc::new(Self {
            local,
            remotes: remotes.map(|registry| Remotes::new(registry, Arc::clone(&authorizer))),
            catalogue,
            observed,
            rows,
            access: Access::new(authorizer),
            turns: Turns::new(),
            reports,
            outcomes: metrics.actions(),
        });
        background.spawn("ends of suspensions", ender::run(Arc::clone(&actions), stop));
        actions
    }

    /// Answers a request for a subresource.
    pub(crate) async fn answer(self: &Arc<Self>, request: Authorized) -> Result<Response<Body>, ApiError> {
        let Authorized { parts, info, user, body, .. } = request;
        let gatehouse_serving::request_info::RequestInfo::Resource(info) = info else {
            return Err(ApiError::no_such_path());
        };
        let subresource = subresource(&info)?;
        if !subresource.verbs.contains(&info.verb.as_str()) || parts.method == http::Method::HEAD {
            return Err(ApiError::other_verbs(&parts.method, subresource.verbs));
        }
        let (Some(namespace), Some(name)) = (info.namespace.clone(), info.name.clone()) else {
            return Err(ApiError::no_such_path());
        };
        let (representation, form) = negotiate::resource(&parts.headers, Shape::Object)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let form = form.prettified(query.find("pretty").map(|_| query.flag("pretty").unwrap_or_default()));
        let audit_id = parts.headers.get("audit-id").cloned();
        let (dry_run, field_manager) = body::options(&query)?;
        let call = Call { requester: Some(user.clone()), audit_id, dry_run, field_manager };
        let ask = Ask { user, access: self.access.clone(), namespace, name, call };
        let done = self.act(subresource, info.verb, &ask, &parts.headers, body).await;
        self.count(subresource, info.verb, dry_run, &done);
        let done = done.map_err(|error| match error.code() {
            StatusCode::UNPROCESSABLE_ENTITY => error.about_object(&ask.name),
            _ => error,
        });
        let done = match representation {
            Representation::Table(version) if subresource.kind.kind == SUSPENSION.kind => {
                table(&done?, version)
            }
            _ => done?,
        };
        let document = form.document(done.to_string().into_bytes())?;
        let mut response = compress::respond(form, &parts.headers, once(document.into()));
        if info.verb == Verb::Create {
            *response.status_mut() = StatusCode::CREATED;
        }
        Ok(response)
    }

    async fn act(
        self: &Arc<Self>,
        subresource: &'static Subresource,
        verb: Verb,
        ask: &Ask,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Result<Value, ApiError> {
        let media_type = body::media_type(headers);
        if matches!(verb, Verb::Create | Verb::Update) {
            body::ensure_json(headers)?;
        }
        let sent = match verb {
            Verb::Get => Vec::new(),
            _ => request_body::read(body, body::LONGEST_BODY).await?,
        };
        let wish = Wish::read(subresource, verb, ask, &media_type, &sent)?;
        let place = self.reach(ask, subresource.resource.plural).await?;
        // A row of the local cluster has one name, by whichever it was found.
        let ask = &Ask { name: place.row(&place.cluster.name), ..ask.clone() };
        let handed = Handed {
            subresource,
            method: method(verb),
            namespace: &ask.namespace,
            name: &place.row(OWN),
            body: (verb != Verb::Get).then(|| (media_type.clone(), body::renamed(&sent, &place.row(OWN)))),
        };
        if let Some(mut answer) = place.cluster.requests.hand_on(&handed, &ask.call).await? {
            answer["metadata"]["name"] = ask.name.as_str().into();
            return Ok(answer);
        }
        let kind = subresource.shown_as;
        match wish {
            Wish::Show => Ok(self.suspension(ask, &place).await?.document(ask, kind)),
            Wish::Suspension(given, direction) => {
                Ok(self.suspend(ask, &place, given, direction).await?.document(ask, kind))
            }
            Wish::Reconciliation(request) => {
                let spec = request.spec.clone();
                let status = if subresource.resource.plural == target::ROWS {
                    self.reconcile(ask, &place, request).await?
                } else {
                    self.reconcile_namespace(ask, &place.cluster, request).await?
                };
                Ok(document(kind, ask, None, &spec, &status))
            }
        }
    }

    fn count<T>(&self, subresource: &Subresource, verb: Verb, is_dry_run: bool, done: &Result<T, ApiError>) {
        if verb == Verb::Get {
            return;
        }
        let action = match (subresource.resource.plural, subresource.name) {
            (target::ROWS, name) => name,
            _ => "reconcile_namespace",
        };
        let outcome = match done.as_ref().map_err(|error| error.code().as_u16()) {
            Ok(_) => "done",
            Err(400 | 405 | 413 | 415 | 422) => "invalid",
            Err(401 | 403) => "denied",
            Err(404) => "not_found",
            Err(409) => "conflict",
            Err(_) => "failed",
        };
        self.outcomes.with_label_values(&[action, if is_dry_run { "All" } else { "" }, outcome]).inc();
    }
}

/// What a request wants, as far as it can be told without the object.
enum Wish<'a> {
    /// To see the suspension.
    Show,
    /// Another suspension; with the direction of a short form.
    Suspension(Given<'a>, Option<bool>),
    Reconciliation(Request<ReconcileRequestSpec>),
}

impl<'a> Wish<'a> {
    fn read(
        subresource: &Subresource,
        verb: Verb,
        ask: &Ask,
        media_type: &str,
        sent: &'a [u8],
    ) -> Result<Self, ApiError> {
        let place = (ask.namespace.as_str(), ask.name.as_str());
        let direction = match subresource.name {
            "suspend" => Some(true),
            "resume" => Some(false),
            _ => None,
        };
        match verb {
            Verb::Get => Ok(Self::Show),
            Verb::Patch => Ok(Self::Suspension(Given::Patch(patching(media_type, sent)?), None)),
            _ if subresource.kind.kind == SUSPENSION.kind => {
                let body = body::decode(sent, (&SUSPENSION, subresource.shown_as), place)?;
                Ok(Self::Suspension(Given::Body(body), direction))
            }
            _ => {
                body::decode(sent, (subresource.kind, subresource.shown_as), place).map(Self::Reconciliation)
            }
        }
    }
}

/// The method of a verb that a subresource has.
fn method(verb: Verb) -> Method {
    match verb {
        Verb::Get => Method::GET,
        Verb::Update => Method::PUT,
        Verb::Patch => Method::PATCH,
        _ => Method::POST,
    }
}

/// The subresource that a request is for, or 404.
fn subresource(info: &ResourceRequest) -> Result<&'static Subresource, ApiError> {
    let is_served = info.group == GROUP && info.version == VERSION && !info.has_extra_segments;
    let is_asked_for = |known: &&Subresource| {
        known.resource.plural == info.resource && Some(known.name) == info.subresource.as_deref()
    };
    SUBRESOURCES.iter().filter(|_| is_served).find(is_asked_for).ok_or_else(ApiError::no_such_path)
}

/// A document as it is sent. `object` is the uid and version of the Flux object that it is about.
fn document(
    kind: &str,
    ask: &Ask,
    object: Option<(&str, &str)>,
    spec: &impl Serialize,
    status: &impl Serialize,
) -> Value {
    let mut metadata = json!({"name": ask.name, "namespace": ask.namespace});
    if let Some((uid, version)) = object {
        metadata["uid"] = uid.into();
        metadata["resourceVersion"] = version.into();
    }
    json!({
        "apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec, "status": status,
    })
}

/// A suspension as `kubectl get` prints it.
fn table(suspension: &Value, version: MetaVersion) -> Value {
    let text = |pointer: &str| suspension.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let is_suspended = suspension.pointer("/spec/suspended") == Some(&Value::Bool(true));
    let columns = [
        ("Name", text("/metadata/name"), "Name of the row."),
        ("Suspended", if is_suspended { "True" } else { "False" }, "Whether the object is suspended."),
        ("Since", text("/status/since"), "Since when."),
        ("Until", text("/spec/until"), "When the suspension ends by itself."),
        ("By", text("/status/by"), "Who suspended it."),
        ("Frozen-By", text("/status/frozenBy"), "The freeze that holds it."),
        ("Reason", text("/spec/reason"), "Why it is suspended."),
    ];
    let definitions = columns.map(|(name, _, description)| {
        let format = if name == "Name" { "name" } else { "" };
        json!({"name": name, "type": "string", "format": format, "description": description, "priority": 0})
    });
    let cells = columns.map(|(_, cell, _)| cell);
    let object = json!({
        "apiVersion": version.api_version(), "kind": "PartialObjectMetadata", "metadata": suspension["metadata"],
    });
    json!({
        "apiVersion": version.api_version(), "kind": "Table", "metadata": {},
        "columnDefinitions": definitions, "rows": [{"cells": cells, "object": object}],
    })
}

/// Changes a document by a patch.
type Patching<'a> = Box<dyn Fn(Value) -> Result<Vec<u8>, ApiError> + Send + Sync + 'a>;

/// How a patch changes a document, by its media type.
fn patching<'a>(media_type: &str, patch: &'a [u8]) -> Result<Patching<'a>, ApiError> {
    if media_type == body::JSON_PATCH {
        let patch = body::parse("the patch", patch)?;
        if !patch.is_array() {
            return Err(ApiError::bad_request("the patch must be a list of operations: it is a JSON patch"));
        }
        let patch: json_patch::Patch = serde_json::from_value(patch)
            .map_err(|error| ApiError::bad_request(format!("the patch cannot be decoded: {error}")))?;
        return Ok(Box::new(move |document| patch::apply(document, &patch)));
    }
    if !body::MERGE_PATCHES.contains(&media_type) {
        let accepted = [body::MERGE_PATCHES.as_slice(), &[body::JSON_PATCH]].concat().join(", ");
        return Err(ApiError::unsupported_media_type(media_type, &accepted));
    }
    let patch = body::parse("the patch", patch)?;
    if !patch.is_object() {
        return Err(ApiError::bad_request("the patch must be a JSON object"));
    }
    Ok(Box::new(move |mut document| {
        json_patch::merge(&mut document, &patch);
        Ok(document.to_string().into_bytes())
    }))
}
