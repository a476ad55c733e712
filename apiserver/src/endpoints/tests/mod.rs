//! Tests of the endpoints without a network. Requests are made as the pipeline passes them on, and bodies are
//! read to their end.
//!
//! Time is paused, so waiting takes no real time.

mod bookmarks;
mod clusters;
mod convergence;
mod fanout;
mod forms;
mod list;
mod my_limits;
mod my_namespaces;
mod my_rights;
mod my_versions;
mod paging;
mod paths;
mod replicas;
mod representations;
mod rights;
mod selectors;
mod versions;
mod watch;
mod websocket;

use std::{fmt::Write as _, sync::Mutex, time::Duration};

use bytes::Bytes;
use gatehouse_apiservice::{View, view::FluxSummaryStatus};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    clock::Clock,
    watchcache::{Draft, Update, testing},
};
use gatehouse_serving::{authn::UserInfo, authz::Authorizer, metrics::RequestMetrics};

const SUMMARIES: &str = "/apis/view.gatehouse.dev/v1alpha1/fluxsummaries";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const TABLE_BETA: &str = "application/json;as=Table;v=v1beta1;g=meta.k8s.io";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// A FluxSummary `namespace/name` in `state`, with the state as a label.
fn row(place: &str, state: &str) -> Draft {
    let (namespace, name) = place.split_once('/').expect("namespace/name");
    let labels = [("gatehouse.dev/cluster".into(), name.into()), ("state".into(), state.into())];
    testing::draft(namespace, name, state).labelled(labels)
}

fn key(place: &str) -> RowKey {
    let (namespace, name) = place.split_once('/').expect("namespace/name");
    RowKey { namespace: namespace.into(), name: name.into() }
}

/// `/apis/…/namespaces/NAMESPACE/fluxsummaries`
fn within(namespace: &str) -> String {
    format!("/apis/view.gatehouse.dev/v1alpha1/namespaces/{namespace}/fluxsummaries")
}

/// The path and query of a list of all FluxSummaries with these parameters.
fn all(parameters: &[(&str, &str)]) -> String {
    with(SUMMARIES, parameters)
}

fn with(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(format!("{path}?"));
    query.extend_pairs(parameters).finish()
}

fn view_metrics() -> Arc<ViewMetrics> {
    Arc::new(ViewMetrics::new(Arc::new(RequestMetrics::new(&[]))))
}

/// Endpoints over one synced cache of FluxSummaries.
struct Server {
    endpoints: Endpoints,
    cache: Arc<WatchCache>,
    stop: CancellationToken,
    authorizer: Arc<Authorizer>,
    /// Who sends the next request.
    user: Mutex<UserInfo>,
}

impl Server {
    /// A server with these rows, which are all Ready.
    fn with(places: &[&str]) -> Self {
        let cache = Arc::new(testing::cache());
        cache.publish(places.iter().map(|place| Update::Apply(row(place, "Ready"))));
        cache.mark_synced();
        Self::over(Endpoints::new([Arc::clone(&cache)], view_metrics()), cache)
    }

    /// A server over `endpoints` and one of their caches. Every request is authorised.
    fn over(endpoints: Endpoints, cache: Arc<WatchCache>) -> Self {
        let authorizer = Arc::new(Authorizer::CertificateHolders);
        let user = Mutex::new(UserInfo::anonymous());
        Self { endpoints, cache, stop: CancellationToken::new(), authorizer, user }
    }

    /// Publishes a row and returns the version of the change.
    fn put(&self, place: &str, state: &str) -> u64 {
        self.cache.publish([Update::Apply(row(place, state))]);
        self.version()
    }

    fn delete(&self, place: &str) -> u64 {
        self.cache.publish([Update::Delete(key(place))]);
        self.version()
    }

    /// Publishes more changes than the log keeps, and returns the version before the last one.
    fn flood(&self) -> u64 {
        for n in 0..=20_u8 {
            let mut big = row("flood/local", "Ready");
            big.status = format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(1 << 20)).into();
            self.cache.publish([Update::Apply(big)]);
        }
        let before = self.version();
        self.delete("flood/local");
        before
    }

    fn version(&self) -> u64 {
        self.cache.snapshot().version
    }

    async fn send(&self, method: Method, uri: &str, accept: &str) -> Result<Response<Body>, ApiError> {
        self.send_with(method, uri, &[(header::ACCEPT, accept)]).await
    }

    async fn send_with(
        &self,
        method: Method,
        uri: &str,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Response<Body>, ApiError> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        self.endpoints.serve(self.authorized(parts)).await
    }

    /// The request as the pipeline passes it on.
    fn authorized(&self, parts: Parts) -> Authorized {
        let info = RequestInfo::parse(&parts.method, &parts.uri).expect("a path that can be read");
        let user = self.user.lock().expect("no test panicked").clone();
        let (stop, authorizer) = (self.stop.clone(), Arc::clone(&self.authorizer));
        let body = gatehouse_serving::body::unread(http_body_util::Empty::new());
        let holder = Holder::user(&user);
        Authorized { parts, info, user, holder, authorizer, stop, body }
    }

    async fn get_as(&self, uri: &str, accept: &str) -> Value {
        let response = self.send(Method::GET, uri, accept).await.unwrap_or_else(|error| {
            panic!("{uri}: {}", error.status());
        });
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        serde_json::from_slice(&read(response).await).expect("JSON")
    }

    async fn get(&self, uri: &str) -> Value {
        self.get_as(uri, "application/json").await
    }

    /// The error that a GET is refused with: its code, reason and message.
    async fn refuses(&self, uri: &str) -> (u16, String, String) {
        let error = self.refusal(uri).await;
        let status = error.status();
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        (error.code().as_u16(), text("reason"), text("message"))
    }

    async fn refusal(&self, uri: &str) -> ApiError {
        match self.send(Method::GET, uri, "application/json").await {
            Ok(response) => panic!("{uri} is answered with {}", response.status()),
            Err(error) => error,
        }
    }

    /// Opens a watch of all FluxSummaries.
    async fn watch(&self, parameters: &[(&str, &str)]) -> Stream {
        self.watch_as(SUMMARIES, parameters, "application/json").await
    }

    async fn watch_as(&self, path: &str, parameters: &[(&str, &str)], accept: &str) -> Stream {
        let uri = with(path, &[&[("watch", "true")], parameters].concat());
        match self.send(Method::GET, &uri, accept).await {
            Ok(response) => Stream { body: response.into_body(), buffer: Vec::new() },
            Err(error) => panic!("{uri}: {}", error.status()),
        }
    }
}

async fn read(response: Response<Body>) -> Bytes {
    let body = response.into_body().collect().await.expect("whole");
    body.to_bytes()
}

/// A watch, read event by event.
struct Stream {
    body: Body,
    buffer: Vec<u8>,
}

impl Stream {
    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("a line is an event"));
            }
            let Some(frame) = self.body.frame().await else {
                assert!(self.buffer.is_empty(), "a watch ends between two events");
                return None;
            };
            self.buffer.extend_from_slice(&frame.expect("whole").into_data().expect("data"));
        }
    }

    /// The next `count` events in the form of [`told`].
    async fn take(&mut self, count: usize) -> Vec<String> {
        let mut events = Vec::new();
        while events.len() < count {
            let event = timeout(Duration::from_secs(1), self.next()).await;
            let event = event.unwrap_or_else(|_| panic!("nothing follows {events:?}"));
            events.push(reported(&event.unwrap_or_else(|| panic!("it ends after {events:?}"))));
        }
        events
    }

    /// Whether no event comes for a second.
    async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_secs(1), self.next()).await.is_err()
    }

    /// All events up to the end of the watch, and how long that took.
    async fn rest(mut self) -> (Vec<String>, Duration) {
        let start = Instant::now();
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(reported(&event));
        }
        (events, start.elapsed())
    }
}

/// An event as `TYPE namespace/name state`, without the parts that it does not have.
fn reported(event: &Value) -> String {
    let mut text = event["type"].as_str().expect("a type").to_owned();
    let metadata = &event["object"]["metadata"];
    if let (Some(namespace), Some(name)) = (metadata["namespace"].as_str(), metadata["name"].as_str()) {
        let _ = write!(text, " {namespace}/{name}");
    }
    if let Some(state) = event.pointer("/object/status/state").and_then(Value::as_str) {
        let _ = write!(text, " {state}");
    }
    if let Some(code) = event.pointer("/object/code") {
        let _ = write!(text, " {code}");
    }
    text
}

/// The `resourceVersion` of an object, list or Table.
fn version_of(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().expect("a resourceVersion");
    text.parse().expect("a decimal number")
}

/// `namespace/name` of the items of a list.
fn places(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("items").iter();
    let text = |item: &Value, field: &str| item["metadata"][field].as_str().expect("text").to_owned();
    items.map(|item| format!("{}/{}", text(item, "namespace"), text(item, "name"))).collect()
}
