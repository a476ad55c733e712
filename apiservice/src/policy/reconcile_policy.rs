//! `reconcilepolicies`: what reconciled objects may look like, and what is filled in where they say nothing.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Enforcement, rules::Rules};

/// ReconcilePolicy restricts what Flux objects and game servers may look like, who may suspend them, and when nothing
/// may change. A rule that is left out is not checked; a default that is left out is not set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[allow(clippy::duplicated_attributes, reason = "each column has its own")]
#[kube(
    group = "policy.gatehouse.dev",
    version = "v1alpha1",
    kind = "ReconcilePolicy",
    plural = "reconcilepolicies",
    shortname = "rp",
    category = "gatehouse",
    status = "ReconcilePolicyStatus",
    printcolumn(name = "Enforcement", type_ = "string", json_path = ".spec.enforcement"),
    printcolumn(name = "Violations", type_ = "integer", json_path = ".status.violations"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Frozen", type_ = "string", json_path = ".status.activeFreeze"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Judged", type_ = "integer", json_path = ".status.judged", priority = 1),
    printcolumn(name = "Next-Change", type_ = "string", json_path = ".status.nextChange", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ReconcilePolicySpec {
    /// Labels of the namespaces whose objects are judged. Default: every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Users whose requests are not judged. Freezes still hold for service accounts.
    #[serde(default)]
    pub exempt: Exempt,
    /// What happens to a request that violates a rule.
    #[serde(default)]
    pub enforcement: Enforcement,
    /// Rules for objects.
    #[serde(default)]
    pub rules: Rules,
    /// Values of fields that an object leaves out.
    #[serde(default)]
    pub defaults: Defaults,
}

/// Whose requests a policy does not judge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exempt {
    /// User names.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(min = 1, max = 512)))]
    pub users: Vec<String>,
    /// Groups.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(min = 1, max = 512)))]
    pub groups: Vec<String>,
    /// Service accounts.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub service_accounts: Vec<ServiceAccount>,
}

/// A service account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccount {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Values of fields that an object leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// `spec.interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// `spec.timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// `spec.retryInterval` of a Kustomization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_interval: Option<String>,
    /// `spec.prune` of a Kustomization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<bool>,
    /// `spec.serviceAccountName` of a Kustomization or HelmRelease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// Resources of the container of a game server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub game_server_resources: Option<GameServerResources>,
}

/// Resources of the container of a game server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GameServerResources {
    /// `resources.requests`, as quantities.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub requests: BTreeMap<String, String>,
}

/// Violations of a ReconcilePolicy by existing objects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReconcilePolicyStatus {
    /// Generation that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number of objects that violate a rule.
    #[serde(default)]
    pub violations: i64,
    /// Violations by rule.
    #[serde(default)]
    pub rules: Vec<RuleCount>,
    /// Examples of violations, in order; at most 20.
    #[serde(default)]
    pub examples: Vec<Example>,
    /// Number of objects that were judged.
    #[serde(default)]
    pub judged: i64,
    /// Name of the active freeze.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_freeze: Option<String>,
    /// Time when the active freeze ends, or the next one begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_change: Option<Time>,
    /// Ready: the policy compiles and is enforced. Compliant: no existing object violates it.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Number of violations of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleCount {
    /// The rule, by its field of `spec.rules`.
    pub rule: String,
    /// Number of objects that violate it.
    pub violations: i64,
}

/// An object that violates a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Example {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The rule.
    pub rule: String,
    /// Message of the violation.
    pub message: String,
}
