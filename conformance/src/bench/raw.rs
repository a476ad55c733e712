//! Requests whose responses are read but not decoded, because the work of the client is not what is measured.

use anyhow::Context;
use futures::{AsyncBufRead, AsyncBufReadExt};
use serde_json::Value;

/// The Accept header with which kubectl prints tables.
pub(super) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                                application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
/// The Accept header of `kubectl -o json` and most clients.
pub(super) const JSON: &str = "application/json";

/// All Kustomizations.
pub(super) const KUSTOMIZATIONS: &str = "/apis/kustomize.toolkit.fluxcd.io/v1/kustomizations";
/// All FluxSummaries.
pub(super) const SUMMARIES: &str = "/apis/view.gatehouse.dev/v1alpha1/fluxsummaries";
/// All FluxResources.
pub(super) const RESOURCES: &str = "/apis/view.gatehouse.dev/v1alpha1/fluxresources";

/// A GET request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Get<'a> {
    pub(super) path: &'a str,
    pub(super) accept: &'a str,
    /// Whether the response may be compressed, as kubectl allows.
    pub(super) gzip: bool,
}

impl<'a> Get<'a> {
    pub(super) fn json(path: &'a str) -> Self {
        Self { path, accept: JSON, gzip: false }
    }

    pub(super) fn table(path: &'a str) -> Self {
        Self { path, accept: TABLE, gzip: false }
    }

    pub(super) fn gzip(self) -> Self {
        Self { gzip: true, ..self }
    }

    /// Reads the response to its end and returns the number of bytes of its body on the wire. A response
    /// other than success is an error.
    pub(super) async fn size(self, client: &kube::Client) -> anyhow::Result<u64> {
        let mut body = std::pin::pin!(self.stream(client).await?);
        let mut size = 0;
        loop {
            let length = body.fill_buf().await?.len();
            if length == 0 {
                return Ok(size);
            }
            body.as_mut().consume(length);
            size += length as u64;
        }
    }

    /// The decoded response, for requests that are not measured.
    pub(super) async fn value(self, client: &kube::Client) -> anyhow::Result<Value> {
        client.request(self.request()?).await.with_context(|| format!("GET {}", self.path))
    }

    pub(super) async fn stream(self, client: &kube::Client) -> anyhow::Result<impl AsyncBufRead + use<>> {
        client.request_stream(self.request()?).await.with_context(|| format!("GET {}", self.path))
    }

    fn request(self) -> anyhow::Result<http::Request<Vec<u8>>> {
        let encoding = if self.gzip { "gzip" } else { "identity" };
        let request = http::Request::get(self.path)
            .header(http::header::ACCEPT, self.accept)
            .header(http::header::ACCEPT_ENCODING, encoding);
        Ok(request.body(Vec::new())?)
    }
}
