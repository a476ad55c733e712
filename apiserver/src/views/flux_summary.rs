//! `fluxsummaries`: a row for each namespace that holds Flux objects.

use gatehouse_apiservice::{Condition, ConditionStatus, Time, view::FluxSummaryStatus};
use gatehouse_inventory::{Cluster, Delta, Inventory, State, Tally, catalogue::Catalogue};

use super::{Projected, Projection, common, memory::Memory};
use crate::watchcache::RowKey;

/// How many failures a row names.
const WORST: usize = 5;

#[derive(Debug, Default)]
pub(super) struct FluxSummaries {
    last: Memory<FluxSummaryStatus>,
}

impl Projection for FluxSummaries {
    type Status = FluxSummaryStatus;

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<FluxSummaryStatus>> + 'a {
        delta.namespaces.iter().map(move |(id, name)| {
            let cluster = inventory.cluster(*id);
            let key = RowKey { namespace: name.clone(), name: cluster.name.clone() };
            let Some(tally) = cluster.namespace(name) else {
                self.last.forget(&key);
                return Projected::Gone(key);
            };
            let status = self.last.date(&key, summary(inventory, cluster, tally));
            let namespace = inventory.namespace(cluster, name);
            Projected::Row {
                cluster: cluster.name.clone(),
                key,
                created: Time(namespace.map_or(0, |namespace| namespace.created)),
                tenant: common::tenant(namespace),
                status: Box::new(status),
            }
        })
    }
}

fn summary(inventory: &Inventory, cluster: &Cluster, tally: &Tally) -> FluxSummaryStatus {
    let catalogue: &Catalogue = inventory.catalogue();
    let counts = tally.counts();
    let (failures, failures_omitted) = common::worst(catalogue, cluster, tally.failures(), WORST);
    let unreadable = common::unreadable(inventory, cluster);
    let oldest = tally.oldest_failure().and_then(|key| cluster.record(key));
    let oldest_failure = oldest.map(|record| common::failure(catalogue, cluster, record));
    let since = oldest.and_then(|record| record.verdict.since).unwrap_or_else(|| cluster.last_event());
    let fresh = common::fresh(cluster, tally.kinds().map(|(kind, _)| kind));
    FluxSummaryStatus {
        cluster: cluster.name.to_string(),
        state: counts.worst().unwrap_or(State::Ready).as_str().into(),
        total: counts.total(),
        ready: counts.of(State::Ready),
        failed: counts.of(State::Failed) + counts.of(State::Failing),
        stalled: counts.of(State::Stalled),
        blocked: counts.of(State::Blocked),
        progressing: counts.of(State::Progressing),
        suspended: counts.of(State::Suspended),
        pending: counts.of(State::Pending),
        terminating: counts.of(State::Terminating),
        unknown: counts.of(State::Unknown),
        kinds: tally.kinds().map(|(id, counts)| common::kind_count(catalogue.kind(id), counts)).collect(),
        conditions: vec![ready(tally, unreadable.is_empty(), Time(since)), fresh],
        oldest_failure,
        failures,
        failures_omitted,
        unreadable,
        last_observed_time: Time(cluster.last_event()),
    }
}

/// Whether nothing is Failed, Stalled or Blocked; what cannot be seen or judged leaves it open.
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
    Condition { kind: "Ready", status, last_transition_time: since, reason: reason.into(), message }
}
