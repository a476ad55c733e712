//! GET, and POST for tokens, within limits of size and time.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};

/// More than policies take up.
const MOST: usize = 64 << 20;
/// For each request, with its redirects and its body.
const TIMEOUT: Duration = Duration::from_mins(1);
const MOST_REDIRECTS: usize = 5;

/// A client of HTTPS, and of HTTP on this machine.
pub(super) struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Docker's configuration, which names who asks a registry.
    pub(super) docker: Option<PathBuf>,
}

impl Client {
    pub(super) fn new() -> anyhow::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("cannot read the certificate authorities of this machine")?
            .https_or_http()
            .enable_http1()
            .build();
        let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")));
        Ok(Self {
            inner: legacy::Client::builder(TokioExecutor::new()).build(connector),
            docker: folder.map(|folder| folder.join("config.json")),
        })
    }

    /// The body at an address.
    pub(super) async fn get(&self, url: &str) -> anyhow::Result<Vec<u8>> {
        let (status, _, body) = self.ask(url, &HeaderMap::new()).await?;
        anyhow::ensure!(status == StatusCode::OK, "{url} answers {status}");
        Ok(body)
    }

    /// Status, headers and body. Where an answer leads elsewhere that is asked, without what was meant for the first.
    pub(super) async fn ask(
        &self,
        url: &str,
        headers: &HeaderMap,
    ) -> anyhow::Result<(StatusCode, HeaderMap, Vec<u8>)> {
        let asked = async {
            let mut uri: Uri = url.parse().context("not a URL")?;
            let mut headers = headers.clone();
            for _ in 0..=MOST_REDIRECTS {
                let response = self.once(&uri, &headers, None).await?;
                let Some(next) = redirect(&uri, &response)? else {
                    return read(&uri, response).await;
                };
                if next.authority() != uri.authority() {
                    headers.remove(header::AUTHORIZATION);
                }
                uri = next;
            }
            anyhow::bail!("more than {MOST_REDIRECTS} redirects")
        };
        in_time(url, asked).await
    }

    /// Sends a form, which may hold a secret: where the answer leads elsewhere, that is not asked.
    pub(super) async fn post(&self, url: &str, form: String) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let posted = async {
            let uri: Uri = url.parse().context("not a URL")?;
            let mut headers = HeaderMap::new();
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(header::CONTENT_TYPE, kind);
            let response = self.once(&uri, &headers, Some(form)).await?;
            let (status, _, body) = read(&uri, response).await?;
            Ok((status, body))
        };
        in_time(url, posted).await
    }

    /// One request: POST with a form, else GET.
    async fn once(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        form: Option<String>,
    ) -> anyhow::Result<Response<Incoming>> {
        let host = uri.host().context("a URL without a host")?;
        let is_safe = uri.scheme_str() == Some("https") || is_local(host);
        anyhow::ensure!(is_safe, "{uri}: https is required, but for this machine");
        let request = if form.is_some() { Request::post(uri) } else { Request::get(uri) };
        let mut request = request.header(header::USER_AGENT, "gatehouse");
        if let Some(all) = request.headers_mut() {
            all.extend(headers.clone());
        }
        let sent = self.inner.request(request.body(form.map(Full::from).unwrap_or_default())?).await;
        sent.map_err(|error| {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            anyhow::anyhow!("{uri}: {text}")
        })
    }
}

async fn in_time<T>(url: &str, answer: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(_) => anyhow::bail!("{url}: no answer within {} s", TIMEOUT.as_secs()),
    }
}

/// Status, headers and body.
async fn read(uri: &Uri, response: Response<Incoming>) -> anyhow::Result<(StatusCode, HeaderMap, Vec<u8>)> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MOST).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("{uri}: {error}"))?;
    Ok((parts.status, parts.headers, body.to_bytes().to_vec()))
}

/// Where an answer leads instead.
fn redirect(from: &Uri, response: &Response<Incoming>) -> anyhow::Result<Option<Uri>> {
    if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
        return Ok(None);
    }
    let location = response.headers().get(header::LOCATION).context("a redirect without Location")?;
    let location = location.to_str().context("a Location that is no text")?;
    let next: Uri = if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = Some(location.parse().context("a Location that is no URL")?);
        Uri::from_parts(parts)?
    } else {
        location.parse().context("a Location that is no URL")?
    };
    let leaves_tls = from.scheme_str() == Some("https") && next.scheme_str() != Some("https");
    anyhow::ensure!(!leaves_tls, "{from} leads to {next}, without TLS");
    Ok(Some(next))
}

/// Whether a host is this machine.
pub(super) fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
