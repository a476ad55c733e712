//! `appliedtenantquotas/NAME/fit` and `tenantusages/NAME/fit`: whether objects would fit into a quota.

use schemars::JsonSchema;
use serde::Serialize;

/// Whether objects fit into a quota, as it was when it was asked. Nothing is reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaFitStatus {
    /// Whether all objects fit together. False if that is unknown.
    pub fits: bool,
    /// What happens to a request that would exceed a limit: Deny, Warn or Audit.
    pub enforcement: String,
    /// Number of objects that were asked about.
    pub objects: usize,
    /// How many of them exist already, as far as the user and Gatehouse may read them. These are charged with what they
    /// would use beyond what they use; all others count as new.
    pub existing: usize,
    /// Every limit, in the order of the quota's row.
    pub limits: Vec<FitLimit>,
    /// What the objects, or the list of them, must specify and do not; the first ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub must_specify: Vec<String>,
}

/// What objects would use of a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FitLimit {
    /// Name of the limit, as in `spec.hard`.
    pub name: String,
    /// The limit, a quantity.
    pub hard: String,
    /// Usage of the tenant's existing objects, a quantity; absent while it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// Admitted and not counted in `used` yet, a quantity; absent if there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<String>,
    /// What the objects would use beyond what exists, a quantity.
    pub requested: String,
    /// The same once the autoscaler that adds most has scaled its fleet as far as it may, a quantity; absent if no
    /// autoscaler adds anything. As at admission, each autoscaler is judged by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<String>,
    /// Whether that is left; absent if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fits: Option<bool>,
}
