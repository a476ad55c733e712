//! Measures what responses cost, from the watch cache to the bytes, without authentication, TLS and network:
//! `cargo bench -p gatehouse-apiserver`.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use gatehouse_apiserver::clock::Clock;
use gatehouse_apiserver::endpoints::Endpoints;
use gatehouse_apiserver::metrics::ViewMetrics;
use gatehouse_apiserver::watchcache::{Cells, Draft, RowKey, Selectable, Update, WatchCache};
use gatehouse_apiservice::view::FluxResourceStatus;
use gatehouse_apiservice::{Resource, Time, View};
use gatehouse_serving::authn::UserInfo;
use gatehouse_serving::authz::Authorizer;
use gatehouse_serving::metrics::RequestMetrics;
use gatehouse_serving::pipeline::{Authorized, Handler, Holder};
use gatehouse_serving::request_info::RequestInfo;
use gatehouse_serving::{Body, body::BodyError};
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio_util::sync::CancellationToken;

const ROWS: usize = 10_000;
const LISTS: u32 = 20;
const IDLE: usize = 10_000;
const WATCHERS: usize = 1_000;
const CHANGES: usize = 1_000;

static RESOURCE: Resource = <FluxResourceStatus as View>::RESOURCE;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let cache = Arc::new(WatchCache::new(&RESOURCE, Arc::new(Clock::new(0))));
        cache.publish((0..ROWS).map(|n| Update::Apply(draft(n, 0))));
        cache.mark_synced();
        let endpoints = Endpoints::new(
            [Arc::clone(&cache)],
            Arc::new(ViewMetrics::new(Arc::new(RequestMetrics::new(&[])))),
        );
        // First, while the process has allocated little memory.
        idle(&endpoints, &cache).await;
        watches(&endpoints, &cache).await;
        lists(&endpoints).await;
    });
}

/// Lists all rows, with and without compression.
async fn lists(endpoints: &Endpoints) {
    for accept in ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/yaml"] {
        for encoding in ["identity", "gzip"] {
            let start = Instant::now();
            let mut bytes = 0;
            for _ in 0..LISTS {
                let body = answer(endpoints, "", &[("accept", accept), ("accept-encoding", encoding)]).await;
                bytes = body.collect().await.expect("it is read at once").to_bytes().len();
            }
            println!(
                "list of {ROWS} rows, {accept}, {encoding}: {:?}, {bytes} bytes",
                start.elapsed() / LISTS
            );
        }
    }
}

/// Opens `count` watches with `selections` different selections.
async fn open(endpoints: &Endpoints, cache: &WatchCache, count: usize, selections: usize) -> Vec<Body> {
    let from = cache.snapshot().version;
    let mut watches = Vec::new();
    for n in 0..count {
        let query = format!("?watch=true&resourceVersion={from}&labelSelector=x!=of-{}", n % selections);
        let mut body = answer(endpoints, &query, &[]).await;
        assert!(next(&mut body).is_none(), "nothing has happened yet");
        watches.push(body);
    }
    watches
}

/// The length of the next chunk, if there is one now.
fn next(watch: &mut Body) -> Option<usize> {
    // With a budget, tokio would report pending to let other tasks run.
    let frame = tokio::task::unconstrained(watch.frame()).now_or_never()?;
    Some(frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok()).expect("data").len())
}

async fn idle(endpoints: &Endpoints, cache: &WatchCache) {
    for selections in [1, IDLE] {
        let before = resident();
        let watches = open(endpoints, cache, IDLE, selections).await;
        let each = resident().saturating_sub(before) / watches.len();
        println!("{IDLE} idle watches of {selections} selections: {each} bytes each");
    }
}

/// Changes one row at a time, and reads the event from all watches.
async fn watches(endpoints: &Endpoints, cache: &WatchCache) {
    for (round, selections) in [1, 100, WATCHERS].into_iter().enumerate() {
        let mut watches = open(endpoints, cache, WATCHERS, selections).await;
        let start = Instant::now();
        let (mut events, mut bytes) = (0, 0);
        for change in 1..=CHANGES {
            cache.publish([Update::Apply(draft(change % ROWS, change + round * CHANGES))]);
            for watch in &mut watches {
                while let Some(length) = next(watch) {
                    bytes += length;
                    events += 1;
                }
            }
        }
        let each = start.elapsed() / u32::try_from(events).expect("some");
        let size = bytes / events;
        println!(
            "{WATCHERS} watches of {selections} selections, {events} events of {size} bytes: {each:?} each"
        );
    }
}

async fn answer(endpoints: &Endpoints, query: &str, headers: &[(&str, &str)]) -> Body {
    let mut request = Request::get(format!("/apis/view.gatehouse.dev/v1alpha1/fluxresources{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    let info = RequestInfo::parse(&parts.method, &parts.uri).expect("readable");
    let body = Empty::new().map_err(|never| -> BodyError { match never {} }).boxed_unsync();
    let authorizer = Arc::new(Authorizer::CertificateHolders);
    let stop = CancellationToken::new();
    let user = UserInfo::default();
    let holder = Holder::user(&user);
    let request = Authorized { parts, info, user, holder, authorizer, stop, body };
    endpoints.serve(request).await.unwrap_or_else(|error| panic!("{error}")).into_body()
}

/// The process's resident memory in bytes; 0 if the system does not report it.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}

/// A row like that of a Kustomization.
fn draft(n: usize, change: usize) -> Draft {
    let (namespace, name) = (format!("team-{}", n % 100), format!("local.kustomization.app-{n}"));
    let revision = format!("main@sha1:{:040x}", (n * 31 + change + 1).pow(3));
    let status = format!(
        "{{\"cluster\":\"local\",\"group\":\"kustomize.toolkit.fluxcd.io\",\"kind\":\"Kustomization\",\"name\":\"app-{n}\",\
         \"state\":\"Ready\",\"suspended\":false,\"reason\":\"ReconciliationSucceeded\",\"message\":\"Applied revision: \
         {revision}\",\"since\":\"2026-11-21T08:40:40Z\",\"revision\":\"{revision}\",\"source\":{{\"kind\":\
         \"GitRepository\",\"namespace\":\"flux-system\",\"name\":\"flux-system\"}},\"conditions\":[{{\"type\":\"Ready\",\
         \"status\":\"True\",\"lastTransitionTime\":\"2026-11-21T08:40:40Z\",\"reason\":\"Ready\",\"message\":\"\"}},\
         {{\"type\":\"Fresh\",\"status\":\"True\",\"lastTransitionTime\":\"2026-11-21T08:40:40Z\",\"reason\":\
         \"Observed\",\"message\":\"\"}}]}}"
    );
    let json =
        format!("[\"{name}\",\"Kustomization\",\"app-{n}\",\"Ready\",\"{revision}\",\"False\",\"\",,\"\"]");
    let at = json.len() - ",\"\"]".len();
    Draft {
        key: RowKey { namespace: namespace.as_str().into(), name: name.as_str().into() },
        uid: uuid::Uuid::from_u128((n as u128) << 64 | 0x5000_0000_8000_0000_0000_0000),
        created: Time(1_790_000_000),
        selectable: Arc::new(Selectable {
            labels: [
                ("gatehouse.dev/cluster".into(), "local".into()),
                ("gatehouse.dev/tenant".into(), namespace.as_str().into()),
            ]
            .into(),
            fields: ["local".into(), "Kustomization".into(), "Ready".into(), "false".into()].into(),
        }),
        status: status.into_bytes(),
        cells: Cells { json: json.into_bytes(), ages: vec![(at, Some(Time(1_790_000_000)))] },
    }
}
