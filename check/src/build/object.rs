//! An object during a build, and the selection of objects by patches.

use std::sync::Arc;

use gatehouse_apiservice::labels::Selector;
use gatehouse_inventory::yaml::{At, Node};
use regex::Regex;
use serde_json::Value;

use super::patch::Removed;
use crate::rulesets::texts_of;

/// The ID of an object in kustomize.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    /// `None` if the manifest sets none.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

/// An object during a build.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub(crate) id: Id,
    /// Its IDs before it was renamed or moved.
    pub(crate) former: Vec<Id>,
    /// `None` if neither policies nor quotas read it.
    pub(crate) node: Option<Arc<Node>>,
    /// The position of its start.
    pub(crate) at: At,
    /// The fields that patches removed.
    pub(crate) removed: Vec<Removed>,
    /// Why kustomize refuses its document, though kubectl does not.
    pub(crate) refused: Option<Arc<(At, String)>>,
}

impl Id {
    /// The ID of an object.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let (group, version) = match node.str_of("apiVersion")?.split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", node.str_of("apiVersion")?),
        };
        let metadata = node.get("metadata");
        let name = metadata.and_then(|metadata| metadata.str_of("name")).unwrap_or_default();
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: node.str_of("kind")?.to_owned(),
            namespace: metadata.and_then(|metadata| metadata.str_of("namespace")).map(str::to_owned),
            name: name.to_owned(),
        })
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The parts by which kustomize compares IDs.
    pub(crate) fn key(&self) -> [&str; 5] {
        let namespace = match self.namespace.as_deref() {
            _ if is_cluster_scoped(&self.group, &self.kind) => "",
            None | Some("") => "default",
            Some(namespace) => namespace,
        };
        [&self.group, &self.version, &self.kind, namespace, &self.name]
    }

    fn is(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Built {
    /// An object as it is written.
    pub(crate) fn new(id: Id, node: Option<Arc<Node>>, at: At) -> Self {
        Self { id, former: Vec::new(), node, at, removed: Vec::new(), refused: None }
    }

    /// The complete object; null if only its ID was read.
    pub(crate) fn value(&self) -> Value {
        self.node.as_deref().map(Node::to_value).unwrap_or_default()
    }

    /// The position of the first of `fields` that the object has, or that a patch removed; else that of the object.
    pub(crate) fn place(&self, fields: &[&str]) -> At {
        let found = |field: &&str| {
            let there = self.node.as_deref().and_then(|node| node.field(field)).map(|(at, _)| at);
            there.or_else(|| {
                self.removed.iter().rev().find(|removed| removed.is(field)).map(|removed| removed.at)
            })
        };
        fields.iter().find_map(found).unwrap_or(self.at)
    }

    /// Whether a strategic merge patch with this ID selects it, by its current ID or a former one.
    pub(crate) fn is(&self, id: &Id) -> bool {
        self.id.is(id) || self.former.iter().any(|former| former.is(id))
    }

    /// Whether it has no name yet, which kustomize refuses.
    pub(crate) fn is_nameless(&self) -> bool {
        let Id { kind, name, .. } = &self.id;
        // Lists have none.
        name.is_empty() && !kind.ends_with("List") || name.ends_with('*')
    }

    /// Whether it is only for kustomize, which leaves it out of the result.
    pub(crate) fn is_local(&self) -> bool {
        let annotations = self.node.as_deref().and_then(|node| node.at_path(&["metadata", "annotations"]));
        let mark = annotations.and_then(|all| all.get("config.kubernetes.io/local-config"));
        mark.is_some_and(|mark| mark.as_str() != Some("false"))
    }

    /// Records its current ID.
    pub(crate) fn remember(&mut self) {
        if self.former.last() != Some(&self.id) {
            self.former.push(self.id.clone());
        }
    }

    /// Its tree, for changes.
    pub(crate) fn node_mut(&mut self) -> Option<&mut Node> {
        self.node.as_mut().map(Arc::make_mut)
    }

    /// Rereads the values as kustomize does.
    pub(crate) fn read_by_kustomize(&mut self) {
        if self.node.as_deref().is_some_and(Node::has_words)
            && let Some(node) = self.node_mut()
        {
            node.without_words();
            self.reread();
        }
    }

    /// Updates the ID after a patch of the tree.
    pub(crate) fn reread(&mut self) {
        if let Some(id) = self.node.as_deref().and_then(Id::of) {
            self.id = id;
        }
    }

    pub(crate) fn rename(&mut self, name: String, at: At) {
        self.remember();
        if let Some(node) = self.node_mut() {
            let place = node.at_path(&["metadata", "name"]).map_or(at, |name| name.at);
            node.child("metadata", at).set("name", place, Node::text(&name, place));
        }
        self.id.name = name;
    }

    pub(crate) fn move_to(&mut self, namespace: &str, at: At) {
        self.remember();
        if let Some(node) = self.node_mut() {
            node.child("metadata", at).set("namespace", at, Node::text(namespace, at));
        }
        self.id.namespace = Some(namespace.to_owned());
    }
}

/// The `target` of a patch.
pub(crate) struct Target {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    labels: Selector,
    annotations: Selector,
}

impl Target {
    /// Parses the target; the error says what is invalid.
    pub(crate) fn of(node: &Node) -> Result<Self, String> {
        let regex = |field: &str| match node.str_of(field) {
            None => Ok(None),
            Some(text) => Regex::new(&format!("^(?:{text})$"))
                .map(Some)
                .map_err(|_| format!("target.{field}: not a regular expression")),
        };
        let selector = |field: &str| match node.str_of(field) {
            None => Ok(Selector::default()),
            Some(text) => Selector::parse(text).map_err(|problem| format!("target.{field}: {problem}")),
        };
        Ok(Self {
            group: regex("group")?,
            version: regex("version")?,
            kind: regex("kind")?,
            name: regex("name")?,
            namespace: regex("namespace")?,
            labels: selector("labelSelector")?,
            annotations: selector("annotationSelector")?,
        })
    }

    pub(crate) fn selects(&self, object: &Built) -> bool {
        let fits =
            |regex: &Option<Regex>, text: &str| regex.as_ref().is_none_or(|regex| regex.is_match(text));
        let ids = object.former.iter().chain([&object.id]);
        let named = |id: &Id| {
            fits(&self.group, &id.group)
                && fits(&self.version, &id.version)
                && fits(&self.kind, &id.kind)
                && fits(&self.name, &id.name)
                && fits(&self.namespace, id.namespace.as_deref().unwrap_or("default"))
        };
        let meets =
            |selector: &Selector, field| selector.is_empty() || selector.matches(&texts_of(object, field));
        ids.into_iter().any(named) && meets(&self.labels, "labels") && meets(&self.annotations, "annotations")
    }
}

/// Cluster-scoped kinds that are built into Kubernetes. kustomize treats unknown kinds as namespaced.
pub(crate) fn is_cluster_scoped(group: &str, kind: &str) -> bool {
    match group {
        "" => matches!(kind, "Namespace" | "Node" | "PersistentVolume" | "ComponentStatus"),
        "admissionregistration.k8s.io"
        | "authentication.k8s.io"
        | "apiextensions.k8s.io"
        | "apiregistration.k8s.io"
        | "certificates.k8s.io"
        | "flowcontrol.apiserver.k8s.io"
        | "node.k8s.io"
        | "scheduling.k8s.io"
        | "internal.apiserver.k8s.io" => true,
        "rbac.authorization.k8s.io" => kind.starts_with("Cluster"),
        "storage.k8s.io" => kind != "CSIStorageCapacity",
        "networking.k8s.io" => matches!(kind, "IngressClass" | "IPAddress" | "ServiceCIDR"),
        "policy" => kind == "PodSecurityPolicy",
        "authorization.k8s.io" => kind != "LocalSubjectAccessReview",
        _ => false,
    }
}
