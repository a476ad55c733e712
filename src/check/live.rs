//! Reads from a live cluster what `gatehouse check --cluster` adds to the files.

use std::collections::BTreeSet;

use gatehouse_check::{Live, LiveObject};
use gatehouse_policy::GOVERNED;
use gatehouse_quota::Dimension;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersion,
    discovery::{self, Scope},
    error::DiscoveryError,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// As many objects as kube-apiserver answers at once without much ado.
const PAGE: u32 = 500;

/// Kinds that quotas are charged for beside the governed ones, or that such charges depend on: groups and resources.
const CHARGED: [(&str, &str); 3] =
    [("pteronimbus.io", "gameservers"), ("pteronimbus.io", "gametemplates"), RUNTIME_CLASSES];
/// Cluster-scoped, as no other of these.
const RUNTIME_CLASSES: (&str, &str) = ("node.k8s.io", "runtimeclasses");

/// Asks a cluster. What it does not serve is not there; what may not be read is an error, because a check that
/// leaves it out would say less than it seems to.
pub(super) async fn fetch(client: &Client) -> kube::Result<Live> {
    let namespaces: Vec<Namespace> = all(&Api::all(client.clone())).await?;
    let mut live = Live {
        asked: true,
        policies: all(&Api::all(client.clone())).await?,
        quotas: all(&Api::all(client.clone())).await?,
        ..Live::default()
    };
    for namespace in namespaces {
        live.namespaces.insert(namespace.name_any(), namespace.labels().clone());
        live.annotations.insert(namespace.name_any(), namespace.annotations().clone());
    }
    for of in live.policies.iter().filter_map(|policy| policy.spec.param_ref.clone()) {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &of.namespace);
        if let Some(map) = api.get_opt(&of.name).await? {
            let value = serde_json::to_value(map).unwrap_or_default();
            live.config_maps.insert((of.namespace, of.name), value);
        }
    }
    let mut wanted: BTreeSet<(String, String)> = GOVERNED
        .iter()
        .map(|kind| (kind.group(), kind.resource()))
        .chain(CHARGED)
        .map(|(group, resource)| (group.to_owned(), resource.to_owned()))
        .collect();
    for key in live.quotas.iter().flat_map(|quota| quota.spec.hard.keys()) {
        let dimension = key.parse::<Dimension>().ok();
        if let Some(counted) = dimension.as_ref().and_then(Dimension::counted) {
            wanted.insert((counted.group.to_string(), counted.resource.to_string()));
        }
    }
    let groups: BTreeSet<&str> = wanted.iter().map(|(group, _)| group.as_str()).collect();
    for group in groups {
        let served = match group {
            "" => discovery::pinned_group(client, &GroupVersion::gv("", "v1")).await,
            group => discovery::group(client, group).await,
        };
        let served = match served {
            Ok(served) => served,
            Err(kube::Error::Discovery(DiscoveryError::MissingApiGroup(_))) => continue,
            Err(error) => return Err(error),
        };
        for (resource, capabilities) in served.recommended_resources() {
            let key = (resource.group.clone(), resource.kind.clone());
            live.resources.insert(key, resource.plural.clone());
            let asked = wanted.contains(&(resource.group.clone(), resource.plural.clone()));
            let is_namespaced = capabilities.scope == Scope::Namespaced;
            if asked && (is_namespaced || (&*resource.group, &*resource.plural) == RUNTIME_CLASSES) {
                list(&mut live, client, &resource).await?;
            }
        }
    }
    Ok(live)
}

async fn list(live: &mut Live, client: &Client, resource: &ApiResource) -> kube::Result<()> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    // Of a core kind only the number counts, and the content of a Secret is nobody's business.
    let objects: Vec<DynamicObject> = if resource.group.is_empty() {
        let parameters = ListParams::default();
        let listed = api.list_metadata(&parameters).await?.items.into_iter();
        listed
            .map(|object| DynamicObject { types: None, metadata: object.metadata, data: Value::Null })
            .collect()
    } else {
        all(&api).await?
    };
    live.objects.extend(objects.into_iter().map(|object| LiveObject {
        group: resource.group.clone(),
        kind: resource.kind.clone(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        value: serde_json::to_value(object).unwrap_or_default(),
    }));
    Ok(())
}

/// All objects of a kind, page by page; none, if it is not served.
async fn all<K>(api: &Api<K>) -> kube::Result<Vec<K>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut objects = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list(&parameters).await {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(objects),
            Err(error) => return Err(error),
        };
        objects.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(objects),
        }
    }
}
