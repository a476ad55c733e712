//! `fluxdependencies`: a row for each Flux object that depends on another or is depended on.

use gatehouse_apiservice::{
    Condition, ConditionStatus, Time,
    view::{self, FluxDependencyStatus},
};
use gatehouse_inventory::{Cluster, Delta, Dependency, Inventory, Record, State, catalogue::Catalogue};

use super::{Projected, Projection, common, objects};

#[derive(Debug, Default)]
pub(super) struct FluxDependencies;

impl Projection for FluxDependencies {
    type Status = FluxDependencyStatus;

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<FluxDependencyStatus>> + 'a {
        objects::project(inventory, delta, objects::flux, |catalogue, cluster, record| {
            let depends = record.flux().is_some_and(|flux| !flux.depends_on.is_empty());
            let part_of_graph = depends || cluster.dependents(&record.key) > 0;
            part_of_graph.then(|| status(catalogue, cluster, record))
        })
    }
}

/// The most dependencies that a row names. The row is rendered again for each of them that changes.
const SHOWN: usize = 64;

fn status(catalogue: &Catalogue, cluster: &Cluster, record: &Record) -> FluxDependencyStatus {
    let key = &record.key;
    let place = cluster.place(key);
    let named = record.flux().map(|flux| &*flux.depends_on).unwrap_or_default();
    let states: Vec<_> = named.iter().map(|reference| cluster.dependency(reference)).collect();
    let omitted = record.flux().map_or(0, |flux| u32::from(flux.depends_on_omitted));
    let not_shown = u32::try_from(named.len().saturating_sub(SHOWN)).unwrap_or(u32::MAX);
    let (cycle_path, cycle_omitted) = common::cycle(catalogue, cluster, key);
    let depends_on = named.iter().zip(&states).take(SHOWN).map(|(reference, state)| view::Dependency {
        object: common::any_reference(catalogue, reference),
        state: match state {
            Dependency::Is(record) => record.verdict.state.as_str().into(),
            Dependency::Missing => "Missing".into(),
            Dependency::Unseen => "Unknown".into(),
        },
    });
    FluxDependencyStatus {
        cluster: cluster.name.to_string(),
        kind: catalogue.kind(key.kind).kind.clone(),
        name: key.name.to_string(),
        state: record.verdict.state.as_str().into(),
        depends_on: depends_on.collect(),
        depends_on_omitted: not_shown + omitted,
        dependents: u32::try_from(cluster.dependents(key)).unwrap_or(u32::MAX),
        depth: place.depth,
        cycle: place.is_in_cycle(),
        cycle_path,
        cycle_omitted,
        blocked_by: common::blocked_by(catalogue, cluster, record),
        conditions: vec![ready(record, &states), common::fresh(cluster, [key.kind])],
    }
}

/// The condition `Ready`: whether every dependency is ready.
fn ready(record: &Record, dependencies: &[Dependency<'_>]) -> Condition {
    let unknown = |dependency: &Dependency<'_>| match dependency {
        Dependency::Is(record) => record.verdict.state == State::Unknown,
        Dependency::Missing => false,
        Dependency::Unseen => true,
    };
    let is_ready = |dependency: &Dependency<'_>| matches!(dependency, Dependency::Is(record) if record.satisfies_dependents());
    let mut not_ready = dependencies.iter().filter(|dependency| !is_ready(dependency)).peekable();
    let (status, reason) = if not_ready.peek().is_none() {
        (ConditionStatus::True, "DependenciesReady")
    } else if not_ready.all(unknown) {
        (ConditionStatus::Unknown, "DependencyUnknown")
    } else {
        (ConditionStatus::False, "DependencyNotReady")
    };
    Condition {
        kind: "Ready".into(),
        status,
        last_transition_time: Time(record.verdict.since.unwrap_or(record.created)),
        reason: reason.into(),
        message: String::new(),
    }
}
