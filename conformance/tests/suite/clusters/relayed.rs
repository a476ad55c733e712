//! A remote cluster gains a Gatehouse of its own, which calls it otherwise and is a hub itself, and loses it again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use gatehouse_apiservice::registration::api_service_name;
use gatehouse_apiservice::view::RESOURCES;
use gatehouse_conformance::control_plane::{self, ControlPlane};
use gatehouse_conformance::gatehouse::Options;
use gatehouse_conformance::kubectl::Kubectl;
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::{crds, progress, spokes};
use http::StatusCode;
use kube::api::{Api, DeleteParams, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::credentials::Watching;
use super::{ALL, Hub, SOON};
use crate::site::{API, Site, kustomization};
use crate::world::settles;

/// A Gatehouse is looked for once or twice a minute, and one that is missed is waited for.
const SWITCH: Duration = Duration::from_mins(2);
/// The direct cluster.
const OTHER: &str = "us";

pub(super) async fn gained_and_lost() -> anyhow::Result<()> {
    let control_plane = Arc::new(ControlPlane::start(&control_plane::Options::default()).await?);
    let (site, _gatehouse) = Site::new(control_plane).await?;
    let hub = Hub::start(Arc::new(site)).await?;
    let spoke = hub.spoke.client().await?;
    let quota = json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": "arena"},
        "spec": {"namespaceSelector": {"matchLabels": {"gatehouse.dev/tenant": "arena"}},
                 "hard": {"gameservers": "8"}},
    });
    let mut policies = crds::policy();
    policies.push(Manifest { origin: "(trial)".to_owned(), object: quota });
    load::apply(&spoke, policies).await?;
    let mut manifests = crds::only(&["kustomizations.kustomize.toolkit.fluxcd.io"])?;
    let object = kustomization("shop", "other", Ok(()));
    manifests.push(Manifest { origin: "(trial)".to_owned(), object });
    let other = spokes::start(manifests).await?;

    hub.register("eu", &hub.kubeconfig()?).await?;
    hub.register(OTHER, &spokes::kubeconfig(&other)?).await?;
    hub.sees("the cluster is shown", &hub.admin, SOON, &ALL).await?;
    is_observed(&hub, "eu", "direct").await?;
    let uids = uids(&hub).await?;
    let watch = Watching::start(&hub).await?;

    // It registers the other cluster as well, whose rows are not its own.
    apply(&spoke, spokes::prerequisites()).await?;
    apply(&spoke, [spokes::secret("third", &spokes::kubeconfig(&other)?)]).await?;
    let flags = vec!["--cluster-name=itself".to_owned(), spokes::flag()];
    let options = Options { name: Some("of-the-spoke".to_owned()), flags, ..hub.site.options.clone() };
    let own = spokes::start_gatehouse(&hub.spoke, &options).await?;
    is_observed(&hub, "eu", "views").await?;
    shown_through_it(&hub, &spoke).await?;
    ensure!(self::uids(&hub).await? == uids, "uids do not change");
    is_observed(&hub, OTHER, "direct").await?;

    let services = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService"),
        "apiservices",
    );
    let services: Api<DynamicObject> = Api::all_with(spoke.clone(), &services);
    services.delete(&api_service_name(), &DeleteParams::default()).await?;
    drop(own);
    is_observed(&hub, "eu", "direct").await?;
    apply(&spoke, [kustomization("shop", "web", Err("without a Gatehouse"))]).await?;
    message(&hub, "without a Gatehouse").await?;
    let gone = async || Ok(hub.admin.get(&format!("{API}/tenantusages/eu.arena")).await?.code);
    settles("its quotas are not shown any more", SWITCH, gone, |code| *code == StatusCode::NOT_FOUND).await?;
    ensure!(self::uids(&hub).await? == uids, "uids do not change");
    let seen = watch.seen()?;
    progress::say(format_args!("both changes of mode: {} events of {} rows", seen.len(), ALL.len()));
    ensure!(seen.iter().all(|(kind, _)| kind == "MODIFIED"), "a row went or came: {seen:?}");
    Ok(())
}

async fn shown_through_it(hub: &Hub, spoke: &kube::Client) -> anyhow::Result<()> {
    hub.sees("its rows stay", &hub.admin, SOON, &ALL).await?;
    apply(spoke, [kustomization("shop", "web", Err("with a Gatehouse"))]).await?;
    message(hub, "with a Gatehouse").await?;
    let admin = hub.gatehouse.kubeconfig_for(&hub.site.control_plane, "root", Some("system:masters"))?;
    let kubectl = Kubectl::new(&admin)?;
    for resource in RESOURCES {
        let select = "-l=gatehouse.dev/cluster in (eu,us,third,itself)";
        let mut args = vec!["get", resource.plural, select, "-o=json"];
        if resource.namespaced {
            args.push("-A");
        }
        let list: Value = serde_json::from_str(&kubectl.run(args).await?.ok()?)?;
        let rows = list["items"].as_array().into_iter().flatten();
        let clusters: Vec<_> =
            rows.map(|row| row["metadata"]["labels"]["gatehouse.dev/cluster"].clone()).collect();
        ensure!(
            clusters.iter().all(|cluster| cluster == "eu" || cluster == OTHER),
            "{}: rows of {clusters:?}",
            resource.plural
        );
    }
    let wide =
        kubectl.run(["get", "fluxresources", "-n=shop", "-o=wide", "-l=gatehouse.dev/cluster=eu"]).await?;
    let table = wide.ok()?;
    ensure!(table.starts_with("NAME") && table.contains("eu.kustomization.web"), "{table}");
    kubectl.run(["get", "tenantusages", "eu.arena"]).await?.ok()?;
    kubectl.run(["get", "mynamespaces", "shop.eu"]).await?.ok()?;
    kubectl.run(["get", "fluxsummaries", "-n=shop", "eu"]).await?.ok()?;
    let tree = hub.admin.get(&format!("{API}/namespaces/shop/fluxresources/{}/tree", ALL[0])).await?.ok()?;
    ensure!(tree["metadata"]["name"] == ALL[0] && tree["status"]["cluster"] == "eu", "{tree:#}");
    let health = hub.admin.get(&format!("{API}/clusterhealths/eu")).await?.ok()?;
    let status = &health["status"];
    ensure!(status["origin"].is_string() && status["layers"].is_array(), "{health:#}");
    ensure!(status["warnings"].is_null(), "nothing is missing: {health:#}");
    hub.has("eu", "Authenticated", ("True", "CredentialAccepted"), SOON).await
}

async fn message(hub: &Hub, expected: &str) -> anyhow::Result<()> {
    let row = format!("{API}/namespaces/shop/fluxresources/{}", ALL[0]);
    let message = async || Ok(hub.admin.get(&row).await?.ok()?["status"]["message"].clone());
    settles("the change is shown", SWITCH, message, |message| message == expected).await?;
    Ok(())
}

async fn is_observed(hub: &Hub, cluster: &str, mode: &str) -> anyhow::Result<()> {
    let row = format!("{API}/clusterhealths/{cluster}");
    let observed = async || Ok(hub.admin.get(&row).await?.body["status"]["mode"].clone());
    settles(format!("{cluster} is observed {mode}"), SWITCH, observed, |found| found == mode).await?;
    Ok(())
}

/// The uids of the rows of the remote cluster.
async fn uids(hub: &Hub) -> anyhow::Result<Vec<Value>> {
    let list =
        hub.admin.get(&format!("{API}/fluxresources?labelSelector=gatehouse.dev/cluster%3Deu")).await?;
    let list = list.ok()?;
    let rows = list["items"].as_array().into_iter().flatten();
    Ok(rows.map(|row| row["metadata"]["uid"].clone()).collect())
}

async fn apply(client: &kube::Client, objects: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
    let manifest = |object| Manifest { origin: "(trial)".to_owned(), object };
    load::apply(client, objects.into_iter().map(manifest).collect()).await
}
