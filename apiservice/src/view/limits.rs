//! Parts that the views of TenantQuotas have in common.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Time;

/// Usage of a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct LimitUsage {
    /// The limit, as in `spec.hard`: `gameservers`, `requests.cpu`, `count/fleets.agones.dev` and so on.
    pub name: String,
    /// Value of the limit, a quantity.
    pub hard: String,
    /// Usage of existing objects, a quantity; absent while it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// Admitted and not yet counted in `used`, a quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<String>,
    /// By how much the limit is exceeded, a quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overcommit: Option<String>,
    /// `used` in percent of `hard`, rounded down; absent if it is unknown or the limit is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,
}

/// A request that was denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct Denial {
    /// Time of the denial.
    pub time: Time,
    /// Message of the denial.
    pub message: String,
}

impl AsRef<LimitUsage> for LimitUsage {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl LimitUsage {
    /// `78/80`; `?` for what is not known.
    pub fn of_hard(&self) -> String {
        format!("{}/{}", self.used.as_deref().unwrap_or("?"), self.hard)
    }

    /// The name of a limit on objects without their group.
    fn resource(&self) -> &str {
        let end = if self.name.starts_with("count/") { self.name.find('.') } else { None };
        &self.name[..end.unwrap_or(self.name.len())]
    }
}

/// `gameservers 78/80 (97%)`.
pub(super) fn tightest_cell<L: AsRef<LimitUsage>>(limits: &[L], tightest: Option<&str>) -> String {
    let found = limits.iter().map(AsRef::as_ref).find(|limit| Some(&*limit.name) == tightest);
    let Some(limit) = found else { return String::new() };
    let percent = limit.percent.map(|percent| format!(" ({percent}%)"));
    format!("{} {}{}", short(limits, limit), limit.of_hard(), percent.unwrap_or_default())
}

/// `name value` of the limits that have one.
pub(super) fn each<L: AsRef<LimitUsage>>(limits: &[L], value: impl Fn(&L) -> Option<String>) -> String {
    let named = limits
        .iter()
        .filter_map(|limit| Some(format!("{} {}", short(limits, limit.as_ref()), value(limit)?)));
    named.collect::<Vec<_>>().join(", ")
}

/// `count/fleets` for `count/fleets.agones.dev`, unless another group's fleets are limited too: a column has to fit
/// beside the others.
fn short<'a, L: AsRef<LimitUsage>>(limits: &[L], limit: &'a LimitUsage) -> &'a str {
    let resource = limit.resource();
    let named_alike = limits.iter().filter(|other| other.as_ref().resource() == resource).count();
    if named_alike == 1 { resource } else { &limit.name }
}
