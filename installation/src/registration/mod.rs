//! The objects that lead here, kept right: that they are there, and trust the bundle of the moment.
//!
//! Looked at every few seconds by whoever leads, rather than watched: a look tells how things are now, which is what a
//! rotation has to know, and a watch only until it breaks unnoticed. An object that is right is not written. Nothing is
//! removed, at the end least of all: other replicas go on.

mod fields;
mod wanted;

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Client, Resource, core::GroupVersionKind};
use serde_json::{Value, json};
use tokio::sync::Notify;

use self::wanted::{Wanted, bundles, wanted};
use crate::FIELD_MANAGER;
use crate::error::{KeepError, limited};
use crate::metrics::Metrics;

/// Makes the objects whole, for a bundle (PEM).
pub type Make = Box<dyn Fn(&str) -> Vec<Value> + Send + Sync>;

/// The objects that lead to one Service.
pub struct Registration {
    client: Client,
    make: Make,
    follows: Vec<Value>,
    owner: String,
    applied: Arc<Notify>,
}

/// What was read a moment ago; nothing, if it is not there.
type Read<T> = Result<Option<T>, KeepError>;

/// The objects as they were a moment ago, as far as they could be read.
pub(crate) struct Look {
    objects: Vec<Registered>,
    followers: Vec<(String, Read<Value>)>,
    owner: Read<OwnerReference>,
}

/// What mending came to.
#[derive(Default)]
pub(crate) struct Mended {
    /// Whether to look again soon: something was applied, or could not be.
    pub(crate) look_soon: bool,
    /// What could not be read or applied.
    pub(crate) troubles: Vec<KeepError>,
}

struct Registered {
    /// Kind and name.
    what: String,
    full: Value,
    live: Read<Value>,
}

impl Registration {
    /// Keeps what `make` makes. What is not installed otherwise goes with the ClusterRole `owner`.
    pub fn new(client: Client, owner: &str, make: Make) -> Self {
        Self { client, make, follows: Vec::new(), owner: owner.to_owned(), applied: Arc::default() }
    }

    /// An object that somebody else makes trust what these trust, once `applied` says that they have changed; if it is
    /// there at all.
    #[must_use]
    pub fn with_follower(mut self, api_version: &str, kind: &str, name: &str, applied: Arc<Notify>) -> Self {
        self.follows.push(json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}));
        Self { applied, ..self }
    }

    /// Looks at all of them. One that cannot be read keeps nothing from the others.
    pub(crate) async fn look(&self, bundle: &str) -> Look {
        let mut objects = Vec::new();
        for full in (self.make)(bundle) {
            let what = name_of(&full);
            let live = self.read(&what, &full).await;
            objects.push(Registered { what, full, live });
        }
        let mut followers = Vec::new();
        for follower in &self.follows {
            let what = name_of(follower);
            let live = self.read(&what, follower).await;
            followers.push((what, live));
        }
        Look { objects, followers, owner: self.owner().await }
    }

    /// Applies what is missing or wrong, wherever that can be done.
    pub(crate) async fn mend(&self, look: Look, bundle: &str, metrics: &Metrics) -> Mended {
        let Look { objects, followers, owner } = look;
        let mut mended = Mended::default();
        for (what, live) in followers {
            match live {
                Ok(Some(live)) => {
                    let trusts = decoded(&live, &live).iter().all(|found| found == bundle.as_bytes());
                    metrics.in_sync(&what, trusts);
                }
                // Nobody's concern: there may be no need for it.
                Ok(None) => {}
                Err(error) => {
                    metrics.in_sync(&what, false);
                    mended.troubles.push(error);
                }
            }
        }
        // Whether what an object says of its owner is right cannot be told without knowing the owner.
        let owner = match owner {
            Ok(owner) => owner,
            Err(error) => {
                mended.look_soon = true;
                mended.troubles.push(error);
                return mended;
            }
        };
        for object in objects {
            match self.mend_one(object, owner.as_ref(), metrics, &mut mended.troubles).await {
                Ok(false) => {}
                Ok(true) => {
                    mended.look_soon = true;
                    self.applied.notify_one();
                }
                Err(error) => {
                    mended.look_soon = true;
                    mended.troubles.push(error);
                }
            }
        }
        mended
    }

    /// Applies one of them, if it is missing or wrong. Says whether it was.
    async fn mend_one(
        &self,
        object: Registered,
        owner: Option<&OwnerReference>,
        metrics: &Metrics,
        troubles: &mut Vec<KeepError>,
    ) -> Result<bool, KeepError> {
        let Registered { what, full, live } = object;
        let live = live.inspect_err(|_| metrics.in_sync(&what, false))?;
        let Wanted { apply, missing } = wanted(live.as_ref(), &full, owner);
        let is_there = live.is_some();
        metrics.in_sync(&what, is_there && apply.is_none() && missing.is_empty());
        if !missing.is_empty() {
            troubles.push(KeepError::Incomplete { what: what.clone(), webhooks: missing });
        }
        let Some(mut apply) = apply else {
            return if is_there {
                Ok(false)
            } else {
                Err(KeepError::NoOwner { what, owner: self.owner.clone() })
            };
        };
        if let Some(live) = live {
            // What changed since it was looked at is looked at again first.
            apply["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
        }
        let (api, name) = self.api(&full);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        limited(&what, api.patch(name, &params, &Patch::Apply(&apply))).await?;
        tracing::info!(object = what, made = !is_there, "registration applied");
        Ok(true)
    }

    async fn read(&self, what: &str, object: &Value) -> Read<Value> {
        let (api, name) = self.api(object);
        let live = limited(what, api.get_opt(name)).await?;
        live.map(|live| serde_json::to_value(live).map_err(kube::Error::SerdeError))
            .transpose()
            .map_err(|source| KeepError::Request { what: what.to_owned(), source: Box::new(source) })
    }

    async fn owner(&self) -> Read<OwnerReference> {
        let what = format!("ClusterRole/{}", self.owner);
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        let owner = limited(&what, api.get_metadata_opt(&self.owner)).await?;
        // As metadata alone, it would say that it is that.
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

impl Look {
    /// The bundle that each of them trusts, and an empty one for what is not there, or cannot be read: nothing is known
    /// of whom that trusts.
    pub(crate) fn bundles(&self) -> Vec<Vec<u8>> {
        let objects = self.objects.iter().flat_map(|object| match &object.live {
            Ok(Some(live)) => decoded(live, &object.full),
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

/// What is no base64 is no bundle.
fn decoded(live: &Value, full: &Value) -> Vec<Vec<u8>> {
    let decode = |text: &str| serde_json::from_value::<ByteString>(text.into()).map(|bytes| bytes.0);
    bundles(live, full).into_iter().map(|text| decode(text).unwrap_or_default()).collect()
}

fn name_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}
