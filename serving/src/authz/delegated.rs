//! Delegates authorization to kube-apiserver, by SubjectAccessReview.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    FieldSelectorAttributes, LabelSelectorAttributes, NonResourceAttributes, ResourceAttributes,
    SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Attributes, Decision, RbacChanges, selectors};
use crate::authn::UserInfo;
use crate::metrics::RequestMetrics;
use crate::request_info::{NonResourceRequest, RequestInfo, ResourceRequest};
use crate::review::{Key, Lookup, ReviewCache, ReviewError};

/// How long an answer is cached, allow or deny, as in the delegating authorizer of k8s.io/apiserver. A change of RBAC
/// takes effect after this time at the latest.
const CACHE_LIFETIME: Duration = Duration::from_secs(10);
/// The number of cached answers. A key and a reason take about 200 bytes, so all take less than 1 MiB.
const CACHE_SIZE: usize = 4096;
/// An authorizer that sends SubjectAccessReviews, and caches the answers for ten seconds.
pub struct DelegatedAuthorizer {
    api: Api<SubjectAccessReview>,
    cache: Arc<ReviewCache<Arc<Decision>>>,
    deadline: Duration,
    metrics: Arc<RequestMetrics>,
    pub(super) rbac_changes: Option<RbacChanges>,
}

impl DelegatedAuthorizer {
    /// The default for how long a review may take.
    pub const DEADLINE: Duration = Duration::from_secs(5);

    /// `client` should come from [`crate::review::client`]; `deadline` is the time for each review.
    pub fn new(client: kube::Client, deadline: Duration, metrics: Arc<RequestMetrics>) -> Self {
        let cache = ReviewCache::new(CACHE_SIZE, CACHE_LIFETIME);
        Self { api: Api::all(client), cache, deadline, metrics, rbac_changes: None }
    }

    /// Lets open watches without events be renewed after changes of RBAC, and seldom otherwise.
    #[must_use]
    pub fn with_rbac_changes(self, changes: RbacChanges) -> Self {
        Self { rbac_changes: Some(changes), ..self }
    }

    pub(super) async fn decide(&self, attributes: Attributes<'_>) -> Result<Decision, ReviewError> {
        self.decide_after(attributes, None).await.map(|(decision, _)| decision)
    }

    /// The answer to a review that was sent later than `after`, and when it was sent.
    pub(super) async fn decide_after(
        &self,
        attributes: Attributes<'_>,
        after: Option<Instant>,
    ) -> Result<(Decision, Instant), ReviewError> {
        let spec = spec(attributes);
        let serialized = serde_json::to_vec(&spec).map_err(|error| ReviewError::Failed(error.to_string()))?;
        let key: Key = Sha256::digest(serialized).into();
        let api = self.api.clone();
        let asking = self.cache.get_or_ask_after(key, after, self.deadline, ask(api, spec));
        let (decision, lookup) = asking.await;
        self.metrics.count_authorization(lookup == Lookup::Hit);
        decision.map(|(decision, asked)| (Arc::unwrap_or_clone(decision), asked))
    }

    /// The answer to a review that is sent now. It is not cached.
    pub(super) async fn review(&self, attributes: Attributes<'_>) -> Result<Decision, ReviewError> {
        self.metrics.count_authorization(false);
        let asking = ask(self.api.clone(), spec(attributes));
        let answered = tokio::time::timeout(self.deadline, asking).await;
        answered.unwrap_or(Err(ReviewError::Deadline)).map(Arc::unwrap_or_clone)
    }
}

async fn ask(
    api: Api<SubjectAccessReview>,
    spec: SubjectAccessReviewSpec,
) -> Result<Arc<Decision>, ReviewError> {
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let reviewed = api.create(&PostParams::default(), &review).await?;
    let status =
        reviewed.status.ok_or_else(|| ReviewError::Failed("a review without a status".to_owned()))?;
    Ok(Arc::new(decision(status)))
}

fn decision(status: SubjectAccessReviewStatus) -> Decision {
    if status.allowed && status.denied != Some(true) {
        return Decision::Allow;
    }
    if let Some(error) = status.evaluation_error {
        tracing::debug!(error, "SubjectAccessReview reported an evaluation error");
    }
    Decision::Deny { reason: status.reason.unwrap_or_default() }
}

fn spec(attributes: Attributes<'_>) -> SubjectAccessReviewSpec {
    let UserInfo { name, uid, groups, extra } = attributes.user;
    let (resource, non_resource) = match attributes.request {
        RequestInfo::Resource(request) => (Some(resource_attributes(request)), None),
        RequestInfo::NonResource(NonResourceRequest { path, verb }) => {
            let attributes = NonResourceAttributes { path: Some(path.clone()), verb: Some(verb.clone()) };
            (None, Some(attributes))
        }
    };
    SubjectAccessReviewSpec {
        user: Some(name.clone()),
        uid: Some(uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(groups.clone()).filter(|groups| !groups.is_empty()),
        extra: Some(extra.clone()).filter(|extra| !extra.is_empty()),
        resource_attributes: resource,
        non_resource_attributes: non_resource,
    }
}

/// Selectors are sent as requirements, never raw: a review accepts only one of the two. A selector that cannot be
/// parsed is left out: raw, it would fail the review, while without it the review only asks for more.
fn resource_attributes(request: &ResourceRequest) -> ResourceAttributes {
    let fields = request.field_selector.as_deref().map(selectors::fields).filter(|terms| !terms.is_empty());
    let labels = request.label_selector.as_deref().map(selectors::labels).filter(|terms| !terms.is_empty());
    ResourceAttributes {
        verb: Some(request.verb.as_str().to_owned()),
        group: Some(request.group.clone()),
        version: Some(request.version.clone()),
        resource: Some(request.resource.clone()),
        subresource: request.subresource.clone(),
        namespace: request.namespace.clone(),
        name: request.name.clone(),
        field_selector: fields
            .map(|terms| FieldSelectorAttributes { requirements: Some(terms), raw_selector: None }),
        label_selector: labels
            .map(|terms| LabelSelectorAttributes { requirements: Some(terms), raw_selector: None }),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use futures::FutureExt;
    use http::{Method, Request, Response, StatusCode};
    use http_body_util::BodyExt;
    use kube::client::Body as KubeBody;
    use serde_json::{Value, json};

    use super::*;
    use crate::authz::Authorizer;
    use crate::error::ApiError;

    /// The reviews that the cluster got.
    type Asked = Arc<Mutex<Vec<Value>>>;

    /// A cluster that takes `latency` for each answer.
    fn authorizer(status: StatusCode, answer: Value, latency: Duration) -> (Authorizer, Asked) {
        let asked = Asked::default();
        let seen = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<KubeBody>| {
            let (seen, answer) = (Arc::clone(&seen), answer.clone());
            async move {
                assert_eq!(request.uri().path(), "/apis/authorization.k8s.io/v1/subjectaccessreviews");
                let body = request.into_body().collect().await.expect("body").to_bytes();
                let mut review: Value = serde_json::from_slice(&body).expect("JSON");
                seen.lock().expect("lock").push(review["spec"].clone());
                tokio::time::sleep(latency).await;
                review["status"] = answer.clone();
                let body = if status.is_success() { review } else { answer };
                let response = Response::builder().status(status);
                Ok::<_, Infallible>(
                    response.body(KubeBody::from(body.to_string().into_bytes())).expect("response"),
                )
            }
        });
        let client = kube::Client::new(service, "default");
        let metrics = Arc::new(RequestMetrics::new(&[]));
        let delegated = DelegatedAuthorizer::new(client, DelegatedAuthorizer::DEADLINE, metrics);
        (delegated.into(), asked)
    }

    fn jane() -> UserInfo {
        UserInfo { name: "jane".to_owned(), groups: vec!["team-a".to_owned()], ..UserInfo::default() }
    }

    async fn list(authorizer: &Authorizer, query: &str) -> Result<(), ApiError> {
        let uri = format!("/apis/g/v1/namespaces/n/things{query}").parse().expect("URI");
        let request = RequestInfo::parse(&Method::GET, &uri).expect("readable");
        authorizer.authorize(Attributes { user: &jane(), request: &request }).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_review_names_user_resource_and_selectors() {
        let (authorizer, asked) = authorizer(StatusCode::CREATED, json!({"allowed": true}), Duration::ZERO);
        list(&authorizer, "?fieldSelector=metadata.name%3Da&labelSelector=x+in+(1,2),!y")
            .await
            .expect("allowed");
        let expected = json!({
            "user": "jane",
            "groups": ["team-a"],
            "resourceAttributes": {
                "verb": "list", "group": "g", "version": "v1", "resource": "things", "namespace": "n", "name": "a",
                "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]},
                "labelSelector": {"requirements": [
                    {"key": "x", "operator": "In", "values": ["1", "2"]},
                    {"key": "y", "operator": "DoesNotExist"},
                ]},
            },
        });
        assert_eq!(*asked.lock().expect("lock"), [expected]);
    }

    #[tokio::test(start_paused = true)]
    async fn allow_and_deny_are_remembered_for_ten_seconds() {
        for allowed in [true, false] {
            let status = json!({"allowed": allowed, "reason": "because"});
            let (authorizer, asked) = authorizer(StatusCode::CREATED, status, Duration::ZERO);
            for _ in 0..3 {
                assert_eq!(list(&authorizer, "").await.is_ok(), allowed);
            }
            assert_eq!(asked.lock().expect("lock").len(), 1);
            tokio::time::advance(CACHE_LIFETIME).await;
            assert_eq!(list(&authorizer, "").await.is_ok(), allowed);
            assert_eq!(asked.lock().expect("lock").len(), 2);
            assert_eq!(list(&authorizer, "?fieldSelector=a=b").await.is_ok(), allowed);
            assert_eq!(asked.lock().expect("lock").len(), 3, "another selector is another question");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_makes_one_review() {
        let answer = json!({"allowed": true});
        let (authorizer, asked) = authorizer(StatusCode::CREATED, answer, Duration::from_secs(1));
        let burst = (0..100).map(|_| list(&authorizer, ""));
        assert!(futures::future::join_all(burst).await.into_iter().all(|allowed| allowed.is_ok()));
        assert_eq!(asked.lock().expect("lock").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_carries_the_reason() {
        let answer = json!({"allowed": false, "denied": true, "reason": "not on Fridays"});
        let (authorizer, _) = authorizer(StatusCode::CREATED, answer, Duration::ZERO);
        let error = list(&authorizer, "").await.expect_err("denied");
        assert_eq!(error.code(), StatusCode::FORBIDDEN);
        assert!(error.to_string().ends_with(r#"in the namespace "n": not on Fridays"#), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn errors_and_contradictions_are_no_permission() {
        let failure = json!({"kind": "Status", "status": "Failure", "message": "overloaded", "reason": "X", "code": 503});
        for (status, answer, code) in [
            (StatusCode::SERVICE_UNAVAILABLE, failure, 500),
            (StatusCode::CREATED, Value::Null, 500),
            (StatusCode::CREATED, json!({"allowed": true, "denied": true}), 403),
            (StatusCode::CREATED, json!({"allowed": false, "evaluationError": "no such role"}), 403),
        ] {
            let (authorizer, asked) = authorizer(status, answer, Duration::ZERO);
            let error = list(&authorizer, "").await.expect_err("refused");
            assert_eq!(error.code().as_u16(), code);
            assert_eq!(asked.lock().expect("lock").len(), 1, "not retried");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_deadline_with_a_refusal() {
        let (authorizer, _) =
            authorizer(StatusCode::CREATED, json!({"allowed": true}), Duration::from_hours(1));
        let start = Instant::now();
        let error = list(&authorizer, "").await.expect_err("refused");
        assert_eq!(error.code(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(start.elapsed(), DelegatedAuthorizer::DEADLINE);
        // The failure is not cached: the next request sends a review again.
        assert!(list(&authorizer, "").now_or_never().is_none());
    }
}
