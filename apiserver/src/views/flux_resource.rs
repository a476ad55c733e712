//! `fluxresources`: a row for each Flux object.

use gatehouse_apiservice::{
    Time,
    view::{FluxResourceStatus, ObjectReference, ReconcileToken},
};
use gatehouse_inventory::{
    Cluster, Delta, FluxDetail, FluxRequest, HistoryEntry, Inventory, Record, Str, catalogue::Catalogue,
};

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
        objects::project(inventory, delta, objects::flux, |catalogue, cluster, record| {
            Some(status(catalogue, cluster, record))
        })
    }
}

fn status(catalogue: &Catalogue, cluster: &Cluster, record: &Record) -> FluxResourceStatus {
    let kind = catalogue.kind(record.key.kind);
    let verdict = &record.verdict;
    let flux = record.flux();
    let good = flux.and_then(|flux| flux.history.last_good()).filter(|good| good.revision.is_some());
    let failed = common::first_failure(record);
    FluxResourceStatus {
        cluster: cluster.name.to_string(),
        group: kind.group.clone(),
        kind: kind.kind.clone(),
        name: record.key.name.to_string(),
        state: verdict.state.as_str().into(),
        last_outcome: verdict.last_outcome.map(|state| state.as_str().into()),
        suspended: flux.is_some_and(|flux| flux.suspended),
        suspended_by: flux.and_then(|flux| flux.suspended_by.as_deref()).map(Into::into),
        suspended_until: flux
            .filter(|flux| flux.suspended)
            .and_then(|flux| flux.request.as_ref()?.suspended_until)
            .map(Time),
        request: flux.and_then(|flux| token(flux.request.as_deref()?)),
        reason: verdict.reason.to_string(),
        message: verdict.message.to_string(),
        since: verdict.since.map(Time),
        revision: flux.and_then(|flux| flux.revision.as_deref()).map(Into::into),
        applied: flux
            .and_then(|flux| flux.applied.as_ref())
            .map(|applied| u32::try_from(applied.len()).unwrap_or(u32::MAX).saturating_add(applied.omitted)),
        not_pruned: flux.map_or(&[][..], FluxDetail::unpruned).iter().map(common::named).collect(),
        last_good_revision: good.and_then(revision),
        last_good_since: good.map(|good| Time(good.first)),
        failed_revision: failed.and_then(revision),
        failed_since: failed.map(|failed| Time(failed.first)),
        target_cluster: flux.and_then(|flux| flux.links.as_ref()?.target.as_ref()).map(|(kind, name)| {
            ObjectReference {
                kind: (*kind).to_owned(),
                namespace: record.key.namespace.to_string(),
                name: name.to_string(),
            }
        }),
        source: flux
            .and_then(|flux| flux.source.as_ref())
            .map(|source| common::any_reference(catalogue, source)),
        blocked_by: common::blocked_by(catalogue, cluster, record),
        denied_by: verdict.deniers().iter().map(common::denied_by).collect(),
        conditions: [Some(common::ready(record)), common::managed_twice(catalogue, cluster, record)]
            .into_iter()
            .flatten()
            .chain([common::fresh(cluster, [record.key.kind])])
            .collect(),
    }
}

fn revision(entry: &HistoryEntry) -> Option<String> {
    entry.revision.as_deref().map(Into::into)
}

fn token(request: &FluxRequest) -> Option<ReconcileToken> {
    let text = |text: &Option<Str>| text.as_deref().map(str::to_owned);
    let (token, handled) = (text(&request.token), text(&request.handled));
    (token.is_some() || handled.is_some()).then_some(ReconcileToken { token, handled })
}
