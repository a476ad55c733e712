//! Reviews against a world made by hand: what policies refuse, warn about and fill in, and in which words.

use std::convert::Infallible;
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
use crate::events::{Events, Outbox};
use crate::metrics::Metrics;
use crate::own_user::OwnUser;
use crate::quota::Quotas;
use crate::sar::Access;
use crate::world::{Live, World, testing::Builder};
use gatehouse_installation::testing::FakeApi;

const FLUX: &str = "kustomize.toolkit.fluxcd.io";
const OWN: &str = "system:serviceaccount:gatehouse-system:gatehouse-webhooks";

/// Reviews over a world, and what is behind them.
struct Site {
    reviews: Reviews,
    outbox: Outbox,
    api: FakeApi,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Site {
    /// A namespace `n` of tenant a, and these policies.
    fn new(policies: &[(&str, Value)]) -> Self {
        Self::with_quota(policies, None)
    }

    /// The same, with a quota over the namespace.
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
        let (events, outbox) = Events::new(Arc::clone(&metrics), "me".to_owned());
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
            access: Access::new(Arc::new(access(&asked))),
            own_user,
            events,
            metrics,
            room: Room::default(),
            verdicts: Verdicts::default(),
        };
        Self { reviews: Reviews::new(judge), outbox, api, asked }
    }

    async fn ask(&self, webhook: Webhook, review: &Value) -> Value {
        self.ask_text(webhook, &review.to_string()).await
    }

    async fn ask_text(&self, webhook: Webhook, body: &str) -> Value {
        let request = Request::parse(body.as_bytes()).expect("a review");
        let until = tokio::time::Instant::now() + Duration::from_secs(5);
        let answer = self.reviews.answer(webhook, &request, until).await;
        let body =
            answer.into_response(&request.uid).into_body().collect().await.expect("infallible").to_bytes();
        serde_json::from_slice::<Value>(&body).expect("JSON")["response"].take()
    }

    async fn validate(&self, review: &Value) -> Value {
        self.ask(Webhook::Validate, review).await
    }

    /// Notes of what would be sent.
    fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.outbox.next_now())
            .map(|told| format!("{} {}", told.reason, told.note))
            .collect()
    }
}

/// A cluster in which jane may suspend, and nobody may do anything else; asking for joe's rights fails.
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
    let told = site.told();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("PolicyDenied reconcilepolicies"), "{told:?}");
}

#[tokio::test]
async fn what_keeps_to_the_rules_is_allowed_in_few_words() {
    let mut site = Site::new(&[("strict", strict("Deny"))]);
    let response = site.validate(&create(&json!({"interval": "10m", "prune": true}))).await;
    assert_eq!(response, json!({"uid": response["uid"], "allowed": true}));
    assert!(site.told().is_empty());
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
    let told = site.told();
    assert!(told.iter().all(|told| told.starts_with("PolicyViolated ")) && told.len() == 2, "{told:?}");
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
    assert!(site.told().is_empty());
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
    assert!(site.told().is_empty(), "the other webhook tells");
    // With nothing against it, the ledger is asked for; there is none in this world.
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

#[tokio::test]
async fn defaults_are_a_patch_of_what_is_absent() {
    let site = Site::new(&[("defaults", json!({"defaults": {"timeout": "3m", "prune": true}}))]);
    let response = site.ask(Webhook::Mutate, &create(&json!({"interval": "1m", "prune": false}))).await;
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch: ByteString = serde_json::from_value(response["patch"].clone()).expect("base64");
    let patch: Value = serde_json::from_slice(&patch.0).expect("JSON");
    assert_eq!(patch, json!([{"op": "add", "path": "/spec/timeout", "value": "3m"}]));
    let full = create(&json!({"interval": "1m", "prune": false, "timeout": "1m"}));
    assert_eq!(site.ask(Webhook::Mutate, &full).await.get("patch"), None);
    assert_eq!(site.validate(&create(&json!({}))).await.get("patch"), None, "validation never patches");
}

#[tokio::test]
async fn an_object_of_the_wrong_shape_is_refused_where_a_policy_looks() {
    for (policies, allowed) in [(&[][..], true), (&[("strict", strict("Deny"))], false)] {
        let site = Site::new(policies);
        let mut review = create(&json!({"interval": "1h", "prune": true}));
        review["request"]["object"]["metadata"]["labels"] = json!({"a": 1});
        let response = site.validate(&review).await;
        assert_eq!(response["allowed"], allowed, "{response}");
        if !allowed {
            assert_eq!(response["status"]["code"], 422);
            let message = response["status"]["message"].as_str().expect("text");
            assert!(message.contains("metadata.labels[a]: Invalid value"), "{message}");
        }
        let response = site.ask(Webhook::Mutate, &review).await;
        assert_eq!(response["allowed"], true, "a mutation fills in, and never refuses");
    }
}

/// The review of a HelmRelease with these values.
fn release(values: &Value) -> Value {
    let object = json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": {"name": "a", "namespace": "n", "uid": "u-1", "resourceVersion": "7"},
        "spec": {"interval": "1h", "timeout": "1m", "values": values},
    });
    request::testing::review("helm.toolkit.fluxcd.io", "helmreleases", &object)
}

#[tokio::test]
async fn what_no_rule_looks_at_may_be_as_deep_as_it_likes_and_conditions_fail_on_it() {
    let mut review = release(&json!("VALUES"));
    review["request"]["oldObject"] = review["request"]["object"].clone();
    let deep = format!("{}1{}", "{\"a\":".repeat(9_000), "}".repeat(9_000));
    let deep_review = |operation: &str| {
        let mut review = review.clone();
        review["request"]["operation"] = json!(operation);
        if operation == "CREATE" {
            review["request"]["oldObject"] = Value::Null;
        }
        review.to_string().replacen("\"VALUES\"", &deep, 1)
    };
    let cel =
        json!({"rules": {"cel": [{"expression": "object.spec.timeout <= '5m'", "message": "too long"}]}});
    let lax = json!({"enforcement": "Warn", "rules": cel["rules"]});
    for (policies, allowed) in [
        (&[][..], true),
        (&[("strict", json!({"rules": {"interval": {"min": "1m"}}}))], true),
        (&[("cel", cel)], false),
        (&[("cel", lax)], true),
    ] {
        let site = Site::new(policies);
        for operation in ["CREATE", "UPDATE"] {
            let body = deep_review(operation);
            let response = site.ask_text(Webhook::Validate, &body).await;
            assert_eq!(response["allowed"], allowed, "{policies:?} {response}");
            if !allowed {
                let message = response["status"]["message"].as_str().expect("text");
                assert!(message.contains("too long: cannot be evaluated: spec.values.a.a."), "{message}");
                assert!(message.contains("is nested deeper than 125 levels (rule cel[0])"), "{message}");
            }
            let warned = response["warnings"].as_array().is_some_and(|warnings| warnings.len() == 1);
            assert_eq!(warned, policies.first().is_some_and(|(_, spec)| spec["enforcement"] == "Warn"));
            assert_eq!(site.ask_text(Webhook::Mutate, &body).await["allowed"], true);
        }
    }
}

/// What grows without end, as a condition and as a warning, for both webhooks that want the verdict.
#[tokio::test]
async fn a_condition_without_end_is_broken_and_others_are_judged() {
    let endless = format!("[object.spec.interval]{}.size() > 0", ".map(x, x + x)".repeat(40));
    let rule = |message: &str| json!({"cel": [{"expression": endless, "message": message}]});
    let deny = json!({"rules": rule("grows")});
    let warn = json!({"enforcement": "Warn", "rules": rule("grows too")});
    let quota = json!({"count/kustomizations.kustomize.toolkit.fluxcd.io": "10"});
    let site = Site::with_quota(&[("deny", deny), ("warn", warn), ("strict", strict("Deny"))], Some(&quota));
    let review = create(&short());
    let (validated, charged) = tokio::join!(site.validate(&review), site.ask(Webhook::Quota, &review));
    for response in [validated, charged] {
        assert_eq!(response["allowed"], false, "{response}");
        let message = response["status"]["message"].as_str().expect("text");
        assert!(
            message.contains("grows: cannot be evaluated: takes too much memory on this object"),
            "{message}"
        );
        assert!(message.contains("\"strict\" denied the request"), "{message}");
    }
}

/// Judging does not outlast its review: time is over while it waits for its turn, or works.
#[tokio::test]
async fn judging_ends_with_its_review() {
    let pairs = "object.spec.list.all(a, object.spec.list.all(b, size(a + b) > 0))";
    let rules: Vec<_> = (0..8).map(|_| json!({"expression": pairs, "message": "pairs"})).collect();
    let site = Site::new(&[("pairs", json!({"rules": {"cel": rules}}))]);
    let body = create(&json!({"interval": "1m", "list": vec!["text"; 900]})).to_string();
    let request = Request::parse(body.as_bytes()).expect("a review");
    let until = tokio::time::Instant::now() + Duration::from_millis(20);
    let answer = site.reviews.answer(Webhook::Validate, &request, until).await;
    let response = super::answer::testing::response(answer);
    assert_eq!(response["allowed"], false, "{response}");
    let code = &response["status"]["code"];
    assert!(*code == 429 || response.to_string().contains("was not evaluated in time"), "{response}");
    // Its turn is over as soon as it looks at the clock: all of them are there again.
    let turns = std::thread::available_parallelism().map_or(2, usize::from);
    let turn = async || site.reviews.judge.verdicts.turn().await;
    let all = futures::future::join_all((0..turns).map(|_| turn()));
    assert!(tokio::time::timeout(Duration::from_mins(1), all).await.is_ok());
}

#[tokio::test]
async fn values_are_not_built_where_no_condition_looks_at_them() {
    let many = json!({"many": vec![json!([]); 500_000]});
    let (mut review, mut other) = (release(&many), release(&json!({"many": []})));
    for review in [&mut review, &mut other] {
        review["request"]["oldObject"] = review["request"]["object"].clone();
        review["request"]["operation"] = json!("UPDATE");
    }
    let site = Site::new(&[("strict", strict("Deny"))]);
    let cost = async |review: &Value| {
        let body = review.to_string();
        let request = Request::parse(body.as_bytes()).expect("a review");
        let (objects, _room) = site.reviews.judge.read(&request, Looks::Fields).await.expect("objects");
        let unchanged = objects.object.map(|read| read.rest) == objects.old.map(|read| read.rest);
        (objects.cost, unchanged)
    };
    assert_eq!(cost(&review).await, cost(&other).await);
    assert!(cost(&review).await.0 < 8192);
    // A change of values alone is a change of the spec.
    assert_eq!(site.validate(&review).await["allowed"], true, "an update that changes nothing");
    review["request"]["oldObject"]["spec"]["values"]["more"] = json!(1);
    assert!(!cost(&review).await.1);
    review["request"]["object"]["spec"]["interval"] = json!("1s");
    review["request"]["oldObject"]["spec"]["interval"] = json!("1s");
    assert_eq!(site.validate(&review).await["status"]["code"], 403, "the spec changes");
}

#[tokio::test]
async fn defaults_go_into_maps_that_are_there_though_nobody_looks_into_them() {
    let defaults =
        json!({"defaults": {"labels": {"x": "y"}}, "rules": {"suspension": {"maxDuration": "1h"}}});
    let site = Site::new(&[("defaults", defaults)]);
    let mut review = create(&json!({"interval": "1h", "suspend": true}));
    review["request"]["object"]["metadata"]["annotations"] = json!({"example.com/a": "b"});
    let response = site.ask(Webhook::Mutate, &review).await;
    let patch: ByteString = serde_json::from_value(response["patch"].clone()).expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch.0).expect("a patch");
    let mut object = review["request"]["object"].clone();
    json_patch::patch(&mut object, &patch).expect("it applies");
    let metadata = &object["metadata"];
    assert_eq!(metadata["annotations"]["example.com/a"], "b", "{patch:?}");
    assert_eq!(metadata["annotations"]["fluxcd.controlplane.io/suspendedBy"], "jane", "{patch:?}");
    assert_eq!(metadata["labels"]["x"], "y");
}

#[tokio::test]
async fn a_scale_is_judged_by_what_it_scales_and_told_of_it() {
    let mut site = Site::new(&[("small", json!({"rules": {"replicas": {"max": 5}}}))]);
    let scale = |replicas: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a", "namespace": "n", "uid": "u-9", "resourceVersion": "3"}, "spec": {"replicas": replicas}});
    let mut review = request::testing::review("agones.dev", "fleets", &scale(6));
    review["request"]["kind"] = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
    review["request"]["subResource"] = json!("scale");
    review["request"]["operation"] = json!("UPDATE");
    review["request"]["oldObject"] = scale(2);
    let response = site.validate(&review).await;
    assert_eq!(
        (&response["allowed"], &response["status"]["code"]),
        (&json!(false), &json!(403)),
        "{response}"
    );
    let told = site.outbox.next_now().expect("told");
    assert_eq!(
        (&*told.regarding.kind, &*told.regarding.api_version, &*told.regarding.uid),
        ("Fleet", "agones.dev/v1", "u-9")
    );
    review["request"]["object"] = scale(5);
    assert_eq!(site.validate(&review).await["allowed"], true);
    review["request"]["object"]["spec"]["replicas"] = json!("many");
    assert_eq!(site.validate(&review).await["status"]["code"], 422);
}

#[tokio::test]
async fn a_policy_that_was_there_before_a_rule_was_stricter_may_be_labelled() {
    let site = Site::new(&[]);
    let object = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    let bad = object(json!({"rules": {"interval": {"min": "soon"}}}));
    let mut review = request::testing::review("policy.gatehouse.dev", "reconcilepolicies", &bad);
    review["request"]["operation"] = json!("UPDATE");
    for (old, allowed) in [(bad, true), (object(json!({})), false)] {
        review["request"]["oldObject"] = old;
        assert_eq!(site.validate(&review).await["allowed"], allowed);
    }
}

#[tokio::test]
async fn a_policy_is_refused_when_it_is_written_by_every_field_that_is_wrong() {
    let site = Site::new(&[]);
    let spec = json!({
        "rules": {"interval": {"min": "soon"}, "cel": [{"expression": "object.("}]},
        "defaults": {"timeout": "never"},
    });
    let object = json!({"apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy", "metadata": {"name": "a"}, "spec": spec});
    let response =
        site.validate(&request::testing::review("policy.gatehouse.dev", "reconcilepolicies", &object)).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(422)));
    let causes = response["status"]["details"]["causes"].as_array().expect("causes");
    let fields: Vec<_> = causes.iter().map(|cause| cause["field"].as_str().expect("text")).collect();
    for field in ["spec.rules.interval.min", "spec.rules.cel[0].expression", "spec.defaults.timeout"] {
        assert!(fields.contains(&field), "{fields:?}");
    }
}
