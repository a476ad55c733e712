//! `fluxresources/NAME/tree`: an object, what it applied, what that applied, each with its state.
//!
//! A tree is asked for seldom and is large, so that it is no row: the task that owns the inventory answers it from what
//! it knows at that moment.
//!
//! **Invariant:** a tree names at most [`NODES`] objects, and each of them once.

use std::collections::HashSet;

use gatehouse_apiservice::{
    action::FLUX_RESOURCE_TREE,
    view::{API_VERSION, FluxResourceTreeStatus, TreeNode},
};
use gatehouse_inventory::{
    Applied, AppliedEntry, Cluster, FluxDetail, Inventory, ObjectKey, Record, Str, catalogue::Catalogue,
};
use gatehouse_serving::ApiError;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::{views::named, watchcache::RowKey};

/// The most objects that a tree names.
pub(crate) const NODES: usize = 2_000;
/// The deepest that a tree goes.
const DEPTH: usize = 16;
/// Questions that may wait; more are refused.
const WAITING: usize = 16;

/// Asks for the tree of a row of `fluxresources`.
#[derive(Debug, Clone)]
pub(crate) struct TreeClient(mpsc::Sender<Question>);

/// The questions that the inventory's task answers.
pub(crate) type Questions = mpsc::Receiver<Question>;

/// A question for the tree of a row.
#[derive(Debug)]
pub(crate) struct Question {
    row: RowKey,
    reply: oneshot::Sender<Option<Value>>,
}

/// A client, and the questions that it asks.
pub(crate) fn channel() -> (TreeClient, Questions) {
    let (sender, questions) = mpsc::channel(WAITING);
    (TreeClient(sender), questions)
}

impl TreeClient {
    /// The tree of a row; `None` without such an object.
    pub(crate) async fn tree(&self, row: RowKey) -> Result<Option<Value>, ApiError> {
        let unavailable = || ApiError::unavailable("too many trees are asked for");
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Question { row, reply }).map_err(|_| unavailable())?;
        answer.await.map_err(|_| unavailable())
    }
}

impl Question {
    /// Answers from what is known now.
    pub(crate) fn answer(self, inventory: &Inventory) {
        let tree = find(inventory, &self.row).map(|(cluster, record)| {
            let mut tree = Tree {
                catalogue: inventory.catalogue(),
                cluster,
                namespace: record.key.namespace.clone(),
                seen: HashSet::new(),
                omitted: 0,
            };
            let object = tree.node(record, DEPTH);
            let status =
                FluxResourceTreeStatus { cluster: cluster.name.to_string(), object, omitted: tree.omitted };
            json!({
                "kind": FLUX_RESOURCE_TREE.kind,
                "apiVersion": API_VERSION,
                "metadata": {"name": &*self.row.name, "namespace": &*self.row.namespace},
                "status": status,
            })
        });
        // The client may have gone.
        let _ = self.reply.send(tree);
    }
}

/// The object of a row.
fn find<'a>(inventory: &'a Inventory, row: &RowKey) -> Option<(&'a Cluster, &'a Record)> {
    inventory.clusters().find_map(|(_, cluster)| {
        let rest = row.name.strip_prefix(&*cluster.name)?.strip_prefix('.')?;
        let (kind, name) = rest.split_once('.')?;
        let is_kind =
            |row: &gatehouse_inventory::catalogue::Kind| row.is_flux() && row.kind.to_lowercase() == kind;
        let (kind, _) = inventory.catalogue().kinds().find(|(_, row)| is_kind(row))?;
        let key = ObjectKey::new(kind, row.namespace.clone(), name);
        Some((cluster, cluster.record(&key)?))
    })
}

struct Tree<'a> {
    catalogue: &'a Catalogue,
    cluster: &'a Cluster,
    /// The namespace of the first object.
    namespace: Str,
    seen: HashSet<ObjectKey>,
    /// Objects that are not named.
    omitted: u32,
}

impl Tree<'_> {
    fn node(&mut self, record: &Record, depth: usize) -> TreeNode {
        self.seen.insert(record.key.clone());
        let kind = self.catalogue.kind(record.key.kind);
        let verdict = &record.verdict;
        let mut node = TreeNode {
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            namespace: record.key.namespace.to_string(),
            name: record.key.name.to_string(),
            state: Some(verdict.state.as_str().into()),
            ..TreeNode::default()
        };
        // What a controller says in another namespace is for those who may read that.
        if !verdict.is_well() && (record.key.namespace.is_empty() || record.key.namespace == self.namespace) {
            (node.reason, node.message) = (verdict.reason.to_string(), verdict.message.to_string());
        }
        node.not_pruned = record.flux().map_or(&[][..], FluxDetail::unpruned).iter().map(named).collect();
        if let Some((applied, elsewhere)) = record.applied() {
            node.applied = self.applied(applied, elsewhere, depth);
        }
        node
    }

    fn applied(&mut self, applied: &Applied, elsewhere: bool, depth: usize) -> Vec<TreeNode> {
        self.omitted = self.omitted.saturating_add(applied.omitted);
        let mut nodes = Vec::new();
        for entry in applied.entries() {
            if depth == 0 || self.seen.len() >= NODES {
                self.omitted = self.omitted.saturating_add(1);
                continue;
            }
            let id = self.catalogue.find(&entry.group, &entry.kind).filter(|_| !elsewhere);
            let key = id.map(|kind| ObjectKey::new(kind, entry.namespace.as_str(), entry.name.as_str()));
            let record = key.as_ref().and_then(|key| self.cluster.record(key));
            nodes.push(match (record, key) {
                (Some(record), Some(key)) if !self.seen.contains(&key) => self.node(record, depth - 1),
                (_, key) => {
                    // A Pod that is well has no record, and an object of another cluster cannot be seen.
                    let is_missing = key.as_ref().is_some_and(|key| {
                        record.is_none()
                            && !self.catalogue.kind(key.kind).is_pod()
                            && self.cluster.is_watched(key.kind)
                    });
                    self.seen.extend(key);
                    let AppliedEntry { namespace, group, kind, name } = entry;
                    let state = is_missing.then(|| "Missing".into());
                    TreeNode { group, kind, namespace, name, state, ..TreeNode::default() }
                }
            });
        }
        nodes
    }
}
