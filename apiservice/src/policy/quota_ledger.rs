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
    /// UID of the TenantQuota that this ledger belongs to.
    pub quota_uid: String,
    /// Usage of the tenant's objects at `revisions`: a quantity for each limit.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub used: BTreeMap<String, String>,
    /// The resourceVersion that `used` is a snapshot at, by `resource.group`.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub revisions: BTreeMap<String, String>,
    /// Number of charged admissions, in versions without blocks.
    #[serde(default)]
    pub tickets: i64,
    /// Blocks by replica: how much each may admit without writing the ledger. Each is JSON text: `peak` is the size for
    /// each limit, `reserved` the admitted part that is not yet counted. `seal` names the object and generation that
    /// was written. An entry named by an object's UID is of a version without blocks.
    // As text, since kube-apiserver works on each field of a custom resource. Atomic: else it also keeps who set each entry.
    // The form is that of versions without blocks, to which a block is an entry like any other: both may run side by side,
    // and with either definition of this kind.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub entries: BTreeMap<String, String>,
}
