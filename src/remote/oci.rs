//! An OCI artifact as `flux push artifact` makes them: a manifest whose layer is a `.tar.gz` of files.

use std::collections::BTreeMap;

use anyhow::Context;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::{
    Fetched, archive,
    credentials::{self, Known, Login, secret},
    hexadecimal,
    http::{Client, is_local},
    verify,
};

const MANIFESTS: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Option<Vec<Layer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
}

/// An artifact's address, without its scheme.
struct Address<'a> {
    registry: &'a str,
    repository: &'a str,
    digest: &'a str,
}

impl<'a> Address<'a> {
    fn parse(text: &'a str) -> anyhow::Result<Self> {
        let form = "an artifact is named oci://REGISTRY/REPOSITORY@sha256:DIGEST";
        let (name, digest) = text.split_once('@').with_context(|| {
            format!("{form}: a tag may be moved (`flux push` and `crane digest` print the digest)")
        })?;
        let digest = hexadecimal(digest.strip_prefix("sha256:").context(form)?)?;
        let (registry, repository) = name.split_once('/').context(form)?;
        // A tag beside a digest says nothing.
        let repository = match repository.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository,
            _ => repository,
        };
        let part = |character: char| character.is_ascii_alphanumeric() || "._-/".contains(character);
        let is_repository = !repository.is_empty()
            && repository.chars().all(part)
            && !repository.split('/').any(|part| matches!(part, "" | "." | ".."));
        anyhow::ensure!(is_repository, "{form}: {repository:?} is no repository");
        Ok(Self { registry, repository, digest })
    }

    fn url(&self, of: &str, digest: &str) -> String {
        let host = self.registry.rsplit_once(':').map_or(self.registry, |(host, _)| host);
        let scheme = if is_local(host) { "http" } else { "https" };
        // Docker Hub answers elsewhere than it is named.
        let registry = if self.registry == "docker.io" { "registry-1.docker.io" } else { self.registry };
        format!("{scheme}://{registry}/v2/{}/{of}/sha256:{digest}", self.repository)
    }
}

/// The files of an artifact.
pub(super) async fn pull(client: &Client, address: &str) -> anyhow::Result<Fetched> {
    let address = Address::parse(address)?;
    let mut session = Session { client, address, authorization: None, helper: None };
    let manifest = session.get("manifests", session.address.digest).await?;
    verify(&manifest, session.address.digest).context("the manifest")?;
    let manifest: Manifest =
        serde_json::from_slice(&manifest).context("not a manifest of an OCI artifact")?;
    let layers = manifest.layers.context("an index of artifacts, not one: name the digest of one")?;
    let layer = layers.iter().find(|layer| layer.media_type.ends_with("tar+gzip"));
    let layer = layer.context("the artifact has no layer that is a .tar.gz")?;
    let digest =
        hexadecimal(layer.digest.strip_prefix("sha256:").context("a layer without a SHA-256 digest")?)?;
    let content = session.get("blobs", digest).await?;
    verify(&content, digest).context("the layer")?;
    archive::manifests(&content)
}

struct Session<'a> {
    client: &'a Client,
    address: Address<'a>,
    authorization: Option<HeaderValue>,
    /// The credential helper that was asked, and what came of it.
    helper: Option<String>,
}

impl Session<'_> {
    async fn get(&mut self, of: &str, digest: &str) -> anyhow::Result<Vec<u8>> {
        let url = self.address.url(of, digest);
        let (mut status, headers, mut body) = self.ask(&url).await?;
        if status == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            let challenge = headers.get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
            self.authorization = Some(self.authorize(challenge.unwrap_or_default()).await?);
            (status, _, body) = self.ask(&url).await?;
        }
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                anyhow::bail!("{url} answers {status} ({})", self.who_knows())
            }
            status => anyhow::bail!("{url} answers {status}"),
        }
    }

    async fn ask(&self, url: &str) -> anyhow::Result<(StatusCode, HeaderMap, Vec<u8>)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(MANIFESTS));
        headers.extend(self.authorization.clone().map(|own| (header::AUTHORIZATION, own)));
        self.client.ask(url, &headers).await
    }

    /// What the registry asks for: the user's own credentials, or a token that another server gives for them.
    async fn authorize(&mut self, challenge: &str) -> anyhow::Result<HeaderValue> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(alias = "access_token")]
            token: String,
        }
        let Known { login, helper } =
            credentials::of(self.address.registry, self.client.docker.as_deref()).await?;
        self.helper = helper;
        let Some(parameters) = challenge.strip_prefix("Bearer ") else {
            return match login {
                Some(Login::Basic(own)) => Ok(own),
                Some(Login::Identity(_)) => {
                    anyhow::bail!("the registry asks for a password, and only a token is known")
                }
                None => anyhow::bail!("the registry asks for credentials: {}", self.who_knows()),
            };
        };
        let parameters = parameters_of(parameters);
        let realm = parameters.get("realm").context("the registry does not say who gives tokens")?;
        let scope = format!("repository:{}:pull", self.address.repository);
        let scope = parameters.get("scope").map_or(scope.as_str(), |scope| scope);
        let service = parameters.get("service").map(|service| format!("service={}&", encoded(service)));
        let query = format!("{}scope={}", service.unwrap_or_default(), encoded(scope));
        let (status, body) = if let Some(Login::Identity(token)) = &login {
            let form = format!(
                "grant_type=refresh_token&client_id=gatehouse&{query}&refresh_token={}",
                encoded(token)
            );
            self.client.post(realm, form).await?
        } else {
            let separator = if realm.contains('?') { '&' } else { '?' };
            let mut headers = HeaderMap::new();
            if let Some(Login::Basic(own)) = login {
                headers.insert(header::AUTHORIZATION, own);
            }
            let (status, _, body) = self.client.ask(&format!("{realm}{separator}{query}"), &headers).await?;
            (status, body)
        };
        anyhow::ensure!(status == StatusCode::OK, "{realm} gives no token: {status} ({})", self.who_knows());
        // The parser's own message may quote the token.
        let token: Token =
            serde_json::from_slice(&body).map_err(|_| anyhow::anyhow!("{realm} gives no token"))?;
        secret(&format!("Bearer {}", token.token))
    }

    /// Where credentials are taken from.
    fn who_knows(&self) -> &str {
        self.helper.as_deref().unwrap_or("credentials are those of `docker login`")
    }
}

/// `realm="…",service="…"`.
fn parameters_of(text: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        parameters.insert(name.trim_matches([',', ' ']).to_ascii_lowercase(), value.to_owned());
        rest = left;
    }
    parameters
}

/// As a value of a query.
fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
