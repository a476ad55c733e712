//! A Gatehouse whose cluster does not answer serves discovery from the start, and later the known rows, marked as
//! stale.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{AsyncBufReadExt, TryStreamExt};
use gatehouse_apiservice::registration::{USER, webhook_account};
use gatehouse_conformance::control_plane::{self, ControlPlane};
use gatehouse_conformance::gatehouse::{Awaited, Gatehouse, Options, Serves};
use gatehouse_conformance::{progress, webhooks};
use http::StatusCode;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::caller::Caller;
use crate::relay::Relay;
use crate::site::{API, Site, by_name};
use crate::world::{World, settles};

/// A watch that fails is retried after half a minute at most; the rest is a margin for a busy machine.
const RECOVERED: Duration = Duration::from_secs(75);

/// Longer than the time limit of a SelfSubjectReview.
const SILENT: Duration = Duration::from_secs(8);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("upstream::absent_from_the_start_leaves_discovery_and_turns_up_later", absent_at_first),
        world.apart("upstream::silent_from_the_start_leaves_webhooks_alive_and_not_ready", silent_at_first),
        world.shared("upstream::lost_leaves_what_is_known_marked_stale", lost),
        world.shared("upstream::sigterm_ends_watches_cleanly", ended),
    ]
}

/// A separate Gatehouse behind a relay, and an administrator's client of it.
struct Own {
    // Dropped before the relay that it uses.
    gatehouse: Gatehouse,
    caller: Caller,
    relay: Relay,
}

impl Own {
    async fn start(site: &Site, name: &str, awaited: Awaited) -> anyhow::Result<Self> {
        let relay = relay(&site.control_plane).await?;
        if awaited == Awaited::Ready {
            relay.mend();
        }
        Self::behind(relay, &site.control_plane, name, Serves::Views, awaited).await
    }

    async fn behind(
        relay: Relay,
        control_plane: &ControlPlane,
        name: &str,
        serves: Serves,
        awaited: Awaited,
    ) -> anyhow::Result<Self> {
        let user = match serves {
            Serves::Views => USER,
            Serves::Webhooks => webhook_account::USER,
        };
        let ca = control_plane.client_ca().certificate_pem();
        let client_ca = control_plane.folder().join("client-ca.crt");
        let options = Options {
            serves,
            name: Some(name.to_owned()),
            kubeconfig: Some(control_plane.kubeconfig_at(&relay.url(), ca, user, None)?),
            flags: vec![
                format!("--client-ca-file={}", client_ca.display()),
                "--authentication-skip-lookup".to_owned(),
            ],
            awaited,
            ..Options::default()
        };
        let gatehouse = Gatehouse::start(control_plane, &options).await?;
        let kubeconfig = gatehouse.kubeconfig_for(control_plane, "root", Some("system:masters"))?;
        let caller = Caller::of_kubeconfig(&kubeconfig).await?;
        Ok(Self { gatehouse, caller, relay })
    }

    async fn condition(&self, kind: &str) -> anyhow::Result<Value> {
        let health = self.caller.get(&format!("{API}/clusterhealths/local")).await?.ok()?;
        let conditions = health["status"]["conditions"].as_array().into_iter().flatten();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind);
        found.map(|condition| condition["status"].clone()).with_context(|| format!("{health:#}"))
    }
}

/// A relay to the control plane, cut at first.
async fn relay(control_plane: &ControlPlane) -> anyhow::Result<Relay> {
    let (_, port) = control_plane.url().rsplit_once(':').context("a port")?;
    Relay::to(port.parse()?).await
}

async fn absent_at_first(site: Arc<Site>) -> anyhow::Result<()> {
    let own = Own::start(&site, "gatehouse-early", Awaited::Alive).await?;
    let caller = &own.caller;
    ensure!(caller.get("/livez").await?.code == StatusCode::OK);
    ensure!(caller.get("/readyz").await?.code == StatusCode::INTERNAL_SERVER_ERROR);
    ensure!(caller.get("/readyz/informer-sync").await?.code == StatusCode::INTERNAL_SERVER_ERROR);

    let groups = caller.get("/apis").await?.ok()?;
    ensure!(groups["groups"][0]["name"] == "view.gatehouse.dev", "{groups:#}");
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let discovery = caller.get_with("/apis", &[("accept", aggregated)]).await?.ok()?;
    ensure!(discovery["kind"] == "APIGroupDiscoveryList", "{discovery:#}");
    caller.get(API).await?.ok()?;
    let root = caller.get("/openapi/v3").await?.ok()?;
    let document = root["paths"]["apis/view.gatehouse.dev/v1alpha1"]["serverRelativeURL"].as_str();
    caller.get(document.context("OpenAPI")?).await?.ok()?;
    caller.get("/openapi/v2").await?.ok()?;

    for path in [
        "/fluxsummaries",
        "/fluxresources?watch=true",
        "/clusterhealths/local",
        "/namespaces/a/fluxdependencies",
    ] {
        let answer = caller.get(&format!("{API}{path}")).await?;
        answer.refused(503, "ServiceUnavailable").with_context(|| path.to_owned())?;
        ensure!(answer.headers.contains_key("retry-after"), "{answer:#?}");
        ensure!(answer.body["details"]["retryAfterSeconds"].is_u64(), "{answer:#?}");
    }
    // For users that are not administrators, a SubjectAccessReview is necessary. Nobody answers it, so they are
    // refused.
    let kubeconfig = own.gatehouse.kubeconfig_for(&site.control_plane, "somebody", None)?;
    let somebody = Caller::of_kubeconfig(&kubeconfig).await?.get(&format!("{API}/fluxsummaries")).await?;
    ensure!(somebody.code.is_server_error() || somebody.code == StatusCode::FORBIDDEN, "{somebody:#?}");
    ensure!(somebody.body["kind"] == "Status", "{somebody:#?}");

    own.relay.mend();
    let mended = Instant::now();
    let ready =
        settles("it is ready", RECOVERED, || caller.get("/readyz"), |answer| answer.code == StatusCode::OK);
    ready.await?;
    let list = caller.get(&format!("{API}/namespaces/team-b/fluxsummaries")).await?.ok()?;
    ensure!(by_name(&list).len() == 1, "{list:#}");
    progress::say(format_args!("ready {:.1} s after the cluster turned up", mended.elapsed().as_secs_f32()));
    Ok(())
}

/// Connections are accepted and nothing is answered. The webhooks must listen all the same.
async fn silent_at_first() -> anyhow::Result<()> {
    let control_plane = ControlPlane::start(&control_plane::Options::default()).await?;
    webhooks::prepare(&control_plane).await?;
    let relay = relay(&control_plane).await?;
    relay.hush();
    let own = Own::behind(relay, &control_plane, "webhooks-early", Serves::Webhooks, Awaited::Alive).await?;
    let is_well = async |path: &str| anyhow::Ok(own.caller.get(path).await?.code == StatusCode::OK);
    let silent = Instant::now();
    while silent.elapsed() < SILENT {
        ensure!(is_well("/livez").await?);
        for path in ["/readyz", "/readyz/own-user", "/readyz/informer-sync"] {
            ensure!(!is_well(path).await?, "{path}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    own.relay.mend();
    settles("it is ready", RECOVERED, || is_well("/readyz"), |ready| *ready).await?;
    ensure!(is_well("/readyz/own-user").await?);
    drop(own);
    control_plane.stop().await
}

async fn lost(site: Arc<Site>) -> anyhow::Result<()> {
    let own = Own::start(&site, "gatehouse-cut-off", Awaited::Ready).await?;
    let rows = async || own.caller.get(&format!("{API}/namespaces/team-b/fluxresources")).await?.ok();
    let reachable = async || own.condition("Reachable").await;
    let fresh = async || own.condition("Fresh").await;
    settles("reachable", RECOVERED, &reachable, |status| status == "True").await?;
    settles("fresh", RECOVERED, &fresh, |status| status == "True").await?;
    let before = rows().await?;

    own.relay.cut();
    let cut = Instant::now();
    settles("unreachable", RECOVERED, &reachable, |status| status == "False").await?;
    let noticed = cut.elapsed();
    settles("stale", RECOVERED, &fresh, |status| status == "False").await?;
    let marked = cut.elapsed();
    let now = rows().await?;
    ensure!(by_name(&before).keys().eq(by_name(&now).keys()), "what is known is still served: {now:#}");
    ensure!(own.caller.get("/livez").await?.code == StatusCode::OK);

    own.relay.mend();
    let mended = Instant::now();
    settles("reachable again", RECOVERED, &reachable, |status| status == "True").await?;
    settles("fresh again", RECOVERED, &fresh, |status| status == "True").await?;
    progress::say(format_args!(
        "a cut was told after {noticed:.1?} and marked stale after {marked:.1?}, all was fresh {:.1} s after it was mended",
        mended.elapsed().as_secs_f32()
    ));
    Ok(())
}

async fn ended(site: Arc<Site>) -> anyhow::Result<()> {
    let mut own = Own::start(&site, "gatehouse-ended", Awaited::Ready).await?;
    let request = http::Request::get(format!("{API}/fluxresources?watch=true")).body(Vec::new())?;
    let mut lines = Box::pin(own.caller.client.request_stream(request).await?.lines());
    let first = lines.try_next().await?.context("the watch begins")?;
    ensure!(serde_json::from_str::<Value>(&first)?["type"] == "ADDED", "{first}");

    let rest = tokio::spawn(async move {
        let mut read = 0;
        // An unclean end would be an error here: a chunk, or the last one, would be missing.
        while let Some(line) = lines.try_next().await? {
            let event: Value = serde_json::from_str(&line)?;
            ensure!(event["type"] != "ERROR", "{event:#}");
            read += 1;
        }
        anyhow::Ok(read)
    });
    let asked = Instant::now();
    let status = own.gatehouse.stop().await?.context("it ran")?;
    ensure!(status.code() == Some(0), "{status}");
    let read = rest.await??;
    ensure!(read > 10, "only {read} events");
    progress::say(format_args!("SIGTERM with a watch open: over after {:.1?}", asked.elapsed()));
    Ok(())
}
