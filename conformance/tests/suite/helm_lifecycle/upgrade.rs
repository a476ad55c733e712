//! From the version before to this one and back, from a registry, under load.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use gatehouse_apiservice::registration::webhook_account::{
    NAME as WEBHOOKS, cluster_role_binding, counted_role,
};
use gatehouse_apiservice::registration::webhooks::COUNTS_NAME;
use gatehouse_conformance::contents::{self, Known, Name};
use gatehouse_conformance::helm::{self, NAMESPACE, RELEASE};
use gatehouse_conformance::install::{Executables, Installation};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::progress;
use gatehouse_conformance::registry::Registry;
use gatehouse_conformance::traffic::{self, Traffic};
use serde_json::json;

use super::{BEFORE, Cluster, chart_of, documented, left, traffic_objects};
use crate::production::quick_shutdown;
use crate::world::settles;

/// An executable of the version before; without it, both charts run the one that is tested.
const EXECUTABLE: &str = "GATEHOUSE_BIN_BEFORE";

/// Set for a component by the version before, and to be kept by upgrades.
const KEPT: &str = "--shutdown-grace=";
/// A flag that only this version's chart sets.
const NEW: &str = "--agones-namespace=";

/// The leader registers what a quota counts within seconds.
const REGISTERED: Duration = Duration::from_secs(30);

/// With the value that lets quotas count them.
const COUNTED: &str = "webhooks.countedKinds[0].group=apps,webhooks.countedKinds[0].plural=deployments";

pub(super) async fn run() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let registry = Registry::start(&cluster.control_plane).await?;
    let outcome = lifecycle(&cluster, &registry).await;
    registry.stop().await?;
    cluster.control_plane.stop().await?;
    outcome
}

async fn lifecycle(cluster: &Cluster, registry: &Registry) -> anyhow::Result<()> {
    let this = env!("CARGO_PKG_VERSION");
    publish(cluster, registry).await?;
    let (mut objects, mut policies) = traffic_objects();
    let (rights, quota) = counted();
    objects.extend(rights);
    policies.push(quota);
    load::apply(&cluster.client, objects).await?;
    let before = contents::of(&cluster.client).await?;

    let from = |version| source(registry, version);
    let mut install = vec!["install".to_owned(), RELEASE.to_owned()];
    install.extend(from(BEFORE.1));
    install.push("--create-namespace".to_owned());
    let set = quick_shutdown().into_iter().chain([COUNTED.to_owned()]);
    install.extend(set.flat_map(|value| ["--set".to_owned(), value]));
    cluster.helm(&words(&install)).await?;
    let mut executables = Executables::tested().await?;
    if let Some(executable) = std::env::var_os(EXECUTABLE) {
        executables = executables.with(BEFORE.1, executable.into());
    }
    let mut installation = Installation::start(&cluster.control_plane, &cluster.egress, executables).await?;
    load::apply(&cluster.client, policies).await?;
    traffic::in_force(&cluster.client).await?;

    let traffic = Traffic::start(&cluster.control_plane, Vec::new()).await?;
    // As the documents say, but for where the chart is: the definitions first.
    let of_definitions = |command: &str| command.starts_with("kubectl apply");
    ensure!(documented::run(cluster, "Upgrade", of_definitions).await? == 1, "one command");
    let mut upgrade = vec!["upgrade".to_owned(), RELEASE.to_owned()];
    upgrade.extend(from(this));
    upgrade.push("--reset-then-reuse-values".to_owned());
    cluster.helm(&words(&upgrade)).await?;
    installation.follow(&cluster.control_plane).await?;
    let args = cluster.args(WEBHOOKS).await?;
    ensure!(args.contains(KEPT) && args.contains(NEW), "{args}");
    let upgraded = made(&installation);

    cluster.helm(&["rollback", RELEASE, "1", "-n", NAMESPACE]).await?;
    installation.follow(&cluster.control_plane).await?;
    let args = cluster.args(WEBHOOKS).await?;
    ensure!(args.contains(KEPT) && !args.contains(NEW), "{args}");
    let rolled_back = made(&installation);
    let outcome = traffic.stop().await;
    progress::say(format_args!(
        "helm: upgrade and rollback, {rolled_back:?} replicas; {} requests, {} failed; {:?}",
        outcome.total(),
        outcome.failed,
        outcome.succeeded,
    ));
    outcome.without_failure()?;
    outcome.took_place(&AT_LEAST)?;
    ensure!([upgraded, rolled_back] == [[4, 4], [6, 6]], "{upgraded:?} {rolled_back:?}");
    uninstall(cluster, installation, &before).await
}

/// Pushes the charts of both versions.
async fn publish(cluster: &Cluster, registry: &Registry) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (commit, before) = BEFORE;
    let charts =
        [(chart_of(commit, folder.path()).await?, before), (helm::chart(), env!("CARGO_PKG_VERSION"))];
    for (chart, version) in charts {
        let archive = cluster.helm.package(&chart, version, folder.path()).await?;
        let archive = archive.display().to_string();
        cluster.helm(&["push", &archive, &repository(registry), "--plain-http"]).await?;
    }
    Ok(())
}

fn repository(registry: &Registry) -> String {
    format!("oci://{}", registry.reference("charts"))
}

/// The arguments that name a version's chart and the release's namespace.
fn source(registry: &Registry, version: &str) -> Vec<String> {
    let chart = format!("{}/{RELEASE}", repository(registry));
    [&chart, "--version", version, "--plain-http", "-n", NAMESPACE].map(ToOwned::to_owned).into()
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// How many replicas have been started, of each Deployment.
fn made(installation: &Installation) -> [usize; 2] {
    [installation.views.made(), installation.webhooks.made()]
}

/// Enough requests for the result to mean something.
const AT_LEAST: [(&str, u64); 7] = [
    ("lists and gets", 50),
    ("lists on new connections", 10),
    ("allowed writes", 50),
    ("forbidden writes", 10),
    ("changes", 10),
    ("plain watches", 2),
    ("kube's watcher", 1),
];

/// A quota on a kind that Gatehouse registers by itself, and what an aggregation controller would make of the right that
/// the chart gives.
fn counted() -> (Vec<Manifest>, Manifest) {
    let manifest = |object| Manifest { origin: "(counted)".to_owned(), object };
    let (role, kind) = ("counted-without-aggregation", ("apps".to_owned(), "deployments".to_owned()));
    let rights = [counted_role(role, [kind]), cluster_role_binding(role, role)];
    let quota = json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": "counted"},
        "spec": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
            "hard": {"count/deployments.apps": "1"},
        },
    });
    (rights.map(manifest).into(), manifest(quota))
}

/// As the documents say; nothing of the release is left, and nothing is in the way of what it refused.
async fn uninstall(
    cluster: &Cluster,
    installation: Installation,
    before: &BTreeMap<Name, Known>,
) -> anyhow::Result<()> {
    let path = format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{COUNTS_NAME}");
    let registered = async || {
        let answer = cluster.client.request_text(http::Request::get(&path).body(Vec::new())?).await;
        Ok(answer.is_ok())
    };
    settles("what is counted is registered", REGISTERED, registered, |registered| *registered).await?;

    let is_of_policies = |command: &str| command.starts_with("kubectl delete reconcilepolicies");
    ensure!(documented::run(cluster, "Uninstall", is_of_policies).await? == 1, "one command");
    ensure!(documented::run(cluster, "Uninstall", |command| command.starts_with("helm")).await? == 1, "one");
    installation.end().await?;
    left::by_helm(cluster, before).await?;
    let refused_before = traffic::beyond_quota();
    load::apply(&cluster.client, vec![Manifest { origin: "(traffic)".to_owned(), object: refused_before }])
        .await?;
    left::by_everything(cluster, before).await
}
