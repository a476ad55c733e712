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
    /// Users whose requests are not judged, and objects that are not judged by what they hold. Freezes still hold for
    /// service accounts, and for all objects.
    #[serde(default)]
    pub exempt: Exempt,
    /// What happens to a request that violates a rule.
    #[serde(default)]
    pub enforcement: Enforcement,
    /// ConfigMap with parameters: lists that several policies share, and `params` in CEL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param_ref: Option<ParamRef>,
    /// Expressions that conditions in CEL may use as `variables.NAME`. Each may use those before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub variables: Vec<Variable>,
    /// Rules for objects.
    #[serde(default)]
    pub rules: Rules,
    /// Kinds that a rule is limited to, and what happens if that rule is violated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["rule"])
    )]
    pub rule_settings: Vec<RuleSettings>,
    /// Values of fields that an object leaves out.
    #[serde(default)]
    pub defaults: Defaults,
}

/// Whose requests a policy does not judge, and which objects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Objects that are not judged by what they hold, whoever writes them. Whoever makes an object exempt by a label, or
    /// by a name in no particular namespace, needs the verb `exempt` on the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub objects: Vec<ExemptObjects>,
}

/// Objects that are not judged: those that have all of what is said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExemptObjects {
    /// Kinds, such as `Kustomization` or `GameServerSet.agones.dev`. Default: every kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 127)))]
    pub kinds: Vec<String>,
    /// Namespaces, or globs such as `infra-*`. Default: every namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    pub namespaces: Vec<String>,
    /// Names, or globs such as `infra-*`. Default: every name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    pub names: Vec<String>,
    /// Labels of the objects. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Rules that the objects are exempt from, such as `interval` or the name of a condition in CEL. Default: every rule
    /// but `freezes`, `suspension` and `verbs`, which are about what somebody does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 63)))]
    pub rules: Vec<String>,
}

/// A ConfigMap in Gatehouse's own namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParamRef {
    /// Its name. While it does not exist, every rule that needs it is violated.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace, which must be that of Gatehouse: tenants cannot write there.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
}

/// An expression with a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Its name, a CEL identifier.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// CEL expression. It is evaluated at its first use, once for an object.
    #[schemars(length(min = 1, max = 4096))]
    pub expression: String,
}

/// What differs for one rule from what the policy says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleSettings {
    /// The rule, by its field of `spec.rules`, such as `interval`. Conditions in CEL have settings of their own.
    #[schemars(length(min = 1, max = 63))]
    pub rule: String,
    /// Kinds that it judges, of those that it could. Default: all of those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 127)))]
    pub kinds: Vec<String>,
    /// What happens to a request that violates it. Default: as the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
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
    /// Number of objects, such as Kustomizations and HelmReleases, whose own status says that this policy denies what their
    /// controller does.
    #[serde(default)]
    pub held_back: i64,
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
    /// The rule, by its field of `spec.rules`, or the name of a condition in CEL.
    pub rule: String,
    /// Number of objects that violate it.
    pub violations: i64,
    /// What happens to a request that violates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
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
