//! The state of a live cluster: its namespaces, policies, quotas, and the objects that these apply to.

use std::collections::BTreeMap;

use gatehouse_apiservice::policy::{ReconcilePolicy, TenantQuota};
use serde_json::Value;

use crate::rulesets::Labels;

/// The state of a live cluster.
#[derive(Debug, Default)]
pub struct Live {
    /// Whether a cluster was queried.
    pub asked: bool,
    /// Namespaces and their labels.
    pub namespaces: BTreeMap<String, Labels>,
    /// Annotations of namespaces.
    pub annotations: BTreeMap<String, Labels>,
    /// ConfigMaps that policies take parameters from, by namespace and name.
    pub config_maps: BTreeMap<(String, String), Value>,
    /// Policies.
    pub policies: Vec<ReconcilePolicy>,
    /// Quotas.
    pub quotas: Vec<TenantQuota>,
    /// The objects that policies and quotas apply to.
    pub objects: Vec<LiveObject>,
    /// The plural names of kinds, by group and kind.
    pub resources: BTreeMap<(String, String), String>,
}

/// An object of a live cluster.
#[derive(Debug, Clone)]
pub struct LiveObject {
    /// Its API group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty if it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The complete object.
    pub value: Value,
}
