//! `quotaledgers`: what has been counted of a TenantQuota, and what its replicas may admit beyond. Internal.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The ledger of the TenantQuota of the same name. Written by Gatehouse alone: one compare-and-swap of this object is
/// what keeps several replicas from promising the same thing twice. Whoever else writes it has everything counted anew,
/// which takes a minute and a half.
///
/// Usage is at most `used` plus the blocks in `entries`.
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
    /// Of versions that know no blocks: how many admissions were charged.
    #[serde(default)]
    pub tickets: i64,
    /// By name, the block of each replica: so much as it may admit without writing. Each is a text of JSON: `peak` says how
    /// much of each limit, `reserved` what was admitted of it and is not counted yet. `seal` says which object, and which
    /// generation of it, this was written to. An entry by the uid of an object is of a version that knows no blocks.
    // As text, since kube-apiserver works on each field of a custom resource. Atomic: else it also keeps who set each entry.
    // The form is that of versions without blocks, to which a block is an entry like any other: both may run side by side,
    // and with either definition of this kind.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub entries: BTreeMap<String, String>,
}
