//! `tenantusages`: a row for each TenantQuota.

use gatehouse_apiservice::{
    Time,
    denial::{Denier, DenierKind},
    view::{Denial, TenantUsageStatus},
};
use gatehouse_inventory::{Cluster, Delta, Inventory, LOCAL, Record, catalogue::Kind};

use super::{
    Projected, Projection, common,
    last_statuses::LastStatuses,
    limits::{Measured, enforcement, ready, within_limits},
};
use crate::watchcache::RowKey;

#[derive(Debug, Default)]
pub(super) struct TenantUsages {
    last: LastStatuses<TenantUsageStatus>,
}

impl Projection for TenantUsages {
    type Status = TenantUsageStatus;

    fn needs(kind: &Kind) -> bool {
        kind.is_tenant_quota()
    }

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<TenantUsageStatus>> + 'a {
        // Only the local cluster's quotas have rows, because they are the ones enforced here.
        let is_quota = |kind| inventory.catalogue().kind(kind).is_tenant_quota();
        let quotas = delta.objects.iter().filter(move |(id, key)| *id == LOCAL && is_quota(key.kind));
        quotas.map(move |(id, key)| {
            let cluster = inventory.cluster(*id);
            let row = RowKey { namespace: "".into(), name: key.name.clone() };
            let Some(record) = cluster.record(key) else {
                self.last.forget(&row);
                return Projected::Deleted(row);
            };
            let status = self.last.carry_over_times(&row, usage(cluster, record));
            Projected::Row {
                cluster: cluster.name.clone(),
                key: row,
                created: Time(record.created),
                tenant: record.tenant_quota().and_then(|quota| quota.tenant.clone()),
                status: Box::new(status),
            }
        })
    }
}

fn usage(cluster: &Cluster, record: &Record) -> TenantUsageStatus {
    let quota = record.tenant_quota();
    let mut limits: Vec<_> = quota.iter().flat_map(|quota| quota.limits.iter()).map(Measured::of).collect();
    limits.sort_by(Measured::tighter);
    let tightest = limits.first().filter(|limit| limit.fill.is_some());
    let held_back_by = Denier { kind: DenierKind::TenantQuota, name: record.key.name.clone() };
    let denial = quota.and_then(|quota| quota.last_denial.as_ref());
    TenantUsageStatus {
        cluster: cluster.name.to_string(),
        tightest: tightest.map(|limit| limit.limit.name.to_string()),
        enforcement: enforcement(quota).into(),
        namespaces: quota.and_then(|quota| quota.namespaces),
        denied: quota.map_or(0, |quota| quota.denied),
        held_back: cluster.held_back(&held_back_by).into(),
        last_denial: denial.map(|(time, message)| Denial { time: Time(*time), message: message.to_string() }),
        last_observed_time: Time(cluster.last_event()),
        conditions: vec![
            ready(record),
            within_limits(cluster, record, &limits),
            common::fresh(cluster, [record.key.kind]),
        ],
        limits: limits.iter().map(Measured::to_usage).collect(),
    }
}
