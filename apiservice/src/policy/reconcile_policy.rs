//! `reconcilepolicies`: what reconciled objects may look like, and what is filled in where they say nothing.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Enforcement;

/// ReconcilePolicy says what Flux objects and game servers may look like, who may suspend them, and when nothing may
/// change. A rule that is left out is not checked; a default that is left out is not set.
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
    /// The namespaces whose objects are judged, by their labels; every namespace, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Whose requests are not judged. Freezes hold for service accounts all the same.
    #[serde(default)]
    pub exempt: Exempt,
    /// What happens to a request that breaks a rule.
    #[serde(default)]
    pub enforcement: Enforcement,
    /// What must hold.
    #[serde(default)]
    pub rules: Rules,
    /// What is filled in where an object says nothing.
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

/// What must hold. Each rule judges the kinds that have the field in question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// Bounds of `spec.interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalRule>,
    /// The account that a Kustomization or HelmRelease is applied as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<ServiceAccountNameRule>,
    /// References to objects of other namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_namespace_refs: Option<CrossNamespaceRefs>,
    /// Where sources may fetch from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<SourcesRule>,
    /// Where Kustomizations and HelmReleases may put what they apply (`spec.targetNamespace`): `Own`, into their own
    /// namespace only; or `{allowed: [team-a-*]}`, into these too, names or globs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "word_or_object")]
    pub target_namespaces: Option<TargetNamespaces>,
    /// Whether a Kustomization must remove what is no longer in its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<Prune>,
    /// Chains of `spec.dependsOn` that lead back to where they began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency_cycles: Option<DependencyCycles>,
    /// What suspending an object takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspension: Option<SuspensionRule>,
    /// Times in which nothing may change, and Flux is held back.
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
    /// Further conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub cel: Vec<CelRule>,
}

/// Bounds of `spec.interval`, inclusive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntervalRule {
    /// The shortest, for example `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// The longest, for example `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
}

/// The account that a Kustomization or HelmRelease is applied as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountNameRule {
    /// Whether one must be named.
    #[serde(default)]
    pub required: bool,
    /// Names, or globs such as `flux-*`; any, if none is given.
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

/// Where sources may fetch from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourcesRule {
    /// URLs, such as `https://github.com/my-org/*` or `oci://ghcr.io/my-org/**`: scheme and host as they stand
    /// (`*.example.com` for one level of hosts), the path as a glob in which `*` stays within a segment.
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

/// What suspending an object takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspensionRule {
    /// Whether the annotation `gatehouse.dev/suspend-reason` must say why, and `fluxcd.controlplane.io/suspendedBy`
    /// who; the latter is filled in by admission.
    #[serde(default)]
    pub require_reason: bool,
    /// How long a suspension lasts, for example `24h`: then the object is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<String>,
}

/// A time that comes again and again, in which nothing may change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Freeze {
    /// Names it among the policy's freezes.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// When it begins: cron with five fields, such as `0 18 * * FRI`.
    #[schemars(length(min = 1, max = 256))]
    pub schedule: String,
    /// How long it lasts, on the clock of everybody, whatever daylight saving does; for example `62h`.
    #[schemars(length(min = 1, max = 64))]
    pub duration: String,
    /// Where `schedule` is meant, such as `Europe/Berlin`; `UTC`, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// What people are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// Bounds of a fleet's size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicasRule {
    /// The most replicas a Fleet or GameServerSet may ask for, and an autoscaler may go up to.
    #[schemars(range(min = 0))]
    pub max: i64,
}

/// Suspending, resuming and asking for reconciliation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verbs {
    /// Whoever may edit the object may do these.
    Ignore,
    /// They take the verbs `suspend`, `resume` and `reconcile` on the resource.
    Authorize,
}

/// A condition of one's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CelRule {
    /// CEL; true is well. `object` and `oldObject` (null at creation) are the objects, `request` says who does what.
    /// Compared with a literal such as `'5m'`, durations are ordered by their length. What cannot be evaluated does not
    /// hold.
    #[schemars(length(min = 1, max = 4096))]
    pub expression: String,
    /// What is said if it does not hold; the expression, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// What is filled in where an object says nothing.
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
    /// What the container of a game server asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub game_server_resources: Option<GameServerResources>,
}

/// What the container of a game server asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GameServerResources {
    /// `resources.requests`, as quantities.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub requests: BTreeMap<String, String>,
}

/// What a ReconcilePolicy finds among the objects that exist.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReconcilePolicyStatus {
    /// The generation that this status tells about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many objects break a rule at present.
    #[serde(default)]
    pub violations: i64,
    /// The same for each rule that is broken.
    #[serde(default)]
    pub rules: Vec<RuleCount>,
    /// Some of them, in order; at most 20.
    #[serde(default)]
    pub examples: Vec<Example>,
    /// How many objects were judged.
    #[serde(default)]
    pub judged: i64,
    /// The freeze that is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_freeze: Option<String>,
    /// When it ends, or the next one begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_change: Option<Time>,
    /// Ready: it compiles and is enforced. Compliant: nothing that exists breaks it.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How many objects break a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleCount {
    /// The rule, as its field of `spec.rules`.
    pub rule: String,
    /// How many objects break it.
    pub violations: i64,
}

/// An object that breaks a rule.
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
    /// What is wrong.
    pub message: String,
}
