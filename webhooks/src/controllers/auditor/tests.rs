//! An auditor with a fake API server, in paused time.

use gatehouse_inventory::source::WatchSettings;
use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use gatehouse_fake_api::FakeApi;
use gatehouse_installation::lease::Election;

const POLICY: &str = "policy.gatehouse.dev";
const FLUX: &str = "kustomize.toolkit.fluxcd.io";

fn api() -> FakeApi {
    let api = FakeApi::with_policies();
    api.serve(FLUX, "v1", "kustomizations", "Kustomization");
    api.serve("coordination.k8s.io", "v1", "leases", "Lease");
    api.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps"}}));
    api
}

fn policy(min: &str) -> Value {
    json!({"apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy",
           "metadata": {"name": "strict"}, "spec": {"rules": {"interval": {"min": min}}}})
}

fn app(name: &str, interval: &str) -> Value {
    json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
           "metadata": {"name": name, "namespace": "apps"}, "spec": {"interval": interval}})
}

struct Running {
    api: FakeApi,
    registry: Registry,
    stop: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
}

fn run(api: &FakeApi, leadership: Leadership) -> Running {
    let (world, observation) = World::new(api.client(), WatchSettings::default(), "gatehouse-system");
    let (registry, stop) = (Registry::new(), CancellationToken::new());
    let metrics = Arc::new(Metrics::new(&registry));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(observation.run(stop.clone()));
    tasks.spawn(Auditor::new(world, api.client(), metrics, leadership).run(stop.clone()));
    Running { api: api.clone(), registry, stop, tasks }
}

impl Running {
    fn status(&self) -> Value {
        let policy = self.api.get(POLICY, "reconcilepolicies", "", "strict");
        policy.map_or(Value::Null, |policy| policy["status"].clone())
    }

    /// Waits until the status of the policy satisfies the condition.
    async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..3000 {
            let status = self.status();
            if is_so(&status) {
                return status;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("never {what}: {}", self.status());
    }

    fn writes(&self) -> usize {
        self.api.asked().iter().filter(|asked| asked.starts_with("PATCH")).count()
    }

    fn violations(&self) -> Vec<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.lines()
            .filter(|line| line.starts_with("gatehouse_policy_violations{"))
            .map(str::to_owned)
            .collect()
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

fn condition(status: &Value, of: &str) -> Value {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == of).cloned().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn violations_are_told_as_they_come_and_go() {
    let api = api();
    api.put(policy("1m"));
    api.put(app("quick", "10s"));
    api.put(app("slow", "10m"));
    let running = run(&api, Leadership::fixed(true));
    let status = running.until("judged", |status| status["judged"] == 2).await;
    assert_eq!((&status["violations"], &status["observedGeneration"]), (&json!(1), &json!(1)));
    assert_eq!(status["rules"], json!([{"rule": "interval", "violations": 1, "enforcement": "Deny"}]));
    let example = &status["examples"][0];
    assert_eq!((&example["kind"], &example["name"]), (&json!("Kustomization"), &json!("quick")));
    let compliant = condition(&status, "Compliant");
    assert_eq!(
        (&compliant["status"], &compliant["message"]),
        (&json!("False"), &json!("1 object breaks interval"))
    );
    assert_eq!(condition(&status, "Ready")["status"], "True");
    assert_eq!(running.violations(), [r#"gatehouse_policy_violations{policy="strict",rule="interval"} 1"#]);

    api.put(app("quick", "2m"));
    let status =
        running.until("compliant", |status| condition(status, "Compliant")["status"] == "True").await;
    assert_eq!((&status["violations"], &status["rules"]), (&json!(0), &json!([])));
    assert!(running.violations().is_empty());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_as_it_was_is_not_written_and_conditions_keep_their_time() {
    let api = api();
    api.put(policy("1m"));
    api.put(app("quick", "10s"));
    let mut old = api.get(POLICY, "reconcilepolicies", "", "strict").unwrap();
    old["status"] = json!({"conditions": [
        {"type": "Compliant", "status": "False", "reason": "Old", "message": "",
         "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Ready", "status": "False", "reason": "Old", "message": "",
         "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    api.put(old);
    let running = run(&api, Leadership::fixed(true));
    let status = running.until("judged", |status| status["judged"] == 1).await;
    assert_eq!(condition(&status, "Compliant")["lastTransitionTime"], "2026-01-01T00:00:00Z");
    assert_ne!(condition(&status, "Ready")["lastTransitionTime"], "2026-01-01T00:00:00Z");
    sleep(Duration::from_mins(10)).await;
    assert_eq!(running.writes(), 1);
    // A status written by somebody else is corrected.
    let mut touched = api.get(POLICY, "reconcilepolicies", "", "strict").unwrap();
    touched["status"]["violations"] = 7.into();
    api.put(touched);
    running.until("right", |status| status["violations"] == 1).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_status_is_written_about_once_a_second_however_much_changes() {
    let api = api();
    api.put(policy("1m"));
    let running = run(&api, Leadership::fixed(true));
    running.until("judged", |status| status["observedGeneration"] == 1).await;
    let before = running.writes();
    for index in 0..100 {
        api.put(app(&format!("quick-{index}"), "10s"));
        sleep(Duration::from_millis(100)).await;
    }
    let status = running.until("all", |status| status["violations"] == 100).await;
    assert_eq!(status["examples"].as_array().unwrap().len(), 20);
    let writes = running.writes() - before;
    assert!((5..=13).contains(&writes), "{writes} writes in ten seconds");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_does_not_compile_says_why_and_recovers() {
    let api = api();
    api.put(policy("soon"));
    api.put(app("quick", "10s"));
    let running = run(&api, Leadership::fixed(true));
    let status = running.until("reported", |status| condition(status, "Ready")["status"] == "False").await;
    let message = condition(&status, "Ready")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("spec.rules.interval.min"), "{message}");
    assert_eq!(condition(&status, "Compliant")["status"], "Unknown");
    api.put(policy("1m"));
    let status = running.until("well", |status| condition(status, "Ready")["status"] == "True").await;
    assert_eq!((&status["observedGeneration"], &status["violations"]), (&json!(2), &json!(1)));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_writes_nothing_and_who_ceases_to_forgets() {
    let api = api();
    api.put(policy("1m"));
    api.put(app("quick", "10s"));
    let idle = run(&api, Leadership::fixed(false));
    sleep(Duration::from_mins(5)).await;
    assert_eq!((idle.writes(), idle.violations().len()), (0, 0));
    idle.stop().await;

    let (election, leadership) = Election::new(api.client(), "gatehouse-system", "gatehouse", "one");
    let leaving = CancellationToken::new();
    let term = tokio::spawn(election.run(leaving.clone()));
    let running = run(&api, leadership);
    running.until("judged", |status| status["violations"] == 1).await;
    leaving.cancel();
    term.await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(running.violations().is_empty());
    api.put(app("quick", "10m"));
    sleep(Duration::from_mins(5)).await;
    assert_eq!(running.status()["violations"], 1, "left to the next leader");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_unknown_and_neither_compliant_nor_not() {
    let api = api();
    api.put(policy("1m"));
    api.put(app("quick", "10s"));
    api.forbid(FLUX, "kustomizations", true);
    let running = run(&api, Leadership::fixed(true));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(running.writes(), 0, "it may be over soon");
    let status =
        running.until("reported", |status| condition(status, "Compliant")["status"] == "Unknown").await;
    let message = condition(&status, "Compliant")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("kustomizations.kustomize.toolkit.fluxcd.io may not be watched"), "{message}");
    assert_eq!(condition(&status, "Ready")["status"], "True");
    sleep(Duration::from_mins(5)).await;
    assert_eq!(running.writes(), 1);
    api.forbid(FLUX, "kustomizations", false);
    running.until("known", |status| condition(status, "Compliant")["status"] == "False").await;
    running.stop().await;
}
