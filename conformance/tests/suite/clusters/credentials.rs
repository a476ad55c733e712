//! The credential of a remote cluster is replaced, expires, and is repaired, under a watch of its rows.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::TryStreamExt;
use gatehouse_apiservice::registration::clusters::{SPOKE, spoke_rights};
use gatehouse_conformance::control_plane::{self, ControlPlane};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::{kubeconfig, progress, spokes};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, PostParams, WatchEvent};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{ALL, BACK, Hub, SOON};
use crate::relay::Relay;
use crate::site::{API, Site, kustomization};
use crate::world::settles;

/// How long a kube-apiserver may go on to accept a token that it has accepted before.
const TOKEN_CACHE: Duration = Duration::from_secs(12);
const MONTH: i64 = 30 * 24 * 3600;
const HOUR: i64 = 3600;

pub(super) async fn replaced() -> anyhow::Result<()> {
    let control_plane = Arc::new(ControlPlane::start(&control_plane::Options::default()).await?);
    let (site, _gatehouse) = Site::new(control_plane).await?;
    let hub = Hub::start(Arc::new(site)).await?;
    let tokens = Tokens::of(&hub.spoke).await?;
    hub.register("eu", &with_token(&hub, &tokens.issue("first", MONTH).await?)?).await?;
    hub.sees("the cluster is shown", &hub.admin, SOON, &ALL).await?;
    hub.has("eu", "Authenticated", ("True", "CredentialAccepted"), SOON).await?;
    let watch = Watching::start(&hub).await?;

    another_token(&hub, &tokens, &watch).await?;
    an_expired_token(&hub, &tokens).await?;
    another_ca_and_server(&hub, &tokens).await?;
    another_certificate(&hub, &tokens).await?;
    let seen = watch.seen()?;
    ensure!(seen.iter().all(|(kind, _)| kind == "MODIFIED"), "a row went or came: {seen:?}");
    Ok(())
}

/// Nothing is listed or watched again, and the only event is that of the change.
async fn another_token(hub: &Hub, tokens: &Tokens, watch: &Watching) -> anyhow::Result<()> {
    let before = tokens.requests().await?;
    hub.register("eu", &with_token(hub, &tokens.issue("second", HOUR).await?)?).await?;
    hub.has("eu", "Authenticated", ("True", "CredentialExpiresSoon"), SOON).await?;
    tokens.revoke("first").await?;
    tokio::time::sleep(TOKEN_CACHE).await;
    tokens.change("far", "changed after the rotation").await?;
    let changed = [("MODIFIED".to_owned(), ALL[1].to_owned())];
    settles("the change is told", SOON, async || watch.seen(), |seen| *seen == changed).await?;
    hub.has("eu", "Authenticated", ("True", "CredentialExpiresSoon"), Duration::from_secs(1)).await?;
    let after = tokens.requests().await?;
    ensure!(before == after, "Kustomizations were requested again: {before} requests, then {after}");
    progress::say(format_args!("a token was replaced: {after} requests for Kustomizations before and after"));
    Ok(())
}

async fn an_expired_token(hub: &Hub, tokens: &Tokens) -> anyhow::Result<()> {
    hub.register("eu", &with_token(hub, &expired()?)?).await?;
    hub.has("eu", "Authenticated", ("False", "CredentialExpired"), SOON).await?;
    hub.sees("what is known stays", &hub.admin, SOON, &ALL).await?;
    let told = async || {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        Ok(hub.gatehouse.prober().await?.request_text(request).await?)
    };
    let expected = [
        "gatehouse_cluster_authenticated{cluster=\"eu\"} 0".to_owned(),
        format!("gatehouse_cluster_credential_expiry_timestamp_seconds{{cluster=\"eu\"}} {LONG_AGO}"),
    ];
    let is_told = |text: &String| expected.iter().all(|line| text.lines().any(|told| told == line));
    settles("metrics tell it", SOON, told, is_told).await?;
    hub.register("eu", &with_token(hub, &tokens.issue("third", MONTH).await?)?).await?;
    hub.has("eu", "Authenticated", ("True", "CredentialAccepted"), SOON).await
}

async fn another_ca_and_server(hub: &Hub, tokens: &Tokens) -> anyhow::Result<()> {
    let right = with_token(hub, &tokens.issue("fourth", MONTH).await?)?;
    let mut wrong = right.clone();
    let other = spokes::kubeconfig(&hub.site.control_plane)?;
    let ca = "certificate-authority-data";
    wrong["clusters"][0]["cluster"][ca] = other["clusters"][0]["cluster"][ca].clone();
    ensure!(wrong != right, "the control planes have one CA");
    hub.register("eu", &wrong).await?;
    hub.has("eu", "Reachable", ("False", "Silent"), SOON).await?;
    hub.sees("what is known stays", &hub.admin, SOON, &ALL).await?;
    tokens.change("web", "changed meanwhile").await?;

    let detour = Relay::to(port(&hub.spoke)?).await?;
    detour.mend();
    let mut elsewhere = right;
    elsewhere["clusters"][0]["cluster"]["server"] = detour.url().into();
    hub.register("eu", &elsewhere).await?;
    hub.has("eu", "Reachable", ("True", "Answers"), BACK).await?;
    let row = format!("{API}/namespaces/shop/fluxresources/{}", ALL[0]);
    let message = async || Ok(hub.admin.get(&row).await?.ok()?["status"]["message"].clone());
    settles("the change is told", SOON, message, |message| message == "changed meanwhile").await?;
    // Before the other address goes.
    hub.register("eu", &with_token(hub, &tokens.issue("fifth", MONTH).await?)?).await?;
    hub.has("eu", "Authenticated", ("True", "CredentialAccepted"), SOON).await
}

/// A client certificate instead of a token, then another one of the same account.
async fn another_certificate(hub: &Hub, tokens: &Tokens) -> anyhow::Result<()> {
    let row = format!("{API}/namespaces/team-b/fluxresources/{}", ALL[1]);
    let certificate = |kubeconfig: &Value| kubeconfig["users"][0]["user"]["client-certificate-data"].clone();
    let [first, second] = [hub.kubeconfig()?, hub.kubeconfig()?];
    ensure!(
        certificate(&first).is_string() && certificate(&first) != certificate(&second),
        "one certificate"
    );
    for (name, kubeconfig) in [("the first certificate", first), ("another certificate", second)] {
        hub.register("eu", &kubeconfig).await?;
        // Longer than it takes to notice, so that the change is told by what follows it.
        tokio::time::sleep(TOKEN_CACHE).await;
        let changed = format!("changed under {name}");
        tokens.change("far", &changed).await?;
        let message = async || Ok(hub.admin.get(&row).await?.ok()?["status"]["message"].clone());
        settles("the change is told", SOON, message, |message| *message == changed.as_str()).await?;
        hub.has("eu", "Authenticated", ("True", "CredentialAccepted"), SOON).await?;
    }
    Ok(())
}

/// An account in the remote cluster, and its tokens. Each is bound to a Secret of its name.
struct Tokens {
    client: kube::Client,
}

impl Tokens {
    async fn of(spoke: &ControlPlane) -> anyhow::Result<Self> {
        let tokens = Self { client: spoke.client().await? };
        let kinds = [("kustomize.toolkit.fluxcd.io", "kustomizations"), ("", "namespaces")];
        tokens.apply(spoke_rights(kinds)).await?;
        Ok(tokens)
    }

    async fn apply(&self, objects: Vec<Value>) -> anyhow::Result<()> {
        let manifest = |object| Manifest { origin: "(trial)".to_owned(), object };
        load::apply(&self.client, objects.into_iter().map(manifest).collect()).await
    }

    async fn issue(&self, name: &str, seconds: i64) -> anyhow::Result<String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SPOKE);
        let holder = json!({"metadata": {"name": name}});
        let holder = secrets.create(&PostParams::default(), &serde_json::from_value(holder)?).await?;
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            name: Some(name.to_owned()),
            uid: holder.metadata.uid,
        };
        let spec = TokenRequestSpec {
            audiences: None,
            bound_object_ref: Some(bound),
            expiration_seconds: Some(seconds),
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), SPOKE);
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let issued = accounts.create_token_request(SPOKE, &PostParams::default(), &request).await?;
        issued.status.and_then(|status| status.token).context("no token")
    }

    async fn revoke(&self, name: &str) -> anyhow::Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SPOKE);
        secrets.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    async fn change(&self, name: &str, message: &str) -> anyhow::Result<()> {
        let namespace = if name == "far" { "team-b" } else { "shop" };
        self.apply(vec![kustomization(namespace, name, Err(message))]).await
    }

    /// How many lists and watches of Kustomizations have ended so far.
    async fn requests(&self) -> anyhow::Result<u64> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text = self.client.request_text(request).await?;
        let counts = text.lines().filter(|line| {
            line.starts_with("apiserver_request_total{")
                && line.contains(r#"resource="kustomizations""#)
                && [r#"verb="LIST""#, r#"verb="WATCH""#].iter().any(|verb| line.contains(verb))
        });
        counts.map(|line| Ok(line.rsplit(' ').next().context("a number")?.parse::<u64>()?)).sum()
    }
}

/// A kubeconfig for the remote cluster with this token.
fn with_token(hub: &Hub, token: &str) -> anyhow::Result<Value> {
    let mut kubeconfig = hub.kubeconfig()?;
    kubeconfig["users"][0]["user"] = json!({"token": token});
    Ok(kubeconfig)
}

/// A token that expired long ago. No server accepts it, and nobody but a server looks at its signature.
fn expired() -> anyhow::Result<String> {
    let part = |value: Value| -> anyhow::Result<String> {
        let encoded = serde_json::to_value(ByteString(value.to_string().into_bytes()))?;
        let encoded = encoded.as_str().context("text")?;
        Ok(encoded.trim_end_matches('=').replace('+', "-").replace('/', "_"))
    };
    Ok(format!(
        "{}.{}.c2lnbmF0dXJl",
        part(json!({"alg": "RS256", "kid": "none"}))?,
        part(json!({"exp": LONG_AGO}))?
    ))
}

/// In January of 2024.
const LONG_AGO: i64 = 1_704_100_000;

fn port(spoke: &ControlPlane) -> anyhow::Result<u16> {
    let port = spoke.url().rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok());
    port.context("a URL with a port")
}

/// A watch of the rows of the remote cluster.
pub(super) struct Watching {
    seen: Arc<Mutex<Vec<(String, String)>>>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Watching {
    pub(super) async fn start(hub: &Hub) -> anyhow::Result<Self> {
        let path = hub.gatehouse.kubeconfig_for(&hub.site.control_plane, "root", Some("system:masters"))?;
        let client = kubeconfig::client(&path).await?;
        let list = hub.admin.get(&format!("{API}/fluxresources?limit=1")).await?.ok()?;
        let version = list["metadata"]["resourceVersion"].as_str().context("a version")?.to_owned();
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let into = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let path =
                format!("{API}/fluxresources?watch=true&resourceVersion={version}&timeoutSeconds=1800");
            let request = http::Request::get(path).body(Vec::new())?;
            let mut events = Box::pin(client.request_events::<DynamicObject>(request).await?);
            while let Some(event) = events.try_next().await? {
                let (kind, object) = match event {
                    WatchEvent::Added(object) => ("ADDED", object),
                    WatchEvent::Modified(object) => ("MODIFIED", object),
                    WatchEvent::Deleted(object) => ("DELETED", object),
                    WatchEvent::Bookmark(_) => continue,
                    WatchEvent::Error(status) => anyhow::bail!("{status:?}"),
                };
                let name = object.metadata.name.unwrap_or_default();
                if name.starts_with("eu.") {
                    into.lock().unwrap_or_else(PoisonError::into_inner).push((kind.to_owned(), name));
                }
            }
            Ok(())
        });
        Ok(Self { seen, task })
    }

    /// The events so far. It is an error if the watch has ended.
    pub(super) fn seen(&self) -> anyhow::Result<Vec<(String, String)>> {
        ensure!(!self.task.is_finished(), "the watch has ended");
        Ok(self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}
