//! Actions on rows of a remote cluster: they are carried out there as the user, first by a patch, then by the Gatehouse
//! of that cluster.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::{api_service, clusters as rights};
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::gatehouse::{self, Gatehouse, Options};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::{crds, registration, spokes};
use http::StatusCode;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::alerts::Alerts;
use crate::caller::{Answer, Caller};
use crate::clusters::cluster_role;
use crate::relay::Relay;
use crate::site::{API, Site, kustomization};
use crate::world::{World, settles};

/// The Secrets are listed every five seconds; then the cluster is, too.
const SOON: Duration = Duration::from_secs(40);
/// The name of the remote cluster in rows.
const FAR: &str = "far";
const NAMESPACE: &str = "acted-on";
const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// Has every right on the hub, and may patch on the spoke.
const ACTS: &str = "acts-far-away";
/// Has every right on the hub, and none on the spoke.
const ASKS: &str = "asks-far-away";
/// May act on the hub, and not see the cluster.
const BLIND: &str = "does-not-see-far";
/// Has every right, but the hub may not impersonate it.
const STRANGE: &str = "is-strange-to-far";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.shared("cluster_actions::a_remote_cluster_is_acted_on_as_the_user", far_away)]
}

/// The hub's own Gatehouse, and the remote cluster.
struct Scene {
    // Dropped before what they use.
    gatehouse: Gatehouse,
    relay: Relay,
    alerts: Alerts,
    spoke: ControlPlane,
    client: kube::Client,
    site: Arc<Site>,
}

async fn far_away(site: Arc<Site>) -> anyhow::Result<()> {
    let scene = Scene::start(site).await?;
    by_a_patch(&scene).await?;
    by_an_annotation(&scene).await?;
    alerts(&scene).await?;
    refused(&scene).await?;
    by_its_gatehouse(&scene).await?;
    cut(&scene).await
}

impl Scene {
    async fn start(site: Arc<Site>) -> anyhow::Result<Self> {
        let mut manifests = crds::only(&[
            "kustomizations.kustomize.toolkit.fluxcd.io",
            "fluxinstances.fluxcd.controlplane.io",
            "resourcesetinputproviders.fluxcd.controlplane.io",
        ])?;
        let mut objects = vec![kustomization(NAMESPACE, "web", Ok(()))];
        objects.extend(of_the_operator());
        manifests.extend(manifests_of(objects));
        let spoke = spokes::start(manifests).await?;
        let client = spoke.client().await?;
        let mut objects = rights::spoke_rights(registration::kinds());
        objects.extend(rights::spoke_actions(&[ACTS, ASKS, BLIND], &[]));
        let flux = json!({
            "apiGroups": ["kustomize.toolkit.fluxcd.io", "fluxcd.controlplane.io"], "verbs": ["get", "patch"],
            "resources": ["kustomizations", "fluxinstances", "resourcesetinputproviders"],
        });
        objects.extend(cluster_role(ACTS, &flux));
        load::apply(&client, manifests_of(objects)).await?;

        let port = spoke.url().rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok());
        let relay = Relay::to(port.context("a URL with a port")?).await?;
        relay.mend();
        let account = format!("system:serviceaccount:{0}:{0}", rights::SPOKE);
        let path = spoke.kubeconfig_for(&account, None)?;
        let mut kubeconfig: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        kubeconfig["clusters"][0]["cluster"]["server"] = relay.url().into();

        site.apply(spokes::prerequisites()).await?;
        let acts = json!({
            "apiGroups": ["view.gatehouse.dev"], "verbs": ["create", "get", "patch", "update"],
            "resources": [
                "fluxresources/reconcile", "fluxresources/suspend", "fluxresources/resume",
                "fluxresources/suspension", "fluxsummaries/reconcile",
            ],
        });
        let sees = json!({
            "apiGroups": ["view.gatehouse.dev"], "resources": ["clusterhealths"], "resourceNames": [FAR],
            "verbs": ["get"],
        });
        for user in [ACTS, ASKS, BLIND, STRANGE] {
            let mut objects = cluster_role(user, &acts);
            if user != BLIND {
                objects[0]["rules"] = json!([acts, sees]);
            }
            site.apply(objects).await?;
        }
        site.apply([spokes::secret(FAR, &kubeconfig)]).await?;
        let alerts = Alerts::start().await?;
        let flags =
            vec![spokes::flag(), "--enable-actions".to_owned(), format!("--events-addr={}", alerts.url)];
        let options = Options { name: Some("hub-that-acts".to_owned()), flags, ..site.options.clone() };
        let gatehouse = Gatehouse::start(&site.control_plane, &options).await?;
        Ok(Self { gatehouse, relay, alerts, spoke, client, site })
    }

    async fn caller(&self, user: &str, group: Option<&str>) -> anyhow::Result<Caller> {
        let kubeconfig = self.gatehouse.kubeconfig_for(&self.site.control_plane, user, group)?;
        Caller::of_kubeconfig(&kubeconfig).await
    }

    /// The Kustomization in the remote cluster.
    async fn object(&self) -> anyhow::Result<Value> {
        let path = format!("/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{NAMESPACE}/kustomizations/web");
        Ok(self.client.request(http::Request::get(path).body(Vec::new())?).await?)
    }

    /// Waits for an Event with this note in the remote cluster.
    async fn has_event(&self, note: &str) -> anyhow::Result<()> {
        let events = format!("/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events");
        let ask = async || {
            let request = http::Request::get(&events).body(Vec::new())?;
            anyhow::Ok(self.client.request::<Value>(request).await?)
        };
        let is_there = |events: &Value| {
            let uid = |event: &Value| event["regarding"]["uid"].is_string();
            let events = events["items"].as_array().into_iter().flatten();
            events.into_iter().any(|event| event["note"] == note && uid(event))
        };
        settles(note, SOON, ask, is_there).await.map(drop)
    }

    /// Asks until the cluster is observed.
    async fn until_it_is_known(&self, caller: &Caller) -> anyhow::Result<()> {
        let ask = async || caller.post(&path("reconcile?dryRun=All"), &json!({})).await;
        settles("the cluster can be acted on", SOON, ask, |answer| answer.code == StatusCode::CREATED)
            .await
            .map(drop)
    }
}

/// Objects that an annotation suspends.
fn of_the_operator() -> [Value; 2] {
    let object = |kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": "fluxcd.controlplane.io/v1", "kind": kind,
            "metadata": {"namespace": NAMESPACE, "name": name}, "spec": spec,
        })
    };
    let distribution = json!({"distribution": {"version": "2.x", "registry": "ghcr.io/fluxcd"}});
    [
        object("FluxInstance", "flux", distribution),
        object("ResourceSetInputProvider", "inputs", json!({"type": "Static", "defaultValues": {"a": "b"}})),
    ]
}

fn manifests_of(objects: Vec<Value>) -> Vec<Manifest> {
    objects.into_iter().map(|object| Manifest { origin: "(trial)".to_owned(), object }).collect()
}

fn path(subresource: &str) -> String {
    format!("{API}/namespaces/{NAMESPACE}/fluxresources/{FAR}.kustomization.web/{subresource}")
}

fn created(answer: Answer) -> anyhow::Result<Value> {
    ensure!(answer.code == StatusCode::CREATED, "{answer:#?}");
    Ok(answer.body)
}

async fn by_a_patch(scene: &Scene) -> anyhow::Result<()> {
    let caller = scene.caller(ACTS, None).await?;
    let before = scene.object().await?;
    scene.until_it_is_known(&caller).await?;
    ensure!(scene.object().await? == before, "a dry run writes nothing");

    let done = created(caller.post(&path("reconcile"), &json!({})).await?)?;
    let live = scene.object().await?;
    ensure!(live["metadata"]["annotations"][REQUESTED_AT] == done["status"]["requestedAt"], "{live:#}");
    ensure!(done["metadata"]["name"] == format!("{FAR}.kustomization.web"), "{done:#}");
    ensure!(done["status"]["objects"][0]["uid"] == live["metadata"]["uid"], "{done:#}");
    ensure!(live["metadata"]["managedFields"].to_string().contains("\"manager\":\"gatehouse\""), "{live:#}");
    created(
        caller.post(&path("reconcile?fieldManager=my-ci"), &json!({"spec": {"reason": "pushed"}})).await?,
    )?;
    let managers = scene.object().await?["metadata"]["managedFields"].to_string();
    ensure!(managers.contains("\"manager\":\"my-ci\""), "the user writes, and names the client: {managers}");
    scene.has_event(&format!("reconciliation requested by {ACTS}: pushed")).await?;

    let until = json!({"spec": {"until": "2999-01-01T00:00:00Z"}});
    let message = caller.post(&path("suspend"), &until).await?;
    let message = message.refused(422, "Invalid")?;
    ensure!(message.contains("spec.until") && message.contains(FAR), "nobody would end it: {message}");
    let uid = json!({"metadata": {"uid": "00000000-0000-4000-8000-000000000000"}});
    caller.post(&path("suspend"), &uid).await?.refused(409, "Conflict")?;
    created(caller.post(&path("suspend"), &json!({"spec": {"reason": "moving"}})).await?)?;
    scene.has_event(&format!("suspended by {ACTS}: moving")).await?;
    let live = scene.object().await?;
    ensure!(live["spec"]["suspend"] == true, "{live:#}");
    ensure!(live["metadata"]["annotations"]["fluxcd.controlplane.io/suspendedBy"] == ACTS, "{live:#}");
    let shown = caller.get(&path("suspension")).await?.ok()?;
    ensure!(shown["spec"]["reason"] == "moving" && shown["status"]["by"] == ACTS, "{shown:#}");
    let message = caller.post(&path("reconcile"), &json!({})).await?;
    ensure!(message.refused(409, "Conflict")?.contains("resume it first"), "{message:#?}");
    created(caller.post(&path("resume"), &json!({})).await?)?;
    ensure!(scene.object().await?["spec"].get("suspend").is_none());

    let summary = format!("{API}/namespaces/{NAMESPACE}/fluxsummaries/{FAR}/reconcile");
    // Its row follows the object.
    let all = async || caller.post(&summary, &json!({})).await;
    let asked = |answer: &Answer| {
        let objects = answer.body["status"]["objects"].as_array().into_iter().flatten();
        objects.into_iter().any(|object| object["name"] == "web")
    };
    settles("the namespace is reconciled", SOON, all, asked).await?;
    Ok(())
}

/// Objects of the Flux operator, which has no field to suspend them.
async fn by_an_annotation(scene: &Scene) -> anyhow::Result<()> {
    let caller = scene.caller(ACTS, None).await?;
    for (kind, plural, name) in [
        ("fluxinstance", "fluxinstances", "flux"),
        ("resourcesetinputprovider", "resourcesetinputproviders", "inputs"),
    ] {
        let at = format!("/apis/fluxcd.controlplane.io/v1/namespaces/{NAMESPACE}/{plural}/{name}");
        let live =
            async || anyhow::Ok(scene.client.request(http::Request::get(&at).body(Vec::new())?).await?);
        let act = async |subresource: &str, body: &Value| {
            let row = format!("{FAR}.{kind}.{name}/{subresource}");
            created(caller.post(&format!("{API}/namespaces/{NAMESPACE}/fluxresources/{row}"), body).await?)
        };
        let shown = act("suspend", &json!({"spec": {"reason": "moving"}})).await?;
        ensure!(shown["spec"] == json!({"suspended": true, "reason": "moving"}), "{shown:#}");
        let suspended: Value = live().await?;
        let annotations = &suspended["metadata"]["annotations"];
        ensure!(annotations["fluxcd.controlplane.io/reconcile"] == "disabled", "{suspended:#}");
        ensure!(annotations["gatehouse.dev/suspend-reason"] == "moving", "{suspended:#}");
        act("resume", &json!({})).await?;
        let resumed: Value = live().await?;
        // A request to reconcile the whole namespace, from before, is still there.
        let annotations = resumed["metadata"]["annotations"].to_string();
        ensure!(
            !annotations.contains("controlplane") && !annotations.contains("gatehouse.dev"),
            "{resumed:#}"
        );
        act("reconcile", &json!({"spec": {"force": kind != "fluxinstance"}})).await?;
        let asked: Value = live().await?;
        let annotations = &asked["metadata"]["annotations"];
        ensure!(annotations[REQUESTED_AT].is_string(), "{asked:#}");
        ensure!(
            annotations["reconcile.fluxcd.io/forceAt"].is_string() == (kind != "fluxinstance"),
            "{asked:#}"
        );
    }
    Ok(())
}

/// notification-controller is that of the hub's own cluster: it gets what is done there, and nothing of others.
async fn alerts(scene: &Scene) -> anyhow::Result<()> {
    let namespace = "acted-on-here";
    scene.site.apply([kustomization(namespace, "here", Ok(()))]).await?;
    let admin = scene.caller("root", Some("system:masters")).await?;
    let path = format!("{API}/namespaces/{namespace}/fluxresources/local.kustomization.here/suspend");
    let body = json!({"spec": {"reason": "by hand"}});
    let shown = created(admin.post(&path, &body).await?)?;
    let received = async || anyhow::Ok(scene.alerts.received());
    let events = settles("an event of the action", SOON, received, |events| !events.is_empty()).await?;
    ensure!(events.len() == 1, "{events:#?}");
    let event = &events[0];
    let expected = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "namespace": namespace,
        "name": "here", "uid": shown["metadata"]["uid"], "resourceVersion": shown["metadata"]["resourceVersion"],
    });
    ensure!(event["involvedObject"] == expected, "{event:#}");
    ensure!(event["reason"] == "Suspended" && event["severity"] == "info", "{event:#}");
    ensure!(event["message"] == "suspended by root: by hand", "{event:#}");
    ensure!(event["reportingController"] == "gatehouse" && event["timestamp"].is_string(), "{event:#}");
    Ok(())
}

async fn refused(scene: &Scene) -> anyhow::Result<()> {
    let before = scene.object().await?;
    for (user, group, code, reason, words) in [
        (ASKS, None, 403, "Forbidden", &*format!("cluster {FAR}: ")),
        (ASKS, None, 403, "Forbidden", "cannot get resource \"kustomizations\""),
        (STRANGE, None, 403, "Forbidden", "cannot impersonate resource \"users\""),
        (BLIND, None, 404, "NotFound", "not found"),
        ("root", Some("system:masters"), 403, "Forbidden", "impersonates no members of the group"),
        ("nobody-here", None, 403, "Forbidden", "fluxresources/reconcile"),
    ] {
        let caller = scene.caller(user, group).await?;
        let answer = caller.post(&path("reconcile"), &json!({})).await?;
        let message = answer.refused(code, reason)?;
        ensure!(message.contains(words), "{user}: {message}");
    }
    // As if there were no such cluster.
    let blind = scene.caller(BLIND, None).await?;
    let unseen = blind.post(&path("reconcile"), &json!({})).await?;
    let unknown = blind.post(&path("reconcile").replace(FAR, "fra"), &json!({})).await?;
    let shown = [&unseen, &unknown].map(|answer| answer.body.to_string());
    ensure!(shown[0] == shown[1].replace("fra", FAR), "{unseen:#?} {unknown:#?}");
    ensure!(scene.object().await? == before, "nothing was written");
    Ok(())
}

/// The remote cluster gets a Gatehouse of its own, under another name for itself than the usual one.
async fn by_its_gatehouse(scene: &Scene) -> anyhow::Result<()> {
    let flags = vec!["--enable-actions".to_owned(), "--cluster-name=itself".to_owned()];
    let options = Options { name: Some("of-the-spoke".to_owned()), flags, ..scene.site.options.clone() };
    let own = Gatehouse::start(&scene.spoke, &options).await?;
    load::apply(&scene.client, manifests_of(vec![api_service(own.port(), own.serving_ca())])).await?;
    gatehouse::wait_until_available(&scene.client).await?;
    // No right to patch any more: that cluster's Gatehouse writes.
    let rules = json!([
        {
            "apiGroups": ["view.gatehouse.dev"], "verbs": ["create"],
            "resources": ["fluxresources/reconcile", "fluxresources/suspend", "fluxresources/resume"],
        },
        {
            "apiGroups": ["kustomize.toolkit.fluxcd.io"], "resources": ["kustomizations"],
            "verbs": ["reconcile", "suspend", "resume"],
        },
    ]);
    let mut objects = cluster_role(ACTS, &Value::Null);
    objects[0]["rules"] = rules;
    load::apply(&scene.client, manifests_of(objects.into())).await?;
    let caller = scene.caller(ACTS, None).await?;
    scene.until_it_is_known(&caller).await?;

    let body =
        json!({"metadata": {"name": format!("{FAR}.kustomization.web")}, "spec": {"reason": "rolled out"}});
    let done = created(caller.post(&path("reconcile"), &body).await?)?;
    ensure!(done["metadata"]["name"] == format!("{FAR}.kustomization.web"), "{done:#}");
    let live = scene.object().await?;
    ensure!(live["metadata"]["annotations"][REQUESTED_AT] == done["status"]["requestedAt"], "{live:#}");
    // By that Gatehouse.
    scene.has_event(&format!("reconciliation requested by {ACTS}: rolled out")).await?;

    let shown =
        created(caller.post(&path("suspend"), &json!({"spec": {"until": "2999-01-01T00:00:00Z"}})).await?)?;
    ensure!(shown["spec"]["until"] == "2999-01-01T00:00:00Z", "it would end it: {shown:#}");
    let conflict = caller.post(&path("reconcile"), &json!({})).await?;
    ensure!(conflict.refused(409, "Conflict")?.starts_with(&format!("cluster {FAR}: ")), "{conflict:#?}");
    created(caller.post(&path("resume"), &json!({})).await?)?;
    let answer = scene.caller(ASKS, None).await?.post(&path("reconcile"), &json!({})).await?;
    let message = answer.refused(403, "Forbidden")?;
    ensure!(
        message.contains(&format!("cluster {FAR}: ")) && message.contains("fluxresources/reconcile"),
        "{message}"
    );
    // What its Gatehouse does not grant is not done by a patch instead.
    caller.get(&path("suspension")).await?.refused(403, "Forbidden")?;
    Ok(())
}

/// Nothing is promised of a cluster that does not answer.
async fn cut(scene: &Scene) -> anyhow::Result<()> {
    let caller = scene.caller(ACTS, None).await?;
    let before = scene.object().await?;
    scene.relay.cut();
    let answer = caller.post(&path("reconcile"), &json!({})).await?;
    let message = answer.refused(503, "ServiceUnavailable")?;
    ensure!(message.starts_with(&format!("cluster {FAR}: ")), "{message}");
    let blind = scene.caller(BLIND, None).await?;
    blind.post(&path("reconcile"), &json!({})).await?.refused(404, "NotFound")?;
    scene.relay.hush();
    // It accepts connections and never answers; by now that is known.
    let ask = async || caller.post(&path("reconcile"), &json!({})).await;
    let told = |answer: &Answer| answer.body["message"].to_string().contains("does not answer");
    settles("its silence is told", SOON, ask, told).await?;
    ensure!(scene.object().await? == before, "nothing was written");
    Ok(())
}
