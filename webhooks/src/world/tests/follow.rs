//! A world that follows an API server, in paused time.

use std::time::Duration;

use gatehouse_inventory::source::WatchSettings;
use tokio::time::timeout;

use super::*;
use gatehouse_fake_api::FakeApi;

const POLICY: &str = "policy.gatehouse.dev";

struct Running {
    world: World,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn server_api() -> FakeApi {
    let api = FakeApi::with_policies();
    api.serve("agones.dev", "v1", "fleets", "Fleet");
    api
}

fn observe(api: &FakeApi) -> Running {
    let settings = WatchSettings { discovery_interval: Duration::from_secs(6), ..WatchSettings::default() };
    let (world, observation) = World::new(api.client(), settings, "gatehouse-system");
    let stop = CancellationToken::new();
    let task = tokio::spawn(observation.run(stop.clone()));
    Running { world, stop, task }
}

impl Running {
    /// Waits until the condition holds.
    async fn until(&self, what: &str, is_so: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut changed = self.world.changed();
        let wait = async {
            while !is_so(&self.world.snapshot()) {
                changed.changed().await.unwrap();
            }
        };
        let waited = timeout(Duration::from_mins(5), wait).await;
        assert!(waited.is_ok(), "never {what}: {:?}", self.world.readiness());
        self.world.snapshot()
    }

    async fn ready(&self) -> Arc<Snapshot> {
        self.until("ready", |snapshot| snapshot.readiness().is_ok()).await
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn secrets() -> GroupResource {
    GroupResource::new("", "secrets")
}

#[tokio::test(start_paused = true)]
async fn a_world_is_ready_when_every_kind_is_listed_or_absent() {
    let api = server_api();
    api.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "games", "labels": {"tenant": "a"}}}));
    api.put(fleet("lobby", 0, 3));
    let running = observe(&api);
    assert!(running.world.readiness().is_err());
    let snapshot = running.ready().await;
    assert_eq!(snapshot.namespaces["games"].labels["tenant"], "a");
    assert_eq!(of(snapshot.usage_of("games").unwrap(), "gameservers"), "3");
    assert_eq!(snapshot.kinds[&fleets()].version(), Some("v1"));
    assert!(snapshot.kinds[&fleets()].revision >= Some(2), "{:?}", snapshot.kinds[&fleets()]);
    let absent = &snapshot.kinds[kustomizations()];
    assert!(absent.is_synced && absent.revision.is_none() && absent.obstacle().is_none(), "{absent:?}");

    let scaled = api.put(fleet("lobby", 0, 5));
    let version: u64 = scaled["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let snapshot = running
        .until("scaled", |snapshot| of(snapshot.usage_of("games").unwrap(), "gameservers") == "5")
        .await;
    assert_eq!(snapshot.object(&fleets(), "games", "lobby").unwrap().resource_version, version);
    running.until("reached", |snapshot| snapshot.kinds[&fleets()].revision == Some(version)).await;
    api.delete("agones.dev", "fleets", "games", "lobby");
    running.until("gone", |snapshot| snapshot.was_deleted("uid-lobby")).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_may_not_be_watched_keeps_the_world_from_being_ready_and_is_named() {
    let api = server_api();
    api.forbid("agones.dev", "fleets", true);
    let running = observe(&api);
    running
        .until("named", |snapshot| {
            snapshot
                .readiness()
                .is_err_and(|reason| reason == "fleets.agones.dev may not be watched: fleets is forbidden")
        })
        .await;
    api.forbid("agones.dev", "fleets", false);
    running.ready().await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn runtime_classes_that_may_not_be_watched_stop_nothing() {
    let api = server_api();
    api.serve("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass");
    api.forbid("node.k8s.io", "runtimeclasses", true);
    let running = observe(&api);
    running.ready().await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_may_come_and_go() {
    let api = server_api();
    let running = observe(&api);
    running.ready().await;
    api.serve("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", "Kustomization");
    api.put(json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
                   "metadata": {"name": "app", "namespace": "apps", "uid": "u"}, "spec": {}}));
    running.until("there", |snapshot| snapshot.object(kustomizations(), "apps", "app").is_some()).await;
    api.withdraw("kustomize.toolkit.fluxcd.io", "kustomizations");
    let snapshot =
        running.until("gone", |snapshot| snapshot.object(kustomizations(), "apps", "app").is_none()).await;
    assert!(snapshot.readiness().is_ok());
    running.until("without revision", |snapshot| snapshot.kinds[kustomizations()].revision.is_none()).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_quota_counts_is_followed_by_its_metadata_as_long_as_one_counts_it() {
    let api = server_api();
    api.serve("", "v1", "secrets", "Secret");
    api.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "games", "labels": {"tenant": "a"}}}));
    api.put(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "games"},
                   "data": {"password": "aHVudGVyMg=="}}));
    let running = observe(&api);
    running.ready().await;
    assert!(api.asked().iter().all(|asked| !asked.contains("secrets")));

    api.put(quota("a", 1, &[("count/secrets", "5")]));
    let snapshot = running.until("counted", |snapshot| snapshot.usage_of("games").is_some()).await;
    let quota_of = |snapshot: &Snapshot| Arc::clone(&snapshot.quotas[0]);
    assert_eq!(of(&snapshot.used(&quota_of(&snapshot)), "count/secrets"), "1");
    assert!(snapshot.object(&secrets(), "games", "s").unwrap().text.is_none());
    let accepted = api.accepted("/api/v1/secrets").unwrap();
    assert!(accepted.contains("as=PartialObjectMetadata;"), "{accepted}");
    running.until("listed", |snapshot| snapshot.obstacles(&quota_of(snapshot)).is_empty()).await;

    api.delete(POLICY, "tenantquotas", "", "a");
    let snapshot =
        running.until("counted no more", |snapshot| !snapshot.kinds.contains_key(&secrets())).await;
    assert!(snapshot.usage_of("games").is_none());
    let uid = api.get("", "secrets", "games", "s").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    assert!(!snapshot.was_deleted(&uid), "it is there; nobody looks");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_counted_kind_that_may_not_be_watched_stops_its_quota_alone() {
    let api = server_api();
    api.serve("", "v1", "secrets", "Secret");
    api.forbid("", "secrets", true);
    api.put(quota("a", 1, &[("count/secrets", "5")]));
    let running = observe(&api);
    let snapshot =
        running.until("ready", |snapshot| snapshot.readiness().is_ok() && snapshot.quotas.len() == 1).await;
    let obstacles = snapshot.obstacles(&snapshot.quotas[0]);
    assert_eq!(obstacles, [(secrets(), "may not be watched: secrets is forbidden".to_owned())]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lags_says_how_far_it_came() {
    let api = server_api();
    let running = observe(&api);
    running.ready().await;
    let first = api.put(fleet("a", 0, 1));
    let version =
        |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    running.until("seen", |snapshot| snapshot.kinds[&fleets()].revision == Some(version(&first))).await;
    api.hold_watches(true);
    let second = api.put(fleet("b", 0, 1));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let snapshot = running.world.snapshot();
    assert_eq!(snapshot.kinds[&fleets()].revision, Some(version(&first)));
    assert!(snapshot.object(&fleets(), "games", "b").is_none());
    api.hold_watches(false);
    running.until("seen", |snapshot| snapshot.kinds[&fleets()].revision == Some(version(&second))).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_cache_does_not_have_is_asked_for_and_absence_is_told_from_trouble() {
    let api = server_api();
    let running = observe(&api);
    let snapshot = running.ready().await;
    api.hold_watches(true);
    api.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new", "labels": {"tenant": "b"}}}));
    api.put(fleet("lobby", 0, 3));
    let live = Live::new(api.client(), Duration::from_secs(2));
    assert_eq!(live.namespace("new").await.unwrap().unwrap().labels["tenant"], "b");
    assert!(live.namespace("other").await.unwrap().is_none());
    let found = live.object(&snapshot, &fleets(), "games", "lobby").await.unwrap().unwrap();
    assert_eq!(found["spec"]["replicas"], 3);
    assert!(live.object(&snapshot, &fleets(), "games", "../lobby").await.unwrap().is_none());
    let unknown = live.object(&snapshot, kustomizations(), "apps", "app").await;
    assert!(matches!(unknown, Err(LiveError::NotServed(_))), "{unknown:?}");
    // The 404 of a path that is not served says nothing about the object.
    let wrong = live.object_at(&fleets(), "v9", "games", "lobby").await;
    assert!(matches!(wrong, Err(LiveError::Failed(_))), "{wrong:?}");
    api.fail(true);
    assert!(live.namespace("new").await.is_err());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_missed_for_a_moment_keeps_its_objects() {
    let api = server_api();
    api.put(fleet("lobby", 0, 3));
    let running = observe(&api);
    running.ready().await;
    // As when an API server starts: neither discovery nor requests know the CRD.
    let lobby = api.get("agones.dev", "fleets", "games", "lobby").unwrap();
    api.withdraw("agones.dev", "fleets");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(running.world.snapshot().object(&fleets(), "games", "lobby").is_some());
    api.serve("agones.dev", "v1", "fleets", "Fleet");
    api.put(lobby);
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(running.world.snapshot().object(&fleets(), "games", "lobby").is_some());
    assert!(!running.world.snapshot().was_deleted("uid-lobby"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_counted_kind_that_never_answers_is_waited_for_and_not_for_ever() {
    let api = server_api();
    api.serve("", "v1", "secrets", "Secret");
    api.hang("", "secrets");
    api.put(quota("a", 1, &[("count/secrets", "5")]));
    let running = observe(&api);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(running.world.readiness().unwrap_err(), "waiting for secrets");
    let snapshot = running.ready().await;
    assert_eq!(snapshot.obstacles(&snapshot.quotas[0]).len(), 1);
    // Readiness does not wait for a kind that a quota begins to count later.
    api.serve("", "v1", "configmaps", "ConfigMap");
    api.hang("", "configmaps");
    api.put(quota("b", 1, &[("count/configmaps", "5")]));
    running.until("seen", |snapshot| snapshot.quotas.len() == 2).await;
    assert!(running.world.readiness().is_ok());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_comes_right_after_the_start_does_not_take_readiness_back() {
    let api = server_api();
    api.serve("", "v1", "secrets", "Secret");
    api.hang("", "secrets");
    let running = observe(&api);
    running.ready().await;
    api.put(quota("a", 1, &[("count/secrets", "5")]));
    let snapshot = running.until("seen", |snapshot| snapshot.quotas.len() == 1).await;
    assert_eq!(snapshot.obstacles(&snapshot.quotas[0]).len(), 1);
    assert_eq!(running.world.readiness(), Ok(()));
    running.stop().await;
}
