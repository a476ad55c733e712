//! Quotas at work against an API server in process, in paused time.

mod kruise;
mod members;
mod replicas;
mod requests;

use std::{sync::Arc, time::Duration};

use gatehouse_fake_api::FakeApi;
use gatehouse_inventory::source::WatchSettings;
use gatehouse_quota::GroupResource;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use gatehouse_policy::Operation;

use super::{Admission, QuotaRequest, Quotas, Refusal, Requester, Verdict};
use crate::{
    controllers::Interception,
    metrics::Metrics,
    world::{Live, Snapshot, World},
};

const POLICY: &str = "policy.gatehouse.dev";

/// A replica.
struct Replica {
    api: FakeApi,
    world: World,
    quotas: Quotas,
    leading: watch::Sender<bool>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

fn server_api() -> FakeApi {
    let api = FakeApi::with_policies();
    api.serve("agones.dev", "v1", "fleets", "Fleet");
    api.serve("", "v1", "configmaps", "ConfigMap");
    api.put(json!({"apiVersion": "v1", "kind": "Namespace",
                   "metadata": {"name": "games", "labels": {"tenant": "a"}}}));
    api
}

fn put_quota(api: &FakeApi, name: &str, hard: &Value, enforcement: &str) {
    api.put(json!({"apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name},
        "spec": {"namespaceSelector": {"matchLabels": {"tenant": "a"}}, "hard": hard, "enforcement": enforcement}}));
}

fn configmaps() -> GroupResource {
    GroupResource::new("", "configmaps")
}

fn configmap(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
           "metadata": {"name": name, "namespace": "games", "uid": format!("uid-{name}")}})
}

fn fleet(name: &str, replicas: u64) -> Value {
    json!({"apiVersion": "agones.dev/v1", "kind": "Fleet",
           "metadata": {"name": name, "namespace": "games", "uid": format!("uid-{name}")},
           "spec": {"replicas": replicas, "template": {"spec": {"template": {"spec": {"containers": [
               {"name": "server", "resources": {"requests": {"cpu": "500m"}}}]}}}}}})
}

fn ledger(api: &FakeApi, name: &str) -> Value {
    api.get(POLICY, "quotaledgers", "", name).unwrap_or_default()["spec"].clone()
}

/// What the ledger's blocks and the entries of versions without blocks hold.
fn blocks(api: &FakeApi, name: &str) -> usize {
    let entries = ledger(api, name)["entries"].as_object().cloned().unwrap_or_default();
    entries.keys().filter(|name| **name != "seal").count()
}

/// What replicas have admitted and is not counted, as the quota's status shows.
fn reserved(api: &FakeApi, name: &str) -> Value {
    let status = api.get(POLICY, "tenantquotas", "", name).unwrap()["status"].clone();
    status["reserved"].as_object().filter(|all| !all.is_empty()).map_or(Value::Null, |all| json!(all))
}

fn writes(api: &FakeApi) -> usize {
    api.asked().iter().filter(|asked| asked.starts_with("PUT ") && asked.contains("/quotaledgers/")).count()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(Duration::from_mins(5), wait).await.is_ok(), "never {what}");
}

impl Replica {
    fn start(api: &FakeApi, leads: bool) -> Self {
        let settings =
            WatchSettings { discovery_interval: Duration::from_secs(6), ..WatchSettings::default() };
        let (world, observation) = World::new(api.client(), settings, "gatehouse-system");
        let stop = CancellationToken::new();
        let (leading, is_leading) = watch::channel(leads);
        let live = Live::new(api.client(), Duration::from_secs(2));
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()));
        let quotas = Quotas::new(
            world.clone(),
            live,
            api.client(),
            metrics,
            is_leading,
            watch::channel(Interception::default()).1,
            Duration::from_mins(1),
        );
        let tasks =
            vec![tokio::spawn(observation.run(stop.clone())), tokio::spawn(quotas.clone().run(stop.clone()))];
        Self { api: api.clone(), world, quotas, leading, stop, tasks }
    }

    /// Whatever is to be seen was, and the ledgers stand.
    async fn ready(self) -> Self {
        self.seen("ready", |world| {
            world.readiness().is_ok()
                && !world.quotas.is_empty()
                && world.quotas.iter().all(|quota| {
                    world.obstacles(quota).is_empty() && world.ledgers.contains_key(&*quota.name)
                })
        })
        .await;
        self
    }

    async fn seen(&self, what: &str, is_so: impl Fn(&Snapshot) -> bool) {
        until(what, || is_so(&self.world.snapshot())).await;
    }

    async fn review(&self, request: QuotaRequest<'_>) -> Verdict {
        let over = self.world.snapshot().quotas.to_vec();
        self.quotas.review(&over, request).await
    }

    async fn create_of(&self, resource: &GroupResource, object: &Value, dry_run: bool) -> Verdict {
        self.review(QuotaRequest {
            requester: Requester::Other,
            operation: Operation::Create,
            resource,
            version: "v1",
            subresource: "",
            namespace: "games",
            object: Some(object),
            old: None,
            user: "jane",
            dry_run,
            until: Instant::now() + Duration::from_secs(5),
        })
        .await
    }

    /// Reviews a creation, and makes it if it is admitted.
    async fn create(&self, name: &str) -> Verdict {
        let object = configmap(name);
        let verdict = self.create_of(&configmaps(), &object, false).await;
        if is_admitted(&verdict) {
            self.api.put(object);
        }
        verdict
    }

    async fn update(&self, resource: &GroupResource, old: &Value, new: &Value, subresource: &str) -> Verdict {
        self.review(QuotaRequest {
            requester: Requester::Other,
            operation: Operation::Update,
            resource,
            version: "v1",
            subresource,
            namespace: "games",
            object: Some(new),
            old: Some(old),
            user: "jane",
            dry_run: false,
            until: Instant::now() + Duration::from_secs(5),
        })
        .await
    }

    async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            timeout(Duration::from_secs(30), task).await.expect("ends").unwrap();
        }
    }
}

fn is_admitted(verdict: &Verdict) -> bool {
    verdict.is_ok()
}

fn is_exceeded(verdict: &Verdict) -> bool {
    matches!(verdict, Err(Refusal::Exceeded { .. }))
}
