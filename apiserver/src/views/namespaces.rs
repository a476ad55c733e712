//! Shared by the views with a row per namespace: the row, and the part of the status that is computed from a
//! tally.

use gatehouse_apiservice::{
    Condition, ConditionStatus, Time,
    view::{ObjectsStatus, Unreadable},
};
use gatehouse_inventory::{Cluster, Inventory, State, Str, Tally, catalogue::Kind};

use super::{
    Projected, common,
    last_statuses::{LastStatuses, TimedStatus},
};
use crate::watchcache::RowKey;

/// The most failures that a row names.
const MAX_FAILURES: usize = 5;

/// The row of a namespace, which has the name of its cluster. It is deleted if `status` is `None`.
pub(super) fn row<S: TimedStatus>(
    inventory: &Inventory,
    cluster: &Cluster,
    name: &Str,
    status: Option<S>,
    last: &mut LastStatuses<S>,
) -> Projected<S> {
    let key = RowKey { namespace: name.clone(), name: cluster.name.clone() };
    let Some(status) = status else {
        last.forget(&key);
        return Projected::Deleted(key);
    };
    let status = last.carry_over_times(&key, status);
    let namespace = inventory.namespace(cluster, name);
    Projected::Row {
        cluster: cluster.name.clone(),
        key,
        created: Time(namespace.map_or(0, |namespace| namespace.created)),
        tenant: common::tenant(namespace),
        status: Box::new(status),
    }
}

/// The status of the objects in `tally`, which holds all objects of the kinds for which `is_counted` is true, and the
/// conditions `Ready` and `Fresh`.
pub(super) fn objects_status(
    inventory: &Inventory,
    cluster: &Cluster,
    tally: &Tally,
    is_counted: impl Fn(&Kind) -> bool,
) -> (ObjectsStatus, [Condition; 2]) {
    let catalogue = inventory.catalogue();
    let (failures, failures_omitted) =
        common::worst_failures(catalogue, cluster, tally.failures(), MAX_FAILURES);
    let unreadable = unreadable(inventory, cluster, is_counted);
    let oldest = tally.oldest_failure().and_then(|key| cluster.record(key));
    let since =
        oldest.and_then(|record| record.verdict.outcome_since()).unwrap_or_else(|| cluster.last_event());
    let ready = ready(tally, unreadable.is_empty(), Time(since));
    let objects = ObjectsStatus {
        kinds: tally.kinds().map(|(id, counts)| common::kind_count(catalogue.kind(id), counts)).collect(),
        oldest_failure: oldest.map(|record| common::failure(catalogue, cluster, record)),
        failures,
        failures_omitted,
        unreadable,
    };
    (objects, [ready, common::fresh(cluster, tally.kinds().map(|(kind, _)| kind))])
}

/// The kinds for which `is_counted` is true and whose objects are unknown: forbidden, or never listed.
fn unreadable(
    inventory: &Inventory,
    cluster: &Cluster,
    is_counted: impl Fn(&Kind) -> bool,
) -> Vec<Unreadable> {
    let counted = inventory.catalogue().kinds().filter(|(_, kind)| is_counted(kind));
    counted
        .filter_map(|(id, kind)| {
            let (reason, message) = common::unknown_reason(cluster, id)?;
            Some(Unreadable {
                kind: kind.kind.clone(),
                group: kind.group.clone(),
                reason: reason.into(),
                message: message.into(),
            })
        })
        .collect()
}

/// The condition `Ready`: False if an object has failed or is stalled or blocked; Unknown if objects could
/// not be judged or kinds could not be read.
fn ready(tally: &Tally, all_readable: bool, since: Time) -> Condition {
    let failing = tally.failures().len();
    let unknown = tally.counts().of(State::Unknown);
    let (status, reason, message) = if failing > 0 {
        (ConditionStatus::False, "Failures", format!("{failing} of {} failing", tally.counts().total()))
    } else if unknown > 0 {
        (ConditionStatus::Unknown, "ObjectsUnknown", format!("{unknown} could not be judged"))
    } else if !all_readable {
        (ConditionStatus::Unknown, "KindsUnreadable", "some kinds cannot be seen".into())
    } else {
        (ConditionStatus::True, "NoFailures", String::new())
    };
    Condition { kind: "Ready".into(), status, last_transition_time: since, reason: reason.into(), message }
}
