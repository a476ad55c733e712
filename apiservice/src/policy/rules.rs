//! The rules of a ReconcilePolicy, as they are written.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What must hold. Each rule judges the kinds that have the field in question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// Bounds of `spec.interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalRule>,
    /// Service account of a Kustomization or HelmRelease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<ServiceAccountNameRule>,
    /// References to objects of other namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_namespace_refs: Option<CrossNamespaceRefs>,
    /// Addresses that sources may fetch from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<SourcesRule>,
    /// Allowed `spec.targetNamespace` of Kustomizations and HelmReleases: `Own` for their own namespace only; or
    /// `{allowed: [team-a-*]}` for these names or globs, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "word_or_object")]
    pub target_namespaces: Option<TargetNamespaces>,
    /// Whether a Kustomization must remove what is no longer in its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<Prune>,
    /// Chains of `spec.dependsOn` that lead back to where they began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency_cycles: Option<DependencyCycles>,
    /// Conditions for suspending an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspension: Option<SuspensionRule>,
    /// Recurring times in which nothing may change and Flux objects are suspended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub freezes: Vec<Freeze>,
    /// Bounds of a fleet's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<ReplicasRule>,
    /// Whether suspending, resuming and asking for reconciliation takes a right of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verbs: Option<Verbs>,
    /// Your own conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub cel: Vec<CelRule>,
}

/// Bounds of `spec.interval`, inclusive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntervalRule {
    /// Minimum, for example `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// Maximum, for example `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
}

/// Service account of a Kustomization or HelmRelease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountNameRule {
    /// Whether one must be named.
    #[serde(default)]
    pub required: bool,
    /// Allowed names or globs such as `flux-*`. Default: any.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    pub allowed: Vec<String>,
}

/// References to objects of other namespaces: sources, charts, dependencies, event sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CrossNamespaceRefs {
    /// There may be any.
    Allow,
    /// There may be none.
    Forbid,
}

/// Addresses that sources may fetch from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourcesRule {
    /// Allowed URLs, such as `https://github.com/my-org/*` or `oci://ghcr.io/my-org/**`. Scheme and host must be equal
    /// (`*.example.com` matches one level of hosts); the path is a glob in which `*` matches within a segment.
    #[schemars(length(max = 256), inner(length(min = 1, max = 2048)))]
    pub allowed: Vec<String>,
}

/// A structural schema cannot say "this word or that object": it admits anything here, and admission judges.
fn word_or_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        // Judges words only.
        "pattern": "^Own$",
        // Judges objects only.
        "required": ["allowed"],
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// Where what is applied may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetNamespaces {
    /// `Own`: into the object's own namespace only.
    Own(OwnNamespace),
    /// Into these.
    Allowed {
        /// Names, or globs such as `team-a-*`. The object's own namespace is always allowed.
        allowed: Vec<String>,
    },
}

/// The word `Own`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OwnNamespace {
    /// The object's own namespace.
    Own,
}

/// `spec.prune`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Prune {
    /// It may be true or false.
    Optional,
    /// It must be true.
    Required,
}

/// Cycles of `spec.dependsOn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DependencyCycles {
    /// They are none of the policy's business.
    Allow,
    /// There may be none.
    Forbid,
}

/// Conditions for suspending an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspensionRule {
    /// Require the annotations `gatehouse.dev/suspend-reason` and `fluxcd.controlplane.io/suspendedBy`; admission sets
    /// the latter.
    #[serde(default)]
    pub require_reason: bool,
    /// Maximum length of a suspension, for example `24h`; then Gatehouse resumes the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<String>,
}

/// A recurring time in which nothing may change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Freeze {
    /// Name of the freeze, unique in the policy.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Start of the freeze: a cron expression with five fields, such as `0 18 * * FRI`.
    #[schemars(length(min = 1, max = 256))]
    pub schedule: String,
    /// Length of the freeze in elapsed time, regardless of daylight saving time; for example `62h`.
    #[schemars(length(min = 1, max = 64))]
    pub duration: String,
    /// Time zone of `schedule`, such as `Europe/Berlin`. Default: `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Reason that users are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// Bounds of a fleet's size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicasRule {
    /// Maximum replicas of a Fleet, a GameServerSet or an autoscaler.
    #[schemars(range(min = 0))]
    pub max: i64,
}

/// Whether suspending, resuming and reconciling need RBAC verbs of these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verbs {
    /// Whoever may edit the object may do these.
    Ignore,
    /// They take the verbs `suspend`, `resume` and `reconcile` on the resource.
    Authorize,
}

/// A condition in CEL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CelRule {
    /// CEL expression that must be true. `object` and `oldObject` (null on create) are the objects, `request` describes
    /// the request. Durations that are compared with a literal such as `'5m'` are compared by length. An expression
    /// that cannot be evaluated counts as violated.
    #[schemars(length(min = 1, max = 4096))]
    pub expression: String,
    /// Message if the condition is violated. Default: the expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}
