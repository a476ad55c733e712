//! Replicas with an in-process API server, in paused time. The wall clock is not paused; certificates last long enough.

use gatehouse_certs::issue::{Authority, Leaf, Usage};
use gatehouse_certs::load;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::lease::Election;
use crate::registration::BuildObjects;
use gatehouse_fake_api::FakeApi;

const LONG: Duration = Duration::from_mins(10);
const NAMESPACE: &str = "gatehouse-system";
const NAME: &str = "gatehouse.gatehouse-system.svc";
const REGISTRATION: &str = "apiregistration.k8s.io";
const AUTHORIZATION: &str = "rbac.authorization.k8s.io";

struct Replica {
    served: ServingCertificate,
    registry: Registry,
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

fn server() -> FakeApi {
    let api = FakeApi::new();
    api.serve("", "v1", "secrets", "Secret");
    api.serve("coordination.k8s.io", "v1", "leases", "Lease");
    api.serve(REGISTRATION, "v1", "apiservices", "APIService");
    api.serve(AUTHORIZATION, "v1", "clusterroles", "ClusterRole");
    api.put(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "owner"}}));
    api
}

fn first() -> Arc<CertifiedKey> {
    let leaf = Leaf {
        common_name: "first".to_owned(),
        organization: None,
        dns_names: vec!["first".to_owned()],
        ips: Vec::new(),
        usage: Usage::ServerAuth,
        lifetime: Duration::from_hours(1),
    };
    load::issued(&Authority::new("first").unwrap().issue(&leaf).unwrap()).unwrap()
}

fn full(name: &str, bundle: &str) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
        "spec": {"group": "view", "caBundle": ByteString(bundle.as_bytes().to_vec())},
    })
}

fn settings(name: &str) -> Settings {
    let (ca, leaf) = (Policy::CA_LIFETIME, Policy::LEAF_LIFETIME);
    let policy = Policy::new(vec![name.to_owned()], ca, leaf, Policy::OVERLAP).unwrap();
    Settings { namespace: NAMESPACE.to_owned(), secret: "tls".to_owned(), policy }
}

fn replica(api: &FakeApi, identity: &str) -> Replica {
    replica_of(api, identity, settings(NAME), Box::new(|bundle| vec![full("v1.view", bundle)]))
}

fn replica_of(api: &FakeApi, identity: &str, settings: Settings, make: BuildObjects) -> Replica {
    let client = api.client();
    let (election, leadership) = Election::new(client.clone(), NAMESPACE, "leader", identity);
    let registration = Registration::new(client.clone(), "owner", make);
    let registry = Registry::new();
    let (replica, served) = SelfManaged::new(client, settings, registration, leadership, &registry, first());
    let stop = CancellationToken::new();
    let tasks = [tokio::spawn(replica.run(stop.clone())), tokio::spawn(election.run(stop.clone()))];
    Replica { served, registry, stop, tasks }
}

impl Replica {
    async fn ready(&mut self) -> Arc<CertifiedKey> {
        timeout(LONG, self.served.is_known.wait_for(|known| *known)).await.unwrap().unwrap();
        assert_eq!(self.served.readiness(), Ok(()));
        Arc::clone(&self.served.keys.borrow())
    }

    async fn end(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }

    fn metric(&self, line: &str) -> bool {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        text.lines().any(|one| one == line)
    }
}

fn secret(api: &FakeApi) -> Option<Value> {
    api.get("", "secrets", NAMESPACE, "tls")
}

fn api_service(api: &FakeApi) -> Option<Value> {
    api.get(REGISTRATION, "apiservices", "", "v1.view")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(timeout(LONG, waiting).await.is_ok(), "{what}");
}

fn trusts(api: &FakeApi) -> bool {
    let (Some(secret), Some(service)) = (secret(api), api_service(api)) else { return false };
    secret["data"]["ca.crt"].is_string() && secret["data"]["ca.crt"] == service["spec"]["caBundle"]
}

#[tokio::test(start_paused = true)]
async fn from_nothing_every_replica_serves_one_certificate_that_is_trusted() {
    let api = server();
    let mut replicas = [replica(&api, "a"), replica(&api, "b")];
    assert!(replicas[0].served.readiness().is_err());
    let [one, other] = [replicas[0].ready().await, replicas[1].ready().await];
    assert_eq!(one.cert, other.cert);
    assert_ne!(one.cert, first().cert);
    until("the bundle is published", || trusts(&api)).await;
    let owner = &api_service(&api).unwrap()["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("ClusterRole"), &json!("owner")));
    let in_sync = "gatehouse_registration_in_sync{object=\"APIService/v1.view\"} 1";
    until("it is said by one", || replicas.iter().filter(|one| one.metric(in_sync)).count() == 1).await;
    let created = "gatehouse_certificate_rotations_total{step=\"create\"} 1";
    assert_eq!(replicas.iter().filter(|one| one.metric(created)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_right_is_not_written() {
    let api = server();
    let mut only = replica(&api, "a");
    only.ready().await;
    until("the bundle is published", || trusts(&api)).await;
    sleep(Duration::from_secs(30)).await;
    let writes = || {
        let asked = api.asked();
        asked.iter().filter(|one| !one.starts_with("GET") && !one.contains("leases")).count()
    };
    let before = writes();
    sleep(Duration::from_mins(10)).await;
    assert_eq!(writes(), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_comes_back() {
    let api = server();
    let mut leader = replica(&api, "a");
    let key = leader.ready().await;
    until("the bundle is published", || trusts(&api)).await;
    let kept = secret(&api).unwrap()["data"].clone();
    api.delete(REGISTRATION, "apiservices", "", "v1.view");
    until("the APIService", || trusts(&api)).await;
    api.delete("", "secrets", NAMESPACE, "tls");
    until("the Secret", || secret(&api).is_some_and(|secret| secret["data"] == kept)).await;
    assert_eq!(leader.served.keys.borrow().cert, key.cert);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_that_would_stay_for_ever() {
    let api = server();
    api.delete(AUTHORIZATION, "clusterroles", "", "owner");
    let mut leader = replica(&api, "a");
    leader.ready().await;
    sleep(Duration::from_mins(1)).await;
    assert_eq!(api_service(&api), None);
    let in_sync = "gatehouse_registration_in_sync{object=\"APIService/v1.view\"} 0";
    assert!(leader.metric(in_sync));
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_made_keeps_nothing_from_the_others() {
    let api = server();
    api.delete(AUTHORIZATION, "clusterroles", "", "owner");
    // Installed by Helm.
    let mut installed = full("v1.there", "");
    installed["metadata"]["managedFields"] = json!([{
        "manager": "helm", "operation": "Apply", "fieldsV1": {"f:spec": {"f:group": {}}},
    }]);
    api.put(installed);
    let make: BuildObjects = Box::new(|bundle| vec![full("v1.gone", bundle), full("v1.there", bundle)]);
    let mut leader = replica_of(&api, "a", settings(NAME), make);
    leader.ready().await;
    let published =
        || api.get(REGISTRATION, "apiservices", "", "v1.there").unwrap()["spec"]["caBundle"].clone();
    until("the bundle is published", || published() == secret(&api).unwrap()["data"]["ca.crt"]).await;
    assert_eq!(api.get(REGISTRATION, "apiservices", "", "v1.gone"), None);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_while_it_cannot_be_seen_who_trusts_it() {
    let api = server();
    let mut leader = replica(&api, "a");
    let before = leader.ready().await;
    until("the bundle is published", || trusts(&api)).await;
    leader.end().await;
    let kept = secret(&api).unwrap();
    api.hang(REGISTRATION, "apiservices");
    // A policy with another name makes a renewal due at once.
    let make: BuildObjects = Box::new(|bundle| vec![full("v1.view", bundle)]);
    let mut next = replica_of(&api, "b", settings("other.svc"), make);
    next.ready().await;
    until("another certificate", || next.served.keys.borrow().cert != before.cert).await;
    let renewed = secret(&api).unwrap();
    assert_ne!(renewed["data"]["tls.crt"], kept["data"]["tls.crt"]);
    assert_eq!(renewed["data"]["ca.crt"], kept["data"]["ca.crt"], "by the authority that is trusted");
    let in_sync = "gatehouse_registration_in_sync{object=\"APIService/v1.view\"} 0";
    until("it is not taken for right", || next.metric(in_sync)).await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_somebody_else_is_left_alone() {
    let api = server();
    let theirs = json!({"tls.crt": "QQ==", "tls.key": "QQ=="});
    api.put(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": NAMESPACE, "name": "tls"}, "data": theirs,
    }));
    let leader = replica(&api, "a");
    sleep(Duration::from_mins(2)).await;
    assert_eq!(secret(&api).unwrap()["data"], theirs);
    assert!(leader.served.readiness().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_broken_secret_is_made_anew_and_every_replica_follows() {
    let api = server();
    let mut replicas = [replica(&api, "a"), replica(&api, "b")];
    let before = replicas[0].ready().await;
    let mut follower = replicas[1].served.keys.clone();
    replicas[1].ready().await;
    // All replicas that have it in memory end, and the next leader has never read it.
    for replica in replicas {
        replica.end().await;
    }
    let mut broken = secret(&api).unwrap();
    broken["data"]["current-ca.crt"] = json!("QQ==");
    api.put(broken);
    let mut next = replica(&api, "c");
    let after = next.ready().await;
    assert_ne!(before.cert, after.cert);
    assert_eq!(follower.borrow_and_update().cert, before.cert);
    until("the new bundle is published", || trusts(&api)).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_steps_over_one_secret_one_is_made() {
    let api = server();
    let mut leader = replica(&api, "a");
    leader.ready().await;
    until("the bundle is published", || trusts(&api)).await;
    leader.end().await;
    // A former leader that read the Secret before it changed.
    let client = api.client();
    let leadership = Leadership::fixed(true);
    let registration =
        Registration::new(client.clone(), "owner", Box::new(|bundle| vec![full("v1.view", bundle)]));
    let (mut late, _) =
        SelfManaged::new(client, settings(NAME), registration, leadership, &Registry::new(), first());
    let read = late.secrets.get("tls").await.unwrap();
    let store = late.read(&read).unwrap();
    let mut other = secret(&api).unwrap();
    other["metadata"]["labels"] = json!({"changed": "meanwhile"});
    let other = api.put(other);
    let made = late.apply_step(Step::PublishNext, Some(&store), Some(read)).await;
    assert!(
        matches!(&made, Err(ReconcileError::Request { source, .. }) if source.to_string().contains("modified")),
        "{made:?}"
    );
    assert_eq!(secret(&api), Some(other));
}
