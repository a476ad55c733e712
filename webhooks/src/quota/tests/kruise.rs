//! Pods of OpenKruiseGame's sets: what is charged for their creation.

use super::*;

fn sets() -> GroupResource {
    GroupResource::new("game.kruise.io", "gameserversets")
}

fn pods() -> GroupResource {
    GroupResource::new("", "pods")
}

fn containers(cpu: &str) -> Value {
    json!([{"name": "game", "resources": {"requests": {"cpu": cpu}}}])
}

fn pod(number: u64, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
           "metadata": {"name": format!("set-{number}"), "namespace": "games", "uid": format!("uid-{number}"),
                        "labels": {"game.kruise.io/owner-gss": "set"}},
           "spec": {"containers": containers(cpu)}})
}

/// Under a quota of ten servers and ten cores, a set of four of one core each.
async fn replica() -> Replica {
    let api = server_api();
    api.serve("", "v1", "pods", "Pod");
    api.serve("game.kruise.io", "v1alpha1", "gameserversets", "GameServerSet");
    put_quota(&api, "a", &json!({"gameservers": "10", "requests.cpu": "10"}), "Deny");
    api.put(json!({"apiVersion": "game.kruise.io/v1alpha1", "kind": "GameServerSet",
                   "metadata": {"name": "set", "namespace": "games", "uid": "uid-set"},
                   "spec": {"replicas": 4, "gameServerTemplate": {"spec": {"containers": containers("1")}}}}));
    let replica = Replica::start(&api, true).ready().await;
    replica.seen("the set", |world| world.object(&sets(), "games", "set").is_some()).await;
    until("settled", || ledger(&api, "a")["used"] == json!({"gameservers": "4", "requests.cpu": "4"})).await;
    replica
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_charged_for_what_it_has_beyond_its_set() {
    let replica = replica().await;
    let create = async |pod: &Value| replica.create_of(&pods(), pod, false).await;
    assert!(is_admitted(&create(&pod(0, "1")).await));
    let Err(Refusal::Exceeded { message, .. }) = create(&pod(1, "8")).await else { panic!("refused") };
    let expected = "pods \"set-1\" is forbidden: exceeded quota: a, requested: requests.cpu=7, used: requests.cpu=4, \
                    limited: requests.cpu=10";
    assert_eq!(message, expected);
    // Two at once, neither of which is observed.
    assert!(is_admitted(&create(&pod(1, "5")).await));
    assert!(is_exceeded(&create(&pod(2, "5")).await));
    // One whose set is not known is charged as a whole.
    let mut other = pod(3, "3");
    other["metadata"]["labels"] = json!({"game.kruise.io/owner-gss": "none"});
    assert!(is_exceeded(&create(&other).await));
    let mut none = pod(3, "900");
    none["metadata"]["labels"] = json!({"app": "a"});
    assert!(is_admitted(&create(&none).await), "what is of no set is not a game server");
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_exist_beside_those_that_a_set_asks_for_take_up_room() {
    let replica = replica().await;
    for number in 0..4 {
        replica.api.put(pod(number, "2"));
    }
    replica.seen("the pods", |world| world.objects(&pods()).is_some_and(|pods| pods.len() == 4)).await;
    until("settled", || {
        ledger(&replica.api, "a")["used"] == json!({"gameservers": "4", "requests.cpu": "8"})
    })
    .await;
    // Another in place of one that is being deleted, again and again.
    let mut admitted = 0;
    for number in 4..9 {
        let new = pod(number, "1");
        if is_admitted(&replica.create_of(&pods(), &new, false).await) {
            replica.api.put(new);
            admitted += 1;
        }
    }
    assert_eq!(admitted, 2);
    // The set is deleted, and its pods run on.
    replica.api.delete("game.kruise.io", "gameserversets", "games", "set");
    replica.seen("no set", |world| world.object(&sets(), "games", "set").is_none()).await;
    assert!(is_exceeded(&replica.create_of(&pods(), &pod(9, "1"), false).await));
    replica.stop().await;
}

/// A quota on the number of pods takes all of them to be observed.
#[tokio::test(start_paused = true)]
async fn pods_are_counted_beside_those_of_sets() {
    let replica = replica().await;
    let mut other = pod(0, "1");
    other["metadata"]["labels"] = json!({});
    replica.api.put(other);
    replica.api.put(pod(1, "3"));
    put_quota(&replica.api, "b", &json!({"count/pods": "3"}), "Deny");
    until("counted", || ledger(&replica.api, "b")["used"] == json!({"count/pods": "2"})).await;
    until("settled", || {
        ledger(&replica.api, "a")["used"] == json!({"gameservers": "4", "requests.cpu": "4"})
    })
    .await;
    replica.seen("all", |world| world.kinds[&pods()].labels.is_none()).await;
    replica.api.delete(POLICY, "tenantquotas", "", "b");
    replica
        .seen("those of sets", |world| world.kinds.get(&pods()).is_some_and(|kind| kind.labels.is_some()))
        .await;
    replica.stop().await;
}
