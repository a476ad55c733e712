//! A remote cluster that an action is carried out on, as the user who asks.
//!
//! If the cluster serves the subresource itself, the request is handed on to it; else the object is patched. In both
//! ways that cluster's own RBAC, policies and audit log see the user.
//!
//! **Invariant:** Gatehouse changes nothing there by itself: every request but discovery impersonates a requester. Only
//! [Events](super::remote_events) about what was done are created by its own account.
//!
//! **Invariant:** each answer is bounded in time and size, and every error names the cluster.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use gatehouse_apiservice::{FIELD_MANAGER, action::SUBRESOURCES, client::explain, view::API_VERSION};
use gatehouse_inventory::Str;
use gatehouse_serving::ApiError;
use http::{Request, StatusCode, header, request::Builder};
use http_body_util::{BodyExt, Limited};
use kube::{client::Body, core::Status};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{
    cluster::{Call, Cluster, Handed, PATIENCE, patching, with_audit_id},
    impersonation,
};

/// How long the cluster may take to show something. For a write it has [`PATIENCE`].
const TO_SHOW: Duration = Duration::from_secs(10);
/// The most bytes of an answer. An object has at most 3 MiB where etcd was configured so.
const LONGEST_ANSWER: usize = 8 << 20;
/// How long it is known what a cluster serves.
const KNOWN: Duration = Duration::from_secs(10);
const JSON: &str = "application/json";

/// The subresources that a Gatehouse serves, as `fluxresources/reconcile`.
type Served = Arc<BTreeSet<String>>;
/// What was found when, by the names of clusters.
type Found = HashMap<Str, (Instant, Served)>;

/// What the Gatehouses of remote clusters serve, as it was found lately.
#[derive(Debug, Default)]
pub(super) struct Discovered(Mutex<Found>);

impl Discovered {
    fn of(&self, cluster: &Str) -> Option<Served> {
        let known = self.known();
        let (at, served) = known.get(cluster)?;
        (at.elapsed() < KNOWN).then(|| Arc::clone(served))
    }

    fn is(&self, cluster: &Str, served: BTreeSet<String>) -> Served {
        let served = Arc::new(served);
        self.known().insert(cluster.clone(), (Instant::now(), Arc::clone(&served)));
        served
    }

    fn forget(&self, cluster: &Str) {
        self.known().remove(cluster);
    }

    fn known(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(super) struct RemoteCluster {
    name: Str,
    client: kube::Client,
    discovered: Arc<Discovered>,
}

/// Why there is no object.
enum Failure {
    /// No answer that can be understood.
    Unavailable(ApiError),
    /// The cluster's own words.
    Refused(Box<Status>),
}

impl RemoteCluster {
    /// `client` must not retry.
    pub(super) fn new(name: Str, client: kube::Client, discovered: Arc<Discovered>) -> Self {
        Self { name, client, discovered }
    }

    /// Whether the cluster's Gatehouse serves a subresource.
    async fn serves(&self, subresource: &str) -> Result<bool, ApiError> {
        if let Some(known) = self.discovered.of(&self.name) {
            return Ok(known.contains(subresource));
        }
        let found =
            match self.exchange(Request::get(format!("/apis/{API_VERSION}")), Vec::new(), TO_SHOW).await {
                Ok(found) => found,
                Err(Failure::Refused(status)) if status.code == StatusCode::NOT_FOUND.as_u16() => Value::Null,
                Err(failure) => return Err(self.told(failure)),
            };
        let names = found["resources"].as_array().into_iter().flatten();
        let names: BTreeSet<&str> = names.filter_map(|resource| resource["name"].as_str()).collect();
        let served = SUBRESOURCES.iter().map(|known| format!("{}/{}", known.resource.plural, known.name));
        let served = served.filter(|name| names.contains(&**name)).collect();
        Ok(self.discovered.is(&self.name, served).contains(subresource))
    }

    /// Asks as the user.
    async fn ask(
        &self,
        mut request: Builder,
        body: Vec<u8>,
        call: &Call,
        patience: Duration,
    ) -> Result<Value, Failure> {
        let requester = call.requester.as_ref().ok_or_else(|| {
            Failure::Unavailable(ApiError::internal("nothing is done in another cluster without a user"))
        })?;
        let impersonated = impersonation::headers(requester).map_err(Failure::Unavailable)?;
        for (name, value) in &impersonated {
            request = request.header(name, value);
        }
        self.exchange(with_audit_id(request, call), body, patience).await
    }

    async fn exchange(&self, request: Builder, body: Vec<u8>, patience: Duration) -> Result<Value, Failure> {
        let silent = |why: &str| Failure::Unavailable(self.unavailable(why));
        let request = request.header(header::ACCEPT, JSON).body(Body::from(body));
        let request = request.map_err(|error| Failure::Unavailable(ApiError::internal(error)))?;
        let asked = async {
            let response = self.client.send(request).await.map_err(|error| silent(&explain(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await;
            let body = body.map_err(|error| silent(&format!("its answer cannot be read: {error}")))?;
            Ok((head.status, body.to_bytes()))
        };
        let answer = timeout(patience, asked).await;
        let (code, bytes) = answer.unwrap_or_else(|_| Err(silent("it did not answer in time")))?;
        if code.is_success() {
            let object = serde_json::from_slice(&bytes);
            return object.map_err(|error| silent(&format!("its answer cannot be read: {error}")));
        }
        if code == StatusCode::UNAUTHORIZED {
            return Err(silent("it refuses the credential that it is registered with"));
        }
        let document: Option<Value> =
            serde_json::from_slice(&bytes).ok().filter(|it: &Value| it["kind"] == "Status");
        match document.and_then(|document| serde_json::from_value::<Status>(document).ok()) {
            Some(status) => Err(Failure::Refused(Status { code: code.as_u16(), ..status }.boxed())),
            // kube-apiserver says so in plain text of a path that nothing serves.
            None if code == StatusCode::NOT_FOUND => {
                let (reason, message) = ("NotFound".to_owned(), "the path is not served".to_owned());
                let status = Status { code: code.as_u16(), reason, message, ..Status::default() };
                Err(Failure::Refused(status.boxed()))
            }
            None => Err(silent(&format!("it answered {code}"))),
        }
    }

    async fn hand_on_as_user(&self, request: &Handed<'_>, call: &Call) -> Result<Option<Value>, ApiError> {
        let Handed { subresource, .. } = request;
        if !self.serves(&format!("{}/{}", subresource.resource.plural, subresource.name)).await? {
            return Ok(None);
        }
        let patience = if request.body.is_some() { PATIENCE } else { TO_SHOW };
        let (media_type, body) = request.body.clone().unwrap_or((JSON.to_owned(), Vec::new()));
        let asked = Request::builder()
            .method(request.method.clone())
            .uri(request.path(call))
            .header(header::CONTENT_TYPE, media_type);
        match self.ask(asked, body, call, patience).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Failure::Refused(status)) if is_not_served(&status) => {
                self.discovered.forget(&self.name);
                Err(self.unavailable("its Gatehouse acts no longer"))
            }
            Err(failure) => Err(self.told(failure)),
        }
    }

    /// The answer to the requester.
    fn told(&self, failure: Failure) -> ApiError {
        match failure {
            Failure::Unavailable(error) => error,
            Failure::Refused(status) => ApiError::relayed(&status).in_cluster(&self.name),
        }
    }

    fn unavailable(&self, why: &str) -> ApiError {
        unavailable(&self.name, why)
    }
}

/// 503 of a cluster that cannot be asked, or does not answer.
pub(super) fn unavailable(cluster: &str, why: &str) -> ApiError {
    ApiError::unavailable(format!("cluster {cluster}: {why}; nothing is known to be done, try again"))
}

/// Whether a path is not served, rather than an object not there.
fn is_not_served(status: &Status) -> bool {
    status.code == StatusCode::NOT_FOUND.as_u16()
        && status.details.as_ref().is_none_or(|details| details.name.is_empty())
}

impl Cluster for RemoteCluster {
    fn get<'a>(&'a self, path: &'a str, call: &'a Call) -> BoxFuture<'a, Result<Value, ApiError>> {
        async move {
            let shown = self.ask(Request::get(path), Vec::new(), call, TO_SHOW).await;
            shown.map_err(|failure| self.told(failure))
        }
        .boxed()
    }

    fn patch<'a>(
        &'a self,
        path: &'a str,
        change: &'a Value,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Value, ApiError>> {
        async move {
            let body = change.to_string().into_bytes();
            // The user writes, and may say by which client.
            let manager = call.field_manager.as_deref().unwrap_or(FIELD_MANAGER);
            let patched = self.ask(patching(path, manager, call), body, call, PATIENCE).await;
            patched.map_err(|failure| self.told(failure))
        }
        .boxed()
    }

    fn hand_on<'a>(
        &'a self,
        request: &'a Handed<'a>,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Option<Value>, ApiError>> {
        self.hand_on_as_user(request, call).boxed()
    }
}

#[cfg(test)]
mod tests;
