//! The usage and the limits of every quota, as metrics: what the TenantQuotas report when they are scraped.
//!
//! **Invariant:** nothing is kept between scrapes, so the series of a deleted quota end with it. Every replica reports
//! the same.

use gatehouse_apiservice::{policy::TenantQuota, quantity::Quantity};
use prometheus::{
    GaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::world::World;

const LABELS: [&str; 2] = ["quota", "limit"];

/// Collects the metrics from the observed quotas.
pub(crate) struct TenantMetrics {
    world: World,
    descriptions: Vec<Desc>,
}

impl TenantMetrics {
    pub(crate) fn new(world: World) -> Self {
        let gauges = [used(), hard()];
        let descriptions = gauges.iter().flat_map(Collector::desc).cloned().collect();
        Self { world, descriptions }
    }
}

impl Collector for TenantMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (used, hard) = (used(), hard());
        for (name, quota) in &self.world.snapshot().tenant_quotas {
            set(&used, &hard, name, quota);
        }
        [used, hard].iter().flat_map(Collector::collect).collect()
    }
}

fn set(used: &GaugeVec, hard: &GaugeVec, name: &str, quota: &TenantQuota) {
    for (limit, quantity) in &quota.spec.hard {
        let reported = quota.status.as_ref().and_then(|status| status.used.get(limit));
        for (gauge, quantity) in [(hard, Some(quantity)), (used, reported)] {
            if let Some(value) = quantity.and_then(|text| value(text)) {
                gauge.with_label_values(&[name, limit]).set(value);
            }
        }
    }
}

/// In the base unit: cores, bytes, pieces.
fn value(text: &str) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "exact enough for a graph")]
    text.parse::<Quantity>().ok().map(|quantity| quantity.milli() as f64 / 1000.0)
}

fn used() -> GaugeVec {
    gauges("gatehouse_tenant_used", "Usage of a tenant, by quota and limit, in the base unit of the limit.")
}

fn hard() -> GaugeVec {
    gauges("gatehouse_tenant_hard", "Limits of a tenant, by quota and limit, in the base unit of the limit.")
}

fn gauges(name: &str, help: &str) -> GaugeVec {
    GaugeVec::new(Opts::new(name, help), &LABELS).expect("names and labels are constants and valid")
}

#[cfg(test)]
mod tests {
    use gatehouse_quota::GroupResource;
    use prometheus::{Encoder, Registry, TextEncoder};
    use serde_json::json;

    use super::*;
    use crate::world::testing::Builder;

    #[test]
    fn quotas_are_reported_in_base_units_as_long_as_they_exist() {
        let quotas = GroupResource::new("policy.gatehouse.dev", "tenantquotas");
        let quota = |name: &str| {
            json!({
                "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota",
                "metadata": {"name": name, "uid": name, "resourceVersion": "1"},
                "spec": {"namespaceSelector": {}, "hard": {
                    "requests.cpu": "2", "requests.memory": "1Gi", "players": "10", "gameservers": "many"}},
                "status": {"used": {"requests.cpu": "1500m", "requests.memory": "512Mi", "pods": "3"}},
            })
        };
        let mut world = Builder::new();
        world.apply(&quotas, &quota("a"));
        world.apply(&quotas, &quota("b"));
        let world = World::of(world.delete(&quotas, "", "b").snapshot());
        let registry = Registry::new();
        registry.register(Box::new(TenantMetrics::new(world))).expect("registered");
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).expect("rendered");
        let text = String::from_utf8(text).expect("text");
        let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            r#"gatehouse_tenant_hard{limit="players",quota="a"} 10"#,
            r#"gatehouse_tenant_hard{limit="requests.cpu",quota="a"} 2"#,
            r#"gatehouse_tenant_hard{limit="requests.memory",quota="a"} 1073741824"#,
            r#"gatehouse_tenant_used{limit="requests.cpu",quota="a"} 1.5"#,
            r#"gatehouse_tenant_used{limit="requests.memory",quota="a"} 536870912"#,
        ];
        assert_eq!(series, expected, "what is no quantity or no limit is left out");
    }
}
