//! The subresources: those by which Gatehouse acts on Flux objects, where actions are enabled, and those that change
//! nothing.
//!
//! Like Eviction and TokenRequest of Kubernetes, a body is the request and comes back with a status.

use schemars::{JsonSchema, Schema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::{
    Resource, Time, View,
    view::{
        AppliedTenantQuotaStatus, FluxResourceStatus, FluxResourceTreeStatus, FluxSummaryStatus,
        QuotaFitStatus, TenantUsageStatus,
    },
};

/// A subresource of a view.
#[derive(Debug)]
pub struct Subresource {
    /// The resource that it belongs to.
    pub resource: &'static Resource,
    /// The path segment after the object's name.
    pub name: &'static str,
    /// The kind of bodies and answers.
    pub kind: &'static ActionKind,
    /// The `kind` that answers name, and discovery. kubectl edit finds the resource of a document by it, so that of a
    /// subresource that can be edited is the resource's, as with the subresource `status` in Kubernetes.
    pub shown_as: &'static str,
    /// The verbs of RBAC. Never list or delete, so that the controllers of Kubernetes that read discovery stay away.
    pub verbs: &'static [&'static str],
    /// What it does, as the description of its operations.
    pub description: &'static str,
}

/// A kind of bodies and answers.
#[derive(Debug)]
pub struct ActionKind {
    /// Its name.
    pub kind: &'static str,
    /// What `kubectl explain` would say about it.
    pub description: &'static str,
    /// The schema of `spec`; `None` for what has none.
    pub spec_schema: Option<fn(&mut SchemaGenerator) -> Schema>,
    /// Whether a body is an object of any kind, or a List of such, instead of this kind.
    pub takes_any_object: bool,
    /// The schema of `status`.
    pub status_schema: fn(&mut SchemaGenerator) -> Schema,
}

/// The kind of `reconcile`.
pub const RECONCILE_REQUEST: ActionKind = ActionKind {
    kind: "ReconcileRequest",
    description: "ReconcileRequest asks the controllers of Flux to reconcile one object, or those of a namespace.",
    spec_schema: Some(SchemaGenerator::subschema_for::<ReconcileRequestSpec>),
    takes_any_object: false,
    status_schema: SchemaGenerator::subschema_for::<ReconcileRequestStatus>,
};

/// The kind of `suspension`, `suspend` and `resume`.
pub const SUSPENSION: ActionKind = ActionKind {
    kind: "Suspension",
    description: "Suspension shows whether an object is suspended, why, since when and until when. To change it \
                  suspends or resumes the object.",
    spec_schema: Some(SchemaGenerator::subschema_for::<SuspensionSpec>),
    takes_any_object: false,
    status_schema: SchemaGenerator::subschema_for::<SuspensionStatus>,
};

/// The kind of `tree`.
pub const FLUX_RESOURCE_TREE: ActionKind = ActionKind {
    kind: "FluxResourceTree",
    description: "FluxResourceTree is a Flux object with what it applied, and what that applied, each with its state.",
    spec_schema: None,
    takes_any_object: false,
    status_schema: SchemaGenerator::subschema_for::<FluxResourceTreeStatus>,
};

/// The kind of `fit`.
pub const QUOTA_FIT: ActionKind = ActionKind {
    kind: "QuotaFit",
    description: "QuotaFit says whether objects would fit into a quota, limit by limit. Nothing is created or reserved.",
    spec_schema: None,
    takes_any_object: true,
    status_schema: SchemaGenerator::subschema_for::<QuotaFitStatus>,
};

/// The kinds of subresources, with those of actions or without.
pub fn kinds(acts: bool) -> impl Iterator<Item = &'static ActionKind> {
    static ACTING: [&ActionKind; 2] = [&RECONCILE_REQUEST, &SUSPENSION];
    [&FLUX_RESOURCE_TREE, &QUOTA_FIT].into_iter().chain(ACTING.into_iter().filter(move |_| acts))
}

/// The subresources that are served, with actions or without.
pub fn subresources(acts: bool) -> impl Iterator<Item = &'static Subresource> {
    std::iter::once(&TREE).chain(&FITS).chain(SUBRESOURCES.iter().filter(move |_| acts))
}

const FLUX_RESOURCES: &Resource = &<FluxResourceStatus as View>::RESOURCE;
const FLUX_SUMMARIES: &Resource = &<FluxSummaryStatus as View>::RESOURCE;

/// The subresource with what an object applied, which is there without actions, too.
pub static TREE: Subresource = Subresource {
    resource: FLUX_RESOURCES,
    name: "tree",
    kind: &FLUX_RESOURCE_TREE,
    shown_as: FLUX_RESOURCE_TREE.kind,
    verbs: &["get"],
    description: "the Flux object with what it applied",
};

/// The subresources that say whether objects would fit into a quota. They are created only because they take a body.
pub static FITS: [Subresource; 2] = [
    Subresource {
        resource: &<AppliedTenantQuotaStatus as View>::RESOURCE,
        name: "fit",
        kind: &QUOTA_FIT,
        shown_as: QUOTA_FIT.kind,
        verbs: &["create"],
        description: "whether objects of the namespace would fit into the quota",
    },
    Subresource {
        resource: &<TenantUsageStatus as View>::RESOURCE,
        name: "fit",
        kind: &QUOTA_FIT,
        shown_as: QUOTA_FIT.kind,
        verbs: &["create"],
        description: "whether objects of the tenant would fit into the quota",
    },
];

/// Every subresource that acts.
pub static SUBRESOURCES: [Subresource; 5] = [
    Subresource {
        resource: FLUX_RESOURCES,
        name: "reconcile",
        kind: &RECONCILE_REQUEST,
        shown_as: RECONCILE_REQUEST.kind,
        verbs: &["create"],
        description: "request a reconciliation of the Flux object",
    },
    Subresource {
        resource: FLUX_RESOURCES,
        name: "resume",
        kind: &SUSPENSION,
        shown_as: SUSPENSION.kind,
        verbs: &["create"],
        description: "resume the Flux object",
    },
    Subresource {
        resource: FLUX_RESOURCES,
        name: "suspend",
        kind: &SUSPENSION,
        shown_as: SUSPENSION.kind,
        verbs: &["create"],
        description: "suspend the Flux object",
    },
    Subresource {
        resource: FLUX_RESOURCES,
        name: "suspension",
        kind: &SUSPENSION,
        shown_as: FLUX_RESOURCES.kind,
        verbs: &["get", "patch", "update"],
        description: "the suspension of the Flux object",
    },
    Subresource {
        resource: FLUX_SUMMARIES,
        name: "reconcile",
        kind: &RECONCILE_REQUEST,
        shown_as: RECONCILE_REQUEST.kind,
        verbs: &["create"],
        description: "request a reconciliation of the Flux objects of the namespace",
    },
];

/// Whether a spec has this flag unset, and need not mention it.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_unset(flag: &bool) -> bool {
    !flag
}

/// What to reconcile, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ReconcileRequestSpec {
    /// Whether what the object takes its content from is reconciled too, first. For one object only.
    #[serde(skip_serializing_if = "is_unset")]
    pub with_source: bool,
    /// Whether to reconcile even without a change: a one-off upgrade of a HelmRelease, a run of a
    /// ResourceSetInputProvider off its schedule. For one object of these kinds only.
    #[serde(skip_serializing_if = "is_unset")]
    pub force: bool,
    /// Whether the failures that were counted are forgotten, so that a HelmRelease that gave up tries again. For one
    /// HelmRelease only.
    #[serde(skip_serializing_if = "is_unset")]
    pub reset: bool,
    /// Which objects of a namespace to reconcile, by `status.state` of fluxresources. Absent or empty: all. For
    /// fluxsummaries only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub states: Option<Vec<String>>,
    /// Why, for the Event: one line of at most 1,024 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was requested.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileRequestStatus {
    /// The token of the request: a time in UTC with nine digits after the point.
    pub requested_at: String,
    /// The objects that were asked to reconcile; sources first.
    pub objects: Vec<RequestedObject>,
    /// The objects of the namespace that were not asked, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_requested: Vec<UnrequestedObject>,
}

/// An object that was asked to reconcile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestedObject {
    /// Group and version of the object.
    pub api_version: String,
    /// Kind of the object.
    pub kind: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// The object's `metadata.uid`.
    pub uid: String,
    /// The object's `metadata.resourceVersion` with the request.
    pub resource_version: String,
    /// The token that the object was given. It is later than that of the request if the object had a later one.
    pub requested_at: String,
}

/// An object that was not asked to reconcile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnrequestedObject {
    /// Group and version of the object.
    pub api_version: String,
    /// Kind of the object.
    pub kind: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Suspended, Terminating, NotReconcilable, or the reason of the error, such as Forbidden.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

/// The suspension that is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SuspensionSpec {
    /// Whether the object is suspended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
    /// Why it is suspended: one line of at most 1,024 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the suspension ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub until: Option<String>,
}

/// What is known of the suspension.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspensionStatus {
    /// Since when the object is suspended, if that was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The user who suspended it, if that was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The freeze of a ReconcilePolicy that holds the object, as POLICY/FREEZE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_subresource_can_be_listed_watched_or_deleted() {
        for subresource in subresources(true) {
            for verb in subresource.verbs {
                assert!(["create", "get", "patch", "update"].contains(verb), "{} {verb}", subresource.name);
            }
        }
    }
}
