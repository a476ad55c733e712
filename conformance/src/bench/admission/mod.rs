//! Measures admission: the cost of a review, and the throughput of kube-apiserver with the webhooks.

mod creates;
mod direct;
pub(crate) mod empty;
mod wire;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::webhooks::{Address, COUNTS_NAME};
use gatehouse_certs::issue::{Authority, Leaf, Usage};
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::ports;
use gatehouse_conformance::progress::during;
use gatehouse_conformance::spread::Spread;
use gatehouse_conformance::supervise::{Program, Scratch, Supervised};
use gatehouse_conformance::webhooks::{self, Settings, Webhooks};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use self::creates::{Processes, Scenario};
use self::direct::Target;
use super::report::Report;
use gatehouse_conformance::process::Process;

/// The label of a namespace that selects how creations in it are admitted.
const WAY: &str = "bench.gatehouse.dev/way";
/// The namespace whose creations an empty webhook admits. It shows what any webhook costs kube-apiserver.
const EMPTY: &str = "bench-empty";
/// Longer than any start takes.
const STARTED: Duration = Duration::from_mins(1);

/// The namespace for which empty webhooks are registered like the validating webhooks of two replicas of Gatehouse:
/// one for policies and one for quotas, behind one address.
const EMPTY_TWO: &str = "bench-empty-two";

const SCENARIOS: [Scenario; 6] = [
    Scenario { what: "without", namespace: "bench-without", quota: None, beside: 0 },
    Scenario { what: "an empty webhook", namespace: EMPTY, quota: None, beside: 0 },
    Scenario { what: "empty webhooks, two replicas", namespace: EMPTY_TWO, quota: None, beside: 0 },
    Scenario { what: "built-in ResourceQuota", namespace: "bench-built-in", quota: None, beside: 0 },
    Scenario {
        what: "TenantQuota, one replica",
        namespace: "bench-one",
        quota: Some("bench-one"),
        beside: 1,
    },
    Scenario {
        what: "TenantQuota, two replicas",
        namespace: "bench-two",
        quota: Some("bench-two"),
        beside: 2,
    },
];

/// The amount of work.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// The time for each kind of review.
    pub(super) time: Duration,
    /// Creations per round.
    pub(super) creates: usize,
    /// Rounds per scenario.
    pub(super) rounds: usize,
}

pub(super) async fn measure(
    control_plane: &ControlPlane,
    settings: &Settings,
    effort: Effort,
    report: &mut Report,
) -> anyhow::Result<()> {
    let client = control_plane.client().await?;
    webhooks::prepare(control_plane).await?;
    let replicas = Webhooks::start(control_plane, 2, settings).await?;
    apply(&client, objects()).await?;
    register(&client, &replicas).await?;
    let empties = [Empty::start().await?, Empty::start().await?];
    let [empty, _] = &empties;
    let spread = Spread::start().await?;
    for empty in &empties {
        spread.add(empty.port);
    }
    let bundle: String = empties.iter().map(|empty| empty.ca.as_str()).collect();
    let configurations = webhooks::configurations(Address::Url(spread.url()), bundle);
    apply(&client, vec![empty.configuration()]).await?;
    apply(&client, in_the_place_of_two(configurations)).await?;

    let process =
        |number: usize| anyhow::Ok(Process(replicas.replica(number).process().context("it runs")?.pid()?));
    let gatehouse = Target {
        port: replicas.replica(0).port(),
        ca: replicas.replica(0).serving_ca(),
        process: process(0)?,
    };
    let processes = Processes {
        api_server: Process(control_plane.api_server().pid()?),
        etcd: Process(control_plane.etcd().pid()?),
        replicas: [process(0)?, process(1)?],
    };
    direct::measure(empty.target()?, gatehouse, "bench-direct", effort.time, report).await?;
    creates::measure(control_plane, &SCENARIOS, processes, (effort.creates, effort.rounds), report).await?;
    replicas.end().await
}

async fn apply(client: &kube::Client, objects: Vec<Value>) -> anyhow::Result<()> {
    let manifest = |object| Manifest { origin: "(benchmark)".to_owned(), object };
    load::apply(client, objects.into_iter().map(manifest).collect()).await
}

/// The namespaces, and quotas that are never exhausted.
fn objects() -> Vec<Value> {
    let plenty = "1000000";
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {WAY: name}}});
    let quota = |name: &str, hard: Value| {
        json!({
            "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name},
            "spec": {"namespaceSelector": {"matchLabels": {WAY: name}}, "hard": hard},
        })
    };
    let hard = json!({
        "count/configmaps": plenty, "gameservers": plenty, "requests.cpu": plenty, "requests.memory": "1000Ti",
    });
    let mut objects: Vec<_> = SCENARIOS.iter().map(|scenario| namespace(scenario.namespace)).collect();
    objects.push(namespace("bench-direct"));
    for name in SCENARIOS.iter().filter_map(|scenario| scenario.quota) {
        objects.push(quota(name, hard.clone()));
    }
    objects.push(quota("bench-direct", json!({"gameservers": plenty, "requests.cpu": plenty})));
    objects.push(json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "plenty", "namespace": "bench-built-in"},
        "spec": {"hard": {"count/configmaps": plenty, "count/fleets.agones.dev": plenty}},
        // No controller computes the usage, and kube-apiserver refuses everything until the status is set.
        "status": {
            "hard": {"count/configmaps": plenty, "count/fleets.agones.dev": plenty},
            "used": {"count/configmaps": "0", "count/fleets.agones.dev": "0"},
        },
    }));
    objects.push(json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy",
        "metadata": {"name": "bench-direct"},
        "spec": {
            "namespaceSelector": {"matchLabels": {WAY: "bench-direct"}},
            "rules": {
                "interval": {"min": "1m", "max": "1h"},
                "serviceAccountName": {"required": true, "allowed": ["flux-*"]},
                "crossNamespaceRefs": "Forbid",
                "sources": {"allowed": ["https://github.com/my-org/*"]},
                "targetNamespaces": {"allowed": ["team-a-*"]},
                "prune": "Required",
                "dependencyCycles": "Forbid",
                "suspension": {"requireReason": true, "maxDuration": "24h"},
                "replicas": {"max": 50},
                "verbs": "Authorize",
                "cel": [{"expression": "object.spec.timeout <= '5m'", "message": "keep timeouts short"}],
            },
            "defaults": {"timeout": "5m", "labels": {"gatehouse.dev/managed": "true"}},
        },
    }));
    objects
}

/// Registers the webhooks, each configuration for the namespaces of some scenarios. Gatehouse itself
/// registers the webhook for counted kinds for the scenario with two replicas; for the one with a single
/// replica this is done here.
async fn register(client: &kube::Client, replicas: &Webhooks) -> anyhow::Result<()> {
    let [_, mut two] = replicas.configurations();
    let one = replicas.replica(0);
    let [_, mut other] = webhooks::configurations(Address::Url(one.url()), one.serving_ca().to_owned());
    other["metadata"]["name"] = json!("gatehouse-one");
    if let Some(webhooks) = other["webhooks"].as_array_mut() {
        webhooks.retain(is_quota);
    }
    count_config_maps(&mut other);
    only(&mut two, &["bench-two", "bench-direct"]);
    only(&mut other, &["bench-one"]);
    apply(client, vec![two, other]).await?;
    during("registering the webhooks", until_counted(client)).await
}

/// The configuration of the empty webhooks for the namespace that the scenario with two replicas is compared
/// with.
fn in_the_place_of_two([_, mut configuration]: [Value; 2]) -> Vec<Value> {
    configuration["metadata"]["name"] = json!("empty-two");
    if let Some(webhooks) = configuration["webhooks"].as_array_mut() {
        // Removes the webhooks for policies and quotas, which Gatehouse itself must review.
        webhooks.retain(|webhook| webhook["namespaceSelector"]["matchExpressions"].is_array());
    }
    count_config_maps(&mut configuration);
    only(&mut configuration, &[EMPTY_TWO]);
    vec![configuration]
}

fn is_quota(webhook: &Value) -> bool {
    webhook["name"] == "quotas.policy.gatehouse.dev"
}

/// Adds ConfigMaps to the rules of the quota webhook.
fn count_config_maps(configuration: &mut Value) {
    let webhooks = configuration["webhooks"].as_array_mut().into_iter().flatten();
    for webhook in webhooks.filter(|webhook| is_quota(webhook)) {
        if let Some(rules) = webhook["rules"].as_array_mut() {
            rules.push(json!({
                "apiGroups": [""], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["configmaps"],
                "scope": "Namespaced",
            }));
        }
    }
}

/// Restricts the configuration to the namespaces of these scenarios.
fn only(configuration: &mut Value, ways: &[&str]) {
    for webhook in configuration["webhooks"].as_array_mut().into_iter().flatten() {
        if webhook["namespaceSelector"]["matchExpressions"].is_array() {
            webhook["namespaceSelector"] =
                json!({"matchExpressions": [{"key": WAY, "operator": "In", "values": ways}]});
        }
    }
}

/// Waits until Gatehouse has registered the webhook for counted kinds, and all quotas are enforced.
async fn until_counted(client: &kube::Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + STARTED;
    let get = async |path: String| {
        anyhow::Ok(client.request::<Value>(http::Request::get(path).body(Vec::new())?).await?)
    };
    let counts =
        format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{COUNTS_NAME}");
    loop {
        let mut missing = Vec::new();
        if get(counts.clone()).await.is_err() {
            missing.push(COUNTS_NAME.to_owned());
        }
        for name in SCENARIOS.iter().filter_map(|scenario| scenario.quota).chain(["bench-direct"]) {
            let quota = get(format!("/apis/policy.gatehouse.dev/v1alpha1/tenantquotas/{name}")).await?;
            let conditions = quota["status"]["conditions"].as_array().into_iter().flatten();
            let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
            if ready.next().is_none_or(|condition| condition["status"] != "True") {
                missing.push(name.to_owned());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "not ready: {}", missing.join(", "));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The process of the empty webhook.
struct Empty {
    // Dropped before the folder it runs in.
    process: Supervised,
    _scratch: Scratch,
    port: u16,
    ca: String,
}

impl Empty {
    async fn start() -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let authority = Authority::new("empty-webhook-ca")?;
        let identity = authority.issue(&Leaf {
            common_name: "localhost".to_owned(),
            organization: None,
            dns_names: vec!["localhost".to_owned()],
            ips: vec![Ipv4Addr::LOCALHOST.into()],
            usage: Usage::ServerAuth,
            lifetime: Duration::from_hours(24),
        })?;
        let (certificate, key) = (scratch.path().join("tls.crt"), scratch.path().join("tls.key"));
        std::fs::write(&certificate, &identity.certificate_pem)?;
        std::fs::write(&key, &identity.key_pem)?;
        let port = ports::free()?;
        let args = ["empty-webhook".into(), "--port".into(), port.to_string().into(), "--certificate".into()];
        let args = args.into_iter().chain([certificate.into(), "--key".into(), key.into()]).collect();
        let program = Program { path: empty::executable()?, args, env: Vec::new() };
        let process = scratch.spawn("empty-webhook", &program)?;
        let ca = authority.certificate_pem().to_owned();
        let deadline = Instant::now() + STARTED;
        while wire::Connection::open(port, &ca).await.is_err() {
            ensure!(Instant::now() < deadline, "it does not serve: {}", process.log_tail(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { process, _scratch: scratch, port, ca })
    }

    /// The configuration that registers it for creations in its namespace.
    fn configuration(&self) -> Value {
        let rule = |group: &str, resource: &str| json!({"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE"], "resources": [resource]});
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "empty"},
            "webhooks": [{
                "name": "empty.gatehouse.dev",
                "clientConfig": {
                    "url": format!("https://localhost:{}{}", self.port, empty::PATH),
                    "caBundle": ByteString(self.ca.clone().into_bytes()),
                },
                "rules": [rule("", "configmaps"), rule("agones.dev", "fleets")],
                "namespaceSelector": {"matchLabels": {WAY: EMPTY}},
                "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            }],
        })
    }

    fn target(&self) -> anyhow::Result<Target<'_>> {
        Ok(Target { port: self.port, ca: &self.ca, process: Process(self.process.pid()?) })
    }
}
