//! How each controller is started beside a control plane: with the account that it has in a cluster, without leader
//! election, and on loopback ports of its own.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::Controller;
use crate::control_plane::ControlPlane;
use crate::gatehouse::apply;
use crate::ports;
use crate::supervise::{Program, Supervised};

/// Where Flux's controllers are at home.
const FLUX_NAMESPACE: &str = "flux-system";

/// The annotation, as name and value, of pods whose status kwok does not write, as if their image could not be pulled.
pub const UNTOUCHED: (&str, &str) = ("kwok.x-k8s.io/status", "custom");

/// Where source-controller keeps what it has fetched.
const STORAGE: &str = "artifacts";

/// Those of kube-controller-manager that a cluster without machines has a use for.
const IN_MANAGER: [&str; 12] = [
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
];

impl Controller {
    /// Starts it. It is at work some seconds later.
    ///
    /// # Errors
    /// [`super::NotBuilt`] if it has not been built.
    pub async fn start(self, control_plane: &ControlPlane) -> anyhow::Result<Supervised> {
        self.start_with(control_plane, Vec::new()).await
    }

    /// Starts it with these flags, which come last and so replace others.
    ///
    /// # Errors
    /// As [`Controller::start`].
    pub async fn start_with(
        self,
        control_plane: &ControlPlane,
        more: Vec<String>,
    ) -> anyhow::Result<Supervised> {
        let path = self.built()?;
        let kubeconfig = match self {
            Self::SourceController | Self::KustomizeController | Self::NotificationController => {
                self.account(control_plane).await?
            }
            _ => control_plane.kubeconfig().to_owned(),
        };
        std::fs::create_dir_all(control_plane.folder().join(STORAGE))?;
        let args = self.flags(control_plane.folder(), &kubeconfig)?;
        let args = args.into_iter().chain(more).map(Into::into).collect();
        let env = vec![
            ("KUBECONFIG".to_owned(), kubeconfig.into()),
            ("RUNTIME_NAMESPACE".to_owned(), FLUX_NAMESPACE.into()),
        ];
        control_plane.scratch().spawn(self.name(), &Program { path, args, env })
    }

    /// A kubeconfig of its service account, which may do everything, as Flux installs it.
    async fn account(self, control_plane: &ControlPlane) -> anyhow::Result<std::path::PathBuf> {
        let name = self.name();
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "namespace": FLUX_NAMESPACE, "name": name}],
        });
        apply(&control_plane.client().await?, vec![flux_namespace(), binding]).await?;
        control_plane.kubeconfig_for(&format!("system:serviceaccount:{FLUX_NAMESPACE}:{name}"), None)
    }

    fn flags(self, folder: &Path, kubeconfig: &Path) -> anyhow::Result<Vec<String>> {
        let loopback = || anyhow::Ok(format!("127.0.0.1:{}", ports::free()?));
        let kubeconfig = kubeconfig.to_str().context("a path in UTF-8")?;
        let file = |name: &str| folder.join(name).display().to_string();
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let flux = || {
            anyhow::Ok(vec![
                flag("watch-all-namespaces", "true"),
                flag("enable-leader-election", "false"),
                flag("log-encoding", "json"),
                flag("events-addr", ""),
                flag("metrics-addr", &loopback()?),
                flag("health-addr", &loopback()?),
                // What cannot be fetched or built is tried again about as often as a trial looks.
                flag("min-retry-delay", "500ms"),
                flag("max-retry-delay", "2s"),
            ])
        };
        let kubernetes = || {
            anyhow::Ok(vec![
                flag("kubeconfig", kubeconfig),
                flag("authentication-kubeconfig", kubeconfig),
                flag("authorization-kubeconfig", kubeconfig),
                flag("bind-address", "127.0.0.1"),
                flag("secure-port", &ports::free()?.to_string()),
                flag("leader-elect", "false"),
            ])
        };
        let more = match self {
            Self::SourceController => {
                let storage = loopback()?;
                vec![
                    flag("storage-path", &file(STORAGE)),
                    flag("storage-addr", &storage),
                    flag("storage-adv-addr", &storage),
                ]
            }
            Self::KustomizeController => vec![flag("requeue-dependency", "1s")],
            Self::NotificationController => {
                vec![flag("events-addr", &loopback()?), flag("receiverAddr", &loopback()?)]
            }
            // Each with its own account, as kubeadm runs it: Gatehouse knows the garbage collector by its.
            Self::KubeControllerManager => vec![
                flag("use-service-account-credentials", "true"),
                flag("service-account-private-key-file", &file("service-account.key")),
                flag("root-ca-file", &file("client-ca.crt")),
                flag("controllers", &IN_MANAGER.join(",")),
            ],
            Self::KubeScheduler => Vec::new(),
            Self::Kwok => vec![
                flag("kubeconfig", kubeconfig),
                flag("manage-all-nodes", "true"),
                flag("node-lease-duration-seconds", "40"),
                flag(
                    "disregard-status-with-annotation-selector",
                    &format!("{}={}", UNTOUCHED.0, UNTOUCHED.1),
                ),
                flag("server-address", &loopback()?),
            ],
        };
        let mut flags = match self {
            Self::SourceController | Self::KustomizeController | Self::NotificationController => flux()?,
            Self::KubeControllerManager | Self::KubeScheduler => kubernetes()?,
            Self::Kwok => Vec::new(),
        };
        flags.extend(more);
        Ok(flags)
    }
}

fn flux_namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": FLUX_NAMESPACE}})
}
