//! What pods in the states that kubelet and the scheduler write are judged to be.

use serde_json::{Value, json};

use crate::{Interner, Record, State, testing::CATALOGUE};

/// 2026-11-28T22:30:00Z.
const NOW: i64 = 1_795_905_000;

fn observe(pod: &Value) -> Record {
    let id = CATALOGUE.find("", "Pod").expect("a built-in kind");
    CATALOGUE.observe(id, &pod.to_string(), &Interner::default(), NOW).expect("a name")
}

fn ago(seconds: i64) -> String {
    jiff::Timestamp::from_second(NOW - seconds).expect("a time").to_string()
}

/// A pod of the Deployment `shop` that was created ten minutes ago.
fn pod(phase: &str, ready: Option<i64>, containers: &Value) -> Value {
    let mut conditions =
        vec![json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": ago(600)})];
    conditions.extend(ready.map(|since| {
        json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": ago(since),
            "message": "containers with unready status: [web]"})
    }));
    json!({
        "metadata": {
            "name": "shop-6c4f9b7d88-x2x4z", "namespace": "apps", "creationTimestamp": ago(600),
            "labels": {"app": "shop", "pod-template-hash": "6c4f9b7d88"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-6c4f9b7d88", "uid": "1",
                "controller": true}],
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "web"}], "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "tmp", "emptyDir": {}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
        ]},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": containers},
    })
}

fn web(state: &Value, last: &Value, restarts: i64, ready: bool) -> Value {
    json!([{"name": "web", "ready": ready, "restartCount": restarts, "state": state, "lastState": last, "image": "",
        "imageID": ""}])
}

fn crashed(exit_code: i64, reason: &str) -> Value {
    json!({"terminated": {"exitCode": exit_code, "reason": reason, "finishedAt": ago(20), "startedAt": ago(30)}})
}

/// The state, reason and message of a pod.
fn judged(pod: &Value) -> (State, String, String) {
    let verdict = observe(pod).verdict;
    (verdict.state, verdict.reason.to_string(), verdict.message.to_string())
}

fn expect(pod: &Value, state: State, reason: &str, message: &str) {
    assert_eq!(judged(pod), (state, reason.to_owned(), message.to_owned()), "{pod:#}");
}

#[test]
fn a_container_that_cannot_begin_says_why() {
    let waiting = |reason: &str, message: &str| {
        pod(
            "Pending",
            Some(590),
            &web(&json!({"waiting": {"reason": reason, "message": message}}), &json!({}), 0, false),
        )
    };
    let pull = r#"Back-off pulling image "ghcr.io/example/shop:4.0.0""#;
    expect(
        &waiting("ImagePullBackOff", pull),
        State::Failing,
        "ImagePullBackOff",
        &format!("container web: ImagePullBackOff: {pull}"),
    );
    let error = "failed to resolve reference \"ghcr.io/example/shop:4.0.0\": not found";
    for (reason, message) in
        [("ErrImagePull", error.to_owned()), ("ImagePullBackOff", format!("{pull}: ErrImagePull: {error}"))]
    {
        expect(
            &waiting(reason, &message),
            State::Failing,
            "ImagePullBackOff",
            &format!("container web: ImagePullBackOff: {error}"),
        );
    }
    expect(
        &waiting("CreateContainerConfigError", "secret \"shop\" not found"),
        State::Failing,
        "CreateContainerConfigError",
        "container web: CreateContainerConfigError: secret \"shop\" not found",
    );
    expect(
        &pod(
            "Pending",
            Some(60),
            &web(&json!({"waiting": {"reason": "ContainerCreating"}}), &json!({}), 0, false),
        ),
        State::Progressing,
        "ContainersNotReady",
        "containers with unready status: [web]",
    );
}

#[test]
fn a_crash_loop_is_told_alike_in_each_of_its_moments() {
    let words = "container web: CrashLoopBackOff: exit code 137 (OOMKilled)";
    let back_off = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}});
    let running = json!({"running": {"startedAt": ago(5)}});
    for (state, last) in [
        (&back_off, crashed(137, "OOMKilled")),
        (&running, crashed(137, "OOMKilled")),
        (&crashed(137, "OOMKilled"), json!({})),
    ] {
        expect(
            &pod("Running", Some(300), &web(state, &last, 2, false)),
            State::Failing,
            "CrashLoopBackOff",
            words,
        );
    }
    // Without a probe it is ready whenever it runs; it is believed when kubelet believes it.
    let mut ready = pod("Running", None, &web(&running, &crashed(137, "OOMKilled"), 7, true));
    ready["status"]["conditions"] =
        json!([{"type": "Ready", "status": "True", "lastTransitionTime": ago(5)}]);
    expect(&ready, State::Failing, "CrashLoopBackOff", words);
    ready["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(ago(601));
    assert_eq!(judged(&ready).0, State::Ready);
    ready["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(ago(5));
    ready["status"]["containerStatuses"][0]["restartCount"] = json!(1);
    assert_eq!(judged(&ready).0, State::Ready, "one crash is no loop");
}

#[test]
fn an_init_container_comes_first() {
    let mut pod = pod(
        "Pending",
        Some(300),
        &web(&json!({"waiting": {"reason": "PodInitializing"}}), &json!({}), 0, false),
    );
    let mut init = web(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &crashed(1, "Error"), 4, false);
    init[0]["name"] = json!("migrate");
    init[0]["lastState"]["terminated"]["message"] = json!("no such table\n");
    pod["status"]["initContainerStatuses"] = init;
    let words = "container migrate: CrashLoopBackOff: exit code 1 (Error): no such table";
    expect(&pod, State::Failing, "CrashLoopBackOff", words);
}

#[test]
fn a_pod_without_a_node_fails_after_some_minutes() {
    let unscheduled = |since| {
        let mut pod = pod("Pending", None, &json!(null));
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient memory.", "lastTransitionTime": ago(since)}]);
        pod["spec"]["nodeName"] = json!(null);
        pod
    };
    let words = "0/3 nodes are available: 3 Insufficient memory.";
    expect(&unscheduled(299), State::Progressing, "Unschedulable", words);
    expect(&unscheduled(301), State::Failed, "Unschedulable", words);
    let mut gated = unscheduled(10_000);
    gated["status"]["conditions"][0]["reason"] = json!("SchedulingGated");
    assert_eq!(judged(&gated).0, State::Progressing);
}

#[test]
fn a_pod_that_does_not_become_ready_fails_after_a_rollout_would() {
    let running = json!({"running": {"startedAt": ago(700)}});
    let pod = |since| pod("Running", Some(since), &web(&running, &json!({}), 0, false));
    assert_eq!(judged(&pod(599)).0, State::Progressing);
    expect(&pod(601), State::Failed, "ContainersNotReady", "containers with unready status: [web]");
}

#[test]
fn what_has_ended_well_or_badly() {
    assert_eq!(judged(&pod("Succeeded", None, &json!([]))).0, State::Ready);
    let failed = pod("Failed", Some(60), &web(&crashed(3, "Error"), &json!({}), 0, false));
    expect(&failed, State::Failed, "Error", "container web: Error: exit code 3 (Error)");
    let mut evicted = pod("Failed", Some(60), &json!([]));
    evicted["status"]["reason"] = json!("Evicted");
    evicted["status"]["message"] = json!("The node was low on resource: memory.");
    expect(&evicted, State::Failed, "Evicted", "The node was low on resource: memory.");
    let mut going = evicted;
    going["metadata"]["deletionTimestamp"] = json!(ago(30));
    assert_eq!(judged(&going).0, State::Terminating);
    going["metadata"]["deletionTimestamp"] = json!(ago(4000));
    assert_eq!(judged(&going), (State::Failed, "DeletionStuck".into(), "being deleted".into()));
}

/// The owner of a pod as `Kind/name`, and what it uses.
fn links(pod: &Value) -> (Option<String>, Vec<String>) {
    let record = observe(pod);
    let name = |key: &crate::ObjectKey| format!("{}/{}", CATALOGUE.kind(key.kind).kind, key.name);
    let owner = record.above.as_ref().and_then(|above| above.owner.as_ref()).map(name);
    let uses = record.links().into_iter().flat_map(|links| &links.uses).map(|used| name(&used.target));
    (owner, uses.collect())
}

#[test]
fn the_owner_of_a_replica_set_is_known_by_the_pod() {
    let mut pod = pod("Pending", Some(60), &json!([]));
    let claims =
        ["data", "shop-6c4f9b7d88-x2x4z-scratch"].map(|name| format!("PersistentVolumeClaim/{name}"));
    assert_eq!(links(&pod), (Some("Deployment/shop".into()), claims.to_vec()));
    pod["metadata"]["labels"] = json!({"rollouts-pod-template-hash": "6c4f9b7d88"});
    pod["status"]["phase"] = json!("Running");
    assert_eq!(links(&pod), (Some("Rollout/shop".into()), vec!["Node/node-1".into()]));
    pod["metadata"]["labels"] = json!({});
    assert_eq!(links(&pod).0, None, "ReplicaSets are not observed");
    let owner = &mut pod["metadata"]["ownerReferences"][0];
    (owner["kind"], owner["name"]) = (json!("StatefulSet"), json!("db"));
    assert_eq!(links(&pod).0.as_deref(), Some("StatefulSet/db"));
    let owner = &mut pod["metadata"]["ownerReferences"][0];
    (owner["apiVersion"], owner["kind"], owner["name"]) = (json!("v1"), json!("Node"), json!("node-1"));
    assert_eq!(links(&pod).0, None, "a static pod has no owner");
    pod["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    assert_eq!(links(&pod).0, None);
}

#[test]
fn what_makes_a_secret_that_a_pod_lacks_is_used() {
    for (message, secret) in [
        ("secret \"db\" not found", Some("db")),
        ("couldn't find key password in Secret apps/db", Some("db")),
        ("configmap \"db\" not found", None),
        ("couldn't find key password in ConfigMap apps/db", None),
        ("secret \"db\" is immutable", None),
        ("", None),
    ] {
        let waiting = json!({"waiting": {"reason": "CreateContainerConfigError", "message": message}});
        let (_, uses) = links(&pod("Pending", Some(60), &web(&waiting, &json!({}), 0, false)));
        let makers = secret.map(|name| {
            ["ExternalSecret", "SealedSecret", "Certificate"].map(|kind| format!("{kind}/{name}")).to_vec()
        });
        let claims = || {
            vec![
                "PersistentVolumeClaim/data".into(),
                "PersistentVolumeClaim/shop-6c4f9b7d88-x2x4z-scratch".into(),
            ]
        };
        assert_eq!(uses, makers.unwrap_or_else(claims), "{message}");
    }
}

#[test]
fn wrong_types_are_unknown_and_say_where() {
    let mut wrong = pod("Running", None, &json!([]));
    wrong["status"]["containerStatuses"] = json!({"web": 1});
    let (state, reason, message) = judged(&wrong);
    assert_eq!((state, reason.as_str()), (State::Unknown, "Undecodable"));
    assert!(message.starts_with("status.containerStatuses: "), "{message}");
    for status in [json!(null), json!({})] {
        let mut early = pod("Pending", None, &json!([]));
        early["status"] = status;
        assert!(matches!(judged(&early).0, State::Pending | State::Failed), "{early:#}");
    }
}
