//! `fluxhistories`: a row for each entry of the history in a Flux object's status.
//!
//! A row shows the entry alone: it has no conditions, so that a cluster that falls silent changes none of them.

use std::collections::HashMap;

use gatehouse_apiservice::{Time, duration, view::FluxHistoryStatus};
use gatehouse_inventory::{
    Cluster, ClusterId, Delta, EntryId, HistoryEntry, Inventory, ObjectKey, Record, catalogue::Catalogue,
};
use jiff::SignedDuration;

use super::{Projected, Projection, common, objects};
use crate::watchcache::RowKey;

#[derive(Debug, Default)]
pub(super) struct FluxHistories {
    /// The entries of each object that have rows.
    shown: HashMap<(ClusterId, ObjectKey), Box<[EntryId]>>,
}

impl Projection for FluxHistories {
    type Status = FluxHistoryStatus;

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<FluxHistoryStatus>> + 'a {
        let catalogue = inventory.catalogue();
        let objects = delta.objects.iter();
        let objects = objects.filter_map(|id| Some((id, objects::flux(catalogue.kind(id.1.kind))?)));
        objects.flat_map(move |(id, kind)| self.rows(inventory, id, &kind))
    }
}

impl FluxHistories {
    /// The rows of an object, and those that it has no longer.
    fn rows(
        &mut self,
        inventory: &Inventory,
        id: &(ClusterId, ObjectKey),
        kind: &str,
    ) -> Vec<Projected<FluxHistoryStatus>> {
        let (catalogue, cluster) = (inventory.catalogue(), inventory.cluster(id.0));
        let record = cluster.record(&id.1);
        let entries = record.and_then(Record::flux).map_or(&[][..], |flux| flux.history.entries());
        let ids: Box<[EntryId]> = entries.iter().map(|entry| entry.id).collect();
        let before = self.shown.get(id);
        if ids.is_empty() && before.is_none() {
            return Vec::new();
        }
        let object = objects::row_key(cluster, kind, &id.1);
        let key = |id: EntryId| RowKey {
            namespace: object.namespace.clone(),
            name: format!("{}.{id}", object.name).into(),
        };
        let gone = before.into_iter().flatten().filter(|id| !ids.contains(id));
        let mut rows: Vec<_> = gone.map(|id| Projected::Deleted(key(*id))).collect();
        if let Some(record) = record {
            let tenant = common::tenant(inventory.namespace(cluster, &id.1.namespace));
            let first_failure = common::first_failure(record);
            rows.extend(entries.iter().enumerate().map(|(at, entry)| Projected::Row {
                cluster: cluster.name.clone(),
                key: key(entry.id),
                created: Time(entry.first),
                tenant: tenant.clone(),
                status: Box::new(FluxHistoryStatus {
                    current: at == 0,
                    first_failure: first_failure.is_some_and(|first| std::ptr::eq(first, entry)),
                    ..status(catalogue, cluster, &id.1, entry)
                }),
            }));
        }
        if ids.is_empty() {
            self.shown.remove(id);
        } else {
            self.shown.insert(id.clone(), ids);
        }
        rows
    }
}

fn status(
    catalogue: &Catalogue,
    cluster: &Cluster,
    key: &ObjectKey,
    entry: &HistoryEntry,
) -> FluxHistoryStatus {
    let kind = catalogue.kind(key.kind);
    FluxHistoryStatus {
        cluster: cluster.name.to_string(),
        group: kind.group.clone(),
        kind: kind.kind.clone(),
        name: key.name.to_string(),
        revision: entry.revision.as_deref().map(Into::into),
        result: entry.result.as_str().into(),
        reason: entry.reason.to_string(),
        action: entry.action.as_deref().map(Into::into),
        first: Time(entry.first),
        last: Time(entry.last),
        took: entry.took.map(took),
        times: entry.times,
        current: false,
        first_failure: false,
    }
}

/// A duration as Go writes it, without fractions of a second beyond a minute.
fn took(milliseconds: u32) -> String {
    let (seconds, rest) = (milliseconds / 1_000, milliseconds % 1_000);
    match seconds {
        0 => format!("{rest}ms"),
        1..60 => format!("{seconds}.{rest:03}s"),
        _ => duration::show(SignedDuration::from_secs(seconds.into())),
    }
}
