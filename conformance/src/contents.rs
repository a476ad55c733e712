//! Everything that is in a cluster, by name, for comparing what was there before with what is there after.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{ApiGroup, ApiResource, Discovery, verbs};

use crate::pace::patience;

/// How long it takes until a kind can be listed, or is withdrawn.
const SERVED: Duration = Duration::from_secs(10);
/// Concurrent requests.
const PARALLEL: usize = 8;

/// What an object is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// Empty for objects of the whole cluster.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

/// What is of interest beside the name.
#[derive(Debug, Clone)]
pub struct Known {
    /// The object's uid.
    pub uid: String,
    /// The objects with which it is garbage-collected.
    pub owners: Vec<OwnerReference>,
    /// How it is requested.
    pub resource: ApiResource,
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, kind, namespace, name } = self;
        let (dot, slash) =
            (if group.is_empty() { "" } else { "." }, if namespace.is_empty() { "" } else { "/" });
        write!(f, "{kind}{dot}{group} {namespace}{slash}{name}")
    }
}

/// Lists every kind that can be listed, but Events.
pub async fn of(client: &Client) -> anyhow::Result<BTreeMap<Name, Known>> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let listed = discovery
        .groups()
        .flat_map(ApiGroup::recommended_resources)
        .filter(|(resource, capabilities)| {
            capabilities.supports_operation(verbs::LIST) && resource.kind != "Event"
        })
        .map(|(resource, _)| of_kind(client, resource));
    let parts: Vec<_> = stream::iter(listed).buffer_unordered(PARALLEL).try_collect().await?;
    Ok(parts.into_iter().flatten().collect())
}

async fn of_kind(client: &Client, resource: ApiResource) -> anyhow::Result<Vec<(Name, Known)>> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let deadline = Instant::now() + patience(SERVED);
    let list = loop {
        match api.list_metadata(&ListParams::default()).await {
            // For a moment after its definition was made (429), or after its APIService was deleted (503).
            Err(kube::Error::Api(status))
                if [429, 503].contains(&status.code) && Instant::now() < deadline => {}
            // Withdrawn since discovery.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
            answer => break answer?,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let known = list.items.into_iter().map(|object| {
        let metadata = object.metadata;
        let name = Name {
            group: resource.group.clone(),
            kind: resource.kind.clone(),
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
        };
        let owners = metadata.owner_references.unwrap_or_default();
        let uid = metadata.uid.unwrap_or_default();
        (name, Known { uid, owners, resource: resource.clone() })
    });
    Ok(known.collect())
}

/// Does what the garbage collector does: deletes objects whose owners are all gone, until there is none. Returns what
/// is left.
pub async fn collect_garbage(client: &Client) -> anyhow::Result<BTreeMap<Name, Known>> {
    loop {
        let contents = of(client).await?;
        let exists = |owner: &OwnerReference| contents.values().any(|known| known.uid == owner.uid);
        let garbage: Vec<_> = contents
            .iter()
            .filter(|(_, known)| !known.owners.is_empty() && !known.owners.iter().any(exists))
            .collect();
        if garbage.is_empty() {
            return Ok(contents);
        }
        for (name, known) in garbage {
            delete(client, name, known).await?;
        }
    }
}

/// Deletes an object; one that is gone already is no error.
pub async fn delete(client: &Client, name: &Name, known: &Known) -> anyhow::Result<()> {
    let api: Api<DynamicObject> = if name.namespace.is_empty() {
        Api::all_with(client.clone(), &known.resource)
    } else {
        Api::namespaced_with(client.clone(), &name.namespace, &known.resource)
    };
    match api.delete(&name.name, &kube::api::DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        answer => Ok(answer.map(drop)?),
    }
}
