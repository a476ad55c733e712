//! `fluxdependencies`: who waits for whom, and why in the end.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{BlockedBy, ObjectReference};
use crate::{Cell, Column, Condition, Resource, View};

/// A Flux object in the graph of `spec.dependsOn`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct FluxDependencyStatus {
    /// Name of the observed cluster; `local` is the one that serves this API.
    pub cluster: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object; its namespace is this object's own.
    pub name: String,
    /// State of the object.
    pub state: Cow<'static, str>,
    /// Objects named by `spec.dependsOn`. At most 64.
    pub depends_on: Vec<Dependency>,
    /// Number of entries of `spec.dependsOn` that the list leaves out.
    pub depends_on_omitted: u32,
    /// Number of objects that name this one in their `spec.dependsOn`.
    pub dependents: u32,
    /// Length of the longest chain of dependencies of this object; a cycle counts as one.
    pub depth: u32,
    /// Whether the object depends on itself, directly or through others.
    pub cycle: bool,
    /// The members of the shortest cycle through the object, each depending on the next and the last on the first. Of
    /// a cycle of more than 16 members the first 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cycle_path: Vec<ObjectReference>,
    /// Number of objects of the cycle that `cyclePath` leaves out; 0 if it is complete.
    pub cycle_omitted: u32,
    /// Root cause of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<BlockedBy>,
    /// Ready: every dependency is ready. Fresh: the cluster answered within the last 30 seconds.
    pub conditions: Vec<Condition>,
}

/// An entry of `spec.dependsOn`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct Dependency {
    /// The dependency.
    #[serde(flatten)]
    pub object: ObjectReference,
    /// State of the dependency; Missing if it does not exist, Unknown if its kind is not observed.
    pub state: Cow<'static, str>,
}

impl View for FluxDependencyStatus {
    const RESOURCE: Resource = Resource {
        plural: "fluxdependencies",
        singular: "fluxdependency",
        kind: "FluxDependency",
        short_names: &["fxd"],
        namespaced: true,
        description: "FluxDependency tells what a Flux object depends on, how deep, whether in a cycle, and \
                      what it waits for in the end. Objects without dependencies or dependents have none.",
        columns: &[
            Column::NAME,
            Column::text("Depends-On", "Objects in its dependsOn."),
            Column::text("State", "State of the object."),
            Column::text("Blocked-By", "Root cause that it waits for."),
            Column::integer("Depth", "Objects on the longest chain of dependencies below it."),
            Column::text("Cycle", "Whether it depends on itself."),
            Column::integer("Dependents", "Number of objects that depend on it.").wide(),
            Column::text("Message", "Message of the root cause.").wide(),
            Column::text("Cluster", "Name of the observed cluster.").wide(),
        ],
        selectable_fields: &["status.state", "status.cycle"],
        status_schema: SchemaGenerator::subschema_for::<Self>,
    };

    fn cells(&self) -> Vec<Cell<'_>> {
        vec![
            self.depends_on_cell().into(),
            self.state.as_ref().into(),
            self.blocked_by.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            Cell::Integer(self.depth.into()),
            if self.cycle { "True" } else { "False" }.into(),
            Cell::Integer(self.dependents.into()),
            self.blocked_by.as_ref().map(|by| by.message.as_str()).unwrap_or_default().into(),
            self.cluster.as_str().into(),
        ]
    }

    fn fields(&self) -> Vec<Cow<'_, str>> {
        vec![self.state.as_ref().into(), if self.cycle { "true" } else { "false" }.into()]
    }
}

impl FluxDependencyStatus {
    /// The names depended on; how many more, beyond three.
    fn depends_on_cell(&self) -> String {
        const SHOWN: usize = 3;
        let names = self.depends_on.iter().take(SHOWN).map(|dependency| dependency.object.name.as_str());
        let shown = names.collect::<Vec<_>>().join(",");
        let more = self.depends_on.len().saturating_sub(SHOWN) + self.depends_on_omitted as usize;
        match more {
            0 => shown,
            more => format!("{shown} +{more}"),
        }
    }
}
