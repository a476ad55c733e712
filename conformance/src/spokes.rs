//! Remote clusters of a hub: further control planes, which a Secret on the hub registers.

use anyhow::Context;
use gatehouse_apiservice::registration::{USER, clusters as rights};
use gatehouse_apiservice::view::{GROUP, RESOURCES};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::control_plane::{self, ControlPlane};
use crate::gatehouse::{self, Gatehouse, Options};
use crate::load::{self, Manifest};

/// Starts a control plane with these objects, and an account that may be used to observe it.
pub async fn start(manifests: Vec<Manifest>) -> anyhow::Result<ControlPlane> {
    let spoke = ControlPlane::start(&control_plane::Options::default()).await?;
    load::apply(&spoke.client().await?, manifests).await?;
    gatehouse::prepare(&spoke).await?;
    Ok(spoke)
}

/// The flag of `gatehouse apiserver` for the Secrets.
pub fn flag() -> String {
    format!("--cluster-secrets-namespace={}", rights::NAMESPACE)
}

/// What the hub needs before a Secret can be there.
pub fn prerequisites() -> Vec<Value> {
    rights::rights()
}

/// What the account needs to read the views of the cluster's own Gatehouse.
pub fn rights_on_views() -> [Value; 2] {
    let plural = RESOURCES.map(|resource| resource.plural).into_iter().chain(["fluxresources/tree"]);
    let rule = json!({
        "apiGroups": [GROUP], "resources": plural.collect::<Vec<_>>(), "verbs": ["get", "list", "watch"],
    });
    cluster_role("shown-to-a-hub", USER, &rule)
}

/// A ClusterRole with one rule, bound to a user.
pub fn cluster_role(name: &str, user: &str, rule: &Value) -> [Value; 2] {
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    [
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": [rule]}),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        }),
    ]
}

/// Starts a Gatehouse in a remote cluster, through which a hub observes it.
pub async fn start_gatehouse(spoke: &ControlPlane, options: &Options) -> anyhow::Result<Gatehouse> {
    gatehouse::apply(&spoke.client().await?, rights_on_views().to_vec()).await?;
    let own = Gatehouse::start(spoke, options).await?;
    own.register(spoke).await?;
    Ok(own)
}

/// A kubeconfig for the remote cluster, self-contained.
pub fn kubeconfig(spoke: &ControlPlane) -> anyhow::Result<Value> {
    let path = spoke.kubeconfig_for(USER, None)?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).context("a kubeconfig that was just made")
}

/// The Secret that registers a cluster.
pub fn secret(name: &str, kubeconfig: &Value) -> Value {
    let data = ByteString(kubeconfig.to_string().into_bytes());
    json!({
        "apiVersion": "v1", "kind": "Secret", "data": {"value": data},
        "metadata": {"name": name, "namespace": rights::NAMESPACE, "labels": {"gatehouse.dev/cluster": name}},
    })
}

/// Registers remote clusters with the hub, as `spoke-1` and so on.
pub async fn register<'a>(
    hub: &ControlPlane,
    spokes: impl IntoIterator<Item = &'a ControlPlane>,
) -> anyhow::Result<()> {
    let mut objects = prerequisites();
    for (number, spoke) in (1..).zip(spokes) {
        objects.push(secret(&format!("spoke-{number}"), &kubeconfig(spoke)?));
    }
    let manifest = |object| Manifest { origin: "(spokes)".to_owned(), object };
    load::apply(&hub.client().await?, objects.into_iter().map(manifest).collect()).await
}
