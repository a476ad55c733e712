//! `appliedtenantquotas`: in each namespace, a row for each TenantQuota over it.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_apiservice::{
    Time,
    quantity::Quantity,
    view::{AppliedLimit, AppliedTenantQuotaStatus, Denial, LimitUsage},
};
use gatehouse_inventory::{
    Cluster, Delta, Inventory, LOCAL, NamespaceShare, ObjectKey, Record, Str, catalogue::Kind,
};

use super::{
    Projected, Projection, common,
    last_statuses::LastStatuses,
    limits::{Measured, enforcement, ready, within_limits},
};
use crate::watchcache::RowKey;

/// The status of each quota lists the namespaces that it applies to. So a namespace whose labels changed gets its row
/// when the quota was counted again.
#[derive(Debug, Default)]
pub(super) struct AppliedTenantQuotas {
    last: LastStatuses<AppliedTenantQuotaStatus>,
    /// The quotas with a row in each namespace, and the other way round.
    quotas: BTreeMap<Str, BTreeSet<ObjectKey>>,
    namespaces: BTreeMap<ObjectKey, BTreeSet<Str>>,
}

impl Projection for AppliedTenantQuotas {
    type Status = AppliedTenantQuotaStatus;

    fn needs(kind: &Kind) -> bool {
        kind.is_tenant_quota() || kind.is_namespace()
    }

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<AppliedTenantQuotaStatus>> + 'a {
        let cluster = inventory.cluster(LOCAL);
        let mut rows: BTreeSet<(Str, ObjectKey)> = BTreeSet::new();
        for (_, key) in delta.objects.iter().filter(|(id, _)| *id == LOCAL) {
            let kind = inventory.catalogue().kind(key.kind);
            if kind.is_tenant_quota() {
                let shares = shares(cluster.record(key)).iter().map(|share| &share.namespace);
                let known = self.namespaces.get(key).into_iter().flatten();
                rows.extend(shares.chain(known).map(|namespace| (namespace.clone(), key.clone())));
            } else if kind.is_namespace() {
                let quotas = self.quotas.get(&key.name).into_iter().flatten();
                rows.extend(quotas.map(|quota| (key.name.clone(), quota.clone())));
            }
        }
        rows.into_iter().map(move |(namespace, quota)| self.row(inventory, cluster, &namespace, &quota))
    }
}

impl AppliedTenantQuotas {
    fn row(
        &mut self,
        inventory: &Inventory,
        cluster: &Cluster,
        namespace: &Str,
        quota: &ObjectKey,
    ) -> Projected<AppliedTenantQuotaStatus> {
        let key = RowKey { namespace: namespace.clone(), name: quota.name.clone() };
        let record = cluster.record(quota);
        let share = shares(record).binary_search_by(|share| share.namespace.cmp(namespace));
        let (Some(record), Ok(share)) = (record, share) else {
            self.last.forget(&key);
            leave(&mut self.quotas, namespace, quota);
            leave(&mut self.namespaces, quota, namespace);
            return Projected::Deleted(key);
        };
        let status = applied(cluster, record, &shares(Some(record))[share]);
        let status = self.last.carry_over_times(&key, status);
        self.quotas.entry(namespace.clone()).or_default().insert(quota.clone());
        self.namespaces.entry(quota.clone()).or_default().insert(namespace.clone());
        Projected::Row {
            cluster: cluster.name.clone(),
            key,
            created: Time(record.created),
            tenant: common::tenant(inventory.namespace(cluster, namespace)),
            status: Box::new(status),
        }
    }
}

fn leave<K: Ord, V: Ord>(all: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = all.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            all.remove(key);
        }
    }
}

fn shares(quota: Option<&Record>) -> &[NamespaceShare] {
    quota.and_then(Record::tenant_quota).map_or(&[], |quota| &quota.by_namespace)
}

fn applied(cluster: &Cluster, record: &Record, share: &NamespaceShare) -> AppliedTenantQuotaStatus {
    let quota = record.tenant_quota();
    let of_limits = quota.iter().flat_map(|quota| quota.limits.iter()).zip(&share.used);
    let mut limits: Vec<_> = of_limits.map(|(limit, here)| (Measured::of(limit), here)).collect();
    limits.sort_by(|(one, _), (other, _)| one.tighter(other));
    let tightest = limits.first().filter(|(limit, _)| limit.fill.is_some());
    let tightest = tightest.map(|(limit, _)| limit.limit.name.to_string());
    let denial = |(time, message): &(i64, Str)| Denial { time: Time(*time), message: message.to_string() };
    let (measured, here): (Vec<_>, Vec<_>) = limits.into_iter().unzip();
    AppliedTenantQuotaStatus {
        cluster: cluster.name.to_string(),
        tightest,
        enforcement: enforcement(quota).into(),
        last_denials: share.last_denials.iter().map(denial).collect(),
        last_observed_time: Time(cluster.last_event()),
        conditions: vec![
            ready(record),
            within_limits(cluster, record, &measured),
            common::fresh(cluster, [record.key.kind]),
        ],
        limits: measured.iter().zip(here).map(|(limit, here)| applied_limit(limit, here.as_ref())).collect(),
    }
}

fn applied_limit(limit: &Measured<'_>, here: Option<&Str>) -> AppliedLimit {
    let tenant = limit.to_usage();
    // What is not used in a namespace is not reported.
    let used_here = here.map(ToString::to_string).or_else(|| tenant.used.is_some().then(|| "0".to_owned()));
    AppliedLimit { left: left(&tenant), used_here, tenant }
}

fn left(limit: &LimitUsage) -> Option<String> {
    let parse = |text: &str| text.parse::<Quantity>().ok();
    let mut left = parse(&limit.hard)?.checked_sub(parse(limit.used.as_deref()?)?)?;
    if let Some(reserved) = &limit.reserved {
        left = left.checked_sub(parse(reserved)?)?;
    }
    Some(left.max(Quantity::ZERO).to_string())
}
