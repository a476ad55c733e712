//! Renders a projected row: its metadata, status and cells are serialised once.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use gatehouse_apiservice::{
    Cell, Resource, View,
    view::{CLUSTER_LABEL, GROUP, TENANT_LABEL},
};
use gatehouse_inventory::{Interner, Str};
use uuid::Uuid;

use super::Projected;
use crate::watchcache::{Cells, Draft, Label, RowKey, Selectable, Update};

/// Below this number of sets, looking for those that no row has costs more than it frees.
const SMALLEST_SWEEP: usize = 1024;

/// Renders the rows of one resource.
pub(super) struct Renderer {
    resource: &'static Resource,
    interner: Arc<Interner>,
    /// The labels of each cluster and tenant, shared by their rows.
    labels: HashMap<(Str, Option<Str>), Arc<[Label]>>,
    /// Each distinct set of labels and selectable fields that some row has.
    selectable: HashSet<Arc<Selectable>>,
    /// When there are this many sets, those that no row has any more are dropped: tenants choose some of them.
    sweep_at: usize,
    /// The UUIDv5 name space of all uids, derived from the API group.
    uids: Uuid,
}

impl Renderer {
    pub(super) fn new(resource: &'static Resource, interner: Arc<Interner>) -> Self {
        let uids = Uuid::new_v5(&Uuid::NAMESPACE_DNS, GROUP.as_bytes());
        Self {
            resource,
            interner,
            labels: HashMap::new(),
            selectable: HashSet::new(),
            sweep_at: SMALLEST_SWEEP,
            uids,
        }
    }

    pub(super) fn render<S: View>(&mut self, row: Projected<S>) -> Update {
        let (cluster, key, created, tenant, status) = match row {
            Projected::Deleted(key) => return Update::Delete(key),
            Projected::Row { cluster, key, created, tenant, status } => {
                (cluster, key, created, tenant, status)
            }
        };
        Update::Apply(Draft {
            uid: self.uid(&cluster, &key),
            created,
            selectable: self.selectable(cluster, tenant, &status.fields()),
            cells: cells(&key.name, &status.cells()),
            status: serde_json::to_vec(&*status).expect("a status is a struct of strings and numbers"),
            key,
        })
    }

    /// The `metadata.uid` of a row: the same on every replica and after every restart.
    fn uid(&self, cluster: &str, key: &RowKey) -> Uuid {
        let name = format!("{cluster}/{}/{}/{}", self.resource.plural, key.namespace, key.name);
        Uuid::new_v5(&self.uids, name.as_bytes())
    }

    fn selectable(&mut self, cluster: Str, tenant: Option<Str>, fields: &[Cow<'_, str>]) -> Arc<Selectable> {
        let fields = fields.iter().map(|value| self.interner.intern(value)).collect();
        let new = Arc::new(Selectable { labels: self.labels(cluster, tenant), fields });
        if let Some(known) = self.selectable.get(&new) {
            return Arc::clone(known);
        }
        if self.selectable.len() >= self.sweep_at {
            self.selectable.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = SMALLEST_SWEEP.max(2 * self.selectable.len());
        }
        self.selectable.insert(Arc::clone(&new));
        new
    }

    fn labels(&mut self, cluster: Str, tenant: Option<Str>) -> Arc<[Label]> {
        let known = self.labels.entry((cluster, tenant));
        let labels = known.or_insert_with_key(|(cluster, tenant)| {
            let tenant = tenant.iter().map(|tenant| (TENANT_LABEL.into(), tenant.clone()));
            std::iter::once((CLUSTER_LABEL.into(), cluster.clone())).chain(tenant).collect()
        });
        Arc::clone(labels)
    }
}

/// The cells as a JSON array that starts with the name.
fn cells(name: &str, cells: &[Cell<'_>]) -> Cells {
    let mut made = Cells { json: b"[".to_vec(), ages: Vec::new() };
    string(&mut made.json, name);
    for cell in cells {
        made.json.push(b',');
        match cell {
            Cell::Text(text) => string(&mut made.json, text),
            Cell::Integer(number) => made.json.extend_from_slice(number.to_string().as_bytes()),
            Cell::Nothing => made.json.extend_from_slice(b"null"),
            Cell::Age(time) => made.ages.push((made.json.len(), *time)),
        }
    }
    made.json.push(b']');
    made
}

fn string(json: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(json, text).expect("writing text to memory cannot fail");
}
