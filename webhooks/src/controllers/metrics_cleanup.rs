//! Removes the metrics of deleted policies and quotas. This runs on each replica, since each answers reviews and
//! counts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_inventory::Str;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::world::{Snapshot, World};

/// The interval of checks. The world changes all the time, but policies and quotas are rarely deleted.
const INTERVAL: Duration = Duration::from_mins(1);

/// The policies and quotas at the last check.
#[derive(Default)]
struct Names {
    policies: BTreeSet<Str>,
    quotas: BTreeSet<Str>,
}

/// Checks periodically, until `stop` is cancelled.
pub(super) async fn forget(world: World, metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut names = Names::default();
    let updating = async {
        loop {
            names.update(&world.snapshot(), &metrics);
            tokio::time::sleep(INTERVAL).await;
        }
    };
    stop.run_until_cancelled(updating).await;
}

impl Names {
    fn update(&mut self, snapshot: &Snapshot, metrics: &Metrics) {
        let now = Self {
            policies: snapshot.reconcile_policies.keys().cloned().collect(),
            quotas: snapshot.tenant_quotas.keys().cloned().collect(),
        };
        self.policies.difference(&now.policies).for_each(|policy| metrics.forget_policy(policy));
        self.quotas.difference(&now.quotas).for_each(|quota| metrics.forget_quota(quota));
        *self = now;
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_quota::GroupResource;
    use prometheus::Registry;
    use serde_json::json;

    use super::*;
    use crate::metrics::DryRun;
    use crate::world::testing::Builder;

    #[test]
    fn counts_go_with_what_they_were_of() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        let (mut world, mut names) = (Builder::new(), Names::default());
        let quotas = GroupResource::new("policy.gatehouse.dev", "tenantquotas");
        let object = json!({
            "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota",
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "1"},
            "spec": {"namespaceSelector": {}, "hard": {"players": "1"}},
        });
        names.update(&world.apply(&quotas, &object).snapshot(), &metrics);
        for quota in ["a", "b"] {
            metrics.count_quota_decision(quota, DryRun(false), "admitted");
        }
        names.update(&world.delete(&quotas, "", "a").snapshot(), &metrics);
        let left: Vec<_> = registry
            .gather()
            .iter()
            .flat_map(|family| family.get_metric().to_vec())
            .flat_map(|metric| metric.get_label().to_vec())
            .filter(|label| label.name() == "quota")
            .map(|label| label.value().to_owned())
            .collect();
        assert_eq!(left, ["b"]);
    }
}
