//! Keeps the APIService or the webhook configurations of a server in place, with the current CA bundle.
//!
//! The leader reads them every few seconds instead of watching: a rotation depends on the current state, and a watch
//! may break unnoticed. It writes an object only if something in it is wrong. It deletes nothing, not even on shutdown,
//! since other replicas go on serving.

mod apply_plan;
mod fields;

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Client, Resource, core::GroupVersionKind};
use serde_json::{Value, json};
use tokio::sync::Notify;

use self::apply_plan::{ApplyPlan, bundles, plan_apply};
use crate::FIELD_MANAGER;
use crate::error::{ReconcileError, with_timeout};
use crate::metrics::Metrics;

/// Builds the complete objects, as JSON, for a CA bundle (PEM).
pub type BuildObjects = Box<dyn Fn(&str) -> Vec<Value> + Send + Sync>;

/// The objects by which kube-apiserver finds one Service.
pub struct Registration {
    client: Client,
    build: BuildObjects,
    followed: Vec<Value>,
    owner: String,
    applied: Arc<Notify>,
}

/// An object as it was read; `None` if it does not exist.
type ReadResult<T> = Result<Option<T>, ReconcileError>;

/// The objects as they were read at the start of a round.
pub(crate) struct ObservedObjects {
    objects: Vec<ObservedObject>,
    followers: Vec<(String, ReadResult<Value>)>,
    owner: ReadResult<OwnerReference>,
}

/// The outcome of [`Registration::reconcile`].
#[derive(Default)]
pub(crate) struct ReconcileResult {
    /// Whether the next round should come soon: something was applied, or could not be.
    pub(crate) requeue_soon: bool,
    /// What could not be read or applied, and webhooks that are missing.
    pub(crate) errors: Vec<ReconcileError>,
}

struct ObservedObject {
    /// Kind and name.
    what: String,
    desired: Value,
    live: ReadResult<Value>,
}

impl Registration {
    /// Maintains the objects that `build` returns. Those that no other manager installed are owned by the ClusterRole
    /// `owner`, and are garbage-collected with it.
    pub fn new(client: Client, owner: &str, build: BuildObjects) -> Self {
        Self { client, build, followed: Vec::new(), owner: owner.to_owned(), applied: Arc::default() }
    }

    /// Adds an object that another component maintains with the same bundle; it need not exist. Its bundle counts as
    /// published too, and is only read here. `applied` notifies that component after each change of these objects.
    #[must_use]
    pub fn with_follower(mut self, api_version: &str, kind: &str, name: &str, applied: Arc<Notify>) -> Self {
        self.followed.push(json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}));
        Self { applied, ..self }
    }

    /// Reads all objects, even if some of them cannot be read.
    pub(crate) async fn observe(&self, bundle: &str) -> ObservedObjects {
        let mut objects = Vec::new();
        for desired in (self.build)(bundle) {
            let what = name_of(&desired);
            let live = self.read(&what, &desired).await;
            objects.push(ObservedObject { what, desired, live });
        }
        let mut followers = Vec::new();
        for follower in &self.followed {
            let what = name_of(follower);
            let live = self.read(&what, follower).await;
            followers.push((what, live));
        }
        ObservedObjects { objects, followers, owner: self.owner().await }
    }

    /// Applies each object that is missing or wrong, even if others fail.
    pub(crate) async fn reconcile(
        &self,
        observed: ObservedObjects,
        bundle: &str,
        metrics: &Metrics,
    ) -> ReconcileResult {
        let ObservedObjects { objects, followers, owner } = observed;
        let mut result = ReconcileResult::default();
        for (what, live) in followers {
            match live {
                Ok(Some(live)) => {
                    let trusts = decoded(&live, &live).iter().all(|found| found == bundle.as_bytes());
                    metrics.set_in_sync(&what, trusts);
                }
                // Its component creates it only when it is needed.
                Ok(None) => {}
                Err(error) => {
                    metrics.set_in_sync(&what, false);
                    result.errors.push(error);
                }
            }
        }
        // Without the owner's UID it is unknown whether the owner references are right.
        let owner = match owner {
            Ok(owner) => owner,
            Err(error) => {
                result.requeue_soon = true;
                result.errors.push(error);
                return result;
            }
        };
        for object in objects {
            match self.reconcile_object(object, owner.as_ref(), metrics, &mut result.errors).await {
                Ok(false) => {}
                Ok(true) => {
                    result.requeue_soon = true;
                    self.applied.notify_one();
                }
                Err(error) => {
                    result.requeue_soon = true;
                    result.errors.push(error);
                }
            }
        }
        result
    }

    /// Applies one object if it is missing or wrong. Returns whether it did.
    async fn reconcile_object(
        &self,
        object: ObservedObject,
        owner: Option<&OwnerReference>,
        metrics: &Metrics,
        errors: &mut Vec<ReconcileError>,
    ) -> Result<bool, ReconcileError> {
        let ObservedObject { what, desired, live } = object;
        let live = live.inspect_err(|_| metrics.set_in_sync(&what, false))?;
        let ApplyPlan { apply, missing } = plan_apply(live.as_ref(), &desired, owner);
        let exists = live.is_some();
        metrics.set_in_sync(&what, exists && apply.is_none() && missing.is_empty());
        if !missing.is_empty() {
            errors.push(ReconcileError::Incomplete { what: what.clone(), webhooks: missing });
        }
        let Some(mut apply) = apply else {
            return if exists {
                Ok(false)
            } else {
                Err(ReconcileError::NoOwner { what, owner: self.owner.clone() })
            };
        };
        if let Some(live) = live {
            // If the object has changed since it was read, the apply conflicts, and the next round reads it again.
            apply["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
        }
        let (api, name) = self.api(&desired);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        with_timeout(&what, api.patch(name, &params, &Patch::Apply(&apply))).await?;
        tracing::info!(object = what, made = !exists, "registration applied");
        Ok(true)
    }

    async fn read(&self, what: &str, object: &Value) -> ReadResult<Value> {
        let (api, name) = self.api(object);
        let live = with_timeout(what, api.get_opt(name)).await?;
        live.map(|live| serde_json::to_value(live).map_err(kube::Error::SerdeError))
            .transpose()
            .map_err(|source| ReconcileError::Request { what: what.to_owned(), source: Box::new(source) })
    }

    async fn owner(&self) -> ReadResult<OwnerReference> {
        let what = format!("ClusterRole/{}", self.owner);
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        let owner = with_timeout(&what, api.get_metadata_opt(&self.owner)).await?;
        // `owner_ref` of the partial object would name the kind PartialObjectMetadata.
        Ok(owner.and_then(|owner| {
            let role = ClusterRole { metadata: owner.metadata, ..ClusterRole::default() };
            role.owner_ref(&())
        }))
    }

    fn api<'a>(&self, object: &'a Value) -> (Api<DynamicObject>, &'a str) {
        let text = |value: &'a Value| value.as_str().unwrap_or_default();
        let (group, version) = text(&object["apiVersion"]).split_once('/').unwrap_or_default();
        let kind = GroupVersionKind::gvk(group, version, text(&object["kind"]));
        let api = Api::all_with(self.client.clone(), &ApiResource::from_gvk(&kind));
        (api, text(&object["metadata"]["name"]))
    }
}

impl ObservedObjects {
    /// The bundle in each object, PEM; empty for an object that is missing or cannot be read, since nothing is known
    /// about what kube-apiserver trusts there. A follower that does not exist is left out.
    pub(crate) fn bundles(&self) -> Vec<Vec<u8>> {
        let objects = self.objects.iter().flat_map(|object| match &object.live {
            Ok(Some(live)) => decoded(live, &object.desired),
            Ok(None) | Err(_) => vec![Vec::new()],
        });
        let followers = self.followers.iter().flat_map(|(_, live)| match live {
            Ok(Some(live)) => decoded(live, live),
            Ok(None) => Vec::new(),
            Err(_) => vec![Vec::new()],
        });
        objects.chain(followers).collect()
    }
}

/// Bundles that are not valid base64 count as empty.
fn decoded(live: &Value, desired: &Value) -> Vec<Vec<u8>> {
    let decode = |text: &str| serde_json::from_value::<ByteString>(text.into()).map(|bytes| bytes.0);
    bundles(live, desired).into_iter().map(|text| decode(text).unwrap_or_default()).collect()
}

fn name_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}
