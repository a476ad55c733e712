//! The cluster that an action is carried out on.
//!
//! [`LocalCluster`] is the one that Gatehouse runs in. There Gatehouse writes by its own account and reports the
//! requester to admission. [`RemoteCluster`](super::remote::RemoteCluster) impersonates the requester.

use std::{future::ready, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use gatehouse_apiservice::{
    FIELD_MANAGER, UserInfo,
    action::Subresource,
    client::{explain, own_user},
    requester,
    view::API_VERSION,
};
use gatehouse_serving::ApiError;
use http::{HeaderName, HeaderValue, Method, Request, header, request::Builder};
use serde_json::Value;
use tokio::{sync::OnceCell, time::timeout};

/// How long a cluster may take for one answer. Admission webhooks may take 30 s; a request to act has 60 s in all.
pub(super) const PATIENCE: Duration = Duration::from_secs(25);
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const IMPERSONATED_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATED_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const REQUESTER: HeaderName = HeaderName::from_static(requester::HEADER);
/// kube-apiserver adds it to every user, and nobody need be allowed to impersonate it.
const AUTHENTICATED: &str = "system:authenticated";

/// For whom, and how, a cluster is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    /// The user whom admission judges; `None` for what Gatehouse does by itself.
    pub(crate) requester: Option<UserInfo>,
    /// The ID of the request in audit logs.
    pub(crate) audit_id: Option<HeaderValue>,
    /// Whether everything is checked and nothing written.
    pub(crate) dry_run: bool,
    /// The field manager that the requester named. It counts where the requester writes: in another cluster.
    pub(crate) field_manager: Option<String>,
}

/// A request for a subresource, as the Gatehouse of another cluster gets it.
#[derive(Debug)]
pub(crate) struct Handed<'a> {
    pub(crate) subresource: &'static Subresource,
    pub(crate) method: Method,
    pub(crate) namespace: &'a str,
    /// The name of the row there.
    pub(crate) name: &'a str,
    /// The media type and the body, if it has one.
    pub(crate) body: Option<(String, Vec<u8>)>,
}

impl Handed<'_> {
    /// Path and query.
    pub(super) fn path(&self, call: &Call) -> String {
        let Self { subresource, namespace, name, .. } = self;
        let plural = subresource.resource.plural;
        let path = format!("/apis/{API_VERSION}/namespaces/{namespace}/{plural}/{name}/{}", subresource.name);
        with_parameters(&path, call.field_manager.as_deref(), call)
    }
}

/// A path with the parameters of a write.
fn with_parameters(path: &str, manager: Option<&str>, call: &Call) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if let Some(manager) = manager {
        query.append_pair("fieldManager", manager);
    }
    if call.dry_run {
        query.append_pair("dryRun", "All");
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// Reads and patches single objects.
pub(crate) trait Cluster: Send + Sync + 'static {
    /// The current object at this path.
    fn get<'a>(&'a self, path: &'a str, call: &'a Call) -> BoxFuture<'a, Result<Value, ApiError>>;

    /// The object after a JSON merge patch.
    fn patch<'a>(
        &'a self,
        path: &'a str,
        change: &'a Value,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Value, ApiError>>;

    /// Hands a request on to the Gatehouse of the cluster, and returns its answer; `None` if it has to be carried out by
    /// [`Self::get`] and [`Self::patch`].
    fn hand_on<'a>(
        &'a self,
        _request: &'a Handed<'a>,
        _call: &'a Call,
    ) -> BoxFuture<'a, Result<Option<Value>, ApiError>> {
        ready(Ok(None)).boxed()
    }
}

/// A request for a merge patch by a field manager.
pub(super) fn patching(path: &str, manager: &str, call: &Call) -> Builder {
    Request::builder()
        .method(Method::PATCH)
        .uri(with_parameters(path, Some(manager), call))
        .header(header::CONTENT_TYPE, "application/merge-patch+json")
}

/// Passes the ID of the request in audit logs on.
pub(super) fn with_audit_id(request: Builder, call: &Call) -> Builder {
    match &call.audit_id {
        Some(id) => request.header(AUDIT_ID, id.clone()),
        None => request,
    }
}

/// The cluster that Gatehouse runs in.
pub(crate) struct LocalCluster {
    client: kube::Client,
    own: OnceCell<UserInfo>,
}

impl LocalCluster {
    /// `client` must not retry.
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { client, own: OnceCell::new() }
    }

    async fn ask(&self, request: Builder, body: Vec<u8>, call: &Call) -> Result<Value, ApiError> {
        let request = with_audit_id(request, call).body(body).map_err(ApiError::internal)?;
        match timeout(PATIENCE, self.client.request(request)).await {
            Ok(Ok(object)) => Ok(object),
            Ok(Err(error)) => Err(self.refusal(error)),
            Err(_) => Err(unavailable("it did not answer in time")),
        }
    }

    /// The answer to the requester if a request fails.
    fn refusal(&self, error: kube::Error) -> ApiError {
        let kube::Error::Api(status) = error else { return unavailable(&explain(&error)) };
        let own = self.own.get().map_or("", |own| own.name.as_str());
        // RBAC of the requester was checked before, so this is Gatehouse's own account.
        if status.code == 403 && status.message.contains(&format!("User {own:?} cannot")) {
            tracing::warn!(reason = %status.message, "the rights for actions are missing");
            return ApiError::internal(format!("Gatehouse lacks a right for actions: {}", status.message));
        }
        ApiError::relayed(&status)
    }

    async fn own(&self) -> Result<&UserInfo, ApiError> {
        let ask = || async {
            let asked = timeout(PATIENCE, own_user(&self.client)).await;
            asked.unwrap_or_else(|_| Err("no answer".to_owned())).map_err(|problem| unavailable(&problem))
        };
        self.own.get_or_try_init(ask).await
    }

    /// Gatehouse impersonates itself, with the requester in an extra field.
    async fn for_requester(&self, mut request: Builder, requester: &UserInfo) -> Result<Builder, ApiError> {
        let own = self.own().await?;
        let value = requester::encode(requester).map_err(|error| ApiError::bad_request(error.to_string()))?;
        request = request.header(IMPERSONATED_USER, own.name.as_str()).header(REQUESTER, value);
        // The groups of a service account follow from its name.
        if own.service_account().is_none() {
            for group in own.groups.iter().filter(|group| *group != AUTHENTICATED) {
                request = request.header(IMPERSONATED_GROUP, group.as_str());
            }
        }
        Ok(request)
    }
}

impl Cluster for LocalCluster {
    fn get<'a>(&'a self, path: &'a str, call: &'a Call) -> BoxFuture<'a, Result<Value, ApiError>> {
        self.ask(Request::get(path), Vec::new(), call).boxed()
    }

    fn patch<'a>(
        &'a self,
        path: &'a str,
        change: &'a Value,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Value, ApiError>> {
        async move {
            let request = match &call.requester {
                Some(requester) => self.for_requester(patching(path, FIELD_MANAGER, call), requester).await?,
                None => patching(path, FIELD_MANAGER, call),
            };
            self.ask(request, change.to_string().into_bytes(), call).await
        }
        .boxed()
    }
}

fn unavailable(why: &str) -> ApiError {
    ApiError::unavailable(format!("the cluster cannot be asked: {why}; try again"))
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use http::{HeaderMap, Response, StatusCode};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    const OWN: &str = "system:serviceaccount:gatehouse-system:gatehouse-apiserver";

    /// Method and path with the headers, of each request.
    type Asked = Arc<Mutex<Vec<(String, HeaderMap)>>>;

    /// A cluster in which Gatehouse is `own`, and which answers patches so.
    fn cluster(own: &'static str, code: StatusCode, answer: Value) -> (LocalCluster, Asked) {
        let asked = Asked::default();
        let seen = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let line = format!("{} {}", request.method(), request.uri());
            let is_review = line.contains("selfsubjectreviews");
            seen.lock().expect("lock").push((line, request.headers().clone()));
            let groups = ["team", AUTHENTICATED];
            let review = json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {},
                "status": {"userInfo": {"username": own, "groups": groups}},
            });
            let (code, body) = if is_review { (StatusCode::CREATED, review) } else { (code, answer.clone()) };
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(response.expect("response")) }
        });
        (LocalCluster::new(kube::Client::new(service, "default")), asked)
    }

    fn call() -> Call {
        let user = UserInfo { name: "jane".to_owned(), ..UserInfo::default() };
        let audit_id = Some(HeaderValue::from_static("abc-1"));
        Call { requester: Some(user), audit_id, dry_run: true, field_manager: None }
    }

    #[tokio::test]
    async fn a_patch_reports_its_requester_and_passes_the_audit_id_on() {
        for (own, groups) in [(OWN, 0), ("gatehouse", 1)] {
            let (cluster, asked) = cluster(own, StatusCode::OK, json!({}));
            for _ in 0..2 {
                cluster.patch("/apis/g/v1/x", &json!({}), &call()).await.expect("patched");
            }
            let asked = asked.lock().expect("lock");
            assert_eq!(asked.len(), 3, "it asks once who it is");
            let (line, headers) = &asked[1];
            assert_eq!(line, "PATCH /apis/g/v1/x?fieldManager=gatehouse&dryRun=All");
            assert_eq!(headers["audit-id"], "abc-1");
            assert_eq!(headers["impersonate-user"], own);
            assert_eq!(headers[requester::HEADER], r#"{"username":"jane"}"#);
            assert_eq!(headers.get_all("impersonate-group").iter().count(), groups);
        }
    }

    #[tokio::test]
    async fn what_gatehouse_does_by_itself_names_no_requester() {
        let (cluster, asked) = cluster(OWN, StatusCode::OK, json!({}));
        cluster.patch("/apis/g/v1/x", &json!({}), &Call::default()).await.expect("patched");
        let asked = asked.lock().expect("lock");
        assert_eq!(asked[0].0, "PATCH /apis/g/v1/x?fieldManager=gatehouse");
        assert!(!asked[0].1.contains_key("impersonate-user"), "{asked:?}");
    }

    #[tokio::test]
    async fn a_right_that_gatehouse_lacks_is_not_the_requester_s_fault() {
        let status = |message: String| {
            json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
                "message": message,
            })
        };
        let denied = status("admission webhook \"p\" denied the request: no".to_owned());
        let lacking = status(format!("things \"a\" is forbidden: User \"{OWN}\" cannot patch resource"));
        for (answer, code) in [(denied, 403), (lacking, 500)] {
            let (cluster, _) = cluster(OWN, StatusCode::FORBIDDEN, answer);
            let error = cluster.patch("/apis/g/v1/x", &json!({}), &call()).await.expect_err("refused");
            assert_eq!(error.code().as_u16(), code, "{error}");
        }
    }
}
