//! Shared by the views with a row per Flux object: which rows a change affects, and their names.

use gatehouse_apiservice::Time;
use gatehouse_inventory::{Cluster, Delta, Inventory, ObjectKey, Record, catalogue::Catalogue};

use super::{Projected, common};
use crate::watchcache::RowKey;

/// The rows of the Flux objects in `delta`. `status` returns `None` for an object without a row.
pub(super) fn project<'a, S>(
    inventory: &'a Inventory,
    delta: &'a Delta,
    status: impl Fn(&Catalogue, &Cluster, &Record) -> Option<S> + 'a,
) -> impl Iterator<Item = Projected<S>> + 'a {
    let catalogue = inventory.catalogue();
    let objects = delta.objects.iter().filter(|(_, key)| catalogue.kind(key.kind).is_flux());
    objects.map(move |(id, key)| {
        let cluster = inventory.cluster(*id);
        let row = row_key(catalogue, cluster, key);
        let record = cluster.record(key);
        let Some((record, status)) =
            record.and_then(|record| Some((record, status(catalogue, cluster, record)?)))
        else {
            return Projected::Deleted(row);
        };
        Projected::Row {
            cluster: cluster.name.clone(),
            key: row,
            created: Time(record.created),
            tenant: common::tenant(inventory.namespace(cluster, &key.namespace)),
            status: Box::new(status),
        }
    })
}

/// The row's name is `CLUSTER.KIND.NAME`, in lower case, in the namespace of the object.
fn row_key(catalogue: &Catalogue, cluster: &Cluster, key: &ObjectKey) -> RowKey {
    let kind = catalogue.kind(key.kind).kind.to_lowercase();
    RowKey { namespace: key.namespace.clone(), name: format!("{}.{kind}.{}", cluster.name, key.name).into() }
}
