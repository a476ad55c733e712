//! Objects of the cluster as they are, for a user who may read them.
//!
//! **Invariant:** nobody learns of an object that he may not `get`. What he or Gatehouse may not read, and what is not
//! read in time, is as if it did not exist: it is charged as new.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use gatehouse_apiservice::UserInfo;
use gatehouse_inventory::Str;
use gatehouse_quota::GroupResource;
use gatehouse_serving::authz::{Access, Authorizer, Target};
use http::Request;
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::objects::Asked;

/// How long all reads of a request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many reads of a request, and of all requests, are waited for at once.
const OF_REQUEST: usize = 4;
const AT_ONCE: usize = 16;

/// See the module.
pub(crate) struct Existing {
    client: kube::Client,
    access: Access,
    /// The name of the cluster that is read.
    pub(super) cluster: Str,
    turns: Semaphore,
}

impl Existing {
    pub(crate) fn new(client: kube::Client, authorizer: Arc<Authorizer>, cluster: Str) -> Self {
        Self { client, access: Access::new(authorizer), cluster, turns: Semaphore::new(AT_ONCE) }
    }

    /// Those of `asked` that exist, by their numbers.
    pub(super) async fn find(
        &self,
        user: &UserInfo,
        asked: impl Iterator<Item = (usize, &Asked)>,
    ) -> HashMap<usize, Value> {
        let end = Instant::now() + PATIENCE;
        let unreadable = Mutex::default();
        let unreadable = &unreadable;
        // Collected, since the compiler takes the closure for one of a single lifetime.
        let reads: Vec<_> = asked
            .map(|(index, asked)| async move { Some((index, self.read(user, asked, unreadable).await?)) })
            .collect();
        let mut reads = stream::iter(reads).buffer_unordered(OF_REQUEST);
        let mut found = HashMap::new();
        while let Ok(Some(read)) = timeout_at(end, reads.next()).await {
            found.extend(read);
        }
        found
    }

    async fn read(
        &self,
        user: &UserInfo,
        asked: &Asked,
        unreadable: &Mutex<HashSet<GroupResource>>,
    ) -> Option<Value> {
        let path = path(asked)?;
        let unreadable = || unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if unreadable().contains(&asked.resource) {
            return None;
        }
        let Asked { resource: GroupResource { group, resource }, version, namespace, name, .. } = asked;
        // About all names, so that one review answers for all objects of a kind.
        let target = Target { group, version, resource, subresource: "", namespace, name: "" };
        self.access.check(user, "get", target).await.ok()?;
        let _turn = self.turns.acquire().await;
        // Gatehouse's account may list what it shows, and get nothing.
        let request = Request::get(path).body(Vec::new()).ok()?;
        let mut list = match self.client.request::<Value>(request).await {
            Ok(list) => list,
            Err(error) => {
                if matches!(&error, kube::Error::Api(status) if matches!(status.code, 403 | 404)) {
                    unreadable().insert(asked.resource.clone());
                }
                tracing::debug!(%error, resource = %asked.resource, "cannot read an object, which counts as new");
                return None;
            }
        };
        let object = list.get_mut("items")?.get_mut(0)?.take();
        (object.pointer("/metadata/name")? == name.as_str()).then_some(object)
    }
}

/// The path of a list of this object alone; `None` if it has no name, or one that no object of a charged kind has.
fn path(asked: &Asked) -> Option<String> {
    let Asked { resource: GroupResource { group, resource }, version, namespace, name, .. } = asked;
    let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
    let is_valid = [version, namespace, name].into_iter().all(|text| is_segment(text))
        && is_segment(resource)
        && (group.is_empty() || is_segment(group));
    is_valid.then(|| {
        format!(
            "{root}/{version}/namespaces/{namespace}/{resource}?fieldSelector=metadata.name%3D{name}&limit=1"
        )
    })
}

/// Whether a text is one segment of a path as it is. It comes from a body.
fn is_segment(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    text.bytes().all(is_plain) && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use gatehouse_fake_api::Reviews;
    use gatehouse_serving::{authz::DelegatedAuthorizer, metrics::RequestMetrics};
    use http::{Response, StatusCode};
    use kube::client::Body;
    use serde_json::json;

    use super::{super::objects::Objects, *};

    /// A cluster with the fleet `a` in every namespace, in which Secrets cannot be read; and what it was asked.
    fn cluster() -> (kube::Client, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().to_string();
            let (code, body) = if path.contains("secrets") {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
                    "reason": "Forbidden", "message": "no"});
                (StatusCode::FORBIDDEN, status)
            } else if path.contains("metadata.name%3Da&") {
                (StatusCode::OK, json!({"items": [{"metadata": {"name": "a"}, "spec": {"replicas": 2}}]}))
            } else {
                (StatusCode::OK, json!({"items": []}))
            };
            log.lock().unwrap().push(path);
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(response.expect("response")) }
        });
        (kube::Client::new(service, "default"), asked)
    }

    /// The numbers of the objects that are found for somebody who may get fleets, and Secrets, in `eu`.
    async fn found(objects: &[Value]) -> (Vec<usize>, Vec<String>) {
        let (_, reviews) = Reviews::deciding(|spec| {
            let asked = &spec["resourceAttributes"];
            asked["verb"] == "get" && asked["namespace"] == "eu" && asked["resource"] != "gameservers"
        });
        let metrics = Arc::new(RequestMetrics::new(&[]));
        let authorizer = DelegatedAuthorizer::new(reviews, DelegatedAuthorizer::DEADLINE, metrics);
        let (client, asked) = cluster();
        let existing = Existing::new(client, Arc::new(authorizer.into()), "local".into());
        let objects = Objects::read("", json!({"items": objects})).unwrap();
        let user = UserInfo { name: "jane".to_owned(), ..UserInfo::default() };
        let found = existing.find(&user, objects.all.iter().enumerate()).await;
        let mut numbers: Vec<_> = found.into_keys().collect();
        numbers.sort_unstable();
        let asked = asked.lock().unwrap().clone();
        (numbers, asked)
    }

    fn object(api_version: &str, kind: &str, namespace: &str, name: &str) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"namespace": namespace, "name": name}})
    }

    #[tokio::test]
    async fn what_a_user_may_read_is_found() {
        let fleet = |namespace, name| object("agones.dev/v1", "Fleet", namespace, name);
        let server = object("agones.dev/v1", "GameServer", "eu", "a");
        let (numbers, asked) = found(&[fleet("eu", "a"), fleet("eu", "b"), fleet("us", "a"), server]).await;
        assert_eq!(numbers, [0]);
        let path = "/apis/agones.dev/v1/namespaces/eu/fleets?fieldSelector=metadata.name%3Da&limit=1";
        assert!(asked.len() == 2 && asked.contains(&path.to_owned()), "{asked:?}");
    }

    #[tokio::test]
    async fn what_gatehouse_may_not_read_is_not_asked_for_again_and_again() {
        let secrets: Vec<_> =
            (0..100).map(|number| object("v1", "Secret", "eu", &format!("s{number}"))).collect();
        let (numbers, asked) = found(&secrets).await;
        assert!(numbers.is_empty() && asked.len() <= OF_REQUEST, "{asked:?}");
    }

    #[tokio::test]
    async fn no_text_of_a_body_changes_a_path() {
        let (numbers, asked) = found(&[
            object("agones.dev/v1", "Fleet", "eu", "a&limit=9"),
            object("agones.dev/v1", "Fleet", "eu", "a,metadata.namespace=us"),
            object("agones.dev/v1/../../../api/v1", "Fleet", "eu", "a"),
            object("agones.dev/v1", "Fleet/../pods", "eu", "a"),
            object("agones.dev/v1", "Fleet?", "eu", "a"),
            object("agones.dev/v1", "Fleet", "eu", "..%2fa"),
            object("..", "Fleet", "eu", "a"),
            object("v1", "Fleet", "eu", ""),
        ])
        .await;
        assert_eq!((numbers, asked), (vec![], vec![]));
    }
}
