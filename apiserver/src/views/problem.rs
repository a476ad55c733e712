//! `problems`: a row for each object that is not well, with the walk to what explains it.
//!
//! A row shows every object on its walk, and how many other rows end at it. Both are kept here: for each object on a
//! walk, whose walks these are, and how it looked. When it looks otherwise, the rows that show it are queued in the
//! inventory, which hands them out in portions. So a change costs its own size at once, however many rows show it.
//!
//! **Invariant:** a healthy cluster costs nothing: only walks of rows are kept.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use gatehouse_apiservice::{Time, view::ProblemStatus};
use gatehouse_inventory::{
    Cause, Cluster, ClusterId, Delta, Inventory, ObjectKey, Record, Step,
    catalogue::{Catalogue, Kind, KindId},
    is_problem, problem_namespace,
};

use super::{Projected, Projection, causes, common};
use crate::watchcache::RowKey;

type Id = (ClusterId, ObjectKey);

#[derive(Debug, Default)]
pub(super) struct Problems {
    walks: HashMap<Id, Walk>,
    nodes: HashMap<Id, Node>,
    /// Rows that show something which looks otherwise now.
    followers: Vec<Id>,
    /// The kinds whose names other groups use as well.
    ambiguous: Option<HashSet<KindId>>,
}

/// The walk of a row.
#[derive(Debug, PartialEq, Eq)]
struct Walk {
    /// The objects after the first.
    path: Box<[ObjectKey]>,
    /// The last object, the first included, that has a row.
    anchor: ObjectKey,
}

/// An object on the walks of rows.
#[derive(Debug, Default)]
struct Node {
    /// A digest of what walks read of it.
    look: u64,
    rows: HashSet<ObjectKey>,
    /// How many rows it is the anchor of, its own included.
    anchored: u32,
}

impl Projection for Problems {
    type Status = ProblemStatus;

    fn needs(_: &Kind) -> bool {
        true
    }

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<ProblemStatus>> + 'a {
        delta.objects.iter().filter_map(move |id| {
            self.look_again(inventory, id);
            self.row(inventory, id)
        })
    }

    fn followers(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.followers)
    }
}

impl Problems {
    /// Queues the rows that show an object, if it looks otherwise than before.
    fn look_again(&mut self, inventory: &Inventory, id: &Id) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let look = look(inventory, id);
        if std::mem::replace(&mut node.look, look) != look {
            self.followers
                .extend(node.rows.iter().filter(|row| **row != id.1).map(|row| (id.0, row.clone())));
        }
    }

    /// Walks again from an object. `None` if it has no row and had none.
    fn row(&mut self, inventory: &Inventory, id: &Id) -> Option<Projected<ProblemStatus>> {
        let (catalogue, cluster) = (inventory.catalogue(), inventory.cluster(id.0));
        let record =
            cluster.record(&id.1).filter(|record| is_problem(catalogue.kind(record.key.kind), record));
        let cause = record.map(|record| cluster.cause(record));
        let walk = record.zip(cause.as_ref()).map(|(record, cause)| Walk::of(catalogue, record, cause));
        let had = self.walks.contains_key(id);
        self.replace(inventory, id, walk);
        let Some((record, cause)) = record.zip(cause) else {
            return had.then(|| Projected::Deleted(self.row_key(catalogue, cluster, &id.1)));
        };
        let anchor = &self.walks[id].anchor;
        let is_cause = *anchor == id.1;
        let anchored = self.nodes.get(id).map_or(0, |node| node.anchored);
        let affects = anchored - u32::from(is_cause);
        Some(Projected::Row {
            cluster: cluster.name.clone(),
            key: self.row_key(catalogue, cluster, &id.1),
            created: Time(record.created),
            tenant: common::tenant(inventory.namespace(cluster, &id.1.namespace)),
            status: Box::new(status(catalogue, cluster, record, &cause, (is_cause, affects))),
        })
    }

    /// Replaces the walk of a row.
    fn replace(&mut self, inventory: &Inventory, id: &Id, new: Option<Walk>) {
        if self.walks.get(id) == new.as_ref() {
            return;
        }
        for key in new.iter().flat_map(|walk| walk.path.iter().chain([&id.1])) {
            let node_id = (id.0, key.clone());
            let look = || Node { look: look(inventory, &node_id), ..Node::default() };
            let node = self.nodes.entry(node_id.clone()).or_insert_with(look);
            node.rows.insert(id.1.clone());
        }
        let old = match new {
            Some(walk) => self.walks.insert(id.clone(), walk),
            None => self.walks.remove(id),
        };
        let new = self.walks.get(id);
        if old.is_none() && new.is_some_and(|walk| !walk.path.is_empty()) {
            // A view that has synced before this one may show another end of the walk.
            self.followers.push(id.clone());
        }
        let anchors = [old.as_ref(), new].map(|walk| walk.map(|walk| walk.anchor.clone()));
        let gone: Vec<_> = (old.iter().flat_map(|walk| walk.path.iter().chain([&id.1])))
            .filter(|key| new.is_none_or(|walk| **key != id.1 && !walk.path.contains(key)))
            .cloned()
            .collect();
        if anchors[0] != anchors[1] {
            let [old, new] = anchors;
            self.count(id, old, |anchored| anchored - 1);
            self.count(id, new, |anchored| anchored + 1);
        }
        for key in gone {
            let node_id = (id.0, key);
            if let Some(node) = self.nodes.get_mut(&node_id) {
                node.rows.remove(&id.1);
                if node.rows.is_empty() {
                    self.nodes.remove(&node_id);
                }
            }
        }
    }

    /// Counts a row at its anchor, whose own row shows the number.
    fn count(&mut self, id: &Id, anchor: Option<ObjectKey>, change: impl Fn(u32) -> u32) {
        let Some(anchor) = anchor.map(|anchor| (id.0, anchor)) else { return };
        if let Some(node) = self.nodes.get_mut(&anchor) {
            node.anchored = change(node.anchored);
        }
        if anchor != *id {
            self.followers.push(anchor);
        }
    }

    /// `CLUSTER.KIND.NAME`, as in fluxresources; `CLUSTER.KIND.GROUP.NAME` for a kind whose name other groups use.
    fn row_key(&mut self, catalogue: &Catalogue, cluster: &Cluster, key: &ObjectKey) -> RowKey {
        let ambiguous = self.ambiguous.get_or_insert_with(|| ambiguous(catalogue));
        let row = catalogue.kind(key.kind);
        let kind = row.kind.to_lowercase();
        let kind = match row.group.as_str() {
            group if ambiguous.contains(&key.kind) && !group.is_empty() => format!("{kind}.{group}"),
            _ => kind,
        };
        RowKey {
            namespace: problem_namespace(key),
            name: format!("{}.{kind}.{}", cluster.name, key.name).into(),
        }
    }
}

impl Walk {
    fn of(catalogue: &Catalogue, record: &Record, cause: &Cause<'_>) -> Self {
        let last = cause.path.iter().rfind(|record| is_problem(catalogue.kind(record.key.kind), record));
        Self {
            path: cause.path.iter().map(|record| record.key.clone()).collect(),
            anchor: last.map_or(&record.key, |record| &record.key).clone(),
        }
    }
}

fn ambiguous(catalogue: &Catalogue) -> HashSet<KindId> {
    let mut names: BTreeMap<String, Vec<KindId>> = BTreeMap::new();
    for (id, kind) in catalogue.kinds() {
        names.entry(kind.kind.to_lowercase()).or_default().push(id);
    }
    names.into_values().filter(|kinds| kinds.len() > 1).flatten().collect()
}

/// A digest of what a walk over an object reads of it.
fn look(inventory: &Inventory, (id, key): &Id) -> u64 {
    let cluster = inventory.cluster(*id);
    let mut hasher = DefaultHasher::new();
    if let Some(record) = cluster.record(key) {
        let verdict = &record.verdict;
        let state = (verdict.state, verdict.outcome(), &verdict.reason, &verdict.message);
        (is_problem(inventory.catalogue().kind(key.kind), record), state).hash(&mut hasher);
        match cluster.step(record) {
            None => {}
            Some(Step::To(next)) => (1, &next.key).hash(&mut hasher),
            Some(Step::Lacks(root)) => (2, format!("{root:?}")).hash(&mut hasher),
        }
    }
    hasher.finish()
}

fn status(
    catalogue: &Catalogue,
    cluster: &Cluster,
    record: &Record,
    cause: &Cause<'_>,
    (is_cause, affects): (bool, u32),
) -> ProblemStatus {
    let (kind, verdict) = (catalogue.kind(record.key.kind), &record.verdict);
    let reference = |key: &Option<ObjectKey>| key.as_ref().map(|key| common::reference(catalogue, key));
    let above = record.above.as_deref();
    let by_label = above.and_then(|above| above.manager.clone());
    let manager = by_label.or_else(|| cluster.applications_of(catalogue, &record.key).into_iter().next());
    let end = causes::end(catalogue, cause);
    let between = match (&end, &cause.lacks) {
        // What is lacking stands beyond the last object.
        (Some(_), Some(_)) => &cause.path[..],
        _ => cause.path.split_last().map_or(&[][..], |(_, before)| before),
    };
    ProblemStatus {
        cluster: cluster.name.to_string(),
        layer: record.layer.map_or("", gatehouse_inventory::Layer::as_str).into(),
        group: kind.group.clone(),
        kind: kind.kind.clone(),
        namespace: record.key.namespace.to_string(),
        name: record.key.name.to_string(),
        state: verdict.outcome().as_str().into(),
        reason: verdict.reason.to_string(),
        message: verdict.message.to_string(),
        since: verdict.outcome_since().map(Time),
        path: common::path(catalogue, between.iter().map(|record| &record.key)),
        cause: end,
        is_cause,
        affects,
        managed_by: reference(&manager),
        owner: above.and_then(|above| reference(&above.owner)),
        conditions: vec![common::fresh(cluster, [record.key.kind])],
    }
}
