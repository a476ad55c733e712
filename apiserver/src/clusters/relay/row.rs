//! Reads rows of another Gatehouse, which may be of another version: what is missing has its default, what is not known
//! is left out, and so is a field of another type.

use std::{any::Any, collections::BTreeMap, marker::PhantomData};

use gatehouse_apiservice::{
    Resource, Time, View,
    view::{
        AppliedTenantQuotaStatus, ArgoApplicationStatus, ArgoSummaryStatus, CLUSTER_LABEL,
        ClusterHealthStatus, FluxDependencyStatus, FluxHistoryStatus, FluxResourceStatus, FluxSummaryStatus,
        GameFleetStatus, GameInstanceStatus, GameServerSummaryStatus, MyNamespaceStatus, ProblemStatus,
        RESOURCES, TENANT_LABEL, TenantUsageStatus,
    },
};
use gatehouse_inventory::{Interner, Str, source::Raw};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    views::{RemoteRow, RemoteStatus},
    watchcache::RowKey,
};

/// The longest row, in bytes. The longest of those that Gatehouse makes have some ten thousand.
const LONGEST_ROW: usize = 256 << 10;
/// The longest name of a row: an object's, with what stands before it.
const LONGEST_NAME: usize = 512;

/// How the rows of a view are read.
pub(super) struct RelayedView {
    pub(super) resource: &'static Resource,
    rename: fn(&str, &str, &str) -> Option<String>,
    read: ReadStatus,
}

/// Reads a status, and puts the name of its cluster here into it. Errors say why it cannot be read.
type ReadStatus = fn(&str, &Str) -> Result<Box<dyn Any + Send>, String>;

impl RelayedView {
    const fn of<S: RemoteStatus>() -> Self {
        Self { resource: Of::<S>::RESOURCE, rename: rename::<S>, read: read::<S> }
    }

    /// The key here of a row; `None` if no row of its cluster can have it.
    pub(super) fn key(&self, raw: &Raw, own: &str, cluster: &str) -> Option<RowKey> {
        let is_fit = |name: &str| {
            name.len() <= LONGEST_NAME
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
        };
        let (namespace, name) = (raw.namespace(), raw.name());
        let is_placed = namespace.is_empty() != self.resource.namespaced;
        if name.is_empty() || !is_placed || !is_fit(name) || !is_fit(namespace) {
            return None;
        }
        let name = (self.rename)(name, own, cluster)?;
        Some(RowKey { namespace: namespace.into(), name: name.into() })
    }

    /// A row; `None` if it is about another cluster. Errors say why it cannot be shown.
    pub(super) fn row(
        &self,
        json: &str,
        key: RowKey,
        own: &str,
        cluster: &Str,
        interner: &Interner,
    ) -> Result<Option<RemoteRow>, String> {
        if json.len() > LONGEST_ROW {
            return Err(format!("it is longer than {} KiB", LONGEST_ROW >> 10));
        }
        let Wire { metadata, status } = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let label = |name: &str| metadata.labels.as_ref()?.get(name).map(String::as_str);
        if label(CLUSTER_LABEL) != Some(own) {
            return Ok(None);
        }
        let tenant = label(TENANT_LABEL).map(|tenant| interner.intern(tenant));
        let created = metadata.creation_timestamp.as_deref();
        let created = created.and_then(|time| time.parse::<jiff::Timestamp>().ok());
        Ok(Some(RemoteRow {
            key: RowKey { namespace: interner.intern(&key.namespace), ..key },
            created: created.map(|time| Time(time.as_second())).unwrap_or_default(),
            tenant,
            status: (self.read)(status.map_or("{}", RawValue::get), cluster)?,
        }))
    }
}

/// A constant of a type, for constants that refer to it.
struct Of<S>(PhantomData<S>);

impl<S: RemoteStatus> Of<S> {
    const RESOURCE: &'static Resource = &<S as View>::RESOURCE;
}

fn rename<S: RemoteStatus>(name: &str, own: &str, cluster: &str) -> Option<String> {
    S::NAMING.rename(name, own, cluster)
}

fn read<S: RemoteStatus>(status: &str, cluster: &Str) -> Result<Box<dyn Any + Send>, String> {
    let mut status: S = lenient(status)?;
    *status.cluster_mut() = cluster.to_string();
    Ok(Box::new(status))
}

/// Every view, in the order of [`RESOURCES`].
pub(super) static VIEWS: [RelayedView; RESOURCES.len()] = [
    RelayedView::of::<AppliedTenantQuotaStatus>(),
    RelayedView::of::<ArgoApplicationStatus>(),
    RelayedView::of::<ArgoSummaryStatus>(),
    RelayedView::of::<ClusterHealthStatus>(),
    RelayedView::of::<FluxDependencyStatus>(),
    RelayedView::of::<FluxHistoryStatus>(),
    RelayedView::of::<FluxResourceStatus>(),
    RelayedView::of::<FluxSummaryStatus>(),
    RelayedView::of::<GameFleetStatus>(),
    RelayedView::of::<GameInstanceStatus>(),
    RelayedView::of::<GameServerSummaryStatus>(),
    RelayedView::of::<MyNamespaceStatus>(),
    RelayedView::of::<ProblemStatus>(),
    RelayedView::of::<TenantUsageStatus>(),
];

#[derive(Deserialize)]
struct Wire<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

/// A status without the fields that cannot be read.
fn lenient<S: DeserializeOwned>(json: &str) -> Result<S, String> {
    if let Ok(status) = serde_json::from_str(json) {
        return Ok(status);
    }
    let mut fields: Map<String, Value> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    fields.retain(|name, value| {
        let alone = Map::from_iter([(name.clone(), value.clone())]);
        S::deserialize(Value::Object(alone)).is_ok()
    });
    S::deserialize(Value::Object(fields)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(plural: &str) -> &'static RelayedView {
        VIEWS.iter().find(|view| view.resource.plural == plural).unwrap()
    }

    fn wire(status: &Value) -> Value {
        json!({
            "metadata": {
                "name": "itself.kustomization.web", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "creationTimestamp": "2026-03-01T00:00:00Z",
                "labels": {"gatehouse.dev/cluster": "itself", "gatehouse.dev/tenant": "team-a"},
            },
            "status": status,
        })
    }

    fn read(plural: &str, object: &Value) -> Result<Option<RemoteRow>, String> {
        let key = RowKey { namespace: "shop".into(), name: "eu.kustomization.web".into() };
        view(plural).row(&object.to_string(), key, "itself", &"eu".into(), &Interner::default())
    }

    fn resource(status: &Value) -> FluxResourceStatus {
        let row = read("fluxresources", &wire(status)).unwrap().unwrap();
        *row.status.downcast().unwrap()
    }

    #[test]
    fn the_views_are_those_that_are_served_in_their_order() {
        let plurals = VIEWS.each_ref().map(|view| view.resource.plural);
        assert_eq!(plurals, RESOURCES.map(|resource| resource.plural));
    }

    #[test]
    fn a_row_is_read_and_gets_the_name_of_its_cluster_here() {
        let status = json!({
            "cluster": "itself", "kind": "Kustomization", "name": "web", "state": "Failed", "suspended": false,
            "since": "2026-02-28T00:00:00Z",
            "blockedBy": {"reason": "DependencyFailed", "kind": "Kustomization", "name": "db"},
            "conditions": [{"type": "Fresh", "status": "True", "reason": "Observed", "message": "",
                            "lastTransitionTime": "2026-02-28T00:00:00Z"}],
        });
        let row = read("fluxresources", &wire(&status)).unwrap().unwrap();
        assert_eq!((row.created, row.tenant.as_deref()), (Time(1_772_323_200), Some("team-a")));
        let read = resource(&status);
        assert_eq!((&*read.cluster, &*read.state, read.since), ("eu", "Failed", Some(Time(1_772_236_800))));
        assert_eq!(read.blocked_by.unwrap().object.name, "db");
        assert_eq!(read.conditions[0].kind, "Fresh");
    }

    #[test]
    fn other_versions_are_read_as_far_as_possible() {
        let read = resource(&json!({
            "kind": "Kustomization", "name": ["odd"], "state": "Dreaming", "conditions": null, "new": {"x": 1},
            "since": "soon", "suspended": true,
            "blockedBy": {"reason": "MoonIsFull", "name": "db"},
        }));
        assert_eq!((&*read.kind, &*read.name, &*read.state), ("Kustomization", "", "Dreaming"));
        assert!(read.suspended && read.since.is_none() && read.conditions.is_empty());
        assert_eq!(read.blocked_by.unwrap().object.name, "db");
        assert_eq!(resource(&json!({})).cluster, "eu");
        // Every view, from nothing.
        for view in &VIEWS {
            assert!((view.read)("{}", &"eu".into()).is_ok(), "{}", view.resource.plural);
            assert!((view.read)("7", &"eu".into()).is_err());
        }
    }

    #[test]
    fn rows_of_other_clusters_and_rows_that_are_too_long_are_not_taken() {
        let mut other = wire(&json!({}));
        other["metadata"]["labels"]["gatehouse.dev/cluster"] = "hub".into();
        assert!(read("fluxresources", &other).unwrap().is_none());
        let long = wire(&json!({"message": "x".repeat(1 << 20)}));
        assert!(read("fluxresources", &long).unwrap_err().contains("256 KiB"));
        assert!(read("fluxresources", &json!({"metadata": []})).is_err());
    }
}
