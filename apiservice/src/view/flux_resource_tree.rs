//! `fluxresources/NAME/tree`: a Flux object and what it applied, nested.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use super::ObjectReference;

/// A Flux object with what it applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FluxResourceTreeStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// The object, with what it applied.
    pub object: TreeNode,
    /// Number of applied objects that are left out: a tree names at most 2,000, each once.
    pub omitted: u32,
}

/// An object in a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TreeNode {
    /// API group of the object; absent for the core group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Namespace of the object; absent for cluster-scoped ones.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// State of the object; Missing if it does not exist, and absent if its kind is not observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Cow<'static, str>>,
    /// Reason of the state, if the object is not well and in the namespace of the tree or in none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Message of the state, under the same conditions.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Objects that it applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub applied: Vec<TreeNode>,
    /// Objects that it applies no longer and that its controller failed to delete, as the message says; at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_pruned: Vec<ObjectReference>,
}
