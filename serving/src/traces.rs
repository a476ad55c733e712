//! Traces for an OpenTelemetry collector: a span for each request, in the trace that its `traceparent` header names.
//!
//! Spans are sent in batches over OTLP (HTTP, protobuf) from a bounded queue that drops spans when it is full, so
//! requests never wait for the collector. **Invariant:** no span holds a query string, a body, a user or a credential.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header, request::Parts};
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator,
    trace::{Span as _, SpanKind, Status, Tracer as _, TracerProvider as _},
};
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError, hyper::HyperClient};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracer, SdkTracerProvider, Span},
};
use tokio::runtime::Handle;

/// The timeout for sending a batch. Spans that end meanwhile wait in the queue.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for the last batch, on shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// The path of the collector if the endpoint names none, as OTLP defines it.
const PATH: &str = "/v1/traces";

/// Creates spans and sends them to a collector.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

/// Traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The endpoint is not an `http://` URL with a host.
    #[error("{0:?} is not an http:// URL; for TLS, use a collector on the same node or in the same cluster")]
    Endpoint(String),
    /// The exporter cannot be built.
    #[error("cannot start the trace exporter")]
    Exporter(#[from] ExporterBuildError),
}

/// The span of a request; it ends when it is dropped.
pub(crate) struct RequestSpan(Span);

impl Traces {
    /// Sends spans to `endpoint` with the service name `service`. If a request names a parent span, its sampling
    /// decision counts; of the other requests, the fraction `ratio` (0 to 1) is sampled. Needs a multi-threaded tokio
    /// runtime.
    pub fn start(endpoint: &str, service: &'static str, ratio: f64) -> Result<Self, TracesError> {
        let parsed = url::Url::parse(endpoint).ok().filter(|url| url.scheme() == "http" && url.has_host());
        let mut url = parsed.ok_or_else(|| TracesError::Endpoint(endpoint.to_owned()))?;
        if url.path() == "/" {
            url.set_path(PATH);
        }
        let client = RuntimeHttpClient {
            runtime: Handle::current(),
            client: Arc::new(HyperClient::with_default_connector(EXPORT_TIMEOUT, None)),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(url)
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(Resource::builder().with_service_name(service).build())
            .build();
        let tracer = provider.tracer("gatehouse");
        Ok(Self { provider, tracer, propagator: TraceContextPropagator::new() })
    }

    /// Starts the span of a request. `verb` and `resource` must be from a bounded set, since they are the span's name.
    pub(crate) fn begin(
        &self,
        parts: &Parts,
        (verb, resource): (&str, &str),
        peer: SocketAddr,
        audit_id: &str,
    ) -> RequestSpan {
        let parent = self.propagator.extract_with_context(&Context::new(), &HeaderExtractor(&parts.headers));
        let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        let attributes = [
            KeyValue::new("http.request.method", parts.method.to_string()),
            KeyValue::new("url.path", parts.uri.path().to_owned()),
            KeyValue::new("url.scheme", "https"),
            KeyValue::new("client.address", peer.ip().to_string()),
            KeyValue::new("user_agent.original", agent.unwrap_or_default().to_owned()),
            // The name of this attribute in kube-apiserver's spans.
            KeyValue::new("audit-id", audit_id.to_owned()),
        ];
        let name = if resource.is_empty() { verb.to_owned() } else { format!("{verb} {resource}") };
        let builder = self.tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
        RequestSpan(builder.start_with_context(&self.tracer, &parent))
    }

    /// Sends the spans that have ended and stops. Returns when they are sent, or after five seconds. Later spans are
    /// dropped.
    pub async fn flush(&self) {
        let provider = self.provider.clone();
        let flushed =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "cannot export the last spans");
        }
    }
}

impl RequestSpan {
    /// Records the response's status code; one of 500 and above marks the span as an error.
    pub(crate) fn record_status(&mut self, code: StatusCode) {
        self.0.set_attribute(KeyValue::new("http.response.status_code", i64::from(code.as_u16())));
        if code.is_server_error() {
            self.0.set_status(Status::error(code.to_string()));
        }
    }
}

/// Sends requests on the tokio runtime, since the exporter runs on a thread outside of it.
#[derive(Debug)]
struct RuntimeHttpClient {
    runtime: Handle,
    client: Arc<HyperClient>,
}

impl HttpClient for RuntimeHttpClient {
    fn send_bytes<'client, 'answer>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'answer>>
    where
        'client: 'answer,
    {
        let client = Arc::clone(&self.client);
        let sent = self.runtime.spawn(async move { client.send_bytes(request).await });
        Box::pin(async move { sent.await? })
    }
}

#[cfg(test)]
mod tests;
