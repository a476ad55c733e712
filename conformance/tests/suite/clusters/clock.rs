//! A remote cluster whose clock is wrong by years, in the `Date` of its answers and in the times of its objects.

use std::sync::Arc;

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{self, ControlPlane};
use gatehouse_conformance::front::{Adjust, Front, Identity};
use gatehouse_conformance::load::{self, Manifest};
use http::{HeaderValue, Response, StatusCode, header};
use kube::client::Body;
use serde_json::Value;

use super::{ALL, BACK, Hub, PROMPT, SOON};
use crate::site::{API, Site, kustomization};
use crate::world::settles;

const PAST: &str = "Fri, 01 Jan 2010 00:00:00 GMT";
const FUTURE: &str = "Thu, 01 Jan 2099 00:00:00 GMT";
const FAR_AHEAD: &str = "2099-01-01T00:00:00Z";

pub(super) async fn wrong() -> anyhow::Result<()> {
    let control_plane = Arc::new(ControlPlane::start(&control_plane::Options::default()).await?);
    let (site, _gatehouse) = Site::new(control_plane).await?;
    let hub = Hub::start(Arc::new(site)).await?;
    let identity = Identity::new()?;
    let adjusts: [Adjust; 2] = [|answer| dated(answer, PAST), |answer| dated(answer, FUTURE)];
    for (number, adjust) in adjusts.into_iter().enumerate() {
        let front = Front::start(&identity, hub.spoke.client().await?, adjust).await?;
        let before = version(&hub).await?;
        hub.register("eu", front.kubeconfig()).await?;
        hub.sees("its rows are shown", &hub.admin, BACK, &ALL).await?;
        hub.has("eu", "Fresh", ("True", "Observed"), BACK).await?;
        let message = format!("changed {number}");
        let mut far = kustomization("team-b", "far", Err(&message));
        for condition in far["status"]["conditions"].as_array_mut().context("conditions")? {
            condition["lastTransitionTime"] = FAR_AHEAD.into();
        }
        let manifest = Manifest { origin: "(trial)".to_owned(), object: far };
        load::apply(&hub.spoke.client().await?, vec![manifest]).await?;
        let row = format!("{API}/namespaces/team-b/fluxresources/{}", ALL[1]);
        let row = async || Ok(hub.admin.get(&row).await?.ok()?);
        settles("a change is told", SOON, row, |row| row["status"]["message"] == message.as_str()).await?;
        harms_nobody(&hub, before, number).await?;
    }
    Ok(())
}

fn dated(answer: &mut Response<Body>, date: &'static str) {
    answer.headers_mut().insert(header::DATE, HeaderValue::from_static(date));
}

async fn version(hub: &Hub) -> anyhow::Result<u64> {
    let list = hub.admin.get(&format!("{API}/fluxresources?limit=1")).await?.ok()?;
    list["metadata"]["resourceVersion"].as_str().context("a version")?.parse().context("a number")
}

/// Versions go on as the hub's own clock does, a client goes on from one, and changes of the hub are told at once.
async fn harms_nobody(hub: &Hub, before: u64, number: usize) -> anyhow::Result<()> {
    let after = version(hub).await?;
    // There are 64 versions in a microsecond at most. An hour is far more than this took.
    let hour = 64 * 3_600_000_000;
    ensure!((before..before + hour).contains(&after), "a version went from {before} to {after}");
    let query = format!("watch=true&timeoutSeconds=1&resourceVersion={before}");
    let request = http::Request::get(format!("{API}/fluxresources?{query}")).body(Vec::new())?;
    let events = hub.admin.client.request_text(request).await?;
    for event in events.lines() {
        let event: Value = serde_json::from_str(event)?;
        ensure!(event["type"] != "ERROR", "a client cannot go on from {before}: {event}");
    }
    let name = format!("near-{number}");
    hub.site.apply([kustomization("team-b", &name, Ok(()))]).await?;
    let near = format!("{API}/namespaces/team-b/fluxresources/local.kustomization.{name}");
    let told = async || Ok(hub.admin.get(&near).await?.code);
    settles("a change of the hub is told", PROMPT, told, |code| *code == StatusCode::OK).await?;
    ensure!(hub.is_ready().await?, "the hub stays ready");
    Ok(())
}
