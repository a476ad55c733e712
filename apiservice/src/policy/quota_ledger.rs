//! `quotaledgers`: what has been promised out of a TenantQuota, and not been seen yet. Internal.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The ledger of the TenantQuota of the same name. Written by Gatehouse alone: one compare-and-swap of this object is
/// what keeps several replicas from promising the same thing twice.
///
/// Usage is at most `used` plus, over all entries, `peak` minus `floor`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "policy.gatehouse.dev",
    version = "v1alpha1",
    kind = "QuotaLedger",
    plural = "quotaledgers",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct QuotaLedgerSpec {
    /// The uid of the TenantQuota this is the ledger of.
    pub quota_uid: String,
    /// What the objects of the tenant's namespaces took up at `revisions`: a quantity for each limit.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub used: BTreeMap<String, String>,
    /// The resourceVersion that `used` is a snapshot at, by `resource.group`.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub revisions: BTreeMap<String, String>,
    /// How many admissions were charged so far.
    #[serde(default)]
    pub tickets: i64,
    /// What was admitted and is not part of `used` yet, by the uid of the object: each a text of JSON with `resource`,
    /// `namespace`, `name`, `ticket`, `resourceVersion` (of an update), `floor` and `peak`.
    // As text, since kube-apiserver works on each field of a custom resource: with a hundred entries that are objects a
    // write takes it 18 ms of CPU, with a hundred texts 4. Atomic: else it also keeps who set each entry.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub entries: BTreeMap<String, String>,
}

/// An object that may come to take up more than `used` counts for it: what the texts of `entries` hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// `resource.group`.
    pub resource: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The ledger's `tickets` when this was admitted last. What is admitted once more is young again: it expires later.
    #[serde(default)]
    pub ticket: i64,
    /// The resourceVersion that the update was admitted upon; none for a creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// What `used` counts for the object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub floor: BTreeMap<String, String>,
    /// The most the object may take up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peak: BTreeMap<String, String>,
}
