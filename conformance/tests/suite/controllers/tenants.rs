//! kube-controller-manager beside `mynamespaces`: the rules of an aggregated role come from other roles, by their labels.

use std::sync::Arc;

use gatehouse_conformance::controllers::Controller;
use libtest_mimic::Trial;
use serde_json::json;

use super::Scene;
use crate::my_namespaces::{KNOWN, binding, namespace, role, sees};
use crate::world::World;

const NEEDS: &[Controller] = &[Controller::KubeControllerManager];

pub(super) fn trials(world: &World) -> Vec<Trial> {
    vec![world.operated(
        "controllers::tenants::a_label_of_a_role_shows_and_hides_a_namespace",
        NEEDS,
        aggregated,
    )]
}

async fn aggregated(scene: Arc<Scene>) -> anyhow::Result<()> {
    let (user, part, whole, label) = ("mns-aggregates", "mns-part", "mns-whole", "mns-aggregate-to");
    let all = ["mns-g1", "mns-g2"];
    scene.put(all.map(namespace)).await?;
    let aggregates = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": whole},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {label: whole}}]},
    });
    let bound = binding(user, Some(all[0]), ("ClusterRole", whole), ("User", user));
    scene.put([role(part, None, &[]), aggregates, bound]).await?;
    let kubectl = scene.gate.site.kubectl_as(user)?;
    sees(&kubectl, &all, &[]).await?;
    let mut watch = kubectl.watch(["get", "myns", "-w", "--output-watch-events"])?;
    let admin = scene.gate.kubectl()?;
    for _ in 0..2 {
        admin.run(["label", "clusterrole", part, &format!("{label}={whole}")]).await?.ok()?;
        watch.line_where(KNOWN, |line| line.starts_with("ADDED") && line.contains(all[0])).await?;
        sees(&kubectl, &all, &all[..1]).await?;
        admin.run(["label", "clusterrole", part, &format!("{label}-")]).await?.ok()?;
        watch.line_where(KNOWN, |line| line.starts_with("DELETED") && line.contains(all[0])).await?;
        sees(&kubectl, &all, &[]).await?;
    }
    Ok(())
}
