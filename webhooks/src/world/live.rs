//! Consistent reads from the API server, for objects that a review needs and the watches have not delivered yet.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use gatehouse_policy::Subject;
use gatehouse_quota::GroupResource;
use http::{Request, header};
use kube::Client;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    object::{Held, MOST},
    observer,
    snapshot::{NamespaceInfo, Snapshot},
};

use crate::looks;

/// Reads single objects and lists, each with a time limit.
#[derive(Clone)]
pub struct Live {
    client: Client,
    patience: Duration,
}

/// Why a read failed. None of these means that the object does not exist.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// There was no answer within this time.
    #[error("timed out after {} ms", .0.as_millis())]
    Late(Duration),
    /// The version at which the resource is served is unknown.
    #[error("{0} is not served")]
    NotServed(GroupResource),
    /// The API server returned an error, or could not be reached.
    #[error("request to the API server failed")]
    Failed(#[source] Box<kube::Error>),
    /// The object cannot be read.
    #[error("cannot decode the object: {0}")]
    Unreadable(#[from] gatehouse_object::Fault),
    /// The request could not be built.
    #[error("not a name to ask for")]
    Name(#[source] http::Error),
}

/// Whether objects of a resource can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Countable {
    /// They can be counted.
    Yes,
    /// They are cluster-scoped.
    WithoutNamespace,
    /// They cannot be listed and watched.
    WithoutObjects,
}

impl Live {
    /// Reads with `client`, for at most `patience` each. The client may retry in that time.
    pub fn new(client: Client, patience: Duration) -> Self {
        Self { client, patience }
    }

    /// A namespace; `None` if it does not exist.
    pub async fn namespace(&self, name: &str) -> Result<Option<NamespaceInfo>, LiveError> {
        let Some(json) = self.get(&format!("/api/v1/namespaces/{}", encoded(name))).await? else {
            return Ok(None);
        };
        Ok(Some(observer::namespace(&json)?))
    }

    /// An object of a resource whose version `snapshot` knows; `None` if it does not exist. This is a consistent read:
    /// it returns the latest committed state.
    pub async fn object(
        &self,
        snapshot: &Snapshot,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, LiveError> {
        let version = snapshot.kinds.get(resource).and_then(|state| state.version());
        let version = version.ok_or_else(|| LiveError::NotServed(resource.clone()))?;
        self.object_at(resource, version, namespace, name).await
    }

    /// The same at a given version, which is that of the request under review.
    pub async fn object_at(
        &self,
        resource: &GroupResource,
        version: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, LiveError> {
        self.fields(&path_of(resource, version, namespace, name)).await
    }

    /// A page of a consistent list of all objects of a resource with these labels, with their metadata. `from` is the
    /// continue token of the previous page, or empty.
    pub async fn list(
        &self,
        resource: &GroupResource,
        version: &str,
        labels: Option<&str>,
        from: &str,
    ) -> Result<Page, LiveError> {
        let labels = labels.map(|labels| format!("&labelSelector={}", encoded(labels))).unwrap_or_default();
        let from = if from.is_empty() { String::new() } else { format!("&continue={}", encoded(from)) };
        let root = root(resource, version);
        let path = format!("{root}/{}?limit={PAGE}{labels}{from}", encoded(&resource.resource));
        let request = Request::get(path).header(header::ACCEPT, METADATA_ALONE);
        let request = request.body(Vec::new()).map_err(LiveError::Name)?;
        match timeout(self.patience.max(LIST), self.client.request::<List>(request)).await {
            Ok(Ok(list)) => Ok(list.into()),
            Ok(Err(error)) => Err(LiveError::Failed(Box::new(error))),
            Err(_) => Err(LiveError::Late(self.patience.max(LIST))),
        }
    }

    /// All fields that policies can use, of an object that is not kept whole; `None` if it does not exist any more.
    pub async fn whole(&self, snapshot: &Snapshot, held: &Held) -> Result<Option<Subject>, LiveError> {
        let Held { resource, key, kind: Some(kind), .. } = held else { return Ok(None) };
        let version = snapshot.kinds.get(resource).and_then(|state| state.version());
        let version = version.ok_or_else(|| LiveError::NotServed(resource.clone()))?;
        let Some(json) = self.get(&path_of(resource, version, &key.namespace, &key.name)).await? else {
            return Ok(None);
        };
        let subject = |value| Subject::new(*kind, &key.namespace, &key.name, value);
        match gatehouse_object::read(&json, &looks::WHOLE, MOST) {
            Ok(read) => Ok(Some(subject(read.value))),
            Err(fault) => {
                let fields = gatehouse_object::read(&json, &looks::FIELDS, MOST)?;
                Ok(Some(subject(fields.value).not_whole(fault.to_string())))
            }
        }
    }

    /// The fields that rules and quotas use, of the object at a path.
    async fn fields(&self, path: &str) -> Result<Option<Value>, LiveError> {
        let Some(json) = self.get(path).await? else { return Ok(None) };
        Ok(Some(gatehouse_object::read(&json, &looks::FIELDS, MOST)?.value))
    }

    /// Whether objects of a resource can be counted by namespace, from discovery; `None` if the resource is not served.
    pub async fn is_countable(&self, resource: &GroupResource) -> Result<Option<Countable>, LiveError> {
        #[derive(serde::Deserialize)]
        struct Served {
            name: String,
            namespaced: bool,
            verbs: Vec<String>,
        }
        let versions = if resource.group.is_empty() {
            "/api/v1".to_owned()
        } else {
            let path = format!("/apis/{}", encoded(&resource.group));
            let Some(group) = self.discovered(&path).await? else { return Ok(None) };
            let version = group["preferredVersion"]["version"].as_str().unwrap_or_default();
            format!("{path}/{}", encoded(version))
        };
        let Some(list) = self.discovered(&versions).await? else { return Ok(None) };
        let resources = list["resources"].as_array().into_iter().flatten();
        let mut read = resources.filter_map(|one| Served::deserialize(one).ok());
        let Some(served) = read.find(|served| *served.name == *resource.resource) else { return Ok(None) };
        let can = |verb: &str| served.verbs.iter().any(|known| known == verb);
        Ok(Some(if !served.namespaced {
            Countable::WithoutNamespace
        } else if !(can("list") && can("watch")) {
            Countable::WithoutObjects
        } else {
            Countable::Yes
        }))
    }

    async fn discovered(&self, path: &str) -> Result<Option<Value>, LiveError> {
        match self.get(path).await {
            // A path that is not served gets 404 without the reason NotFound.
            Err(LiveError::Failed(error)) if matches!(&*error, kube::Error::Api(status) if status.code == 404) => {
                Ok(None)
            }
            other => Ok(other?.and_then(|json| serde_json::from_str(&json).ok())),
        }
    }

    async fn get(&self, path: &str) -> Result<Option<String>, LiveError> {
        let request = Request::get(path).body(Vec::new()).map_err(LiveError::Name)?;
        match timeout(self.patience, self.client.request_text(request)).await {
            Ok(Ok(object)) => Ok(Some(object)),
            // A path that is not served gets 404 too, with another reason, and says nothing about the object.
            Ok(Err(kube::Error::Api(status))) if status.reason == "NotFound" => Ok(None),
            Ok(Err(error)) => Err(LiveError::Failed(Box::new(error))),
            Err(_) => Err(LiveError::Late(self.patience)),
        }
    }
}

fn path_of(resource: &GroupResource, version: &str, namespace: &str, name: &str) -> String {
    let root = root(resource, version);
    let scope = match namespace {
        "" => String::new(),
        namespace => format!("/namespaces/{}", encoded(namespace)),
    };
    format!("{root}{scope}/{}/{}", encoded(&resource.resource), encoded(name))
}

fn root(resource: &GroupResource, version: &str) -> String {
    match &*resource.group {
        "" => format!("/api/{}", encoded(version)),
        group => format!("/apis/{}/{}", encoded(group), encoded(version)),
    }
}

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    /// The resourceVersion of the list, which contains all earlier writes.
    pub revision: u64,
    /// The objects in this page.
    pub items: Vec<Listed>,
    /// The continue token for the next page, if there is one.
    pub next: Option<String>,
}

/// The metadata of an object in a list.
#[derive(Debug)]
pub struct Listed {
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub revision: u64,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
}

/// The number of objects in a page.
const PAGE: usize = 500;
/// The time limit of a page, unless `patience` is longer.
const LIST: Duration = Duration::from_secs(30);
/// Requests the metadata only.
const METADATA_ALONE: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMetadata,
    /// `null` in an empty PartialObjectMetadataList.
    items: Option<Vec<Item>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    r#continue: String,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    metadata: ItemMetadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ItemMetadata {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
    labels: BTreeMap<String, String>,
}

impl From<List> for Page {
    fn from(list: List) -> Self {
        // A resourceVersion that is not a number counts as not observed yet.
        let number = |text: &str| text.parse().unwrap_or(u64::MAX);
        let items = list.items.unwrap_or_default().into_iter().map(|Item { metadata }| {
            let ItemMetadata { namespace, name, uid, resource_version, labels } = metadata;
            Listed { namespace, name, uid, revision: number(&resource_version), labels }
        });
        let next = Some(list.metadata.r#continue).filter(|next| !next.is_empty());
        Self { revision: number(&list.metadata.resource_version), items: items.collect(), next }
    }
}

/// Percent-encodes a segment of a path. Names come from requests that kube-apiserver has validated; even so, a slash or
/// question mark must not change the path.
fn encoded(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => text.push(char::from(byte)),
            // A segment of dots alone would change the path.
            b'.' if !matches!(segment, "." | "..") => text.push('.'),
            _ => {
                // Writing to a `String` cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}
