//! Shared by the views with a row per object: which rows a change affects, and their names.

use gatehouse_apiservice::Time;
use gatehouse_inventory::{
    Cluster, Delta, Inventory, ObjectKey, Record,
    catalogue::{Catalogue, Kind},
};

use super::{Projected, common};
use crate::watchcache::RowKey;

/// The rows of the objects in `delta`. Their names are `CLUSTER.NAME_OF_KIND.NAME`, in the namespace of the object.
/// `name_of_kind` returns `None` for a kind without rows, `status` for an object without a row.
pub(super) fn project<'a, S>(
    inventory: &'a Inventory,
    delta: &'a Delta,
    name_of_kind: impl Fn(&Kind) -> Option<String> + 'a,
    status: impl Fn(&Catalogue, &Cluster, &Record) -> Option<S> + 'a,
) -> impl Iterator<Item = Projected<S>> + 'a {
    let catalogue = inventory.catalogue();
    delta.objects.iter().filter_map(move |(id, key)| {
        let cluster = inventory.cluster(*id);
        let kind = name_of_kind(catalogue.kind(key.kind))?;
        let row = row_key(cluster, &kind, key);
        let record = cluster.record(key);
        let Some((record, status)) =
            record.and_then(|record| Some((record, status(catalogue, cluster, record)?)))
        else {
            return Some(Projected::Deleted(row));
        };
        Some(Projected::Row {
            cluster: cluster.name.clone(),
            key: row,
            created: Time(record.created),
            tenant: common::tenant(inventory.namespace(cluster, &key.namespace)),
            status: Box::new(status),
        })
    })
}

/// The kinds of Flux, by their names in lower case.
pub(super) fn flux(kind: &Kind) -> Option<String> {
    kind.is_flux().then(|| kind.kind.to_lowercase())
}

/// The row's name is `CLUSTER.KIND.NAME`, in the namespace of the object.
pub(super) fn row_key(cluster: &Cluster, kind: &str, key: &ObjectKey) -> RowKey {
    RowKey { namespace: key.namespace.clone(), name: format!("{}.{kind}.{}", cluster.name, key.name).into() }
}
