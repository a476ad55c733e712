//! `fluxresources`: a row for each Flux object.

use gatehouse_apiservice::{Condition, ConditionStatus, Time, view::FluxResourceStatus};
use gatehouse_inventory::{Cluster, Delta, Inventory, Record, State, catalogue::Catalogue};

use super::{Projected, Projection, common, objects};

#[derive(Debug, Default)]
pub(super) struct FluxResources;

impl Projection for FluxResources {
    type Status = FluxResourceStatus;

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<FluxResourceStatus>> + 'a {
        objects::project(inventory, delta, |catalogue, cluster, record| {
            Some(status(catalogue, cluster, record))
        })
    }
}

fn status(catalogue: &Catalogue, cluster: &Cluster, record: &Record) -> FluxResourceStatus {
    let kind = catalogue.kind(record.key.kind);
    let verdict = &record.verdict;
    let flux = record.flux();
    FluxResourceStatus {
        cluster: cluster.name.to_string(),
        group: kind.group.clone(),
        kind: kind.kind.clone(),
        name: record.key.name.to_string(),
        state: verdict.state.as_str().into(),
        last_outcome: verdict.last_outcome.map(|state| state.as_str().into()),
        suspended: flux.is_some_and(|flux| flux.suspended),
        suspended_by: flux.and_then(|flux| flux.suspended_by.as_deref()).map(Into::into),
        reason: verdict.reason.to_string(),
        message: verdict.message.to_string(),
        since: verdict.since.map(Time),
        revision: flux.and_then(|flux| flux.revision.as_deref()).map(Into::into),
        source: flux
            .and_then(|flux| flux.source.as_ref())
            .map(|source| common::any_reference(catalogue, source)),
        blocked_by: common::blocked_by(catalogue, cluster, record),
        denied_by: verdict.deniers().iter().map(common::denied_by).collect(),
        conditions: vec![ready(record), common::fresh(cluster, [record.key.kind])],
    }
}

/// The condition `Ready`. While a controller reconciles again, the outcome of its last attempt holds, so that
/// the condition does not flap.
fn ready(record: &Record) -> Condition {
    let verdict = &record.verdict;
    let outcome = match verdict.state {
        State::Progressing | State::Suspended => verdict.last_outcome.unwrap_or(verdict.state),
        state => state,
    };
    let status = match outcome {
        State::Ready => ConditionStatus::True,
        state if state.is_failure() => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    };
    Condition {
        kind: "Ready",
        status,
        last_transition_time: Time(verdict.outcome_since().unwrap_or(record.created)),
        reason: verdict.state.as_str().into(),
        message: String::new(),
    }
}
