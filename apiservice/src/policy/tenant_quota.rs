//! `tenantquotas`: limits on what the namespaces of a tenant hold together.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Enforcement;

/// TenantQuota limits what the namespaces of a tenant hold together, as ResourceQuota does for one namespace. A request
/// that would exceed a limit is refused, however many come at once and whichever way they come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[allow(clippy::duplicated_attributes, reason = "each column has its own")]
#[kube(
    group = "policy.gatehouse.dev",
    version = "v1alpha1",
    kind = "TenantQuota",
    plural = "tenantquotas",
    shortname = "tq",
    category = "gatehouse",
    status = "TenantQuotaStatus",
    printcolumn(name = "Enforcement", type_ = "string", json_path = ".spec.enforcement"),
    printcolumn(name = "Namespaces", type_ = "integer", json_path = ".status.namespaces"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Denied", type_ = "integer", json_path = ".status.denied"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.used", priority = 1),
    printcolumn(name = "Hard", type_ = "string", json_path = ".spec.hard", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct TenantQuotaSpec {
    /// Labels of the tenant's namespaces.
    pub namespace_selector: LabelSelector,
    /// The limits, as quantities. `count/RESOURCE.GROUP` limits the objects of any resource; `gameservers` the game
    /// servers that exist or that fleets ask for; `requests.cpu` and `requests.memory` what those servers ask for,
    /// `limits.cpu` and `limits.memory` what they may use at most; `players` the players they have room for,
    /// `capacity/NAME` the capacity of their Agones counters and lists of a name; `requests.storage` the storage that
    /// PersistentVolumeClaims ask for.
    #[schemars(extend(
        "minProperties" = 1,
        "maxProperties" = 64,
        "x-kubernetes-validations" = [{
            "rule": "self.all(key, key.startsWith('count/') || key.startsWith('capacity/') || key in ['gameservers', 'limits.cpu', 'limits.memory', 'players', 'requests.cpu', 'requests.memory', 'requests.storage'])",
            "message": "a limit is count/RESOURCE.GROUP, capacity/NAME, gameservers, limits.cpu, limits.memory, players, requests.cpu, requests.memory or requests.storage",
        }],
    ))]
    pub hard: BTreeMap<String, String>,
    /// What happens to a request that would exceed a limit.
    #[serde(default)]
    pub enforcement: Enforcement,
}

/// Usage of a TenantQuota.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantQuotaStatus {
    /// Generation that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Limits that this status was computed for.
    #[serde(default)]
    pub hard: BTreeMap<String, String>,
    /// Usage of existing objects.
    #[serde(default)]
    pub used: BTreeMap<String, String>,
    /// Admitted and not yet counted in `used`.
    #[serde(default)]
    pub reserved: BTreeMap<String, String>,
    /// By how much `used` exceeds `hard`, for exceeded limits only. Nothing is evicted.
    #[serde(default)]
    pub overcommit: BTreeMap<String, String>,
    /// Number of namespaces that the selector matches.
    #[serde(default)]
    pub namespaces: i64,
    /// Usage of each namespace that the selector matches, by its name; of the first 1000 if there are more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub by_namespace: BTreeMap<String, NamespaceUsage>,
    /// Number of requests that were denied so far.
    #[serde(default)]
    pub denied: i64,
    /// The last request that was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_denial: Option<LastDenial>,
    /// Ready: the ledger exists and every limit is enforced. Overcommitted: a limit is exceeded.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Usage of one namespace of a TenantQuota.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceUsage {
    /// Usage of existing objects in this namespace. What is not used is left out.
    #[serde(default)]
    pub used: BTreeMap<String, String>,
    /// The last requests that were denied in this namespace, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_denials: Vec<LastDenial>,
}

/// A request that was denied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastDenial {
    /// Time of the denial.
    pub time: Time,
    /// Message of the denial.
    pub message: String,
}
