//! The control plane with the example cluster and a registered Gatehouse, and how trials access and change it.

use std::collections::BTreeMap;
use std::sync::Arc;

use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::gatehouse::{self, Gatehouse, Options};
use gatehouse_conformance::kubectl::Kubectl;
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::{crds, progress};
use serde_json::{Value, json};

use crate::caller::Caller;

/// The API path of the views.
pub(crate) const API: &str = "/apis/view.gatehouse.dev/v1alpha1";

/// A kind that is not installed at first, for the trial of kinds that appear and disappear.
pub(crate) const ABSENT_KIND: &str = "ResourceSetInputProvider";
/// The CRD of this kind.
pub(crate) const ABSENT_CRD: &str = "resourcesetinputproviders.fluxcd.controlplane.io";

/// Shared by the trials of the registered Gatehouse.
pub(crate) struct Site {
    /// The control plane with the example cluster and all objects of trials.
    pub(crate) control_plane: Arc<ControlPlane>,
    /// The registered Gatehouse, for direct requests.
    pub(crate) direct: Endpoint,
    /// A client of a cluster administrator.
    pub(crate) client: kube::Client,
    /// The CRD and the objects of the kind that is not installed.
    pub(crate) left_out: Vec<Manifest>,
    /// The options with the executable, for trials that start their own Gatehouse.
    pub(crate) options: Options,
}

/// A server and its CA.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) ca: String,
}

impl Endpoint {
    pub(crate) fn of(gatehouse: &Gatehouse) -> Self {
        Self { url: gatehouse.url(), ca: gatehouse.serving_ca().to_owned() }
    }
}

impl Site {
    /// With the example cluster, and every kind that Gatehouse reads.
    pub(crate) async fn new(control_plane: Arc<ControlPlane>) -> anyhow::Result<(Self, Gatehouse)> {
        let mut manifests = crds::shared()?;
        manifests.extend(gatehouse::example(&gatehouse::executable().await?).await?);
        let missing = crds::missing_from(&manifests);
        manifests.extend(missing);
        Self::with(control_plane, manifests).await
    }

    /// With these CRDs and objects.
    pub(crate) async fn with(
        control_plane: Arc<ControlPlane>,
        manifests: Vec<Manifest>,
    ) -> anyhow::Result<(Self, Gatehouse)> {
        let executable = gatehouse::executable().await?;
        let (left_out, manifests): (Vec<_>, Vec<_>) =
            manifests.into_iter().partition(|Manifest { object, .. }| {
                object["kind"] == ABSENT_KIND || object["metadata"]["name"] == ABSENT_CRD
            });

        let client = control_plane.client().await?;
        let what = format!("loading {} CRDs and objects", manifests.len());
        progress::during(what, load::apply(&client, manifests)).await?;
        gatehouse::prepare(&control_plane).await?;
        let flags = vec!["--enable-actions".to_owned()];
        let options = Options { executable: Some(executable), flags, ..Options::default() };
        let gatehouse = Gatehouse::start(&control_plane, &options).await?;
        gatehouse.register(&control_plane).await?;
        let direct = Endpoint::of(&gatehouse);
        Ok((Self { control_plane, direct, client, left_out, options }, gatehouse))
    }

    /// kubectl of an administrator, through the aggregator.
    pub(crate) fn kubectl(&self) -> anyhow::Result<Kubectl> {
        Kubectl::new(self.control_plane.kubeconfig())
    }

    /// kubectl of a user, through the aggregator.
    pub(crate) fn kubectl_as(&self, user: &str) -> anyhow::Result<Kubectl> {
        Kubectl::new(&self.control_plane.kubeconfig_for(user, None)?)
    }

    /// kubectl of a user, directly.
    pub(crate) fn kubectl_direct_as(&self, user: &str) -> anyhow::Result<Kubectl> {
        let Endpoint { url, ca } = &self.direct;
        Kubectl::new(&self.control_plane.kubeconfig_at(url, ca, user, None)?)
    }

    /// A client of an administrator, through the aggregator.
    pub(crate) async fn caller(&self) -> anyhow::Result<Caller> {
        Caller::of_kubeconfig(self.control_plane.kubeconfig()).await
    }

    /// A client of a user, directly.
    pub(crate) async fn direct_as(&self, user: &str, group: Option<&str>) -> anyhow::Result<Caller> {
        let Endpoint { url, ca } = &self.direct;
        Caller::of_kubeconfig(&self.control_plane.kubeconfig_at(url, ca, user, group)?).await
    }

    /// Creates or changes objects, and creates their namespaces.
    pub(crate) async fn apply(&self, objects: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
        let manifest = |object| Manifest { origin: "(trial)".to_owned(), object };
        load::apply(&self.client, objects.into_iter().map(manifest).collect()).await
    }

    /// Lets a user read the views of one namespace.
    pub(crate) async fn allow_in(&self, namespace: &str, user: &str) -> anyhow::Result<()> {
        let kind = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": user});
        let metadata = json!({"name": user, "namespace": namespace});
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": ["view.gatehouse.dev"], "resources": ["*"], "verbs": ["get", "list", "watch"]}],
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": kind("Role"), "subjects": [kind("User")],
        });
        self.apply([role, binding]).await
    }
}

/// A Kustomization with the status that it is ready, or why it is not.
pub(crate) fn kustomization(namespace: &str, name: &str, verdict: Result<(), &str>) -> Value {
    let (status, reason, message) = match verdict {
        Ok(()) => ("True", "ReconciliationSucceeded", "Applied revision: main@sha1:3f6c1d0a"),
        Err(message) => ("False", "BuildFailed", message),
    };
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "interval": "10m", "prune": true, "path": "./",
            "sourceRef": {"kind": "GitRepository", "name": "fleet", "namespace": "flux-system"},
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [{
                "type": "Ready", "status": status, "reason": reason, "message": message,
                "observedGeneration": 1, "lastTransitionTime": "2026-11-21T08:40:40Z",
            }],
        },
    })
}

/// The items of a list by namespace and name.
pub(crate) fn by_name(list: &Value) -> BTreeMap<(String, String), &Value> {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    items
        .iter()
        .map(|item| {
            let metadata = &item["metadata"];
            ((text(&metadata["namespace"]), text(&metadata["name"])), item)
        })
        .collect()
}
