//! The series for Flux's own dashboards: one for each Flux object in its current state, for authorized users.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use gatehouse_apiservice::registration::user_roles::{FLUX_METRICS, user_roles};
use gatehouse_conformance::gatehouse::{Gatehouse, Options};
use gatehouse_conformance::kubectl::{Kubectl, Output};
use libtest_mimic::Trial;
use serde_json::json;

use crate::site::{Site, kustomization};
use crate::world::{World, settles};

const PATH: &str = "/metrics/flux";
/// Far longer than a change takes to appear.
const TOLD: Duration = Duration::from_secs(20);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.shared("flux_metrics::series_follow_the_objects_for_whoever_may_see_them", follow)]
}

/// With its own Gatehouse, since that of the site does not serve these metrics.
async fn follow(site: Arc<Site>) -> anyhow::Result<()> {
    let options = Options {
        name: Some("gatehouse-flux-metrics".to_owned()),
        flags: vec!["--flux-resource-metrics".to_owned()],
        ..site.options.clone()
    };
    let mut gatehouse = Gatehouse::start(&site.control_plane, &options).await?;
    let control_plane = &site.control_plane;
    let of = |user: &str| Kubectl::new(&gatehouse.kubeconfig_for(control_plane, user, None)?);
    let (prometheus, nobody) = (of("flux-prometheus")?, of("flux-nobody")?);
    allow(&site, "flux-prometheus").await?;

    let namespace = "flux-metrics";
    let scrape = || prometheus.run(["get", "--raw", PATH]);
    let reported = async |ready: &str| {
        let expected = format!(
            "gotk_resource_info{{customresource_group=\"kustomize.toolkit.fluxcd.io\",\
             customresource_kind=\"Kustomization\",customresource_version=\"v1\",\
             exported_namespace=\"{namespace}\",name=\"app\",ready=\"{ready}\",source_name=\"fleet\"}} 1"
        );
        let is_told = |scraped: &Output| scraped.stdout.lines().any(|line| line == expected);
        settles(&expected, TOLD, scrape, is_told).await
    };
    site.apply([kustomization(namespace, "app", Ok(()))]).await?;
    let whole = reported("True").await?.ok()?;
    // The objects of the example cluster are included, each once.
    let series = || whole.lines().filter(|line| !line.starts_with('#'));
    let different: BTreeSet<_> = series().collect();
    ensure!(different.len() > 10 && different.len() == series().count(), "{whole}");
    site.apply([kustomization(namespace, "app", Err("broken"))]).await?;
    reported("False").await?;
    site.kubectl()?.run(["delete", "kustomization/app", "-n", namespace]).await?.ok()?;
    let label = format!("exported_namespace=\"{namespace}\"");
    let is_gone = |scraped: &Output| scraped.code == Some(0) && !scraped.stdout.contains(&label);
    settles("it is gone", TOLD, scrape, is_gone).await?;

    let refused = nobody.run(["get", "--raw", PATH]).await?.failed()?;
    ensure!(refused.contains("forbidden"), "{refused}");
    let root = site.control_plane.kubeconfig_at(
        &site.direct.url,
        &site.direct.ca,
        "root",
        Some("system:masters"),
    )?;
    let absent = Kubectl::new(&root)?.run(["get", "--raw", PATH]).await?.failed()?;
    ensure!(absent.contains("NotFound"), "{absent}");
    gatehouse.stop().await?;
    Ok(())
}

/// Binds a user to the role from the chart.
async fn allow(site: &Site, user: &str) -> anyhow::Result<()> {
    let group = "rbac.authorization.k8s.io";
    let [.., role] = user_roles();
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": FLUX_METRICS},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    });
    site.apply([role, binding]).await
}
