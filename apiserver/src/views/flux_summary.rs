//! `fluxsummaries`: a row for each namespace that holds Flux objects.

use gatehouse_apiservice::{Time, view::FluxSummaryStatus};
use gatehouse_inventory::{Cluster, Delta, Inventory, State, Str, Tally, catalogue::Kind};

use super::{Projected, Projection, causes, common, last_statuses::LastStatuses, namespaces};

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
        let has_row = |(id, name): &(_, Str)| inventory.cluster(*id).namespace(name).is_some();
        let others =
            delta.problems.iter().filter(move |place| !delta.namespaces.contains(*place) && has_row(place));
        delta.namespaces.iter().chain(others).map(move |(id, name)| {
            let cluster = inventory.cluster(*id);
            let status = cluster.namespace(name).map(|tally| summary(inventory, cluster, name, tally));
            namespaces::row(inventory, cluster, name, status, &mut self.last)
        })
    }
}

fn summary(inventory: &Inventory, cluster: &Cluster, name: &Str, tally: &Tally) -> FluxSummaryStatus {
    let (objects, conditions) = namespaces::objects_status(inventory, cluster, tally, Kind::is_flux);
    FluxSummaryStatus {
        cluster: cluster.name.to_string(),
        state: tally.worst().unwrap_or(State::Ready).as_str().into(),
        counts: common::state_counts(&tally.counts()),
        objects,
        problems: causes::in_short(inventory.catalogue(), cluster, cluster.problems_in(name)),
        last_observed_time: Time(cluster.last_event()),
        conditions: conditions.into(),
    }
}
