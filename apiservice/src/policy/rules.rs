//! The rules of a ReconcilePolicy, as they are written.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Enforcement;

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
    /// `{allowed: [team-a-*]}` for these names or globs, too. `required: true` beside or without `allowed` asks for one to
    /// be named; `allowedFrom` has keys of the ConfigMap of `spec.paramRef` with further names, one a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "word_or_object")]
    pub target_namespaces: Option<TargetNamespaces>,
    /// Service account that a Kustomization decrypts with, `spec.decryption.serviceAccountName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decryption_account: Option<DecryptionAccountRule>,
    /// Signatures of sources, `spec.verify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyRule>,
    /// What of a source is fetched: `spec.ref` of GitRepositories and OCIRepositories, and the version of Helm charts.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<RefRule>,
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
    /// Whether `spec.kubeConfig.secretRef` will do instead of an account where one is required: what is applied to another
    /// cluster has the rights of that kubeconfig.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_kube_config: bool,
    /// Allowed names or globs such as `flux-*`. Default: any.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    pub allowed: Vec<String>,
    /// Keys of the ConfigMap of `spec.paramRef`, each with further ones, one a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub allowed_from: Vec<String>,
}

/// Service account that a Kustomization decrypts with. Without one, cloud keys are asked for as Flux itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecryptionAccountRule {
    /// Whether a Kustomization with `spec.decryption` must name one.
    #[serde(default)]
    pub required: bool,
    /// Allowed names or globs. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    pub allowed: Vec<String>,
    /// Keys of the ConfigMap of `spec.paramRef`, each with further ones, one a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub allowed_from: Vec<String>,
}

/// Signatures of GitRepositories, OCIRepositories and Helm charts. A signature by Cosign must be checked with a key or
/// against an identity: else anybody's will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifyRule {
    /// Whether `spec.verify` must be there.
    #[serde(default)]
    pub required: bool,
    /// Allowed `spec.verify.provider`, such as `cosign`, of OCIRepositories and charts. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub providers: Vec<String>,
    /// Allowed `spec.verify.mode`, such as `TagAndHEAD`, of GitRepositories. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub modes: Vec<String>,
    /// Allowed elements of `spec.verify.matchOIDCIdentity`, compared as text. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub identities: Vec<Identity>,
}

/// An identity that signs without a key. Both fields are regular expressions, as Flux has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// `issuer`.
    #[schemars(length(min = 1, max = 1024))]
    pub issuer: String,
    /// `subject`.
    #[schemars(length(min = 1, max = 1024))]
    pub subject: String,
}

/// What of a source is fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefRule {
    /// Allowed forms of a reference. Default: any. The form is that of the field that Flux goes by; without any field it
    /// is `Branch` for a GitRepository, `Tag` for an OCIRepository and `SemVer` for a chart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub allowed: Vec<RefForm>,
    /// Whether whatever is newest may be fetched: no reference, the tag `latest`, or a range that every version is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Latest>,
}

/// The form of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RefForm {
    /// `branch`.
    Branch,
    /// `tag`.
    Tag,
    /// `semver`, or the version of a chart.
    SemVer,
    /// `name`, such as `refs/pull/420/head`.
    Name,
    /// `commit`.
    Commit,
    /// `digest`.
    Digest,
}

/// Whatever is newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Latest {
    /// It may be fetched.
    Allow,
    /// It may not.
    Forbid,
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
    /// (`*.example.com` matches one level of hosts); the path is a glob in which `*` matches within a segment. Default: any;
    /// an empty list allows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 2048)))]
    pub allowed: Option<Vec<String>>,
    /// Keys of the ConfigMap of `spec.paramRef`, each with further ones, one a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub allowed_from: Vec<String>,
    /// URLs that are denied, whatever is allowed. The scheme may be `*`, users do not count, and the case of the path does
    /// not either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 2048)))]
    pub denied: Vec<String>,
    /// Keys of the ConfigMap of `spec.paramRef`, each with further ones, one a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub denied_from: Vec<String>,
    /// Whether sources may name a proxy (`spec.proxySecretRef`), which may answer in the place of any address. Default:
    /// `Forbid` where the allowed URLs are listed, else `Allow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxies: Option<Proxies>,
}

/// Proxies of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Proxies {
    /// Sources may name one.
    Allow,
    /// They may not.
    Forbid,
}

/// A structural schema cannot say "this word or that object": it admits anything here, and admission judges.
fn word_or_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        // Judges words only.
        "pattern": "^Own$",
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
    Rule(TargetNamespacesRule),
}

/// Which namespaces may be targets, and whether one must be named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetNamespacesRule {
    /// Whether one must be named.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Names, or globs such as `team-a-*`, beside the object's own namespace. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<String>>,
    /// Keys of the ConfigMap of `spec.paramRef`, each with further ones, one a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_from: Vec<String>,
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
    /// Name of the rule in messages, metrics and status. Default: `cel[N]`, its position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,
    /// Kinds that it judges. Default: every kind, but where the expression asks for a field of `object.spec` that belongs to
    /// other kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 127)))]
    pub kinds: Vec<String>,
    /// CEL expression that must be true. `object` and `oldObject` (null on create) are the objects, `request` describes
    /// the request, `namespaceObject` the namespace, `params` the ConfigMap of `spec.paramRef`, and `variables` has those of
    /// `spec.variables`. Durations that are compared with a literal such as `'5m'` are compared by length. An expression
    /// that cannot be evaluated counts as violated.
    #[schemars(length(min = 1, max = 4096))]
    pub expression: String,
    /// Message if the condition is violated. Default: the expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// CEL expression for the message. Where it has no value, or one that is empty or has several lines, `message` stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub message_expression: Option<String>,
    /// Field of the object that the condition is about, such as `spec.timeout`: it is named in the denial, and
    /// `gatehouse check` points at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub field_path: Option<String>,
    /// What happens to a request that violates it. Default: as the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
}
