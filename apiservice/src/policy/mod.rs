//! The group `policy.gatehouse.dev`: what people write to say what may be done. One file each.

mod field_error;
mod quota_ledger;
mod reconcile_policy;
mod rules;
mod tenant_quota;

pub use field_error::FieldError;
pub use quota_ledger::{QuotaLedger, QuotaLedgerSpec};
pub use reconcile_policy::{
    Defaults, Example, Exempt, ExemptObjects, GameServerResources, ParamRef, ReconcilePolicy,
    ReconcilePolicySpec, ReconcilePolicyStatus, RuleCount, RuleSettings, ServiceAccount, Variable,
};
pub use rules::{
    CelRule, CrossNamespaceRefs, DecryptionAccountRule, DependencyCycles, Freeze, Identity, IntervalRule,
    Latest, OwnNamespace, Proxies, Prune, RefForm, RefRule, ReplicasRule, Rules, ServiceAccountNameRule,
    SourcesRule, SuspensionRule, TargetNamespaces, TargetNamespacesRule, Verbs, VerifyRule,
};
pub use tenant_quota::{LastDenial, NamespaceUsage, TenantQuota, TenantQuotaSpec, TenantQuotaStatus};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group.
pub const GROUP: &str = "policy.gatehouse.dev";
/// The one version.
pub const VERSION: &str = "v1alpha1";

/// What happens to a request that breaks a rule or exceeds a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Enforcement {
    /// It is refused.
    #[default]
    Deny,
    /// It is admitted, with a warning to whoever made it.
    Warn,
    /// It is admitted; metrics, the audit log and Events tell of it.
    Audit,
}
