//! How full the limits of a TenantQuota are, for the views that show them.

use std::cmp::{Ordering, Reverse};

use gatehouse_apiservice::{
    Condition, ConditionStatus, Time, policy::Enforcement, quantity::Quantity, view::LimitUsage,
};
use gatehouse_inventory::{Cluster, Limit, Record, State, TenantQuotaDetail};

pub(super) fn enforcement(quota: Option<&TenantQuotaDetail>) -> &'static str {
    match quota.map(|quota| quota.enforcement) {
        Some(Enforcement::Deny) => "Deny",
        Some(Enforcement::Warn) => "Warn",
        Some(Enforcement::Audit) => "Audit",
        None => "Unknown",
    }
}

/// The condition `Ready`: whether the quota is enforced, as its own condition says.
pub(super) fn ready(record: &Record) -> Condition {
    let verdict = &record.verdict;
    let status = match verdict.state {
        State::Ready => ConditionStatus::True,
        state if state.is_failure() => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    };
    // A condition needs a reason. An object without a status has none, so its state is used.
    let reason = if verdict.reason.is_empty() { verdict.state.as_str() } else { &verdict.reason };
    Condition {
        kind: "Ready".into(),
        status,
        last_transition_time: Time(verdict.since.unwrap_or(record.created)),
        reason: reason.to_owned().into(),
        message: verdict.message.to_string(),
    }
}

/// The condition `WithinLimits`: False if any limit is exceeded, even if others are unknown.
pub(super) fn within_limits(cluster: &Cluster, record: &Record, limits: &[Measured<'_>]) -> Condition {
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
        kind: "WithinLimits".into(),
        status,
        last_transition_time: Time(cluster.last_event()),
        reason: reason.into(),
        message,
    }
}

/// A limit and how full it is.
pub(super) struct Measured<'a> {
    pub(super) limit: &'a Limit,
    /// `None` if a quantity is unknown or cannot be parsed.
    pub(super) fill: Option<Fill>,
}

impl<'a> Measured<'a> {
    pub(super) fn of(limit: &'a Limit) -> Self {
        let parse = |text: &str| text.parse::<Quantity>().ok();
        let quantities = limit.used.as_deref().and_then(parse).zip(parse(&limit.hard));
        Self { limit, fill: quantities.map(|(used, hard)| Fill { used: used.milli(), hard: hard.milli() }) }
    }

    /// Orders the tightest limit first, unknown ones last, and equal ones by name.
    pub(super) fn tighter(&self, other: &Self) -> Ordering {
        let by_fill = Reverse(&self.fill).cmp(&Reverse(&other.fill));
        by_fill.then_with(|| self.limit.name.cmp(&other.limit.name))
    }

    fn is_exceeded(&self) -> bool {
        self.fill.as_ref().is_some_and(Fill::is_exceeded)
    }

    pub(super) fn to_usage(&self) -> LimitUsage {
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
pub(super) struct Fill {
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
