//! Rows of `problems` as far as the plugin reads them: what explains an object that is not well, down to the container.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    connection::{Connection, Location},
    error::PluginError,
    rows::Reference,
};

/// Where problems of cluster-scoped objects are, as their Events.
const CLUSTER_SCOPED: &str = "default";

/// The status of a row of problems.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Problem {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) cause: Option<Cause>,
    pub(crate) path: Vec<Reference>,
    /// The whole object, for `-o json`.
    #[serde(skip)]
    pub(crate) object: Value,
}

/// What explains a problem.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Cause {
    #[serde(flatten)]
    pub(crate) object: Reference,
    pub(crate) state: Option<String>,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Problem {
    /// The problem of an object. None if it has none, or if the user may not see it.
    pub(crate) async fn of(
        connection: &Connection,
        cluster: &str,
        object: &Reference,
    ) -> Result<Option<Self>, PluginError> {
        let namespace = if object.namespace.is_empty() { CLUSTER_SCOPED } else { object.namespace.as_str() };
        let name = format!("{cluster}.{}.{}", object.kind.to_lowercase(), object.name);
        let location = Location {
            namespace: Some(namespace),
            resource: "problems",
            name: Some(&name),
            subresource: None,
        };
        match connection.get(location, &[]).await {
            Ok(object) => {
                let problem = Self::deserialize(&object["status"]).unwrap_or_default();
                Ok(Some(Self { object, ..problem }))
            }
            Err(error)
                if error.is_object_missing() || error.is_forbidden() || error.is_resource_missing() =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn reference(&self) -> Reference {
        let Self { kind, namespace, name, .. } = self;
        Reference { kind: kind.clone(), namespace: namespace.clone(), name: name.clone() }
    }
}
