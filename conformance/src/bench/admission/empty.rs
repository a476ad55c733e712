//! A webhook that admits everything, on the same server stack as Gatehouse's webhooks. It shows the least
//! cost of a review.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gatehouse_certs::reload::CertificateFiles;
use gatehouse_serving::authn::{AuthenticationConfig, Authenticator};
use gatehouse_serving::authz::Authorizer;
use gatehouse_serving::body::full;
use gatehouse_serving::metrics::RequestMetrics;
use gatehouse_serving::pipeline::{Authorized, Credential, Handler, Limits, Observers, WebhookPaths};
use gatehouse_serving::serve::MAX_CONNECTIONS;
use gatehouse_serving::server::ServerBuilder;
use gatehouse_serving::shutdown::ShutdownTiming;
use gatehouse_serving::tasks::Tasks;
use gatehouse_serving::{ApiError, Body};
use http::{HeaderValue, Response, header};
use http_body_util::BodyExt;
use serde::Deserialize;

pub(super) const PATH: &str = "/validate";
/// The paths of Gatehouse's webhooks, so that it can be registered in their place.
const PATHS: [&str; 3] = [PATH, "/mutate", "/quota"];

/// It runs as a process of its own, so that its CPU can be told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The port to listen on
    #[arg(long)]
    port: u16,
    /// The serving certificate
    #[arg(long)]
    certificate: PathBuf,
    /// Its key
    #[arg(long)]
    key: PathBuf,
}

/// Serves until the process is killed.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let keys = CertificateFiles::open(arguments.certificate, arguments.key)?.subscribe();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let (_publish, configs) = tokio::sync::watch::channel(Arc::new(AuthenticationConfig::default()));
    let server = ServerBuilder {
        address,
        keys,
        authenticator: Authenticator::new(configs, None, true),
        authorizer: Arc::new(Authorizer::CertificateHolders),
        metrics: Arc::new(RequestMetrics::new(&[])),
        limits: Limits::default(),
        max_connections: MAX_CONNECTIONS,
        observers: Observers::default(),
        shutdown: ShutdownTiming { delay: Duration::ZERO, grace: Duration::ZERO },
    };
    let webhook_paths = WebhookPaths { paths: &PATHS, credential: Credential::None };
    let server = server.bind().await?.serve(Empty, webhook_paths, [], Tasks::default(), Tasks::default());
    server.until(std::future::pending()).await?;
    Ok(ExitCode::SUCCESS)
}

struct Empty;

/// The fields of a review that the response needs.
#[derive(Deserialize)]
struct Review {
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
}

impl Handler for Empty {
    async fn serve(&self, request: Authorized) -> Result<Response<Body>, ApiError> {
        let bad = |error: &dyn std::fmt::Display| ApiError::bad_request(error.to_string());
        let body = request.body.collect().await.map_err(|error| bad(&error))?.to_bytes();
        let Review { request } = serde_json::from_slice(&body).map_err(|error| bad(&error))?;
        let answer = serde_json::json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": request.uid, "allowed": true},
        });
        let mut response = Response::new(full(answer.to_string()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// The path of this executable, which also runs the empty webhook.
pub(super) fn executable() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program has no path")
}
