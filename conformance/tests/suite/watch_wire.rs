//! Other transports and encodings of the same responses: watches over WebSocket, compressed lists, YAML.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::StreamExt;
use gatehouse_conformance::pace::patience;
use http::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use libtest_mimic::Trial;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

use crate::caller::Caller;
use crate::site::{API, Site, kustomization};
use crate::world::{World, settles};

/// For a change of an object, on a busy machine.
const SHOWN: Duration = Duration::from_secs(10);
/// A number of rows whose list is far larger than 128 KiB.
const MANY: usize = 220;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("watch_wire::websocket_carries_the_events_of_the_watch", websocket),
        world.shared("watch_wire::long_lists_are_compressed_for_those_who_ask", gzip),
        world.shared("watch_wire::yaml_says_what_json_says", yaml),
    ]
}

/// A client of an administrator through the aggregator, and a direct one.
async fn ways(site: &Site) -> anyhow::Result<[(&'static str, Caller); 2]> {
    let direct = site.direct_as("wire", Some("system:masters")).await?;
    Ok([("aggregated", site.caller().await?), ("direct", direct)])
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

async fn open(caller: &Caller, path: &str, protocol: Option<&str>) -> anyhow::Result<Socket> {
    let mut request = Request::get(path)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::ORIGIN, "https://dashboard.example")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
    if let Some(protocol) = protocol {
        request = request.header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let response = caller.client.send(request.body(Body::empty())?).await?;
    ensure!(response.status() == StatusCode::SWITCHING_PROTOCOLS, "{response:?}");
    let chosen = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL).map(header::HeaderValue::as_bytes);
    ensure!(chosen == protocol.map(str::as_bytes), "{response:?}");
    ensure!(response.headers()[header::SEC_WEBSOCKET_ACCEPT] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let upgraded = hyper::upgrade::on(response).await?;
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
}

/// The next event.
async fn next(socket: &mut Socket) -> anyhow::Result<Value> {
    loop {
        let message = tokio::time::timeout(patience(SHOWN), socket.next()).await.context("no event")?;
        match message.context("the end")?? {
            Message::Text(text) => return Ok(serde_json::from_str(&text)?),
            Message::Ping(_) | Message::Pong(_) => {}
            other => bail!("{other:?}"),
        }
    }
}

async fn websocket(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "watch-websocket";
    site.apply([kustomization(namespace, "app", Ok(()))]).await?;
    let resources = format!("{API}/namespaces/{namespace}/fluxresources");
    let caller = site.caller().await?;
    let ready = |list: &Value| list["items"][0]["status"]["state"] == "Ready";
    let look = async || caller.get(&resources).await?.ok();
    let list = settles("the object is ready", SHOWN, look, ready).await?;

    let mut sockets = Vec::new();
    for (way, caller) in ways(&site).await? {
        for protocol in [None, Some("base64.binary.k8s.io")] {
            let path = format!("{resources}?watch=true");
            let mut socket = open(&caller, &path, protocol).await.context(way)?;
            let event = next(&mut socket).await.context(way)?;
            ensure!(event["type"] == "ADDED" && event["object"] == list["items"][0], "{way}: {event:#}");
            sockets.push((way, socket));
        }
    }
    site.apply([kustomization(namespace, "app", Err("no such file"))]).await?;
    for (way, socket) in &mut sockets {
        let event = loop {
            let event = next(socket).await.context(*way)?;
            if event["object"]["status"]["state"] != "Ready" {
                break event;
            }
        };
        ensure!(event["type"] == "MODIFIED" && event["object"]["status"]["state"] == "Failed", "{event:#}");
    }

    for (way, caller) in ways(&site).await? {
        let path = format!("{resources}?watch=true&timeoutSeconds=1&resourceVersion=0");
        let mut socket = open(&caller, &path, None).await.context(way)?;
        ensure!(next(&mut socket).await?["type"] == "ADDED");
        let end = tokio::time::timeout(patience(SHOWN), socket.next()).await.context("it goes on")?;
        ensure!(matches!(end, Some(Ok(Message::Close(Some(_))))), "{way}: {end:?}");
        // As from kube-apiserver, an expired resourceVersion is reported in the watch.
        let mut expired = open(&caller, &format!("{resources}?watch=true&resourceVersion=1"), None).await?;
        ensure!(next(&mut expired).await?["object"]["code"] == 410, "{way}");
        // Other errors are returned before the handshake. This is last, since kube-apiserver then closes the connection
        // silently, and a client that reuses it may notice too late.
        let refused = open(&caller, &format!("{resources}?watch=true&resourceVersion=x"), None).await;
        ensure!(refused.is_err_and(|error| format!("{error:#}").contains("422")), "{way}");
    }
    Ok(())
}

async fn gzip(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "watch-gzip";
    site.apply((0..MANY).map(|n| kustomization(namespace, &format!("app-{n:03}"), Ok(())))).await?;
    let path = format!("{API}/namespaces/{namespace}/fluxresources");
    let caller = site.caller().await?;
    let look = async || caller.get(&path).await?.ok();
    let all = |list: &Value| list["items"].as_array().is_some_and(|items| items.len() == MANY);
    settles("all are shown", SHOWN, look, all).await?;
    for (way, caller) in ways(&site).await? {
        let zipped = caller.get_with(&path, &[("accept-encoding", "gzip")]).await?;
        let encoding = zipped.headers.get(header::CONTENT_ENCODING);
        ensure!(encoding.is_some_and(|encoding| encoding == "gzip"), "{way}: {:#?}", zipped.headers);
        ensure!(
            zipped.headers.get(header::VARY).is_some_and(|vary| vary == "Accept-Encoding"),
            "{way}: {:#?}",
            zipped.headers
        );
        let plain = caller.get(&path).await?;
        ensure!(!plain.headers.contains_key(header::CONTENT_ENCODING), "{way}: {:#?}", plain.headers);
        ensure!(all(&plain.ok()?), "{way}");
        let short = caller.get_with(&format!("{path}?limit=3"), &[("accept-encoding", "gzip")]).await?;
        ensure!(!short.headers.contains_key(header::CONTENT_ENCODING), "{way}: {:#?}", short.headers);
    }
    // kubectl requests gzip by default.
    let user = "lists-much";
    site.allow_in(namespace, user).await?;
    for kubectl in [site.kubectl_as(user)?, site.kubectl_direct_as(user)?] {
        let names = kubectl.run(["get", "fluxresources", "-n", namespace, "-o", "name"]).await?.ok()?;
        ensure!(names.lines().count() == MANY, "{names}");
    }
    Ok(())
}

async fn yaml(site: Arc<Site>) -> anyhow::Result<()> {
    let accept = [("accept", "application/yaml")];
    for (way, caller) in ways(&site).await? {
        for path in ["clusterhealths/local", "clusterhealths", "namespaces/team-a/fluxdependencies"] {
            let path = format!("{API}/{path}");
            // The example does not change, but other trials may change the cluster's health in between.
            let same = async || {
                let response = caller.client.send(
                    Request::get(&path).header(header::ACCEPT, "application/yaml").body(Body::empty())?,
                );
                let response = response.await?;
                ensure!(response.headers()[header::CONTENT_TYPE] == "application/yaml", "{response:?}");
                let text = response.into_body().collect_bytes().await?;
                let yaml: Value = serde_saphyr::from_str(std::str::from_utf8(&text)?)?;
                anyhow::Ok((yaml, caller.get(&path).await?.ok()?))
            };
            settles(format!("{way}: {path}"), SHOWN, same, |(yaml, json)| yaml == json).await?;
        }
        let watch = caller.get_with(&format!("{API}/fluxsummaries?watch=true"), &accept).await?;
        ensure!(watch.code == StatusCode::NOT_ACCEPTABLE, "{way}: {watch:#?}");
        let missing = caller.get_with(&format!("{API}/clusterhealths/nobody-s"), &accept).await?;
        ensure!(missing.code == StatusCode::NOT_FOUND, "{way}: {missing:#?}");
        ensure!(missing.headers[header::CONTENT_TYPE] == "application/yaml", "{way}: {missing:#?}");
    }
    Ok(())
}
