//! Invalid requests get a Status that names the error, both through the aggregator and directly.

use std::sync::Arc;

use anyhow::{Context, ensure};
use http::Method;
use libtest_mimic::Trial;
use serde_json::json;

use crate::caller::Caller;
use crate::site::{API, Site};
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("bad_input::a_parameter_that_makes_no_sense_is_named", parameters),
        world.shared("bad_input::a_path_that_is_not_served_is_404", paths),
        world.shared("bad_input::a_method_that_is_not_served_is_405", methods),
        world.shared("bad_input::a_media_type_that_is_not_served_is_406", media_types),
        world.shared("bad_input::headers_beyond_bounds_are_431", oversized_headers),
        world.shared("bad_input::a_version_from_the_future_is_504_with_its_cause", from_the_future),
        world.shared("bad_input::a_version_too_old_is_410", too_old),
    ]
}

/// A client through the aggregator, and a direct one.
async fn ways(site: &Site) -> anyhow::Result<[(&'static str, Caller); 2]> {
    let direct = site.direct_as("bad-input", Some("system:masters")).await?;
    Ok([("aggregated", site.caller().await?), ("direct", direct)])
}

async fn parameters(site: Arc<Site>) -> anyhow::Result<()> {
    let (bad, invalid) = ((400, "BadRequest"), (422, "Invalid"));
    for (way, caller) in ways(&site).await? {
        for (query, (code, reason), named) in [
            ("fieldSelector=status.colour%3Dred", bad, "status.colour"),
            ("fieldSelector=status.state", bad, "status.state"),
            ("labelSelector=a%20in%20((", bad, "labelSelector"),
            ("continue=nonsense", bad, "continue"),
            ("limit=many", bad, "limit"),
            ("timeoutSeconds=soon", bad, "timeoutSeconds"),
            ("resourceVersion=latest", bad, "resourceVersion"),
            ("resourceVersion=-1", bad, "resourceVersion"),
            ("watch=true&resourceVersion=latest", invalid, "resourceVersion"),
            ("resourceVersionMatch=Exact", invalid, "resourceVersionMatch"),
            ("resourceVersion=1&resourceVersionMatch=Nearly", invalid, "resourceVersionMatch"),
            ("resourceVersion=0&resourceVersionMatch=Exact", invalid, "resourceVersionMatch"),
            ("sendInitialEvents=true", invalid, "sendInitialEvents"),
            ("watch=true&sendInitialEvents=true", invalid, "resourceVersionMatch"),
            ("watch=true&resourceVersionMatch=Exact&resourceVersion=1", invalid, "resourceVersionMatch"),
        ] {
            let answer = caller.get(&format!("{API}/fluxresources?{query}")).await?;
            let message = answer.refused(code, reason).with_context(|| format!("{way}: {query}"))?;
            ensure!(message.contains(named), "{way}: {query}: {message}");
        }
    }
    Ok(())
}

async fn paths(site: Arc<Site>) -> anyhow::Result<()> {
    for (way, caller) in ways(&site).await? {
        for path in [
            "/nothings",
            "/namespaces/team-a/nothings",
            "/namespaces/team-a/clusterhealths",
            "/namespaces/velero/fluxsummaries/local/status",
            "/fluxsummaries/local",
        ] {
            let answer = caller.get(&format!("{API}{path}")).await?;
            answer.refused(404, "NotFound").with_context(|| format!("{way}: {path}"))?;
        }
        let answer = caller.get(&format!("{API}/namespaces/velero/fluxsummaries/elsewhere")).await?;
        let message = answer.refused(404, "NotFound")?;
        ensure!(message == "fluxsummaries.view.gatehouse.dev \"elsewhere\" not found", "{way}: {message}");
        ensure!(answer.body["details"]["kind"] == "fluxsummaries", "{way}: {answer:#?}");
    }
    Ok(())
}

async fn methods(site: Arc<Site>) -> anyhow::Result<()> {
    for (way, caller) in ways(&site).await? {
        for (method, path) in [
            (Method::POST, "/namespaces/velero/fluxsummaries"),
            (Method::DELETE, "/namespaces/velero/fluxsummaries"),
            (Method::PUT, "/namespaces/velero/fluxsummaries/local"),
            (Method::PATCH, "/namespaces/velero/fluxsummaries/local"),
            (Method::DELETE, "/namespaces/velero/fluxsummaries/local"),
            (Method::POST, ""),
        ] {
            let answer = caller.send(&method, &format!("{API}{path}"), &[]).await?;
            answer.refused(405, "MethodNotAllowed").with_context(|| format!("{way}: {method} {path}"))?;
        }
    }
    Ok(())
}

async fn media_types(site: Arc<Site>) -> anyhow::Result<()> {
    let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1";
    for (way, caller) in ways(&site).await? {
        for accept in ["text/html", "application/vnd.kubernetes.protobuf", table] {
            let answer = caller.get_with(&format!("{API}/fluxresources"), &[("accept", accept)]).await?;
            answer.refused(406, "NotAcceptable").with_context(|| format!("{way}: {accept}"))?;
        }
        let either = format!("{table},application/json;as=Table;g=meta.k8s.io;v=v1");
        let answer = caller.get_with(&format!("{API}/fluxresources"), &[("accept", &either)]).await?.ok()?;
        ensure!(answer["kind"] == "Table", "{way}: {answer:#}");
    }
    Ok(())
}

/// Only directly, since kube-apiserver answers these itself.
async fn oversized_headers(site: Arc<Site>) -> anyhow::Result<()> {
    let direct = site.direct_as("bad-input", Some("system:masters")).await?;
    let path = format!("{API}/fluxresources");
    let many: Vec<_> = (0..2000).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "x")).collect();
    let answer = direct.get_with(&path, &many).await?;
    ensure!(answer.code == 431, "{answer:#?}");
    // The server closes the connection before it has read everything, so a client that still writes may miss the
    // answer.
    let large = "x".repeat(2 << 20);
    if let Ok(answer) = direct.get_with(&path, &[("x-large", &large)]).await {
        ensure!(answer.code == 431, "{answer:#?}");
    }
    // Other requests are not affected.
    direct.get(&path).await?.ok()?;
    Ok(())
}

/// Each request waits three seconds, so all are sent at once.
async fn from_the_future(site: Arc<Site>) -> anyhow::Result<()> {
    let ways = ways(&site).await?;
    let queries = ["", "&limit=1", "&resourceVersionMatch=NotOlderThan"];
    let all = ways.iter().flat_map(|way| queries.map(|query| (way, query)));
    futures::future::try_join_all(all.map(async |((way, caller), query)| {
        let future = (1_u64 << 53) - 1;
        let answer = caller.get(&format!("{API}/fluxresources?resourceVersion={future}{query}")).await?;
        let message = answer.refused(504, "Timeout").with_context(|| format!("{way}: {query}"))?;
        ensure!(message.contains(&future.to_string()), "{way}: {message}");
        let cause = &answer.body["details"]["causes"][0]["reason"];
        ensure!(cause == "ResourceVersionTooLarge", "{way}: {answer:#?}");
        ensure!(answer.headers.get("retry-after").is_some_and(|after| after == "1"), "{way}: {answer:#?}");
        anyhow::Ok(())
    }))
    .await?;
    // If a watch got 504, a client would retry it again and again.
    futures::future::try_join_all(ways.iter().map(async |(way, caller)| {
        let future = (1_u64 << 53) - 1;
        ends_as_too_old(caller, future).await.with_context(|| format!("{way}: from the future"))
    }))
    .await?;
    Ok(())
}

/// The watch is opened, and ends with an ERROR event.
async fn ends_as_too_old(caller: &Caller, version: u64) -> anyhow::Result<()> {
    let answer = caller.get(&format!("{API}/fluxresources?resourceVersion={version}&watch=true")).await?;
    let event = (&answer.body["type"], &answer.body["object"]["code"], &answer.body["object"]["reason"]);
    ensure!(event == (&json!("ERROR"), &json!(410), &json!("Expired")), "{answer:#?}");
    Ok(())
}

async fn too_old(site: Arc<Site>) -> anyhow::Result<()> {
    for (way, caller) in ways(&site).await? {
        let list = format!("{API}/fluxresources?resourceVersion=1&resourceVersionMatch=Exact");
        caller.get(&list).await?.refused(410, "Expired").with_context(|| format!("{way}: {list}"))?;
        ends_as_too_old(&caller, 1).await.with_context(|| format!("{way}: too old"))?;
    }
    Ok(())
}
