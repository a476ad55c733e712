//! `tenantusages`: a row for each TenantQuota.

use std::cmp::{Ordering, Reverse};

use gatehouse_apiservice::{
    Condition, ConditionStatus, Time,
    denial::{Denier, DenierKind},
    policy::Enforcement,
    quantity::Quantity,
    view::{Denial, LimitUsage, TenantUsageStatus},
};
use gatehouse_inventory::{
    Cluster, ClusterId, Delta, Inventory, Limit, Record, State, TenantQuotaDetail, catalogue::Kind,
};

use super::{Projected, Projection, common, last_statuses::LastStatuses};
use crate::watchcache::RowKey;

/// The cluster that serves this API. Only its quotas have rows, because they are the ones enforced here;
/// another cluster serves its own, under names of its own.
const LOCAL: ClusterId = ClusterId(0);

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

fn enforcement(quota: Option<&TenantQuotaDetail>) -> &'static str {
    match quota.map(|quota| quota.enforcement) {
        Some(Enforcement::Deny) => "Deny",
        Some(Enforcement::Warn) => "Warn",
        Some(Enforcement::Audit) => "Audit",
        None => "Unknown",
    }
}

/// The condition `Ready`: whether the quota is enforced, as its own condition says.
fn ready(record: &Record) -> Condition {
    let verdict = &record.verdict;
    let status = match verdict.state {
        State::Ready => ConditionStatus::True,
        state if state.is_failure() => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    };
    // A condition needs a reason. An object without a status has none, so its state is used.
    let reason = if verdict.reason.is_empty() { verdict.state.as_str() } else { &verdict.reason };
    Condition {
        kind: "Ready",
        status,
        last_transition_time: Time(verdict.since.unwrap_or(record.created)),
        reason: reason.to_owned().into(),
        message: verdict.message.to_string(),
    }
}

/// The condition `WithinLimits`: False if any limit is exceeded, even if others are unknown.
fn within_limits(cluster: &Cluster, record: &Record, limits: &[Measured<'_>]) -> Condition {
    let name = |limit: &Measured<'_>| format!("{} {}", limit.limit.name, limit.to_usage().of_hard());
    let exceeded: Vec<_> = limits.iter().filter(|limit| limit.is_exceeded()).map(name).collect();
    let unknown: Vec<_> = limits.iter().filter(|limit| limit.fill.is_none()).map(name).collect();
    let (status, reason, message) = if !exceeded.is_empty() {
        (ConditionStatus::False, "Overcommitted", exceeded.join(", "))
    } else if !unknown.is_empty() || record.tenant_quota().is_none() {
        (ConditionStatus::Unknown, "UsageUnknown", unknown.join(", "))
    } else {
        (ConditionStatus::True, "WithinLimits", String::new())
    };
    Condition {
        kind: "WithinLimits",
        status,
        last_transition_time: Time(cluster.last_event()),
        reason: reason.into(),
        message,
    }
}

/// A limit and how full it is.
struct Measured<'a> {
    limit: &'a Limit,
    /// `None` if a quantity is unknown or cannot be parsed.
    fill: Option<Fill>,
}

impl<'a> Measured<'a> {
    fn of(limit: &'a Limit) -> Self {
        let parse = |text: &str| text.parse::<Quantity>().ok();
        let quantities = limit.used.as_deref().and_then(parse).zip(parse(&limit.hard));
        Self { limit, fill: quantities.map(|(used, hard)| Fill { used: used.milli(), hard: hard.milli() }) }
    }

    /// Orders the tightest limit first, unknown ones last, and equal ones by name.
    fn tighter(&self, other: &Self) -> Ordering {
        let by_fill = Reverse(&self.fill).cmp(&Reverse(&other.fill));
        by_fill.then_with(|| self.limit.name.cmp(&other.limit.name))
    }

    fn is_exceeded(&self) -> bool {
        self.fill.as_ref().is_some_and(Fill::is_exceeded)
    }

    fn to_usage(&self) -> LimitUsage {
        let Limit { name, hard, used, reserved, overcommit } = self.limit;
        let text = |text: &Option<gatehouse_inventory::Str>| text.as_deref().map(Into::into);
        LimitUsage {
            name: name.to_string(),
            hard: hard.to_string(),
            used: text(used),
            reserved: text(reserved),
            overcommit: text(overcommit),
            percent: self.fill.as_ref().and_then(Fill::percent),
        }
    }
}

/// `used` of `hard`, both in thousandths, ordered by their exact ratio. A limit of zero is full if nothing is
/// used, and fuller than any other limit if anything is.
#[derive(Debug, Clone, Copy)]
struct Fill {
    used: i128,
    hard: i128,
}

impl Fill {
    fn is_exceeded(&self) -> bool {
        self.used > self.hard
    }

    /// The percentage, rounded down so that only a full limit shows 100. `None` for a limit of zero.
    fn percent(&self) -> Option<i64> {
        let (used, hard) = (self.used.max(0), self.hard);
        if hard <= 0 {
            return None;
        }
        let (whole, rest) = (used / hard, used % hard);
        // If the product overflows, the numbers are so large that dividing first does not change the
        // percentage.
        let part = rest.checked_mul(100).map_or_else(|| rest / (hard / 100), |rest| rest / hard);
        Some(i64::try_from(whole.saturating_mul(100).saturating_add(part)).unwrap_or(i64::MAX))
    }
}

impl Ord for Fill {
    fn cmp(&self, other: &Self) -> Ordering {
        let ratio = |fill: &Self| match (fill.used.max(0), fill.hard) {
            (used, hard @ 1..) => (used, hard),
            (0, _) => (1, 1),
            (used, _) => (used, 0),
        };
        compare_ratios(ratio(self), ratio(other))
    }
}

impl PartialOrd for Fill {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Fill {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Fill {}

/// Compares a/b with c/d, none of them negative. It compares the whole parts and then the inverted
/// remainders, as in Euclid's algorithm, because products may overflow. A denominator of zero is greater than
/// any ratio.
fn compare_ratios((a, b): (i128, i128), (c, d): (i128, i128)) -> Ordering {
    match (b, d) {
        (0, 0) => Ordering::Equal,
        (0, _) => Ordering::Greater,
        (_, 0) => Ordering::Less,
        _ => (a / b).cmp(&(c / d)).then_with(|| compare_ratios((d, c % d), (b, a % b))),
    }
}
