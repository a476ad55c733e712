//! An HTTP client, for what kubectl and typed clients hide: status lines, headers, any credentials.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_apiservice::kubeconfig::{Access, document};
use gatehouse_certs::issue::KeyPair;
use gatehouse_conformance::kubeconfig;
use gatehouse_conformance::pace::patience;
use http::{HeaderMap, Method, Request, StatusCode};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::site::Endpoint;

/// Far longer than any answer takes, including the wait for a resourceVersion.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An HTTP client with certain credentials.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) client: kube::Client,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body; null if it is not JSON.
    pub(crate) body: Value,
}

impl Caller {
    /// A client with the credentials of a kubeconfig.
    pub(crate) async fn of_kubeconfig(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { client: kubeconfig::client(path).await? })
    }

    /// A client with a certificate.
    pub(crate) async fn with_certificate(endpoint: &Endpoint, identity: &KeyPair) -> anyhow::Result<Self> {
        Self::new(Self::document(endpoint, identity)).await
    }

    /// A client with a bearer token.
    pub(crate) async fn with_token(endpoint: &Endpoint, token: &str) -> anyhow::Result<Self> {
        let mut document = Self::document(endpoint, &nobody());
        document["users"][0]["user"] = json!({"token": token});
        Self::new(document).await
    }

    /// A client without credentials.
    pub(crate) async fn anonymous(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let mut document = Self::document(endpoint, &nobody());
        document["users"][0]["user"] = json!({});
        Self::new(document).await
    }

    fn document(endpoint: &Endpoint, identity: &KeyPair) -> Value {
        document(Access {
            server: &endpoint.url,
            server_ca: &endpoint.ca,
            user: "caller",
            certificate: &identity.certificate_pem,
            key: &identity.key_pem,
        })
    }

    async fn new(document: Value) -> anyhow::Result<Self> {
        let kubeconfig: Kubeconfig = serde_json::from_value(document)?;
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        Ok(Self { client: kube::Client::try_from(config)? })
    }

    /// Sends a GET.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.get_with(path, &[]).await
    }

    /// Sends a GET with headers.
    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        self.send(&Method::GET, path, headers).await
    }

    /// Sends a request with headers and without a body.
    pub(crate) async fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Answer> {
        self.exchange(method, path, headers, Vec::new()).await
    }

    /// Sends a POST of a JSON document.
    pub(crate) async fn post(&self, path: &str, document: &Value) -> anyhow::Result<Answer> {
        self.write(&Method::POST, path, "application/json", document.to_string().into_bytes()).await
    }

    /// Sends a request with a body.
    pub(crate) async fn write(
        &self,
        method: &Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<Answer> {
        self.exchange(method, path, &[("content-type", content_type)], body).await
    }

    /// Sends a request with headers and a body.
    pub(crate) async fn send_with(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> anyhow::Result<Answer> {
        self.exchange(method, path, headers, body).await
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let exchange = async {
            let response = self.client.send(request.body(Body::from(body))?).await?;
            let (head, body) = response.into_parts();
            let bytes = body.collect_bytes().await?;
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            anyhow::Ok(Answer { code: head.status, headers: head.headers, body })
        };
        let answer = tokio::time::timeout(patience(TIMEOUT), exchange).await;
        answer.context("no answer").flatten().with_context(|| format!("{method} {path}"))
    }
}

impl Answer {
    /// The body, if the code is 200.
    pub(crate) fn ok(self) -> anyhow::Result<Value> {
        ensure!(self.code == StatusCode::OK, "{self:#?}");
        Ok(self.body)
    }

    /// The message, if the response is a complete `metav1.Status` with this code and reason.
    pub(crate) fn refused(&self, code: u16, reason: &str) -> anyhow::Result<&str> {
        let Self { code: status, body, .. } = self;
        ensure!(
            status.as_u16() == code
                && body["kind"] == "Status"
                && body["apiVersion"] == "v1"
                && body["status"] == "Failure"
                && body["code"] == code
                && body["reason"] == reason,
            "not {code} {reason}: {self:#?}"
        );
        body["message"].as_str().with_context(|| format!("no message: {self:#?}"))
    }
}

/// A placeholder in a kubeconfig that is changed afterwards.
fn nobody() -> KeyPair {
    KeyPair { certificate_pem: String::new(), key_pem: String::new() }
}
