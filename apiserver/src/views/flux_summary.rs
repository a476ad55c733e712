//! `fluxsummaries`: a row for each namespace that holds Flux objects.

use gatehouse_apiservice::{Time, view::FluxSummaryStatus};
use gatehouse_inventory::{Cluster, Delta, Inventory, State, Tally, catalogue::Kind};

use super::{Projected, Projection, last_statuses::LastStatuses, namespaces, namespaces::ObjectsStatus};

#[derive(Debug, Default)]
pub(super) struct FluxSummaries {
    last: LastStatuses<FluxSummaryStatus>,
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
            let status = cluster.namespace(name).map(|tally| summary(inventory, cluster, tally));
            namespaces::row(inventory, cluster, name, status, &mut self.last)
        })
    }
}

fn summary(inventory: &Inventory, cluster: &Cluster, tally: &Tally) -> FluxSummaryStatus {
    let counts = tally.counts();
    let objects = ObjectsStatus::of(inventory, cluster, tally, Kind::is_flux);
    FluxSummaryStatus {
        cluster: cluster.name.to_string(),
        state: tally.worst().unwrap_or(State::Ready).as_str().into(),
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
        kinds: objects.kinds,
        oldest_failure: objects.oldest_failure,
        failures: objects.failures,
        failures_omitted: objects.failures_omitted,
        unreadable: objects.unreadable,
        last_observed_time: Time(cluster.last_event()),
        conditions: vec![objects.ready, objects.fresh],
    }
}
