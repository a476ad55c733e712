//! Whether Agones may make another game server while others are being deleted.
//!
//! Agones replaces a server as soon as it is deleted, while its pod still runs. What it makes for a Fleet or a set is charged
//! there, so that a tenant who deletes servers again and again would have as many run as fit into their grace periods.

use std::collections::BTreeMap;

use crate::{Amounts, Dimension, Exceeded, Quantity, Weight};

/// What `new` exceeds: with it there would be more than the limits allow, and more than is asked for too. A rollout's
/// surge is asked for by its sets. `used` is what is counted of a tenant, and `standing` what Agones' objects have of it;
/// a server that was admitted and is not observed yet is part of `admitted`.
pub fn exceeded_by_replacement(
    hard: &BTreeMap<Dimension, Quantity>,
    used: &Amounts,
    standing: &Weight,
    admitted: &Amounts,
    new: &Amounts,
) -> Option<Exceeded> {
    let beside = used.saturating_sub(&standing.counted());
    let exists = beside.saturating_add(&standing.exists()).saturating_add(admitted);
    let asked = beside.saturating_add(&standing.asked);
    let with_new = exists.saturating_add(new);
    let mut exceeded = Exceeded::default();
    for (dimension, requested) in new {
        let Some(limit) = hard.get(dimension) else { continue };
        if with_new.get(dimension) > asked.get(dimension).max(*limit) {
            exceeded.insert(dimension, *requested, exists.get(dimension), *limit);
        }
    }
    (!exceeded.limited.is_empty()).then_some(exceeded)
}
