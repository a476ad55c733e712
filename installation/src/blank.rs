//! Making an object of which only the name is known.
//!
//! By server-side apply, so that an account needs the right to create this name and no other. What is applied is empty:
//! of several that make the object at once, or one that comes late, none takes anything from another. What goes into it
//! is written afterwards, over the very version that was read.

use std::fmt::Debug;

use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::FIELD_MANAGER;

/// Makes the object if it is not there, and returns it as it is.
pub(crate) async fn make<K>(api: &Api<K>, name: &str) -> kube::Result<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let kind = ApiResource::erase::<K>(&());
    let object = json!({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}});
    api.patch(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(object)).await
}
