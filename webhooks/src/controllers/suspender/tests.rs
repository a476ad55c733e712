//! A suspender with a fake API server, in paused time. The wall clock follows it.

mod marks;

use gatehouse_fake_api::FakeApi;
use gatehouse_installation::lease::Leadership;
use gatehouse_inventory::source::WatchSettings;
use gatehouse_serving::events::{EventBroadcaster, EventRecorder};
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};

use super::*;
use crate::{metrics::Metrics, server::reporter, world::World};

const POLICY: &str = "policy.gatehouse.dev";
const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
const OPERATOR: &str = "fluxcd.controlplane.io";
/// A freeze every day from 12:00 to 13:00 UTC.
const NOON: &str =
    r#"{"freezes": [{"name": "noon", "schedule": "0 12 * * *", "duration": "1h", "reason": "lunch"}]}"#;
const SHORT: &str = r#"{"suspension": {"maxDuration": "2h"}}"#;

struct Running {
    api: FakeApi,
    broadcaster: EventBroadcaster,
    began: (Timestamp, Instant),
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

fn api() -> FakeApi {
    let api = FakeApi::with_policies();
    api.track_fields();
    api.serve(KUSTOMIZE, "v1", "kustomizations", "Kustomization");
    api.serve("helm.toolkit.fluxcd.io", "v2", "helmreleases", "HelmRelease");
    api.serve("source.toolkit.fluxcd.io", "v1", "gitrepositories", "GitRepository");
    api.serve(OPERATOR, "v1", "resourcesets", "ResourceSet");
    for (name, tenant) in [("apps", "a"), ("other", "b")] {
        api.put(json!({"apiVersion": "v1", "kind": "Namespace",
                       "metadata": {"name": name, "labels": {"tenant": tenant}}}));
    }
    api
}

fn policy(name: &str, enforcement: &str, rules: &str) -> Value {
    json!({"apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy", "metadata": {"name": name},
           "spec": {"namespaceSelector": {"matchLabels": {"tenant": "a"}}, "enforcement": enforcement,
                    "rules": serde_json::from_str::<Value>(rules).unwrap()}})
}

#[allow(clippy::needless_pass_by_value, reason = "what json! makes is handed over")]
fn object(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    let api_version = match kind {
        "Kustomization" => "kustomize.toolkit.fluxcd.io/v1",
        "HelmRelease" => "helm.toolkit.fluxcd.io/v2",
        "GitRepository" => "source.toolkit.fluxcd.io/v1",
        _ => "fluxcd.controlplane.io/v1",
    };
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn kustomization(name: &str, spec: Value) -> Value {
    object("Kustomization", "apps", name, spec)
}

/// Runs a suspender that leads, from the time `at` on.
fn run(api: FakeApi, at: &str) -> Running {
    run_by(api, at, Leadership::fixed(true))
}

fn run_by(api: FakeApi, at: &str, leadership: Leadership) -> Running {
    let (world, observation) = World::new(api.client(), WatchSettings::default(), "gatehouse-system");
    let metrics = Arc::new(Metrics::new(&Registry::new()));
    let (events, broadcaster) = EventRecorder::new(metrics.events(), reporter("me"));
    let context = Context { client: api.client(), world, leadership, events, metrics };
    let began = (at.parse::<Timestamp>().unwrap(), Instant::now());
    let clock = move || began.0.checked_add(began.1.elapsed()).unwrap();
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(observation.run(stop.clone()));
    tasks.spawn(Suspender::by_clock(context, Arc::new(clock)).run(stop.clone()));
    Running { api, broadcaster, began, stop, tasks }
}

impl Running {
    /// Waits until two seconds after this time.
    async fn until(&self, at: &str) {
        let left = at.parse::<Timestamp>().unwrap().duration_since(self.began.0);
        tokio::time::sleep_until(self.began.1 + Duration::try_from(left).unwrap() + Duration::from_secs(2))
            .await;
    }

    fn kustomization(&self, name: &str) -> Value {
        self.api.get(KUSTOMIZE, "kustomizations", "apps", name).unwrap()
    }

    fn is_suspended(&self, name: &str) -> bool {
        self.kustomization(name)["spec"]["suspend"] == true
    }

    fn annotation(&self, name: &str, annotation: &str) -> Option<String> {
        self.kustomization(name)["metadata"]["annotations"][annotation].as_str().map(str::to_owned)
    }

    /// The reasons, names and notes of the Events.
    fn notices(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.broadcaster.next_now())
            .map(|notice| format!("{} {}: {}", notice.reason, notice.regarding.name, notice.note))
            .collect()
    }

    fn writes(&self) -> usize {
        self.api.asked().iter().filter(|asked| asked.starts_with("PATCH")).count()
    }

    /// Stops, and returns the API server.
    async fn stop(mut self) -> FakeApi {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.api
    }
}

#[tokio::test(start_paused = true)]
async fn a_freeze_holds_what_applies_and_lets_go_of_exactly_that() {
    let api = api();
    api.put(policy("p", "Deny", NOON));
    api.put(kustomization("a", json!({})));
    api.put(kustomization("by-jane", json!({"suspend": true})));
    api.put(object("HelmRelease", "apps", "h", json!({})));
    api.put(object("ResourceSet", "apps", "r", json!({})));
    api.put(object("GitRepository", "apps", "g", json!({})));
    api.put(object("Kustomization", "other", "o", json!({})));
    let mut running = run(api, "2027-01-06T11:55:00Z");

    running.until("2027-01-06T11:59:00Z").await;
    assert_eq!(running.writes(), 0);

    running.until("2027-01-06T12:00:00Z").await;
    assert!(running.is_suspended("a"));
    assert_eq!(running.annotation("a", "gatehouse.dev/frozen-by").as_deref(), Some("p/noon"));
    assert_eq!(running.annotation("a", "fluxcd.controlplane.io/suspendedBy").as_deref(), Some("gatehouse"));
    assert_eq!(running.annotation("by-jane", "gatehouse.dev/frozen-by"), None);
    let release = running.api.get("helm.toolkit.fluxcd.io", "helmreleases", "apps", "h").unwrap();
    assert_eq!(release["spec"]["suspend"], true);
    let set = running.api.get(OPERATOR, "resourcesets", "apps", "r").unwrap();
    assert_eq!(set["metadata"]["annotations"]["fluxcd.controlplane.io/reconcile"], "disabled");
    assert_eq!(set["spec"], json!({}));
    let mut notices = running.notices();
    notices.sort();
    assert_eq!(notices.len(), 3);
    assert_eq!(
        notices[0],
        "Frozen a: suspended by the freeze p/noon (lunch), which ends 2027-01-06 13:00 +00:00 (UTC)"
    );

    running.until("2027-01-06T12:59:50Z").await;
    assert_eq!(running.writes(), 3, "once is enough");

    running.until("2027-01-06T13:00:00Z").await;
    assert!(!running.is_suspended("a"));
    assert_eq!(running.kustomization("a")["metadata"]["annotations"], json!({}));
    assert!(running.is_suspended("by-jane"), "it was not the freeze that suspended it");
    let set = running.api.get(OPERATOR, "resourcesets", "apps", "r").unwrap();
    assert_eq!(set["metadata"]["annotations"], json!({}));
    let notices = running.notices();
    assert!(notices.contains(&"FreezeEnded a: resumed: the freeze p/noon is over".to_owned()), "{notices:?}");
    let elsewhere = [
        ("source.toolkit.fluxcd.io", "gitrepositories", "apps", "g"),
        (KUSTOMIZE, "kustomizations", "other", "o"),
    ];
    for (group, plural, namespace, name) in elsewhere {
        assert_eq!(running.api.get(group, plural, namespace, name).unwrap()["spec"], json!({}));
    }
    assert_eq!(running.writes(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_is_made_or_resumed_during_a_freeze_is_held_too() {
    let api = api();
    api.put(policy("p", "Deny", NOON));
    api.put(kustomization("a", json!({})));
    let running = run(api, "2027-01-06T12:10:00Z");
    running.until("2027-01-06T12:11:00Z").await;
    assert!(running.is_suspended("a"));

    running.api.put(kustomization("new", json!({})));
    let mut resumed = running.kustomization("a");
    resumed["spec"]["suspend"] = json!(false);
    running.api.put(resumed);
    running.until("2027-01-06T12:12:00Z").await;
    assert!(running.is_suspended("a") && running.is_suspended("new"));

    running.until("2027-01-06T13:00:00Z").await;
    assert!(!running.is_suspended("a") && !running.is_suspended("new"));
}

#[tokio::test(start_paused = true)]
async fn what_was_held_is_let_go_by_whoever_leads_at_the_end() {
    let api = api();
    api.put(policy("p", "Deny", NOON));
    api.put(kustomization("a", json!({})));
    api.put(kustomization("by-jane", json!({"suspend": true})));
    let first = run(api, "2027-01-06T12:10:00Z");
    first.until("2027-01-06T12:11:00Z").await;
    let api = first.stop().await;

    let idle = run_by(api, "2027-01-06T13:10:00Z", Leadership::fixed(false));
    idle.until("2027-01-06T13:20:00Z").await;
    assert!(idle.is_suspended("a"), "it does not lead");
    let api = idle.stop().await;

    let second = run(api, "2027-01-06T15:00:00Z");
    second.until("2027-01-06T15:00:10Z").await;
    assert!(!second.is_suspended("a") && second.is_suspended("by-jane"));
}

#[tokio::test(start_paused = true)]
async fn a_freeze_that_is_withdrawn_lets_go() {
    for rules in [Some("{}"), None] {
        let api = api();
        api.put(policy("p", "Deny", NOON));
        api.put(kustomization("a", json!({})));
        let running = run(api, "2027-01-06T12:10:00Z");
        running.until("2027-01-06T12:11:00Z").await;
        assert!(running.is_suspended("a"));
        match rules {
            Some(rules) => drop(running.api.put(policy("p", "Deny", rules))),
            None => running.api.delete(POLICY, "reconcilepolicies", "", "p"),
        }
        running.until("2027-01-06T12:12:00Z").await;
        assert!(!running.is_suspended("a"), "{rules:?}");
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_warns_or_audits_holds_nothing_back() {
    let api = api();
    api.put(policy("p", "Warn", NOON));
    api.put(policy("q", "Audit", NOON));
    api.put(kustomization("a", json!({})));
    let running = run(api, "2027-01-06T12:10:00Z");
    running.until("2027-01-06T12:20:00Z").await;
    assert_eq!(running.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_suspension_ends_at_its_longest_duration() {
    let api = api();
    api.put(policy("p", "Deny", SHORT));
    let mut noted = kustomization("noted", json!({"suspend": true}));
    noted["metadata"]["annotations"] = json!({
        "gatehouse.dev/suspended-at": "2027-01-06T09:00:00Z", "fluxcd.controlplane.io/suspendedBy": "jane",
        "gatehouse.dev/suspend-reason": "repair", "own": "kept",
    });
    api.put(noted);
    api.put(kustomization("first-seen", json!({"suspend": true})));
    let mut forged = kustomization("forged", json!({"suspend": true}));
    forged["metadata"]["annotations"] = json!({"gatehouse.dev/suspended-at": "2099-01-01T00:00:00Z"});
    api.put(forged);
    let mut set = object("ResourceSet", "apps", "r", json!({}));
    set["metadata"]["annotations"] = json!({"fluxcd.controlplane.io/reconcile": "disabled"});
    api.put(set);
    api.put(object("Kustomization", "other", "o", json!({"suspend": true})));
    let mut running = run(api, "2027-01-06T10:00:00Z");

    running.until("2027-01-06T10:59:50Z").await;
    assert!(running.is_suspended("noted"));
    for name in ["first-seen", "forged"] {
        let since = running.annotation(name, "gatehouse.dev/suspended-at").unwrap();
        assert!(since.starts_with("2027-01-06T10:00:0"), "{since}");
    }
    running.until("2027-01-06T11:00:00Z").await;
    assert!(!running.is_suspended("noted"));
    assert_eq!(running.kustomization("noted")["metadata"]["annotations"], json!({"own": "kept"}));
    assert!(running.is_suspended("first-seen"));
    let notices = running.notices();
    assert_eq!(notices.len(), 1);
    assert!(
        notices[0].starts_with("SuspensionExpired noted: resumed: suspended since 2027-01-06T09:00:00Z"),
        "{notices:?}"
    );

    running.until("2027-01-06T12:00:10Z").await;
    assert!(!running.is_suspended("first-seen") && !running.is_suspended("forged"));
    let set = running.api.get(OPERATOR, "resourcesets", "apps", "r").unwrap();
    assert_eq!(set["metadata"]["annotations"], json!({}));
    let other = running.api.get(KUSTOMIZE, "kustomizations", "other", "o").unwrap();
    assert_eq!(other["spec"]["suspend"], true);
}

#[tokio::test(start_paused = true)]
async fn what_a_suspension_left_behind_is_cleared_away() {
    let api = api();
    let mut resumed = kustomization("a", json!({"suspend": false}));
    resumed["metadata"]["annotations"] = json!({
        "gatehouse.dev/suspended-at": "2027-01-06T09:00:00Z", "fluxcd.controlplane.io/suspendedBy": "jane",
        "gatehouse.dev/suspend-reason": "repair",
    });
    api.put(resumed);
    let mut running = run(api, "2027-01-06T10:00:00Z");
    running.until("2027-01-06T10:01:00Z").await;
    assert_eq!(running.kustomization("a")["metadata"]["annotations"], json!({}));
    assert_eq!(running.notices(), [] as [String; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_only_warns_tells_once_of_what_is_suspended_too_long() {
    let api = api();
    api.put(policy("p", "Warn", SHORT));
    api.put(kustomization("a", json!({"suspend": true})));
    let mut running = run(api, "2027-01-06T10:00:00Z");
    running.until("2027-01-06T18:00:00Z").await;
    assert!(running.is_suspended("a"));
    let notices = running.notices();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].starts_with("SuspensionOverdue a: "), "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn the_longest_duration_of_suspensions_does_not_end_a_freeze() {
    let api = api();
    let rules = r#"{"suspension": {"maxDuration": "10m"}, "freezes": [{"name": "noon", "schedule": "0 12 * * *", "duration": "1h"}]}"#;
    api.put(policy("p", "Deny", rules));
    api.put(kustomization("a", json!({})));
    let mut by_jane = kustomization("by-jane", json!({"suspend": true}));
    by_jane["metadata"]["annotations"] = json!({"gatehouse.dev/suspended-at": "2027-01-06T11:55:00Z"});
    api.put(by_jane);
    let running = run(api, "2027-01-06T12:00:00Z");
    running.until("2027-01-06T12:59:50Z").await;
    assert!(running.is_suspended("a") && running.is_suspended("by-jane"));
    running.until("2027-01-06T13:00:10Z").await;
    assert!(!running.is_suspended("a") && !running.is_suspended("by-jane"));
}

#[tokio::test(start_paused = true)]
async fn what_is_going_is_left_alone() {
    let api = api();
    api.put(policy("p", "Deny", NOON));
    let mut going = kustomization("a", json!({}));
    going["metadata"]["deletionTimestamp"] = json!("2027-01-06T12:00:00Z");
    api.put(going);
    let running = run(api, "2027-01-06T12:10:00Z");
    running.until("2027-01-06T12:20:00Z").await;
    assert_eq!(running.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_made_again() {
    let api = api();
    api.put(policy("p", "Deny", NOON));
    api.put(kustomization("a", json!({})));
    let running = run(api, "2027-01-06T11:59:00Z");
    running.until("2027-01-06T11:59:30Z").await;
    running.api.fail(true);
    running.until("2027-01-06T12:00:20Z").await;
    assert!(!running.is_suspended("a"));
    running.api.fail(false);
    running.until("2027-01-06T12:02:00Z").await;
    assert!(running.is_suspended("a"));
}
