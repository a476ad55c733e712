//! The group `view.gatehouse.dev`: read models, computed, never stored. One file each.

mod applied_tenant_quota;
mod argo_application;
mod argo_summary;
mod cluster_health;
mod common;
mod flux_dependency;
mod flux_history;
mod flux_resource;
mod flux_resource_tree;
mod flux_summary;
mod game_fleet;
mod game_instance;
mod game_server_summary;
mod limits;
mod my_namespace;
mod problem;
mod quota_fit;
mod tenant_usage;

pub use applied_tenant_quota::{AppliedLimit, AppliedTenantQuotaStatus};
pub use argo_application::{ArgoApplicationStatus, ArgoCause, ArgoCondition, ArgoDestination, ArgoOperation};
pub use argo_summary::{ArgoSummaryStatus, HealthCounts, SyncCounts};
pub use cluster_health::{ClusterHealthStatus, Health, KindHealth, LayerHealth};
pub use common::{
    BlockedBy, BlockedReason, Failure, KindCount, ObjectReference, ObjectsStatus, StateCounts, Unreadable,
};
pub use flux_dependency::{Dependency, FluxDependencyStatus};
pub use flux_history::FluxHistoryStatus;
pub use flux_resource::{FluxResourceStatus, ReconcileToken, STATES};
pub use flux_resource_tree::{FluxResourceTreeStatus, TreeNode};
pub use flux_summary::FluxSummaryStatus;
pub use game_fleet::{FleetNumbers, GameFleetStatus};
pub use game_instance::{GameInstanceStatus, GamePort};
pub use game_server_summary::{EngineNumbers, GameServerNumbers, GameServerSummaryStatus};
pub use limits::{Denial, LimitUsage};
pub use my_namespace::{MyGames, MyNamespaceStatus, MyQuota};
pub use problem::{ProblemCause, ProblemStatus, ProblemsStatus};
pub use quota_fit::{FitLimit, QuotaFitStatus};
pub use tenant_usage::TenantUsageStatus;

use crate::{Resource, View};

/// The API group.
pub const GROUP: &str = "view.gatehouse.dev";
/// The one version.
pub const VERSION: &str = "v1alpha1";
/// The category, so that `kubectl get gatehouse` lists them all.
pub const CATEGORY: &str = "gatehouse";
/// `group/version`, as in `apiVersion`.
pub const API_VERSION: &str = "view.gatehouse.dev/v1alpha1";
/// The label of a namespace that names its tenant, copied to its rows.
pub const TENANT_LABEL: &str = "gatehouse.dev/tenant";
/// The label with the name of the observed cluster.
pub const CLUSTER_LABEL: &str = "gatehouse.dev/cluster";

/// Every resource served, in the order of discovery.
pub static RESOURCES: [&Resource; 14] = [
    &<AppliedTenantQuotaStatus as View>::RESOURCE,
    &<ArgoApplicationStatus as View>::RESOURCE,
    &<ArgoSummaryStatus as View>::RESOURCE,
    &<ClusterHealthStatus as View>::RESOURCE,
    &<FluxDependencyStatus as View>::RESOURCE,
    &<FluxHistoryStatus as View>::RESOURCE,
    &<FluxResourceStatus as View>::RESOURCE,
    &<FluxSummaryStatus as View>::RESOURCE,
    &<GameFleetStatus as View>::RESOURCE,
    &<GameInstanceStatus as View>::RESOURCE,
    &<GameServerSummaryStatus as View>::RESOURCE,
    &<MyNamespaceStatus as View>::RESOURCE,
    &<ProblemStatus as View>::RESOURCE,
    &<TenantUsageStatus as View>::RESOURCE,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::ColumnType;

    #[test]
    fn names_are_unique_over_the_group() {
        let mut seen = HashSet::new();
        for resource in RESOURCES {
            let names = [resource.plural, resource.singular];
            for name in names.iter().chain(resource.short_names) {
                assert!(seen.insert(*name), "{name} is used twice");
            }
        }
    }

    #[test]
    fn every_table_starts_with_the_name() {
        for resource in RESOURCES {
            assert_eq!(resource.columns[0].kind, ColumnType::Name, "{}", resource.plural);
        }
    }
}
