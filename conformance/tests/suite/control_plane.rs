//! The control plane of the suite behaves as that of a real cluster.

use std::sync::Arc;

use anyhow::ensure;
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::kubectl::Kubectl;
use libtest_mimic::Trial;

use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.trial("control_plane::admin_lists_namespaces", admin_lists_namespaces),
        world.trial("control_plane::user_without_rights_gets_403", user_without_rights_gets_403),
        world.trial("control_plane::front_proxy_is_published", front_proxy_is_published),
    ]
}

async fn admin_lists_namespaces(control_plane: Arc<ControlPlane>) -> anyhow::Result<()> {
    let kubectl = Kubectl::new(control_plane.kubeconfig())?;
    let names = kubectl.run(["get", "namespaces", "-o", "name"]).await?.ok()?;
    ensure!(names.lines().any(|name| name == "namespace/kube-system"), "{names}");
    Ok(())
}

async fn user_without_rights_gets_403(control_plane: Arc<ControlPlane>) -> anyhow::Result<()> {
    let kubectl = Kubectl::new(&control_plane.kubeconfig_for("nobody-in-particular", Some("team-a"))?)?;
    let complaint = kubectl.run(["get", "namespaces"]).await?.failed()?;
    ensure!(complaint.contains("(Forbidden)") && complaint.contains("nobody-in-particular"), "{complaint}");
    Ok(())
}

/// Gatehouse trusts the content of this ConfigMap.
async fn front_proxy_is_published(control_plane: Arc<ControlPlane>) -> anyhow::Result<()> {
    let kubectl = Kubectl::new(control_plane.kubeconfig())?;
    let template = "{.data.requestheader-client-ca-file}{.data.requestheader-allowed-names}";
    let args = ["-n", "kube-system", "get", "configmap", "extension-apiserver-authentication"];
    let data = kubectl.run(args.into_iter().chain(["-o", &format!("jsonpath={template}")])).await?.ok()?;
    ensure!(data.contains(control_plane.front_proxy().authority.certificate_pem().trim()), "{data}");
    ensure!(data.contains("front-proxy-client"), "{data}");
    Ok(())
}
