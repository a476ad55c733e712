//! Tests reviews against a hand-made world: what policies deny, warn about and fill in, and the messages.

mod bounded;
mod content;
mod freezes;
mod requester;

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use gatehouse_quota::GroupResource;
use gatehouse_serving::authz::{Authorizer, DelegatedAuthorizer};
use gatehouse_serving::metrics::RequestMetrics;
use http::StatusCode;
use http_body_util::BodyExt;
use k8s_openapi::ByteString;
use kube::client::Body as KubeBody;
use prometheus::Registry;
use serde_json::{Value, json};

use super::object::Looks;
use super::*;
use crate::metrics::Metrics;
use crate::own_user::OwnUser;
use crate::quota::Quotas;
use crate::world::{Live, World, testing::Builder};
use gatehouse_fake_api::FakeApi;
use gatehouse_serving::authz::Access;
use gatehouse_serving::events::{EventBroadcaster, EventRecorder};

const FLUX: &str = "kustomize.toolkit.fluxcd.io";
const OWN: &str = "system:serviceaccount:gatehouse-system:gatehouse-webhooks";

/// Reviews over a world, and the channels behind them.
struct Site {
    reviews: Reviews,
    broadcaster: EventBroadcaster,
    api: FakeApi,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Site {
    /// A namespace `n` of tenant a, and these policies.
    fn new(policies: &[(&str, Value)]) -> Self {
        Self::with_quota(policies, None)
    }

    /// The same, with a quota that selects the namespace.
    fn with_quota(policies: &[(&str, Value)], hard: Option<&Value>) -> Self {
        let mut world = Builder::new();
        if let Some(hard) = hard {
            let object = json!({
                "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota",
                "metadata": {"name": "a", "uid": "u-quota", "resourceVersion": "1"},
                "spec": {"namespaceSelector": {"matchLabels": {"tenant": "a"}}, "hard": hard},
            });
            world.apply(&GroupResource::new("policy.gatehouse.dev", "tenantquotas"), &object);
        }
        world.namespace("n", &[("tenant", "a")]);
        let resource = GroupResource::new("policy.gatehouse.dev", "reconcilepolicies");
        for (version, (name, spec)) in policies.iter().enumerate() {
            let object = json!({
                "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy",
                "metadata": {"name": name, "uid": format!("u-{name}"), "resourceVersion": (version + 1).to_string()},
                "spec": spec,
            });
            world.apply(&resource, &object);
        }
        let snapshot = world.snapshot();
        assert!(snapshot.broken_policies.is_empty(), "{:?}", snapshot.broken_policies);
        let (api, asked) = (FakeApi::new(), Arc::default());
        let metrics = Arc::new(Metrics::new(&Registry::new()));
        let (events, broadcaster) = EventRecorder::new(metrics.events(), crate::server::reporter("me"));
        let world = World::of(snapshot);
        let live = Live::new(api.client(), Duration::from_secs(1));
        let (_, leading) = tokio::sync::watch::channel(false);
        let (_, interception) = tokio::sync::watch::channel(crate::controllers::Interception::default());
        let quotas = Quotas::new(
            world.clone(),
            live.clone(),
            api.client(),
            Arc::clone(&metrics),
            leading,
            interception,
            Duration::from_mins(1),
        );
        let own_user = OwnUser::unknown("flux-system", "agones-system");
        own_user.learn(OWN.to_owned());
        let judge = Judge {
            world,
            live,
            quotas,
            namespace: "gatehouse-system".to_owned(),
            access: Access::new(Arc::new(access(&asked))),
            own_user,
            events,
            metrics,
            room: ReviewMemory::default(),
            verdicts: Verdicts::default(),
        };
        Self { reviews: Reviews::new(judge), broadcaster, api, asked }
    }

    async fn ask(&self, webhook: Webhook, review: &Value) -> Value {
        self.ask_text(webhook, &review.to_string()).await
    }

    async fn ask_text(&self, webhook: Webhook, body: &str) -> Value {
        let mut request = Request::parse(body.as_bytes()).expect("a review");
        let until = tokio::time::Instant::now() + Duration::from_secs(5);
        let answer = self.reviews.attribute(webhook, &mut request, peer(1), until).await;
        let body =
            answer.into_response(&request.uid).into_body().collect().await.expect("infallible").to_bytes();
        serde_json::from_slice::<Value>(&body).expect("JSON")["response"].take()
    }

    async fn validate(&self, review: &Value) -> Value {
        self.ask(Webhook::Validate, review).await
    }

    /// The notes of the Events that would be sent.
    fn notices(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.broadcaster.next_now())
            .map(|notice| format!("{} {}", notice.reason, notice.note))
            .collect()
    }
}

/// A client by its number.
fn peer(number: u8) -> Holder {
    Holder::address(Ipv4Addr::new(10, 0, 0, number).into())
}

/// A cluster in which jane may suspend, and nobody has another right; checking joe's rights fails.
fn access(asked: &Arc<Mutex<Vec<Value>>>) -> Authorizer {
    let asked = Arc::clone(asked);
    let service = tower::service_fn(move |request: http::Request<KubeBody>| {
        let asked = Arc::clone(&asked);
        async move {
            let body = request.into_body().collect().await.expect("body").to_bytes();
            let mut review: Value = serde_json::from_slice(&body).expect("JSON");
            let spec = review["spec"].clone();
            let allowed = spec["user"] == "jane" && spec["resourceAttributes"]["verb"] == "suspend";
            let code =
                if spec["user"] == "joe" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CREATED };
            asked.lock().expect("lock").push(spec);
            review["status"] = json!({"allowed": allowed});
            let body = KubeBody::from(review.to_string().into_bytes());
            Ok::<_, Infallible>(http::Response::builder().status(code).body(body).expect("response"))
        }
    });
    let client = kube::Client::new(service, "default");
    DelegatedAuthorizer::new(client, DelegatedAuthorizer::DEADLINE, Arc::new(RequestMetrics::new(&[]))).into()
}

fn kustomization(spec: &Value) -> Value {
    json!({
        "apiVersion": format!("{FLUX}/v1"), "kind": "Kustomization",
        "metadata": {"name": "a", "namespace": "n", "uid": "u-1", "resourceVersion": "7"},
        "spec": spec,
    })
}

fn create(spec: &Value) -> Value {
    request::testing::review(FLUX, "kustomizations", &kustomization(spec))
}

fn update(old: &Value, new: &Value) -> Value {
    let mut review = create(new);
    review["request"]["operation"] = json!("UPDATE");
    review["request"]["oldObject"] = kustomization(old);
    review
}

fn short() -> Value {
    json!({"interval": "10s", "prune": false})
}

fn strict(enforcement: &str) -> Value {
    json!({"enforcement": enforcement, "rules": {"interval": {"min": "1m"}, "prune": "Required"}})
}

#[tokio::test]
async fn a_denial_names_policy_rule_and_field_and_lists_every_violation() {
    let mut site = Site::new(&[("strict", strict("Deny"))]);
    let response = site.validate(&create(&short())).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)));
    assert_eq!(response["status"]["reason"], "Forbidden");
    let message = response["status"]["message"].as_str().expect("text");
    assert!(
        message.starts_with(
            r#"reconcilepolicies.policy.gatehouse.dev "strict" denied the request: spec.interval: "#
        ),
        "{message}"
    );
    assert!(
        message.contains("(rule interval); spec.prune: ") && message.ends_with("(rule prune)"),
        "{message}"
    );
    let causes = response["status"]["details"]["causes"].as_array().expect("causes");
    let fields: Vec<_> = causes.iter().map(|cause| &cause["field"]).collect();
    assert_eq!(fields, ["spec.interval", "spec.prune"]);
    assert_eq!(
        response["auditAnnotations"],
        json!({"policy": "strict", "rule": "interval,prune", "decision": "denied"})
    );
    let notices = site.notices();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].starts_with("PolicyDenied reconcilepolicies"), "{notices:?}");
}

#[tokio::test]
async fn what_keeps_to_the_rules_is_allowed_in_few_words() {
    let mut site = Site::new(&[("strict", strict("Deny"))]);
    let response = site.validate(&create(&json!({"interval": "10m", "prune": true}))).await;
    assert_eq!(response, json!({"uid": response["uid"], "allowed": true}));
    assert!(site.notices().is_empty());
}

#[tokio::test]
async fn a_warning_is_for_whoever_asks_and_an_audit_for_the_log_alone() {
    let mut site = Site::new(&[("lax", strict("Warn")), ("quiet", strict("Audit"))]);
    let response = site.validate(&create(&short())).await;
    assert_eq!(response["allowed"], true);
    let warnings: Vec<_> = response["warnings"].as_array().expect("warnings").iter().collect();
    assert_eq!(warnings.len(), 2, "one for each violation of the one policy: {warnings:?}");
    assert!(
        warnings[0]
            .as_str()
            .expect("text")
            .starts_with(r#"reconcilepolicies.policy.gatehouse.dev "lax": spec.interval: "#)
    );
    assert_eq!(
        response["auditAnnotations"],
        json!({"policy": "lax,quiet", "rule": "interval,prune", "decision": "warned,audited"})
    );
    let notices = site.notices();
    assert!(
        notices.iter().all(|notice| notice.starts_with("PolicyViolated ")) && notices.len() == 2,
        "{notices:?}"
    );
}

#[tokio::test]
async fn of_several_policies_each_that_denies_is_named() {
    let site = Site::new(&[("a", strict("Deny")), ("b", strict("Warn")), ("c", strict("Deny"))]);
    let response = site.validate(&create(&short())).await;
    let message = response["status"]["message"].as_str().expect("text");
    assert!(
        message.contains("\"a\" denied")
            && message.contains("; reconcilepolicies.policy.gatehouse.dev \"c\" denied"),
        "{message}"
    );
    assert!(!message.contains("\"b\""), "{message}");
    assert_eq!(response["warnings"].as_array().expect("warnings").len(), 2);
}

#[tokio::test]
async fn a_dry_run_is_judged_alike_and_makes_no_events() {
    let mut site = Site::new(&[("strict", strict("Deny"))]);
    let mut review = create(&short());
    review["request"]["dryRun"] = json!(true);
    assert_eq!(site.validate(&review).await["allowed"], false);
    assert!(site.notices().is_empty());
}

#[tokio::test]
async fn our_own_writes_are_not_judged_nor_changed() {
    let site =
        Site::new(&[("strict", json!({"rules": {"prune": "Required"}, "defaults": {"timeout": "3m"}}))]);
    let mut review = create(&short());
    review["request"]["userInfo"]["username"] = json!(OWN);
    assert_eq!(site.validate(&review).await["allowed"], true);
    assert_eq!(site.ask(Webhook::Mutate, &review).await.get("patch"), None);
}

#[tokio::test]
async fn a_namespace_that_is_not_observed_yet_is_asked_for() {
    let site = Site::new(&[("strict", strict("Deny"))]);
    let mut review = create(&short());
    review["request"]["namespace"] = json!("new");
    let response = site.validate(&review).await;
    assert_eq!(
        (&response["allowed"], &response["status"]["code"]),
        (&json!(false), &json!(404)),
        "there is none"
    );
    site.api.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}}));
    assert_eq!(site.validate(&review).await["status"]["code"], 403);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_cannot_be_asked_for_is_a_reason_to_try_again_and_never_to_admit() {
    let site = Site::new(&[("strict", strict("Deny"))]);
    site.api.fail(true);
    let mut review = create(&short());
    review["request"]["namespace"] = json!("new");
    let response = site.validate(&review).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(429)));
    assert_eq!(response["status"]["details"]["retryAfterSeconds"], 1);
    assert_eq!(
        site.ask(Webhook::Mutate, &review).await["allowed"],
        true,
        "a mutation fills in, and never refuses"
    );
}

#[tokio::test]
async fn a_right_of_its_own_is_asked_of_the_cluster() {
    let site = Site::new(&[("verbs", json!({"rules": {"verbs": "Authorize"}}))]);
    let (on, off) = (json!({"interval": "1m"}), json!({"interval": "1m", "suspend": true}));
    assert_eq!(site.validate(&update(&on, &off)).await["allowed"], true, "jane may suspend");
    let asked = site.asked.lock().expect("lock").pop().expect("asked");
    let expected = json!({
        "verb": "suspend", "group": FLUX, "version": "v1", "resource": "kustomizations", "namespace": "n", "name": "a",
    });
    assert_eq!((&asked["user"], &asked["resourceAttributes"]), (&json!("jane"), &expected));

    let response = site.validate(&update(&off, &on)).await;
    assert_eq!(
        (&response["allowed"], &response["status"]["code"]),
        (&json!(false), &json!(403)),
        "but not resume"
    );
    let words = r#"kustomizations.kustomize.toolkit.fluxcd.io "a" is forbidden: User "jane" cannot resume resource "kustomizations" in API group "kustomize.toolkit.fluxcd.io" in the namespace "n""#;
    assert_eq!(response["status"]["message"], words);
    assert_eq!(response["auditAnnotations"]["rule"], "verbs");

    let mut by_joe = update(&on, &off);
    by_joe["request"]["userInfo"]["username"] = json!("joe");
    assert_eq!(site.validate(&by_joe).await["status"]["code"], 429, "no answer is no permission");
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_is_going_to_refuse_is_not_charged_to_a_quota() {
    let limit = json!({"count/kustomizations.kustomize.toolkit.fluxcd.io": "1"});
    let mut site = Site::with_quota(&[("strict", strict("Deny"))], Some(&limit));
    let response = site.ask(Webhook::Quota, &create(&short())).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)));
    let message = response["status"]["message"].as_str().expect("text");
    assert!(message.starts_with(r#"reconcilepolicies.policy.gatehouse.dev "strict" denied"#), "{message}");
    assert!(site.notices().is_empty(), "the other webhook records them");
    // No policy denies it, so the quota ledger is read; this world has none.
    let response = site.ask(Webhook::Quota, &create(&json!({"interval": "1h", "prune": true}))).await;
    assert_eq!(
        (&response["allowed"], &response["status"]["code"]),
        (&json!(false), &json!(429)),
        "{response}"
    );
    let mut deleted = update(&short(), &short());
    deleted["request"]["operation"] = json!("DELETE");
    assert_eq!(site.ask(Webhook::Quota, &deleted).await["allowed"], true);
}

#[tokio::test]
async fn before_everything_that_decides_is_observed_nothing_is_admitted() {
    let mut site = Site::new(&[]);
    site.reviews.judge.world = World::of(crate::world::Snapshot::default());
    for webhook in [Webhook::Validate, Webhook::Quota] {
        let response = site.ask(webhook, &create(&short())).await;
        assert_eq!(
            (&response["allowed"], &response["status"]["code"]),
            (&json!(false), &json!(429)),
            "{webhook:?}"
        );
    }
    assert_eq!(site.ask(Webhook::Mutate, &create(&short())).await["allowed"], true);
}
