//! Writes and deletes objects, and tells each step as kubectl does.

use std::{fmt, io::Write as _};

use anyhow::Context;
use gatehouse_plugin::PluginError;
use kube::{
    Client,
    api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, TypeMeta},
    core::GroupVersionKind,
};
use serde_json::Value;

use super::DryRun;

/// Who owns the fields that are applied.
const MANAGER: &str = "gatehouse-clusters";

/// Where steps are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Stdout,
    /// Standard output is for the objects.
    Stderr,
}

/// Writes to one cluster.
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) dry_run: DryRun,
    /// Whether fields are taken from others who own them.
    pub(super) force: bool,
    pub(super) told: Told,
}

/// What an apply did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    Configured,
    Unchanged,
}

/// An object by its kind, namespace and name.
struct Place<'a> {
    kind: ApiResource,
    namespace: Option<&'a str>,
    name: &'a str,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        })
    }
}

impl<'a> Place<'a> {
    fn of(object: &'a Value) -> anyhow::Result<Self> {
        let types: TypeMeta = serde_json::from_value(object.clone()).context("an object without a kind")?;
        let kind = GroupVersionKind::try_from(&types).context("an object without a kind")?;
        let text = |field: &str| object["metadata"][field].as_str();
        Ok(Self {
            kind: ApiResource::from_gvk(&kind),
            namespace: text("namespace"),
            name: text("name").context("an object without a name")?,
        })
    }

    fn api(&self, client: Client) -> Api<DynamicObject> {
        match self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &self.kind),
            None => Api::all_with(client, &self.kind),
        }
    }

    /// `clusterrole.rbac.authorization.k8s.io`, as kubectl prints a kind.
    fn qualified(&self) -> String {
        let kind = self.kind.kind.to_lowercase();
        if self.kind.group.is_empty() { kind } else { format!("{kind}.{}", self.kind.group) }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.qualified(), self.name)
    }
}

impl Writer {
    /// Applies an object, and tells so.
    pub(super) async fn apply(&self, object: &Value) -> anyhow::Result<Outcome> {
        let place = Place::of(object)?;
        let outcome = self.applied(&place, object).await.with_context(|| place.to_string())?;
        self.tell(format_args!("{place} {outcome}"));
        Ok(outcome)
    }

    async fn applied(&self, place: &Place<'_>, object: &Value) -> anyhow::Result<Outcome> {
        let api = place.api(self.client.clone());
        let before = refused(api.get_opt(place.name).await)?;
        let is_namespaced_in_vain = before.is_none()
            && self.dry_run == DryRun::Server
            && match place.namespace {
                // A dry run makes no namespace for what comes into it.
                Some(namespace) => !self.has_namespace(namespace).await?,
                None => false,
            };
        if self.dry_run == DryRun::Client || is_namespaced_in_vain {
            return Ok(if before.is_some() { Outcome::Configured } else { Outcome::Created });
        }
        let mut parameters = PatchParams::apply(MANAGER);
        parameters.force = self.force;
        parameters.dry_run = self.dry_run == DryRun::Server;
        let after = refused(api.patch(place.name, &parameters, &Patch::Apply(object)).await)?;
        Ok(match before {
            None => Outcome::Created,
            Some(before) if content(&before) == content(&after) => Outcome::Unchanged,
            Some(_) => Outcome::Configured,
        })
    }

    /// Whether the cluster has a namespace.
    pub(super) async fn has_namespace(&self, name: &str) -> anyhow::Result<bool> {
        let object = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let api = Place::of(&object)?.api(self.client.clone());
        Ok(refused(api.get_opt(name).await)?.is_some())
    }

    /// Deletes an object, of this uid if one is given, and tells so. Returns whether it was there.
    pub(super) async fn delete(&self, object: &Value, uid: Option<String>) -> anyhow::Result<bool> {
        let place = Place::of(object)?;
        let api = place.api(self.client.clone());
        let deleted = async {
            if self.dry_run == DryRun::Client {
                return Ok(refused(api.get_opt(place.name).await)?.is_some());
            }
            let preconditions = uid.map(|uid| Preconditions { uid: Some(uid), resource_version: None });
            let parameters = DeleteParams {
                dry_run: self.dry_run == DryRun::Server,
                preconditions,
                ..DeleteParams::background()
            };
            match api.delete(place.name, &parameters).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
                Err(error) => Err(PluginError::from(error)),
            }
        };
        let was_there = deleted.await.with_context(|| place.to_string())?;
        if was_there {
            let namespace = place.namespace.map(|namespace| format!(" from {namespace} namespace"));
            let (kind, namespace) = (place.qualified(), namespace.unwrap_or_default());
            self.tell(format_args!("{kind} \"{}\" deleted{namespace}", place.name));
        }
        Ok(was_there)
    }

    fn tell(&self, step: fmt::Arguments<'_>) {
        let line = format!("{step}{}\n", self.dry_run.suffix());
        // Whoever has closed the pipe does not read it, and the work goes on.
        let _ = match self.told {
            Told::Stdout => std::io::stdout().lock().write_all(line.as_bytes()),
            Told::Stderr => std::io::stderr().lock().write_all(line.as_bytes()),
        };
    }
}

/// The error of a request, in kubectl's words.
pub(super) fn refused<T>(answer: kube::Result<T>) -> Result<T, PluginError> {
    answer.map_err(PluginError::from)
}

/// What people mean by an object, apart from what the server notes about writes.
fn content(object: &DynamicObject) -> Value {
    let mut content = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = content["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(field);
        }
    }
    content
}
