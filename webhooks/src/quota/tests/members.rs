//! What Agones has made for others, and what somebody else has made as if: whom quotas charge, and whom they refuse.

use gatehouse_apiservice::policy::Enforcement;

use super::*;

const SET: &str = "gameserversets.agones.dev";

fn sets() -> GroupResource {
    SET.parse().unwrap()
}

fn fleets() -> GroupResource {
    GroupResource::new("agones.dev", "fleets")
}

fn set(name: &str, replicas: u64, uid: &str) -> Value {
    let mut set = fleet(name, replicas);
    set["kind"] = "GameServerSet".into();
    set["metadata"]["labels"] = json!({"agones.dev/fleet": "f"});
    set["metadata"]["ownerReferences"] = json!([{"apiVersion": "agones.dev/v1", "kind": "Fleet", "name": "f", "uid": uid, "controller": true}]);
    set
}

impl Replica {
    /// Under a quota for ten servers, a fleet that asks for all of them, with the set that Agones has made of it.
    async fn full() -> (Self, Value) {
        let api = server_api();
        api.serve("agones.dev", "v1", "gameserversets", "GameServerSet");
        put_quota(&api, "a", &json!({"gameservers": "10"}), "Deny");
        api.put(fleet("f", 10));
        api.put(set("s", 10, "uid-f"));
        let replica = Self::start(&api, true).ready().await;
        replica.seen("the set", |world| world.object(&sets(), "games", "s").is_some()).await;
        until("settled", || ledger(&api, "a")["used"] == json!({"gameservers": "10"})).await;
        let set = api.get("agones.dev", "gameserversets", "games", "s").unwrap();
        (replica, set)
    }

    async fn asked(
        &self,
        requester: Requester,
        operation: Operation,
        (object, old): (Option<&Value>, Option<&Value>),
    ) -> Verdict {
        self.review(QuotaRequest {
            requester,
            operation,
            resource: &sets(),
            version: "v1",
            subresource: "",
            namespace: "games",
            object,
            old,
            user: "jane",
            dry_run: false,
            until: Instant::now() + Duration::from_secs(5),
        })
        .await
    }
}

#[tokio::test(start_paused = true)]
async fn agones_makes_what_is_charged_and_nobody_else_does() {
    let (replica, _) = Replica::full().await;
    let made = set("t", 4, "uid-f");
    let create = async |requester| {
        let verdict = replica.asked(requester, Operation::Create, (Some(&made), None)).await;
        (is_admitted(&verdict), is_exceeded(&verdict))
    };
    assert_eq!(create(Requester::Agones).await, (true, false));
    assert_eq!(create(Requester::Other).await, (false, true));
    // Not even Agones is excused for what it would not write.
    let mut alone = made.clone();
    alone["metadata"]["labels"] = json!({});
    assert!(is_exceeded(&replica.asked(Requester::Agones, Operation::Create, (Some(&alone), None)).await));
    until("settled", || blocks(&replica.api, "a") == 0).await;
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_loses_its_owner_is_charged_since_another_comes_in_its_place() {
    let (replica, before) = Replica::full().await;
    let without = |field: &str| {
        let mut after = before.clone();
        after["metadata"].as_object_mut().unwrap().shift_remove(field);
        after
    };
    let mut other = before.clone();
    other["metadata"]["ownerReferences"][0]["uid"] = "uid-nobody".into();
    let mut beside = before.clone();
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c"});
    beside["metadata"]["ownerReferences"].as_array_mut().unwrap().push(owner);
    for after in [without("ownerReferences"), without("labels"), other, beside] {
        let update = (Some(&after), Some(&before));
        assert!(is_exceeded(&replica.asked(Requester::Other, Operation::Update, update).await), "{after}");
    }
    let after = without("ownerReferences");
    let let_go = replica.asked(Requester::Collector, Operation::Update, (Some(&after), Some(&before))).await;
    assert!(is_admitted(&let_go), "the collector is never held up");
    let deleted = replica.asked(Requester::Other, Operation::Delete, (None, Some(&before))).await;
    assert!(is_exceeded(&deleted), "its servers stay, and the fleet has others made");
    // A set on its own may leave its servers behind.
    let alone = replica.asked(Requester::Other, Operation::Delete, (None, Some(&after))).await;
    assert!(is_admitted(&alone));
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_member_grows_at_its_own_cost_and_may_be_written_otherwise() {
    let (replica, before) = Replica::full().await;
    let mut labelled = before.clone();
    labelled["metadata"]["labels"]["a"] = "b".into();
    let mut larger = before.clone();
    larger["spec"]["replicas"] = 11.into();
    let update = async |requester, after: &Value| {
        is_admitted(&replica.asked(requester, Operation::Update, (Some(after), Some(&before))).await)
    };
    assert!(update(Requester::Other, &labelled).await);
    assert!(!update(Requester::Other, &larger).await);
    assert!(update(Requester::Agones, &larger).await);
    let scale = |replicas: u64| json!({"metadata": before["metadata"], "spec": {"replicas": replicas}});
    let scaled = replica.update(&sets(), &scale(10), &scale(5000), "scale").await;
    assert!(is_exceeded(&scaled));
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_played_on_all_along_is_scaled_back_for_nothing() {
    let api = server_api();
    put_quota(&api, "a", &json!({"gameservers": "10"}), "Deny");
    let mut small = fleet("f", 0);
    small["status"] = json!({"allocatedReplicas": 10});
    api.put(small);
    let replica = Replica::start(&api, true).ready().await;
    replica.seen("the fleet", |world| world.object(&fleets(), "games", "f").is_some()).await;
    assert!(is_exceeded(&replica.create_of(&fleets(), &fleet("g", 1), false).await), "ten are played on");
    let before = api.get("agones.dev", "fleets", "games", "f").unwrap();
    let after = |replicas: u64| {
        let mut after = before.clone();
        after["spec"]["replicas"] = replicas.into();
        after
    };
    assert!(is_admitted(&replica.update(&fleets(), &after(0), &after(10), "").await));
    assert!(is_exceeded(&replica.update(&fleets(), &after(0), &after(11), "").await));
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_states_no_request_is_refused_until_it_does() {
    let api = server_api();
    put_quota(&api, "a", &json!({"requests.cpu": "10", "requests.memory": "10Gi"}), "Deny");
    put_quota(&api, "w", &json!({"requests.memory": "10Gi"}), "Warn");
    // It was there before.
    api.put(fleet("f", 4));
    let replica = Replica::start(&api, true).ready().await;
    replica.seen("the fleet", |world| world.object(&fleets(), "games", "f").is_some()).await;
    let Err(Refusal::Exceeded { message, quota }) = replica.create_of(&fleets(), &fleet("g", 1), false).await
    else {
        panic!("admitted")
    };
    let expected =
        r#"fleets.agones.dev "g" is forbidden: failed quota: a: must specify requests.memory for: server"#;
    assert_eq!((message.as_str(), quota.as_str()), (expected, "a"));
    let before = api.get("agones.dev", "fleets", "games", "f").unwrap();
    let with = |replicas: u64, requests: &Value| {
        let mut after = before.clone();
        after["spec"]["replicas"] = replicas.into();
        after["spec"]["template"]["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] =
            requests.clone();
        after
    };
    let cpu = json!({"cpu": "500m"});
    let both = json!({"cpu": "500m", "memory": "1Gi"});
    let update = async |after: &Value| is_admitted(&replica.update(&fleets(), &before, after, "").await);
    assert!(!update(&with(5, &cpu)).await, "more of it");
    assert!(!update(&with(4, &json!({}))).await, "it stated its cpu before");
    assert!(update(&with(3, &cpu)).await);
    let mut labelled = with(4, &cpu);
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert!(update(&labelled).await);
    let scale = |replicas: u64| json!({"metadata": before["metadata"], "spec": {"replicas": replicas}});
    assert!(is_exceeded(&replica.update(&fleets(), &scale(4), &scale(5), "scale").await));
    assert!(is_admitted(&replica.update(&fleets(), &scale(4), &scale(0), "scale").await));
    assert!(update(&with(5, &both)).await);
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_runs_is_not_charged_less_for_being_written_smaller() {
    let (replica, _) = Replica::full().await;
    let servers: GroupResource = "gameservers.agones.dev".parse().unwrap();
    put_quota(&replica.api, "a", &json!({"requests.cpu": "10", "players": "100"}), "Deny");
    let limits = |world: &Snapshot| world.quotas.iter().all(|quota| quota.hard.len() == 2);
    replica.seen("the quota", limits).await;
    let server = |cpu: &str, players: u64, grace: u64| {
        let mut server = fleet("g", 0);
        server["kind"] = "GameServer".into();
        server["metadata"]["resourceVersion"] = "7".into();
        let pod = json!({"terminationGracePeriodSeconds": grace,
            "containers": [{"name": "game", "resources": {"requests": {"cpu": cpu}}}]});
        server["spec"] = json!({"counters": {"players": {"capacity": players}}, "template": {"spec": pod}});
        server
    };
    let before = server("1", 10, 60);
    let asked = async |requester, after: &Value| {
        let request = QuotaRequest {
            requester,
            operation: Operation::Update,
            resource: &servers,
            version: "v1",
            subresource: "",
            namespace: "games",
            object: Some(after),
            old: Some(&before),
            user: "jane",
            dry_run: false,
            until: Instant::now() + Duration::from_secs(5),
        };
        match replica.review(request).await {
            Err(Refusal::Invalid(message)) => message,
            verdict => format!("admitted: {}", is_admitted(&verdict)),
        }
    };
    for (after, field) in [
        (server("1m", 10, 60), "spec: Forbidden: a game server keeps the requests.cpu"),
        (server("1", 1, 60), "spec: Forbidden: a game server keeps the players"),
    ] {
        let message = asked(Requester::Other, &after).await;
        assert!(message.starts_with(field), "{message}");
        assert_eq!(asked(Requester::Agones, &after).await, "admitted: true");
    }
    assert_eq!(asked(Requester::Other, &before).await, "admitted: true");
    let shorter = server("1", 10, 1);
    assert_eq!(asked(Requester::Other, &shorter).await, "admitted: true", "it counts until it is gone");
    put_quota(&replica.api, "a", &json!({"requests.cpu": "10"}), "Deny");
    replica.seen("the quota", |world| world.quotas.iter().all(|quota| quota.hard.len() == 1)).await;
    assert_eq!(
        asked(Requester::Other, &server("1", 1, 60)).await,
        "admitted: true",
        "players are not limited"
    );
    put_quota(&replica.api, "a", &json!({"requests.cpu": "10"}), "Audit");
    let is_audit =
        |world: &Snapshot| world.quotas.iter().all(|quota| quota.enforcement == Enforcement::Audit);
    replica.seen("the quota", is_audit).await;
    assert_eq!(asked(Requester::Other, &server("1m", 1, 1)).await, "admitted: true", "it only counts");
    replica.stop().await;
}

/// A tenant deletes what it has, and Agones replaces it: as much as there is room for beside what is terminating.
#[tokio::test(start_paused = true)]
async fn what_agones_replaces_waits_until_the_servers_before_are_gone() {
    let (replica, _) = Replica::full().await;
    let servers: GroupResource = "gameservers.agones.dev".parse().unwrap();
    let uid =
        replica.api.get("agones.dev", "gameserversets", "games", "s").unwrap()["metadata"]["uid"].clone();
    replica.api.serve("agones.dev", "v1", "gameservers", "GameServer");
    let server = |name: &str| {
        let owner = json!({"apiVersion": "agones.dev/v1", "kind": "GameServerSet", "name": "s", "uid": uid, "controller": true});
        json!({"apiVersion": "agones.dev/v1", "kind": "GameServer", "spec": {},
            "metadata": {"name": name, "namespace": "games", "uid": format!("uid-{name}"),
                         "labels": {"agones.dev/gameserverset": "s"}, "ownerReferences": [owner]}})
    };
    let is_seen = |world: &Snapshot, name: &str| world.object(&servers, "games", name).is_some();
    let make = async |name: &str, dry_run: bool| {
        let object = server(name);
        let request = QuotaRequest {
            requester: Requester::Agones,
            operation: Operation::Create,
            resource: &servers,
            version: "v1",
            subresource: "",
            namespace: "games",
            object: Some(&object),
            old: None,
            user: "agones",
            dry_run,
            until: Instant::now() + Duration::from_secs(5),
        };
        match replica.review(request).await {
            Err(Refusal::Exceeded { message, .. }) => message,
            verdict => format!("admitted: {}", is_admitted(&verdict)),
        }
    };
    for number in 0..10 {
        let name = format!("g{number}");
        assert_eq!(make(&name, true).await, "admitted: true", "{name}");
        assert_eq!(make(&name, false).await, "admitted: true", "{name}");
    }
    // What was admitted counts before it is seen.
    assert!(
        make("more", false)
            .await
            .contains("exceeded quota: a, requested: gameservers=1, used: gameservers=10")
    );
    for number in 0..10 {
        replica.api.put(server(&format!("g{number}")));
    }
    replica.seen("ten servers", |world| is_seen(world, "g9")).await;
    let mut going = server("g0");
    going["metadata"]["deletionTimestamp"] = "2026-11-29T00:00:00Z".into();
    going["metadata"]["finalizers"] = json!(["agones.dev/controller"]);
    replica.api.put(going);
    let used = |number: &str| json!({"gameservers": number});
    until("counted", || ledger(&replica.api, "a")["used"] == used("11")).await;
    let terminating = "(game servers that are terminating count until they are gone: 1)";
    let expected = format!(
        "gameservers.agones.dev \"more\" is forbidden: exceeded quota: a, requested: gameservers=1, \
         used: gameservers=10, limited: gameservers=10 {terminating}"
    );
    assert_eq!(make("more", false).await, expected);
    let Err(Refusal::Exceeded { message, .. }) =
        replica.create_of(&fleets(), &fleet("other", 1), false).await
    else {
        panic!("admitted")
    };
    assert!(message.ends_with(terminating), "{message}");
    replica.api.delete("agones.dev", "gameservers", "games", "g0");
    replica.seen("gone", |world| !is_seen(world, "g0")).await;
    assert_eq!(make("more", false).await, "admitted: true");
    // A rollout surges: its second set asks for more.
    replica.api.put(set("surge", 2, "uid-f"));
    replica.seen("the set", |world| world.object(&sets(), "games", "surge").is_some()).await;
    assert_eq!(make("surge-0", false).await, "admitted: true");
    assert_eq!(make("surge-1", false).await, "admitted: true");
    assert!(make("surge-2", false).await.contains("exceeded quota"));
    replica.stop().await;
}

#[test]
fn what_would_have_a_server_gone_before_its_pod_is_named() {
    let servers: GroupResource = "gameservers.agones.dev".parse().unwrap();
    let of = |finalizers: &[&str], annotations: Value| json!({"metadata": {"finalizers": finalizers, "annotations": annotations}});
    let field = |old: &Value, new: &Value| super::super::released(&servers, new, old).map(|(field, _)| field);
    let dev = json!({"agones.dev/dev-address": "192.0.2.1"});
    for finalizer in ["agones.dev", "agones.dev/controller"] {
        let kept = of(&[finalizer, "example.com/mine"], json!({}));
        assert_eq!(field(&kept, &of(&[], json!({}))).as_deref(), Some("metadata.finalizers"));
        assert_eq!(field(&kept, &of(&[finalizer], json!({}))), None);
        let named = field(&kept, &of(&[finalizer], dev.clone()));
        assert_eq!(named.as_deref(), Some("metadata.annotations[agones.dev/dev-address]"));
        assert_eq!(
            field(&of(&[finalizer], dev.clone()), &of(&[finalizer], dev.clone())),
            None,
            "it has no pod"
        );
        assert_eq!(super::super::released(&fleets(), &of(&[], json!({})), &kept), None);
    }
}
