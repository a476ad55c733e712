//! Rows of `fluxresources` and `fluxdependencies` as far as the plugin reads them. Every field may be missing, since the
//! server may be older or newer than the plugin.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    connection::{Connection, Location},
    error::PluginError,
    many,
    object::Target,
    output::visible,
};

pub(crate) const RESOURCE: &str = "fluxresources";
/// The name of the cluster that serves the API, unless its Gatehouse was started with another one (`--cluster-name`).
pub(crate) const LOCAL_CLUSTER: &str = "local";

/// ` (cluster eu)` behind an object, unless it is in the cluster that serves the API.
pub(crate) fn in_cluster(name: &str) -> String {
    if name == LOCAL_CLUSTER { String::new() } else { format!(" (cluster {})", visible(name)) }
}

/// An error if no cluster of this name is observed: that nothing was found in it says nothing then. Who may not read
/// clusters is not told.
pub(crate) async fn ensure_observed(connection: &Connection, cluster: &str) -> Result<(), PluginError> {
    let location = Location { resource: "clusterhealths", name: Some(cluster), ..Location::default() };
    match connection.get(location, &[]).await {
        Err(error) if error.is_object_missing() => {
            let why = format!(
                "no cluster is observed by the name {cluster:?}: kubectl gatehouse clusters lists them"
            );
            Err(PluginError::invalid(why))
        }
        _ => Ok(()),
    }
}

/// A reference to an object of the observed cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Reference {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Specs name objects by any text.
        let [kind, namespace, name] = [&self.kind, &self.namespace, &self.name].map(|text| visible(text));
        if namespace.is_empty() { write!(f, "{kind}/{name}") } else { write!(f, "{kind}/{namespace}/{name}") }
    }
}

/// The root cause of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BlockedBy {
    pub(crate) reason: String,
    #[serde(flatten)]
    pub(crate) object: Reference,
    pub(crate) state: Option<String>,
    pub(crate) message: String,
    pub(crate) path: Vec<Reference>,
}

impl BlockedBy {
    pub(crate) fn is_missing(&self) -> bool {
        self.reason.ends_with("Missing")
    }

    pub(crate) fn is_cycle(&self) -> bool {
        self.reason == "DependencyCycle"
    }
}

/// The status of a row of fluxresources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub(crate) cluster: String,
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) suspended: bool,
    pub(crate) suspended_by: Option<String>,
    pub(crate) suspended_until: Option<String>,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) revision: Option<String>,
    pub(crate) source: Option<Reference>,
    pub(crate) blocked_by: Option<BlockedBy>,
    pub(crate) denied_by: Vec<Reference>,
    pub(crate) request: Option<RequestStatus>,
}

/// The last reconciliation that was requested of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RequestStatus {
    /// The token of the last request that its controller has handled.
    pub(crate) handled: String,
}

/// A row of fluxresources.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) status: Status,
    /// The whole object, for `-o json`.
    pub(crate) object: Value,
}

impl Row {
    pub(crate) fn reference(&self) -> Reference {
        let Status { kind, name, .. } = &self.status;
        Reference { kind: kind.clone(), namespace: self.namespace.clone(), name: name.clone() }
    }

    /// Whether nothing is wrong with it and nothing is expected to change.
    pub(crate) fn is_ready(&self) -> bool {
        self.status.state == "Ready"
    }

    /// `kustomization.kustomize.toolkit.fluxcd.io/shop`, as kubectl names the object itself.
    pub(crate) fn qualified(&self) -> String {
        let Status { kind, group, name, .. } = &self.status;
        visible(&format!("{}.{group}/{name}", kind.to_lowercase()))
    }

    pub(crate) fn of(object: Value) -> Result<Self, PluginError> {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let status = object.get("status").unwrap_or(&Value::Null);
        let status = Status::deserialize(status)
            .map_err(|error| PluginError::Unreachable(format!("its answer cannot be read: {error}")))?;
        Ok(Self { name: text("/metadata/name"), namespace: text("/metadata/namespace"), status, object })
    }
}

/// What is known of an object that another one names.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Row(Box<Row>),
    /// It does not exist, or is not observed.
    Missing,
    /// The user may not read it.
    Forbidden,
}

/// Reads rows, each once.
pub(crate) struct Rows<'a> {
    connection: &'a Connection,
    known: HashMap<(String, Reference), Found>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self { connection, known: HashMap::new() }
    }

    /// The row that the user named. Without the name of a cluster, the local cluster's is preferred.
    pub(crate) async fn named(&self, target: &Target, cluster: Option<&str>) -> Result<Row, PluginError> {
        let (namespace, row) = target.row(&self.connection.namespace, cluster.unwrap_or(LOCAL_CLUSTER));
        let missing = match self.row(&namespace, &row).await {
            Err(error) if error.is_object_missing() && cluster.is_none() => error,
            answer => return answer,
        };
        let Some(end) = row.strip_prefix(LOCAL_CLUSTER) else { return Err(missing) };
        // The observed cluster may have another name (`--cluster-name`).
        let mut found = self.list(Some(&namespace)).await?;
        found.retain(|found| found.name == format!("{}{end}", found.status.cluster));
        match found.len() {
            0 => Err(missing),
            1 => Ok(found.remove(0)),
            _ => {
                let clusters: Vec<_> = found.iter().map(|row| row.status.cluster.as_str()).collect();
                let clusters = clusters.join(", ");
                Err(PluginError::invalid(format!(
                    "it is in several clusters, name one with --cluster-name: {clusters}"
                )))
            }
        }
    }

    async fn row(&self, namespace: &str, name: &str) -> Result<Row, PluginError> {
        let (namespace, name) = (Some(namespace), Some(name));
        let location = Location { namespace, resource: RESOURCE, name, subresource: None };
        Row::of(self.connection.get(location, &[]).await?)
    }

    /// All rows of a namespace, or of every one that the user may see.
    pub(crate) async fn list(&self, namespace: Option<&str>) -> Result<Vec<Row>, PluginError> {
        many::items(self.connection, RESOURCE, namespace).await?.into_iter().map(Row::of).collect()
    }

    /// Remembers rows that were listed.
    pub(crate) fn remember(&mut self, rows: &[Row]) {
        for row in rows {
            let key = (row.status.cluster.clone(), row.reference());
            self.known.insert(key, Found::Row(Box::new(row.clone())));
        }
    }

    /// What another object names, in the same cluster.
    pub(crate) async fn find(&mut self, cluster: &str, object: &Reference) -> Result<Found, PluginError> {
        let key = (cluster.to_owned(), object.clone());
        if let Some(found) = self.known.get(&key) {
            return Ok(found.clone());
        }
        let name = format!("{cluster}.{}.{}", object.kind.to_lowercase(), object.name);
        let found = match self.row(&object.namespace, &name).await {
            Ok(row) => Found::Row(Box::new(row)),
            Err(error) if error.is_object_missing() => Found::Missing,
            Err(error) if error.is_forbidden() => Found::Forbidden,
            Err(error) => return Err(error),
        };
        self.known.insert(key, found.clone());
        Ok(found)
    }
}
