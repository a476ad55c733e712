//! Prometheus metrics of requests and of the process.
//!
//! Each server has its own registry, never the process-wide one, so that two servers in one process do not mix. Names
//! and labels follow `k8s.io/apiserver/pkg/endpoints/metrics`, so that existing dashboards work.
//!
//! **Invariant:** no label has a value that a client can choose freely. Resources and paths that are not served have
//! empty labels, unknown verbs are `other`, and users and objects do not appear.

mod certificate;
mod labels;
mod process;

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use prometheus::core::Collector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::body::Body;

pub use certificate::Validities;
use labels::{LONG_RUNNING, REQUEST, REQUEST_AND_CODE, TERMINATIONS};
pub use labels::{RequestLabels, ServedResource, ServedResources};

/// The content type of [`RequestMetrics::render`].
const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

/// A response with metrics in the Prometheus text format.
pub fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
    response
}

/// The buckets of `apiserver_request_duration_seconds` in k8s.io/apiserver.
const DURATION_BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// The buckets of `apiserver_response_sizes` in k8s.io/apiserver: a kilobyte to a gigabyte.
const SIZE_BUCKETS: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// The metrics of a server's requests, and the registry for all its metrics.
pub struct RequestMetrics {
    registry: Registry,
    served: ServedResources,
    requests: IntCounterVec,
    durations: HistogramVec,
    response_sizes: HistogramVec,
    long_running: IntGaugeVec,
    in_flight: IntGaugeVec,
    terminations: IntCounterVec,
    panics: IntCounter,
    connections: IntGauge,
    authorization_lookups: IntCounterVec,
}

impl RequestMetrics {
    /// `served` are the resources that may appear in labels.
    pub fn new(served: &[ServedResource]) -> Self {
        let registry = Registry::new();
        let metrics = Self {
            served: ServedResources::new(served),
            requests: counters(
                "apiserver_request_total",
                "Requests by verb, resource and HTTP code.",
                &REQUEST_AND_CODE,
            ),
            durations: histograms(
                "apiserver_request_duration_seconds",
                "Time to answer, watches excluded.",
                &REQUEST,
                &DURATION_BUCKETS,
            ),
            response_sizes: histograms(
                "apiserver_response_sizes",
                "Bytes in response bodies, watches excluded.",
                &REQUEST,
                &SIZE_BUCKETS,
            ),
            long_running: gauges("apiserver_longrunning_requests", "Open watches.", &LONG_RUNNING),
            in_flight: gauges(
                "apiserver_current_inflight_requests",
                "Requests being served, watches excluded.",
                &["request_kind"],
            ),
            terminations: counters(
                "apiserver_request_terminations_total",
                "Requests ended by the server to protect itself.",
                &TERMINATIONS,
            ),
            panics: expect_valid(IntCounter::new(
                "gatehouse_request_panics_total",
                "Requests that ended in a panic.",
            )),
            connections: expect_valid(IntGauge::new("gatehouse_connections", "Open client connections.")),
            authorization_lookups: counters(
                "gatehouse_authorization_cache_total",
                "Lookups in the authorization cache; a miss is a SubjectAccessReview.",
                &["result"],
            ),
            registry,
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let collectors: [Box<dyn Collector>; 10] = [
            Box::new(self.requests.clone()),
            Box::new(self.durations.clone()),
            Box::new(self.response_sizes.clone()),
            Box::new(self.long_running.clone()),
            Box::new(self.in_flight.clone()),
            Box::new(self.terminations.clone()),
            Box::new(self.panics.clone()),
            Box::new(self.connections.clone()),
            Box::new(self.authorization_lookups.clone()),
            Box::new(process::ProcessCollector::new()),
        ];
        for collector in collectors {
            expect_valid(self.registry.register(collector));
        }
    }

    /// The registry, for further metrics of this server.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All metrics in the Prometheus text format, for `GET /metrics`.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "cannot encode metrics");
        }
        text
    }

    /// The resources that may appear in labels.
    pub fn served(&self) -> &ServedResources {
        &self.served
    }

    pub(crate) fn count_authorization(&self, hit: bool) {
        self.authorization_lookups.with_label_values(&[if hit { "hit" } else { "miss" }]).inc();
    }

    pub(crate) fn count_panic(&self) {
        self.panics.inc();
    }

    pub(crate) fn connections(&self) -> &IntGauge {
        &self.connections
    }

    pub(crate) fn in_flight(&self, is_read_only: bool) -> IntGauge {
        self.in_flight.with_label_values(&[if is_read_only { "readOnly" } else { "mutating" }])
    }

    /// The gauge of open watches with these labels.
    pub fn long_running(&self, labels: &RequestLabels) -> IntGauge {
        self.long_running.with_label_values(&labels.long_running())
    }

    pub(crate) fn count_termination(&self, labels: &RequestLabels, code: StatusCode) {
        self.terminations.with_label_values(&labels.terminations(code.as_str())).inc();
    }

    pub(crate) fn observe_request(
        &self,
        labels: &RequestLabels,
        code: StatusCode,
        duration: Option<Duration>,
    ) {
        self.requests.with_label_values(&labels.request_and_code(code.as_str())).inc();
        if let Some(duration) = duration {
            self.durations.with_label_values(&labels.request()).observe(duration.as_secs_f64());
        }
    }

    pub(crate) fn observe_response_size(&self, labels: &RequestLabels, bytes: u64) {
        #[allow(clippy::cast_precision_loss, reason = "exact up to 8 PiB")]
        self.response_sizes.with_label_values(&labels.request()).observe(bytes as f64);
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    expect_valid(IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    expect_valid(IntGaugeVec::new(Opts::new(name, help), labels))
}

fn histograms(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    expect_valid(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
}

fn expect_valid<T>(result: prometheus::Result<T>) -> T {
    result.expect("names and labels are constants, valid and distinct; the tests create every metric")
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::request_info::RequestInfo;

    fn metrics() -> RequestMetrics {
        RequestMetrics::new(&[ServedResource {
            group: "g".to_owned(),
            version: "v1".to_owned(),
            resource: "things".to_owned(),
        }])
    }

    fn labels(metrics: &RequestMetrics, method: &Method, uri: &str) -> RequestLabels {
        let info = RequestInfo::parse(method, &uri.parse().expect("URI")).expect("readable");
        RequestLabels::new(metrics.served(), &info)
    }

    #[test]
    fn requests_are_labelled_as_upstream() {
        let metrics = metrics();
        for (method, uri, expected) in [
            (Method::GET, "/apis/g/v1/namespaces/n/things", "LIST g v1 things - namespace"),
            (Method::GET, "/apis/g/v1/things?watch=1", "WATCH g v1 things - cluster"),
            (Method::GET, "/apis/g/v1/things/a/status", "GET g v1 things status resource"),
            (Method::GET, "/apis/g/v1/made-up/by-a-client/subresource", "GET - - - - resource"),
            (Method::PATCH, "/apis/g/v1/things/a", "PATCH g v1 things - resource"),
            (Method::GET, "/readyz/ping", "GET - - - /readyz -"),
            (Method::GET, "/openapi/v3/apis/g/v1", "GET - - - /openapi/v3 -"),
            (Method::GET, "/made-up", "GET - - - - -"),
            (Method::from_bytes(b"BREW").expect("method"), "/made-up", "other - - - - -"),
        ] {
            let labels = labels(&metrics, &method, uri);
            let shown: Vec<_> = labels.long_running()[..6]
                .iter()
                .map(|label| if label.is_empty() { "-" } else { label })
                .collect();
            assert_eq!(shown.join(" "), expected, "{uri}");
        }
    }

    #[test]
    fn the_text_names_every_metric_of_the_dashboards() {
        let metrics = metrics();
        let labels = labels(&metrics, &Method::GET, "/apis/g/v1/things");
        metrics.observe_request(&labels, StatusCode::OK, Some(Duration::from_millis(1)));
        metrics.observe_response_size(&labels, 10);
        metrics.long_running(&labels).inc();
        metrics.in_flight(true).inc();
        metrics.count_termination(&labels, StatusCode::TOO_MANY_REQUESTS);
        metrics.count_authorization(true);
        let text = String::from_utf8(metrics.render()).expect("text");
        for expected in [
            r#"apiserver_request_total{code="200",component="apiserver",dry_run="",group="g",resource="things",scope="cluster",subresource="",verb="LIST",version="v1"} 1"#,
            "apiserver_request_duration_seconds_bucket{",
            "apiserver_longrunning_requests{",
            r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#,
            "apiserver_response_sizes_sum{",
            "apiserver_request_terminations_total{",
            r#"gatehouse_authorization_cache_total{result="hit"} 1"#,
            "# TYPE process_cpu_seconds_total counter",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
        ] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
    }
}
