//! An API server of a few hundred lines, in process: objects with versions, lists, watches, writes that compare.
//!
//! It answers through a [`Client`] without any socket, so that tests run in paused time.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::fields;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// An API server. Clones are the same server.
#[derive(Clone)]
pub struct FakeApi(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

/// Where an object is: group, plural, namespace, name.
type Place = (String, String, String, String);

#[derive(Default)]
struct State {
    revision: u64,
    /// By group and plural: version and kind.
    served: BTreeMap<(String, String), (String, String)>,
    objects: BTreeMap<Place, Value>,
    /// Every change: its revision, its type, where, and the object.
    log: Vec<(u64, &'static str, Place, Value)>,
    /// Group and plural of what may not be listed.
    forbidden: Vec<(String, String)>,
    /// Group and plural of what may not be listed over all namespaces.
    forbidden_over_all: Vec<(String, String)>,
    /// Method and path with query of every request.
    asked: Vec<String>,
    accepted: HashMap<String, String>,
    /// Group and plural of what is never answered.
    silent: Vec<(String, String)>,
    is_down: bool,
    /// Who holds which field is kept.
    tracks_fields: bool,
    /// Watches are sent nothing beyond this revision.
    held_at: Option<u64>,
    /// What was before this revision is forgotten.
    compacted: u64,
}

impl Default for FakeApi {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeApi {
    /// A server that serves namespaces and nothing else.
    pub fn new() -> Self {
        let shared = Shared { state: Mutex::default(), revision: watch::Sender::new(0) };
        let api = Self(Arc::new(shared));
        api.serve("", "v1", "namespaces", "Namespace");
        api
    }

    /// One that serves the kinds of `policy.gatehouse.dev`.
    pub fn with_policies() -> Self {
        let api = Self::new();
        for (plural, kind) in [
            ("tenantquotas", "TenantQuota"),
            ("reconcilepolicies", "ReconcilePolicy"),
            ("quotaledgers", "QuotaLedger"),
        ] {
            api.serve("policy.gatehouse.dev", "v1alpha1", plural, kind);
        }
        api
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Serves a resource from now on.
    pub fn serve(&self, group: &str, version: &str, plural: &str, kind: &str) {
        self.state().served.insert((group.into(), plural.into()), (version.into(), kind.into()));
    }

    /// Serves a resource no more; its objects are gone.
    pub fn withdraw(&self, group: &str, plural: &str) {
        let mut state = self.state();
        state.served.remove(&(group.into(), plural.into()));
        state.objects.retain(|(of, resource, _, _), _| of != group || resource != plural);
    }

    /// Refuses, or allows again, to list and watch a resource.
    pub fn forbid(&self, group: &str, plural: &str, is_forbidden: bool) {
        let mut state = self.state();
        state.forbidden.retain(|(of, resource)| of != group || resource != plural);
        if is_forbidden {
            state.forbidden.push((group.into(), plural.into()));
        }
    }

    /// Refuses to list a resource over all namespaces.
    pub fn forbid_over_all(&self, group: &str, plural: &str) {
        self.state().forbidden_over_all.push((group.into(), plural.into()));
    }

    /// Never answers requests for a resource.
    pub fn hang(&self, group: &str, plural: &str) {
        self.state().silent.push((group.into(), plural.into()));
    }

    /// Keeps from now on who holds which annotation and which field of `spec`.
    pub fn track_fields(&self) {
        self.state().tracks_fields = true;
    }

    /// Answers 500 to everything from now on, or no more.
    pub fn fail(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// Sends watches nothing that happens from now on, or all of it at last. Lists and gets see everything.
    pub fn hold_watches(&self, hold: bool) {
        let mut state = self.state();
        state.held_at = hold.then_some(state.revision);
        let revision = state.revision;
        drop(state);
        self.0.revision.send_replace(revision);
    }

    /// Forgets what has happened until now: a watch that begins earlier is 410.
    pub fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.revision;
    }

    /// Creates or replaces an object of a served kind, and returns it as it is then. A new one without a uid is
    /// given one.
    pub fn put(&self, object: Value) -> Value {
        let place = self.place_of(&object);
        let mut state = self.state();
        let object = store(&mut state, place, object);
        self.tell(state);
        object
    }

    /// Deletes an object.
    pub fn delete(&self, group: &str, plural: &str, namespace: &str, name: &str) {
        let mut state = self.state();
        let place = (group.to_owned(), plural.to_owned(), namespace.to_owned(), name.to_owned());
        remove(&mut state, &place);
        self.tell(state);
    }

    /// An object as it is stored.
    pub fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state().objects.get(&(group.into(), plural.into(), namespace.into(), name.into())).cloned()
    }

    /// Method and path with query of the requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    /// What the last request for a path (without query) accepted.
    pub fn accepted(&self, path: &str) -> Option<String> {
        self.state().accepted.get(path).cloned()
    }

    fn place_of(&self, object: &Value) -> Place {
        let api_version = object["apiVersion"].as_str().unwrap();
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let state = self.state();
        let mut served = state.served.iter();
        let found = served.find(|((of, _), (_, kind))| of == group && object["kind"] == kind.as_str());
        let ((group, plural), _) = found.unwrap_or_else(|| panic!("{api_version} is not served"));
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        (group.clone(), plural.clone(), text("namespace"), text("name"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Wakes watches.
    fn tell(&self, state: MutexGuard<'_, State>) {
        let revision = state.revision;
        drop(state);
        self.0.revision.send_replace(revision);
    }

    fn is_silent(&self, path: &str) -> bool {
        let state = self.state();
        let place = parse_path(path, &state).map(|(place, _)| (place.0, place.1));
        place.is_some_and(|place| state.silent.contains(&place))
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        if self.is_silent(head.uri.path()) {
            return std::future::pending().await;
        }
        let body = body.collect().await.unwrap().to_bytes();
        let path = head.uri.path().to_owned();
        let query: HashMap<String, String> = head
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut state = self.state();
        state.asked.push(format!("{} {}", head.method, head.uri.path_and_query().unwrap()));
        if let Some(accept) = head.headers.get("accept") {
            state.accepted.insert(path.clone(), accept.to_str().unwrap().to_owned());
        }
        if state.is_down {
            return failure(500, "InternalError", "down", "");
        }
        match path.as_str() {
            "/version" => {
                return body_of(200, &json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0"}));
            }
            "/api" => return body_of(200, &groups(&state, str::is_empty)),
            "/apis" => return body_of(200, &groups(&state, |group| !group.is_empty())),
            _ => {}
        }
        let Some((place, subresource)) = parse_path(&path, &state) else {
            return failure(404, "Failed", "404 page not found", "");
        };
        let kind = (place.0.clone(), place.1.clone());
        if place.3.is_empty() && head.method == Method::GET {
            let is_over_all = place.2.is_empty() && state.forbidden_over_all.contains(&kind);
            if is_over_all || state.forbidden.contains(&kind) {
                return failure(403, "Forbidden", &format!("{} is forbidden", place.1), "");
            }
            if query.get("watch").is_some_and(|watch| watch == "true") {
                let from = query.get("resourceVersion").and_then(|from| from.parse().ok()).unwrap_or(0);
                if from < state.compacted {
                    return failure(410, "Expired", "too old resource version", "");
                }
                drop(state);
                return watching(self.clone(), kind, from);
            }
            let items: Vec<_> = state
                .objects
                .iter()
                .filter(|((group, plural, namespace, _), _)| {
                    (group, plural) == (&kind.0, &kind.1) && (place.2.is_empty() || *namespace == place.2)
                })
                .map(|(_, object)| object)
                .collect();
            let list = json!({"kind": "List", "apiVersion": "v1", "items": items,
                              "metadata": {"resourceVersion": state.revision.to_string()}});
            return body_of(200, &list);
        }
        let is_applied =
            head.headers.get("content-type").is_some_and(|is| is == "application/apply-patch+yaml");
        let manager = query.get("fieldManager").filter(|_| is_applied);
        let answer = write(&mut state, &head.method, place, &subresource, &body, manager.map(String::as_str));
        self.tell(state);
        answer
    }
}

/// Every method but lists and watches. What is applied by a manager is created where it is not there, else merged into
/// what is.
fn write(
    state: &mut State,
    method: &Method,
    mut place: Place,
    subresource: &str,
    body: &[u8],
    applied_by: Option<&str>,
) -> Answer {
    let sent = || serde_json::from_slice::<Value>(body).unwrap();
    let known = state.objects.get(&place).cloned();
    let not_found = || failure(404, "NotFound", &format!("{} {} not found", place.1, place.3), &place.3);
    match *method {
        // What a subresource does is for the tests: it answers with the request.
        Method::POST if !subresource.is_empty() => {
            let mut request = sent();
            request["status"] = json!({});
            request["metadata"] = json!({"namespace": place.2, "name": place.3});
            body_of(201, &request)
        }
        Method::POST => {
            let object = sent();
            object["metadata"]["name"].as_str().unwrap().clone_into(&mut place.3);
            if state.objects.contains_key(&place) {
                return failure(409, "AlreadyExists", "already exists", &place.3);
            }
            body_of(201, &store(state, place, object))
        }
        Method::GET => known.map_or_else(not_found, |object| body_of(200, &object)),
        Method::DELETE if known.is_none() => not_found(),
        Method::DELETE => {
            remove(state, &place);
            body_of(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        Method::PATCH if applied_by.is_some() && known.is_none() => {
            body_of(201, &store(state, place, sent()))
        }
        Method::PUT | Method::PATCH => {
            let Some(known) = known else { return not_found() };
            let sent = sent();
            let version = &sent["metadata"]["resourceVersion"];
            let uid = &sent["metadata"]["uid"];
            let is_other = uid.is_string() && *uid != known["metadata"]["uid"];
            if is_other || version.is_string() && *version != known["metadata"]["resourceVersion"] {
                return failure(409, "Conflict", "the object has been modified", &place.3);
            }
            let mut object = known.clone();
            match (method, applied_by) {
                (&Method::PATCH, Some(manager)) if state.tracks_fields => {
                    object = fields::apply(&known, &sent, manager);
                }
                (&Method::PATCH, _) => json_patch::merge(&mut object, &sent),
                _ => object = sent,
            }
            if state.tracks_fields && applied_by.is_none() {
                object = fields::update(&known, object);
            }
            // A write to a subresource changes nothing else, and the other way round.
            let status = object.get("status").cloned();
            if subresource == "status" {
                object = known.clone();
            }
            let status = if subresource == "status" { status } else { known.get("status").cloned() };
            match status {
                Some(status) => object["status"] = status,
                None => drop(object.as_object_mut().unwrap().remove("status")),
            }
            if object == known {
                return body_of(200, &known);
            }
            body_of(200, &store(state, place, object))
        }
        _ => failure(405, "MethodNotAllowed", "not here", ""),
    }
}

fn store(state: &mut State, place: Place, mut object: Value) -> Value {
    state.revision += 1;
    let known = state.objects.get(&place);
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.insert("resourceVersion".into(), state.revision.to_string().into());
    if !place.2.is_empty() {
        metadata.insert("namespace".into(), place.2.clone().into());
    }
    let uid = known
        .map_or_else(|| format!("uid-{}", state.revision).into(), |known| known["metadata"]["uid"].clone());
    if !metadata.contains_key("uid") {
        metadata.insert("uid".into(), uid);
    }
    let generation = known.map_or(0, |known| known["metadata"]["generation"].as_i64().unwrap_or(0));
    let is_same_spec = known.is_some_and(|known| known.get("spec") == object.get("spec"));
    object["metadata"]["generation"] = (generation + i64::from(!is_same_spec)).into();
    let what = if known.is_some() { "MODIFIED" } else { "ADDED" };
    state.log.push((state.revision, what, place.clone(), object.clone()));
    state.objects.insert(place, object.clone());
    object
}

fn remove(state: &mut State, place: &Place) {
    if let Some(mut object) = state.objects.remove(place) {
        state.revision += 1;
        object["metadata"]["resourceVersion"] = state.revision.to_string().into();
        state.log.push((state.revision, "DELETED", place.clone(), object));
    }
}

/// The object or collection that a path names, and the subresource, if the resource is served.
fn parse_path(path: &str, state: &State) -> Option<(Place, String)> {
    let mut segments = path.trim_start_matches('/').split('/');
    let group = match segments.next()? {
        "api" => "",
        "apis" => segments.next()?,
        _ => return None,
    };
    let version = segments.next()?;
    let mut rest: Vec<&str> = segments.collect();
    let mut namespace = "";
    if rest.len() > 2 && rest[0] == "namespaces" {
        namespace = rest[1];
        rest.drain(..2);
    }
    let plural = *rest.first()?;
    let (served, _) = state.served.get(&(group.to_owned(), plural.to_owned()))?;
    let part = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
    (served == version)
        .then(|| ((group.to_owned(), plural.to_owned(), namespace.to_owned(), part(1)), part(2)))
}

fn groups(state: &State, is_meant: impl Fn(&str) -> bool) -> Value {
    let mut groups: BTreeMap<&str, BTreeMap<&str, Vec<Value>>> = BTreeMap::new();
    for ((group, plural), (version, kind)) in &state.served {
        if is_meant(group) {
            groups.entry(group).or_default().entry(version).or_default().push(json!({
                "resource": plural, "responseKind": {"group": group, "version": version, "kind": kind},
                "scope": "Namespaced", "singularResource": "", "verbs": ["get", "list", "watch"]}));
        }
    }
    let items: Vec<_> = groups
        .into_iter()
        .map(|(name, versions)| {
            let versions: Vec<_> = versions
                .into_iter()
                .map(|(version, resources)| json!({"version": version, "freshness": "Current", "resources": resources}))
                .collect();
            json!({"metadata": {"name": name}, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "items": items})
}

/// A watch: what happened since `from`, and what will.
fn watching(api: FakeApi, kind: (String, String), from: u64) -> Answer {
    let frames = events(api, kind, from).map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
    respond(200, StreamBody::new(frames).boxed_unsync())
}

fn events(api: FakeApi, kind: (String, String), from: u64) -> impl Stream<Item = Value> {
    let changed = api.0.revision.subscribe();
    stream::unfold((api, changed, from), move |(api, mut changed, from)| {
        let kind = kind.clone();
        async move {
            loop {
                {
                    let state = api.state();
                    let until = state.held_at.unwrap_or(u64::MAX);
                    let next = state.log.iter().find(|(revision, _, place, _)| {
                        *revision > from && *revision <= until && (&place.0, &place.1) == (&kind.0, &kind.1)
                    });
                    if let Some((revision, what, _, object)) = next {
                        let event = json!({"type": what, "object": object});
                        let revision = *revision;
                        drop(state);
                        return Some((event, (api, changed, revision)));
                    }
                }
                if changed.changed().await.is_err() {
                    return None;
                }
            }
        }
    })
}

fn failure(code: u16, reason: &str, message: &str, name: &str) -> Answer {
    body_of(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                "reason": reason, "message": message, "details": {"name": name}}),
    )
}

fn body_of(code: u16, body: &Value) -> Answer {
    respond(code, Full::new(Bytes::from(body.to_string())).boxed_unsync())
}

fn respond(code: u16, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}
