//! The group `view.gatehouse.dev`: read models, computed, never stored. One file each.

mod cluster_health;
mod common;
mod flux_dependency;
mod flux_resource;
mod flux_summary;
mod game_server_summary;
mod tenant_usage;

pub use cluster_health::{ClusterHealthStatus, Health, KindHealth, LayerHealth};
pub use common::{BlockedBy, BlockedReason, Failure, KindCount, ObjectReference, Unreadable};
pub use flux_dependency::{Dependency, FluxDependencyStatus};
pub use flux_resource::FluxResourceStatus;
pub use flux_summary::FluxSummaryStatus;
pub use game_server_summary::{EngineNumbers, GameServerNumbers, GameServerSummaryStatus};
pub use tenant_usage::{Denial, LimitUsage, TenantUsageStatus};

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
pub static RESOURCES: [&Resource; 6] = [
    &<ClusterHealthStatus as View>::RESOURCE,
    &<FluxDependencyStatus as View>::RESOURCE,
    &<FluxResourceStatus as View>::RESOURCE,
    &<FluxSummaryStatus as View>::RESOURCE,
    &<GameServerSummaryStatus as View>::RESOURCE,
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
