//! `clusterhealths`: one row for each cluster, over all its layers.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Failure, ProblemsStatus};
use crate::{Cell, Column, Condition, Resource, Time, View};

/// Health of a cluster, layer by layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct ClusterHealthStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// The worst health of all layers.
    pub health: Health,
    /// Summary of the layers that are not healthy.
    pub reason: String,
    /// Everything in the cluster that is not well.
    #[serde(flatten)]
    pub problems: ProblemsStatus,
    /// `gitVersion` of the cluster's API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The object that registers a remote cluster, for example `Secret gatehouse-clusters/eu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// How a remote cluster is observed. `views`: the views of its own Gatehouse are watched. `direct`: its objects are.
    /// `snapshot`: a folder is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Cow<'static, str>>,
    /// When a remote cluster that does not answer was last heard from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heard_time: Option<Time>,
    /// When the credential for a remote cluster expires, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_expires_time: Option<Time>,
    /// Every layer of which the cluster serves at least one kind, and those that may not be read.
    pub layers: Vec<LayerHealth>,
    /// Observations that are not failures, for example nodes with different kubelet versions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Time of the observation that this object reports.
    pub last_observed_time: Time,
    /// Healthy: no layer is Degraded or Unknown. Reachable: the cluster answers. Fresh: the cluster answered within the
    /// last 30 seconds. Of a remote cluster also Registered: its registration is accepted. Authenticated: it takes the
    /// credential.
    pub conditions: Vec<Condition>,
}

/// Health of a layer or a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub enum Health {
    /// Nothing has failed or is in progress.
    Healthy,
    /// Something is in progress; nothing has failed.
    Progressing,
    /// Health is unknown: a kind may not be read, or the cluster does not answer.
    #[default]
    Unknown,
    /// Something has failed.
    Degraded,
}

/// What is not known is Unknown.
impl<'de> Deserialize<'de> for Health {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let all = [Self::Healthy, Self::Progressing, Self::Degraded];
        Ok(all.into_iter().find(|known| known.as_str() == text).unwrap_or_default())
    }
}

impl Health {
    /// The name used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Progressing => "Progressing",
            Self::Unknown => "Unknown",
            Self::Degraded => "Degraded",
        }
    }
}

/// Health of one layer of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct LayerHealth {
    /// Nodes, API, FluxControllers, Flux, Workloads, Storage, Certificates, Secrets, Data, Network, Backup, ArgoCD
    /// or GameServers.
    pub name: Cow<'static, str>,
    /// The health of the layer.
    pub health: Health,
    /// Number of objects that count towards the layer.
    pub total: u32,
    /// Number of ready objects.
    pub current: u32,
    /// Number of failed objects, including blocked and stalled ones.
    pub failed: u32,
    /// Number of objects that are in progress.
    pub progressing: u32,
    /// Number of suspended objects; they do not degrade the layer.
    pub suspended: u32,
    /// Number of objects whose state could not be determined.
    pub unknown: u32,
    /// Kinds that count towards the layer.
    pub kinds: Vec<KindHealth>,
    /// The worst failures, most severe and oldest first; at most five.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// Number of failures that the list leaves out.
    pub failures_omitted: u32,
}

/// A kind that counts towards a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct KindHealth {
    /// The kind.
    pub kind: String,
    /// API group of the kind.
    pub group: String,
    /// Watched, Forbidden (Gatehouse may not list it; its objects are unknown), Failing (its objects may be stale) or
    /// Pending (not listed yet).
    pub observed: Cow<'static, str>,
    /// Reason why it is not Watched.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Number of objects of the kind that count towards the layer.
    pub total: u32,
    /// Number of failed objects of the kind.
    pub failed: u32,
}

impl View for ClusterHealthStatus {
    const RESOURCE: Resource = Resource {
        plural: "clusterhealths",
        singular: "clusterhealth",
        kind: "ClusterHealth",
        short_names: &["chl"],
        namespaced: false,
        description: "ClusterHealth tells how a cluster is doing over its nodes, Flux and Argo CD, workloads, \
                      storage, certificates, secrets, data services, network, backups and game servers. What \
                      may not be read is Unknown, never counted as zero.",
        columns: &[
            Column::NAME,
            Column::text("Health", "The worst health of any layer."),
            Column::text("Nodes", "Nodes: ready of total."),
            Column::text("Flux", "Flux objects: ready of those that are not suspended."),
            Column::text("Workloads", "Deployments, StatefulSets, DaemonSets: ready of total."),
            Column::text("Storage", "Volumes and claims: ready of total."),
            Column::text("Certs", "Certificates: ready of total."),
            Column::text("Data", "Databases and caches: ready of total."),
            Column::text("Network", "Gateways and routes: ready of total."),
            Column::text("Backup", "Backups, their schedules and locations: ready of total."),
            Column::integer("Problems", "Objects of the cluster that are not well, of whatever kind."),
            Column::text("Cause", "Object that explains the worst of these problems, and its reason."),
            Column::text("Reason", "The layers that are not healthy."),
            Column::text("Version", "Version of the cluster's API server."),
            Column::text("Controllers", "Flux controllers: ready of total.").wide(),
            Column::text("Secrets", "External and sealed secrets: ready of total.").wide(),
            Column::text("ArgoCD", "Argo CD Applications: ready of total.").wide(),
            Column::text("Games", "Fleets and game servers: ready of total.").wide(),
            Column::text("Reachable", "Whether the cluster answers.").wide(),
            Column::text("Fresh", "Whether the cluster answered within the last 30 seconds.").wide(),
            Column::text("Origin", "The object that registers a remote cluster.").wide(),
            Column::text("Mode", "How a remote cluster is observed.").wide(),
            Column::age("Last-Heard", "The time since a silent remote cluster last answered.").wide(),
            Column::text("Credential-Expires", "When the credential for a remote cluster expires.").wide(),
        ],
        selectable_fields: &["status.health"],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        vec![
            self.health.as_str().into(),
            self.layer_cell("Nodes").into(),
            self.layer_cell("Flux").into(),
            self.layer_cell("Workloads").into(),
            self.layer_cell("Storage").into(),
            self.layer_cell("Certificates").into(),
            self.layer_cell("Data").into(),
            self.layer_cell("Network").into(),
            self.layer_cell("Backup").into(),
            Cell::Integer(self.problems.problems.into()),
            self.problems.cause_cell().into(),
            self.reason_cell().into(),
            self.version.as_deref().unwrap_or_default().into(),
            self.layer_cell("FluxControllers").into(),
            self.layer_cell("Secrets").into(),
            self.layer_cell("ArgoCD").into(),
            self.layer_cell("GameServers").into(),
            super::common::status_of(&self.conditions, "Reachable").into(),
            super::common::status_of(&self.conditions, "Fresh").into(),
            self.origin.as_deref().unwrap_or_default().into(),
            self.mode.as_deref().unwrap_or_default().into(),
            Cell::Age(self.last_heard_time),
            self.credential_expires_time.map(|time| time.to_string()).unwrap_or_default().into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![self.health.as_str().into()]
    }
}

impl ClusterHealthStatus {
    /// The first reasons, and how many more there are: a column has to fit beside the others.
    fn reason_cell(&self) -> Cow<'_, str> {
        const SHOWN: usize = 3;
        match self.reason.match_indices(", ").nth(SHOWN - 1) {
            None => self.reason.as_str().into(),
            Some((end, _)) => {
                let more = self.reason[end..].matches(", ").count();
                format!("{} +{more}", &self.reason[..end]).into()
            }
        }
    }

    /// `current/total` without the suspended; `?` where something may not be read; `-` where there is nothing.
    fn layer_cell(&self, name: &str) -> String {
        let Some(layer) = self.layers.iter().find(|layer| layer.name == name) else { return "-".into() };
        let counted = layer.total - layer.suspended;
        match layer.health {
            Health::Unknown if layer.total == 0 => "?".into(),
            Health::Unknown => format!("{}/{counted}?", layer.current),
            _ if layer.total == 0 => "-".into(),
            _ => format!("{}/{counted}", layer.current),
        }
    }
}
