//! Creates an object that has a name and no content.
//!
//! Server-side apply is authorized as `patch` and `create` of this one name, while a POST needs `create` for every
//! name. The applied object is empty, so replicas that create it at the same time, or late, overwrite nothing of each
//! other. The caller then writes the content with the `resourceVersion` that it got.

use std::fmt::Debug;

use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::FIELD_MANAGER;

/// Creates the object if it does not exist, and returns its current state.
pub(crate) async fn get_or_create<K>(api: &Api<K>, name: &str) -> kube::Result<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let kind = ApiResource::erase::<K>(&());
    let object = json!({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}});
    api.patch(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(object)).await
}
